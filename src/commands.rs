//! Coming back to a container: exec, ps and stop.

use crate::caller;
use crate::cgroups::{self, field, first_process, is_populated, wait_while};
use crate::cli::Stop;
use crate::containers::{self, Cgroup, find, living};
use crate::environment;
use crate::paths::{Make, by_number};
use crate::step::{Error, Result, attempt, cat, cat_bytes, echo, error, plain, print, step};
use crate::{Container, NAMESPACES, NOWHERE, clone, enter_workdir, execute, lock_down};
use crate::{mounts, shield, sys, talk, terminal, wait};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use std::convert::Infallible;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

// ---- exec ---------------------------------------------------------------------------------------

/// `husk exec`: the same steps as in `run`, but the namespaces are there already, setns(2).
pub fn exec(mut c: Container) -> Result<u8> {
    cgroups::check_proc()?;
    shield::raise()?;
    terminal::prepare(false)?;
    let dir = find(&living()?, &c.name)?;
    let gone = || error(format!("{}: not running", c.name));
    let lock = containers::wait_until_shared(&dir)?;
    let first = first_process(&dir).ok_or_else(gone)?;
    let container = File::open(&dir).map_err(|_| gone())?;
    let cgroup = match Cgroup::create_for_exec(&dir) {
        Err(_) if !is_populated(&dir) => return Err(gone()),
        cgroup => cgroup?,
    };
    drop(lock);
    let environ = cat_bytes(format!("/proc/{}/environ", first.pid)).map_err(|_| gone())?;
    c.env = environment::merge(environment::of_process(&environ), c.env);
    c.capabilities = u64::from_str_radix(&field(&first.status, "CapBnd").concat(), 16).unwrap_or(0);
    if c.user.is_none() && !caller::is_rootless() {
        c.user = user_of(&first.status); // a user has one id only
    }
    let stat = File::open(format!("/proc/{}/stat", first.pid)).map_err(|_| gone())?;
    let outcome = enter(&c, &first, &cgroup);
    cgroup.leave(&container);
    match outcome {
        Err(Error { status: 125, .. }) if is_ending(&stat) => Err(gone()),
        outcome => outcome,
    }
}

/// Is a process about to end, or gone, by its open /proc/PID/stat? Then it may have no namespaces
/// any more, and nobody can be born in them.
fn is_ending(stat: &File) -> bool {
    const PF_EXITING: u32 = 4; // of the flags, field 9 in proc_pid_stat(5)
    let mut bytes = [0; 512];
    let Ok(length) = stat.read_at(&mut bytes, 0) else { return true };
    let text = String::from_utf8_lossy(&bytes[..length]);
    let Some((_, fields)) = text.rsplit_once(") ") else { return false };
    let flags = fields.split(' ').nth(6).unwrap_or_default();
    flags.parse::<u32>().is_ok_and(|flags| flags & PF_EXITING != 0)
}

/// Real user and group of a process, by its /proc/PID/status.
fn user_of(status: &str) -> Option<(u32, u32)> {
    let uid = field(status, "Uid").first()?.parse().ok()?;
    let gid = field(status, "Gid").first()?.parse().ok()?;
    Some((uid, gid))
}

/// Starts the command in the namespaces of a container's first process, and waits for it.
fn enter(c: &Container, first: &cgroups::First, cgroup: &Cgroup) -> Result<u8> {
    let namespaces = namespaces_of(first.pid);
    // A user may bind none of these, and can change none but his own terminal.
    if !caller::is_rootless() {
        let nodes = mounts::bind_devices(terminal::name().as_deref())?;
        terminal::reopen_by(nodes.iter().map(|node| &node.mount))?;
    }
    let _ = echo("0", "/proc/self/oom_score_adj"); // the caller's may make it immune
    // Until it is the command, nobody in there may trace it, or see its files (CVE-2016-9962).
    step!(prctl::set_dumpable(false), "prctl PR_SET_DUMPABLE 0")?;
    let pid = first.pid;
    step!(setns(&first.pidfd, namespaces), "nsenter --target {pid} {namespaces:?}")?;
    match clone(0, Some(cgroup))? {
        (0, parent) => {
            let Err(why) = become_command(c, first, &parent);
            talk::fail(&parent, why)
        }
        (pid, child) => attend(pid, &child).map_err(|why| talk::give_up(pid, &child, why)),
    }
}

/// The namespaces to join. To enter our own user namespace is EINVAL; the host's network is EPERM
/// for a user.
fn namespaces_of(pid: i32) -> CloneFlags {
    let is_other = |name: &str| {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
        link("self") != link(&pid.to_string())
    };
    let mut namespaces = CloneFlags::from_bits_retain(NAMESPACES);
    namespaces.set(CloneFlags::CLONE_NEWUSER, is_other("user"));
    namespaces.set(CloneFlags::CLONE_NEWNET, is_other("net"));
    namespaces
}

fn become_command(
    c: &Container,
    first: &cgroups::First,
    parent: &UnixStream,
) -> Result<Infallible> {
    let pid = first.pid;
    // In there, husk's own cgroup can't be seen.
    let cgroup = CloneFlags::CLONE_NEWCGROUP;
    step!(setns(&first.pidfd, cgroup), "nsenter --target {pid} --cgroup")?;
    // Before any path of the container is followed: it could lead to what husk has open.
    sys::close_others(3, &[parent.as_fd()]);
    talk::wait_for_word(parent)?;
    enter_workdir(c, Make::Nothing)?;
    lock_down(c, parent)?;
    execute(c)
}

fn attend(pid: i32, child: &UnixStream) -> Result<u8> {
    terminal::hold_signals();
    let lent = terminal::lend(false, pid);
    talk::tell(child, NOWHERE)?;
    talk::wait_for_exec(child)?;
    wait(pid, &lent)
}

// ---- ps -----------------------------------------------------------------------------------------

/// A line of `husk ps`: when the container was started, its name, and the rest.
type Row = (u64, String, String);

/// `husk ps`: the youngest first.
pub fn ps() -> Result<u8> {
    cgroups::check_proc()?;
    let titles = "PID      ADDRESS        MEMORY     AGE   COMMAND";
    let mut rows: Vec<Row> = living()?.iter().filter_map(|dir| row(dir)).collect();
    rows.push((u64::MAX, "CONTAINER".into(), titles.into()));
    rows.sort();
    let width = rows.iter().map(|(_, name, _)| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (_, name, rest) in rows.iter().rev() {
        text.push_str(&format!("{name:width$}  {rest}\n"));
    }
    print(&text)?;
    Ok(0)
}

fn row(dir: &Path) -> Option<Row> {
    let pid = first_process(dir)?.pid;
    let start = start_time(pid)?;
    let uptime = cat("/proc/uptime").ok()?;
    let uptime: u64 = uptime.split('.').next()?.parse().ok()?;
    let age = age(uptime.saturating_sub(start / 100));
    let memory = memory(dir);
    let ip = address(pid).unwrap_or("-".into());
    let command = cat(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
    let command: String = command.chars().take(40).collect();
    let command = plain(&command);
    let rest = format!("{pid:<7}  {ip:13}  {memory:9}  {age:4}  {}", command.trim_end());
    Some((start, dir.file_name()?.to_string_lossy().into(), rest))
}

/// proc_pid_stat(5): field 22 is the start, in ticks since boot. Field 2, in parentheses, is a name
/// and may hold anything.
fn start_time(pid: i32) -> Option<u64> {
    let stat = cat(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split(' ').nth(20)?.parse().ok()
}

/// In the largest unit of which there are at least two.
fn age(seconds: u64) -> String {
    for (unit, letter) in [(86400, 'd'), (3600, 'h'), (60, 'm')] {
        if seconds >= 2 * unit {
            return format!("{}{letter}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

fn memory(dir: &Path) -> String {
    let bytes = cat(dir.join("memory.current")).unwrap_or_default();
    match bytes.trim().parse::<f64>() {
        Ok(bytes) => format!("{:.1}M", bytes / 1048576.0),
        Err(_) => "-".into(), // no memory controller
    }
}

/// Each of the namespace's own addresses stands before "/32 host LOCAL".
fn address(pid: i32) -> Option<String> {
    let routes = cat(format!("/proc/{pid}/net/fib_trie")).ok()?;
    for text in routes.split("/32 host LOCAL") {
        let ip = text.split_whitespace().last().unwrap_or_default();
        if ip.starts_with("10.77.") && ip != "10.77.0.1" {
            return Some(ip.into());
        }
    }
    None
}

// ---- stop ---------------------------------------------------------------------------------------

/// `husk stop`: SIGTERM to all of them; then wait for each, and kill what is left.
pub fn stop(wanted: &Stop) -> Result<u8> {
    cgroups::check_proc()?;
    let mut found = vec![];
    let mut missing = vec![];
    let living = living()?;
    for name in &wanted.names {
        match signal_first(&living, &name.to_string_lossy()) {
            Ok(container) => found.push(container),
            Err(Error { why, .. }) => missing.push(why),
        }
    }
    let deadline = Instant::now() + Duration::from_secs(wanted.time.into());
    for (dir, fd) in found {
        let own = by_number(&fd); // the name may be another's soon
        wait_while(deadline, || is_populated(&own));
        let is_dead = !is_populated(&own) || cgroups::kill_rest(&own);
        if !is_dead || !containers::wait_for_end(&own, &dir) {
            missing.push(format!("{}: still there", dir.display()));
        }
    }
    if missing.is_empty() {
        return Ok(0);
    }
    Err(error(missing.join("; ")))
}

/// SIGTERM to a container's first process. Returns its directory, by name and open.
fn signal_first(living: &[PathBuf], name: &str) -> Result<(PathBuf, OwnedFd)> {
    let dir = find(living, name)?;
    let fd: OwnedFd = attempt(dir.display(), File::open(&dir))?.into();
    if let Some(first) = first_process(&by_number(&fd)) {
        wake_husk(&first);
        let _ = sys::pidfd_send_signal(&first.pidfd, libc::SIGTERM);
    }
    Ok((dir, fd))
}

/// A foreground container's husk, its parent, may be stopped, and could not clean up.
fn wake_husk(first: &cgroups::First) {
    let Some(parent) = parent_of(&first.status) else { return };
    let Ok(pidfd) = sys::pidfd_open(parent) else { return };
    let now = cat(format!("/proc/{}/status", first.pid)).unwrap_or_default();
    // It is still the parent, so its number is not another's. A detached container's is init.
    if parent_of(&now) == Some(parent) && shield::is_husk(parent) {
        let _ = sys::pidfd_send_signal(&pidfd, libc::SIGCONT);
    }
}

fn parent_of(status: &str) -> Option<i32> {
    field(status, "PPid").first()?.parse().ok()
}
