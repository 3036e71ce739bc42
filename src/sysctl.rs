//! Settings of a container's own network, by its own /proc/sys.

use crate::step::{Result, attempt, step};
use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use nix::unistd;
use std::os::fd::OwnedFd;

/// As docker has it: with IPv6 each container's search for neighbours and routers would be every
/// other's, too, and each could pose as a router. And users other than root may serve on port 80,
/// and ping.
const NETWORK: [(&str, &str); 3] = [
    ("net/ipv6/conf/eth0/disable_ipv6", "1"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
];

/// `dir` is /proc/sys, which is covered for everybody else.
pub fn set_network(dir: &OwnedFd) -> Result<()> {
    for (file, value) in NETWORK {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let setting = fcntl::openat(dir, file, flags, Mode::empty());
        if matches!(setting, Err(Errno::ENOENT)) {
            continue; // a kernel without IPv6
        }
        let setting = attempt(file, setting)?;
        step!(unistd::write(&setting, value.as_bytes()), "echo {value} > /proc/sys/{file}")?;
    }
    Ok(())
}
