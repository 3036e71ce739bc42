//! Ports of the host's that lead to a container, by iptables' DNAT, for as long as it lives. Each
//! rule carries the container's name.

use crate::iptables::Iptables;
use crate::step::{Result, attempt, error};
use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// What --publish says.
pub struct Port {
    pub ip: Option<Ipv4Addr>, // one of the host's; by default all but 127.0.0.0/8
    pub host: u16,
    pub container: u16,
    pub protocol: &'static str,
}

/// What goes to the host from elsewhere, from other containers too; and what the host itself sends.
const CHAINS: [&str; 2] = ["PREROUTING", "OUTPUT"];

impl Port {
    /// `[IP:]PORT:PORT[/tcp|/udp]`. What is sent to 127.0.0.1 can't leave the host, unless all
    /// containers could reach what the host serves there (route_localnet).
    pub fn parse(text: &str) -> Option<Port> {
        let (addresses, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = ["tcp", "udp"].into_iter().find(|known| *known == protocol)?;
        let (addresses, container) = addresses.rsplit_once(':')?;
        let (ip, host) = match addresses.rsplit_once(':') {
            Some(("0.0.0.0", host)) => (None, host),
            Some((ip, host)) => (Some(ip.parse::<Ipv4Addr>().ok()?), host),
            None => (None, addresses),
        };
        if ip.is_some_and(|ip| ip.is_loopback()) {
            return None;
        }
        let number = |text: &str| text.parse().ok().filter(|port| *port != 0);
        Some(Port { ip, host: number(host)?, container: number(container)?, protocol })
    }

    pub fn collides_with(&self, other: &Port) -> bool {
        let shares_address = self.ip.is_none() || other.ip.is_none() || self.ip == other.ip;
        self.protocol == other.protocol && self.host == other.host && shares_address
    }

    /// An error if the host itself serves there, or does not have the address.
    fn check(&self) -> Result<()> {
        let address = (self.ip.unwrap_or(Ipv4Addr::UNSPECIFIED), self.host);
        let bound = match self.protocol {
            "udp" => UdpSocket::bind(address).map(drop),
            _ => TcpListener::bind(address).map(drop),
        };
        attempt(format_args!("--publish {self}"), bound)
    }
}

impl Display for Port {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Port { ip, host, container, protocol } = self;
        if let Some(ip) = ip {
            write!(f, "{ip}:")?;
        }
        write!(f, "{host}:{container}/{protocol}")
    }
}

/// As one text, which `parse_all` reads again.
pub fn show(ports: &[Port]) -> String {
    ports.iter().map(Port::to_string).collect::<Vec<_>>().join(",")
}

pub fn parse_all(text: &str) -> Vec<Port> {
    text.split(',').filter_map(Port::parse).collect()
}

/// An error if a port is another container's, or the host's own.
pub fn check(ports: &[Port], other: &str, others: &[Port]) -> Result<()> {
    for port in ports {
        if others.iter().any(|other| port.collides_with(other)) {
            return Err(error(format!("--publish {port}: container {other} has that port")));
        }
    }
    Ok(())
}

/// Makes the rules for a container's ports.
pub fn publish(name: &str, ip: Ipv4Addr, ports: &[Port]) -> Result<()> {
    let no_program = || error("--publish: expected iptables(8) on this host");
    let iptables = Iptables::find().ok_or_else(no_program)?;
    for port in ports {
        port.check()?;
        let Port { host, container, protocol, .. } = port;
        let to = match port.ip {
            Some(own) => format!("-d {own}"),
            None => "! -d 127.0.0.0/8".into(),
        };
        for chain in CHAINS {
            iptables.rule(&format!(
                "-t nat -A {chain} {to} -p {protocol} --dport {host} -m addrtype --dst-type LOCAL \
                 -m comment --comment husk-{name} -j DNAT --to-destination {ip}:{container}"
            ))?;
        }
    }
    Ok(())
}

/// Deletes all rules of that container.
pub fn withdraw(name: &str) {
    let Some(iptables) = Iptables::find() else { return };
    let comment = format!("husk-{name}");
    for rule in iptables.list("-t nat -S") {
        let mut words = rule.split(' ').skip_while(|word| *word != "--comment");
        if words.nth(1) == Some(&comment) {
            iptables.try_rule(&format!("-t nat {}", rule.replacen("-A ", "-D ", 1)));
        }
    }
}
