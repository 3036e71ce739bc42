//! Options that say how much a container may use.

use super::docker;
use super::values::{cpu_time, limit, size, storage};
use super::words::Line;
use crate::cli::Asked;
use crate::step::Result;
use crate::{Container, rlimits};
use std::num::NonZero;

/// Options that are a file of the cgroup's.
const CGROUP_FILES: [(&str, &str); 3] = [
    ("--cpuset-cpus", "cpuset.cpus"),
    ("--cpuset-mems", "cpuset.mems"),
    ("--memory-reservation", "memory.low"),
];

pub fn option(c: &mut Container, asked: &mut Asked, line: &mut Line) -> Result<()> {
    for (option, file) in CGROUP_FILES {
        if line.option == option {
            let value = line.read("a value, as cgroups(7) has it", |text| Some(text.into()))?;
            c.limits.push((file.into(), value));
            return Ok(());
        }
    }
    match line.option.as_str() {
        "-m" | "--memory" => {
            let size = line.read("SIZE (64m)", size)?;
            c.limits.push(("memory.max".into(), size.clone()));
            c.memory = Some(size);
        }
        "--storage-opt" => c.storage = Some(line.read("size=SIZE (size=2g)", storage)?),
        "--cpus" => c.limits.push(("cpu.max".into(), line.read("NUMBER (0.5)", cpu_time)?)),
        "--pids-limit" => {
            let most = line.read("NUMBER", |text| text.parse::<NonZero<u32>>().ok())?;
            c.limits.push(("pids.max".into(), most.to_string()));
        }
        "--cgroup" => {
            let (file, value) = line.read("FILE=VALUE", limit)?;
            if file == "memory.max" {
                c.memory = size(&value);
            }
            c.limits.push((file, value));
        }
        "--ulimit" => {
            let limit = line.read("NAME=SOFT[:HARD], NAME as in limits.conf(5)", |text| {
                rlimits::parse(text).map(|_| format!("{text},"))
            })?;
            c.ulimits.push_str(&limit);
        }
        _ => docker::run_option(c, asked, line)?,
    }
    Ok(())
}
