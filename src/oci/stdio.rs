//! A process's input and output.

use crate::step::{Result, attempt};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{self, SFlag};
use nix::unistd::{self, Uid};
use std::io;
use std::os::fd::AsFd;

/// Makes them its user's, who may then open them by name (/dev/stdout), too.
pub fn give_to(uid: u32) -> Result<()> {
    give_input_to(uid)?;
    give(io::stdout(), uid)?;
    give(io::stderr(), uid)
}

pub fn give_input_to(uid: u32) -> Result<()> {
    give(io::stdin(), uid)
}

fn give(file: impl AsFd, uid: u32) -> Result<()> {
    let Ok(its) = stat::fstat(&file) else { return Ok(()) }; // it is closed
    if its.st_uid == uid || !is_private(&file, its.st_mode) {
        return Ok(());
    }
    match unistd::fchown(&file, Some(Uid::from_raw(uid)), None) {
        // It is another user namespace's, or is where nobody may change an owner.
        Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS) => Ok(()),
        done => attempt("chown of standard input and output", done),
    }
}

/// Pipes, sockets, and files to write to are its own. A device is everybody's, above all /dev/null,
/// and so is a file to read from; a terminal goes back to the caller.
fn is_private(file: impl AsFd, mode: u32) -> bool {
    match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO | SFlag::S_IFSOCK => true,
        SFlag::S_IFREG => {
            let flags = fcntl(&file, FcntlArg::F_GETFL).unwrap_or(0);
            flags & OFlag::O_ACCMODE.bits() != OFlag::O_RDONLY.bits()
        }
        _ => false,
    }
}
