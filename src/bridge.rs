//! husk0: the bridge between the containers and the world, and its firewall rules, once per host.

use crate::netlink::{Netlink, mac_of};
use crate::step::{Result, attempt, cat, echo, error, say_step, step};
use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The host's address on husk0, of 10.77.0.0/16 (see RULES).
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const PREFIX: u8 = 16;

/// Containers may talk to each other and to the world, also where docker has FORWARD dropped and
/// sends bridged frames through it. From outside come only answers, and what is sent on (DNAT).
/// -I puts each later rule above the one before.
const RULES: [&str; 4] = [
    "-t nat -A POSTROUTING -s 10.77.0.0/16 ! -o husk0 -j MASQUERADE",
    "-t filter -I FORWARD -o husk0 -j DROP",
    "-t filter -I FORWARD -i husk0 -j ACCEPT",
    "-t filter -I FORWARD -o husk0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
];

/// A container's address, out of a random number: 0 is the network, 1 the gateway, the last one
/// broadcast.
pub fn address(random: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(GATEWAY.to_bits() + 1 + random % 65_533)
}

/// The name of a container's end on the bridge leases its address: the kernel refuses a second
/// interface of that name.
pub fn port_name(ip: Ipv4Addr) -> String {
    format!("husk{}", ip.to_bits() & 0xffff)
}

/// Makes husk0 if it is missing, by one husk at a time: the working directory, husk/, is the lock.
/// A husk0 that is up proves that all else was done before, whenever a husk was killed.
pub fn make_if_missing() -> Result<()> {
    // A bridge that is up has a route, and so a line here.
    if cat("/proc/net/route")?.lines().any(|line| line.starts_with("husk0\t")) {
        return Ok(());
    }
    let dir = attempt("open the husk cgroup", File::open("."))?;
    step!(dir.lock(), "flock .")?;
    echo("1", "/proc/sys/net/ipv4/ip_forward")?;
    set_rules()?;
    // A MAC of its own: else it takes the lowest of its ports', and changes when that one leaves.
    let netlink = attempt("netlink socket", Netlink::open())?;
    step!(netlink.add_bridge("husk0", mac_of(GATEWAY)), "ip link add husk0 type bridge")?;
    // A container must not become the host's router (CVE-2020-13401). Fails only without IPv6.
    let _ = echo("0", "/proc/sys/net/ipv6/conf/husk0/accept_ra");
    step!(
        netlink.add_address("husk0", GATEWAY, PREFIX),
        "ip addr add {GATEWAY}/{PREFIX} dev husk0"
    )?;
    step!(netlink.set_up("husk0"), "ip link set husk0 up")?;
    Ok(())
}

/// iptables(8) is the one program that husk runs for itself.
fn set_rules() -> Result<()> {
    let Some(program) = find_iptables() else {
        let text = b"husk: no iptables: containers reach the host and each other only\n";
        let _ = io::stderr().write_all(text);
        return Ok(());
    };
    for rule in RULES {
        // Anew, for their order counts.
        let delete = rule.replace(" -A ", " -D ").replace(" -I ", " -D ");
        say_step(format_args!("iptables -w {delete}"));
        let _ = iptables(&program, &delete);
        say_step(format_args!("iptables -w {rule}"));
        if let Err(why) = iptables(&program, rule) {
            return Err(error(format!("iptables -w {rule}: {why}")));
        }
    }
    Ok(())
}

/// It is often in a directory that PATH lacks, as cron's and su's does.
fn find_iptables() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.into_iter().map(|dir| dir.join("iptables")).find(|file| file.is_file())
}

fn iptables(program: &Path, rule: &str) -> io::Result<()> {
    let done = Command::new(program).arg("-w").args(rule.split(' ')).output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim()))
}
