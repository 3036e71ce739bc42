//! Settings of a container's own network, by its own /proc/sys.

use crate::step::{Result, attempt, step};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use nix::unistd;
use std::os::fd::{AsFd, OwnedFd};

/// docker's defaults for a network of the container's own.
const DEFAULTS: [(&str, &str); 3] = [
    // With IPv6 each container's search for neighbours and routers would be every other's, too, and
    // each could pose as a router.
    (IPV6_OFF, "1"),
    // Users other than root may serve on port 80 ...
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // ... and ping.
    (PING_GROUPS, "0 2147483647"),
];

const IPV6_OFF: &str = "net/ipv6/conf/eth0/disable_ipv6";
const PING_GROUPS: &str = "net/ipv4/ping_group_range";

/// The settings of the network that we are in, by a procfs which nobody else sees. In the host's
/// /proc each container would leave entries behind, and the kernel would look through them for the
/// next one's; and where husk itself is in a container, that may be read-only.
pub fn dir() -> Result<OwnedFd> {
    let proc = step!(sys::fsmount("proc", &[], 0), "mount -t proc proc (detached)")?;
    dir_of(&proc)
}

/// /proc/sys of a certain procfs, to be used when paths can't be trusted any more.
pub fn dir_of(proc: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    attempt("open /proc/sys", fcntl::openat(proc, "sys", flags, Mode::empty()))
}

/// docker's defaults, and what --sysctl says of the network, files and values: before any frame can
/// come. `dir` is /proc/sys.
pub fn set_network(dir: &OwnedFd, wanted: &[(String, String)], is_rootless: bool) -> Result<()> {
    for (file, value) in DEFAULTS {
        if file == PING_GROUPS && is_rootless {
            continue; // the kernel refuses groups that a user namespace does not have
        }
        let setting = open(dir, file);
        if file == IPV6_OFF && matches!(setting, Err(Errno::ENOENT)) {
            continue; // no eth0, or a kernel without IPv6
        }
        write(&attempt(file, setting)?, file, value)?;
    }
    set(dir, wanted.iter().filter(|(file, _)| is_network(file)))
}

/// What --sysctl says of all else.
pub fn set_others(dir: &OwnedFd, wanted: &[(String, String)]) -> Result<()> {
    set(dir, wanted.iter().filter(|(file, _)| !is_network(file)))
}

fn set<'a>(dir: &OwnedFd, wanted: impl Iterator<Item = &'a (String, String)>) -> Result<()> {
    for (file, value) in wanted {
        let setting = attempt(format_args!("--sysctl {file}"), open(dir, file))?;
        write(&setting, file, value)?;
    }
    Ok(())
}

fn open(dir: &OwnedFd, file: &str) -> Result<OwnedFd, Errno> {
    fcntl::openat(dir, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn write(setting: &OwnedFd, file: &str, value: &str) -> Result<()> {
    step!(unistd::write(setting, value.as_bytes()), "echo {value} > /proc/sys/{file}")?;
    Ok(())
}

/// Settings of the namespaces that a container has for itself: all of the network's, and these. All
/// others are the machine's.
const OWN: [&str; 9] = [
    "fs/mqueue/",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// NAME=VALUE becomes a file below /proc/sys and what to write to it.
pub fn parse(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let file = if name.contains('/') { name.into() } else { name.replace('.', "/") };
    let is_own = is_network(&file) || OWN.iter().any(|own| file.starts_with(own));
    let is_safe = !file.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    (is_own && is_safe).then(|| (file, value.into()))
}

pub fn is_network(file: &str) -> bool {
    file.starts_with("net/")
}
