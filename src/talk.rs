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

/// No error's exit status.
const ABOUT_TO_EXEC: u8 = 0;

/// The child's word just before execve(2): whatever ends it from now on has ended the command.
pub fn announce_exec(parent: &UnixStream) -> Result<()> {
    let sent = || socket::send(parent.as_raw_fd(), &[ABOUT_TO_EXEC], MsgFlags::MSG_NOSIGNAL);
    step!(sent(), "sendto (the command is next)")?;
    Ok(())
}

/// The child's last word, if it can't become its command: its exit status, and why.
pub fn fail(parent: &UnixStream, error: Error) -> ! {
    let report = [&[error.status], error.why.as_bytes()].concat();
    let _ = socket::send(parent.as_raw_fd(), &report, MsgFlags::MSG_NOSIGNAL);
    exit(error.status.into())
}

/// Has the child become its command? execve(2) closes the socket, and so does its end. Before that
/// comes what it has to say.
pub fn check_exec(child: &UnixStream) -> Result<()> {
    match hear(child) {
        (_, Some(why)) => Err(why),
        (true, None) => Ok(()),
        (false, None) => attempt("the container's first process", Err(Errno::EPIPE)),
    }
}

/// Ends a child that can't become its command. Its own reason comes before ours.
pub fn give_up(pid: i32, child: &UnixStream, why: Error) -> Error {
    let _ = sys::kill(pid, libc::SIGKILL);
    let (_, own) = hear(child);
    own.unwrap_or(why)
}

/// All that the child has to say: did it come as far as execve(2), and what failed, if anything?
fn hear(mut child: &UnixStream) -> (bool, Option<Error>) {
    let mut words = vec![];
    let _ = child.read_to_end(&mut words);
    let has_announced = words.first() == Some(&ABOUT_TO_EXEC);
    if has_announced {
        words.remove(0);
    }
    let Some((status, why)) = words.split_first() else { return (has_announced, None) };
    let why = String::from_utf8_lossy(why).into();
    (has_announced, Some(Error { status: *status, why }))
}
