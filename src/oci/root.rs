//! The child's first half: its namespaces and its root file system. Everything is mounted below
//! the root while the host can still be seen, as hooks expect it; but each target is opened first,
//! by a path that cannot leave the root, and mounted on by its number.

use super::devices::make_devices;
use super::mount_options::{Change, Options, Reach, propagation};
use super::mounts::{
    PRIVATE, SLAVE, attach, bind, close_devices, open_source, propagate, set_attributes,
};
use super::namespaces::{CGROUP, FOR_CHILDREN, IPC, NETWORK, USER, UTS};
use super::plan::Plan;
use super::words::{tell, wait_for_word};
use super::{calls, fail, hooks, inside, list_of, process, terminal};
use crate::mounts::{self, DEVICE, new_mount};
use crate::netlink::Netlink;
use crate::paths::is_dir;
use crate::step::{Error, Result, attempt, echo, error, step};
use crate::sys;
use libc::c_int;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat;
use nix::unistd::{self, Gid, Uid};
use oci_spec::runtime::Mount;
use std::convert::Infallible;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub fn become_container(plan: &Plan, parent: &UnixStream) -> Result<Infallible> {
    if let Some(lock) = &plan.home.lock {
        let _ = unistd::close(lock.as_raw_fd()); // else we would hold it for ever
    }
    if plan.namespaces.new & USER != 0 {
        wait_for_word(parent)?; // it has written our ids
    }
    if plan.has(USER) {
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        step!(unistd::setresgid(gid, gid, gid), "setpriv --regid 0")?;
        step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid 0")?;
    }
    process::write_own_files(&plan.process)?; // /proc is the host's yet, which can be trusted
    plan.namespaces.join(!FOR_CHILDREN)?;
    if plan.namespaces.new & CGROUP != 0 {
        step!(unshare(CloneFlags::CLONE_NEWCGROUP), "unshare --cgroup")?;
    }
    if plan.namespaces.new & NETWORK != 0 {
        let network = attempt("netlink socket", Netlink::open())?;
        step!(network.set_up("lo"), "ip link set lo up")?;
    }
    if plan.is_new() {
        stat::umask(stat::Mode::empty());
        enter_root(plan, parent)?;
    }
    if let Some(console) = &plan.console {
        terminal::open(plan, console)?;
    }
    process::enter(plan, parent)
}

fn enter_root(plan: &Plan, parent: &UnixStream) -> Result<()> {
    let (root, is_dev_read_only) = build_root(plan)?;
    if plan.home.has_hooks() {
        tell(parent, "the root is made")?;
        wait_for_word(parent)?;
    }
    hooks::run(&plan.home, "createContainer", "creating")?;
    if is_dev_read_only {
        let dev = attempt("/dev", inside::open(&root, Path::new("/dev")))?;
        make_read_only(&dev)?;
    }
    let cwd = plan.process.cwd();
    attempt(cwd.display(), inside::make(&root, cwd, true))?;
    change_root(plan, &root)
}

/// Returns the root, and whether its /dev is to be read-only when all is in it.
fn build_root(plan: &Plan) -> Result<(OwnedFd, bool)> {
    let own;
    let sources = match &plan.sources {
        Some(sources) => sources,
        None => {
            own = Sources::open(plan)?;
            &own
        }
    };
    let root = attach_root(plan, &sources.root)?;
    let (mut has_own_dev, mut is_dev_read_only) = (true, false);
    for (m, tree) in list_of(plan.spec.mounts()).iter().zip(&sources.binds) {
        if m.destination() == Path::new("/dev") {
            has_own_dev = tree.is_none();
            is_dev_read_only = Options::of(m)?.is_read_only();
        }
        attach(plan, root, m, tree.as_ref()).map_err(|why| named(m, why))?;
    }
    set_names(plan)?;
    if has_own_dev {
        make_devices(plan, root)?;
    }
    for path in list_of(plan.linux.readonly_paths()) {
        cover(root, path, false)?;
    }
    for path in list_of(plan.linux.masked_paths()) {
        cover(root, path, true)?;
    }
    let root = attempt("dup", root.try_clone())?;
    Ok((root, is_dev_read_only))
}

/// Mounts of the host that the container gets, attached nowhere yet.
pub struct Sources {
    root: OwnedFd,
    /// One for each of the list of mounts that is a bind.
    binds: Vec<Option<OwnedFd>>,
}

impl Sources {
    /// The paths are the caller's, so he must be allowed to follow them.
    pub fn open(plan: &Plan) -> Result<Sources> {
        let root = match bind(Path::new(plan.home.text("rootfs")), Reach::All) {
            Ok(root) => root,
            Err(Error { why, .. }) => return fail(format!("root.path: {why}")),
        };
        let mut binds = vec![];
        for m in list_of(plan.spec.mounts()) {
            binds.push(open_source(plan, m).map_err(|why| named(m, why))?);
        }
        Ok(Sources { root, binds })
    }
}

fn named(m: &Mount, Error { why, .. }: Error) -> Error {
    error(format!("mounts: {:?}: {why}", m.destination()))
}

fn attach_root<'a>(plan: &Plan, root: &'a OwnedFd) -> Result<&'a OwnedFd> {
    let rootfs = plan.home.text("rootfs");
    let host = attempt("/", inside::directory("/"))?;
    propagate(&host, SLAVE)?;
    let target = attempt(rootfs, inside::directory(rootfs))?;
    step!(sys::move_mount(root, &target, ""), "mount --move (it) {rootfs}")?;
    close_devices(plan, root)?;
    let wanted = plan.linux.rootfs_propagation().as_deref().and_then(propagation);
    let is_private = wanted.is_none_or(|how| how.contains(MsFlags::MS_PRIVATE));
    propagate(root, if is_private { PRIVATE } else { SLAVE })?;
    Ok(root)
}

/// What may be set is what only a namespace keeps away from the host.
const SYSCTLS: [(c_int, &str); 6] = [
    (NETWORK, "net/"),
    (UTS, "kernel/domainname"),
    (IPC, "kernel/msg"),
    (IPC, "kernel/sem"),
    (IPC, "kernel/shm"),
    (IPC, "fs/mqueue/"),
];

fn set_names(plan: &Plan) -> Result<()> {
    if let Some(name) = plan.spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        if !plan.has(UTS) {
            return fail("hostname: expected a uts namespace");
        }
        step!(unistd::sethostname(name), "hostname {name}")?;
    }
    for (key, value) in plan.linux.sysctl().iter().flatten() {
        set_sysctl(plan, key, value)?;
    }
    if let Some(name) = plan.spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        if !plan.has(UTS) {
            return fail("domainname: expected a uts namespace");
        }
        echo(name, "/proc/sys/kernel/domainname")?;
    }
    let _ = calls::join_session_keyring(); // the caller's stays his
    Ok(())
}

fn set_sysctl(plan: &Plan, key: &str, value: &str) -> Result<()> {
    let path = sysctl_path(key);
    let is_own = |(flag, start): &(c_int, &str)| plan.has(*flag) && path.starts_with(start);
    if !SYSCTLS.iter().any(is_own) || path.split('/').any(|part| part == "..") {
        return fail(format!("linux.sysctl.{key}: not in a namespace of its own"));
    }
    echo(value, format!("/proc/sys/{path}"))
}

/// As in sysctl(8): if the first separator is a slash, a dot is part of a name.
fn sysctl_path(key: &str) -> String {
    let first = key.chars().find(|c| ['.', '/'].contains(c));
    if first == Some('/') {
        return key.to_string();
    }
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    key.chars().map(swapped).collect()
}

fn make_read_only(top: &OwnedFd) -> Result<()> {
    set_attributes(top, 0, Change { set: libc::MOUNT_ATTR_RDONLY, clear: 0 })
}

/// Masked paths are covered by something empty, read-only ones by themselves.
fn cover(root: &OwnedFd, path: &str, is_masked: bool) -> Result<()> {
    let target = match inside::open(root, Path::new(path)) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        found => attempt(path, found)?,
    };
    let tree = match (is_masked, is_dir(&target)) {
        (true, true) => new_mount("tmpfs", "ro,nosuid,nodev,noexec,size=4k")?,
        (true, false) => mounts::bind(AT_FDCWD, Path::new("/dev/null"), DEVICE, false)?,
        (false, _) => mounts::bind(&target, Path::new(""), libc::MOUNT_ATTR_RDONLY, true)?,
    };
    step!(sys::move_mount(&tree, &target, ""), "mount --move (it) {path}")
}

fn change_root(plan: &Plan, root: &OwnedFd) -> Result<()> {
    step!(unistd::fchdir(root), "cd {}", plan.home.text("rootfs"))?;
    step!(unistd::pivot_root(".", "."), "pivot_root . .")?;
    step!(umount2(".", MntFlags::MNT_DETACH), "umount --lazy .")?;
    step!(unistd::chdir("/"), "cd /")?;
    let new_root = attempt("/", inside::directory("/"))?;
    if let Some(how) = plan.linux.rootfs_propagation().as_deref().and_then(propagation) {
        propagate(&new_root, how)?;
    }
    if plan.home.state["config"]["root"]["readonly"] == true {
        make_read_only(&new_root)?;
    }
    Ok(())
}
