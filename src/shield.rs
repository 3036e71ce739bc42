//! Nobody in a container may write to husk's own file, which /proc/PID/exe leads to as long as husk
//! runs in there (CVE-2019-5736).

use crate::cgroups::field;
use crate::paths::by_number;
use crate::step::{Error, Result, attempt, step};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, FcntlArg, SealFlag};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::statvfs::{self, FsFlags};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// `is_husk` is enough only where no code of ROOTFS, as its loader, can run as husk, and without
/// the capabilities that have other ways to a program's file: those beyond `usual`. Nor is it where
/// husk stays in there.
pub fn raise_if_needed(capabilities: u64, usual: u64, stays: bool) -> Result<()> {
    if cfg!(target_feature = "crt-static") && capabilities & !usual == 0 && !stays {
        return Ok(());
    }
    raise()
}

/// Starts husk again from a copy of itself that nobody can write to: where `is_husk` would look too
/// late, as in exec, or does not see all.
pub fn raise() -> Result<()> {
    let exe = attempt("open /proc/self/exe", File::open("/proc/self/exe"))?;
    let seals = fcntl::fcntl(&exe, FcntlArg::F_GET_SEALS).unwrap_or_default();
    let mount = attempt("statvfs /proc/self/exe", statvfs::fstatvfs(&exe))?;
    if seals & libc::F_SEAL_WRITE != 0 || mount.flags().contains(FsFlags::ST_RDONLY) {
        // exec has named the process after a file called "4" or so, in /proc/self/fd.
        return attempt("prctl PR_SET_NAME", prctl::set_name(c"husk"));
    }
    // An ordinary user may not clone a mount.
    let copy = match step!(read_only_mount(), "mount --bind -o ro /proc/self/exe (detached)") {
        Ok(copy) => copy,
        Err(_) => step!(sealed_copy(&exe), "cp husk (a sealed memfd)")?,
    };
    let mut words = env::args_os();
    let own_name = words.next().unwrap_or_default();
    let mut husk = Command::new(by_number(&copy));
    husk.arg0(own_name).args(words);
    step!(Err(husk.exec()), "exec husk")
}

fn read_only_mount() -> Result<OwnedFd, Errno> {
    let mount = sys::open_tree(AT_FDCWD, Path::new("/proc/self/exe"), 0)?;
    sys::mount_setattr(&mount, 0, libc::MOUNT_ATTR_RDONLY, 0, 0)?;
    Ok(mount)
}

fn sealed_copy(exe: &File) -> io::Result<OwnedFd> {
    let mut copy = File::from(memfd_create("husk", MFdFlags::MFD_ALLOW_SEALING)?);
    io::copy(&mut &*exe, &mut copy)?;
    fcntl::fcntl(&copy, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(copy.into())
}

/// Refuses a command that has turned out to be husk itself.
pub fn check(pid: i32, command: &CStr) -> Result<()> {
    if !is_husk(pid) {
        return Ok(());
    }
    let name = command.to_string_lossy();
    Err(Error { status: 126, why: format!("{name}: is husk itself") })
}

/// Is the program of a process the host's husk? A command such as /proc/self/exe leads to that, and
/// the container could overwrite it later. So far only husk's own code has run in there.
pub fn is_husk(pid: i32) -> bool {
    // None: it has ended, or we may not look at it, and then nobody in there may.
    let Some(program) = program_of(&pid.to_string()) else { return false };
    Some(program) == program_of("self")
}

/// The mount and inode of a process's program. By a volume it is the same file on another mount,
/// but that is what the caller wants.
fn program_of(pid: &str) -> Option<[String; 2]> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_PATH);
    let exe = options.open(format!("/proc/{pid}/exe")).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", exe.as_raw_fd())).ok()?;
    Some(["mnt_id", "ino"].map(|key| field(&info, key).concat()))
}
