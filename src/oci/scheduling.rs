//! How the kernel treats the process: scheduler, I/O priority, CPUs, memory nodes, personality.

use super::plan::Plan;
use super::{calls, fail, list_of};
use crate::step::{Result, error, step};
use libc::c_int;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Scheduler,
};

/// All that takes capabilities which the process may lose later.
pub fn apply(plan: &Plan) -> Result<()> {
    if let Some(scheduler) = plan.process.scheduler() {
        set_scheduler(scheduler, &plan.scheduler_flags)?;
    }
    if let Some(priority) = plan.process.io_priority() {
        set_io_priority(priority)?;
    }
    if let Some(policy) = plan.linux.memory_policy() {
        set_memory_policy(policy)?;
    }
    if let Some(personality) = plan.linux.personality() {
        set_personality(personality)?;
    }
    Ok(())
}

// include/uapi/linux/personality.h
const PER_LINUX: c_int = 0;
const PER_LINUX32: c_int = 8;

fn set_personality(personality: &LinuxPersonality) -> Result<()> {
    if let Some(flag) = list_of(personality.flags()).first() {
        return fail(format!("linux.personality.flags: {flag}: none is supported"));
    }
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    };
    step!(calls::personality(domain), "linux.personality: {domain}")
}

const SCHEDULER_FLAGS: [(&str, c_int); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", libc::SCHED_FLAG_RESET_ON_FORK),
    ("SCHED_FLAG_RECLAIM", libc::SCHED_FLAG_RECLAIM),
    ("SCHED_FLAG_DL_OVERRUN", libc::SCHED_FLAG_DL_OVERRUN),
    ("SCHED_FLAG_KEEP_POLICY", libc::SCHED_FLAG_KEEP_POLICY),
    ("SCHED_FLAG_KEEP_PARAMS", libc::SCHED_FLAG_KEEP_PARAMS),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", libc::SCHED_FLAG_UTIL_CLAMP_MIN),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", libc::SCHED_FLAG_UTIL_CLAMP_MAX),
];

fn set_scheduler(scheduler: &Scheduler, names: &[String]) -> Result<()> {
    let mut flags = 0;
    for name in names {
        match SCHEDULER_FLAGS.iter().find(|(known, _)| known == name) {
            Some((_, flag)) => flags |= flag,
            None => return fail(format!("process.scheduler.flags: {name}: unknown")),
        }
    }
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIso => return fail("process.scheduler: Linux has no SCHED_ISO"),
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE,
    };
    let priority = scheduler.priority().unwrap_or(0);
    let attributes = libc::sched_attr {
        size: 0,
        sched_policy: policy as u32,
        sched_flags: flags as u64,
        sched_nice: scheduler.nice().unwrap_or(0),
        sched_priority: u32::try_from(priority)
            .map_err(|_| error(format!("process.scheduler.priority: {priority}: below 0")))?,
        sched_runtime: scheduler.runtime().unwrap_or(0),
        sched_deadline: scheduler.deadline().unwrap_or(0),
        sched_period: scheduler.period().unwrap_or(0),
    };
    let name = scheduler.policy();
    // At least nothing, at most all.
    step!(calls::sched_setattr(&attributes, [0, 1024]), "process.scheduler: {name} {names:?}")
}

fn set_io_priority(priority: &LinuxIOPriority) -> Result<()> {
    let level = priority.priority();
    if !(0..=7).contains(&level) {
        return fail(format!("process.ioPriority.priority: {level}: expected 0 to 7"));
    }
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let value = class << 13 | level as c_int; // include/uapi/linux/ioprio.h
    step!(calls::ioprio_set(value), "process.ioPriority: {} {level}", priority.class())
}

fn set_memory_policy(policy: &LinuxMemoryPolicy) -> Result<()> {
    let mut mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => libc::MPOL_DEFAULT,
        MemoryPolicyModeType::MpolPreferred => libc::MPOL_PREFERRED,
        MemoryPolicyModeType::MpolBind => libc::MPOL_BIND,
        MemoryPolicyModeType::MpolInterleave => libc::MPOL_INTERLEAVE,
        MemoryPolicyModeType::MpolLocal => libc::MPOL_LOCAL,
        MemoryPolicyModeType::MpolPreferredMany => 5, // include/uapi/linux/mempolicy.h
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    for flag in list_of(policy.flags()) {
        mode |= match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => libc::MPOL_F_NUMA_BALANCING,
            MemoryPolicyFlagType::MpolFRelativeNodes => libc::MPOL_F_RELATIVE_NODES,
            MemoryPolicyFlagType::MpolFStaticNodes => libc::MPOL_F_STATIC_NODES,
        };
    }
    let nodes = policy.nodes().as_deref().unwrap_or_default();
    let mut mask = vec![];
    for node in numbers("linux.memoryPolicy.nodes", nodes)? {
        if mask.len() <= node / 64 {
            mask.resize(node / 64 + 1, 0);
        }
        mask[node / 64] |= 1 << (node % 64);
    }
    step!(calls::set_mempolicy(mode, &mask), "linux.memoryPolicy: {} {nodes}", policy.mode())
}

/// The most that a list of CPUs or nodes may name.
const MOST: usize = 4096;

/// A list such as 0-3,7.
fn numbers(what: &str, list: &str) -> Result<Vec<usize>> {
    let bad = || error(format!("{what}: {list:?}: expected a list such as 0-3,7"));
    let mut all = vec![];
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| bad())?;
        let last: usize = last.trim().parse().map_err(|_| bad())?;
        if first > last || last >= MOST {
            return Err(bad());
        }
        all.extend(first..=last);
    }
    Ok(all)
}

/// execCPUAffinity: on which CPUs this process runs from now on. None given: as before.
pub fn set_affinity(what: &str, list: Option<&str>) -> Result<()> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(()) };
    let mut cpus = CpuSet::new();
    for cpu in numbers(what, list)? {
        cpus.set(cpu).map_err(|_| error(format!("{what}: {cpu}: no such CPU")))?;
    }
    step!(sched_setaffinity(Pid::from_raw(0), &cpus), "taskset --cpu-list {list} ({what})")
}
