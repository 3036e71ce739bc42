//! `update`: other limits for a container that runs.

use super::cgroup::set_limits;
use super::config::read_json;
use super::options::Given;
use super::state::Home;
use super::{fail, limits};
use crate::step::{Result, cat, error};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use std::path::Path;

pub fn update(home: Home, given: &Given) -> Result<u8> {
    if given.is("l3-cache-schema") || given.is("mem-bw-schema") {
        return fail("--l3-cache-schema, --mem-bw-schema: intelRdt is not supported");
    }
    let mut resources = match given.get("resources") {
        Some("-") => read_json::<LinuxResources>("/proc/self/fd/0")?.1,
        Some(path) => read_json::<LinuxResources>(path)?.1,
        None => LinuxResources::default(),
    };
    set_memory(&mut resources, given)?;
    set_cpu(&mut resources, given)?;
    if let Some(limit) = number(given, "pids-limit")? {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    if let Some(weight) = number::<u16>(given, "blkio-weight")? {
        let mut io = resources.block_io().clone().unwrap_or_default();
        LinuxBlockIo::set_weight(&mut io, Some(weight));
        resources.set_block_io(Some(io));
    }
    if home.status() == "stopped" {
        return fail("container not running");
    }
    let dir = home.cgroup()?;
    check_usage(&dir, &resources)?;
    set_limits(&dir, &limits::limits(&resources)?)?;
    Ok(0)
}

fn number<T: std::str::FromStr>(given: &Given, option: &str) -> Result<Option<T>> {
    let Some(text) = given.get(option) else { return Ok(None) };
    let value = text.parse().map_err(|_| error(format!("--{option} {text}: expected a number")))?;
    Ok(Some(value))
}

#[allow(deprecated)] // to refuse them
fn set_memory(resources: &mut LinuxResources, given: &Given) -> Result<()> {
    let mut memory = resources.memory().unwrap_or_default();
    if let Some(bytes) = number(given, "memory")? {
        memory.set_limit(Some(bytes));
    }
    if let Some(bytes) = number(given, "memory-reservation")? {
        memory.set_reservation(Some(bytes));
    }
    if let Some(bytes) = number(given, "memory-swap")? {
        memory.set_swap(Some(bytes));
    }
    if let Some(bytes) = number(given, "kernel-memory")? {
        memory.set_kernel(Some(bytes));
    }
    if let Some(bytes) = number(given, "kernel-memory-tcp")? {
        memory.set_kernel_tcp(Some(bytes));
    }
    if memory != LinuxMemory::default() {
        resources.set_memory(Some(memory));
    }
    Ok(())
}

fn set_cpu(resources: &mut LinuxResources, given: &Given) -> Result<()> {
    let mut cpu = resources.cpu().clone().unwrap_or_default();
    for option in ["cpu-share", "cpu-shares"] {
        if let Some(shares) = number(given, option)? {
            cpu.set_shares(Some(shares));
        }
    }
    if let Some(usec) = number(given, "cpu-quota")? {
        cpu.set_quota(Some(usec));
    }
    if let Some(usec) = number(given, "cpu-period")? {
        cpu.set_period(Some(usec));
    }
    if let Some(usec) = number(given, "cpu-burst")? {
        cpu.set_burst(Some(usec));
    }
    if let Some(idle) = number(given, "cpu-idle")? {
        cpu.set_idle(Some(idle));
    }
    if let Some(usec) = number(given, "cpu-rt-runtime")? {
        cpu.set_realtime_runtime(Some(usec));
    }
    if let Some(usec) = number(given, "cpu-rt-period")? {
        cpu.set_realtime_period(Some(usec));
    }
    if let Some(list) = given.get("cpuset-cpus") {
        cpu.set_cpus(Some(list.into()));
    }
    if let Some(list) = given.get("cpuset-mems") {
        cpu.set_mems(Some(list.into()));
    }
    if cpu != LinuxCpu::default() {
        resources.set_cpu(Some(cpu));
    }
    Ok(())
}

/// memory.checkBeforeUpdate: "If enabled, runtime MAY check if a new memory limit is lower than the
/// current usage, and MUST reject the new limit".
fn check_usage(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(memory) = resources.memory() else { return Ok(()) };
    let most = memory.limit().unwrap_or(-1);
    if memory.check_before_update() != Some(true) || most < 0 {
        return Ok(());
    }
    let now = cat(dir.join("memory.current")).unwrap_or_default();
    if now.trim().parse::<i64>().is_ok_and(|now| now > most) {
        return fail(format!("memory.limit: {most}: {} are in use", now.trim()));
    }
    Ok(())
}
