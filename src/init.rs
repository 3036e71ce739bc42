//! --init: husk stays PID 1, for commands that don't expect to be that. It passes signals on, which
//! PID 1 itself would never get without a handler; it takes in the orphans of the container; and
//! it ends with the command's status. The command is its child.

use crate::caller;
use crate::step::{Result, attempt, step};
use crate::sys;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::exit;

/// Like fork(2), but it returns in the child only, and only when PID 1 has nothing left that the
/// command must not see.
pub fn stay_behind(command: &[CString]) -> Result<()> {
    // Before, these were husk's own: host's paths, and what --env says.
    let mut words = vec![c"husk-init".to_bytes_with_nul()];
    words.extend(command.iter().map(|word| word.to_bytes_with_nul()));
    sys::overwrite_arguments(&words.concat());
    let signals = SigSet::all();
    attempt("sigprocmask", signals.thread_block())?;
    let (reader, writer) = attempt("pipe", io::pipe())?;
    let pid = step!(sys::fork(), "fork (PID 1 stays behind)")?;
    if pid == 0 {
        drop(writer);
        let _ = (&reader).read(&mut [0]); // the end comes when PID 1 has closed it
        return Ok(());
    }
    // The command makes a session of its own, with the terminal. Out of husk's group, too, ^C on
    // the caller's terminal comes here once, by husk.
    let _ = unistd::setsid();
    let _ = prctl::set_name(c"husk-init");
    // Its memory knows paths of the host's. (A user's husk exec could not enter it then.)
    if !caller::is_rootless() {
        let _ = prctl::set_dumpable(false);
    }
    // What husk has open, the report's socket too: else the parent would wait for its end.
    sys::close_others(0, &[]);
    exit(attend(pid, signals))
}

/// Until the command ends: its exit status, as a shell would tell it.
fn attend(command: i32, signals: SigSet) -> i32 {
    loop {
        while let Ok(Some((pid, status))) = sys::waitpid(-1, libc::WNOHANG) {
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
