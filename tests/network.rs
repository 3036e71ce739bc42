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
    for words in [
        &["POSTROUTING", "10.77.0.0/16", "MASQUERADE"][..],
        &["FORWARD", "-i husk0", "ACCEPT"],
        &["FORWARD", "-o husk0", "DROP"],
        &["FORWARD", "-o husk0", "ACCEPT"],
    ] {
        let found = rules.iter().any(|rule| words.iter().all(|word| rule.contains(word)));
        assert!(found, "{when}: no rule with {words:?} in {rules:#?}");
    }
    let last = rules.iter().rfind(|rule| rule.contains("FORWARD") && rule.contains("husk0"));
    assert!(last.is_some_and(|rule| rule.contains("DROP")), "{when}: the order of {rules:#?}");
    let script = "cat /proc/sys/net/ipv4/ip_forward
        ip -4 -o addr show husk0 | awk '{print $4}'; ip link show up husk0 | grep -c UP";
    assert_eq!(host.sh(script).ok(), "1\n10.77.0.1/16\n1", "{when}");
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
    host.sh("ip link del husk0; iptables -w -D FORWARD -o husk0 -j DROP").ok();
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
    fs::write(&slow, "#!/bin/sh\nexec sleep 100\n").expect("write");
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).expect("chmod");
    let script = format!("PATH={}:$PATH exec $HUSK run $R true", dir.path());
    let husk = start(&mut host.sh_command(&script));
    until("its iptables", || host.sh("ps -eo args | grep '^[s]leep 100'").code == 0);
    kill(Pid::from_raw(husk.child.id() as i32), Signal::SIGTERM).expect("kill");
    let run = husk.wait();
    assert!(run.code == -15 || run.code == 143, "{run}");
    host.sh("kill $(ps -eo pid,args | awk '/ sleep 100$/ {print $1}')").ok();
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

#[test]
fn without_iptables() {
    let host = host!();
    // husk looks in the sbin directories, too, whatever PATH says.
    let hide = "for dir in /usr/local/sbin /usr/sbin /sbin; do mount -t tmpfs none $dir; done";
    let ping = "PATH=/nowhere exec $HUSK run $R ping -c1 -w5 10.77.0.1";
    let try_it = || host.sh(&format!("exec unshare -m sh -c '{hide}; {ping}'"));
    let first = try_it();
    assert!(first.code == 0 && first.err.lines().count() == 1, "{first}");
    assert!(first.err.starts_with("husk: ") && first.err.contains("iptables"), "{first}");
    try_it().ok();
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
