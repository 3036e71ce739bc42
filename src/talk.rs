//! What parent and child say to each other, each at its end of a socket: the parent's word to go
//! on, and why the child could not become its command.

use crate::step::{Error, Result, attempt, error, step};
use crate::sys;
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::exit;

/// The word to go on is the container's address, or 0.0.0.0 if it gets none.
pub fn tell(child: &UnixStream, ip: Ipv4Addr) -> Result<()> {
    let word = ip.octets();
    let sent = || socket::send(child.as_raw_fd(), &word, MsgFlags::MSG_NOSIGNAL);
    step!(sent(), "sendto (the child may go on)")?;
    Ok(())
}

pub fn wait_for_word(mut parent: &UnixStream) -> Result<Ipv4Addr> {
    let mut word = [0; 4];
    attempt("the parent is gone", parent.read_exact(&mut word))?;
    Ok(word.into())
}

/// If the parent died before the child's parent-death signal was set, none comes; but then its end
/// of the socket is closed.
pub fn check_parent(parent: &UnixStream) -> Result<()> {
    match socket::recv(parent.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) {
        Err(Errno::EAGAIN) => Ok(()),
        _ => Err(error("the parent is gone")),
    }
}

/// The child's last word: its exit status, and why.
pub fn fail(parent: &UnixStream, error: Error) -> ! {
    let report = [&[error.status], error.why.as_bytes()].concat();
    let _ = socket::send(parent.as_raw_fd(), &report, MsgFlags::MSG_NOSIGNAL);
    exit(error.status.into())
}

/// Waits until the child is its command: execve(2) closes the socket. Before that, an error comes
/// through it.
pub fn wait_for_exec(mut child: &UnixStream) -> Result<()> {
    let mut report = vec![];
    let _ = child.read_to_end(&mut report);
    let Some((status, why)) = report.split_first() else { return Ok(()) };
    Err(Error { status: *status, why: String::from_utf8_lossy(why).into() })
}

/// Ends a child that can't become its command. Its own reason comes before ours.
pub fn give_up(pid: i32, child: &UnixStream, why: Error) -> Error {
    let _ = sys::kill(pid, libc::SIGKILL);
    wait_for_exec(child).err().unwrap_or(why)
}
