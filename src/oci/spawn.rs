//! The child's start, which becomes the container or enters it.

use super::cgroup::Cgroup;
use super::namespaces::{CGROUP, FOR_CHILDREN, PID, USER};
use super::options::Given;
use super::plan::Plan;
use super::root;
use crate::caller::is_rootless;
use crate::step::{Result, attempt, step};
use crate::terminal::{self, Inside, Outside, Signals, Wanted};
use crate::{mounts, sys, talk};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

pub struct Child {
    pub pid: i32,
    pub socket: UnixStream,
}

/// What is at hand while a child runs: in the foreground its terminal or pipes, and the signals
/// that are passed on to it.
pub struct Beside {
    pub outside: Option<Outside>,
    pub signals: Signals,
}

/// Like fork(2) it returns twice: `(0, parent)` in the child and `(pid, child)` in the parent.
pub fn clone(namespaces: i32, cgroup: Option<&Cgroup>) -> Result<(i32, UnixStream)> {
    let (ours, theirs) = attempt("socketpair", UnixStream::pair())?;
    let dir = cgroup.map(|cgroup| cgroup.fd.as_fd());
    let flags = CloneFlags::from_bits_retain(namespaces);
    let pid = step!(sys::clone3(namespaces, dir), "clone3 {flags:?}")?;
    Ok(if pid > 0 { (pid, ours) } else { (0, theirs) })
}

/// What 0, 1 and 2 are in the foreground: as for `husk run`. Else they are the caller's.
fn streams(plan: &Plan, given: &Given) -> Result<Option<(Inside, Outside)>> {
    if !given.in_foreground() || plan.console.is_some() {
        return Ok(None);
    }
    let tty = Some(plan.process.terminal() == Some(true));
    let wanted = Wanted { tty, interactive: true, ..Wanted::default() };
    let (mut inside, outside) = terminal::prepare(&wanted)?;
    if !is_rootless() {
        let nodes = mounts::bind_devices()?;
        inside.reopen_by(nodes.iter().map(|node| &node.mount))?;
    }
    Ok(Some((inside, outside)))
}

/// The caller must be back in its own pid namespace before it starts anything else.
pub fn launch(plan: &Plan, cgroup: Option<&Cgroup>, given: &Given) -> Result<(Child, Beside)> {
    let own = attempt("/proc/self/ns/pid", File::open("/proc/self/ns/pid"))?;
    let names = &plan.namespaces;
    // Whoever is in there already, or enters before husk has become the command, must not trace
    // it, or look into its /proc/PID (CVE-2016-9962). In a new user namespace it could not do so
    // itself.
    if names.new & USER == 0 || names.joined & PID != 0 {
        attempt("prctl PR_SET_DUMPABLE", prctl::set_dumpable(false))?;
    }
    names.join(FOR_CHILDREN)?;
    let (mut inside, outside) = streams(plan, given)?.unzip();
    let signals = terminal::hold_signals()?; // else one could leave half a container behind
    let child = match clone(names.new & !CGROUP, cgroup)? {
        (0, parent) => {
            let Err(why) = root::become_container(plan, &parent, inside.as_mut());
            talk::fail(&parent, why)
        }
        (pid, socket) => Child { pid, socket },
    };
    drop(inside); // the child's alone from now on
    if plan.is_new() && names.joined & PID != 0 {
        step!(setns(own, CloneFlags::CLONE_NEWPID), "nsenter --pid (back)")?;
    }
    if let Some(path) = given.get("pid-file") {
        step!(fs::write(path, child.pid.to_string()), "echo {} > {path}", child.pid)?;
    }
    Ok((child, Beside { outside, signals }))
}
