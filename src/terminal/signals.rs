//! Signals that husk gets: which of them it passes on, and how it reads them one by one.

use crate::sys::{self, tty};
use libc::c_int;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Those that are meant for husk itself. All others are passed on, real-time ones too.
#[rustfmt::skip]
const OWN: [c_int; 11] = [
    libc::SIGKILL, libc::SIGSTOP, // nobody can catch these
    libc::SIGCHLD, libc::SIGPIPE, // about husk's own child and files
    libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, // husk's own faults
    32, 33, // the C library's own
];

/// The code of a signal that came from the kernel, as for a key that was typed: sigaction(2).
const SI_KERNEL: i32 = 0x80;

pub struct Signals(OwnedFd);

pub struct Signal {
    pub number: c_int,
    /// It is for all of a process group, as ^C is, and not from another process.
    pub is_typed: bool,
}

impl Signals {
    /// From now on no signal that is to be passed on does anything to husk: `next` has them.
    pub fn hold() -> Result<Signals, Errno> {
        let passed_on: Vec<c_int> = (1..=64).filter(|number| !OWN.contains(number)).collect();
        // A reader that is gone is EPIPE then, and not husk's end.
        tty::block_signal(libc::SIGPIPE, true)?;
        Ok(Signals(tty::signalfd(&passed_on)?))
    }

    /// The next one that has come; None if there is none.
    pub fn next(&self) -> Option<Signal> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        let length = unistd::read(&self.0, &mut info).ok()?;
        // struct signalfd_siginfo: signal, errno, code.
        let [a, b, c, d, _, _, _, _, e, f, g, h, ..] = info;
        let code = i32::from_ne_bytes([e, f, g, h]);
        let number = c_int::from_ne_bytes([a, b, c, d]);
        (length == info.len()).then_some(Signal { number, is_typed: code == SI_KERNEL })
    }

    /// Waits until the other end of `socket` is closed: poll(2) always tells that. Before it a
    /// signal ends us as it would have before `hold`: its number is the error.
    pub fn wait_for_end(&self, socket: &UnixStream) -> Result<(), c_int> {
        let (none, input) = (PollFlags::empty(), PollFlags::POLLIN);
        loop {
            let mut list = [PollFd::new(socket.as_fd(), none), PollFd::new(self.as_fd(), input)];
            let found = poll(&mut list, PollTimeout::NONE);
            let is_closed = list[0].any() == Some(true);
            if is_closed || found.is_err_and(|errno| errno != Errno::EINTR) {
                return Ok(());
            }
            if let Some(number) = self.fatal() {
                return Err(number);
            }
        }
    }

    /// One that has come and ends us; others that have come do what they do by default.
    pub fn fatal(&self) -> Option<c_int> {
        while let Some(signal) = self.next() {
            match signal.number {
                libc::SIGWINCH | libc::SIGURG | libc::SIGCONT => {}
                libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => act_on(signal.number),
                number => return Some(number),
            }
        }
        None
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Does what the signal does by default, such as to stop this process; returns when it goes on.
pub fn act_on(number: c_int) {
    let _ = sys::kill(unistd::getpid().as_raw(), number);
    let _ = tty::block_signal(number, false);
    let _ = tty::block_signal(number, true);
}
