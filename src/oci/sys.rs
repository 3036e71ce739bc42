//! System calls that the walk does not need, each as a safe function of its name.

use libc::{c_int, c_long, c_uint};
use nix::errno::Errno;
use std::ffi::CString;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn new_fd(returned: c_long) -> Result<OwnedFd, Errno> {
    let number = Errno::result(returned)?;
    // SAFETY: the kernel has just made it, and only our caller will know of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as c_int) })
}

/// open_tree(2) with OPEN_TREE_CLONE: a bind mount that is attached nowhere. `flags` may be
/// AT_RECURSIVE, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW.
pub fn open_tree(dir: impl AsFd, path: &Path, flags: c_int) -> Result<OwnedFd, Errno> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let fd = dir.as_fd().as_raw_fd();
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | flags as c_uint;
    // SAFETY: the string outlives the call.
    new_fd(unsafe { libc::syscall(libc::SYS_open_tree, fd, name.as_ptr(), flags) })
}

/// mount_setattr(2) of a mount that is open: its attributes (MOUNT_ATTR_*) and how it propagates
/// (MS_PRIVATE and the like, or 0). `flags` may be AT_RECURSIVE.
pub fn mount_setattr(
    mount: impl AsFd,
    flags: c_int,
    set: u64,
    clear: u64,
    propagation: u64,
) -> Result<(), Errno> {
    setattr(mount.as_fd(), flags, [set, clear, propagation, 0])
}

/// mount_setattr(2) with MOUNT_ATTR_IDMAP: the owners of files look as in this user namespace.
pub fn mount_setattr_idmap(mount: impl AsFd, flags: c_int, users: impl AsFd) -> Result<(), Errno> {
    let users = users.as_fd().as_raw_fd() as u64;
    setattr(mount.as_fd(), flags, [libc::MOUNT_ATTR_IDMAP, 0, 0, users])
}

/// `attributes` is struct mount_attr.
fn setattr(mount: BorrowedFd, flags: c_int, attributes: [u64; 4]) -> Result<(), Errno> {
    let (fd, flags) = (mount.as_raw_fd(), libc::AT_EMPTY_PATH | flags);
    let (path, size) = (c"".as_ptr(), mem::size_of_val(&attributes));
    // SAFETY: the path and the attributes outlive the call.
    let call = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, path, flags, attributes.as_ptr(), size)
    };
    Errno::result(call).map(drop)
}

/// move_mount(2): attaches a mount on what is open as `target`.
pub fn move_mount(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let (from, to) = (mount.as_fd().as_raw_fd(), target.as_fd().as_raw_fd());
    let empty = c"".as_ptr();
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: the empty string outlives the call.
    let moved = unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, empty, flags) };
    Errno::result(moved).map(drop)
}

/// personality(2): the process's execution domain, such as PER_LINUX32.
pub fn personality(domain: c_int) -> Result<(), Errno> {
    // SAFETY: integers only.
    Errno::result(unsafe { libc::personality(domain as libc::c_ulong) }).map(drop)
}

/// setrlimit(2) by number: nix has a limit's name only.
pub fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let value = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit.
    Errno::result(unsafe { libc::setrlimit(resource, &value) }).map(drop)
}

/// sched_setattr(2) of this process. `attributes` is struct sched_attr with 56 bytes, but for its
/// first field, the size.
pub fn sched_setattr(attributes: &libc::sched_attr, clamps: [u32; 2]) -> Result<(), Errno> {
    #[repr(C)]
    struct Attributes {
        first: libc::sched_attr,
        clamps: [u32; 2], // utilization: at least, at most
    }
    let mut all = Attributes { first: *attributes, clamps };
    all.first.size = mem::size_of::<Attributes>() as u32;
    // SAFETY: the kernel reads `size` bytes.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const all, 0) }).map(drop)
}

/// ioprio_set(2) of this process.
pub fn ioprio_set(priority: c_int) -> Result<(), Errno> {
    const WHO_PROCESS: c_int = 1;
    // SAFETY: integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) })
        .map(drop)
}

/// set_mempolicy(2): a mode with its flags, and a bit for each node.
pub fn set_mempolicy(mode: c_int, nodes: &[u64]) -> Result<(), Errno> {
    let (mask, bits) = (nodes.as_ptr(), nodes.len() * 64 + 1); // the kernel counts one less
    let (mask, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (mask, bits) };
    // SAFETY: the kernel reads as many bits as the mask has.
    Errno::result(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}
