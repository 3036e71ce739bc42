//! Settings of a container's own network, by its own /proc/sys, and its state, by its own /sys.

use crate::paths::Tree;
use crate::step::{Result, attempt, step};
use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use nix::unistd;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

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

/// Waits until the kernel has noticed, in the background, that both ends of the veth are up: what
/// is sent before that is lost. It looks after this end first, and lets nobody change the network
/// until it has looked after the other one: so that is ready when the next request is answered.
pub fn wait_until_up() {
    let path = Path::new("/sys/class/net/eth0/operstate");
    let Ok(state) = Tree::Own.open(path, OFlag::O_RDONLY, 0) else { return };
    let state = File::from(state);
    let start = Instant::now();
    let mut text = [0; 2];
    while start.elapsed() < Duration::from_secs(1) {
        if state.read_at(&mut text, 0).is_err() || text == *b"up" {
            return;
        }
        thread::sleep(Duration::from_micros(20));
    }
}
