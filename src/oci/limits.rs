//! linux.resources, which counts in the numbers of cgroup 1, as files of cgroup 2.

use super::cgroup::Limit;
use super::fail;
use crate::{Result, limit};
use serde_json::Value;

/// Where in `resources`, the file of cgroup 2, and what to write to it.
const KNOBS: [[&str; 3]; 17] = [
    ["memory/limit", "memory.max", "NUMBER"],
    ["memory/reservation", "memory.low", "NUMBER"],
    ["memory/swap", "memory.swap.max", "NUMBER"],
    ["pids/limit", "pids.max", "NUMBER"],
    ["cpu/quota", "cpu.max", "NUMBER"],
    ["cpu/burst", "cpu.max.burst", "NUMBER"],
    ["cpu/shares", "cpu.weight", "NUMBER"],
    ["cpu/idle", "cpu.idle", "NUMBER"],
    ["cpu/cpus", "cpuset.cpus", "NUMBER"],
    ["cpu/mems", "cpuset.mems", "NUMBER"],
    ["hugepageLimits/limit", "hugetlb.SIZE.max", "NUMBER"],
    ["blockIO/weight", "io.weight", "NUMBER"],
    ["blockIO/weightDevice/weight", "io.weight", "DEVICE NUMBER"],
    ["blockIO/throttleReadBpsDevice/rate", "io.max", "DEVICE rbps=NUMBER"],
    ["blockIO/throttleWriteBpsDevice/rate", "io.max", "DEVICE wbps=NUMBER"],
    ["blockIO/throttleReadIOPSDevice/rate", "io.max", "DEVICE riops=NUMBER"],
    ["blockIO/throttleWriteIOPSDevice/rate", "io.max", "DEVICE wiops=NUMBER"],
];

pub fn limits(resources: &Value) -> Result<Vec<Limit>> {
    let mut found = vec![];
    for [field, file, form] in KNOBS {
        let (place, key) = field.rsplit_once('/').unwrap_or_default();
        for item in items(resources, place) {
            let Some(value) = translated(key, item) else { continue };
            let size = item["pageSize"].as_str().unwrap_or_default();
            let device = format!("{}:{}", item["major"], item["minor"]);
            let text = form.replace("DEVICE", &device).replace("NUMBER", &value);
            let knob = format!("{}={text}", file.replace("SIZE", size));
            found.extend(limit("cgroup", &knob));
        }
    }
    let Value::Object(unified) = &resources["unified"] else { return Ok(found) };
    for (file, value) in unified {
        let value = value.as_str().unwrap_or_default();
        match limit("cgroup", &format!("{file}={value}")) {
            Some(limit) => found.push(limit),
            None => return fail(format!("linux.resources.unified.{file}: not allowed")),
        }
    }
    Ok(found)
}

/// One block, or a list of them.
fn items<'a>(resources: &'a Value, place: &str) -> Vec<&'a Value> {
    match resources.pointer(&format!("/{place}")) {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(block) => vec![block],
        None => vec![],
    }
}

/// From the numbers of cgroup 1, in which runtime-spec counts, to those of cgroup 2.
fn translated(key: &str, item: &Value) -> Option<String> {
    if key == "cpus" || key == "mems" {
        let list = item[key].as_str().unwrap_or_default();
        return (!list.is_empty()).then(|| list.to_string());
    }
    let number = |key: &str| item[key].as_i64().unwrap_or(0);
    let value = number(key);
    if value == 0 && item["pageSize"].is_null() {
        return None;
    }
    if value < 0 {
        return Some("max".into());
    }
    Some(match key {
        "quota" if number("period") > 0 => format!("{value} {}", number("period")),
        // There it is memory and swap together, here swap alone.
        "swap" => (value - number("limit").max(0)).max(0).to_string(),
        "shares" => (1 + (value.max(2) - 2) * 9999 / 262_142).to_string(),
        "weight" => (1 + (value.max(10) - 10) * 9999 / 990).to_string(),
        _ => value.to_string(),
    })
}
