//! Paths and words: how they become C strings, how a descriptor becomes a path, and how a path of
//! somebody else's tree is opened or made without being led out of it.

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{self, Mode};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Command line and environment came as C strings, so there is no NUL in them; elsewhere what
/// holds one becomes the empty string, which every system call refuses.
pub fn c_string(text: impl AsRef<OsStr>) -> CString {
    CString::new(text.as_ref().as_bytes()).unwrap_or_default()
}

/// The way to an open file, proc_pid_fd(5).
pub fn by_number(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Is there anything at this path?
pub fn exists(path: &CStr) -> bool {
    stat::stat(path).is_ok()
}

/// Is it a directory?
pub fn is_dir(file: impl AsFd) -> bool {
    let Ok(meta) = stat::fstat(file) else { return false };
    meta.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// Is it a regular file?
pub fn is_file(file: impl AsFd) -> bool {
    let Ok(meta) = stat::fstat(file) else { return false };
    meta.st_mode & libc::S_IFMT == libc::S_IFREG
}

/// What a missing path is to become.
#[derive(Clone, Copy, PartialEq)]
pub enum Make {
    Nothing,
    Dir,
    File,
}

/// How many names and symlinks may lead to a path that is missing: each takes some of our stack.
const MOST: u32 = 1000;

/// Whose paths they are. They are resolved without magic links: a procfs that was mounted among
/// them would lead out by /proc/PID/root or /proc/PID/fd (CVE-2024-21626).
#[derive(Clone, Copy)]
pub enum Tree<'a> {
    /// Our own root: after pivot_root(2) there is nothing else.
    Own,
    /// What is below this directory: neither a symlink nor `..` leads above it.
    Below(BorrowedFd<'a>),
}

impl Tree<'_> {
    /// Opens a path, openat2(2). O_CLOEXEC is always set. `mode` is for O_CREAT.
    pub fn open(self, path: &Path, flags: OFlag, mode: u32) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC);
        let how = how.mode(Mode::from_bits_retain(mode));
        let dir = match self {
            Tree::Own => {
                let how = how.resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
                return fcntl::openat2(fcntl::AT_FDCWD, path, how);
            }
            Tree::Below(dir) => dir,
        };
        let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        // EAGAIN: something was renamed or mounted, anywhere, while `..` was followed.
        for _ in 0..1000 {
            match fcntl::openat2(dir, path, how.resolve(inside)) {
                Err(Errno::EAGAIN) => continue,
                opened => return opened,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Opens an absolute path with O_PATH, and makes what is missing of it, as `mkdir -p` or
    /// `touch` would; also where a symlink points to what is missing.
    pub fn open_or_make(self, path: &Path, make: Make) -> Result<OwnedFd, Errno> {
        self.follow(path, make, MOST)
    }

    fn follow(self, path: &Path, make: Make, left: u32) -> Result<OwnedFd, Errno> {
        match self.open(path, OFlag::O_PATH, 0) {
            Err(Errno::ENOENT) if make != Make::Nothing => {}
            opened => return opened,
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ENOENT);
        };
        let above = if above == Path::new("") { Path::new(".") } else { above };
        let left = left.checked_sub(1).ok_or(Errno::ELOOP)?;
        let parent = self.follow(above, Make::Dir, left)?;
        if let Ok(link) = fcntl::readlinkat(&parent, name) {
            return self.follow(&above.join(link), make, left);
        }
        if make == Make::File {
            let new = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let file = fcntl::openat(&parent, name, new, Mode::from_bits_retain(0o644));
            match file {
                Err(Errno::EEXIST) => {} // somebody else was faster
                Err(errno) => return Err(errno),
                Ok(_) => {}
            }
        } else {
            match stat::mkdirat(&parent, name, Mode::from_bits_retain(0o755)) {
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
                Ok(()) => {}
            }
        }
        self.open(path, OFlag::O_PATH, 0)
    }
}
