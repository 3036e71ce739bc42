//! The appendix: the command line, with runc's words.
#![cfg(feature = "oci")]

mod bundle;
mod common;
use bundle::{Bundle, oci};
use std::fs;

fn start(b: &Bundle, command: &str) {
    b.command(command);
    b.sh("$OCI run --detach --bundle $B one </dev/null >/dev/null 2>&1").ok();
}

#[test]
fn help_and_what_is_refused() {
    oci!(host, b);
    let all = b.sh("$OCI --help").ok();
    let verbs = [
        "spec", "create", "start", "run", "state", "kill", "delete", "exec", "ps", "list", "pause",
        "resume", "update", "events", "features",
    ];
    for verb in verbs {
        assert!(all.contains(&format!("\n  {verb} ")), "{verb}: {all}");
        let one = b.sh(&format!("$OCI {verb} --help")).ok();
        assert!(one.starts_with(&format!("Usage: husk-oci {verb}")), "{one}");
    }
    assert!(b.sh("$OCI exec -h").ok().contains("-u, --user UID[:GID]"));
    assert!(b.sh("$OCI --version").ok().contains("spec: 1.3.0"));
    for (script, word) in [
        ("$OCI nosuch", "\"nosuch\""),
        ("$OCI", "unknown verb"),
        ("$OCI state", "expected state CONTAINER"),
        ("$OCI state one two", "expected state CONTAINER"),
        ("$OCI start --bundle $B one", "--bundle"),
        ("$OCI list --format yaml", "--format yaml: expected table|json"),
        ("$OCI --log-format xml list", "--log-format xml: expected text|json"),
        ("$OCI --cgroup-manager systemd list", "--cgroup-manager systemd: expected cgroupfs"),
        ("$OCI --systemd-cgroup list", "--systemd-cgroup"),
        ("$OCI run --no-pivot one", "--no-pivot"),
        ("$OCI exec nosuch true", "does not exist"),
    ] {
        b.refuses(script, &["error: ", word]);
    }
    b.sh("$OCI --cgroup-manager cgroupfs list; $OCI --cgroup-manager=cgroupfs --debug list").ok();
}

/// features.md: "ociVersionMax", "mountOptions", "linux.seccomp.knownFlags" and so on.
#[test]
fn features() {
    oci!(host, b);
    let script = r#"$OCI features | python3 -c "
import json, sys
f = json.load(sys.stdin); l = f['linux']
print(f['ociVersionMax'], len(f['hooks']), 'rnosymfollow' in f['mountOptions'], 'time' in l['namespaces'])
print(l['cgroup']['v1'], l['cgroup']['v2'], 'SCMP_ACT_NOTIFY' in l['seccomp']['actions'])
print(l['mountExtensions']['idmap']['enabled'], l['netDevices']['enabled'], l['intelRdt']['enabled'])
print('CAP_SYS_ADMIN' in l['capabilities'], 'MPOL_BIND' in l['memoryPolicy']['modes'])""#;
    assert_eq!(b.sh(script).ok(), "1.3.0 6 True True\nFalse True True\nTrue True False\nTrue True");
}

#[test]
fn options_of_exec() {
    oci!(host, b);
    start(&b, "sleep 1000");
    let exec = |options: &str, script: &str| {
        b.sh(&format!("$OCI exec {options} one sh -c '{script}'")).ok()
    };
    assert_eq!(exec("--user 7:8 --additional-gids 9 -g 10", "id -u; id -G"), "7\n8 9 10");
    assert_eq!(exec("-u 7", "id -u; id -g"), "7\n0");
    assert_eq!(exec("--cwd /bin -e A=1 --env B=2", "pwd; echo $A$B"), "/bin\n12");
    let capabilities = "grep ^CapEff /proc/self/status | cut -f2";
    let bits = |text: String| u64::from_str_radix(text.trim(), 16).expect("hexadecimal");
    let before = bits(exec("", capabilities));
    let after = bits(exec("--cap CAP_KILL --cap CAP_SYS_CHROOT --cap CAP_FOWNER", capabilities));
    assert_eq!(after, before | 1 << 5 | 1 << 18 | 1 << 3);
    let bound = "grep ^NoNewPrivs /proc/self/status | cut -f2";
    b.edit("c['process']['noNewPrivileges'] = False");
    b.sh("$OCI delete --force one").ok();
    start(&b, "sleep 1000");
    assert_eq!(exec("", bound), "0");
    assert_eq!(exec("--no-new-privs", bound), "1");
    // A cgroup below the container's.
    let dir = b.sh("$OCI state one | sed -n 's/.*\"cgroup\": \"\\(.*\\)\".*/\\1/p'").ok();
    b.sh(&format!("mkdir {dir}/below")).ok();
    let seen = exec("--cgroup below", "cat /proc/self/cgroup | grep ^0");
    assert_eq!(seen, "0::/below");
    for (script, word) in [
        ("$OCI exec --cgroup ../x one true", "--cgroup"),
        ("$OCI exec --cgroup nosuch one true", "ENOENT"),
        ("$OCI exec --user root one true", "--user root: expected a number"),
        ("$OCI exec --cap CAP_NEW one true", "--cap CAP_NEW"),
        ("$OCI exec one", "expected a COMMAND"),
    ] {
        b.refuses(script, &[word]);
    }
    b.sh(&format!("rmdir {dir}/below")).ok();
    // In what is paused a process waits.
    b.sh("$OCI pause one").ok();
    b.refuses("$OCI exec one true", &["paused"]);
    let script = "$OCI exec --ignore-paused one echo woken & sleep 0.5; $OCI resume one; wait";
    assert_eq!(b.sh(script).ok(), "woken");
    b.sh("echo '{\"args\": [\"/bin/echo\", \"hi\"], \"cwd\": \"/\", \"user\": {\"uid\": 0, \"gid\": 0}}' > $B/p")
        .ok();
    assert_eq!(b.sh("$OCI exec --process $B/p one; $OCI exec -p - one < $B/p").ok(), "hi\nhi");
    b.sh("$OCI delete --force one").ok();
}

#[test]
fn tables() {
    oci!(host, b);
    start(&b, "sleep 1234");
    let list = b.sh("$OCI list").ok();
    let mut lines = list.lines();
    let titles: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
    assert_eq!(titles, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let row: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
    assert!(row[0] == "one" && row[2] == "running" && row[5] == "root", "{list}");
    let json = b.sh("$OCI list --format json").ok();
    assert!(json.contains("\"owner\": \"root\"") && json.contains(row[1]), "{json}");
    assert_eq!(b.sh("$OCI list -f json -q").ok(), "one");
    let ps = b.sh("$OCI ps one").ok();
    assert!(ps.lines().next().is_some_and(|line| line.contains("PID")), "{ps}");
    assert!(ps.lines().count() == 2 && ps.contains("sleep 1234"), "{ps}");
    assert!(b.sh("$OCI ps one -- -o pid,args").ok().contains("sleep 1234"));
    assert_eq!(b.sh("$OCI ps --format json one | tr -d ' \\n'").ok(), format!("[{}]", row[1]));
    b.sh("$OCI delete --force one").ok();
}

#[test]
fn run_keeps_what_it_is_told_to() {
    oci!(host, b);
    b.command("exit 3");
    assert_eq!(b.sh("$OCI run --keep --bundle $B one").code, 3);
    assert!(b.sh("$OCI state one").ok().contains("stopped"));
    b.sh("$OCI delete one").ok();
}

#[test]
fn logs() {
    oci!(host, b);
    let text = |format: &str| {
        let script = format!("rm -f $B/log; $OCI --log $B/log {format} state one");
        assert_eq!(b.sh(&script).code, 1);
        fs::read_to_string(b.dir.join("log")).expect("the log")
    };
    let line = text("--log-format text");
    assert!(line.starts_with("time=\"") && line.contains(" level=error msg=\""), "{line}");
    assert!(text("").starts_with("time=\""));
    let line = text("--log-format json");
    assert!(line.starts_with('{') && line.contains("\"level\":\"error\""), "{line}");
}

#[test]
fn updates_and_events() {
    oci!(host, b);
    start(&b, "sleep 1000");
    let script = r#"$OCI events --stats one | python3 -c "
import json, sys
e = json.load(sys.stdin)
print(e['type'], e['id'], sorted(e['data']), sorted(e['data']['cpu']['usage']))""#;
    assert_eq!(
        b.sh(script).ok(),
        "stats one ['blkio', 'cpu', 'memory', 'pids'] ['kernel', 'total', 'user']"
    );
    for (options, word) in [
        ("--kernel-memory 5", "memory.kernel"),
        ("--cpu-rt-period 5", "realtime"),
        ("--cpu-period 5", "cpu.period"),
        ("--pids-limit many", "--pids-limit many: expected a number"),
        ("--l3-cache-schema L3:0=1", "intelRdt"),
    ] {
        b.refuses(&format!("$OCI update {options} one"), &[word]);
    }
    let dir = b.sh("$OCI state one | sed -n 's/.*\"cgroup\": \"\\(.*\\)\".*/\\1/p'").ok();
    let cases = [
        ("pids", "--pids-limit 55", "pids.max", "55"),
        ("pids", "--pids-limit -1", "pids.max", "max"),
        ("memory", "--memory 67108864 --memory-swap 100663296", "memory.swap.max", "33554432"),
        ("memory", "--memory 67108864", "memory.max", "67108864"),
        ("memory", "--memory-reservation 33554432", "memory.low", "33554432"),
        ("cpu", "--cpu-quota 50000 --cpu-period 200000", "cpu.max", "50000 200000"),
        ("cpu", "--cpu-period 100000", "cpu.max", "50000 100000"),
        ("cpu", "--cpu-quota 60000", "cpu.max", "60000 100000"),
        ("cpuset", "--cpuset-cpus 0", "cpuset.cpus", "0"),
    ];
    for (controller, options, file, expected) in cases {
        if !host.has_controller(controller) {
            host.skip_part(&format!("no {controller} controller: update {options}"));
            continue;
        }
        b.sh(&format!("$OCI update {options} one")).ok();
        assert_eq!(b.sh(&format!("cat {dir}/{file}")).ok(), expected, "{options}");
    }
    b.sh("echo '{\"unified\": {\"cgroup.max.depth\": \"5\"}}' | $OCI update -r - one").ok();
    assert_eq!(b.sh(&format!("cat {dir}/cgroup.max.depth")).ok(), "5");
    b.sh("$OCI delete --force one").ok();
    b.refuses("$OCI events --stats one", &["does not exist"]);
}

/// In the foreground 0, 1 and 2 are a terminal of the container's own, or pipes.
#[test]
fn streams_in_the_foreground() {
    oci!(host, b);
    b.command("cat; readlink /proc/self/fd/1; readlink /proc/self/fd/2; ls /proc/self/fd | wc -l");
    let out =
        b.sh("echo typed | $OCI run --bundle $B one > $B/out 2> $B/err; cat $B/out $B/err").ok();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0] == "typed" && lines[1].starts_with("pipe:"), "{out}");
    assert!(lines[2].starts_with("pipe:") && lines[3] == "4", "{out}");
    b.edit("c['process']['terminal'] = True");
    b.command("tty; ls -l /dev/console | cut -c1; stty size; exit 7");
    let (out, code) = host.pty(b.prepared("exec $OCI run --bundle $B one")).end();
    assert_eq!(out.replace('\r', ""), "/dev/pts/0\nc\n24 80\n");
    assert_eq!(code, 7);
    // The same for exec.
    b.edit("c['process']['terminal'] = False");
    start(&b, "sleep 1000");
    let (out, code) = host.pty(b.prepared("exec $OCI exec -t one sh -c 'tty; exit 3'")).end();
    assert_eq!((out.replace('\r', "").as_str(), code), ("/dev/pts/0\n", 3));
    assert_eq!(b.sh("$OCI exec one readlink /proc/self/fd/1 | cut -d: -f1").ok(), "pipe");
    b.sh("$OCI delete --force one").ok();
}
