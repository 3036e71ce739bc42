//! System calls that the walk does not need, each as a safe function of its name, as in sys.rs.

use libc::{c_int, c_ulong, sock_filter};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::{mem, ptr};

/// mount_setattr(2) with MOUNT_ATTR_IDMAP: the owners of files look as in this user namespace.
/// `flags` may be AT_RECURSIVE.
pub fn mount_setattr_idmap(mount: impl AsFd, flags: c_int, users: impl AsFd) -> Result<(), Errno> {
    let users = users.as_fd().as_raw_fd() as u64;
    let attributes = [libc::MOUNT_ATTR_IDMAP, 0, 0, users]; // struct mount_attr
    let (fd, flags) = (mount.as_fd().as_raw_fd(), libc::AT_EMPTY_PATH | flags);
    let (path, size) = (c"".as_ptr(), mem::size_of_val(&attributes));
    // SAFETY: the path and the attributes outlive the call.
    let call = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, path, flags, attributes.as_ptr(), size)
    };
    Errno::result(call).map(drop)
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
    let (mask, bits) = if nodes.is_empty() { (ptr::null(), 0) } else { (mask, bits) };
    // SAFETY: the kernel reads as many bits as the mask has.
    Errno::result(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// keyctl(2) KEYCTL_JOIN_SESSION_KEYRING without a name: a new session keyring.
pub fn join_session_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: c_int = 1;
    let name = ptr::null::<libc::c_char>();
    // SAFETY: a number and a null pointer.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name) }).map(drop)
}

/// login_tty(3): a new session, whose terminal this is, as 0, 1 and 2.
pub fn login_tty(terminal: OwnedFd) -> Result<(), Errno> {
    // SAFETY: this ends in the descriptor's close, and nobody else has it any more.
    Errno::result(unsafe { libc::login_tty(terminal.into_raw_fd()) }).map(drop)
}

/// dup3(2): makes `to` mean the same as `from`, and closes what it meant.
pub fn dup3(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: whoever owns `to` still does, and owns something open.
    Errno::result(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }).map(drop)
}

/// seccomp(2) SECCOMP_SET_MODE_FILTER with flags (SECCOMP_FILTER_FLAG_*). With NEW_LISTENER it
/// returns the descriptor that calls are reported to.
pub fn seccomp(filter: &[sock_filter], flags: c_ulong) -> Result<Option<OwnedFd>, Errno> {
    let len = filter.len().try_into().map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel reads `len` instructions of the filter, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &program) };
    let number = Errno::result(done)?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel has just made it, and only our caller will know of it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(number as c_int) }))
}

/// ioctl_nsfs(2) NS_GET_NSTYPE: which kind of namespace it is, as a flag of clone(2).
pub fn ns_get_nstype(file: impl AsFd) -> Result<c_int, Errno> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: integers only.
    Errno::result(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), NS_GET_NSTYPE) })
}

/// clone3(2) as in sys.rs, but the new process is a sister of this one: CLONE_PARENT.
pub fn clone3_sister(namespaces: c_int) -> Result<c_int, Errno> {
    // SAFETY: all of struct clone_args are integers; 0 means "not used".
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = namespaces as u64 | libc::CLONE_PARENT as u64;
    // SAFETY: `args` outlives the call, and there are no other threads.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, mem::size_of_val(&args)) };
    Errno::result(pid).map(|pid| pid as c_int)
}
