//! The system calls of terminals, and of those who attend them.

use super::new_fd;
use libc::{c_int, c_uint};
use nix::errno::Errno;
use nix::sys::socket::{self, ControlMessageOwned, MsgFlags};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::{mem, ptr};

/// ioctl_tty(2) TIOCSPTLCK: lets the slave of a new pair be opened.
pub fn unlock_pty(master: impl AsFd) -> Result<(), Errno> {
    let unlocked: c_int = 0;
    // SAFETY: the kernel reads one integer.
    let set = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK, &unlocked) };
    Errno::result(set).map(drop)
}

/// ioctl_tty(2) TIOCGPTPEER: opens the slave of a pair, whatever its name leads to by now.
pub fn open_pty_peer(master: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: integers only.
    let peer = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    new_fd(peer.into())
}

/// ioctl_tty(2) TIOCGWINSZ: how many rows and columns a terminal has.
pub fn window_size(terminal: impl AsFd) -> Result<libc::winsize, Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize.
    let got = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    Errno::result(got).map(|_| size)
}

/// ioctl_tty(2) TIOCSWINSZ. The terminal's foreground processes get SIGWINCH if it is another size.
pub fn set_window_size(terminal: impl AsFd, size: &libc::winsize) -> Result<(), Errno> {
    // SAFETY: the kernel reads one winsize.
    let set = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, size) };
    Errno::result(set).map(drop)
}

/// ioctl_tty(2) TIOCSCTTY: makes it the controlling terminal of the session that we lead.
pub fn set_controlling_terminal(terminal: impl AsFd) -> Result<(), Errno> {
    // SAFETY: integers only.
    let set = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(set).map(drop)
}

/// ioctl(2) TIOCGDEV: the number of a terminal, which is the same by whatever name it was opened.
pub fn terminal_number(terminal: impl AsFd) -> Result<c_uint, Errno> {
    const TIOCGDEV: libc::Ioctl = 0x8004_5432u32 as libc::Ioctl; // libc does not have the name
    let mut number: c_uint = 0;
    // SAFETY: the kernel writes one integer.
    let got = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), TIOCGDEV, &mut number) };
    Errno::result(got).map(|_| number)
}

/// recvmsg(2) with SCM_RIGHTS, unix(7): some bytes, and the descriptors that came with them.
pub fn receive_fds(socket: impl AsFd, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = nix::cmsg_space!([c_int; 4]);
    let mut parts = [IoSliceMut::new(bytes)];
    let (number, flags) = (socket.as_fd().as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
    let message = socket::recvmsg::<()>(number, &mut parts, Some(&mut space), flags)?;
    let mut received = vec![];
    for part in message.cmsgs()? {
        let ControlMessageOwned::ScmRights(numbers) = part else { continue };
        for number in numbers {
            // SAFETY: the kernel has just made it, and only our caller will know of it.
            received.push(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok((message.bytes, received))
}

/// sigprocmask(2), signalfd(2): holds these signals back from their actions, and returns what they
/// are read from instead. (nix's knows no real-time signals.)
pub fn signalfd(numbers: &[c_int]) -> Result<OwnedFd, Errno> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: `set` is plain memory that sigemptyset fills, and it outlives the calls.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for number in numbers {
            libc::sigaddset(&mut set, *number);
        }
        Errno::result(libc::sigprocmask(libc::SIG_BLOCK, &set, ptr::null_mut()))?;
        new_fd(libc::signalfd(-1, &set, flags).into())
    }
}

/// sigprocmask(2): holds one signal back, or lets it through again.
pub fn block_signal(number: c_int, is_blocked: bool) -> Result<(), Errno> {
    let how = if is_blocked { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // SAFETY: as in `signalfd`.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, number);
        Errno::result(libc::sigprocmask(how, &set, ptr::null_mut())).map(drop)
    }
}
