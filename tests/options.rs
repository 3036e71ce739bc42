//! docker's options that are a line or two in husk, and what is said of those that are not.

mod common;
use common::*;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

#[test]
fn environment_files() {
    let host = host!();
    let dir = TempDir::new();
    let file = dir.join("env");
    let file = file.to_str().expect("UTF-8");
    fs::write(file, "# a comment\nA=1 and more\n\n  B=2\nCALLERS\nUNSET\nC=#3\n").expect("write");
    let script = "echo $A; echo $B $CALLERS ${UNSET-unset} $C";
    let run_with = |options: &[&str]| {
        let words = [&["run"], options, &[rootfs(), "sh", "-c", script]].concat();
        run(host.husk_command(&words).env("CALLERS", "own")).ok()
    };
    assert_eq!(run_with(&["--env-file", file]), "1 and more\n2 own unset #3");
    assert_eq!(run_with(&["-e", "B=4", "--env-file", file]), "1 and more\n4 own unset #3");
    fs::write(file, "A=1\n=x\n").expect("write");
    let words = ["run", "--env-file", file, rootfs(), "true"];
    host.husk(&words).refused(125, &["--env-file", file, "line 2", "KEY=VALUE"]);
    host.inside(&["--env-file=/no/such"], "true").refused(125, &["--env-file /no/such", "ENOENT"]);
}

#[test]
fn limits_of_processes() {
    let host = host!();
    let options = ["--ulimit", "nofile=100:200", "--ulimit=core=0", "--ulimit", "nproc=-1:-1"];
    let script = "ulimit -n; ulimit -Hn; ulimit -c";
    // Where husk's own limit is lower, a higher one needs CAP_SYS_RESOURCE.
    assert_eq!(host.inside(&options[..3], script).ok(), "100\n200\n0");
    let run = [&["run", "-d", "--name=x"], &options[..2], &[rootfs(), "sleep", "1000"]].concat();
    host.husk(&run).ok();
    assert_eq!(host.husk(&["exec", "x", "sh", "-c", "ulimit -Hn"]).ok(), "200");
    host.husk(&["stop", "-t0", "x"]).ok();
    for bad in ["nofile", "nofile=", "nofile=x", "nofile=5:4", "files=5", "nofile=1:2:3"] {
        host.inside(&["--ulimit", bad], "true")
            .refused(125, &["--ulimit", bad, "NAME=SOFT[:HARD]"]);
    }
}

#[test]
fn settings_of_the_kernel() {
    let host = host!();
    let options = ["--sysctl", "net.ipv4.ip_unprivileged_port_start=77", "--sysctl"];
    let options = [&options[..], &["kernel.shmmni=99"]].concat();
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni";
    assert_eq!(host.inside(&options, script).ok(), "77\n99");
    let none = [&options[..], &["--network=none"]].concat();
    assert_eq!(host.inside(&none, script).ok(), "77\n99");
    let own = host.sh(script).ok();
    assert!(!own.contains("77\n99"), "the host's own: {own}");
    for bad in ["kernel.pid_max=5", "vm.swappiness=1", "net.x", "net/../kernel/pid_max=5", "=1"] {
        host.inside(&["--sysctl", bad], "true").refused(125, &["--sysctl", bad, "NAME=VALUE"]);
    }
    host.inside(&["--sysctl=net.no.such=1"], "true").refused(125, &["net/no/such", "ENOENT"]);
    let host_network = ["--network=host", "--sysctl", "net.ipv4.ip_forward=1"];
    host.inside(&host_network, "true").refused(125, &["--sysctl", "a network of the container's"]);
}

#[test]
fn name_servers() {
    let host = host!();
    let options = ["--dns=9.9.9.9", "--dns", "1.1.1.1", "--dns-search", "example.org"];
    let options = [&options[..], &["--dns-option=ndots:2"]].concat();
    let wanted = "nameserver 9.9.9.9\nnameserver 1.1.1.1\nsearch example.org\noptions ndots:2";
    let seen = host.inside(&options, "cat /etc/resolv.conf").ok();
    assert_eq!(
        seen.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n"),
        wanted
    );
    for (option, bad) in [("--dns", "one.one"), ("--dns-search", "a b"), ("--dns-option", "")] {
        host.inside(&[option, bad], "true").refused(125, &[option]);
    }
}

/// One container in another's network: same address, same ports, and neither ends with the other.
#[test]
fn network_of_another_container() {
    let host = host!();
    let serve = "while :; do echo hello | nc -l -p 80; done";
    host.husk(&["run", "-d", "--name=a", rootfs(), "sh", "-c", serve]).ok();
    let joined = ["run", "--network", "container:a", rootfs(), "sh", "-c"];
    let inside = |script: &str| host.husk(&[&joined[..], &[script]].concat());
    until("the server", || inside("nc 127.0.0.1 80 </dev/null").out == "hello\n");
    let address = "ip -4 -o addr show dev eth0 | tr -s ' ' | cut -d ' ' -f 4";
    let theirs = host.husk(&["exec", "a", "sh", "-c", address]).ok();
    assert!(theirs.starts_with("10.77."), "{theirs}");
    assert_eq!(inside(address).ok(), theirs);
    assert_eq!(inside("ls /sys/class/net").ok(), "eth0\nlo");
    assert_eq!(inside("ps -o comm | grep -c ^nc || true").ok(), "0", "processes are its own");
    let words = [&["run", "-d", "--name=b"], &joined[1..3], &[rootfs(), "sleep", "1000"]].concat();
    host.husk(&words).ok();
    let rows = host.husk(&["ps"]).ok();
    let shared = rows.lines().filter(|row| row.contains(theirs.trim_end_matches("/16"))).count();
    assert_eq!(shared, 2, "{rows}");
    host.husk(&["stop", "-t0", "a"]).ok();
    assert_eq!(host.husk(&["exec", "b", "sh", "-c", address]).ok(), theirs);
    host.husk(&["stop", "-t0", "b"]).ok();
    host.inside(&["--network=container:a"], "true").refused(125, &["a: no such container"]);
    host.inside(&["--network=container:"], "true").refused(125, &["MODE"]);
    let sysctl = ["--network=container:a", "--sysctl=net.ipv4.ip_forward=1"];
    host.inside(&sysctl, "true").refused(125, &["--sysctl"]);
}

#[test]
fn entrypoints() {
    let host = host!();
    let words = ["run", "--entrypoint", "echo", rootfs(), "-n", "a"];
    assert_eq!(host.husk(&words).ok(), "a");
    assert_eq!(host.husk(&["run", "--entrypoint=/bin/pwd", rootfs()]).ok(), "/");
}

/// A cgroup's file by docker's name; which of them there are is the kernel's matter.
#[test]
fn files_of_the_cgroup() {
    let host = host!();
    let words =
        ["run", "--cpuset-cpus", "0", rootfs(), "grep", "Cpus_allowed_list", "/proc/self/status"];
    let run = host.husk(&words);
    if host.has_controller("cpuset") {
        assert_eq!(run.ok(), "Cpus_allowed_list:\t0");
    } else {
        run.refused(125, &["cpuset.cpus", "no cpuset controller"]);
        host.skip_part("no cpuset controller in cgroup 2 here");
    }
}

// ------------------------------------------------------------------------------- stop, kill and ps -q

const TRAPS: &str = "for s in TERM INT HUP USR1 QUIT; do trap \"echo $s >> /log/signals\" $s; done
    touch /log/ready; while :; do sleep 0.1; done";

#[test]
fn stop_by_another_signal() {
    let host = host!();
    let log = TempDir::new();
    let volume = format!("{}:/log", log.path());
    let started = |options: &[&str]| {
        let _ = fs::remove_file(log.join("ready"));
        let first = ["run", "-d", "--name=x", "-v", &volume];
        host.husk(&[&first[..], options, &[rootfs(), "sh", "-c", TRAPS]].concat()).ok();
        until("the traps", || log.join("ready").exists());
    };
    let signals = || {
        let text = fs::read_to_string(log.join("signals")).unwrap_or_default();
        // Not between its making and the first word.
        if text.ends_with('\n') {
            fs::remove_file(log.join("signals")).expect("rm");
        }
        text
    };
    for (options, stop, wanted) in [
        (&[][..], &["-t1"][..], "TERM\n"),
        (&[], &["-t1", "-s", "INT"], "INT\n"),
        (&[], &["-t1", "--signal=sigquit"], "QUIT\n"),
        (&["--stop-signal", "USR1"], &["-t1"], "USR1\n"),
        (&["--stop-signal=SIGUSR1"], &["-t1", "-s1"], "HUP\n"),
    ] {
        started(options);
        host.husk(&[&["stop"], stop, &["x"]].concat()).ok();
        assert_eq!(signals(), wanted, "{options:?} {stop:?}");
        assert!(host.containers().is_empty());
    }
    host.inside(&["--stop-signal", "FLY"], "true").refused(125, &["--stop-signal FLY", "SIGNAL"]);

    // kill sends a signal, and ends only what that ends.
    started(&[]);
    for name in ["HUP", "SIGHUP", "sighup", "1"] {
        host.husk(&["kill", "-s", name, "x"]).ok();
        let mut seen = String::new();
        until("HUP", || {
            seen += &signals();
            !seen.is_empty()
        });
        assert_eq!(seen, "HUP\n", "{name}");
    }
    let run = host.husk(&["kill", "-s", "USR1", "nonesuch", "x"]);
    run.refused(125, &["nonesuch: no such container"]);
    until("USR1", || log.join("signals").exists());
    assert_eq!(host.husk(&["ps", "-q"]).ok(), "x");
    host.husk(&["kill", "x"]).ok();
    assert!(host.containers().is_empty(), "killed, and gone when husk returns");
}

#[test]
fn names_alone() {
    let host = host!();
    assert_eq!(host.husk(&["ps", "-q"]).ok(), "");
    for name in ["a", "b"] {
        host.husk(&["run", "-d", "--name", name, rootfs(), "sleep", "1000"]).ok();
        sleep(Duration::from_millis(50)); // ages are counted in ticks of 10 ms
    }
    assert_eq!(host.husk(&["ps", "--quiet"]).ok(), "b\na");
    assert_eq!(host.sh("$HUSK stop -t0 $($HUSK ps -q) && $HUSK ps -q").ok(), "");
}

#[test]
fn processor_time() {
    let host = host!();
    let burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; touch /done; exec sleep 1000";
    host.husk(&["run", "-d", "--name=x", rootfs(), "sh", "-c", burn]).ok();
    until("the work", || host.husk(&["exec", "x", "test", "-e", "/done"]).code == 0);
    let ps = host.husk(&["ps"]).ok();
    let seconds = ps.lines().nth(1).and_then(|row| row.split_whitespace().nth(4));
    let seconds = seconds.and_then(|text| text.strip_suffix('s')?.parse::<f64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0.05), "{ps}");
    host.husk(&["kill", "x"]).ok();
}

// --------------------------------------------------------------------------------- what husk has not

#[test]
fn what_to_do_instead() {
    let host = host!();
    for (options, words) in [
        (&["--privileged"][..], &["--privileged is not in husk", "--cap-add ALL"][..]),
        (&["--gpus", "all"], &["--gpus is not in husk", "--device"]),
        (&["--restart=always"], &["--restart is not in husk", "systemd"]),
        (&["--mount", "type=bind,src=/a,dst=/b"], &["--mount is not in husk", "-v SRC:DST"]),
        (&["--label", "a=b"], &["--label is not in husk", "--name"]),
        (&["-l", "a=b"], &["-l is not in husk"]),
        (&["--pid=host"], &["--pid is not in husk", "husk exec"]),
        (&["--security-opt", "seccomp=unconfined"], &["--security-opt is not in husk"]),
        (&["--memory-swap", "1g"], &["--memory-swap is not in husk", "memory.swap.max"]),
        (&["--cpu-shares", "5"], &["--cpu-shares is not in husk", "cpu.weight"]),
        (&["--frobnicate"], &["unknown option --frobnicate"]),
    ] {
        host.husk(&[&["run"], options, &[rootfs(), "true"]].concat()).refused(125, words);
    }
    for verb in ["logs", "rm", "start", "cp", "pull", "inspect", "wait"] {
        host.husk(&[verb, "x"]).refused(125, &[verb, "is not in husk"]);
    }
    host.husk(&["exec", "--privileged", "x", "true"])
        .refused(125, &["--privileged is not in husk"]);
}
