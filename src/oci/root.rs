//! The child's first half: its namespaces and its root file system. Everything is mounted below
//! the root while the host can still be seen, as hooks expect it; but each target is opened first,
//! by a path that cannot leave the root, and mounted on by its number.

use super::create::wait_for_word;
use super::devices::{make_devices, nodev};
use super::mounts::{NONE, PRIVATE, SLAVE, attach, flag, prepare, propagate};
use super::namespaces::{CGROUP, FOR_CHILDREN, IPC, NETWORK, USER, UTS};
use super::plan::Plan;
use super::{fail, hooks, inside, list_of, process, terminal};
use crate::{
    DEVICE, Error, Result, attempt, by_number, clone_tree, echo, error, is_dir, netlink_socket,
    new_tree, place, say_step, set_up, tell,
};
use libc::{AT_FDCWD, c_int};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::{stat, statvfs};
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
        set_up(&netlink_socket()?, "lo")?;
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
        tell(parent, &[0], "the root is made")?;
        wait_for_word(parent)?;
    }
    hooks::run(&plan.home, "createContainer", "creating")?;
    if is_dev_read_only {
        let dev = attempt("/dev", inside::open(&root, Path::new("/dev")))?;
        make_read_only(by_number(&dev))?;
    }
    let cwd = plan.process.cwd();
    attempt(cwd.display(), inside::make(&root, cwd, true))?;
    change_root(plan, &root)
}

/// Returns the root, and whether its /dev is to be read-only when all is in it.
fn build_root(plan: &Plan) -> Result<(OwnedFd, bool)> {
    let mut mounts = vec![];
    for m in list_of(plan.spec.mounts()) {
        mounts.push((m, prepare(plan, m).map_err(|why| named(m, why))?));
    }
    let root = attach_root(plan)?;
    let (mut has_own_dev, mut is_dev_read_only) = (true, false);
    for (m, mut prepared) in mounts {
        if m.destination() == Path::new("/dev") {
            has_own_dev = prepared.tree.is_none();
            is_dev_read_only = prepared.flags.contains(MsFlags::MS_RDONLY);
            prepared.flags -= MsFlags::MS_RDONLY;
        }
        attach(&root, m, prepared).map_err(|why| named(m, why))?;
    }
    set_names(plan)?;
    if has_own_dev {
        make_devices(plan, &root)?;
    }
    for path in list_of(plan.linux.readonly_paths()) {
        cover(&root, path, false)?;
    }
    for path in list_of(plan.linux.masked_paths()) {
        cover(&root, path, true)?;
    }
    Ok((root, is_dev_read_only))
}

fn named(m: &Mount, Error(_, why): Error) -> Error {
    error(format!("mounts: {:?}: {why}", m.destination()))
}

fn attach_root(plan: &Plan) -> Result<OwnedFd> {
    let rootfs = plan.home.text("rootfs");
    let flags = MsFlags::MS_REC | nodev(plan, "a", -1, -1);
    let root = match clone_tree(AT_FDCWD, rootfs, flags) {
        Ok(root) => root,
        Err(Error(_, why)) => return fail(format!("root.path: {why}")),
    };
    propagate("/", SLAVE)?;
    place(&root, rootfs)?;
    let wanted = plan.linux.rootfs_propagation().as_deref().and_then(flag).unwrap_or(PRIVATE);
    let is_private = wanted.contains(MsFlags::MS_PRIVATE);
    propagate(rootfs, if is_private { PRIVATE } else { SLAVE })?;
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
        set_sysctl(plan, "kernel.domainname", name)?;
    }
    // SAFETY: without a name, KEYCTL_JOIN_SESSION_KEYRING (1) takes integers only.
    unsafe { libc::syscall(libc::SYS_keyctl, 1, 0) }; // the caller's session keyring stays his
    Ok(())
}

fn set_sysctl(plan: &Plan, key: &str, value: &str) -> Result<()> {
    let path = key.replace('.', "/");
    let is_own = |(flag, start): &(c_int, &str)| plan.has(*flag) && path.starts_with(start);
    if !SYSCTLS.iter().any(is_own) {
        return fail(format!("linux.sysctl.{key}: not in a namespace of its own"));
    }
    echo(value, format!("/proc/sys/{path}"))
}

fn make_read_only(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let now = attempt("statvfs", statvfs::statvfs(path))?.flags().bits();
    let kept = MsFlags::from_bits_retain(now & 0xf); // nosuid and so on
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | kept;
    step!(mount(NONE, path, NONE, flags, NONE), "mount -o remount,bind,ro {}", path.display())
}

/// Masked paths are covered by something empty, read-only ones by themselves.
fn cover(root: &OwnedFd, path: &str, is_masked: bool) -> Result<()> {
    let target = match inside::open(root, Path::new(path)) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        found => attempt(path, found)?,
    };
    let at = by_number(&target);
    let tree = match (is_masked, is_dir(&target)) {
        (true, true) => new_tree("tmpfs", "ro,nosuid,nodev,noexec,size=4k")?,
        (true, false) => clone_tree(AT_FDCWD, "/dev/null", DEVICE)?,
        (false, _) => clone_tree(AT_FDCWD, &at, MsFlags::MS_REC | MsFlags::MS_RDONLY)?,
    };
    place(&tree, at)
}

fn change_root(plan: &Plan, root: &OwnedFd) -> Result<()> {
    step!(unistd::fchdir(root), "cd {}", plan.home.text("rootfs"))?;
    step!(unistd::pivot_root(".", "."), "pivot_root . .")?;
    step!(umount2(".", MntFlags::MNT_DETACH), "umount --lazy .")?;
    step!(unistd::chdir("/"), "cd /")?;
    if let Some(how) = plan.linux.rootfs_propagation().as_deref().and_then(flag) {
        propagate("/", how)?;
    }
    if plan.home.state["config"]["root"]["readonly"] == true {
        make_read_only("/")?;
    }
    Ok(())
}
