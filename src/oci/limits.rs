//! linux.resources, which counts in the numbers of cgroup 1, as files of cgroup 2. What these have
//! no file for is refused.

use super::cgroup::Limit;
use super::{fail, io_limits};
use crate::step::Result;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};
use std::collections::HashMap;

/// In the order in which they can be written.
pub fn limits(resources: &LinuxResources) -> Result<Vec<Limit>> {
    let mut found = vec![];
    if let Some(memory) = resources.memory() {
        memory_limits(memory, &mut found)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_limits(cpu, &mut found)?;
    }
    if let Some(pids) = resources.pids()
        && pids.limit() != 0
    {
        found.push(limit("pids.max", number(pids.limit())));
    }
    if let Some(network) = resources.network() {
        let has_class = network.class_id().is_some_and(|class| class != 0);
        if has_class || network.priorities().as_ref().is_some_and(|list| !list.is_empty()) {
            return refused("network", "cgroup 2 has no net_cls and net_prio");
        }
    }
    io_limits::limits(resources, &mut found)?;
    if let Some(unified) = resources.unified() {
        unified_limits(unified, &mut found)?;
    }
    Ok(found)
}

pub fn limit(file: impl Into<String>, value: impl Into<String>) -> Limit {
    (file.into(), value.into())
}

pub fn refused<T>(field: &str, why: &str) -> Result<T> {
    fail(format!("linux.resources.{field}: {why}"))
}

/// Below zero is no limit.
fn number(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

#[allow(deprecated)] // to refuse them
fn memory_limits(memory: &LinuxMemory, found: &mut Vec<Limit>) -> Result<()> {
    if memory.kernel().unwrap_or(0) > 0 || memory.kernel_tcp().unwrap_or(0) > 0 {
        return refused("memory.kernel", "cgroup 2 counts it with all other memory");
    }
    if memory.swappiness().is_some() {
        return refused("memory.swappiness", "cgroup 2 has none");
    }
    if memory.disable_oom_killer() == Some(true) {
        return refused("memory.disableOOMKiller", "cgroup 2 always kills");
    }
    let most = memory.limit().unwrap_or(0);
    if let Some(swap) = swap_alone(memory.swap().unwrap_or(0), most)? {
        found.push(limit("memory.swap.max", swap));
    }
    if most != 0 {
        found.push(limit("memory.max", number(most)));
    }
    let reservation = memory.reservation().unwrap_or(0);
    if reservation != 0 {
        found.push(limit("memory.low", number(reservation)));
    }
    Ok(())
}

/// In the configuration it is memory and swap together.
fn swap_alone(both: i64, memory: i64) -> Result<Option<String>> {
    if both == 0 {
        return Ok((memory < 0).then(|| "max".into()));
    }
    if both < 0 {
        return Ok(Some("max".into()));
    }
    if memory <= 0 {
        return refused("memory.swap", "expected memory.limit beside it");
    }
    if both < memory {
        return refused("memory.swap", "expected no less than memory.limit");
    }
    Ok(Some((both - memory).to_string()))
}

fn cpu_limits(cpu: &LinuxCpu, found: &mut Vec<Limit>) -> Result<()> {
    if cpu.realtime_runtime().unwrap_or(0) != 0 || cpu.realtime_period().unwrap_or(0) != 0 {
        return refused("cpu.realtimeRuntime", "cgroup 2 has none");
    }
    check_cpu(cpu)?;
    let idle = cpu.idle();
    if idle == Some(0) {
        found.push(limit("cpu.idle", "0"));
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        found.push(limit("cpu.weight", weight(shares).to_string()));
    }
    if let Some(idle) = idle.filter(|idle| *idle != 0) {
        found.push(limit("cpu.idle", idle.to_string())); // then there is no weight any more
    }
    if cpu.burst().is_some() {
        found.push(limit("cpu.max.burst", "0")); // it may be no more than the quota, meanwhile too
    }
    let quota = cpu.quota().unwrap_or(0);
    match (quota, cpu.period().unwrap_or(0)) {
        (0, 0) => {}
        (0, period) => found.push(limit("cpu.max", format!("{KEPT} {period}"))),
        (_, 0) => found.push(limit("cpu.max", number(quota))),
        (_, period) => found.push(limit("cpu.max", format!("{} {period}", number(quota)))),
    }
    if let Some(burst) = cpu.burst().filter(|burst| *burst != 0) {
        found.push(limit("cpu.max.burst", burst.to_string()));
    }
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            found.push(limit(file, list));
        }
    }
    Ok(())
}

/// Shares go from 2 to 262144 and are 1024 by default, weights from 1 to 10000 and 100: on the
/// curve through these three points that other runtimes use, too.
fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    let log = (shares.min(262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    let weight = 10f64.powf(exponent);
    (weight - 1e-6).ceil() as u64 // what is whole stays so, however it was rounded
}

/// Stands for the word that the file holds now.
pub const KEPT: &str = "KEPT";

fn check_cpu(cpu: &LinuxCpu) -> Result<()> {
    let period = cpu.period().unwrap_or(0);
    if period != 0 && !(1_000..=1_000_000).contains(&period) {
        return refused("cpu.period", &format!("{period}: expected 1000 to 1000000"));
    }
    let quota = cpu.quota().unwrap_or(0);
    if (1..1000).contains(&quota) {
        return refused("cpu.quota", &format!("{quota}: expected 1000 at least"));
    }
    let burst = cpu.burst().unwrap_or(0);
    if quota > 0 && burst > quota as u64 {
        return refused("cpu.burst", &format!("{burst}: expected no more than cpu.quota"));
    }
    if !(0..=1).contains(&cpu.idle().unwrap_or(0)) {
        return refused("cpu.idle", "expected 0 or 1");
    }
    Ok(())
}

/// These would not limit the container, but husk's hold on it.
const NO_LIMITS: [&str; 6] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.kill",
    "cgroup.freeze",
    "cgroup.type",
    "cgroup.subtree_control",
];

fn unified_limits(unified: &HashMap<String, String>, found: &mut Vec<Limit>) -> Result<()> {
    let mut files: Vec<&String> = unified.keys().collect();
    files.sort();
    for file in files {
        if !file.contains('.') || file.contains('/') || NO_LIMITS.contains(&file.as_str()) {
            return refused(&format!("unified.{file}"), "not allowed");
        }
        // The kernel takes one line at a time.
        for line in unified[file].lines() {
            found.push(limit(file, line));
        }
    }
    Ok(())
}
