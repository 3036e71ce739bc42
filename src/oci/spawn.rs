//! The child's start, which becomes the container or enters it.

use super::cgroup::Cgroup;
use super::delegate::outside as outside_id;
use super::list_of;
use super::namespaces::{CGROUP, MOUNT, PID, TIME, USER};
use super::options::Given;
use super::plan::Plan;
use super::words::wait_for_word;
use super::{calls, child, process, time};
use crate::caller::is_rootless;
use crate::step::{Result, attempt, echo, step};
use crate::terminal::{self, Outside, Signals, Wanted};
use crate::{mounts, sys, talk};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::unistd::{self, Gid, Uid};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::exit;

pub struct Child {
    pub pid: i32,
    pub socket: UnixStream,
}

/// What is at hand while a child runs: in the foreground husk's part of its terminal or pipes, and
/// the signals that are passed on to it.
pub struct Beside {
    pub outside: Option<Outside>,
    pub signals: Signals,
}

/// What 0, 1 and 2 are in the foreground: as for `husk run`. Else they are the caller's.
fn make_streams(plan: &mut Plan, given: &Given) -> Result<Option<Outside>> {
    if !given.in_foreground() || plan.console.is_some() {
        return Ok(None);
    }
    let tty = Some(plan.process.terminal() == Some(true));
    let wanted = Wanted { tty, interactive: true, ..Wanted::default() };
    let (mut inside, outside) = terminal::prepare(&wanted)?;
    if !is_rootless() {
        let nodes = mounts::bind_open_devices(&inside.devices())?;
        inside.reopen_by(nodes.iter())?;
    }
    if unistd::geteuid().is_root() {
        let user = plan.process.user();
        let uid = outside_id(user.uid(), list_of(plan.linux.uid_mappings()));
        let gid = outside_id(user.gid(), list_of(plan.linux.gid_mappings()));
        inside.give_to(Uid::from_raw(uid), Gid::from_raw(gid))?;
    }
    plan.inside = Some(inside);
    Ok(Some(outside))
}

/// Like fork(2) it returns twice: `(0, parent)` in the child and `(pid, child)` in the parent.
pub fn clone(namespaces: i32, cgroup: Option<&Cgroup>) -> Result<(i32, UnixStream)> {
    let (ours, theirs) = attempt("socketpair", UnixStream::pair())?;
    let dir = cgroup.map(|cgroup| cgroup.fd.as_fd());
    let flags = CloneFlags::from_bits_retain(namespaces);
    let pid = step!(sys::clone3(namespaces, dir), "clone3 {flags:?}")?;
    Ok(if pid > 0 { (pid, ours) } else { (0, theirs) })
}

pub fn launch(plan: &mut Plan, cgroup: Option<&Cgroup>, given: &Given) -> Result<(Child, Beside)> {
    // Whoever is in there already, or enters before husk has become the command, must not trace
    // it, or look into its /proc/PID (CVE-2016-9962). In a new user namespace it could not do so
    // itself.
    if plan.namespaces.new & USER == 0 || plan.namespaces.joined & PID != 0 {
        attempt("prctl PR_SET_DUMPABLE", prctl::set_dumpable(false))?;
    }
    let outside = make_streams(plan, given)?;
    let signals = terminal::hold_signals()?; // else one could leave half a container behind
    let child = if plan.has(USER) && plan.namespaces.joined != 0 {
        by_a_stage(plan, cgroup)?
    } else {
        directly(plan, cgroup)?
    };
    plan.inside = None; // the child's
    if let Some(score) = plan.process.oom_score_adj() {
        echo(&score.to_string(), format!("/proc/{}/oom_score_adj", child.pid))?;
    }
    if let Some(path) = given.get("pid-file") {
        step!(fs::write(path, child.pid.to_string()), "echo {} > {path}", child.pid)?;
    }
    Ok((child, Beside { outside, signals }))
}

/// What clone3(2) makes: a time namespace gets its offsets before, the cgroup namespace comes when
/// the child is in its cgroup.
fn to_clone(plan: &Plan) -> i32 {
    plan.namespaces.new & !(CGROUP | TIME)
}

/// Of pid and time namespaces the caller's children are members, not itself: it must be back in its
/// own before it starts anything else.
fn directly(plan: &mut Plan, cgroup: Option<&Cgroup>) -> Result<Child> {
    let own_pid = attempt("/proc/self/ns/pid", File::open("/proc/self/ns/pid"))?;
    let is_timed = plan.namespaces.new & TIME != 0;
    let own_time = if is_timed { Some(time::unshare(plan)?) } else { None };
    plan.namespaces.join(PID)?;
    let child = match clone(to_clone(plan), cgroup)? {
        (0, parent) => become_container(plan, &parent),
        (pid, socket) => Child { pid, socket },
    };
    if plan.namespaces.joined & PID != 0 {
        step!(setns(own_pid, CloneFlags::CLONE_NEWPID), "nsenter --pid (back)")?;
    }
    if let Some(own_time) = own_time {
        step!(setns(own_time, CloneFlags::from_bits_retain(TIME)), "nsenter --time (back)")?;
    }
    Ok(child)
}

/// Nobody comes back from a user namespace. So a process in between enters it, starts the child as
/// its sister, and ends. What belongs to the caller's own user namespace it joins before.
fn by_a_stage(plan: &mut Plan, cgroup: Option<&Cgroup>) -> Result<Child> {
    let (ours, theirs) = attempt("socketpair", UnixStream::pair())?;
    let (stage, mut report) = match clone(0, cgroup)? {
        (0, parent) => {
            drop(ours);
            match in_the_stage(plan) {
                Ok(0) => become_container(plan, &theirs),
                Ok(pid) => {
                    let sent = (&parent).write_all(&pid.to_ne_bytes());
                    exit(sent.is_err().into())
                }
                Err(why) => talk::fail(&theirs, why),
            }
        }
        cloned => cloned,
    };
    drop(theirs);
    let mut pid = [0; 4];
    let outcome = report.read_exact(&mut pid);
    attempt("waitpid", sys::waitpid(stage, 0))?;
    if outcome.is_err() {
        wait_for_word(&ours)?; // why not
    }
    Ok(Child { pid: i32::from_ne_bytes(pid), socket: ours })
}

fn in_the_stage(plan: &mut Plan) -> Result<i32> {
    process::write_labels(&plan.process)?;
    if plan.namespaces.new & TIME != 0 {
        time::unshare(plan)?;
    }
    plan.namespaces.try_join(!(USER | MOUNT | CGROUP))?;
    plan.namespaces.join(USER)?;
    plan.namespaces.join(!(MOUNT | CGROUP))?;
    let flags = CloneFlags::from_bits_retain(to_clone(plan));
    step!(calls::clone3_sister(to_clone(plan)), "clone3 {flags:?}")
}

fn become_container(plan: &mut Plan, parent: &UnixStream) -> ! {
    let Err(why) = child::become_container(plan, parent);
    talk::fail(parent, why)
}
