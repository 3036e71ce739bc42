//! What parent and child say to each other, each at its end of a socket: a word to go on, or why
//! not.

use crate::step::{Error, Result, error, step};
use nix::sys::socket::{self, MsgFlags};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// No exit status of an error.
const GO_ON: u8 = 0;

pub fn tell(other: &UnixStream, meaning: &str) -> Result<()> {
    let send = || socket::send(other.as_raw_fd(), &[GO_ON], MsgFlags::MSG_NOSIGNAL);
    step!(send(), "sendto ({meaning})")?;
    Ok(())
}

/// If the other side is gone, why comes from here.
pub fn wait_for_word(other: &UnixStream) -> Result<()> {
    if hear(other)? { Ok(()) } else { Err(error("the other side is gone")) }
}

/// Waits until the child is its command: it tells when that is next, and execve(2) closes the
/// socket.
pub fn wait_for_exec(child: &UnixStream) -> Result<()> {
    if !hear(child)? {
        return Err(error("the container's first process was killed in its start"));
    }
    hear(child).map(drop)
}

/// Anything but that word is the child's error; false is its end or its exec.
fn hear(mut other: &UnixStream) -> Result<bool> {
    let mut word = [GO_ON];
    let is_there = other.read_exact(&mut word).is_ok();
    if word == [GO_ON] {
        return Ok(is_there);
    }
    let mut why = vec![];
    let _ = other.read_to_end(&mut why);
    Err(Error { status: word[0], why: String::from_utf8_lossy(&why).into() })
}
