//! Coming back to a container: exec, stop and kill.

mod listing;

pub use listing::ps;

use crate::caller;
use crate::cgroups::{self, cgroups_below, field, first_process, is_populated, pids, wait_while};
use crate::cli::{Kill, Stop};
use crate::containers::{self, Cgroup, find, living};
use crate::environment;
use crate::notes::{self, Notes};
use crate::paths::{Make, by_number};
use crate::step::{Error, Result, attempt, cat, echo, error, step};
use crate::terminal::{Inside, LastWords, Outside};
use crate::{Container, NAMESPACES, NOWHERE, clone, enter_workdir, execute, lock_down};
use crate::{mounts, shield, sys, talk, terminal, users, wait};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::mem::take;
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
    let (inside, outside) = terminal::prepare(&c.terminal)?;
    let dir = find(&living()?, &c.name)?;
    let name = c.name.clone();
    let gone = || error(format!("{name}: not running"));
    let lock = containers::wait_until_shared(&dir)?;
    let first = first_process(&dir).ok_or_else(gone)?;
    let container = File::open(&dir).map_err(|_| gone())?;
    let cgroup = match Cgroup::create_for_exec(&dir) {
        Err(_) if !is_populated(&dir) => return Err(gone()),
        cgroup => cgroup?,
    };
    drop(lock);
    recall(&mut c, notes::read(&container));
    c.capabilities = u64::from_str_radix(&field(&first.status, "CapBnd").concat(), 16).unwrap_or(0);
    let stat = File::open(format!("/proc/{}/stat", first.pid)).map_err(|_| gone())?;
    let outcome = enter(&c, &first, &cgroup, inside, outside);
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

/// What `run` was told holds for exec too, unless exec was told otherwise: whatever has become of
/// PID 1, its memory and its user.
fn recall(c: &mut Container, notes: Notes) {
    let mut env = notes.env;
    if env.is_empty() {
        env = environment::defaults(&c.name, None);
    }
    c.env = environment::merge(env, take(&mut c.env));
    if c.user.is_empty() {
        c.user = notes.user;
    }
    if c.workdir.as_os_str().is_empty() {
        c.workdir = notes.workdir;
    }
    if c.workdir.as_os_str().is_empty() {
        c.workdir = "/".into();
    }
    c.ulimits = notes.ulimits;
}

/// Starts the command in the namespaces of a container's first process, and waits for it.
fn enter(
    c: &Container,
    first: &cgroups::First,
    cgroup: &Cgroup,
    mut inside: Inside,
    outside: Outside,
) -> Result<u8> {
    let namespaces = namespaces_of(first.pid);
    let mut nodes = vec![];
    // A user may bind none of these, and can change none.
    if !caller::is_rootless() {
        nodes = mounts::bind_open_devices(&inside.devices())?;
        inside.reopen_by(nodes.iter())?;
    }
    let _ = echo("0", "/proc/self/oom_score_adj"); // the caller's may make it immune
    // Until it is the command, nobody in there may trace it, or see its files (CVE-2016-9962).
    step!(prctl::set_dumpable(false), "prctl PR_SET_DUMPABLE 0")?;
    let pid = first.pid;
    step!(setns(&first.pidfd, namespaces), "nsenter --target {pid} {namespaces:?}")?;
    match clone(0, Some(cgroup))? {
        (0, parent) => {
            let Err(why) = become_command(c, first, &parent, &mut inside);
            talk::fail(&parent, why)
        }
        (pid, child) => {
            drop(inside); // the child's alone from now on
            let outcome = attend(pid, &child, outside, nodes);
            let (status, last_words) = outcome.map_err(|why| talk::give_up(pid, &child, why))?;
            last_words.copy()?;
            Ok(status)
        }
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
    inside: &mut Inside,
) -> Result<Infallible> {
    let pid = first.pid;
    // In there, husk's own cgroup can't be seen.
    let cgroup = CloneFlags::CLONE_NEWCGROUP;
    step!(setns(&first.pidfd, cgroup), "nsenter --target {pid} --cgroup")?;
    // Before any path of the container is followed: it could lead to what husk has open.
    sys::close_others(3, &[&[parent.as_fd()], &inside.open_files()[..]].concat());
    talk::wait_for_word(parent)?;
    enter_workdir(c, Make::Nothing)?;
    if inside.has_pty() {
        let devpts = attempt("/dev/pts", terminal::open_devpts("/dev/pts"))?;
        inside.open_pty(devpts)?;
    }
    let user = users::find(&c.user)?;
    inside.give_to(user.uid, user.gid)?;
    lock_down(c, &user, parent)?;
    talk::announce_exec(parent)?;
    execute(c, &user, inside)
}

fn attend(
    pid: i32,
    child: &UnixStream,
    outside: Outside,
    nodes: Vec<OwnedFd>,
) -> Result<(u8, LastWords)> {
    let signals = terminal::hold_signals()?;
    talk::tell(child, NOWHERE)?;
    drop(nodes); // now, for it takes a while, and the child is busy
    terminal::wait_for_exec(child, &signals)?;
    talk::check_exec(child)?;
    wait(pid, outside, signals)
}

// ---- stop and kill ------------------------------------------------------------------------------

/// A container's directory, by its name and open.
type Found = (PathBuf, OwnedFd);

/// `husk stop`: a signal to all of them; then wait for each, and kill what is left.
pub fn stop(wanted: &Stop) -> Result<u8> {
    let (found, mut missing) = signal_all(&wanted.names, |container| {
        let own = notes::read(container).stop_signal;
        wanted.signal.or(own).unwrap_or(libc::SIGTERM)
    })?;
    let deadline = Instant::now() + Duration::from_secs(wanted.time.into());
    for (dir, fd) in found {
        let own = by_number(&fd); // the name may be another's soon
        wait_while(deadline, || is_populated(&own));
        missing.extend(end(&dir, &own));
    }
    complain_of(missing)
}

/// Ends what is left of a container. Returns what is wrong if something stays.
fn end(dir: &Path, own: &Path) -> Option<String> {
    let is_dead = !is_populated(own) || cgroups::kill_rest(own);
    if is_dead && containers::wait_for_end(own, dir) {
        return None;
    }
    Some(format!("{}: still there", containers::name_of(dir)))
}

/// `husk kill`: only the signal. What SIGKILL ends is gone when husk returns.
pub fn kill(wanted: &Kill) -> Result<u8> {
    let (found, mut missing) = signal_all(&wanted.names, |_| wanted.signal)?;
    for (dir, fd) in found {
        if wanted.signal == libc::SIGKILL {
            missing.extend(end(&dir, &by_number(&fd)));
        }
    }
    complain_of(missing)
}

/// Sends a signal to the first process of each. Returns what it found, and why not the others.
fn signal_all(
    names: &[OsString],
    signal_of: impl Fn(&File) -> i32,
) -> Result<(Vec<Found>, Vec<String>)> {
    cgroups::check_proc()?;
    let living = living()?;
    let mut found = vec![];
    let mut missing = vec![];
    for name in names {
        match open_cgroup(&living, &name.to_string_lossy()) {
            Ok((dir, container)) => {
                signal_first(&container, signal_of(&container));
                found.push((dir, container.into()));
            }
            Err(Error { why, .. }) => missing.push(why),
        }
    }
    Ok((found, missing))
}

fn open_cgroup(living: &[PathBuf], name: &str) -> Result<(PathBuf, File)> {
    let dir = find(living, name)?;
    let container = attempt(dir.display(), File::open(&dir))?;
    Ok((dir, container))
}

fn signal_first(container: &File, signal: i32) {
    let dir = by_number(container);
    wake_husks(&dir);
    if let Some(first) = first_process(&dir) {
        let _ = sys::pidfd_send_signal(&first.pidfd, signal);
    }
}

fn complain_of(missing: Vec<String>) -> Result<u8> {
    if missing.is_empty() {
        return Ok(0);
    }
    Err(error(missing.join("; ")))
}

/// A husk that looks after the container, or after an exec in it, may be stopped: then it could not
/// clean up, nor take in its child, which PID 1 waits for in its end.
fn wake_husks(dir: &Path) {
    let mut dirs = cgroups_below(dir);
    dirs.push(dir.into());
    let members: BTreeSet<i32> = dirs.iter().flat_map(|dir| pids(dir)).collect();
    let mut parents = BTreeSet::new();
    for pid in &members {
        let status = cat(format!("/proc/{pid}/status")).unwrap_or_default();
        parents.extend(parent_of(&status));
    }
    let own_name = cat("/proc/self/comm").unwrap_or_default();
    for parent in parents.difference(&members) {
        let Ok(pidfd) = sys::pidfd_open(*parent) else { continue };
        let name = cat(format!("/proc/{parent}/comm")).unwrap_or_default();
        // Of a detached container it is init, or whoever takes its place.
        if [own_name.as_str(), "husk\n"].contains(&name.as_str()) {
            let _ = sys::pidfd_send_signal(&pidfd, libc::SIGCONT);
        }
    }
}

fn parent_of(status: &str) -> Option<i32> {
    field(status, "PPid").first()?.parse().ok()
}
