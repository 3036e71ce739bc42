//! process.terminal: a terminal of the container's own, whose other end goes to the caller.

use super::plan::Plan;
use crate::{Result, attempt, clone_tree, place, say_step};
use libc::{AT_FDCWD, winsize};
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::pty::openpty;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat;
use nix::unistd::{self, Uid};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

pub fn open(plan: &Plan, console: &UnixStream) -> Result<()> {
    let size = plan.process.console_size().unwrap_or_default();
    let (ws_row, ws_col) = (size.height() as u16, size.width() as u16);
    let size = winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = step!(openpty(&size, None), "open /dev/ptmx")?;
    hand_out(console, &pty.master)?;
    if plan.is_new() {
        let number = stat::minor(attempt("fstat", stat::fstat(&pty.slave))?.st_rdev);
        let node = clone_tree(AT_FDCWD, format!("/dev/pts/{number}"), MsFlags::MS_NOEXEC)?;
        place(&node, "/dev/console")?;
    }
    let uid = Uid::from_raw(plan.process.user().uid());
    attempt("chown /dev/console", unistd::fchown(&pty.slave, Some(uid), None))?;
    // SAFETY: this ends in the descriptor's close, and nobody else has it.
    let done = unsafe { libc::login_tty(pty.slave.into_raw_fd()) };
    step!(Errno::result(done), "setsid --ctty")?;
    Ok(())
}

fn hand_out(console: &UnixStream, master: &OwnedFd) -> Result<()> {
    let fds = [master.as_raw_fd()];
    let text = [IoSlice::new(b"/dev/ptmx")];
    let rights = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(console.as_raw_fd(), &text, &rights, MsgFlags::MSG_NOSIGNAL, None);
    attempt("--console-socket", sent)?;
    Ok(())
}
