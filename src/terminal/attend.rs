//! husk beside a running container: it copies what goes in and out, passes signals on, and sees
//! the end. One loop around poll(2); nothing in it waits for anything else.

use super::copying::{Copying, Events, Progress};
use super::pty::{self, Pair, Raw};
use super::signals::{self, Signal, Signals};
use super::{Outside, dup};
use crate::step::{Error, Result, attempt};
use crate::sys;
use libc::c_int;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ExitStatus, exit};
use std::thread;
use std::time::{Duration, Instant};

impl Outside {
    /// If there is a log: the caller's husk ends here, and a copy of it attends the container, with
    /// nothing of the caller's.
    pub fn keep_log(self, pid: c_int, signals: Signals) -> Result<()> {
        if !self.has_log {
            return Ok(());
        }
        // Now: when this process has ended, the container is init's, and its number another's soon.
        let pidfd = attempt("pidfd_open", sys::pidfd_open(pid))?;
        let container = dup(&pidfd)?;
        if attempt("clone3", sys::clone3(0, None))? > 0 {
            exit(0);
        }
        let _ = unistd::setsid();
        for number in 0..3 {
            let _ = sys::dup2(&self.null, number);
        }
        let outcome = self.relay_by(pidfd, pid, signals).and_then(LastWords::copy);
        // Nobody would hear of an error any more.
        if outcome.is_err() {
            let _ = sys::pidfd_send_signal(&container, libc::SIGKILL);
        }
        Ok(())
    }

    /// Copies until the process has ended, and what it wrote has gone on or nobody takes it at the
    /// moment; passes signals on.
    pub fn relay(self, pid: c_int, signals: Signals) -> Result<LastWords> {
        let pidfd = attempt("pidfd_open", sys::pidfd_open(pid))?;
        self.relay_by(pidfd, pid, signals)
    }

    fn relay_by(mut self, pidfd: OwnedFd, pid: c_int, signals: Signals) -> Result<LastWords> {
        if let (Some((screen, child)), Some(caller)) = (self.screen.take(), &self.caller) {
            // A child that was killed too early has none.
            if let Ok(pair) = Pair::receive(&child) {
                self.keyboard = Some(Copying::new(dup(caller)?, dup(&pair.master)?));
                self.outputs.push(Copying::new(dup(&pair.master)?, screen));
                self.pair = Some(pair);
            }
        }
        // When the container closes it, nobody has it open any more. (2 is for husk's own words.)
        attempt("dup2", sys::dup2(&self.null, 1))?;
        let mut attendant = Attendant {
            streams: self,
            pid,
            pidfd,
            signals,
            raw: None,
            may_type: true,
            kill_at: None,
            has_ended: false,
            failure: None,
        };
        attendant.take_terminal();
        while !(attendant.has_ended && attendant.is_stuck()) {
            attendant.round()?;
        }
        if attendant.streams.outputs.is_empty() {
            attendant.raw = None;
        } else if let Some(raw) = &mut attendant.raw {
            let _ = raw.obey_keys(); // ^C is for us now
        }
        Ok(LastWords(Some(attendant)))
    }
}

/// What is left to do when a container has ended and is cleared away: somebody may read slowly, or
/// not at all, and that keeps nobody waiting but us.
#[derive(Default)]
pub struct LastWords(Option<Attendant>);

impl LastWords {
    /// The exit status of the process, which has ended, waitpid(2). Whoever traces it, as PID 1 may
    /// trace what `husk exec` starts, learns of the end first, and may keep it for ever, ptrace(2):
    /// so signals end husk here.
    pub fn reap(&self, pid: c_int) -> Result<ExitStatus> {
        loop {
            if let Some((_, status)) = attempt("waitpid", sys::waitpid(pid, libc::WNOHANG))? {
                return Ok(status);
            }
            let signal = self.0.as_ref().and_then(|attendant| attendant.signals.fatal());
            if let Some(number) = signal {
                let why = format!("signal {number} came while somebody traces the command");
                return Err(Error { status: 128 + number as u8, why });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn copy(self) -> Result<()> {
        let Some(mut attendant) = self.0 else { return Ok(()) };
        while !attendant.streams.outputs.is_empty() {
            attendant.round()?;
        }
        match attendant.failure {
            Some(errno) => attempt("what the container wrote", Err(errno)),
            None => Ok(()),
        }
    }
}

/// How long a container has to end when its caller's terminal is gone.
const PATIENCE: Duration = Duration::from_secs(10);

struct Attendant {
    streams: Outside,
    pid: c_int,
    pidfd: OwnedFd,
    signals: Signals,
    raw: Option<Raw>,
    may_type: bool,           // is the terminal ours, or a shell's at the moment?
    kill_at: Option<Instant>, // the caller's terminal is gone
    has_ended: bool,
    failure: Option<Errno>, // of writing what came out
}

impl Attendant {
    /// Is there nothing that could be copied now?
    fn is_stuck(&self) -> bool {
        !self.streams.outputs.iter().any(Copying::waits_for_input)
    }

    fn round(&mut self) -> Result<()> {
        let found = self.wait()?;
        let [signal, end, hang_up, ..] = found[..3] else { return Ok(()) };
        let events = |n: usize| [found[3 + 2 * n], found[4 + 2 * n]];
        self.move_outputs(|n| events(n + 1));
        self.move_keyboard(events(0));
        if !signal.is_empty() {
            while let Some(signal) = self.signals.next() {
                self.pass_on(&signal);
            }
        }
        if hang_up.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            self.hang_up();
        }
        if !end.is_empty() {
            self.has_ended = true;
            self.streams.keyboard = None;
        }
        if self.kill_at.is_some_and(|time| Instant::now() >= time) {
            let _ = sys::pidfd_send_signal(&self.pidfd, libc::SIGKILL);
            self.kill_at = None;
        }
        Ok(())
    }

    /// poll(2). What it has found: signals, the end, a hang-up; both ends of the keyboard's
    /// copying, and of each output's.
    fn wait(&self) -> Result<Vec<PollFlags>> {
        let (none, input) = (PollFlags::empty(), PollFlags::POLLIN);
        let unused = || PollFd::new(self.signals.as_fd(), none);
        let mut list = vec![PollFd::new(self.signals.as_fd(), input), unused(), unused()];
        if !self.has_ended {
            list[1] = PollFd::new(self.pidfd.as_fd(), input);
        }
        if let Some(caller) = &self.streams.caller {
            list[2] = PollFd::new(caller.as_fd(), none);
        }
        match &self.streams.keyboard {
            Some(keyboard) if self.may_type => list.extend(keyboard.to_poll()),
            _ => list.extend([unused(), unused()]),
        }
        for output in &self.streams.outputs {
            list.extend(output.to_poll());
        }
        match poll(&mut list, self.timeout()) {
            Err(Errno::EINTR) => return Ok(vec![none; list.len()]),
            other => attempt("poll", other)?,
        };
        Ok(list.iter().map(|fd| fd.revents().unwrap_or(none)).collect())
    }

    fn timeout(&self) -> PollTimeout {
        let streams = &self.streams;
        if self.has_ended && !self.is_stuck() {
            return PollTimeout::ZERO; // only to learn whether there is more
        }
        let copyings = streams.outputs.iter().chain(&streams.keyboard);
        if let Some(rest) = copyings.filter_map(Copying::rest_time).min() {
            return PollTimeout::from(rest);
        }
        let Some(time) = self.kill_at else { return PollTimeout::NONE };
        let left = time.saturating_duration_since(Instant::now());
        PollTimeout::from(left.as_millis() as u16 + 1)
    }

    fn move_outputs(&mut self, found: impl Fn(usize) -> Events) {
        let mut outputs = mem::take(&mut self.streams.outputs);
        let mut number = 0;
        outputs.retain_mut(|output| {
            let found = found(number);
            number += 1;
            if self.has_ended && output.is_drained(found) {
                return false;
            }
            match output.go_on(found) {
                Progress::Moved | Progress::Stuck => true,
                Progress::End => false,
                // A log goes on when there is space again.
                Progress::Broken(_) if self.streams.has_log => output.skip(),
                // As it would have been without us: the writer is told by SIGPIPE and EPIPE.
                Progress::Broken(Errno::EPIPE | Errno::ECONNRESET | Errno::EIO) => false,
                Progress::Broken(errno) => {
                    self.failure = Some(errno);
                    false
                }
            }
        });
        self.streams.outputs = outputs;
    }

    fn move_keyboard(&mut self, found: Events) {
        let streams = &mut self.streams;
        let Some(keyboard) = &mut streams.keyboard else { return };
        match keyboard.go_on(found) {
            Progress::Moved | Progress::Stuck => {}
            Progress::End if !is_ours(&streams.caller) => self.may_type = false,
            Progress::End | Progress::Broken(_) => streams.keyboard = None,
        }
    }

    /// At the start, and when husk goes on after it was stopped: by then the terminal may be a
    /// shell's, which has us in the background.
    fn take_terminal(&mut self) {
        let streams = &self.streams;
        let (Some(caller), Some(_)) = (&streams.caller, &streams.keyboard) else { return };
        self.may_type = is_ours(&streams.caller);
        if !self.may_type {
            signals::act_on(libc::SIGTTIN);
            return;
        }
        let Some(pair) = &streams.pair else { return };
        match &self.raw {
            Some(raw) => drop(raw.renew()),
            None => self.raw = Raw::new(caller.as_fd()).ok(),
        }
        let _ = pty::copy_window_size(caller, &pair.master);
    }

    fn pass_on(&mut self, signal: &Signal) {
        let ends_us = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
        if self.has_ended && ends_us.contains(&signal.number) {
            self.streams.outputs.clear(); // where nobody takes what is left
        }
        let (caller, pair) = (&self.streams.caller, &self.streams.pair);
        if let (libc::SIGWINCH, Some(caller), Some(pair)) = (signal.number, caller, pair) {
            let _ = pty::copy_window_size(caller, &pair.master);
            return;
        }
        // What is typed at a terminal is for a whole group: ^C in a pipeline. (After the end its
        // number may be another's.)
        let is_typed = signal.is_typed && !self.has_ended;
        let group = if is_typed { sys::kill(-self.pid, signal.number) } else { Ok(()) };
        if !is_typed || group.is_err() {
            let _ = sys::pidfd_send_signal(&self.pidfd, signal.number);
        }
        match signal.number {
            libc::SIGTSTP => {
                self.raw = None;
                signals::act_on(libc::SIGTSTP);
            }
            libc::SIGCONT => self.take_terminal(),
            _ => {}
        }
    }

    /// The caller's terminal is gone, and nobody can end the container by a key any more: so husk
    /// does, as `husk stop` would.
    fn hang_up(&mut self) {
        let streams = &mut self.streams;
        (streams.caller, streams.keyboard, streams.pair) = (None, None, None);
        let _ = sys::pidfd_send_signal(&self.pidfd, libc::SIGHUP);
        self.kill_at = Some(Instant::now() + PATIENCE);
    }
}

/// Is the terminal ours to read, or in the hands of a shell?
fn is_ours(caller: &Option<OwnedFd>) -> bool {
    let foreground = caller.as_ref().and_then(pty::is_foreground);
    foreground != Some(false)
}
