//! Published ports, each test on a host that has never seen husk.

mod common;
use common::*;
use nix::sys::signal::Signal;
use std::fs;

const SERVE: &str = "mkdir /w; echo served >/w/x; httpd -p 80 -h /w";
const BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Another machine, one cable away, that knows no way to the containers.
fn outside(host: &Host) -> Host {
    let other = Host::new("");
    host.sh(&format!(
        "set -e; ip link add test0 type veth peer name test1 netns {}
        ip addr add 192.0.2.1/24 dev test0; ip addr add 192.0.2.7/24 dev test0
        ip link set test0 up",
        other.pid()
    ))
    .ok();
    other.sh("ip addr add 192.0.2.2/24 dev test1; ip link set test1 up").ok();
    other
}

/// What a server says, or nothing.
const GET: &str = "exec 3<>/dev/tcp/$0; printf 'GET /x HTTP/1.0\\r\\n\\r\\n' >&3; tail -n1 <&3";

fn get(host: &Host, from: &str) -> String {
    run(host.command("timeout").args(["5", "bash", "-c", GET, from])).out.trim().to_string()
}

/// The same from inside: `from` is host and port as in a URL.
fn wget(from: &str) -> String {
    format!("timeout 5 wget -qO- http://{from}/x 2>/dev/null")
}

/// The rules that carry a container's name.
fn rules(host: &Host) -> Vec<String> {
    let saved = host.sh("iptables-save 2>/dev/null").ok();
    saved.lines().filter(|line| line.contains("husk-")).map(String::from).collect()
}

fn with_bridged(host: &Host, test: impl Fn(&str)) {
    for value in ["0", "1"] {
        if fs::exists(BRIDGED).is_ok_and(|yes| yes) {
            host.sh(&format!("echo {value} > {BRIDGED}")).ok();
        } else if value == "1" {
            host.skip_part("no br_netfilter in this kernel");
            continue;
        }
        test(&format!("bridge-nf-call-iptables {value}"));
    }
}

#[test]
fn from_everywhere() {
    let host = host!();
    let other = outside(&host);
    with_bridged(&host, |when| {
        let a = host.stays(&["--name", "web", "-p", "8080:80"], SERVE);
        assert_eq!(get(&other, "192.0.2.1/8080"), "served", "{when}: from outside");
        assert_eq!(get(&other, "192.0.2.7/8080"), "served", "{when}: another address");
        for own in ["192.0.2.1", "192.0.2.7", "10.77.0.1"] {
            assert_eq!(get(&host, &format!("{own}/8080")), "served", "{when}: the host to {own}");
            let from = wget(&format!("{own}:8080"));
            assert_eq!(host.inside(&[], &from).ok(), "served", "{when}: a container to {own}");
            let itself = host.husk(&["exec", "web", "sh", "-c", &from]);
            assert_eq!(itself.ok(), "served", "{when}: the container itself to {own}");
        }
        assert_eq!(get(&host, "127.0.0.1/8080"), "", "{when}: 127.0.0.1");
        assert_eq!(get(&other, "192.0.2.1/80"), "", "{when}: a port that is not published");
        assert_eq!(rules(&host).len(), 2, "{when}: {:?}", rules(&host));
        host.kill_inits();
        assert_eq!(a.wait().code, 137);
        assert_eq!(rules(&host), [""; 0], "{when}: after its end");
        assert_eq!(get(&other, "192.0.2.1/8080"), "", "{when}: after its end");
    });
}

/// docker has FORWARD dropped.
#[test]
fn where_nothing_is_forwarded() {
    let host = host!();
    let other = outside(&host);
    host.sh("iptables -w -P FORWARD DROP").ok();
    with_bridged(&host, |when| {
        let a = host.stays(&["--name", "web", "-p", "8080:80"], SERVE);
        assert_eq!(get(&other, "192.0.2.1/8080"), "served", "{when}: from outside");
        let from = wget("192.0.2.1:8080");
        assert_eq!(host.inside(&[], &from).ok(), "served", "{when}: from another container");
        let itself = host.husk(&["exec", "web", "sh", "-c", &from]);
        assert_eq!(itself.ok(), "served", "{when}: the container itself");
        host.kill_inits();
        a.wait();
    });
}

#[test]
fn one_address_and_udp() {
    let host = host!();
    let other = outside(&host);
    let options = ["--name", "web", "--publish=192.0.2.7:8080:80", "-p", "53:5353/udp"];
    let a = host.stays(&options, SERVE);
    let script = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 5353)); print('ready', flush=True)
s.sendto(b'answered\\n', s.recvfrom(9)[1])";
    let pid = host.inits()[0].to_string();
    let mut server = host.command("nsenter");
    let mut server = start(server.args(["-t", &pid, "-n", "python3", "-c", script]));
    server.says("ready");
    assert_eq!(get(&other, "192.0.2.7/8080"), "served");
    assert_eq!(get(&other, "192.0.2.1/8080"), "", "the other address");
    let ask = "exec 3<>/dev/udp/192.0.2.1/53; echo ? >&3; timeout 5 head -n1 <&3";
    assert_eq!(run(other.command("bash").args(["-c", ask])).out, "answered\n");
    server.wait();
    let table = host.husk(&["ps"]).ok();
    assert!(table.contains("192.0.2.7:8080:80/tcp,53:5353/udp"), "{table}");
    assert!(table.lines().next().is_some_and(|line| line.contains("PORTS")), "{table}");
    host.kill_inits();
    a.wait();
    assert_eq!(rules(&host), [""; 0]);
}

#[test]
fn a_port_is_one_container_s() {
    let host = host!();
    let _other = outside(&host);
    let a = host.stays(&["--name", "web", "-p", "8080:80", "-p", "192.0.2.7:81:80"], "true");
    let before = rules(&host);
    let refuse = |options: &[&str], words: &[&str]| {
        host.husk(&[&["run"], options, &[rootfs(), "true"]].concat()).refused(125, words);
        assert_eq!(rules(&host), before, "{options:?}");
        assert_eq!(host.containers().len(), 1, "{options:?}");
    };
    refuse(&["-p", "8080:81"], &["--publish 8080:81/tcp", "container web has that port"]);
    refuse(&["-p", "192.0.2.1:8080:81"], &["192.0.2.1:8080:81/tcp", "container web"]);
    refuse(&["-p", "81:80"], &["--publish 81:80/tcp", "container web has that port"]);
    refuse(&["-p", "82:80", "-p", "82:81"], &["--publish 82:81/tcp", "twice"]);
    // The first of two could be had.
    refuse(&["-p", "82:80", "-p", "8080:81"], &["8080:81/tcp", "container web"]);
    refuse(&["-p", "192.0.2.99:82:80"], &["--publish 192.0.2.99:82:80/tcp", "EADDRNOTAVAIL"]);
    let script = "import socket; s = socket.create_server(('', 83)); print('ready', flush=True)
import time; time.sleep(1000)";
    let mut server = start(host.command("python3").args(["-c", script]));
    server.says("ready");
    refuse(&["-p", "83:80"], &["--publish 83:80/tcp", "EADDRINUSE"]);
    refuse(&["-p", "82:80", "-p", "83:80"], &["--publish 83:80/tcp", "EADDRINUSE"]);
    server.signal(Signal::SIGKILL);
    server.wait();
    // Another protocol, and another address.
    let b = host.stays(&["-p", "8080:80/udp", "-p", "192.0.2.1:81:80"], "true");
    assert_eq!(rules(&host).len(), 8);
    host.kill_inits();
    a.wait();
    b.wait();
}

#[test]
fn values() {
    let host = host!();
    for value in [
        "",
        "80",
        ":80",
        "80:",
        "0:80",
        "80:0",
        "65536:80",
        "80:80/sctp",
        "80:80/",
        "a:80:80",
        "127.0.0.1:80:80",
        "127.1.2.3:80:80",
        "::1:80:80",
        "1.2.3.4:5:80:80",
        "80-81:80-81",
    ] {
        let run = host.husk(&["run", "-p", value, rootfs(), "true"]);
        run.refused(125, &["-p", value, "expected [IP:]PORT:PORT[/udp]"]);
    }
    for mode in ["none", "host"] {
        let run = host.husk(&["run", "-p", "80:80", "--network", mode, rootfs(), "true"]);
        run.refused(125, &["--publish", "--network bridge"]);
    }
    assert_eq!(host.links(), [""; 0]);
}

#[test]
fn without_iptables() {
    let host = host!();
    let hide = "for dir in /usr/local/sbin /usr/sbin /sbin; do \
                [ ! -d $dir ] || mount -t tmpfs none $dir; done";
    let script = format!("{hide}; PATH=/nowhere exec $HUSK run -p 80:80 $R true");
    host.inside(&[], "true").ok();
    let run = run(host.sh_command("exec unshare -m sh -c \"$0\"").arg(script).env("R", rootfs()));
    run.refused(125, &["--publish", "iptables"]);
}

/// A husk that is killed, at whatever moment, leaves no rule after the next command.
#[test]
fn killed() {
    let host = host!();
    host.inside(&[], "true").ok();
    for _ in 0..5 {
        let a = host.stays(&["--name", "web", "-p", "8080:80", "-p", "53:53/udp"], "true");
        assert_eq!(rules(&host).len(), 4);
        a.signal(Signal::SIGKILL);
        assert_eq!(a.wait().code, -9);
        host.husk(&["ps"]).ok();
        assert_eq!(rules(&host), [""; 0]);
    }
    // Or the next one that wants the port.
    let a = host.stays(&["--name", "web", "-p", "8080:80"], "true");
    a.signal(Signal::SIGKILL);
    a.wait();
    until("its container has ended", || host.processes().is_empty());
    host.husk(&["run", "-p", "8080:80", rootfs(), "true"]).ok();
    assert_eq!(rules(&host), [""; 0]);
    // A detached one that has ended by itself.
    host.husk(&["run", "-d", "-p", "8080:80", rootfs(), "true"]);
    host.husk(&["run", "-d", "-p", "8081:80", rootfs(), "sleep", "0.1"]);
    until("its container has ended", || host.processes().is_empty());
    host.inside(&[], "true").ok();
    assert_eq!(rules(&host), [""; 0]);
}

/// A start looks at some of the quiet containers only; those with ports are not among the others.
#[test]
fn killed_among_many() {
    let host = host!();
    let many = "for n in $(seq 60); do $HUSK run -d --network none $R sleep 1000; done";
    assert_eq!(host.sh(many).ok().lines().count(), 60);
    for _ in 0..4 {
        host.husk(&["run", "-d", "-p", "8081:80", rootfs(), "sleep", "0.1"]).ok();
        until("its container has ended", || host.processes().len() == 60);
        assert_eq!(rules(&host).len(), 2);
        host.inside(&[], "true").ok();
        assert_eq!(rules(&host), [""; 0]);
    }
    host.kill_inits();
    until("all to end", || host.processes().is_empty());
    host.husk(&["ps"]).ok();
}

#[test]
fn killed_anywhere() {
    let host = host!();
    if !have("strace") {
        skip!(host, "no strace");
    }
    host.inside(&[], "true").ok();
    // Of the parent alone: from the first that opens husk/ for its lock to the end.
    let points: Vec<_> = [("flock", 1), ("fsetxattr", 1), ("rmdir", 1), ("bind", 1), ("sendto", 4)]
        .into_iter()
        .chain((1..=6).map(|n| ("pidfd_open", n)))
        .chain((1..=4).map(|n| ("wait4", n)))
        .chain((1..=12).map(|n| ("fgetxattr", n)))
        .collect();
    let mut kills = 0;
    for (call, n) in points {
        let run = host.sh(&format!(
            "exec strace -qq -o /dev/null -e inject={call}:signal=KILL:when={n} \
             $HUSK run --name web -p 8080:80 -p 53:53/udp $R true"
        ));
        kills += usize::from(run.code != 0);
        let when = format!("killed at {call} number {n}");
        host.husk(&["ps"]).ok();
        until(&when, || host.husk(&["ps"]).ok().lines().count() == 1);
        assert_eq!(rules(&host), [""; 0], "{when}");
    }
    assert!(kills > 5, "{kills} kills are too few to believe");
}

/// Whoever publishes nothing runs and pays nothing.
#[test]
fn nothing_is_run_for_others() {
    let host = host!();
    if !have("strace") {
        skip!(host, "no strace");
    }
    let a = host.stays(&["-p", "8080:80"], "true");
    let log = TempDir::new();
    let file = log.join("trace").display().to_string();
    let trace = |options: &str| {
        host.sh(&format!("exec strace -f -qq -o {file} $HUSK run {options} $R true")).ok();
        fs::read_to_string(&file).expect("the trace")
    };
    // But for husk itself and the command, in whichever directory of PATH that is.
    let programs = |trace: &str| {
        let calls = trace.lines().filter(|line| line.contains("execve("));
        calls.filter(|line| !line.contains("[\"true\"]")).count() - 1
    };
    let calls = trace("");
    assert_eq!(programs(&calls), 0, "{calls}");
    assert!(!calls.contains("husk.ports\", \"") && !calls.contains("flock("), "{calls}");
    let calls = trace("-p 8081:80");
    assert!(programs(&calls) == 5 && calls.contains("husk.ports\", \""), "{calls}");
    host.kill_inits();
    a.wait();
}

/// A thousand requests from outside, while containers come and go.
#[test]
fn a_thousand_requests() {
    let host = host!();
    let other = outside(&host);
    let count = if in_vm() { 100 } else { 1000 };
    let a = host.stays(&["--name", "web", "-p", "8080:80", "-p", "192.0.2.7:81:80"], SERVE);
    let ask = format!(
        "import urllib.request
for number in range({count}):
    url = 'http://192.0.2.1:8080/x' if number % 2 else 'http://192.0.2.7:81/x'
    assert urllib.request.urlopen(url, timeout=20).read() == b'served\\n', number
print('answered')"
    );
    let mut client = start(other.command("python3").args(["-c", &ask]));
    let mut rounds = 0;
    while client.child.try_wait().expect("wait").is_none() {
        let port = format!("{}:80", 9000 + rounds % 7);
        host.husk(&["run", "-p", &port, rootfs(), "true"]).ok();
        host.inside(&[], "true").ok();
        rounds += 1;
    }
    assert_eq!(client.wait().ok(), "answered");
    assert!(rounds > 2, "{rounds} rounds beside {count} requests are too few to believe");
    println!("{count} requests, {rounds} rounds");
    assert_eq!(rules(&host).len(), 4);
    host.husk(&["stop", "-t", "0", "web"]).ok();
    a.wait();
    assert_eq!(rules(&host), [""; 0]);
}
