//! Terminals: a pair of a container's own, pty(7), and the caller's, termios(3).

use crate::paths::by_number;
use crate::sys::tty;
use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::socket::{self, ControlMessage, MsgFlags};
use nix::sys::stat::Mode;
use nix::sys::statfs;
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What is written to one end is read from the other. The slave is a terminal for its readers and
/// writers; the master is for whoever shows it and types.
pub struct Pair {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

impl Pair {
    /// Makes a pair in this devpts, which is open as a directory: no path of the container's is
    /// followed. ENOTTY: it is another kind of file system.
    pub fn new(devpts: impl AsFd) -> Result<Pair, Errno> {
        let kind = statfs::fstatfs(&devpts)?.filesystem_type();
        if kind != statfs::DEVPTS_SUPER_MAGIC {
            return Err(Errno::ENOTTY);
        }
        // The master's reader never waits: poll(2) does that.
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = fcntl::openat(devpts, "ptmx", flags, Mode::empty())?;
        tty::unlock_pty(&master)?;
        let slave = tty::open_pty_peer(&master)?;
        Ok(Pair { master, slave })
    }

    /// Both ends go to another process, with a 0 that they hang on.
    pub fn send(&self, socket: &UnixStream) -> Result<(), Errno> {
        let ends = [self.master.as_raw_fd(), self.slave.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&ends)];
        let (number, word) = (socket.as_raw_fd(), [IoSlice::new(&[0])]);
        socket::sendmsg::<()>(number, &word, &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
    }

    /// The other process's half. EPIPE: it has ended before.
    pub fn receive(socket: &UnixStream) -> Result<Pair, Errno> {
        let (_, ends) = tty::receive_fds(socket, &mut [0])?;
        let [master, slave] = <[OwnedFd; 2]>::try_from(ends).map_err(|_| Errno::EPIPE)?;
        Ok(Pair { master, slave })
    }
}

/// Opens a directory of a container's for `Pair::new`. Not through a link, and nothing that is no
/// directory: so a fifo in its place is an error, and nobody waits.
pub fn open_devpts(path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS;
    fcntl::openat2(fcntl::AT_FDCWD, path, OpenHow::new().flags(flags).resolve(resolve))
}

/// Opens a terminal again, so that reading and writing need not wait: for whoever else has it open,
/// such as the caller's shell, nothing changes. Where that is not allowed, it is as it was.
pub fn open_again(terminal: BorrowedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    match fcntl::open(&by_number(&terminal), flags, Mode::empty()) {
        Ok(new) => Ok(new),
        Err(_) => terminal.try_clone_to_owned().map_err(|_| Errno::EMFILE),
    }
}

/// Is our process group the one that a terminal listens to? None if it is not our session's.
pub fn is_foreground(terminal: impl AsFd) -> Option<bool> {
    let foreground = unistd::tcgetpgrp(terminal).ok()?;
    Some(foreground == unistd::getpgrp())
}

/// Are these the same terminal, by whatever names they were opened?
pub fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    tty::terminal_number(one) == tty::terminal_number(other)
}

pub fn copy_window_size(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    tty::set_window_size(to, &tty::window_size(from)?)
}

/// A terminal that passes every key on as it is typed, and shows every byte as it comes; until this
/// is dropped: then it is what it was.
pub struct Raw {
    terminal: OwnedFd,
    saved: Termios,
    raw: Termios,
}

impl Raw {
    pub fn new(terminal: BorrowedFd) -> Result<Raw, Errno> {
        let terminal = terminal.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        let saved = tcgetattr(&terminal)?;
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        let raw = Raw { terminal, saved, raw };
        raw.renew()?;
        Ok(raw)
    }

    /// From now on ^C and the like are signals again, and no bytes for a reader.
    pub fn obey_keys(&mut self) -> Result<(), Errno> {
        self.raw.local_flags.insert(LocalFlags::ISIG);
        self.renew()
    }

    /// Once more, after a shell had the terminal.
    pub fn renew(&self) -> Result<(), Errno> {
        tcsetattr(&self.terminal, SetArg::TCSANOW, &self.raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Only from the foreground: else it is somebody else's by now.
        if is_foreground(&self.terminal) != Some(false) {
            let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.saved);
        }
    }
}
