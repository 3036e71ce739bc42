//! The bridge and what hangs on it, each test on a host that has never seen husk.

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const ADDRESS: &str = "ip -4 -o addr show eth0 | awk '{print $4}'";
const PING: &str = "ping -c1 -w5 >/dev/null";

/// husk's firewall rules as `iptables-save` words them.
fn rules(host: &Host) -> Vec<String> {
    let saved = host.sh("iptables-save 2>/dev/null").ok();
    saved
        .lines()
        .filter(|line| line.starts_with("-A"))
        .map(|line| line.trim().to_string())
        .collect()
}

/// The bridge, forwarding and rules are complete, and no rule is there twice.
fn assert_network_complete(host: &Host, when: &str) {
    let rules = rules(host);
    let distinct: HashSet<_> = rules.iter().collect();
    assert_eq!(distinct.len(), rules.len(), "{when}: a rule is there twice: {rules:#?}");
    let mut rest = rules.iter().filter(|rule| rule.contains("FORWARD"));
    for words in [
        &["-j HUSK-USER"][..],
        &["! -i husk0 -o husk0", "RELATED,ESTABLISHED,DNAT", "ACCEPT"],
        &["! -i husk0 -o husk0", "DROP"],
        &["-i husk0", "ACCEPT"],
    ] {
        let found = rest.any(|rule| words.iter().all(|word| rule.contains(word)));
        assert!(found, "{when}: no rule with {words:?}, or not in this order: {rules:#?}");
    }
    for word in ["! -o husk0", "--ctstate DNAT"] {
        let words = ["POSTROUTING", "10.77.0.0/16", "MASQUERADE", word];
        let found = rules.iter().any(|rule| words.iter().all(|word| rule.contains(word)));
        assert!(found, "{when}: no rule with {words:?} in {rules:#?}");
    }
    let script = "cat /proc/sys/net/ipv4/ip_forward
        ip -4 -o addr show husk0 | awk '{print $4}'; ip link show up husk0 | grep -c UP
        awk '$1 == \"husk0\" {print $7}' /proc/net/route";
    assert_eq!(host.sh(script).ok(), "1\n10.77.0.1/16\n1\n771", "{when}");
}

fn end(host: &Host, running: Vec<Running>) {
    host.kill_inits();
    for one in running {
        let run = one.wait();
        assert_eq!(run.code, 137, "{run}");
    }
    host.assert_clean();
}

/// Another machine, one cable away, that knows no way back to the containers.
fn outside(host: &Host) -> Host {
    let other = Host::new("");
    host.sh(&format!(
        "set -e; ip link add test0 type veth peer name test1 netns {}
        ip addr add 192.0.2.1/24 dev test0; ip link set test0 up",
        other.pid()
    ))
    .ok();
    other.sh("ip addr add 192.0.2.2/24 dev test1; ip link set test1 up").ok();
    other
}

#[test]
fn a_container_is_on_the_bridge() {
    let host = host!();
    let a = host.stays(&[], &format!("{ADDRESS}; ip route; ip -o link; cat /proc/net/if_inet6"));
    let text = a.out();
    let mut lines = text.lines();
    let address = lines.next().expect("an address");
    let (ip, bits) = address.split_once('/').expect("IP/BITS");
    assert!(
        ip.starts_with("10.77.") && ip != "10.77.0.1" && ip != "10.77.0.0" && bits == "16",
        "{address}"
    );
    assert!(text.contains("default via 10.77.0.1 dev eth0"), "{text}");
    let links = text.lines().filter(|line| line.contains("mtu"));
    let links: Vec<_> =
        links.filter_map(|line| line.split([':', '@']).nth(1)).map(str::trim).collect();
    assert_eq!(links, ["lo", "eth0"], "{text}");
    assert!(
        text.lines().filter(|line| line.contains("mtu")).all(|line| line.contains("UP")),
        "{text}"
    );
    // Neither IPv6 neighbours nor router advertisements; but ::1 is there.
    let inet6 = text.lines().filter(|line| line.starts_with("fe80") || line.ends_with(" lo"));
    let inet6: Vec<_> = inet6.filter_map(|line| line.split(' ').next_back()).collect();
    assert!(inet6.iter().all(|name| *name == "lo"), "{text}");
    assert_network_complete(&host, "after the first start");

    // Gateway, itself, the other way round, and a neighbour.
    host.sh(&format!("{PING} {ip}")).ok();
    let script = format!("{PING} 10.77.0.1 && {PING} 127.0.0.1 && {PING} {ip} && {ADDRESS}");
    let other = host.inside(&[], &script).ok();
    assert!(other.starts_with("10.77.") && other != address, "{other} beside {address}");
    // A server in the container, reached from the host.
    let b = host.stays(&[], &format!("{ADDRESS}; mkdir /w; echo served > /w/x; httpd -p 80 -h /w"));
    let ip = b.out().split('/').next().expect("an address").to_string();
    let get = format!("wget -qO- http://{ip}/x");
    assert_eq!(host.inside(&[], &get).ok(), "served");
    let script =
        format!("exec 3<>/dev/tcp/{ip}/80; printf 'GET /x HTTP/1.0\\r\\n\\r\\n' >&3; tail -n1 <&3");
    let mut bash = host.command("bash");
    assert_eq!(run(bash.args(["-c", &script])).ok(), "served");
    end(&host, vec![a, b]);
}

#[test]
fn out_through_nat() {
    let host = host!();
    let other = outside(&host);
    assert_eq!(
        host.sh("cat /proc/sys/net/ipv4/ip_forward").ok(),
        "0",
        "the test starts without it"
    );
    host.inside(&[], &format!("{PING} 192.0.2.2")).ok();
    assert_ne!(other.sh("ping -c1 -w1 10.77.0.1 2>&1").code, 0, "the other side knows no way back");
    let none = host.inside(&["--network", "none"], "ping -c1 -w1 192.0.2.2");
    assert_ne!(none.code, 0, "{none}");
}

/// What an older husk or somebody else has left of the rules does not spoil their order.
#[test]
fn some_rules_are_there() {
    let host = host!();
    host.inside(&[], "true").ok();
    host.sh("ip link del husk0; iptables -w -D FORWARD ! -i husk0 -o husk0 -j DROP").ok();
    host.inside(&[], &format!("{PING} 10.77.0.1")).ok();
    assert_network_complete(&host, "with old rules");
}

/// Who knows the way still gets nothing from a container but answers, and what is published.
#[test]
fn nothing_comes_in() {
    let host = host!();
    let other = outside(&host);
    other.sh("ip route add 10.77.0.0/16 via 192.0.2.1").ok();
    let server = format!("{ADDRESS}; cd /tmp; echo served > x; httpd -p 80 -h /tmp");
    let a = host.stays(&["-u", "1000"], &server);
    let ip = a.out().split('/').next().expect("an address").to_string();
    let get = |host: &Host, from: &str| {
        let script =
            format!("exec 3<>/dev/tcp/{from}; echo -e 'GET /x HTTP/1.0\\n' >&3; tail -n1 <&3");
        run(host.command("timeout").args(["1", "bash", "-c", &script])).out
    };
    assert_eq!(get(&host, &format!("{ip}/80")), "served\n", "from the host itself");
    assert_eq!(get(&other, &format!("{ip}/80")), "", "from outside");
    assert_ne!(other.sh(&format!("ping -c1 -w1 {ip}")).code, 0, "from outside");
    host.sh(&format!("iptables -w -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to {ip}:80"))
        .ok();
    assert_eq!(get(&other, "192.0.2.1/8080"), "served\n", "what is published");
    end(&host, vec![a]);
}

/// As long as husk makes the network, which may take long, a signal ends it.
#[test]
fn a_start_can_be_ended() {
    let host = host!();
    let dir = TempDir::new();
    let slow = dir.join("iptables");
    let sleep = format!("sleep 100.{}", std::process::id()); // nobody else's
    fs::write(&slow, format!("#!/bin/sh\nexec {sleep}\n")).expect("write");
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).expect("chmod");
    let script = format!("PATH={}:$PATH exec $HUSK run $R true", dir.path());
    let husk = start(&mut host.sh_command(&script));
    until("its iptables", || host.sh(&format!("ps -eo args | grep -x '{sleep}'")).code == 0);
    kill(Pid::from_raw(husk.child.id() as i32), Signal::SIGTERM).expect("kill");
    let run = husk.wait();
    assert!(run.code == -15 || run.code == 143, "{run}");
    host.sh(&format!("kill $(ps -eo pid,args | awk '/ {sleep}$/ {{print $1}}')")).ok();
    host.inside(&[], &format!("{PING} 10.77.0.1")).ok();
    assert_network_complete(&host, "after the end of the first start");
    host.assert_clean();
}

#[test]
fn none_and_host() {
    let host = host!();
    let none = host.inside(
        &["--network=none"],
        "ip -o link | cut -d: -f2; ip route; ping -c1 -w5 127.0.0.1 >/dev/null && echo up",
    );
    assert_eq!(none.ok(), " lo\nup");
    let shared = host.inside(&["--network", "host"], "readlink /proc/self/ns/net");
    assert_eq!(shared.ok(), host.sh("readlink /proc/self/ns/net").ok());
    assert_eq!(host.links(), [""; 0], "neither needs a bridge");
    assert_eq!(rules(&host), [""; 0], "nor a rule");
    host.inside(&["--network", "bridge"], "ip link show eth0 >/dev/null").ok();
}

/// docker drops what is forwarded, and has bridged frames go through iptables.
#[test]
fn beside_docker() {
    let host = host!();
    let other = outside(&host);
    let bridged = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if !fs::exists(bridged).is_ok_and(|yes| yes) {
        skip!(host, "no br_netfilter in this kernel");
    }
    host.sh(&format!(
        "set -e; iptables -w -P FORWARD DROP; iptables -w -N DOCKER-USER
        iptables -w -A FORWARD -j DOCKER-USER; iptables -w -A FORWARD -j DROP; echo 1 > {bridged}"
    ))
    .ok();
    let a = host.stays(&[], ADDRESS);
    let ip = a.out().split('/').next().expect("an address").to_string();
    host.inside(&[], &format!("{PING} {ip} && {PING} 192.0.2.2 && {PING} 10.77.0.1")).ok();
    drop(other);
    end(&host, vec![a]);
}

#[test]
fn starting_again_doubles_nothing() {
    let host = host!();
    host.inside(&[], "true").ok();
    let first = rules(&host);
    assert_network_complete(&host, "after one start");
    host.inside(&[], "true").ok();
    assert_eq!(rules(&host), first, "after a second start");
    host.sh("ip link del husk0").ok();
    host.inside(&[], &format!("{PING} 10.77.0.1")).ok();
    assert_eq!(rules(&host), first, "after the bridge was made again");
    // Somebody flushed the firewall and took the bridge down.
    let flush = "iptables -w -F; iptables -w -t nat -F; echo 0 > /proc/sys/net/ipv4/ip_forward";
    host.sh(&format!("ip link del husk0; {flush}")).ok();
    host.inside(&[], &format!("{PING} 10.77.0.1")).ok();
    assert_network_complete(&host, "after the firewall was flushed");
    assert_eq!(rules(&host), first);
}

/// A script for a shell with mounts of its own, in which no iptables can be found.
const HIDE: &str = "for dir in /usr/local/sbin /usr/sbin /sbin; do \
                    [ ! -d $dir ] || mount -t tmpfs none $dir; done";

/// Runs a script with mounts of its own, which go away with it.
fn with_mounts(host: &Host, script: &str) -> Run {
    run(host.sh_command("exec unshare -m sh -c \"$0\"").arg(script).env("R", rootfs()))
}

#[test]
fn without_iptables() {
    let host = host!();
    // husk looks in the sbin directories, too, whatever PATH says.
    let ping = "PATH=/nowhere exec $HUSK run $R ping -c1 -w5 10.77.0.1";
    let try_it = || with_mounts(&host, &format!("{HIDE}; {ping}"));
    let first = try_it();
    assert!(first.code == 0 && first.err.lines().count() == 1, "{first}");
    assert!(first.err.starts_with("husk: ") && first.err.contains("iptables"), "{first}");
    try_it().ok();
    // With iptables, all is made up for.
    let a = host.stays(&[], ADDRESS);
    assert_network_complete(&host, "when iptables is there");
    let other = outside(&host);
    let ip = a.out().split('/').next().expect("an address").to_string();
    host.inside(&[], &format!("{PING} 192.0.2.2 && {PING} {ip}")).ok();
    drop(other);
    end(&host, vec![a]);
}

/// As in cron's jobs.
#[test]
fn iptables_beside_the_path() {
    let host = host!();
    host.sh("PATH=/usr/bin:/bin exec $HUSK run $R true").ok();
    assert_network_complete(&host, "with cron's PATH");
}

/// husk in a container, for one.
#[test]
fn read_only_settings() {
    let host = host!();
    let read_only = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys";
    let script = format!("{read_only}; exec $HUSK run $R {PING}", PING = "ping -c1 10.77.0.1");
    let refused = with_mounts(&host, &script);
    refused.refused(125, &["echo 1 > /proc/sys/net/ipv4/ip_forward", "EROFS"]);
    host.sh(FORWARD).ok();
    // Nobody can switch IPv6 off: that is said, once.
    let first = with_mounts(&host, &script);
    assert_eq!(first.code, 0, "{first}");
    let has_ipv6 = fs::exists("/proc/sys/net/ipv6").is_ok_and(|yes| yes);
    assert!(!has_ipv6 || first.err.lines().count() == 1 && first.err.contains("IPv6"), "{first}");
    assert_eq!(with_mounts(&host, &script).err, "");
    assert_network_complete(&host, "with read-only settings");
    // A part of them, or a /proc without any.
    for hidden in [
        "mount --bind /proc/sys/net /proc/sys/net; mount -o remount,bind,ro /proc/sys/net",
        "mount -t proc -o subset=pid proc /proc",
    ] {
        let script = "exec $HUSK run --network none $R cat /proc/sys/net/ipv4/ping_group_range";
        let run = with_mounts(&host, &format!("{hidden}; {script}"));
        assert_eq!(run.ok(), "0\t2147483647", "{hidden}");
    }
}

// -------------------------------------------------------------------------------- the admin's rules

/// Does a ping from a container reach the other machine?
fn reaches(host: &Host, ip: &str) -> bool {
    host.inside(&[], &format!("ping -c1 -w1 {ip} >/dev/null")).code == 0
}

/// In the chain HUSK-USER, made before or after the first start.
#[test]
fn rules_of_the_admin_in_their_chain() {
    let host = host!();
    let other = outside(&host);
    other.sh("ip addr add 192.0.2.3/24 dev test1; ip addr add 192.0.2.4/24 dev test1").ok();
    host.sh("iptables -w -N HUSK-USER; iptables -w -A HUSK-USER -d 192.0.2.3 -j DROP").ok();
    assert!(!reaches(&host, "192.0.2.3") && reaches(&host, "192.0.2.2"), "before");
    host.sh("iptables -w -A HUSK-USER -d 192.0.2.4 -j DROP").ok();
    let both = || {
        assert!(!reaches(&host, "192.0.2.3") && !reaches(&host, "192.0.2.4"));
        assert!(reaches(&host, "192.0.2.2"));
    };
    both();
    host.sh("ip link del husk0").ok();
    both();
    assert_network_complete(&host, "made again");
    // What comes in, too.
    let a = host.stays(&["-p", "80:80"], "mkdir /w; echo served >/w/x; httpd -p 80 -h /w");
    let get = "exec 3<>/dev/tcp/192.0.2.1/80; echo -e 'GET /x HTTP/1.0\\n' >&3; tail -n1 <&3";
    let get = || run(other.command("timeout").args(["1", "bash", "-c", get])).out;
    assert_eq!(get(), "served\n");
    host.sh("iptables -w -A HUSK-USER -s 192.0.2.2 -o husk0 -j DROP").ok();
    assert_eq!(get(), "");
    end(&host, vec![a]);
}

/// What the admin had in FORWARD before the first start still holds for what containers send.
#[test]
fn rules_of_the_admin_before() {
    let host = host!();
    let other = outside(&host);
    other.sh("ip addr add 192.0.2.3/24 dev test1").ok();
    host.sh("iptables -w -A FORWARD -d 192.0.2.3 -j DROP
        iptables -w -N OWN; iptables -w -A OWN -p tcp --dport 25 -j REJECT
        iptables -w -A FORWARD -j OWN")
        .ok();
    host.inside(&[], "true").ok();
    assert!(!reaches(&host, "192.0.2.3") && reaches(&host, "192.0.2.2"));
    assert_network_complete(&host, "with rules of the admin's");
    let mail = "echo | nc -w 5 192.0.2.2 25; echo $?";
    let refused = host.inside(&[], mail);
    assert!(refused.err.contains("refused"), "{refused}");
    // They still stand in their order, above husk's last.
    let all = rules(&host).join("\n");
    let place = |words: &str| all.find(words).unwrap_or_else(|| panic!("{words}: {all}"));
    assert!(place("-d 192.0.2.3/32 -j DROP") < place("-j OWN"), "{all}");
    assert!(place("-j OWN") < place("-A FORWARD -i husk0 -j ACCEPT"), "{all}");
}

/// A last rule that refuses all the rest would keep containers from the world. It is passed by, and
/// the first start says so; what stands above it holds.
#[test]
fn a_last_rule_that_refuses_the_rest() {
    for last in ["DROP", "REJECT --reject-with icmp-host-prohibited"] {
        let host = Host::new("");
        let other = outside(&host);
        other.sh("ip addr add 192.0.2.3/24 dev test1").ok();
        host.sh(&format!(
            "iptables -w -A FORWARD -d 192.0.2.3 -j DROP; iptables -w -A FORWARD -j {last}"
        ))
        .ok();
        let first = host.inside(&[], &format!("{PING} 192.0.2.2"));
        assert!(first.code == 0 && first.err.lines().count() == 1, "{first}");
        let words = ["husk: ", &format!("-A FORWARD -j {last}"), "HUSK-USER"];
        assert!(words.iter().all(|word| first.err.contains(word)), "{first}");
        assert!(!reaches(&host, "192.0.2.3"), "{last}");
        host.inside(&[], &format!("{PING} 192.0.2.2")).ok();
        host.sh("iptables -w -A HUSK-USER -i husk0 -j DROP").ok();
        assert!(!reaches(&host, "192.0.2.2"), "{last}");
        assert_network_complete(&host, last);
    }
    drop(host!());
}

/// An nft table of the admin's is another one than iptables': what it drops stays dropped.
#[test]
fn rules_of_nft() {
    let host = host!();
    if !have("nft") {
        skip!(host, "no nft");
    }
    let other = outside(&host);
    other.sh("ip addr add 192.0.2.3/24 dev test1").ok();
    host.sh("nft add table inet own
        nft add chain inet own forward '{ type filter hook forward priority 0; }'
        nft add rule inet own forward ip daddr 192.0.2.3 drop")
        .ok();
    host.inside(&[], "true").ok();
    assert!(!reaches(&host, "192.0.2.3") && reaches(&host, "192.0.2.2"));
}

/// Those of the husk before this one are replaced, though husk0 is up.
#[test]
fn rules_of_an_older_husk() {
    let host = host!();
    host.sh("set -e; iptables -w -t nat -A POSTROUTING -s 10.77.0.0/16 ! -o husk0 -j MASQUERADE
        iptables -w -I FORWARD -o husk0 -j DROP; iptables -w -I FORWARD -i husk0 -j ACCEPT
        iptables -w -I FORWARD -o husk0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
        ip link add husk0 type bridge; ip addr add 10.77.0.1/16 dev husk0; ip link set husk0 up")
        .ok();
    host.inside(&[], &format!("{PING} 10.77.0.1")).ok();
    assert_network_complete(&host, "after an older husk");
    assert_eq!(rules(&host).len(), 6, "{:#?}", rules(&host));
}

/// A start on a complete host looks, and does nothing else.
#[test]
fn a_later_start_makes_nothing() {
    let host = host!();
    if !have("strace") {
        skip!(host, "no strace");
    }
    host.inside(&[], "true").ok();
    let log = TempDir::new();
    let file = log.join("trace").display().to_string();
    host.sh(&format!("exec strace -f -qq -o {file} $HUSK run $R true")).ok();
    let trace = fs::read_to_string(&file).expect("the trace");
    for call in ["flock(", "iptables", "ip_forward", "vfork("] {
        assert!(!trace.contains(call), "{call}: {trace}");
    }
}

// ------------------------------------------------------------------------------------ known to all

/// The gateway knows its containers, and they know it: nobody asks, and no table is filled.
#[test]
fn neighbours_are_known() {
    let host = host!();
    let a = host.stays(&[], &format!("{ADDRESS}; {PING} 10.77.0.1; ip neigh"));
    let text = a.out();
    let ip = text.split('/').next().expect("an address").to_string();
    let gateway = "10.77.0.1 dev eth0 lladdr 02:42:0a:4d:00:01";
    let known = text.lines().find(|line| line.starts_with(gateway));
    assert!(known.is_some_and(|line| line.contains("PERMANENT")), "{text}");
    host.sh(&format!("{PING} {ip}")).ok();
    let known = host.sh(&format!("ip neigh show {ip}")).ok();
    assert!(known.contains("02:42:0a:4d:") && known.contains("PERMANENT"), "{known}");
    let link = host.sh("ip -d link show type bridge_slave").out;
    for words in ["learning off", "flood off", "hairpin off", "group_fwd_mask 0xfffd"] {
        assert!(link.contains(words), "{words}: {link}");
    }
    let entries = host.sh("bridge fdb show br husk0 | grep static").ok();
    let macs: HashSet<_> = entries.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(entries.starts_with("02:42:0a:4d:") && macs.len() == 1, "{entries}"); // for each VLAN
    end(&host, vec![a]);
}

/// Of ended containers the host forgets the addresses, though not at once.
#[test]
fn neighbours_are_forgotten() {
    let host = host!();
    let a = host.stays(&[], ADDRESS);
    let ip = a.out().split('/').next().expect("an address").to_string();
    // As many as a day's work leaves.
    let many: String = (0..3000)
        .map(|i| {
            format!(
                "neigh replace 10.77.{}.{} lladdr 02:42:0a:4d:00:00 dev husk0\n",
                i / 250,
                i % 250 + 2
            )
        })
        .collect();
    let dir = TempDir::new();
    fs::write(dir.join("batch"), many).expect("write");
    run(host.command("ip").arg("-batch").arg(dir.join("batch"))).ok();
    // ip may say that others change the table meanwhile.
    let count = || host.sh("ip neigh show dev husk0 nud permanent 2>/dev/null | wc -l").ok();
    let count = || count().parse::<usize>().expect("a number");
    assert!(count() >= 3000, "{}", count());
    // One start in 64: that none of a thousand looks happens once in seven million times.
    let mut starts = 0..1000;
    while count() >= 3000 && starts.next().is_some() {
        host.inside(&[], "true").ok();
    }
    assert!(count() < 100, "{} after {starts:?}", count());
    let known = host.sh(&format!("ip neigh show {ip}")).ok();
    assert!(known.contains("PERMANENT"), "the living one: {known}");
    end(&host, vec![a]);
}

/// Without IPv6 neither husk0 nor a port has an address, or takes a packet.
#[test]
fn no_ipv6_on_the_bridge() {
    let host = host!();
    let a = host.stays(&[], "true");
    if !fs::exists("/proc/sys/net/ipv6").is_ok_and(|yes| yes) {
        skip!(host, "no IPv6 here");
    }
    for link in host.links() {
        let file = format!("cat /proc/sys/net/ipv6/conf/{link}/disable_ipv6");
        assert_eq!(host.sh(&file).ok(), "1", "{link}");
        assert_eq!(host.sh(&format!("ip -6 addr show dev {link}")).ok(), "", "{link}");
    }
    end(&host, vec![a]);
}

// --------------------------------------------------------------------------------- hosts, resolv.conf

/// Runs husk where the host's /etc has these files.
fn with_etc(host: &Host, files: &[(&str, &str)], options: &str, script: &str) -> Run {
    let dir = TempDir::new();
    let mut mounts = String::new();
    for (name, text) in files {
        fs::write(dir.join(name), text).expect("write");
        mounts.push_str(&format!("mount --bind {}/{name} /etc/{name}\n", dir.path()));
    }
    with_mounts(host, &format!("set -e; {mounts} exec $HUSK run {options} $R sh -c '{script}'"))
}

#[test]
fn names_of_hosts() {
    let host = host!();
    let script = "cat /etc/hosts; hostname; for name in web web.example.org db six up; do
        ping -c1 -w1 $name 2>&1 | head -n1; done";
    let options = "-h web.example.org --add-host db:192.0.2.9 --add-host=six:fd00::6 \
        --add-host up:host-gateway";
    let text = with_etc(&host, &[], options, script).ok();
    let ip = "10.77.";
    assert!(text.contains("192.0.2.9\tdb\n") && text.contains("fd00::6\tsix\n"), "{text}");
    assert!(text.contains("\tweb.example.org web\n"), "{text}");
    for (name, ip) in
        [("web", ip), ("web.example.org", ip), ("db", "192.0.2.9"), ("up", "10.77.0.1")]
    {
        assert!(text.contains(&format!("PING {name} ({ip}")), "{name}: {text}");
    }
    for value in ["db", "db:", ":1.2.3.4", "db:1.2.3", "d b:1.2.3.4", "db:1.2.3.4:5", ""] {
        let run = host.husk(&["run", "--add-host", value, rootfs(), "true"]);
        run.refused(125, &["--add-host", value, "expected NAME:IP"]);
    }
    // Without a network, too, the name is its own.
    let alone = with_etc(&host, &[], "--network none -h web.example.org", "ping -c1 web").ok();
    assert!(alone.contains("PING web (127.0.0.1)"), "{alone}");
}

/// With the host's network come the host's own files, all of them.
#[test]
fn names_with_the_network_of_the_host() {
    let host = host!();
    let files = [
        ("hosts", "127.0.0.1 localhost\n192.0.2.3 printer # no line feed"),
        ("resolv.conf", "search example.org\nnameserver 127.0.0.53\nnameserver ::1\n"),
    ];
    let script = "cat /etc/hosts; ping -c1 -w1 box 2>&1; cat /etc/resolv.conf";
    let text =
        with_etc(&host, &files, "--network host -h box --add-host db:192.0.2.9", script).ok();
    for words in [files[0].1, "192.0.2.9\tdb\n", "PING box (127.0.0.1)", files[1].1.trim_end()] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn name_servers() {
    let cat = "cat /etc/resolv.conf";
    let none = "search example.org\noptions ndots:2\nnameserver 127.0.0.1\nnameserver ::1\n\
                nameserver 2001:db8::53\n";
    {
        // None that containers can reach: that is said, once, and the rest is kept.
        let host = Host::new("");
        let hide = "mount -t tmpfs none /run\n";
        let dir = TempDir::new();
        fs::write(dir.join("resolv.conf"), none).expect("write");
        let bind = format!("mount --bind {}/resolv.conf /etc/resolv.conf", dir.path());
        let script = format!("{hide}{bind}\nexec $HUSK run $R {cat}");
        let first = with_mounts(&host, &script);
        assert_eq!(first.out, "search example.org\noptions ndots:2\n", "{first}");
        assert!(first.code == 0 && first.err.lines().count() == 1, "{first}");
        for word in ["husk: ", "127.0.0.1", "::1", "2001:db8::53", "name servers"] {
            assert!(first.err.contains(word), "{word}: {first}");
        }
        assert_eq!(with_mounts(&host, &script).ok(), "search example.org\noptions ndots:2");
    }
    let host = host!();
    let some = format!("# a comment\n{none}nameserver 192.0.2.53\n");
    let text = with_etc(&host, &[("resolv.conf", &some)], "", cat).ok();
    let expected = "# a comment\nsearch example.org\noptions ndots:2\nnameserver 192.0.2.53";
    assert_eq!(text, expected);
    // An empty file is nobody's fault.
    assert_eq!(with_etc(&host, &[("resolv.conf", "")], "", cat).ok(), "");
}

#[test]
fn fifty_first_starts_at_once() {
    let host = host!();
    let gate = TempDir::new();
    let volume = format!("{}:/gate", gate.path());
    let script = format!(
        "{PING} 10.77.0.1 && {ADDRESS}; echo ready; until [ -e /gate/open ]; do sleep 0.2; done"
    );
    let args = ["run", "-v", &volume, rootfs(), "sh", "-c", &script];
    let count = if in_vm() { 10 } else { 50 }; // its processors are emulated
    let mut all: Vec<_> = (0..count).map(|_| start(&mut host.husk_command(&args))).collect();
    all.iter_mut().for_each(|one| one.says("ready"));
    assert_network_complete(&host, "with all of them");
    assert_eq!(host.links().len(), count + 1, "husk0 and one for each: {:?}", host.links());
    fs::write(gate.join("open"), "").expect("write");
    let addresses: HashSet<_> = all
        .into_iter()
        .map(|one| one.wait().ok().lines().next().expect("an address").to_string())
        .collect();
    assert!(
        addresses.iter().all(|a| a.starts_with("10.77.") && a.ends_with("/16")),
        "{addresses:?}"
    );
    assert_eq!(addresses.len(), count, "{addresses:?}");
}

#[test]
fn links_go_with_their_container() {
    let host = host!();
    for (victim, code) in [("PID 1", 137), ("husk", -9)] {
        let running = host.stays(&[], "true");
        assert_eq!(host.links().len(), 2, "husk0 and one veth: {:?}", host.links());
        match victim {
            "husk" => running.signal(Signal::SIGKILL),
            _ => host.kill_inits(),
        }
        let run = running.wait();
        assert_eq!(run.code, code, "{victim} was killed: {run}");
        until("the veth is gone", || host.links() == ["husk0"]);
    }
    host.husk(&["ps"]).ok();
}

/// SIGKILL at every system call of the very first start, from the first one that could matter.
#[test]
fn first_start_killed_anywhere() {
    let host = host!();
    if in_vm() {
        skip!(host, "hundreds of starts take too long on emulated processors");
    }
    if !have("strace") {
        skip!(host, "no strace");
    }
    // What the first start does, call by call: the n-th `sendto`, the n-th `write` and so on.
    let log = TempDir::new();
    let log = log.join("trace");
    let log = log.to_str().expect("UTF-8");
    host.sh(&format!("{FORWARD}; exec strace -qq -o {log} $HUSK run $R true")).ok();
    let trace = fs::read_to_string(log).expect("the trace");
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let (mut points, mut prelude) = (vec![], "true");
    for line in trace.lines() {
        let Some((call, _)) = line.split_once('(') else { continue };
        let n = seen.entry(call).or_default();
        *n += 1;
        let only_looks = [
            "mmap",
            "munmap",
            "brk",
            "rt_sigprocmask",
            "rt_sigaction",
            "sigaltstack",
            "fcntl",
            "statx",
            "close",
        ];
        // Before it makes a directory, it has changed nothing.
        if (call == "mkdir" || !points.is_empty()) && !only_looks.contains(&call) {
            points.push((call.to_string(), *n, prelude));
        }
        if line.contains("ip_forward") {
            prelude = FORWARD; // from here on it is done, or is just being done
        }
    }
    assert!(points.len() > 15, "too few calls to believe: {points:?}");
    std::thread::scope(|scope| {
        for half in points.chunks(points.len().div_ceil(2)) {
            let kill = |(call, n, prelude): &(String, usize, &str)| killed_at(call, *n, prelude);
            scope.spawn(move || half.iter().for_each(kill));
        }
    });
}

fn killed_at(call: &str, n: usize, prelude: &str) {
    let when = format!("killed at {call} number {n}");
    let host = Host::new("");
    // Not every start makes the same calls in the same number: a late one may not come at all.
    let script = format!(
        "{prelude}; exec strace -qq -o /dev/null -e inject={call}:signal=KILL:when={n} \
         $HUSK run $R true"
    );
    let first = host.sh(&script);
    assert!(first.code == -9 || first.code == 137 || first.code == 0, "{when}: {first}");
    let second = host.inside(&[], &format!("{PING} 10.77.0.1"));
    assert!(second.code == 0 && second.err.is_empty(), "{when}, then: {second}");
    assert_network_complete(&host, &when);
    let cleaned = std::panic::catch_unwind(|| host.assert_clean());
    assert!(cleaned.is_ok(), "{when}: see above");
}

/// docker's: they belong to any network that a container has for itself.
#[test]
fn settings() {
    let host = host!();
    let script = "cd /proc/sys/net; cat ipv4/ip_unprivileged_port_start ipv4/ping_group_range";
    for network in ["bridge", "none"] {
        let run = host.inside(&["--network", network], script);
        assert_eq!(run.ok(), "0\n0\t2147483647", "{network}");
    }
    let run = host.inside(&[], "cat /proc/sys/net/ipv6/conf/*/disable_ipv6");
    if fs::exists("/proc/sys/net/ipv6").is_ok_and(|yes| yes) {
        assert_eq!(run.ok(), "0\n0\n1\n0"); // all, default, eth0, lo
    }
    // Those of --sysctl hold before the first frame can come.
    let name = "net.ipv4.conf.eth0.accept_redirects";
    let run = host.husk(&["run", "--explain", "--sysctl", &format!("{name}=0"), rootfs(), "true"]);
    let line = |words: &str| run.err.lines().position(|line| line.contains(words));
    let (set, up) = (line("eth0/accept_redirects"), line("ip link set eth0 up"));
    assert!(set.is_some() && set < up, "{run}");
    // They stay as they are where the network is somebody else's.
    let before = host.sh(script).ok();
    assert_eq!(host.inside(&["--network", "host"], script).ok(), before);
}

/// The host knows the address of a container that has ended until the next husk: what it sends
/// there must not go to others, who could answer in its place.
#[test]
fn frames_for_who_has_ended() {
    let host = host!();
    for name in ["a", "b"] {
        host.husk(&["run", "-d", "--name", name, rootfs(), "sleep", "1000"]).ok();
    }
    let script = format!("{ADDRESS} | cut -d/ -f1");
    let ip = host.husk(&["exec", "a", "sh", "-c", &script]).ok();
    assert_eq!(host.sh(&format!("ping -c1 -W5 {ip}")).code, 0);
    let received = || {
        let count = "/sys/class/net/eth0/statistics/rx_packets";
        host.husk(&["exec", "b", "cat", count]).ok().parse::<u32>().expect("a number")
    };
    assert!(host.sh("ip neigh show dev husk0").ok().contains(&ip));
    let a = host.inits()[0];
    kill(Pid::from_raw(a), Signal::SIGKILL).expect("kill");
    until("the end of its link", || host.sh("ip -o link show type veth | wc -l").ok() == "1");
    let before = received();
    host.sh(&format!("ping -c9 -i0.2 -W1 {ip}"));
    let more = received() - before;
    assert!(more < 9, "{more} frames");
    host.husk(&["stop", "-t0", "b"]).ok();
}
