//! process.terminal: a terminal of the container's own, whose other end goes to the caller.

use super::calls;
use super::plan::Plan;
use crate::mounts::{bind, place};
use crate::paths::Tree;
use crate::step::{Result, attempt, step};
use crate::terminal::{self, Inside};
use libc::winsize;
use nix::pty::openpty;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{self, Gid, Uid};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub fn open(plan: &Plan, console: &UnixStream) -> Result<()> {
    let size = plan.process.console_size().unwrap_or_default();
    let (ws_row, ws_col) = (size.height() as u16, size.width() as u16);
    let size = winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = step!(openpty(&size, None), "open /dev/ptmx")?;
    hand_out(console, &pty.master)?;
    if plan.is_new {
        place_console(&pty.slave)?;
    }
    let uid = Uid::from_raw(plan.process.user().uid());
    attempt("chown /dev/console", unistd::fchown(&pty.slave, Some(uid), None))?;
    step!(calls::login_tty(pty.slave), "setsid --ctty")
}

/// In the foreground husk itself attends it.
pub fn open_own(plan: &Plan, inside: &mut Inside) -> Result<()> {
    if inside.has_pty() {
        let devpts = attempt("/dev/pts", terminal::open_devpts("/dev/pts"))?;
        let slave = inside.open_pty(devpts)?;
        if let (true, Some(slave)) = (plan.is_new, slave) {
            place_console(slave)?;
        }
    }
    let user = plan.process.user();
    inside.give_to(Uid::from_raw(user.uid()), Gid::from_raw(user.gid()))
}

fn place_console(slave: impl AsFd) -> Result<()> {
    let node = bind(slave, Path::new(""), libc::MOUNT_ATTR_NOEXEC, false)?;
    let placed = || place(&node, Tree::Own, Path::new("/dev/console"));
    step!(placed(), "mount --move (it) /dev/console")
}

fn hand_out(console: &UnixStream, master: &OwnedFd) -> Result<()> {
    let fds = [master.as_raw_fd()];
    let text = [IoSlice::new(b"/dev/ptmx")];
    let rights = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(console.as_raw_fd(), &text, &rights, MsgFlags::MSG_NOSIGNAL, None);
    attempt("--console-socket", sent)?;
    Ok(())
}
