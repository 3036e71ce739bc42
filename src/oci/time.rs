//! Time namespaces, time_namespaces(7).

use super::fail;
use super::namespaces::TIME;
use super::plan::Plan;
use crate::step::{Result, attempt, echo, step};
use nix::sched::{self, CloneFlags};
use std::fs::File;

/// Makes one for our children, and returns the way back into our own.
pub fn unshare(plan: &Plan) -> Result<File> {
    let own = attempt("/proc/self/ns/time", File::open("/proc/self/ns/time"))?;
    step!(sched::unshare(CloneFlags::from_bits_retain(TIME)), "unshare --time")?;
    let mut lines = String::new();
    for (clock, offset) in plan.linux.time_offsets().iter().flatten() {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            return fail(format!("linux.timeOffsets: {clock}: expected monotonic or boottime"));
        }
        let (secs, nanosecs) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        lines += &format!("{clock} {secs} {nanosecs}\n");
    }
    if !lines.is_empty() {
        echo(&lines, "/proc/self/timens_offsets")?; // all of them in one write
    }
    Ok(own)
}
