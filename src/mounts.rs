//! Mounts: docker's, its devices and masked paths as tables, and how they are made and placed. All
//! are made detached, while the host's files can be seen, and placed when only ROOTFS's are left.

use crate::paths::{Make, Tree, is_dir};
use crate::step::{Result, attempt, cat, error, say_step, step};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat, mknodat, stat};
use nix::sys::sysinfo::sysinfo;
use nix::unistd;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A file system, where it belongs, and its options, in the words of fstab(5). A relative target is
/// below the last absolute one.
pub type Row = [&'static str; 3];

/// /dev, and what is right in it, by names without a slash.
pub const DEV_MOUNTS: [Row; 4] = [
    ["tmpfs", "/dev", "nosuid,nodev,noexec,mode=755,size=64m,nr_inodes=16k"],
    ["devpts", "pts", "nosuid,noexec,ptmxmode=666,mode=620,gid=5"],
    ["tmpfs", "shm", "nosuid,nodev,noexec,mode=1777,size=64m,nr_inodes=16k"],
    ["mqueue", "mqueue", "nosuid,nodev,noexec"],
];
/// Which of these is /dev itself, and which the container's terminals.
pub const DEV: usize = 0;
pub const DEVPTS: usize = 1;

/// All else but /proc.
pub const SYS: [Row; 2] = [
    ["sysfs", "/sys", "nosuid,nodev,noexec,ro"],
    ["cgroup2", "fs/cgroup", "nosuid,nodev,noexec,ro"],
];

/// The host's own nodes, bound read-only: a chmod of /dev/null in here must not reach the host's.
pub const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
pub const DEVICE: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;

pub const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// docker's masked paths and a few more, which tell of the host or change it, are covered by
/// something empty.
pub const MASKED: [&str; 13] = [
    "/proc/acpi",                    // switches hardware off (CVE-2018-10892)
    "/proc/scsi",                    // removes disks (CVE-2017-16539)
    "/proc/asound",                  // what the host plays
    "/proc/interrupts",              // when somebody types on it
    "/proc/dynamic_debug",           // turns the kernel's messages on
    "/proc/kcore",                   // all memory
    "/proc/keys",                    // everybody's keys
    "/proc/locks",                   // husk's locks
    "/proc/latency_stats",           // what all processes wait for
    "/proc/sched_debug",             // all processes
    "/proc/timer_list",              // all processes' timers
    "/sys/devices/virtual/powercap", // power use betrays keys (CVE-2020-8694)
    "/sys/firmware",                 // the firmware's variables
];

/// docker's read-only paths, the machine's settings and emergency keys, are covered by themselves.
pub const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// How large a container's changes may become, as a tmpfs's options, tmpfs(5): a memory limit's
/// size, or a quarter of the machine's memory in all. An inode takes 2 KiB of the kernel's memory
/// beside what is in the file, so a fifth of the quarter is theirs.
pub fn storage(limit: Option<&str>) -> Result<String> {
    if let Some(limit) = limit {
        return Ok(format!("mode=755,size={limit}"));
    }
    let total = attempt("sysinfo", sysinfo())?.ram_total();
    Ok(format!("mode=755,size=20%,nr_inodes={}", total / 20 / 2048))
}

/// A mount that is attached nowhere yet, and where it shall be.
pub struct Detached {
    pub mount: OwnedFd,
    pub target: PathBuf,
}

/// What --volume and --tmpfs mount.
pub enum Source {
    /// A directory or file of the host, which the container shares.
    Host(PathBuf),
    /// A device of the host's, and its number.
    Device(PathBuf, u64),
    /// A new tmpfs, by its options.
    Tmpfs(String),
}

pub struct Volume {
    pub source: Source,
    pub target: PathBuf,
    pub read_only: bool,
}

/// A new file system by the options of fstab(5).
pub fn new_mount(fstype: &str, options: &str) -> Result<OwnedFd> {
    let mut attributes = 0;
    let mut own = vec![("source", Some(fstype))];
    for word in options.split(',') {
        match word {
            "ro" => attributes |= libc::MOUNT_ATTR_RDONLY,
            "nosuid" => attributes |= libc::MOUNT_ATTR_NOSUID,
            "nodev" => attributes |= libc::MOUNT_ATTR_NODEV,
            "noexec" => attributes |= libc::MOUNT_ATTR_NOEXEC,
            word => match word.split_once('=') {
                Some((key, value)) => own.push((key, Some(value))),
                None => own.push((word, None)),
            },
        }
    }
    step!(
        sys::fsmount(fstype, &own, attributes),
        "mount -t {fstype} -o {options} {fstype} (detached)"
    )
}

/// A bind mount of a path, or with an empty path of `dir` itself. With `deep` also of all that is
/// mounted below it.
pub fn bind(dir: impl AsFd, path: &Path, attributes: u64, deep: bool) -> Result<OwnedFd> {
    let recursive = if deep { libc::AT_RECURSIVE } else { 0 };
    let shown = path.display();
    let dir = dir.as_fd();
    let clone = || {
        let mount = sys::open_tree(dir, path, recursive | libc::AT_EMPTY_PATH)?;
        sys::mount_setattr(&mount, recursive, attributes, 0, 0)?;
        Ok::<_, Errno>(mount)
    };
    step!(clone(), "mount --bind {shown} (detached)")
}

/// What a table lists, made detached.
pub fn make(table: &[Row], is_rootless: bool) -> Result<Vec<Detached>> {
    let mut mounts = vec![];
    for [fstype, target, options] in table {
        // Group 5, tty, is not among a user's ids.
        let options = if is_rootless { options.trim_end_matches(",gid=5") } else { options };
        let mount = new_mount(fstype, options)?;
        mounts.push(Detached { mount, target: target.into() });
    }
    Ok(mounts)
}

/// /sys shows the network of its maker, and only whoever owns that may mount one: else it is the
/// host's.
pub fn make_sys(is_rootless: bool, shares_network: bool) -> Result<Vec<Detached>> {
    if !is_rootless || !shares_network {
        return make(&SYS, is_rootless);
    }
    let mount = bind(AT_FDCWD, Path::new("/sys"), DEVICE | libc::MOUNT_ATTR_NODEV, true)?;
    let mut mounts = vec![Detached { mount, target: "/sys".into() }];
    mounts.extend(make(&SYS[2..], is_rootless)?); // with the host's come the first two
    Ok(mounts)
}

/// Files of husk's own, each by its name and its text. They are kept in /dev, which is a tmpfs now.
pub fn make_files(
    target: &str,
    files: &[(&str, String)],
    read_only: bool,
) -> Result<Vec<Detached>> {
    let mut attributes = libc::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    let mut mounts = vec![];
    for (name, text) in files {
        let path = Path::new("/dev").join(name);
        step!(fs::write(&path, text), "write {}", path.display())?;
        let mount = bind(AT_FDCWD, &path, attributes, false)?;
        mounts.push(Detached { mount, target: Path::new(target).join(name) });
    }
    Ok(mounts)
}

/// /dev and what is in it.
pub fn make_dev(is_rootless: bool) -> Result<Vec<Detached>> {
    let mut mounts = make(&DEV_MOUNTS, is_rootless)?;
    let dev = &mounts[DEV].mount;
    for (name, to) in LINKS {
        step!(unistd::symlinkat(to, dev, name), "ln -s {to} /dev/{name}")?;
    }
    for [_, name, _] in &DEV_MOUNTS[DEV + 1..] {
        let mode = Mode::from_bits_retain(0o755);
        step!(mkdirat(dev, *name, mode), "mkdir /dev/{name}")?;
    }
    for name in DEVICES {
        let file = || mknodat(dev, name, SFlag::S_IFREG, Mode::empty(), 0);
        step!(file(), "touch /dev/{name}")?;
    }
    mounts.extend(bind_devices()?);
    Ok(mounts)
}

/// The host's nodes, to be placed in /dev.
fn bind_devices() -> Result<Vec<Detached>> {
    let mut mounts = vec![];
    for name in DEVICES {
        let node = bind(AT_FDCWD, &Path::new("/dev").join(name), DEVICE, false)?;
        mounts.push(Detached { mount: node, target: name.into() });
    }
    Ok(mounts)
}

/// Those of these nodes that have one of the numbers, to be placed nowhere. No others, for when a
/// detached mount is closed the kernel waits until no CPU can be looking at it.
pub fn bind_open_devices(numbers: &[u64]) -> Result<Vec<OwnedFd>> {
    let mut nodes = vec![];
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        let number = device_number(&path);
        if number != 0 && numbers.contains(&number) {
            nodes.push(bind(AT_FDCWD, &path, DEVICE, false)?);
        }
    }
    Ok(nodes)
}

fn device_number(path: &Path) -> u64 {
    stat(path).map_or(0, |meta| meta.st_rdev)
}

/// What the command line asks for, made while the host's paths can be followed.
pub fn make_volumes(volumes: &[Volume]) -> Result<Vec<Detached>> {
    let mut mounts = vec![];
    for volume in volumes {
        let mut attributes = libc::MOUNT_ATTR_NODEV;
        if volume.read_only {
            attributes |= libc::MOUNT_ATTR_RDONLY;
        }
        let mount = match &volume.source {
            Source::Host(path) => bind(AT_FDCWD, path, attributes, true)?,
            Source::Device(path, number) => bind_device(path, *number)?,
            // What is said twice counts as it is said last.
            Source::Tmpfs(own) => new_mount("tmpfs", &format!("{},{own}", storage(None)?))?,
        };
        mounts.push(Detached { mount, target: volume.target.clone() });
    }
    Ok(mounts)
}

/// What is mounted right in a directory or deeper, if anything is.
pub fn first_below(dir: &Path) -> Option<PathBuf> {
    let mounts = cat("/proc/self/mountinfo").ok()?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(PathBuf::from).find(|point| point.starts_with(dir) && point != dir)
}

/// The option of an overlay(5) whose upper layer is this directory. It notes in attributes what it
/// hides of the lower one: a user's begin with "user.".
pub fn attributes_option(is_rootless: bool, upper: &str) -> &'static str {
    if !is_rootless {
        return "";
    }
    let probed = File::open(upper).map(|dir| sys::fsetxattr(&dir, "user.husk", b""));
    if matches!(probed, Ok(Err(Errno::EOPNOTSUPP))) && io::stderr().is_terminal() {
        let _ = io::stderr().write_all(OLD_KERNEL.as_bytes());
    }
    ",userxattr"
}

const OLD_KERNEL: &str = "\
husk: before Linux 6.6 a user can't remove or rename directories that came with ROOTFS (EIO): \
copy it and use --writable, or be root\n";

/// A device that the command line has named. By now its path may lead to another one.
fn bind_device(path: &Path, number: u64) -> Result<OwnedFd> {
    let mount = bind(AT_FDCWD, path, DEVICE, false)?;
    let meta = attempt(path.display(), fstat(&mount))?;
    if meta.st_rdev != number {
        return Err(error(format!("--device {}: it is another device by now", path.display())));
    }
    Ok(mount)
}

/// /etc comes before /etc/hosts, whoever wants which. Of two for the same place the last is seen.
pub fn sort(mut mounts: Vec<Detached>, more: Vec<Detached>) -> Vec<Detached> {
    mounts.extend(more);
    mounts.sort_by_key(|made| made.target.components().count());
    mounts
}

const KINDS: &str = "a directory can't be mounted on a file, nor a file on a directory";

/// Places mounts one after the other, and covers what is not for containers in /sys and /proc. The
/// first is /dev.
pub fn place_all(mounts: &[Detached]) -> Result<()> {
    let mut above = &mounts[DEV];
    let mut empty = None;
    for made in mounts {
        let Detached { mount, target } = made;
        if !target.is_absolute() {
            place_in(above, made)?;
            continue;
        }
        above = made;
        let shown = target.display();
        say_step(format_args!("mount --move (it) {shown}"));
        match place(mount, Tree::Own, target) {
            Err(Errno::ENOTDIR) => return Err(error(format!("{shown}: {KINDS}"))),
            placed => attempt(format_args!("mount --move (it) {shown}"), placed)?,
        }
        if [Path::new("/sys"), Path::new("/proc")].contains(&target.as_path()) {
            cover(made, &mounts[DEV].mount, &mut empty)?;
        }
    }
    Ok(())
}

/// Attaches a mount in a file system of husk's own. It has the place already, and so far no names
/// but husk's and the kernel's: they need no care.
fn place_in(above: &Detached, made: &Detached) -> Result<()> {
    let shown = above.target.join(&made.target);
    let name = made.target.to_str().unwrap_or_default();
    let placed = || sys::move_mount(&made.mount, &above.mount, name);
    step!(placed(), "mount --move (it) {}", shown.display())
}

/// The container's terminal, if it has one, is its /dev/console too, as docker has it.
pub fn place_console(terminal: Option<BorrowedFd>, dev: &OwnedFd) -> Result<()> {
    let Some(terminal) = terminal else { return Ok(()) };
    let console = bind(terminal, Path::new(""), DEVICE, false)?;
    let tree = Tree::Below(dev.as_fd());
    step!(place(&console, tree, Path::new("console")), "mount --move (it) /dev/console")
}

/// Attaches a mount at its target, which is made if it is missing.
pub fn place(mount: &OwnedFd, tree: Tree, target: &Path) -> Result<(), Errno> {
    let place = match tree.open(target, OFlag::O_PATH, 0) {
        Err(Errno::ENOENT) => {
            let make = if is_dir(mount) { Make::Dir } else { Make::File };
            tree.open_or_make(target, make)?
        }
        there => there?,
    };
    match sys::move_mount(mount, &place, "") {
        Err(Errno::EINVAL) if is_dir(&place) != is_dir(mount) => Err(Errno::ENOTDIR),
        placed => placed,
    }
}

/// Covers what is masked or read-only in the new /sys or /proc, and what this kernel has of it.
/// `dev` is the container's /dev, and `empty` the first directory that was covered, if one was.
fn cover(above: &Detached, dev: &OwnedFd, empty: &mut Option<(String, OwnedFd)>) -> Result<()> {
    let base = above.target.to_str().unwrap_or_default();
    let tree = &above.mount;
    let below = |path: &'static str| path.strip_prefix(base)?.strip_prefix('/');
    for name in MASKED.into_iter().filter_map(below) {
        let path = format!("{base}/{name}");
        let Some(is_dir) = is_dir_at(tree, name)? else { continue };
        let cover = match empty {
            _ if !is_dir => bind(dev, Path::new("null"), DEVICE, false)?,
            Some((place, mount)) => {
                let clone = || sys::open_tree(mount, Path::new(""), libc::AT_EMPTY_PATH);
                step!(clone(), "mount --bind {place} (detached)")?
            }
            None => new_mount("tmpfs", "ro,nosuid,nodev,noexec")?,
        };
        step!(sys::move_mount(&cover, tree, name), "mount --move (it) {path}")?;
        if is_dir && empty.is_none() {
            *empty = Some((path, cover));
        }
    }
    for name in READ_ONLY.into_iter().filter_map(below) {
        let sentence = format!("mount --bind -o ro {base}/{name} {base}/{name}");
        say_step(&sentence);
        let mount = match sys::open_tree(tree, Path::new(name), 0) {
            Err(Errno::ENOENT) => continue, // this kernel has none
            found => attempt(&sentence, found)?,
        };
        let read_only = DEVICE | libc::MOUNT_ATTR_NODEV;
        attempt(&sentence, sys::mount_setattr(&mount, 0, read_only, 0, 0))?;
        attempt(&sentence, sys::move_mount(&mount, tree, name))?;
    }
    Ok(())
}

/// Is it a directory? None: it is not there.
fn is_dir_at(dir: &OwnedFd, name: &str) -> Result<Option<bool>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(None),
        found => {
            let kind = attempt(name, found)?.st_mode & libc::S_IFMT;
            Ok(Some(kind == libc::S_IFDIR))
        }
    }
}
