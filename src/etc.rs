//! The files in /etc that a runtime writes: hostname, hosts and resolv.conf.

use crate::step::{cat, warn};
use std::net::{IpAddr, Ipv4Addr};

/// Each by its name and its text. `added` are more lines of hosts(5); `lines` of resolv.conf take
/// the place of the host's that begin with the same word.
pub fn files(
    hostname: &str,
    added: &[(String, IpAddr)],
    lines: &[String],
    uses_host_network: bool,
) -> [(&'static str, String); 3] {
    let mut resolv_conf = String::new();
    for line in host_resolv_conf(uses_host_network).lines() {
        if !lines.iter().any(|own| own.split(' ').next() == line.split_whitespace().next()) {
            resolv_conf.push_str(&format!("{line}\n"));
        }
    }
    for line in lines {
        resolv_conf.push_str(&format!("{line}\n"));
    }
    [
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", resolv_conf),
        ("hosts", hosts(added, uses_host_network)),
    ]
}

// ---- hosts --------------------------------------------------------------------------------------

const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// All but the line of the container itself, whose address is not known yet. With the host's
/// network come the names that it knows.
fn hosts(added: &[(String, IpAddr)], uses_host_network: bool) -> String {
    let mut text = HOSTS.to_string();
    if uses_host_network {
        text = cat("/etc/hosts").unwrap_or(text);
        text.push('\n'); // the last line may not have one
    }
    for (name, ip) in added {
        text.push_str(&format!("{ip}\t{name}\n"));
    }
    text
}

/// The container's own line: `web.example.org` is also `web`. Without an address of its own
/// (0.0.0.0) there is the loopback's.
pub fn own_line(hostname: &str, ip: Ipv4Addr) -> String {
    let ip = if ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { ip };
    match hostname.split_once('.') {
        Some((short, _)) => format!("{ip}\t{hostname} {short}"),
        None => format!("{ip}\t{hostname}"),
    }
}

// ---- resolv.conf --------------------------------------------------------------------------------

/// systemd-resolved is a name server on the host's loopback; here are those that it asks itself.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The host's resolv.conf(5). From another network some of its name servers can't be reached: if
/// there is no other, the rest of it stays.
fn host_resolv_conf(uses_host_network: bool) -> String {
    if uses_host_network {
        return cat(RESOLV_CONF[0]).unwrap_or_default();
    }
    let mut texts = RESOLV_CONF.map(reachable);
    let best = texts.iter().position(|text| text.lines().any(|line| name_server(line).is_some()));
    std::mem::take(&mut texts[best.unwrap_or(0)])
}

fn reachable(file: &str) -> String {
    let mut text = String::new();
    for line in cat(file).unwrap_or_default().lines() {
        if name_server(line).is_none_or(can_be_reached) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The address in a line of resolv.conf, if it names a server.
fn name_server(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    words.next().filter(|key| *key == "nameserver")?;
    words.next()
}

/// A container has another loopback than the host, and no IPv6.
fn can_be_reached(server: &str) -> bool {
    server.parse().is_ok_and(|ip: Ipv4Addr| !ip.is_loopback())
}

/// Says so if containers will know no names.
pub fn warn_of_name_servers() {
    let all = cat(RESOLV_CONF[0]).unwrap_or_default();
    let servers: Vec<&str> = all.lines().filter_map(name_server).collect();
    if servers.is_empty() || host_resolv_conf(false).lines().any(|line| name_server(line).is_some())
    {
        return;
    }
    let servers = servers.join(", ");
    warn(format_args!(
        "containers can't reach the name servers of /etc/resolv.conf: {servers} \
         (--dns IP names another)"
    ));
}
