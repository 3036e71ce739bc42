//! --init: husk stays PID 1, for commands that don't expect to be that. It passes signals on, which
//! PID 1 itself would never get without a handler; it takes in the orphans of the container; and
//! it ends with the command's status. The command is its child.

use crate::step::{Result, attempt, step};
use crate::sys;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{self, Pid};
use std::ffi::CString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::exit;

/// Like fork(2), but it returns in the child only.
pub fn stay_behind(command: &[CString]) -> Result<()> {
    let signals = SigSet::all();
    attempt("sigprocmask", signals.thread_block())?;
    let pid = step!(sys::fork(), "fork (PID 1 stays behind)")?;
    if pid == 0 {
        lead_foreground();
        return Ok(());
    }
    // What husk has open, the report's socket too: else the parent would wait for its end.
    sys::close_others(0, &[]);
    let _ = prctl::set_name(c"husk-init");
    let mut words = vec![c"husk-init".to_bytes_with_nul()];
    words.extend(command.iter().map(|word| word.to_bytes_with_nul()));
    // Before, they were husk's own: host's paths, and what --env says.
    sys::overwrite_arguments(&words.concat());
    exit(attend(pid, signals))
}

/// A process group of its own, with the terminal: so what is typed there, as ^C, reaches the
/// command once, and not by us, too.
fn lead_foreground() {
    let _ = unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
    let _ = unistd::tcsetpgrp(io::stdin(), unistd::getpgrp());
}

/// Until the command ends: its exit status, as a shell would tell it.
fn attend(command: i32, signals: SigSet) -> i32 {
    loop {
        while let Ok(Some((pid, status))) = sys::wait_for_any(libc::WNOHANG) {
            if pid == command {
                let by_signal = status.signal().map(|number| 128 + number);
                return status.code().or(by_signal).unwrap_or(125);
            }
        }
        match sys::sigwaitinfo(signals.as_ref()) {
            Ok(number) if number != Signal::SIGCHLD as i32 => {
                let _ = sys::kill(command, number);
            }
            _ => {} // a child has ended
        }
    }
}
