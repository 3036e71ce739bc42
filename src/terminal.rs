//! What 0, 1 and 2 are in a container, and who stands behind them. A container never holds what its
//! caller has open for writing: it has a terminal of its own, or pipes of its own, and husk copies.

mod attend;
mod copying;
mod pty;
mod signals;

use crate::paths::by_number;
use crate::step::{Error, Result, attempt, error, step};
use crate::sys::{self, tty};
use copying::{Copying, set_nonblocking};
use nix::fcntl::{self, OFlag};
use nix::sys::signal::SigSet;
use nix::sys::stat::{self, Mode};
use nix::unistd::{self, Gid, Uid};
use pty::Pair;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

pub use attend::LastWords;
pub use pty::open_devpts;
pub use signals::Signals;

/// What the command line says about it.
#[derive(Default)]
pub struct Wanted {
    /// -t or -t=false, if it was said.
    pub tty: Option<bool>,
    /// -i: what is typed goes in, also where the output goes elsewhere.
    pub interactive: bool,
    /// -d: nobody stands behind it ...
    pub detach: bool,
    /// ... but that its output goes to this file.
    pub log: Option<PathBuf>,
}

/// What one of 0, 1 and 2 was given as.
#[derive(Clone, Copy, PartialEq)]
enum Given {
    Terminal,
    Null, // /dev/null
    Other,
}

/// What it is in the container.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Pty,
    Pipe,
    Null,
    Kept, // the caller's own
}

/// /dev/null, by its number on every Linux.
const NULL: libc::dev_t = libc::makedev(1, 3);

impl Given {
    fn look(number: i32) -> Given {
        let file = sys::stdio(number);
        if file.is_terminal() {
            return Given::Terminal;
        }
        if device(file) == NULL { Given::Null } else { Given::Other }
    }
}

/// Which device a file is; 0 if it is none.
fn device(file: impl AsFd) -> libc::dev_t {
    stat::fstat(file).map_or(0, |meta| meta.st_rdev)
}

/// The table, which docs/terminal.md explains.
fn decide(wanted: &Wanted) -> [End; 3] {
    if wanted.detach {
        let output = if wanted.log.is_some() { End::Pipe } else { End::Null };
        return [End::Null, output, output];
    }
    let given = [0, 1, 2].map(Given::look);
    let is_foreground = caller(wanted).is_some();
    let both = given[..2] == [Given::Terminal; 2];
    let has_pty = both && is_foreground && wanted.tty != Some(false);
    let input = match given[0] {
        Given::Terminal if has_pty => End::Pty,
        Given::Terminal if wanted.interactive && is_foreground => End::Pipe,
        Given::Terminal | Given::Null => End::Null,
        Given::Other => End::Kept,
    };
    let output = |given| match given {
        Given::Terminal if has_pty => End::Pty,
        Given::Null => End::Null,
        _ => End::Pipe,
    };
    let mut error = output(given[2]);
    // `2>/dev/tty4` is no part of it.
    if error == End::Pty && !pty::is_same(sys::stdio(1), sys::stdio(2)) {
        error = End::Pipe;
    }
    [input, output(given[1]), error]
}

/// The caller's terminal, if husk is in the foreground there.
fn caller(wanted: &Wanted) -> Option<BorrowedFd<'static>> {
    let mut files = [0, 1, 2].map(sys::stdio).into_iter();
    let terminal = files.find(|file| file.is_terminal())?;
    // Where it is no session's of ours, only -t says that we may read what is typed.
    let is_foreground = pty::is_foreground(terminal).or(wanted.tty).unwrap_or(false);
    (is_foreground && !wanted.detach).then_some(terminal)
}

/// From now on signals do nothing to husk until `Outside::relay` passes them on.
pub fn hold_signals() -> Result<Signals> {
    attempt("signalfd", Signals::hold())
}

/// Waits until the child has closed its end of the socket: it is the command, or gone. It may take
/// for ever: ROOTFS may be slow, and in `exec` whoever is in the container may stop the child. So a
/// signal ends husk here, and with it the child.
pub fn wait_for_exec(child: &UnixStream, signals: &Signals) -> Result<()> {
    signals.wait_for_end(child).map_err(|number| Error {
        status: 128 + number as u8,
        why: format!("signal {number} came before the command could run"),
    })
}

/// Will the container have a terminal?
pub fn has_pty(wanted: &Wanted) -> bool {
    decide(wanted)[0] == End::Pty
}

/// The container's part of it.
pub struct Inside {
    ends: [End; 3],
    /// What they will be, but for a terminal, which is made later ...
    files: [Option<OwnedFd>; 3],
    /// ... and then goes to husk through this.
    husk: Option<UnixStream>,
    pair: Option<Pair>,
}

/// husk's part of it.
pub struct Outside {
    /// What is typed, and where it goes.
    keyboard: Option<Copying>,
    /// What comes out of the container, and where it goes.
    outputs: Vec<Copying>,
    /// The caller's terminal, if husk is in the foreground there: where keys come from.
    caller: Option<OwnedFd>,
    /// The same, where output goes to; and through what the container's terminal comes.
    screen: Option<(OwnedFd, UnixStream)>,
    pair: Option<Pair>,
    has_log: bool,
    null: OwnedFd, // the host's
}

/// Makes both before the clone, while /dev is the host's.
pub fn prepare(wanted: &Wanted) -> Result<(Inside, Outside)> {
    if wanted.log.is_some() {
        sys::close_others(3, &[]); // what the caller forgot to close would stay open with us
    }
    let ends = decide(wanted);
    let mut outside = Outside::without_streams()?;
    outside.caller = caller(wanted).map(open_again).transpose()?;
    outside.has_log = wanted.log.is_some();
    let mut inside = Inside { ends, files: [None, None, None], husk: None, pair: None };
    if ends[0] == End::Pty {
        let (ours, theirs) = attempt("socketpair", UnixStream::pair())?;
        outside.screen = Some((open_again(sys::stdio(1))?, ours));
        inside.husk = Some(theirs);
    }
    for number in 0..3 {
        let log = wanted.log.as_deref();
        inside.files[number] = match ends[number] {
            End::Pty | End::Kept => None,
            End::Null => Some(dup(&outside.null)?),
            End::Pipe if number == 0 => Some(outside.pipe_from_keyboard()?),
            End::Pipe if number == 2 && ends[1] == End::Pipe && is_shared(&outside) => {
                inside.files[1].as_ref().map(dup).transpose()?
            }
            End::Pipe => Some(outside.pipe_to(number, log)?),
        };
    }
    Ok((inside, outside))
}

/// Where 1 and 2 lead to the same, so do they in the container: what is written to one and then to
/// the other keeps its order.
fn is_shared(outside: &Outside) -> bool {
    let identity = |number| {
        let meta = stat::fstat(sys::stdio(number)).ok()?;
        Some((meta.st_dev, meta.st_ino, meta.st_rdev))
    };
    outside.has_log || identity(1) == identity(2)
}

fn open_again(terminal: BorrowedFd) -> Result<OwnedFd> {
    attempt("the terminal", pty::open_again(terminal))
}

/// It is appended to. The file itself never gets inside.
fn open_log(path: &Path) -> Result<OwnedFd> {
    let mut options = File::options();
    options.append(true).create(true).custom_flags(libc::O_NONBLOCK); // a fifo would wait
    let log = options.open(path);
    let log = attempt(format_args!("--log {}", path.display()), log)?;
    let is_file = log.metadata().is_ok_and(|meta| meta.is_file());
    if !is_file {
        return Err(error(format!("--log {}: expected a file", path.display())));
    }
    Ok(log.into())
}

fn dup(file: &OwnedFd) -> Result<OwnedFd> {
    attempt("dup", file.try_clone())
}

impl Outside {
    /// Only signals are passed on, and the end is seen.
    pub fn without_streams() -> Result<Outside> {
        let null = File::options().read(true).write(true).open("/dev/null");
        Ok(Outside {
            keyboard: None,
            outputs: vec![],
            caller: None,
            screen: None,
            pair: None,
            has_log: false,
            null: attempt("/dev/null", null)?.into(),
        })
    }

    /// The container's end of a pipe for what is typed.
    fn pipe_from_keyboard(&mut self) -> Result<OwnedFd> {
        let (reader, writer) = attempt("pipe", unistd::pipe2(OFlag::O_CLOEXEC))?;
        attempt("fcntl", set_nonblocking(&writer))?;
        self.keyboard = Some(Copying::new(open_again(sys::stdio(0))?, writer));
        Ok(reader)
    }

    /// The container's end of a pipe to what the caller has as 1 or 2, or to a log.
    fn pipe_to(&mut self, number: usize, log: Option<&Path>) -> Result<OwnedFd> {
        let (reader, writer) = attempt("pipe", unistd::pipe2(OFlag::O_CLOEXEC))?;
        attempt("fcntl", set_nonblocking(&reader))?;
        let given = sys::stdio(number as i32);
        let to = match log {
            Some(log) => open_log(log)?,
            None if given.is_terminal() => open_again(given)?,
            None => attempt("dup", given.try_clone_to_owned())?,
        };
        self.outputs.push(Copying::new(reader, to));
        Ok(writer)
    }
}

// ---- what the child does ------------------------------------------------------------------------

impl Inside {
    pub fn has_pty(&self) -> bool {
        self.husk.is_some()
    }

    /// All that it has open, for the others are closed before ROOTFS is looked at.
    pub fn open_files(&self) -> Vec<BorrowedFd<'_>> {
        let files = self.files.iter().flatten().map(|file| file.as_fd());
        let pair = self.pair.iter().flat_map(|pair| [pair.master.as_fd(), pair.slave.as_fd()]);
        files.chain(self.husk.as_ref().map(|socket| socket.as_fd())).chain(pair).collect()
    }

    /// The devices that 0, 1 and 2 are, by their numbers: 0 is none's.
    pub fn devices(&self) -> [u64; 3] {
        [0, 1, 2].map(|number| match self.ends[number] {
            End::Kept => device(sys::stdio(number as i32)),
            End::Null => NULL,
            _ => 0,
        })
    }

    /// Nodes of the host are opened again by read-only mounts of them: so that fchmod(2) on one of
    /// 0, 1 and 2 does not reach the host's. Where a user may not do that, it stays as it is.
    pub fn reopen_by<'a>(&mut self, nodes: impl Iterator<Item = &'a OwnedFd>) -> Result<()> {
        let devices = self.devices();
        for node in nodes {
            let own = device(node);
            for (number, given) in devices.into_iter().enumerate() {
                if given == 0 || given != own {
                    continue;
                }
                let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
                if let Ok(file) = fcntl::open(&by_number(node), flags, Mode::empty()) {
                    self.files[number] = Some(file);
                }
            }
        }
        Ok(())
    }

    /// Makes the container's terminal in its devpts, and lets husk have it too. Returns the end
    /// that is to be /dev/console.
    pub fn open_pty(&mut self, devpts: impl AsFd) -> Result<Option<BorrowedFd<'_>>> {
        let Some(husk) = &self.husk else { return Ok(None) };
        let pair = step!(Pair::new(devpts), "open /dev/pts/ptmx")?;
        let _ = pty::copy_window_size(sys::stdio(0), &pair.master);
        step!(pair.send(husk), "sendmsg (the terminal)")?;
        Ok(Some(self.pair.insert(pair).slave.as_fd()))
    }

    /// They belong to the user that the command runs as: so it can open /dev/stdout by that name.
    pub fn give_to(&self, uid: Uid, gid: Gid) -> Result<()> {
        for (end, file) in self.ends.iter().zip(&self.files) {
            if let (End::Pipe, Some(pipe)) = (end, file) {
                step!(unistd::fchown(pipe, Some(uid), Some(gid)), "chown {uid}:{gid} (a pipe)")?;
            }
        }
        if let Some(pair) = &self.pair {
            let slave = &pair.slave;
            step!(unistd::fchown(slave, Some(uid), None), "chown {uid} (the terminal)")?;
        }
        Ok(())
    }

    /// A session of its own: so no signal to a group, such as `kill 0`, reaches husk's caller.
    pub fn lead_session(&self) -> Result<()> {
        step!(unistd::setsid(), "setsid")?;
        if let Some(pair) = &self.pair {
            step!(tty::set_controlling_terminal(&pair.slave), "ioctl TIOCSCTTY")?;
        }
        Ok(())
    }

    /// 0, 1 and 2 become the container's, and nothing else is open: the command may be a path to
    /// /proc/self/fd.
    pub fn connect(&mut self) -> Result<()> {
        for (number, end) in self.ends.iter().enumerate() {
            let file = match (end, &self.pair, &self.files[number]) {
                (End::Pty, Some(pair), _) => &pair.slave,
                (_, _, Some(file)) => file,
                (End::Kept, ..) => continue,
                _ => return Err(error("there is no terminal")),
            };
            attempt("dup2", sys::dup2(file, number as i32))?;
        }
        let _ = SigSet::empty().thread_set_mask(); // the command gets all signals
        (self.files, self.pair, self.husk) = ([None, None, None], None, None);
        Ok(())
    }
}
