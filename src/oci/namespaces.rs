//! Which namespaces to make, and which to join.

use super::plan::Plan;
use super::{fail, list_of};
use crate::step::{Result, attempt, step};
use libc::c_int;
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Linux, LinuxNamespaceType};
use std::fs::File;
use std::os::fd::OwnedFd;

pub const USER: c_int = libc::CLONE_NEWUSER;
pub const PID: c_int = libc::CLONE_NEWPID;
pub const MOUNT: c_int = libc::CLONE_NEWNS;
pub const NETWORK: c_int = libc::CLONE_NEWNET;
pub const UTS: c_int = libc::CLONE_NEWUTS;
pub const IPC: c_int = libc::CLONE_NEWIPC;
pub const CGROUP: c_int = libc::CLONE_NEWCGROUP;

/// Only children enter these, when their parent has.
pub const FOR_CHILDREN: c_int = USER | PID;

/// Sets of namespaces, as the flags of clone(2), and what leads into those that exist already.
#[derive(Default)]
pub struct Namespaces {
    pub new: c_int,
    pub joined: c_int,
    pub doors: Vec<(c_int, OwnedFd)>,
}

impl Namespaces {
    pub fn of(linux: &Linux) -> Result<Namespaces> {
        let mut all = Namespaces::default();
        for namespace in list_of(linux.namespaces()) {
            let typ = namespace.typ();
            let flag = typ as c_int;
            if typ == LinuxNamespaceType::Time || all.has(flag) {
                return fail(format!("linux.namespaces: {typ}: twice, or not supported"));
            }
            let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
            let Some(path) = path else {
                all.new |= flag;
                continue;
            };
            if flag & (MOUNT | USER) != 0 {
                return fail(format!("linux.namespaces: {typ}: by path: not supported"));
            }
            let door = attempt(path.display(), File::open(path))?;
            all.joined |= flag;
            all.doors.push((flag, door.into()));
        }
        if all.new & MOUNT == 0 {
            return fail("linux.namespaces: expected mount");
        }
        Ok(all)
    }

    /// All of those that a process is in.
    pub fn of_process(linux: &Linux, pidfd: OwnedFd) -> Namespaces {
        let mut joined = 0;
        for namespace in list_of(linux.namespaces()) {
            joined |= namespace.typ() as c_int;
        }
        Namespaces { new: 0, joined, doors: vec![(joined, pidfd)] }
    }

    /// Is the namespace another than the caller's?
    pub fn has(&self, flag: c_int) -> bool {
        (self.new | self.joined) & flag != 0
    }

    pub fn join(&self, mask: c_int) -> Result<()> {
        for (flags, door) in &self.doors {
            let flags = CloneFlags::from_bits_retain(flags & mask);
            if !flags.is_empty() {
                step!(setns(door, flags), "nsenter {flags:?}")?;
            }
        }
        Ok(())
    }
}

impl Plan {
    pub fn has(&self, flag: c_int) -> bool {
        self.namespaces.has(flag)
    }

    /// Does the child make a container, rather than enter one?
    pub fn is_new(&self) -> bool {
        self.namespaces.new != 0
    }
}
