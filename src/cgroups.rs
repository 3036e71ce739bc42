//! Any cgroup of version 2, cgroups(7): where they are mounted, who is in one, how one ends.

use crate::step::{Result, cat, echo, error, step};
use crate::sys;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

/// Where systemd mounts it: alone, or beside cgroup 1.
const USUAL: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Why a cgroup has no such file as `memory.max`. Never in the words of ENOENT, by which engines
/// know a missing command.
pub fn why_missing(dir: &Path, file: &str) -> String {
    let controller = file.split('.').next().unwrap_or_default();
    let all = cat(dir.join("cgroup.controllers")).unwrap_or_default();
    if all.split_whitespace().any(|one| one == controller) {
        return format!("{file}: this kernel's {controller} controller has none");
    }
    format!("{file}: no {controller} controller in cgroup 2 here")
}

/// Where cgroup2 is mounted, if husk's own cgroup is `own` below that. What begins outside of our
/// cgroup namespace ("/..") is taken only if there is no other.
pub fn mount_point(own: &Path) -> Result<PathBuf> {
    // The list of mounts takes the kernel long to write. Where husk is found, it is not needed.
    let husk = process::id() as i32;
    for mount in USUAL.map(Path::new) {
        if is_cgroup2(mount) && pids(&mount.join(own)).contains(&husk) {
            return Ok(mount.into());
        }
    }
    let mounts = cat("/proc/self/mountinfo")?;
    let mut found = None;
    for line in mounts.lines().filter(|line| line.contains(" - cgroup2 ")) {
        let is_inside = !line.contains(" /..");
        if is_inside || found.is_none() {
            found = line.split(' ').nth(4).map(PathBuf::from);
        }
        if is_inside {
            break;
        }
    }
    found.ok_or_else(|| error("expected a cgroup2 mount, mostly at /sys/fs/cgroup"))
}

fn is_cgroup2(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// The cgroups right below one; none if it is gone.
pub fn cgroups_below(dir: &Path) -> Vec<PathBuf> {
    let mut dirs = vec![];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            dirs.push(entry.path());
        }
    }
    dirs
}

/// Removes a cgroup, and kills what is left in it, if anything is.
pub fn remove(dir: &Path) {
    if step!(fs::remove_dir(dir), "rmdir {}", dir.display()).is_ok() {
        return;
    }
    kill_rest(dir);
    for child in cgroups_below(dir) {
        remove(&child);
    }
    let _ = step!(fs::remove_dir(dir), "rmdir {}", dir.display());
}

pub fn is_populated(dir: &Path) -> bool {
    cat(dir.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
}

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills all that is in a cgroup, and waits for its end. False: something is left.
pub fn kill_rest(dir: &Path) -> bool {
    let _ = echo("1", dir.join("cgroup.kill"));
    // That was a signal to main threads: a process whose main thread has ended before the others
    // gets none. But with PID 1 the kernel ends all that is in its namespace, pid_namespaces(7).
    if is_populated(dir)
        && let Some(first) = first_process(dir)
    {
        let _ = sys::pidfd_send_signal(&first.pidfd, libc::SIGKILL);
    }
    wait_while(Instant::now() + PATIENCE, || {
        if is_populated(dir) {
            kill_each(dir);
        }
        is_populated(dir)
    })
}

/// At most so many at a time, for each needs a descriptor.
const MANY: usize = 100;

/// Where there is no PID 1: one after the other. A number may be another's by now, but not if it is
/// still in here.
fn kill_each(dir: &Path) {
    for some in pids(dir).chunks(MANY) {
        let mut opened = vec![];
        for pid in some {
            opened.extend(sys::pidfd_open(*pid).map(|pidfd| (*pid, pidfd)));
        }
        let members: BTreeSet<i32> = pids(dir).into_iter().collect();
        for (pid, pidfd) in opened {
            if members.contains(&pid) {
                let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
            }
        }
    }
}

/// Asks again and again, every 200 us. False: it is still so at the deadline.
pub fn wait_while(deadline: Instant, mut is_so: impl FnMut() -> bool) -> bool {
    while is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_micros(200));
    }
    true
}

/// The processes of a cgroup, less those that can't be seen from here: these are listed as 0.
pub fn pids(dir: &Path) -> Vec<i32> {
    let text = cat(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids = vec![];
    for line in text.lines() {
        if let Ok(pid @ 1..) = line.parse::<i32>() {
            pids.push(pid);
        }
    }
    pids
}

/// A container's PID 1: its number, its pidfd, and its /proc/PID/status.
pub struct First {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub status: String,
}

/// The first process is one level of namespaces below us; deeper ones are of the container's
/// making. The pidfd comes first: if the number goes to another process after that, the pidfd is of
/// no use any more.
pub fn first_process(dir: &Path) -> Option<First> {
    let own = cat("/proc/self/status").ok()?;
    let depth = field(&own, "NSpid").len() + 1;
    for pid in pids(dir) {
        let Ok(pidfd) = sys::pidfd_open(pid) else { continue };
        let Ok(status) = cat(format!("/proc/{pid}/status")) else { continue };
        let ids = field(&status, "NSpid");
        let is_first = ids.len() == depth && ids.ends_with(&["1"]);
        if is_first && pids(dir).contains(&pid) {
            return Some(First { pid, pidfd, status });
        }
    }
    None
}

/// The words of a line of /proc/PID/status, proc_pid_status(5), or of /proc/PID/fdinfo/FD.
pub fn field<'a>(status: &'a str, key: &str) -> Vec<&'a str> {
    for line in status.lines() {
        let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':'));
        if let Some(value) = value {
            return value.split_whitespace().collect();
        }
    }
    vec![]
}

/// An error if /proc is not that of our own PID namespace: its numbers are other processes'.
pub fn check_proc() -> Result<()> {
    let own = fs::read_link("/proc/self").unwrap_or_default();
    if own == Path::new(&process::id().to_string()) {
        return Ok(());
    }
    Err(error("expected this pid namespace's own /proc: mount -t proc proc /proc"))
}
