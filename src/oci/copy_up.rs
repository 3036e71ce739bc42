//! tmpcopyup: a tmpfs begins with what is in the directory that it covers.

use nix::dir::Dir;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{self, FileStat, Mode, SFlag};
use nix::unistd::{self, Gid, Uid};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// Copies all that is in one directory to another: by descriptors, and no link is followed.
pub fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let list = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    for entry in Dir::openat(from, ".", list, Mode::empty())? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let meta = stat::fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            copy_one(from, to, name, &meta)?;
        }
    }
    Ok(())
}

fn copy_one(from: &OwnedFd, to: &OwnedFd, name: &CStr, meta: &FileStat) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(meta.st_mode);
    let kind = SFlag::from_bits_truncate(meta.st_mode & SFlag::S_IFMT.bits());
    match kind {
        SFlag::S_IFDIR => {
            stat::mkdirat(to, name, mode)?;
            let look = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let below = fcntl::openat(from, name, look, Mode::empty())?;
            copy(&below, &fcntl::openat(to, name, look, Mode::empty())?)?;
        }
        SFlag::S_IFREG => {
            let read = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mut old = File::from(fcntl::openat(from, name, read, Mode::empty())?);
            let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            io::copy(&mut old, &mut File::from(fcntl::openat(to, name, new, mode)?))?;
        }
        SFlag::S_IFLNK => {
            let target = fcntl::readlinkat(from, name)?;
            unistd::symlinkat(target.as_os_str(), to, name)?;
        }
        _ => stat::mknodat(to, name, kind, mode, meta.st_rdev)?,
    }
    let (uid, gid) = (Uid::from_raw(meta.st_uid), Gid::from_raw(meta.st_gid));
    unistd::fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if kind != SFlag::S_IFLNK {
        // Whoever gives a file away clears its set-user-ID bit.
        stat::fchmodat(to, name, mode, stat::FchmodatFlags::FollowSymlink)?;
    }
    Ok(())
}
