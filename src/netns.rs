//! A visit to another process's network namespace: what `nsenter --net` does.

use crate::step::{Result, attempt, step};
use crate::sys;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::exit;

/// It ends when this is dropped.
pub struct Visit {
    home: File,
}

/// From now on new sockets and /proc/sys/net are those of that process's network.
pub fn enter(pid: i32) -> Result<Visit> {
    let home = attempt("open /proc/self/ns/net", File::open("/proc/self/ns/net"))?;
    let process = attempt("pidfd_open", sys::pidfd_open(pid))?;
    step!(setns(process, CloneFlags::CLONE_NEWNET), "nsenter --net --target {pid}")?;
    Ok(Visit { home })
}

impl Drop for Visit {
    fn drop(&mut self) {
        let back = || setns(&self.home, CloneFlags::CLONE_NEWNET);
        let outcome = step!(back(), "nsenter --net (back to husk's own)");
        // What would be done next in the wrong one is better not done. The child reads that we are
        // gone, and the next husk command clears away what it leaves.
        if let Err(why) = outcome {
            exit(why.report().into());
        }
    }
}
