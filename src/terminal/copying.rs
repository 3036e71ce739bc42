//! Copying from one descriptor to another, one direction each, without ever waiting: what can't
//! move now stays where it is, and poll(2) tells when it can.

use nix::errno::Errno;
use nix::fcntl::{self, FcntlArg, OFlag, SpliceFFlags};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, MsgFlags};
use nix::sys::stat;
use nix::unistd;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The most that is held of one direction, and that moves in one go.
const SIZE: usize = 64 << 10;

/// So often in a row poll(2) may have been wrong.
const PATIENCE: u32 = 3;

/// How it is moved.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Splice, // from a pipe to a pipe or file: not through our memory, splice(2)
    Write,
    Send, // to a socket, which else might wait
}

#[derive(Clone, Copy, PartialEq)]
enum Wait {
    Input,
    Output,
}

pub struct Copying {
    from: OwnedFd,
    to: OwnedFd,
    way: Way,
    waits_for: Wait,
    buffer: Vec<u8>,
    left: Range<usize>, // of the buffer: what is still to be written
    useless: u32,       // times in a row that poll(2) has been wrong
}

pub enum Progress {
    Moved,
    Stuck,
    /// Nobody will write to `from` any more.
    End,
    /// Nobody reads from `to` (EPIPE), or it can't be written to.
    Broken(Errno),
}

/// What poll(2) is to look for, or has found, at both ends.
pub type Events = [PollFlags; 2];

impl Copying {
    /// `from` must be non-blocking, and so must `to` if it is a terminal.
    pub fn new(from: OwnedFd, to: OwnedFd) -> Copying {
        let kind = |fd: &OwnedFd| stat::fstat(fd).map_or(0, |meta| meta.st_mode & libc::S_IFMT);
        let way = match (kind(&from), kind(&to)) {
            (libc::S_IFIFO, libc::S_IFIFO | libc::S_IFREG) => Way::Splice,
            (_, libc::S_IFSOCK) => Way::Send,
            _ => Way::Write,
        };
        let waits_for = Wait::Input;
        Copying { from, to, way, waits_for, buffer: vec![], left: 0..0, useless: 0 }
    }

    /// Where poll(2) says yes and the call says no, again and again, it is no use to ask at once:
    /// as for a terminal with space for one byte and a line feed to write, which takes two there.
    /// So many milliseconds it rests, then it tries by itself.
    pub fn rest_time(&self) -> Option<u16> {
        let extra = self.useless.checked_sub(PATIENCE)?;
        Some(1 << extra.min(6))
    }

    pub fn waits_for_input(&self) -> bool {
        self.waits_for == Wait::Input
    }

    /// For poll(2). An error at `to` is told in any case: a reader that is gone. The end of `from`
    /// would be, too, again and again: so where it is not waited for, it is left out.
    pub fn to_poll(&self) -> [PollFd<'_>; 2] {
        let [from, to] = [&self.from, &self.to].map(|file| file.as_fd());
        let (none, input, output) = (PollFlags::empty(), PollFlags::POLLIN, PollFlags::POLLOUT);
        match self.waits_for {
            _ if self.rest_time().is_some() => [PollFd::new(to, none), PollFd::new(to, none)],
            Wait::Input => [PollFd::new(from, input), PollFd::new(to, none)],
            Wait::Output => [PollFd::new(to, none), PollFd::new(to, output)],
        }
    }

    /// Is all that was written to `from` on its way, by what poll(2) has found just now?
    pub fn is_drained(&self, found: Events) -> bool {
        self.waits_for == Wait::Input && !found[0].contains(PollFlags::POLLIN)
    }

    /// Moves once what can be moved.
    pub fn go_on(&mut self, found: Events) -> Progress {
        // A socket's reader that is gone is a hang-up alone.
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        if found[1].intersects(gone) {
            return Progress::Broken(Errno::EPIPE);
        }
        let has_news = found.iter().any(|events| !events.is_empty());
        if !has_news && self.rest_time().is_none() {
            return Progress::Stuck;
        }
        let progress = match self.way {
            Way::Splice => self.splice(),
            _ if self.left.is_empty() => self.read(),
            _ => self.write(),
        };
        match progress {
            Progress::Stuck => self.useless = self.useless.saturating_add(1),
            _ => self.useless = 0,
        }
        progress
    }

    fn splice(&mut self) -> Progress {
        let how = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        match fcntl::splice(&self.from, None, &self.to, None, SIZE, how) {
            Ok(0) => Progress::End,
            Ok(_) => Progress::Moved,
            Err(Errno::EAGAIN) => {
                // Which of the two is in the way?
                let mut input = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
                let is_there = poll(&mut input, PollTimeout::ZERO) == Ok(1);
                self.waits_for = if is_there { Wait::Output } else { Wait::Input };
                Progress::Stuck
            }
            // A file that is open for appending.
            Err(Errno::EINVAL) => {
                self.way = Way::Write;
                Progress::Moved
            }
            Err(Errno::EINTR) => Progress::Moved,
            Err(errno) => Progress::Broken(errno),
        }
    }

    fn read(&mut self) -> Progress {
        self.waits_for = Wait::Input;
        if self.buffer.is_empty() {
            self.buffer = vec![0; SIZE]; // memory only as far as it is used
        }
        match unistd::read(&self.from, &mut self.buffer) {
            Ok(0) => Progress::End,
            Ok(length) => {
                self.left = 0..length;
                self.write()
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Progress::Stuck,
            Err(_) => Progress::End,
        }
    }

    fn write(&mut self) -> Progress {
        let mut progress = Progress::Stuck;
        while !self.left.is_empty() {
            let bytes = &self.buffer[self.left.clone()];
            let outcome = match self.way {
                Way::Send => {
                    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                    socket::send(self.to.as_raw_fd(), bytes, flags)
                }
                _ => unistd::write(&self.to, bytes),
            };
            match outcome {
                Ok(length) => {
                    self.left.start += length;
                    progress = Progress::Moved;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.waits_for = Wait::Output;
                    return progress;
                }
                Err(errno) => return Progress::Broken(errno),
            }
        }
        self.waits_for = Wait::Input;
        Progress::Moved
    }

    /// What can't be written is lost, and the next is tried again: for a log on a full disk.
    pub fn skip(&mut self) -> bool {
        self.left = 0..0;
        self.waits_for = Wait::Input;
        true
    }
}

/// From now on reading and writing never wait. All who share this open file are concerned.
pub fn set_nonblocking(file: impl AsFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl::fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl::fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
