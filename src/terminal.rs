//! What 0, 1 and 2 are in a container, and who stands behind them. A container never holds what its
//! caller has open for writing: it has a terminal of its own, or pipes of its own, and husk copies.

mod attend;
mod copying;
mod pty;
mod signals;

use crate::step::{Result, attempt, error, step};
use crate::sys;
use copying::{Copying, set_nonblocking};
use nix::fcntl::OFlag;
use nix::sys::stat;
use nix::unistd::{self, Gid, Uid};
use pty::Pair;
pub use pty::open_devpts;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What the command line says about it.
#[derive(Default)]
pub struct Wanted {
    /// -t or -t=false, if it was said.
    pub tty: Option<bool>,
    /// -i: what is typed goes in, also where output goes elsewhere.
    pub interactive: bool,
    /// -d: nobody stands behind it ...
    pub detach: bool,
    /// ... but that its output goes here.
    pub log: Option<File>,
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

impl Given {
    fn look(number: i32) -> Given {
        const NULL: (u64, u64) = (1, 3);
        let file = sys::stdio(number);
        if file.is_terminal() {
            return Given::Terminal;
        }
        // Rust opens /dev/null where there is nothing.
        let Ok(meta) = stat::fstat(file) else { return Given::Null };
        let device = (stat::major(meta.st_rdev), stat::minor(meta.st_rdev));
        let is_device = meta.st_mode & libc::S_IFMT == libc::S_IFCHR;
        if is_device && device == NULL { Given::Null } else { Given::Other }
    }
}

/// The table, which docs/terminal.md explains.
fn decide(given: [Given; 3], wanted: &Wanted, is_foreground: bool) -> [End; 3] {
    use Given::Terminal;
    if wanted.detach {
        let output = if wanted.log.is_some() { End::Pipe } else { End::Null };
        return [End::Null, output, output];
    }
    let both = given[0] == Terminal && given[1] == Terminal;
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

/// All that stands behind 0, 1 and 2. It is made before the clone, and so both processes have it.
pub struct Streams {
    ends: [End; 3],
    /// The container's ends of the pipes.
    inside: [Option<OwnedFd>; 3],
    /// The container's terminal, once it is there.
    pair: Option<Pair>,
    /// What is typed, and where it goes.
    keyboard: Option<Copying>,
    /// What comes out of the container, and where it goes.
    outputs: Vec<Copying>,
    /// The caller's terminal, if husk is in the foreground there: what is typed, and what is shown.
    caller: Option<OwnedFd>,
    screen: Option<OwnedFd>,
    has_log: bool,
    null: OwnedFd, // the host's
}

impl Streams {
    pub fn prepare(wanted: Wanted) -> Result<Streams> {
        let given = [0, 1, 2].map(Given::look);
        let terminal = (0..3).find(|number| given[*number as usize] == Given::Terminal);
        let terminal = terminal.map(sys::stdio);
        // Where it is no session's of ours, only -t says that we may read what is typed.
        let is_listening = |terminal| pty::is_foreground(terminal).or(wanted.tty).unwrap_or(false);
        let is_foreground = !wanted.detach && terminal.is_some_and(is_listening);
        let ends = decide(given, &wanted, is_foreground);
        let null = File::options().read(true).write(true).open("/dev/null");
        let mut streams = Streams {
            ends,
            inside: [None, None, None],
            pair: None,
            keyboard: None,
            outputs: vec![],
            caller: None,
            screen: None,
            has_log: wanted.log.is_some(),
            null: attempt("/dev/null", null)?.into(),
        };
        if let Some(terminal) = terminal.filter(|_| is_foreground) {
            streams.caller = Some(open_again(terminal)?);
        }
        if streams.has_pty() {
            streams.screen = Some(open_again(sys::stdio(1))?);
        }
        streams.make_pipes(given, wanted.log)?;
        Ok(streams)
    }

    /// Where 1 and 2 lead to the same, so do they in the container: what is written to one and
    /// then to the other keeps its order.
    fn make_pipes(&mut self, given: [Given; 3], log: Option<File>) -> Result<()> {
        if self.ends[0] == End::Pipe {
            let (reader, writer) = pipe()?;
            attempt("fcntl", set_nonblocking(&writer))?;
            self.keyboard = Some(Copying::new(open_again(sys::stdio(0))?, writer));
            self.inside[0] = Some(reader);
        }
        let is_shared = self.ends[1..] == [End::Pipe; 2] && (log.is_some() || is_same_file(1, 2));
        let mut log = log.map(OwnedFd::from);
        for number in 1..3 {
            if self.ends[number] != End::Pipe {
                continue;
            }
            if number == 2 && is_shared {
                let writer = self.inside[1].as_ref().map(OwnedFd::try_clone);
                self.inside[2] = attempt("dup", writer.transpose())?;
                continue;
            }
            let caller = sys::stdio(number as i32);
            let to = match log.take() {
                Some(log) => log,
                None if given[number] == Given::Terminal => open_again(caller)?,
                None => attempt("dup", caller.try_clone_to_owned())?,
            };
            let (reader, writer) = pipe()?;
            attempt("fcntl", set_nonblocking(&reader))?;
            self.outputs.push(Copying::new(reader, to));
            self.inside[number] = Some(writer);
        }
        Ok(())
    }

    pub fn has_pty(&self) -> bool {
        self.ends[0] == End::Pty
    }

    /// Is one of them /dev/null? Then `connect` needs that.
    pub fn needs_null(&self) -> bool {
        self.ends.contains(&End::Null)
    }

    // ---- what the child does ----

    /// Makes the container's terminal in its devpts, and lets husk have it too.
    pub fn open_pty(&mut self, devpts: BorrowedFd, parent: &UnixStream) -> Result<()> {
        let pair = step!(Pair::new(devpts), "open /dev/pts/ptmx")?;
        let _ = pty::copy_window_size(sys::stdio(0), &pair.master);
        step!(pair.send(parent), "sendmsg (the terminal)")?;
        self.pair = Some(pair);
        Ok(())
    }

    /// They belong to the user that the command runs as: so it can open /dev/stdout by that name.
    pub fn give_to(&self, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        for pipe in self.inside.iter().flatten() {
            step!(unistd::fchown(pipe, Some(uid), Some(gid)), "chown {uid}:{gid} (a pipe)")?;
        }
        if let Some(pair) = &self.pair {
            let slave = &pair.slave;
            step!(unistd::fchown(slave, Some(uid), None), "chown {uid} (the terminal)")?;
        }
        Ok(())
    }

    /// 0, 1 and 2 become the container's, in a session of its own: so no signal to a group reaches
    /// husk's caller.
    pub fn connect(&self, null: Option<BorrowedFd>) -> Result<()> {
        step!(unistd::setsid(), "setsid")?;
        let slave = self.pair.as_ref().map(|pair| pair.slave.as_fd());
        if let Some(slave) = slave {
            step!(sys::set_controlling_terminal(slave), "ioctl TIOCSCTTY")?;
        }
        for (number, end) in self.ends.iter().enumerate() {
            let file = match end {
                End::Pty => slave,
                End::Pipe => self.inside[number].as_ref().map(|pipe| pipe.as_fd()),
                End::Null => null,
                End::Kept => continue,
            };
            let file = file.ok_or_else(|| error("nothing to connect"))?;
            attempt("dup2", sys::dup2(file, number as i32))?;
        }
        Ok(())
    }

    // ---- what husk does ----

    /// Takes the container's terminal from the child. Where the child has failed before that, its
    /// report's first byte is returned.
    pub fn receive_pty(&mut self, child: &UnixStream) -> Result<Vec<u8>> {
        if !self.has_pty() {
            return Ok(vec![]);
        }
        match attempt("recvmsg (the terminal)", Pair::receive(child))? {
            Err(word) => Ok(word),
            Ok(pair) => {
                self.pair = Some(pair);
                Ok(vec![])
            }
        }
    }
}

fn open_again(terminal: BorrowedFd) -> Result<OwnedFd> {
    attempt("the terminal", pty::open_again(terminal))
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    attempt("pipe", unistd::pipe2(OFlag::O_CLOEXEC))
}

/// Do two numbers lead to the same file?
fn is_same_file(one: i32, other: i32) -> bool {
    let identity = |number| {
        let meta = stat::fstat(sys::stdio(number)).ok()?;
        Some((meta.st_dev, meta.st_ino, meta.st_rdev))
    };
    identity(one).is_some_and(|file| Some(file) == identity(other))
}
