//! The root file system. Everything is mounted below it while the host can still be seen, as hooks
//! expect it; but each target is opened first, by a path that cannot leave the root.

use super::devices::make_devices;
use super::mount_options::{Change, Options, Reach, propagation};
use super::mounts::{
    PRIVATE, SLAVE, attach, bind, close_devices, open_source, propagate, set_attributes,
};
use super::namespaces::MOUNT;
use super::plan::Plan;
use super::state::Home;
use super::words::{tell, wait_for_word};
use super::{fail, hooks, inside, list_of, names};
use crate::cgroups::field;
use crate::mounts::{self, DEVICE, new_mount};
use crate::paths::is_dir;
use crate::step::{Error, Result, attempt, error, step};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::unistd;
use oci_spec::runtime::Mount;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Makes the root, and goes there.
pub fn enter(plan: &Plan, parent: &UnixStream) -> Result<()> {
    let (root, is_dev_read_only) = build_root(plan)?;
    if plan.home.has_hooks() || plan.has_net_devices() {
        tell(parent, "the root is made")?;
        wait_for_word(parent)?;
    }
    names::set_names(plan)?; // after hooks that make its network
    hooks::run(&plan.home, "createContainer", "creating", &[])?;
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
    let is_own = plan.namespaces.new & MOUNT != 0;
    if is_own {
        let host = attempt("/", inside::directory("/"))?;
        propagate(&host, SLAVE)?;
    }
    let wanted = plan.linux.rootfs_propagation().as_deref().and_then(propagation);
    let is_private = wanted.is_none_or(|how| how.contains(MsFlags::MS_PRIVATE));
    propagate(root, if is_private || !is_own { PRIVATE } else { SLAVE })?;
    let target = match inside::directory(rootfs) {
        // Where the container's root can't go, or where there is no such path.
        Err(Errno::EACCES) if is_own => inside::directory("/"),
        Err(_) if plan.has(MOUNT) && !is_own => inside::directory("/"),
        opened => opened,
    };
    let target = attempt(rootfs, target)?;
    step!(sys::move_mount(root, &target, ""), "mount --move (it) {rootfs}")?;
    close_devices(plan, root)?;
    Ok(root)
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
    if plan.namespaces.new & MOUNT != 0 {
        step!(unistd::pivot_root(".", "."), "pivot_root . .")?;
        step!(umount2(".", MntFlags::MNT_DETACH), "umount --lazy .")?;
    } else {
        step!(unistd::chroot("."), "chroot .")?; // the old root is other people's too
    }
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

/// Without a mount namespace of its own the container's mounts are the caller's: this tells by the
/// root's number whether they are there.
pub fn mount_number(path: &str) -> Option<String> {
    let root = inside::directory(path).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", root.as_raw_fd())).ok()?;
    Some(field(&info, "mnt_id").concat())
}

/// The end of those mounts.
pub fn unmount(home: &Home) {
    let before = home.text("mountBefore");
    let rootfs = home.text("rootfs");
    if !before.is_empty() && mount_number(rootfs).is_some_and(|now| now != before) {
        let _ = step!(umount2(rootfs, MntFlags::MNT_DETACH), "umount --lazy {rootfs}");
    }
}
