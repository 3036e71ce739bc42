//! Paths of the container's root file system, which neither a symlink nor `..` leads out of.

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{self, Mode};
use std::os::fd::OwnedFd;
use std::path::Path;

/// How often a look-up is tried again.
const TRIES: usize = 1000;

/// Opens what is there already.
pub fn open(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    open_with(root, path, OFlag::O_PATH, 0)
}

/// A directory of the host's, by a path that is our caller's.
pub fn directory(path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    fcntl::open(path, flags, Mode::empty())
}

pub fn is_link(root: &OwnedFd, path: &Path) -> bool {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let Ok(parent) = open(root, above) else { return false };
    fcntl::readlinkat(&parent, name).is_ok()
}

/// Opens it, but makes it first if it is missing.
pub fn make(root: &OwnedFd, path: &Path, is_dir: bool) -> Result<OwnedFd, Errno> {
    match open(root, path) {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    if !is_dir {
        match open_with(root, path, OFlag::O_CREAT | OFlag::O_EXCL, 0o644) {
            Err(Errno::ENOENT | Errno::EEXIST) => {}
            made => return made,
        }
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ENOENT);
    };
    let parent = make(root, &Path::new("/").join(above), true)?;
    if let Ok(link) = fcntl::readlinkat(&parent, name) {
        return make(root, &above.join(link), is_dir); // to what is missing
    }
    if !is_dir {
        let new = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        return fcntl::openat(&parent, name, new, Mode::from_bits_retain(0o644));
    }
    stat::mkdirat(&parent, name, Mode::from_bits_retain(0o755))?;
    make(root, path, is_dir)
}

fn open_with(root: &OwnedFd, path: &Path, flags: OFlag, mode: u32) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let how = how.mode(Mode::from_bits_retain(mode));
    for _ in 0..TRIES {
        match fcntl::openat2(root, path, how) {
            Err(Errno::EAGAIN) => {} // something was renamed or mounted while `..` was followed
            found => return found,
        }
    }
    Err(Errno::EAGAIN)
}
