//! The caller's terminal, the signals that husk passes on, and the wait for the child.

use crate::paths::by_number;
use crate::step::{Result, attempt, step};
use crate::sys;
use nix::fcntl::{self, OFlag};
use nix::sys::signal::{self, SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::{self, Mode};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{self, Pid, ttyname};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

/// What husk passes on.
const FORWARDED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// What `wait` handles; SIGTTOU is blocked so that husk can take the terminal back.
fn handled_signals() -> SigSet {
    let mut set = SigSet::empty();
    for signal in FORWARDED {
        set.add(signal);
    }
    set.add(Signal::SIGCHLD);
    set.add(Signal::SIGTTOU);
    set
}

/// From now on they wait until `wait` asks for them; so far they end husk.
pub fn hold_signals() {
    let _ = handled_signals().thread_block();
}

/// The caller's terminal, if one of 0, 1 and 2 is one.
pub fn name() -> Option<PathBuf> {
    let names = [ttyname(io::stdin()), ttyname(io::stdout()), ttyname(io::stderr())];
    names.into_iter().flatten().next()
}

/// The terminal that a container sees as its console.
pub fn of(detach: bool) -> Option<PathBuf> {
    if detach { None } else { name() }
}

/// The devices that 0, 1 and 2 are open on, by their numbers.
pub fn devices() -> Vec<u64> {
    let numbers = [0, 1, 2].map(|number| device(sys::stdio(number)));
    numbers.into_iter().filter(|number| *number != 0).collect()
}

/// A device's number; 0 is none's.
fn device(file: impl AsFd) -> u64 {
    stat::fstat(file).map_or(0, |meta| meta.st_rdev)
}

/// 0, 1 and 2 may be open on nodes of the host, the caller's terminal or /dev/null. They are opened
/// again by the read-only mounts of these, so that fchmod(2) does not reach the host's.
pub fn reopen_by<'a>(nodes: impl Iterator<Item = &'a OwnedFd> + Clone) -> Result<()> {
    for number in 0..3 {
        let own = device(sys::stdio(number));
        if own == 0 {
            continue;
        }
        for node in nodes.clone() {
            if device(node) != own {
                continue;
            }
            let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            // Where a user may not open it, it stays as the caller gave it.
            if let Ok(file) = fcntl::open(&by_number(node), flags, Mode::empty()) {
                attempt("dup2", sys::dup2(&file, number))?;
            }
            break;
        }
    }
    Ok(())
}

/// The container gets /dev/null as standard input where nobody can type for it.
pub fn prepare(detach: bool) -> Result<()> {
    let in_background = unistd::tcgetpgrp(io::stdin()).is_ok_and(|it| it != unistd::getpgrp());
    if detach || in_background {
        let null = attempt("open /dev/null", File::open("/dev/null"))?;
        attempt("exec </dev/null", sys::dup2(&null, 0))?;
    }
    Ok(())
}

/// The terminal as long as it is lent to a container, with its settings before that.
pub struct Lent(Option<Termios>);

/// Makes the child the terminal's foreground job, as a shell would: ^C reaches the container only.
/// Not in a pipeline or the background, where the rest of husk's own group needs the terminal.
pub fn lend(detach: bool, pid: i32) -> Lent {
    let stdin = io::stdin();
    let is_ours = unistd::tcgetpgrp(&stdin) == Ok(unistd::getpgrp());
    if detach || !is_ours || !io::stdout().is_terminal() {
        return Lent(None);
    }
    let Ok(saved) = tcgetattr(&stdin) else { return Lent(None) };
    hand_over(pid);
    Lent(Some(saved))
}

fn hand_over(pid: i32) {
    let pid = Pid::from_raw(pid);
    let _ = unistd::setpgid(pid, pid);
    let _ = unistd::tcsetpgrp(io::stdin(), pid);
}

impl Lent {
    fn take_back(&self) {
        let Some(saved) = &self.0 else { return };
        let _ = unistd::tcsetpgrp(io::stdin(), unistd::getpgrp());
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, saved);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// The child leaves the caller's session, just before it is the command.
pub fn leave(detach: bool) -> Result<()> {
    // Else `kill 0` in here would reach husk's caller. Whoever was given the terminal leads a group
    // of its own already, and stays in the session: EPERM.
    let _ = step!(unistd::setsid(), "setsid");
    if detach {
        if io::stderr().is_terminal() {
            // Else it could read what is typed for others when husk has ended. 0 is /dev/null.
            step!(unistd::dup2_stderr(io::stdin()), "exec 2>&0")?;
        }
        step!(unistd::dup2_stdout(io::stderr()), "exec >&2")?;
    }
    let _ = SigSet::empty().thread_set_mask(); // the command gets all signals
    Ok(())
}

/// Waits for the child, and passes signals on to it.
pub fn wait(pid: i32, lent: &Lent) -> Result<ExitStatus> {
    let signals = attempt("signalfd", SignalFd::new(&handled_signals()))?;
    loop {
        let changed = attempt("waitpid", sys::waitpid(pid, libc::WNOHANG | libc::WUNTRACED))?;
        match changed {
            Some(status) if status.code().is_some() || status.signal().is_some() => {
                return Ok(status);
            }
            Some(_) if lent.0.is_some() => {
                // ^Z has stopped the job (of exec: PID 1 drops it). husk stops too, until fg.
                lent.take_back();
                let _ = signal::raise(Signal::SIGSTOP);
                hand_over(pid);
                let _ = signal::killpg(Pid::from_raw(pid), Signal::SIGCONT);
            }
            _ => {}
        }
        let Some(info) = attempt("read signalfd", signals.read_signal())? else { continue };
        let number = info.ssi_signo as i32;
        if FORWARDED.iter().any(|signal| *signal as i32 == number) {
            // What is typed at the terminal (SI_KERNEL) is for a whole group: ^C in a pipeline.
            let sign = if info.ssi_code == libc::SI_KERNEL { -1 } else { 1 };
            let _ = sys::kill(sign * pid, number);
        }
    }
}
