//! Paths of the container's root file system, which neither a symlink nor `..` leads out of.

use crate::paths::{Make, Tree};
use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens what is there already.
pub fn open(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    Tree::Below(root.as_fd()).open(path, OFlag::O_PATH, 0)
}

/// Opens it, but makes it first if it is missing.
pub fn make(root: &OwnedFd, path: &Path, is_dir: bool) -> Result<OwnedFd, Errno> {
    let make = if is_dir { Make::Dir } else { Make::File };
    Tree::Below(root.as_fd()).open_or_make(path, make)
}

pub fn is_link(root: &OwnedFd, path: &Path) -> bool {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let Ok(parent) = open(root, above) else { return false };
    fcntl::readlinkat(&parent, name).is_ok()
}

/// A directory of the host's, by a path that is our caller's.
pub fn directory(path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    fcntl::open(path, flags, Mode::empty())
}
