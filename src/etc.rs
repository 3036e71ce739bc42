//! The files in /etc that a runtime writes: hostname, hosts and resolv.conf.

use crate::step::cat;

/// The container's /etc/hosts, hosts(5), as long as it has no address.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Each by its name and its text. `lines` of resolv.conf take the place of the host's that begin
/// with the same word.
pub fn files(
    hostname: &str,
    shares_network: bool,
    lines: &[String],
) -> [(&'static str, String); 3] {
    let mut resolv_conf = String::new();
    for line in host_resolv_conf(shares_network).lines() {
        if !lines.iter().any(|own| own.split(' ').next() == line.split_whitespace().next()) {
            resolv_conf.push_str(&format!("{line}\n"));
        }
    }
    for line in lines {
        resolv_conf.push_str(&format!("{line}\n"));
    }
    [("hostname", format!("{hostname}\n")), ("resolv.conf", resolv_conf), ("hosts", HOSTS.into())]
}

/// systemd-resolved is a name server on the host's loopback; here are those that it asks itself.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The host's resolv.conf(5). From another network a server on the host's loopback can't be
/// reached.
fn host_resolv_conf(shares_network: bool) -> String {
    for file in RESOLV_CONF {
        let mut text = String::new();
        for line in cat(file).unwrap_or_default().lines() {
            if shares_network || !names_loopback(line) {
                text.push_str(line);
                text.push('\n');
            }
        }
        if text.contains("nameserver") {
            return text;
        }
    }
    String::new()
}

fn names_loopback(line: &str) -> bool {
    let mut words = line.split_whitespace();
    if words.next() != Some("nameserver") {
        return false;
    }
    words.next().is_some_and(|ip| ip.starts_with("127.") || ip == "::1")
}
