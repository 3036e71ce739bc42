//! The list of mounts: their sources, and how they get into the root.

use super::devices::nodev;
use super::idmap;
use super::mount_options::{Change, Options, Reach};
use super::namespaces::{CGROUP, NETWORK, USER};
use super::plan::Plan;
use super::{calls, copy_up, fail, inside};
use crate::caller::is_rootless;
use crate::paths::is_dir;
use crate::step::{Result, attempt, say_step, step};
use crate::sys;
use libc::{AT_RECURSIVE, c_int};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::{MsFlags, mount};
use nix::sys::stat;
use nix::unistd;
use oci_spec::runtime::Mount;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub const NONE: Option<&str> = None;
pub const PRIVATE: MsFlags = MsFlags::MS_PRIVATE.union(MsFlags::MS_REC);
pub const SLAVE: MsFlags = MsFlags::MS_SLAVE.union(MsFlags::MS_REC);

/// The file by which SELinux is switched on and off.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// What to bind, if it is a bind: made while mounts of the host still spread to us, and by whoever
/// may look at its path.
pub fn open_source(plan: &Plan, m: &Mount) -> Result<Option<OwnedFd>> {
    let options = Options::of(m)?;
    if options.remounts {
        return Ok(None);
    }
    let Some((path, reach)) = source(plan, m, &options)? else { return Ok(None) };
    let tree = bind(&path, reach)?;
    if options.idmap != Reach::No || m.uid_mappings().is_some() {
        map_owners(plan, m, &tree, &options)?;
    }
    Ok(Some(tree))
}

/// A bind mount that is attached nowhere.
pub fn bind(path: &Path, reach: Reach) -> Result<OwnedFd> {
    let flags = depth(reach);
    step!(sys::open_tree(AT_FDCWD, path, flags), "mount --bind {} (detached)", path.display())
}

fn depth(reach: Reach) -> c_int {
    if reach == Reach::All { AT_RECURSIVE } else { 0 }
}

fn source(plan: &Plan, m: &Mount, options: &Options) -> Result<Option<(PathBuf, Reach)>> {
    if options.bind != Reach::No {
        let Some(source) = m.source() else { return fail("source: expected") };
        return Ok(Some((Path::new(plan.home.text("bundle")).join(source), options.bind)));
    }
    let new = plan.namespaces.new;
    match m.typ().as_deref() {
        // Without a cgroup namespace a new mount would show all of the host's.
        Some("cgroup" | "cgroup2") if new & CGROUP == 0 => {
            Ok(plan.home.cgroup().ok().map(|dir| (dir, Reach::Top)))
        }
        // It shows a network, and only its owner may mount one.
        Some("sysfs") if is_rootless() && new & NETWORK == 0 => {
            Ok(Some(("/sys".into(), Reach::All)))
        }
        _ => Ok(None),
    }
}

/// By the mount's own mappings, else by those of the container's user namespace.
fn map_owners(plan: &Plan, m: &Mount, tree: &OwnedFd, options: &Options) -> Result<()> {
    let users = if let Some([uids, gids]) = &options.mappings {
        idmap::user_namespace(uids, gids)?
    } else if m.uid_mappings().is_some() || m.gid_mappings().is_some() {
        idmap::user_namespace(m.uid_mappings(), m.gid_mappings())?
    } else if plan.namespaces.new & USER != 0 {
        idmap::user_namespace(plan.linux.uid_mappings(), plan.linux.gid_mappings())?
    } else {
        return fail("idmap: expected uidMappings and gidMappings, or a new user namespace");
    };
    let flags = depth(options.idmap);
    step!(calls::mount_setattr_idmap(tree, flags, users), "mount_setattr MOUNT_ATTR_IDMAP")
}

/// Brings a mount into the root.
pub fn attach(plan: &Plan, root: &OwnedFd, m: &Mount, tree: Option<&OwnedFd>) -> Result<()> {
    let mut options = Options::of(m)?;
    let path = m.destination();
    if path == Path::new("/dev") {
        options.stay_writable(); // until all is in it, see root.rs
    }
    let fstype = m.typ().as_deref().unwrap_or("none");
    if (fstype == "proc" || fstype == "sysfs") && inside::is_link(root, path) {
        return fail(format!("{fstype} must be mounted on ordinary directory"));
    }
    if options.remounts {
        return remount(root, m, &options);
    }
    let target = attempt("open", inside::make(root, path, tree.is_none_or(is_dir)))?;
    match tree {
        Some(tree) => {
            step!(sys::move_mount(tree, &target, ""), "mount --move (it) {}", path.display())?;
        }
        None => mount_new(plan, m, &target, &options)?,
    }
    // Not what lies below, but what is there now.
    let top = attempt("open", inside::open(root, path))?;
    if options.copies_up {
        attempt("tmpcopyup", copy_up::copy(&target, &top))?;
    }
    if tree.is_some() {
        set_attributes(&top, 0, options.top)?;
        close_devices(plan, &top)?;
        propagate_first(&top, &options.spreads)?;
    }
    set_attributes(&top, AT_RECURSIVE, options.all)?;
    for how in options.spreads {
        propagate(&top, how)?;
    }
    Ok(())
}

pub fn set_attributes(top: &OwnedFd, flags: c_int, change: Change) -> Result<()> {
    if change.is_none() {
        return Ok(());
    }
    let Change { set, clear } = change;
    let call = || sys::mount_setattr(top, flags, set, clear, 0);
    step!(call(), "mount_setattr (set {set:#x}, clear {clear:#x})")
}

/// Where the rules don't open all devices, a volume opens none.
pub fn close_devices(plan: &Plan, top: &OwnedFd) -> Result<()> {
    set_attributes(top, AT_RECURSIVE, Change { set: nodev(plan, "a", -1, -1), clear: 0 })
}

/// A clone of the host's mounts spreads as they do. If the words are about the top only, those
/// below must not bring anything to the host either, unless it is to be shared.
fn propagate_first(top: &OwnedFd, words: &[MsFlags]) -> Result<()> {
    if words.is_empty() {
        return propagate(top, PRIVATE);
    }
    if words[0].intersects(MsFlags::MS_REC | MsFlags::MS_SHARED) {
        return Ok(());
    }
    propagate(top, SLAVE)
}

pub fn propagate(top: &OwnedFd, how: MsFlags) -> Result<()> {
    let flags = if how.contains(MsFlags::MS_REC) { AT_RECURSIVE } else { 0 };
    let how = how - MsFlags::MS_REC;
    step!(sys::mount_setattr(top, flags, 0, 0, how.bits()), "mount --make-... ({how:?})")
}

fn remount(root: &OwnedFd, m: &Mount, options: &Options) -> Result<()> {
    let top = attempt("open", inside::open(root, m.destination()))?;
    if options.bind == Reach::No {
        let (flags, data) = (options.flags() | MsFlags::MS_REMOUNT, options.data.join(","));
        attempt("fchdir", unistd::fchdir(&top))?;
        let call = || mount(NONE, ".", NONE, flags, Some(data.as_str()));
        return step!(call(), "mount -o remount,{data} {}", m.destination().display());
    }
    set_attributes(&top, 0, options.top)?;
    set_attributes(&top, AT_RECURSIVE, options.all)
}

fn mount_new(plan: &Plan, m: &Mount, target: &OwnedFd, options: &Options) -> Result<()> {
    let mut flags = options.flags();
    let mut data = options.data.clone();
    let mut fstype = m.typ().as_deref().unwrap_or("none");
    match fstype {
        "cgroup" | "cgroup2" => {
            fstype = "cgroup2";
            data.clear();
        }
        "devpts" => {}
        _ if nodev(plan, "a", -1, -1) != 0 => flags |= MsFlags::MS_NODEV,
        _ => {}
    }
    if fstype == "tmpfs" && !data.iter().any(|word| word.starts_with("mode=")) {
        let mode = attempt("fstat", stat::fstat(target))?.st_mode & 0o7777;
        data.push(format!("mode={mode:o}"));
    }
    if let Some(label) = plan.linux.mount_label().as_ref().filter(|label| !label.is_empty()) {
        if !Path::new(SELINUX).exists() {
            return fail("linux.mountLabel: this kernel has no SELinux");
        }
        data.push(format!("context=\"{label}\""));
    }
    let source = m.source().as_deref().unwrap_or(Path::new(fstype));
    let data = data.join(",");
    attempt("fchdir", unistd::fchdir(target))?; // by no path that could be steered
    let call = || mount(Some(source), ".", Some(fstype), flags, Some(data.as_str()));
    say_step(format_args!("mount -t {fstype} -o {data} {}", source.display()));
    match call() {
        Err(Errno::EBUSY | Errno::EPERM) if fstype == "cgroup2" => {
            bind_cgroup(plan, target, options)
        }
        mounted => attempt(format_args!("mount -t {fstype} -o {data}"), mounted),
    }
}

/// Where no cgroup file system may be mounted, as in a user namespace, the host's shows the same.
fn bind_cgroup(plan: &Plan, target: &OwnedFd, options: &Options) -> Result<()> {
    let (path, reach) = match plan.home.cgroup() {
        Ok(dir) => (dir, Reach::Top),
        Err(_) => ("/sys/fs/cgroup".into(), Reach::All),
    };
    let tree = bind(&path, reach)?;
    set_attributes(&tree, depth(reach), options.top)?;
    step!(sys::move_mount(&tree, target, ""), "mount --move (it)")
}
