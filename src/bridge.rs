//! husk0: the bridge between the containers and the world, and its firewall rules, once per host.

use crate::etc;
use crate::iptables::Iptables;
use crate::netlink::{Netlink, mac_of};
use crate::step::{Result, attempt, cat, echo, say_step, step, warn};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The host's address on husk0, of 10.77.0.0/16 (see RULES).
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub const PREFIX: u8 = 16;

/// The address of who is not on it.
pub const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// The metric of husk0's route says that all else is done. It is another one for other RULES.
const COMPLETE: u32 = 771;

/// For the admin's own rules. husk never flushes it.
const USER_CHAIN: &str = "-t filter -N HUSK-USER";

/// Containers may talk to each other and to the world, also where docker has FORWARD dropped and
/// sends bridged frames through it. From outside come only answers, and what is sent on (DNAT).
/// What a container sends to a published port, and so to another one or itself, has to come back
/// the same way: hence the second MASQUERADE. -I puts each later rule above the one before.
const RULES: [&str; 5] = [
    "-t nat -A POSTROUTING -s 10.77.0.0/16 ! -o husk0 -j MASQUERADE",
    "-t nat -A POSTROUTING -s 10.77.0.0/16 -o husk0 -m conntrack --ctstate DNAT -j MASQUERADE",
    "-t filter -I FORWARD ! -i husk0 -o husk0 -j DROP",
    "-t filter -I FORWARD ! -i husk0 -o husk0 -m conntrack \
     --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
    "-t filter -I FORWARD -j HUSK-USER",
];

/// What containers send is judged by the admin's rules first: this one is the last.
const LAST_RULE: &str = "-t filter -A FORWARD -i husk0 -j ACCEPT";

/// Those of older husks.
const OLD_RULES: [&str; 2] = [
    "-t filter -D FORWARD -o husk0 -j DROP",
    "-t filter -D FORWARD -o husk0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
];

// ---- once per host ------------------------------------------------------------------------------

/// What the route through husk0 says.
#[derive(PartialEq)]
enum State {
    Missing,
    Incomplete, // there was no iptables, or an older husk has made it
    Complete,
}

/// A bridge that is up has a route, and so a line in this file.
fn state() -> Result<State> {
    let routes = cat("/proc/net/route")?;
    let Some(route) = routes.lines().find(|line| line.starts_with("husk0\t")) else {
        return Ok(State::Missing);
    };
    let metric = route.split('\t').nth(6).unwrap_or_default();
    let is_complete = metric.parse() == Ok(COMPLETE);
    Ok(if is_complete { State::Complete } else { State::Incomplete })
}

/// Makes husk0 and its rules if they are missing. Returns its number.
pub fn make_if_missing() -> Result<u32> {
    if state()? != State::Complete {
        make()?;
    }
    attempt("husk0", if_nametoindex("husk0"))
}

/// One husk at a time: the working directory, husk/, is the lock. The metric comes last: whenever a
/// husk was killed, the next one begins anew.
fn make() -> Result<()> {
    let dir = attempt("open the husk cgroup", File::open("."))?;
    step!(dir.lock(), "flock .")?;
    let state = state()?; // another husk may have made it meanwhile
    if state == State::Complete {
        return Ok(());
    }
    let is_new = state == State::Missing;
    ensure("/proc/sys/net/ipv4/ip_forward", "1")?;
    let metric = make_rules(is_new)?;
    if !is_new && metric != COMPLETE {
        return Ok(());
    }
    let netlink = attempt("netlink socket", Netlink::open())?;
    // A MAC of its own: else it takes the lowest of its ports', and changes when that one leaves.
    let mac = mac_of(GATEWAY);
    step!(netlink.set_bridge("husk0", mac), "ip link add husk0 address {mac} type bridge")?;
    if let Err(error) = refuse_ipv6("husk0") {
        warn(format_args!("containers reach this host by IPv6: {}", error.why));
    }
    step!(
        netlink.set_address("husk0", GATEWAY, PREFIX, metric),
        "ip addr replace {GATEWAY}/{PREFIX} dev husk0 metric {metric}"
    )?;
    step!(netlink.set_up("husk0"), "ip link set husk0 up")?;
    if is_new {
        etc::warn_of_name_servers();
    }
    Ok(())
}

/// Writes a setting of the kernel's, unless it is so: /proc/sys may be read-only.
fn ensure(path: &str, value: &str) -> Result<()> {
    if cat(path)?.trim() == value {
        return Ok(());
    }
    echo(value, path)
}

/// Without that, containers could reach the host's IPv6 services past all IPv4 rules, or become
/// the host's router (CVE-2020-13401).
fn refuse_ipv6(interface: &str) -> Result<()> {
    let file = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    let outcome = echo("1", &file);
    match outcome {
        Err(_) if !Path::new(&file).exists() => Ok(()), // a kernel without IPv6
        Err(_) if cat(&file)?.trim() == "1" => Ok(()),
        _ => outcome,
    }
}

/// Returns the metric for that.
fn make_rules(is_new: bool) -> Result<u32> {
    let Some(iptables) = Iptables::find() else {
        if is_new {
            warn("no iptables: containers reach the host and each other only");
        }
        return Ok(0);
    };
    for rule in OLD_RULES {
        iptables.try_rule(rule);
    }
    iptables.try_rule(USER_CHAIN);
    for rule in RULES {
        // Anew, for their order counts.
        iptables.try_rule(&rule.replace(" -A ", " -D ").replace(" -I ", " -D "));
        iptables.rule(rule)?;
    }
    iptables.try_rule(&LAST_RULE.replace(" -A ", " -D "));
    accept_the_rest(&iptables)?;
    Ok(COMPLETE)
}

/// Below all of the admin's rules there may be one that refuses whatever is left: only that one
/// has to be below husk's, or no container would reach the world.
fn accept_the_rest(iptables: &Iptables) -> Result<()> {
    let mut rules = iptables.list("-t filter -S FORWARD");
    rules.retain(|rule| rule.starts_with("-A "));
    let refuses_all =
        |rule: &String| rule == "-A FORWARD -j DROP" || rule.starts_with("-A FORWARD -j REJECT");
    let Some(index) = rules.iter().position(refuses_all) else {
        return iptables.rule(LAST_RULE);
    };
    warn(format_args!(
        "what containers send goes past the rule `{}`: see the chain HUSK-USER",
        rules[index]
    ));
    let number = index + 1;
    iptables.rule(&LAST_RULE.replace("-A FORWARD", &format!("-I FORWARD {number}")))
}

// ---- for each container -------------------------------------------------------------------------

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

/// Behind a container's port there is one MAC address, whose IP address the host knows for ever.
/// So nobody can pose as another one, or fill the tables of the bridge and of the host.
pub fn bind_port(netlink: &Netlink, bridge: u32, ip: Ipv4Addr, hairpin: bool) -> Result<()> {
    let outcome = set_up_port(netlink, bridge, ip, hairpin);
    let name = port_name(ip);
    // It goes with the other end, and that goes with the child.
    if outcome.is_err() && if_nametoindex(name.as_str()) == Err(Errno::ENODEV) {
        return attempt(name, Err(Errno::ESRCH));
    }
    outcome
}

fn set_up_port(netlink: &Netlink, bridge: u32, ip: Ipv4Addr, hairpin: bool) -> Result<()> {
    let (name, mac) = (port_name(ip), mac_of(ip));
    // It is there, as long as the child is: if glibc can't find it, for want of a descriptor.
    let port = if_nametoindex(name.as_str()).map_err(|_| Errno::EMFILE);
    let port = attempt(&name, port)?;
    let _ = refuse_ipv6(&name);
    let mode = if hairpin { "on" } else { "off" };
    step!(
        netlink.set_port(port, hairpin),
        "ip link set {name} type bridge_slave \
         learning off flood off locked on group_fwd_mask 0xfffd hairpin {mode}"
    )?;
    step!(netlink.add_bridge_entry(port, mac), "bridge fdb add {mac} dev {name} master static")?;
    step!(netlink.set_neighbour(bridge, ip, mac), "ip neigh replace {ip} lladdr {mac} dev husk0")?;
    // There may be hundreds, so not at every start: but addresses are random.
    if ip.octets()[3].is_multiple_of(64) {
        forget_ended(netlink, bridge)?;
    }
    Ok(())
}

/// Deletes the host's entries for containers that have ended.
fn forget_ended(netlink: &Netlink, bridge: u32) -> Result<()> {
    for line in cat("/proc/net/arp")?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [ip, _, "0x6", .., "husk0"] = words[..] else { continue };
        let Ok(ip) = ip.parse() else { continue };
        if if_nametoindex(port_name(ip).as_str()).is_err() {
            let _ = step!(netlink.delete_neighbour(bridge, ip), "ip neigh del {ip} dev husk0");
        }
    }
    Ok(())
}

/// In the container: as the gateway's MAC address is known, nobody has to ask for it, and no
/// neighbour can give a false answer.
pub fn meet_gateway(own: &Netlink) -> Result<()> {
    let eth0 = attempt("eth0", if_nametoindex("eth0"))?;
    let mac = mac_of(GATEWAY);
    step!(own.set_neighbour(eth0, GATEWAY, mac), "ip neigh add {GATEWAY} lladdr {mac} dev eth0")?;
    Ok(())
}

/// A container's port has to come up, and husk0 with its first port.
pub fn wait_for_port(ip: Ipv4Addr) -> Result<()> {
    if ip == NOWHERE {
        return Ok(());
    }
    let host = attempt("netlink socket", Netlink::open())?;
    if wait_until_up(&host, &port_name(ip)) {
        wait_until_up(&host, "husk0");
    }
    Ok(())
}

/// Somebody may have taken husk0 down.
const PATIENCE: Duration = Duration::from_secs(1);

/// An interface has been set up, but the kernel notices in the background that there is something
/// at the other end of its cable: frames that come before that are lost. Since Linux 6.8 it looks
/// at once when it is asked. False: it is late, or gone, because its child is.
pub fn wait_until_up(netlink: &Netlink, name: &str) -> bool {
    say_step(format_args!("ip link show {name} (until it is up)"));
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(20);
    loop {
        match netlink.is_up(name) {
            Ok(true) => return true,
            Ok(false) if Instant::now() < deadline => {}
            _ => return false,
        }
        thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(1));
    }
}
