//! The appendix, husk-oci: limits that nobody asked for, those that no controller holds, which
//! devices may be used, and whose a process's input and output are.
#![cfg(feature = "oci")]

mod bundle;
mod common;
use bundle::*;
use common::*;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn what_an_engine_asks_for_by_default() {
    oci!(host, b);
    b.command("echo fine");
    for resources in [
        "cpu={'shares': 2}",
        "cpu={'shares': 1024}",
        "cpu={'period': 100000}",
        "cpu={'quota': -1, 'period': 100000}",
        "pids={'limit': 2048}",
        "pids={'limit': -1}, memory={'limit': -1}",
        "cpu={}, memory={}, pids={'limit': 0}, blockIO={}, hugepageLimits=[], unified={}",
    ] {
        b.edit(&format!("c['linux']['resources'] = dict({resources})"));
        assert_eq!(b.run(), "fine", "{resources}");
    }
    b.edit("c['linux']['resources'] = dict(cpu={'shares': 2})");
    b.sh("$OCI --log $B/log run --bundle $B one").ok();
    let log = fs::read_to_string(b.dir.join("log")).unwrap_or_default();
    let is_told = log.contains("cpu.weight: no cpu controller in cgroup 2 here; 1: ignored");
    assert_eq!(is_told, !host.has_controller("cpu"), "{log}");
}

#[test]
fn shares_as_weights() {
    oci!(host, b);
    if !host.has_controller("cpu") {
        skip!(host, "no cpu controller in cgroup 2");
    }
    b.command("sleep 1000");
    b.sh("$OCI run --detach --bundle $B one </dev/null >/dev/null 2>&1").ok();
    // What crun 1.23 and runc 1.3.2 write for them.
    for (shares, weight) in
        [(2, 1), (3, 2), (10, 4), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)]
    {
        let resources = format!("{{\"cpu\": {{\"shares\": {shares}}}}}");
        b.sh(&format!("echo '{resources}' | $OCI update --resources - one")).ok();
        let file = host.cgroup.join("husk-oci/one/cpu.weight");
        let found = fs::read_to_string(file).expect("cpu.weight");
        assert_eq!(found.trim(), weight.to_string(), "for {shares} shares");
    }
    b.sh("$OCI delete --force one").ok();
}

#[test]
fn limits_that_nothing_holds() {
    oci!(host, b);
    b.command("echo limited");
    for (resources, file) in [
        ("memory={'limit': 33554432}", "memory.max"),
        ("cpu={'quota': 50000, 'period': 100000}", "cpu.max"),
        ("cpu={'shares': 512}", "cpu.weight"),
        ("pids={'limit': 55}", "pids.max"),
        ("unified={'memory.high': '33554432'}", "memory.high"),
    ] {
        b.edit(&format!("c['linux']['resources'] = dict({resources})"));
        let controller = file.split('.').next().expect("a controller");
        let done = b.sh("$OCI run --bundle $B one");
        if host.has_controller(controller) {
            assert_eq!(done.ok(), "limited");
            continue;
        }
        // Neither may it look like a missing command.
        let why = format!("{file}: no {controller} controller in cgroup 2 here");
        assert!(done.code == 1 && done.err.contains(&why), "{done}");
        assert!(!done.err.contains("o such file"), "{done}");
    }
}

#[test]
fn device_rules() {
    oci!(host, b);
    let copy = fresh_rootfs();
    b.edit(&format!("c['root'] = {{'path': '{}', 'readonly': False}}", copy.path()));
    b.edit(
        "c['mounts'].append(dict(destination='/hostdev', type='bind', source='/dev', \
         options=['rbind']))",
    );
    b.edit(
        "c['linux']['resources'] = dict(devices=[dict(allow=False, access='rwm'), \
         dict(allow=True, type='c', major=1, minor=11, access='r')])",
    );
    b.edit(
        "c['linux']['devices'] = [dict(path='/dev/nought', type='c', major=1, minor=5, uid=7, \
         gid=8, fileMode=0o640)]",
    );
    b.edit("c['process']['capabilities']['bounding'].append('CAP_MKNOD')");
    b.edit("c['process']['capabilities']['effective'].append('CAP_MKNOD')");
    b.edit("c['process']['capabilities']['permitted'].append('CAP_MKNOD')");
    // Opening kmsg to read may take another capability; to write it never does.
    b.command(
        "(: >/hostdev/null) && echo null; (: >/hostdev/kmsg) 2>/dev/null || echo kmsg not; \
         (: </hostdev/mem) 2>/dev/null || echo mem not; mknod /zero c 1 5 && head -c 1 /zero | wc -c; \
         mknod /loop b 7 0 && (: </loop) 2>/dev/null || echo loop not; \
         stat -c \"%u %g %a %t:%T\" /dev/nought",
    );
    assert_eq!(b.run(), "null\nkmsg not\nmem not\n1\nloop not\n7 8 640 1:5");
    // It is another node than the host's.
    assert_eq!(fs::metadata("/dev/zero").expect("stat").uid(), 0);
    for (change, word) in [("access='rx'", "some of rwm"), ("access='r', type='p'", "a, b or c")] {
        b.edit(&format!("c['linux']['resources']['devices'][1] = dict(allow=True, {change})"));
        b.refuses("$OCI run --bundle $B one", &["linux.resources.devices", word]);
    }
}

#[test]
fn whose_input_and_output_it_is() {
    oci!(host, b);
    b.edit("c['process']['user'] = dict(uid=7, gid=8)");
    b.command("echo by name > /dev/stdout; echo error > /dev/stderr; cat /dev/stdin");
    let piped = "echo input | { $OCI run --bundle $B one 2>&1; } | cat";
    assert_eq!(b.sh(piped).ok(), "by name\nerror\ninput");
    let owner = |name: &str| fs::metadata(b.dir.join(name)).expect("stat").uid();
    fs::write(b.dir.join("in"), "from a file\n").expect("write");
    b.command("echo by name > /dev/stdout; cat");
    b.sh("$OCI run --bundle $B one <$B/in >$B/out").ok();
    let out = fs::read_to_string(b.dir.join("out")).expect("read");
    assert_eq!((out.as_str(), owner("out")), ("from a file\n", 7)); // its own > began it anew
    assert_eq!(owner("in"), 0, "what is read from is others', too");
    let node = || {
        let its = fs::metadata("/dev/null").expect("stat");
        (its.mode(), its.uid(), its.gid())
    };
    let before = node();
    b.sh("$OCI run --bundle $B one </dev/null >/dev/null 2>&1").ok();
    assert_eq!(node(), before);
}
