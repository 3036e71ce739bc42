//! Which namespaces to make, and which to join.

use super::plan::Plan;
use super::{calls, fail, list_of};
use crate::step::{Result, attempt, step};
use libc::c_int;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat;
use oci_spec::runtime::Linux;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub const USER: c_int = libc::CLONE_NEWUSER;
pub const PID: c_int = libc::CLONE_NEWPID;
pub const MOUNT: c_int = libc::CLONE_NEWNS;
pub const NETWORK: c_int = libc::CLONE_NEWNET;
pub const UTS: c_int = libc::CLONE_NEWUTS;
pub const IPC: c_int = libc::CLONE_NEWIPC;
pub const CGROUP: c_int = libc::CLONE_NEWCGROUP;
pub const TIME: c_int = libc::CLONE_NEWTIME;

/// Each with its name in /proc/PID/ns.
const ALL: [(c_int, &str); 8] = [
    (NETWORK, "net"),
    (IPC, "ipc"),
    (UTS, "uts"),
    (PID, "pid"),
    (TIME, "time"),
    (USER, "user"),
    (CGROUP, "cgroup"),
    (MOUNT, "mnt"),
];

/// Sets of namespaces, as the flags of clone(2), and what leads into those that exist already.
#[derive(Default)]
pub struct Namespaces {
    pub new: c_int,
    pub joined: c_int,
    doors: Vec<Door>,
}

/// A namespace's file, or with several flags a process in them.
struct Door {
    flags: c_int,
    file: OwnedFd,
}

impl Namespaces {
    pub fn of(linux: &Linux) -> Result<Namespaces> {
        let mut all = Namespaces::default();
        let mut seen = 0;
        for namespace in list_of(linux.namespaces()) {
            let typ = namespace.typ();
            let flag = typ as c_int;
            if seen & flag != 0 {
                return fail(format!("linux.namespaces: {typ}: twice"));
            }
            seen |= flag;
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                None => all.new |= flag,
                Some(path) => all.add_door(flag, path)?,
            }
        }
        let has_offsets = linux.time_offsets().as_ref().is_some_and(|map| !map.is_empty());
        if has_offsets && all.new & TIME == 0 {
            return fail("linux.timeOffsets: expected a new time namespace");
        }
        let is_mapped = |map| !list_of(map).is_empty();
        if all.new & USER != 0 && !is_mapped(linux.uid_mappings()) {
            return fail("linux.uidMappings: expected some for the new user namespace");
        }
        if all.new & USER != 0 && !is_mapped(linux.gid_mappings()) {
            return fail("linux.gidMappings: expected some for the new user namespace");
        }
        Ok(all)
    }

    fn add_door(&mut self, flag: c_int, path: &Path) -> Result<()> {
        let shown = format!("linux.namespaces: {}", path.display());
        if !path.is_absolute() {
            return fail(format!("{shown}: expected an absolute path"));
        }
        let file = attempt(&shown, File::open(path))?;
        if calls::ns_get_nstype(&file) != Ok(flag) {
            return fail(format!("{shown}: is no {} namespace", name(flag)));
        }
        // The caller's own is there already, and setns(2) refuses one's own user namespace.
        if !is_own(flag, &attempt(&shown, file.metadata())?) {
            self.joined |= flag;
            self.doors.push(Door { flags: flag, file: file.into() });
        }
        Ok(())
    }

    /// All of those that a container's first process is in.
    pub fn of_process(linux: &Linux, pid: c_int, pidfd: OwnedFd) -> Namespaces {
        let mut joined = 0;
        for namespace in list_of(linux.namespaces()) {
            joined |= namespace.typ() as c_int;
        }
        let its_own = fs::metadata(format!("/proc/{pid}/ns/user"));
        if its_own.is_ok_and(|meta| is_own(USER, &meta)) {
            joined &= !USER;
        }
        Namespaces { new: 0, joined, doors: vec![Door { flags: joined, file: pidfd }] }
    }

    /// Is the namespace another than the caller's?
    pub fn has(&self, flag: c_int) -> bool {
        (self.new | self.joined) & flag != 0
    }

    /// Joins those of the set that are not joined yet.
    pub fn join(&mut self, set: c_int) -> Result<()> {
        self.join_each(set, |_| false)
    }

    /// The same, but leaves out those that are not ours to join.
    pub fn try_join(&mut self, set: c_int) -> Result<()> {
        self.join_each(set, |errno| errno == Errno::EPERM)
    }

    fn join_each(&mut self, set: c_int, is_left_out: fn(Errno) -> bool) -> Result<()> {
        for (flag, name) in ALL {
            for door in &mut self.doors {
                if door.flags & set & flag == 0 {
                    continue;
                }
                match setns(&door.file, CloneFlags::from_bits_retain(flag)) {
                    Err(errno) if is_left_out(errno) => continue,
                    joined => step!(joined, "nsenter --{name}")?,
                }
                door.flags &= !flag;
            }
        }
        Ok(())
    }
}

fn name(flag: c_int) -> &'static str {
    ALL.iter().find(|(known, _)| *known == flag).map_or("known", |(_, name)| name)
}

fn is_own(flag: c_int, its: &fs::Metadata) -> bool {
    let path = format!("/proc/self/ns/{}", name(flag));
    let Ok(own) = stat::stat(path.as_str()) else { return false };
    (own.st_dev, own.st_ino) == (its.dev(), its.ino())
}

impl Plan {
    pub fn has(&self, flag: c_int) -> bool {
        self.namespaces.has(flag)
    }
}
