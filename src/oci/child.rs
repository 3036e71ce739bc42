//! The child's story: step by step it becomes the container, or enters one.

use super::namespaces::{CGROUP, NETWORK, USER};
use super::plan::Plan;
use super::words::wait_for_word;
use super::{inside, process, root, terminal};
use crate::netlink::Netlink;
use crate::step::{Result, attempt, step};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat;
use nix::unistd::{self, Gid, Uid};
use std::convert::Infallible;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

pub fn become_container(plan: &mut Plan, parent: &UnixStream) -> Result<Infallible> {
    if let Some(lock) = &plan.home.lock {
        let _ = unistd::close(lock.as_raw_fd()); // else we would hold it for ever
    }
    plan.host_pid = own_number();
    if plan.namespaces.new & USER != 0 {
        wait_for_word(parent)?; // it has written our ids
    }
    if plan.has(USER) {
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        step!(unistd::setresgid(gid, gid, gid), "setpriv --regid 0")?;
        step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid 0")?;
    }
    if !(plan.has(USER) && plan.namespaces.joined != 0) {
        process::write_labels(&plan.process)?; // else the stage has done so
    }
    plan.sysctl = inside::directory("/proc/sys").ok();
    plan.namespaces.join(!0)?;
    if plan.namespaces.new & CGROUP != 0 {
        step!(unshare(CloneFlags::CLONE_NEWCGROUP), "unshare --cgroup")?;
    }
    if plan.namespaces.new & NETWORK != 0 {
        let network = attempt("netlink socket", Netlink::open())?;
        step!(network.set_up("lo"), "ip link set lo up")?;
    }
    if plan.is_new {
        stat::umask(stat::Mode::empty());
        root::enter(plan, parent)?;
    }
    if let Some(console) = &plan.console {
        terminal::open(plan, console)?;
    }
    let mut inside = plan.inside.take();
    if let Some(inside) = &mut inside {
        terminal::open_own(plan, inside)?;
    }
    process::enter(plan, parent, inside)
}

/// As the caller sees it, as long as /proc is his.
fn own_number() -> i32 {
    let own = fs::read_link("/proc/self").unwrap_or_default();
    own.to_string_lossy().parse().unwrap_or(0)
}
