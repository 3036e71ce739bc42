//! The system calls that neither std nor nix has, each as a safe function of the call's name, which
//! takes and returns descriptors with owners. All `unsafe` of husk is here and in sys/.

pub mod bpf;
#[cfg(feature = "oci")]
pub mod calls;
pub mod tty;

use crate::paths::c_string;
use libc::{c_int, c_long, c_uint};
use nix::errno::Errno;
use std::ffi::CString;
use std::fs::File;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;

/// What a system call has returned: an error, or a descriptor that is nobody else's yet.
fn new_fd(returned: c_long) -> Result<OwnedFd, Errno> {
    let number = Errno::result(returned)?;
    // SAFETY: the kernel has just made it, and only our caller will know of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as c_int) })
}

// ---- processes ----------------------------------------------------------------------------------

/// clone3(2) without a stack for the child: it goes on here in a copy of our memory, as after
/// fork(2). Returns twice: in the parent the child's PID, in the child 0. With a cgroup, that of an
/// open directory, the child is born inside it.
pub fn clone3(namespaces: c_int, cgroup: Option<BorrowedFd>) -> Result<c_int, Errno> {
    // libc's CLONE_INTO_CGROUP is a 32-bit integer, too small for it.
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: all of struct clone_args are integers; 0 means "not used".
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = namespaces as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(dir) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = dir.as_raw_fd() as u64;
    }
    // SAFETY: `args` outlives the call. husk has no threads that could hold a lock in the copy.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, mem::size_of_val(&args)) };
    Errno::result(pid).map(|pid| pid as c_int)
}

/// fork(2): in the child 0. (A command's filter refuses clone3.)
pub fn fork() -> Result<c_int, Errno> {
    // SAFETY: husk has no threads that could hold a lock in the copy.
    Errno::result(unsafe { libc::fork() })
}

/// pidfd_open(2): a descriptor of a process, whose number may be another's later.
pub fn pidfd_open(pid: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only.
    new_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// pidfd_send_signal(2), as kill(2).
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: c_int) -> Result<(), Errno> {
    let (fd, none) = (pidfd.as_fd().as_raw_fd(), ptr::null::<libc::siginfo_t>());
    // SAFETY: without a siginfo the kernel fills in what kill(2) would.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) };
    Errno::result(sent).map(drop)
}

/// waitpid(2) of one child, or of any (-1): which one has ended, and how. None: with WNOHANG among
/// the flags, if none has. (nix's knows no real-time signals.)
pub fn waitpid(pid: c_int, flags: c_int) -> Result<Option<(c_int, ExitStatus)>, Errno> {
    let mut status = 0;
    // SAFETY: the kernel writes one integer.
    let pid = Errno::result(unsafe { libc::waitpid(pid, &mut status, flags) })?;
    Ok((pid != 0).then(|| (pid, ExitStatus::from_raw(status))))
}

/// sigwaitinfo(2): the next of these signals, which are blocked.
pub fn sigwaitinfo(signals: &libc::sigset_t) -> Result<c_int, Errno> {
    // SAFETY: the kernel reads one set; nobody wants to know more.
    Errno::result(unsafe { libc::sigwaitinfo(signals, ptr::null_mut()) })
}

/// Writes a text over the command line and the environment of this process, as others see them in
/// /proc/PID/cmdline and /proc/PID/environ, and NULs behind it.
pub fn overwrite_arguments(text: &[u8]) {
    unsafe extern "C" {
        // Of the C library: argv[0], where there is one.
        static program_invocation_name: *mut u8;
    }
    if std::env::args_os().len() == 0 {
        return;
    }
    // SAFETY: execve(2) put these strings on our stack, one after the other: the command line, the
    // environment, and the name of the program's file, getauxval(3). Nobody in this process reads
    // them again. (std and libc have pointers to them: what they find are strings.)
    unsafe {
        let start = program_invocation_name;
        let end = libc::getauxval(libc::AT_EXECFN) as usize;
        let length = end.saturating_sub(start as usize);
        let text = &text[..text.len().min(length.saturating_sub(1))];
        ptr::write_bytes(start, 0, length);
        ptr::copy_nonoverlapping(text.as_ptr(), start, text.len());
    }
}

/// Gives all signals their default actions, signal(7): what husk's caller ignores, and SIGPIPE,
/// which Rust ignores, would else stay ignored after execve(2).
pub fn reset_signals() {
    for number in 1..=64 {
        // SAFETY: SIG_DFL installs no code of ours.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// kill(2) by number: nix knows no real-time signals.
pub fn kill(pid: c_int, signal: c_int) -> Result<(), Errno> {
    // SAFETY: integers only.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

// ---- descriptors --------------------------------------------------------------------------------

/// dup2(2): makes `number`, one of 0, 1 and 2, mean the same as `file`.
pub fn dup2(file: impl AsFd, number: c_int) -> Result<(), Errno> {
    // SAFETY: 0, 1 and 2 have no owner in this process, so nobody's descriptor is closed.
    Errno::result(unsafe { libc::dup2(file.as_fd().as_raw_fd(), number) }).map(drop)
}

/// One of 0, 1 and 2.
pub fn stdio(number: c_int) -> BorrowedFd<'static> {
    // SAFETY: nobody in this process owns or closes these.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// close_range(2) of all descriptors from `first` on, but for some. Whoever owned one of them must
/// not be dropped after this: the process is about to end or to be another program.
pub fn close_others(first: c_uint, kept: &[BorrowedFd]) {
    let mut kept: Vec<c_uint> = kept.iter().map(|fd| fd.as_raw_fd() as c_uint).collect();
    kept.retain(|number| *number >= first);
    kept.sort_unstable();
    kept.push(c_uint::MAX);
    let mut first = first;
    for next in kept {
        if first < next {
            // SAFETY: integers only; see above for those who owned them.
            unsafe { libc::syscall(libc::SYS_close_range, first, next - 1, 0) };
        }
        first = next.saturating_add(1);
    }
}

/// fsetxattr(2): an attribute of a file, xattr(7).
pub fn fsetxattr(file: impl AsFd, name: &str, value: &[u8]) -> Result<(), Errno> {
    let (fd, name, len) = (file.as_fd().as_raw_fd(), c_string(name), value.len());
    // SAFETY: name and value outlive the call, and `len` is the value's length.
    let set = unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), len, 0) };
    Errno::result(set).map(drop)
}

/// fgetxattr(2): its value. ENODATA: there is none.
pub fn fgetxattr(file: impl AsFd, name: &str) -> Result<Vec<u8>, Errno> {
    let (fd, name) = (file.as_fd().as_raw_fd(), c_string(name));
    // SAFETY: with a length of 0 the kernel writes nothing, and says how long the value is.
    let len = unsafe { libc::fgetxattr(fd, name.as_ptr(), ptr::null_mut(), 0) };
    let mut value = vec![0; Errno::result(len)? as usize];
    let (start, len) = (value.as_mut_ptr(), value.len());
    // SAFETY: the kernel writes `len` bytes at most.
    let got = unsafe { libc::fgetxattr(fd, name.as_ptr(), start.cast(), len) };
    value.truncate(Errno::result(got)? as usize);
    Ok(value)
}

/// What is in the way of a lock: F_RDLCK or F_WRLCK.
pub type OtherLock = c_int;

/// fcntl(2) F_OFD_SETLK: locks or unlocks (F_RDLCK, F_WRLCK, F_UNLCK) one byte of a file, as long
/// as this descriptor of it is open.
pub fn lock_byte(file: &File, kind: c_int, byte: i64) -> Result<(), OtherLock> {
    // SAFETY: all of struct flock are integers.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_start = byte;
    lock.l_len = 1;
    // SAFETY: the kernel reads one flock.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } == 0 {
        return Ok(());
    }
    // SAFETY: the kernel writes one flock.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    Err(lock.l_type.into())
}

// ---- mounts -------------------------------------------------------------------------------------

/// fsopen(2), fsconfig(2), fsmount(2): a new file system that is attached nowhere. `options` are
/// its own, as words and as pairs; `attributes` are the mount's (MOUNT_ATTR_*, mount_setattr(2)).
pub fn fsmount(
    fstype: &str,
    options: &[(&str, Option<&str>)],
    attributes: u64,
) -> Result<OwnedFd, Errno> {
    let name = c_string(fstype);
    // SAFETY: the string outlives the call.
    let returned = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) };
    let fs = new_fd(returned)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig(&fs, libc::FSCONFIG_SET_STRING, key, Some(value))?,
            None => fsconfig(&fs, libc::FSCONFIG_SET_FLAG, key, None)?,
        }
    }
    fsconfig(&fs, libc::FSCONFIG_CMD_CREATE, "", None)?;
    let fd = fs.as_raw_fd();
    // SAFETY: integers only.
    new_fd(unsafe { libc::syscall(libc::SYS_fsmount, fd, libc::FSMOUNT_CLOEXEC, attributes) })
}

fn fsconfig(fs: &OwnedFd, command: c_uint, key: &str, value: Option<&str>) -> Result<(), Errno> {
    let key = (!key.is_empty()).then(|| c_string(key));
    let value = value.map(c_string);
    let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    let (key, value) = (pointer(&key), pointer(&value));
    // SAFETY: both strings outlive the call.
    let set = unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0) };
    Errno::result(set).map(drop)
}

/// open_tree(2) with OPEN_TREE_CLONE: a bind mount that is attached nowhere. `flags` may be
/// AT_RECURSIVE, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW.
pub fn open_tree(dir: impl AsFd, path: &Path, flags: c_int) -> Result<OwnedFd, Errno> {
    let (fd, name) = (dir.as_fd().as_raw_fd(), c_string(path));
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
    // struct mount_attr; the last one is a user namespace.
    let attributes = [set, clear, propagation, 0];
    let (fd, flags) = (mount.as_fd().as_raw_fd(), libc::AT_EMPTY_PATH | flags);
    let (path, size) = (c"".as_ptr(), mem::size_of_val(&attributes));
    // SAFETY: the path and the attributes outlive the call.
    let call = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, path, flags, attributes.as_ptr(), size)
    };
    Errno::result(call).map(drop)
}

/// move_mount(2): attaches a mount at a path below `dir`, which is looked up like any other, or on
/// what is open as `dir` itself if the path is empty.
pub fn move_mount(mount: impl AsFd, dir: impl AsFd, path: &str) -> Result<(), Errno> {
    let (from, to) = (mount.as_fd().as_raw_fd(), dir.as_fd().as_raw_fd());
    let (empty, path) = (c"".as_ptr(), c_string(path));
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: the strings outlive the call.
    let moved =
        unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, path.as_ptr(), flags) };
    Errno::result(moved).map(drop)
}

// ---- rights -------------------------------------------------------------------------------------

/// prctl(2) PR_CAPBSET_READ: is this capability in the bounding set? EINVAL: there is none of that
/// number.
pub fn capbset_read(number: u32) -> Result<bool, Errno> {
    // SAFETY: integers only.
    let bit = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
    Errno::result(bit).map(|bit| bit == 1)
}

/// prctl(2) PR_CAPBSET_DROP: takes it away, from all programs that this process will ever be.
pub fn capbset_drop(number: u32) -> Result<(), Errno> {
    // SAFETY: integers only.
    Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }).map(drop)
}

/// capset(2): makes these capabilities effective and permitted, and none inheritable (nor, with
/// that, ambient).
pub fn capset(capabilities: u64) -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    let (low, high) = (capabilities as u32, (capabilities >> 32) as u32);
    let header = [VERSION_3, 0]; // 0: this thread
    let sets = [low, low, 0, high, high, 0]; // effective, permitted, inheritable; twice 32 bits
    // SAFETY: both arrays are laid out as version 3 says, and outlive the call.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    Errno::result(set).map(drop)
}

/// setrlimit(2) of one of RLIMIT_*.
pub fn setrlimit(resource: c_uint, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit.
    Errno::result(unsafe { libc::setrlimit(resource, &limit) }).map(drop)
}

/// seccomp(2) SECCOMP_SET_MODE_FILTER: from now on the kernel runs this program at every system
/// call of this process.
pub fn seccomp(filter: &[libc::sock_filter]) -> Result<(), Errno> {
    let len = filter.len().try_into().map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel reads `len` instructions of the filter, which outlives the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &program) }).map(drop)
}
