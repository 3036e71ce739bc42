//! A visit to another process's network namespace: what `nsenter --net` does.

use crate::step::{Result, attempt, say_step, step};
use crate::sys;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::abort;

/// It ends when this is dropped.
pub struct Visit {
    home: File,
}

/// From now on sockets, interfaces and /proc/sys/net are those of that process.
pub fn enter(pid: i32) -> Result<Visit> {
    let home = attempt("open /proc/self/ns/net", File::open("/proc/self/ns/net"))?;
    let process = attempt("pidfd_open", sys::pidfd_open(pid))?;
    step!(setns(process, CloneFlags::CLONE_NEWNET), "nsenter --net --target {pid}")?;
    Ok(Visit { home })
}

impl Drop for Visit {
    fn drop(&mut self) {
        say_step("setns (back to the host's network)");
        // It was ours before. What would be done next in the wrong one is better not done at all.
        if setns(&self.home, CloneFlags::CLONE_NEWNET).is_err() {
            abort();
        }
    }
}
