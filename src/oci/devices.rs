//! Device nodes, and which of them are open.

use super::plan::Plan;
use super::{fail, inside, list_of, log};
use crate::mounts::{DEVICE, DEVICES, LINKS, bind};
use crate::step::{Result, attempt, cat, step};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{self, Mode, SFlag};
use nix::unistd::{self, Gid, Uid};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Instead of a device cgroup: for what its rules close, and for mounts unless they open all.
pub fn nodev(plan: &Plan, kind: &str, major: i64, minor: i64) -> u64 {
    if plan.is_guarded {
        return 0;
    }
    let Some(resources) = plan.linux.resources() else { return closed(kind == "a") };
    let fits = |rule: &&LinuxDeviceCgroup| is_about(rule, kind, major, minor);
    match list_of(resources.devices()).iter().rfind(fits) {
        Some(rule) => closed(!rule.allow()),
        None => closed(kind == "a"),
    }
}

fn closed(is_so: bool) -> u64 {
    if is_so { libc::MOUNT_ATTR_NODEV } else { 0 }
}

fn is_about(rule: &LinuxDeviceCgroup, kind: &str, major: i64, minor: i64) -> bool {
    let fits = |rule: Option<i64>, own| rule.is_none_or(|number| number < 0 || number == own);
    if rule.access().as_ref().is_some_and(|access| !access.contains(['r', 'w'])) {
        return false;
    }
    let its_kind = rule.typ().unwrap_or_default();
    let is_kind = its_kind == LinuxDeviceType::A || its_kind.as_str() == kind;
    is_kind && fits(rule.major(), major) && fits(rule.minor(), minor)
}

/// The nodes that every container has, those of config.json, and the usual links.
pub fn make_devices(plan: &Plan, root: &OwnedFd) -> Result<()> {
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        bind_device(root, &path, &path, 0)?;
    }
    for device in list_of(plan.linux.devices()) {
        make_device(plan, root, device)?;
    }
    let dev = attempt("/dev", inside::make(root, Path::new("/dev"), true))?;
    for (name, to) in LINKS {
        match unistd::symlinkat(to, &dev, name) {
            Err(Errno::EEXIST) => {}
            made => step!(made, "ln -s {to} /dev/{name}")?,
        }
    }
    Ok(())
}

/// Read-only: a chmod or chown in the container must not reach the host's own node.
fn bind_device(root: &OwnedFd, path: &Path, node: &Path, nodev: u64) -> Result<()> {
    let target = attempt(path.display(), inside::make(root, path, false))?;
    let node = bind(AT_FDCWD, node, DEVICE | nodev, false)?;
    step!(sys::move_mount(&node, &target, ""), "mount --move (it) {}", path.display())
}

fn make_device(plan: &Plan, root: &OwnedFd, device: &LinuxDevice) -> Result<()> {
    let path = device.path();
    check_existing(root, device)?;
    if plan.is_guarded && make_own_node(root, device).is_ok() {
        return Ok(());
    }
    if let Some(node) = host_node(device) {
        let letter = if device.typ() == LinuxDeviceType::B { "b" } else { "c" };
        let nodev = nodev(plan, letter, device.major(), device.minor());
        return bind_device(root, path, &node, nodev);
    }
    log::warn(format!("linux.devices: {}: not on the host", path.display()));
    let above = inside::make(root, path.parent().unwrap_or(path), true);
    let above = attempt(path.display(), above)?;
    let name = path.file_name().unwrap_or_default();
    let mode = Mode::from_bits_retain(device.file_mode().unwrap_or(0o666) & 0o777);
    let number = stat::makedev(device.major() as u64, device.minor() as u64);
    match stat::mknodat(&above, name, kind(device), mode, number) {
        Err(Errno::EEXIST) => Ok(()),
        made => step!(made, "mknod {}", path.display()),
    }
}

/// "If a file already exists at path that does not match the requested device, the runtime MUST
/// generate an error." An empty one is the place of an earlier bind.
fn check_existing(root: &OwnedFd, device: &LinuxDevice) -> Result<()> {
    let path = device.path();
    let Ok(there) = inside::open(root, path) else { return Ok(()) };
    let its = attempt(path.display(), stat::fstat(&there))?;
    let is_place = its.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() && its.st_size == 0;
    let number = stat::makedev(device.major() as u64, device.minor() as u64);
    let is_kind = its.st_mode & SFlag::S_IFMT.bits() == kind(device).bits();
    let is_number = its.st_rdev == number || device.typ() == LinuxDeviceType::P;
    if is_place || (is_kind && is_number) {
        return Ok(());
    }
    fail(format!("linux.devices: {}: there is another file already", path.display()))
}

/// A node of the container's own, with the owner and mode that are asked for. It fails where there
/// is one, and in a user namespace.
fn make_own_node(root: &OwnedFd, device: &LinuxDevice) -> Result<(), Errno> {
    let path = device.path();
    let above = inside::make(root, path.parent().unwrap_or(path), true)?;
    let name = path.file_name().unwrap_or_default();
    let mode = Mode::from_bits_truncate(device.file_mode().unwrap_or(0o666) & 0o777);
    let number = stat::makedev(device.major() as u64, device.minor() as u64);
    stat::mknodat(&above, name, kind(device), mode, number)?;
    let (uid, gid) = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
    unistd::fchownat(&above, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn kind(device: &LinuxDevice) -> SFlag {
    match device.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        _ => SFlag::S_IFCHR,
    }
}

/// The host's own node of that number: by the same name, or by the kernel's.
fn host_node(device: &LinuxDevice) -> Option<PathBuf> {
    let dir = match device.typ() {
        LinuxDeviceType::B => "block",
        LinuxDeviceType::P => return None,
        _ => "char",
    };
    let (major, minor) = (device.major(), device.minor());
    let number = stat::makedev(major as u64, minor as u64);
    let is_it = |path: &Path| {
        let Ok(its) = stat::stat(path) else { return false };
        its.st_rdev == number && its.st_mode & SFlag::S_IFMT.bits() == kind(device).bits()
    };
    if is_it(device.path()) {
        return Some(device.path().clone());
    }
    let uevent = cat(format!("/sys/dev/{dir}/{major}:{minor}/uevent")).ok()?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let path = Path::new("/dev").join(name);
    is_it(&path).then_some(path)
}
