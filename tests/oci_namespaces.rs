//! The appendix: namespaces, as runtime-spec 1.3 has them in config-linux.md, "Namespaces", "User
//! namespace mappings" and "Offset for Time Namespace".
#![cfg(feature = "oci")]

mod bundle;
mod common;
use bundle::{Bundle, oci};
use common::*;
use std::fs;

#[test]
fn namespaces() {
    oci!(host, b);
    b.edit("c['domainname'] = 'wood'; c['linux']['sysctl'] = {'kernel.msgmax': '9000'}");
    b.command("cat /proc/sys/kernel/domainname /proc/sys/kernel/msgmax");
    assert_eq!(b.run(), "wood\n9000");
    let copy = rootfs_of(100_000);
    b.edit("c['linux']['namespaces'].append({'type': 'user'})");
    b.edit("c['linux']['uidMappings'] = [dict(containerID=0, hostID=100000, size=65536)]");
    b.edit("c['linux']['gidMappings'] = c['linux']['uidMappings']; del c['domainname']");
    b.edit(&format!("c['linux']['sysctl'] = {{}}; c['root']['path'] = '{}'", copy.path()));
    b.command("sleep 1000");
    b.sh("$OCI run --detach --bundle $B one </dev/null >/dev/null 2>&1").ok();
    // exec goes where the first process is, in each of its namespaces.
    let script = "id -u; for n in user pid mnt net ipc uts cgroup; do \
        [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo other $n; done";
    assert_eq!(
        b.sh(&format!("$OCI exec one sh -c '{script}; cat /proc/self/uid_map'"))
            .ok()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["0", "0", "100000", "65536"]
    );
    // Another container joins them by path, but for the two that can't be.
    b.edit("c['linux']['uidMappings'] = c['linux']['gidMappings'] = []");
    b.edit(
        "c['linux']['namespaces'] = [{'type': 'mount'}] + [{'type': t, 'path': '/proc/self/ns/' + n} \
         for t, n in [('network', 'net'), ('uts', 'uts')]]",
    );
    b.edit("c['hostname'] = ''; c['mounts'] = []");
    b.edit(&format!("c['root']['path'] = '{}'", rootfs()));
    b.command("echo joined");
    b.sh("$OCI delete --force one").ok();
    assert_eq!(b.run(), "joined");
}

/// Starts the bundle as `one`, which stays, and returns its process's number.
fn start_one(b: &Bundle) -> String {
    b.command("sleep 1000");
    b.sh("$OCI run --detach --pid-file $B/pid --bundle $B one </dev/null >/dev/null 2>&1").ok();
    fs::read_to_string(b.dir.join("pid")).expect("pid file")
}

fn namespaces_are(b: &Bundle, list: &str) {
    b.edit(&format!(
        "c['linux']['namespaces'] = [dict(type=t) for t in 'pid network ipc uts mount cgroup'.split() \
         if not any(n['type'] == t for n in {list})] + {list}"
    ));
}

const MAPPED: &str = "c['linux']['namespaces'].append({'type': 'user'}); \
    c['linux']['uidMappings'] = c['linux']['gidMappings'] = \
    [dict(containerID=0, hostID=100000, size=1000), dict(containerID=1000, hostID=300000, size=50)]";

/// "timeOffsets … secs … nanosecs"; "time: the container will be able to have its own clocks".
#[test]
fn clocks() {
    oci!(host, b);
    b.edit("c['linux']['namespaces'].append({'type': 'time'})");
    b.edit(
        "c['linux']['timeOffsets'] = dict(boottime=dict(secs=5000000, nanosecs=7), \
         monotonic=dict(secs=300))",
    );
    let pid = start_one(&b);
    let script = "cut -d. -f1 /proc/uptime; readlink /proc/self/ns/time";
    let inside = b.sh(&format!("$OCI exec one sh -c '{script}'")).ok();
    let (uptime, time) = inside.split_once('\n').expect("two lines");
    assert!(uptime.parse::<u64>().expect("seconds") > 5_000_000, "{inside}");
    let offsets = b.sh(&format!("tr -s ' ' < /proc/{pid}/timens_offsets")).ok();
    assert_eq!(offsets.trim(), "monotonic 300 0\nboottime 5000000 7");
    assert_eq!(b.sh(&format!("readlink /proc/{pid}/ns/time")).ok(), time);
    // Whoever has made it is in it no longer: hooks and the next container have their own clocks.
    assert_ne!(b.sh("readlink /proc/self/ns/time").ok(), time);
    // Another one joins it.
    b.edit(&format!(
        "c['linux']['namespaces'][-1]['path'] = '/proc/{pid}/ns/time'; del c['linux']['timeOffsets']"
    ));
    b.command("readlink /proc/self/ns/time");
    assert_eq!(b.sh("$OCI run --bundle $B two").ok(), time);
    b.sh("$OCI delete --force one").ok();
    b.edit("c['linux']['timeOffsets'] = dict(boottime=dict(secs=1))");
    b.edit("c['linux']['namespaces'].pop()");
    b.refuses("$OCI run --bundle $B one", &["linux.timeOffsets", "new time namespace"]);
    b.edit("c['linux']['namespaces'].append({'type': 'time'}); c['linux']['timeOffsets'] = dict(tai={})");
    b.refuses("$OCI run --bundle $B one", &["linux.timeOffsets", "tai", "monotonic or boottime"]);
}

/// "path … MUST be an absolute path"; "The runtime MUST generate an error if path is not associated
/// with a namespace of type type"; "duplicated namespaces with same type … MUST generate an error".
#[test]
fn paths_that_are_refused() {
    oci!(host, b);
    for (kind, path, word) in [
        ("network", "/proc/self/ns/uts", "no net namespace"),
        ("uts", "/proc/self/ns/net", "no uts namespace"),
        ("ipc", "/proc/self/ns/mnt", "no ipc namespace"),
        ("mount", "/proc/self/ns/pid", "no mnt namespace"),
        ("pid", "/proc/self/ns/user", "no pid namespace"),
        ("user", "/proc/self/ns/cgroup", "no user namespace"),
        ("time", "/etc/passwd", "no time namespace"),
        ("cgroup", "/dev/null", "no cgroup namespace"),
        ("network", "proc/self/ns/net", "absolute"),
        ("network", "/nonexistent/net", "ENOENT"),
    ] {
        namespaces_are(&b, &format!("[dict(type='{kind}', path='{path}')]"));
        b.refuses("$OCI run --bundle $B one", &["linux.namespaces", path, word]);
    }
    namespaces_are(&b, "[dict(type='ipc'), dict(type='ipc', path='/proc/self/ns/ipc')]");
    b.refuses("$OCI run --bundle $B one", &["linux.namespaces", "ipc", "twice"]);
    namespaces_are(&b, "[dict(type='user')]");
    b.refuses("$OCI run --bundle $B one", &["linux.uidMappings"]);
    b.edit("c['linux']['uidMappings'] = [dict(containerID=0, hostID=0, size=1)]");
    b.refuses("$OCI run --bundle $B one", &["linux.gidMappings"]);
}

/// "The runtime MUST place the container process in the namespace associated with that path."
#[test]
fn joined_by_path() {
    oci!(host, b);
    let pid = start_one(&b);
    let all = [
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("mount", "mnt"),
        ("cgroup", "cgroup"),
    ];
    b.edit("c['hostname'] = ''; c['process']['cwd'] = '/bin'");
    for (kind, name) in all {
        namespaces_are(&b, &format!("[dict(type='{kind}', path='/proc/{pid}/ns/{name}')]"));
        b.command(&format!("readlink /proc/self/ns/{name}; pwd; ls /etc/passwd"));
        let seen = b.sh("$OCI run --bundle $B two");
        let its = b.sh(&format!("readlink /proc/{pid}/ns/{name}")).ok();
        assert_eq!(seen.ok(), format!("{its}\n/bin\n/etc/passwd"), "{kind}");
    }
    // One's own are nothing to join.
    namespaces_are(
        &b,
        "[dict(type=t, path='/proc/self/ns/' + n) for t, n in \
        [('user', 'user'), ('ipc', 'ipc'), ('uts', 'uts')]]",
    );
    b.command("readlink /proc/self/ns/ipc");
    assert_eq!(b.sh("$OCI run --bundle $B two").ok(), b.sh("readlink /proc/self/ns/ipc").ok());
    b.edit("c['linux']['sysctl'] = {'kernel.msgmax': '9000'}");
    b.refuses("$OCI run --bundle $B two", &["kernel.msgmax", "namespace"]);
    b.sh("$OCI delete --force one").ok();
}

/// "If a namespace type is not specified in the namespaces array, the container MUST inherit the
/// runtime namespace of that type."
#[test]
fn no_mount_namespace() {
    oci!(host, b);
    let copy = fresh_rootfs();
    b.edit(&format!("c['root']['path'] = '{}'", copy.path()));
    b.edit("c['linux']['namespaces'] = [dict(type='pid'), dict(type='ipc')]; c['hostname'] = ''");
    b.edit("c['mounts'].append(dict(destination='/tmp', type='tmpfs'))");
    let before = b.sh("cat /proc/self/mountinfo").ok();
    b.command(
        "readlink /proc/self/ns/mnt; ls -d /tmp /etc/passwd; echo x > /tmp/x; ls /proc/1/exe",
    );
    let own = b.sh("readlink /proc/self/ns/mnt").ok();
    assert_eq!(b.run(), format!("{own}\n/etc/passwd\n/tmp\n/proc/1/exe"));
    assert_eq!(b.sh("cat /proc/self/mountinfo").ok(), before, "left by run");
    start_one(&b);
    assert_ne!(b.sh("cat /proc/self/mountinfo").ok(), before);
    assert_eq!(b.sh("$OCI exec one ls /etc/passwd").ok(), "/etc/passwd");
    b.sh("$OCI delete --force one").ok();
    assert_eq!(b.sh("cat /proc/self/mountinfo").ok(), before, "left by delete");
    // An error leaves nothing, and does not take away what others have mounted there.
    b.sh(&format!("mount --bind {0} {0}", copy.path())).ok();
    let before = b.sh("cat /proc/self/mountinfo").ok();
    b.edit("c['process']['args'] = ['/nosuch']");
    b.refuses("$OCI run --bundle $B one", &["no such file"]);
    assert_eq!(b.sh("cat /proc/self/mountinfo").ok(), before, "left by an error");
    b.sh(&format!("umount {}", copy.path())).ok();
}

/// "Note that the number of mapping entries MAY be limited by the kernel": there may be several.
#[test]
fn mappings_and_closed_directories() {
    oci!(host, b);
    let copy = rootfs_of(100_000);
    // The container's root may not go where its files are: only the caller may.
    let closed = b.dir.join("closed").display().to_string();
    b.sh(&format!(
        "mkdir -m 700 {closed}; mkdir {closed}/volume {closed}/root; echo text > {closed}/volume/file; \
        mount --bind {} {closed}/root",
        copy.path()
    ))
    .ok();
    b.edit(MAPPED);
    b.edit(&format!("c['root']['path'] = '{closed}/root'"));
    b.edit(&format!(
        "c['mounts'].append(dict(destination='/tmp', source='{closed}/volume', options=['rbind']))"
    ));
    b.command("tr -s ' ' < /proc/self/uid_map; cat /tmp/file; id -u; stat -c %u /tmp/file");
    let map = " 0 100000 1000\n 1000 300000 50\ntext\n0";
    assert_eq!(b.run(), format!("{map}\n65534"));
    // idmap: "the runtime MAY use the container's user namespace mapping".
    b.edit("c['mounts'][-1]['options'] = ['rbind', 'idmap']");
    assert_eq!(b.run(), format!("{map}\n0"));
    // Another container joins that user namespace, and exec does; its pid file is the caller's.
    let pid = start_one(&b);
    let own = b.sh(&format!("readlink /proc/{pid}/ns/user")).ok();
    b.sh(&format!("$OCI exec --pid-file {closed}/pid one true; test -s {closed}/pid")).ok();
    namespaces_are(&b, &format!("[dict(type='user', path='/proc/{pid}/ns/user')]"));
    b.edit("c['linux']['uidMappings'] = c['linux']['gidMappings'] = []");
    b.edit("c['mounts'][-1]['options'] = ['rbind']");
    b.edit("c['process']['oomScoreAdj'] = 300");
    b.command("readlink /proc/self/ns/user; id -u; cat /tmp/file; cat /proc/self/oom_score_adj");
    assert_eq!(b.sh("$OCI run --bundle $B two").ok(), format!("{own}\n0\ntext\n300"));
    b.sh("$OCI delete --force one; umount $B/closed/root").ok();
    // A new user namespace beside a network that belongs to the caller's.
    let holder = host.sh("unshare -n sleep 1000 >/dev/null 2>&1 & echo $!").ok();
    until("a network", || {
        b.sh(&format!("readlink /proc/{holder}/ns/net")).ok()
            != b.sh("readlink /proc/self/ns/net").ok()
    });
    b.edit(&format!("c['root']['path'] = '{}'; c['mounts'].pop()", copy.path()));
    namespaces_are(&b, &format!("[dict(type='network', path='/proc/{holder}/ns/net')]"));
    b.edit(MAPPED);
    b.edit("c['mounts'] = [m for m in c['mounts'] if m['type'] != 'sysfs']");
    b.command("readlink /proc/self/ns/net; id -u");
    let network = b.sh(&format!("readlink /proc/{holder}/ns/net")).ok();
    assert_eq!(b.run(), format!("{network}\n0"));
    b.sh(&format!("kill {holder}")).ok();
}

/// config-linux.md, "Cgroup ownership": "Runtimes SHOULD change the cgroup ownership if and only if
/// the cgroup filesystem is to be mounted read/write … the host uid that maps to the value of
/// process.user.uid".
#[test]
fn owner_of_the_cgroup() {
    oci!(host, b);
    let copy = rootfs_of(100_000);
    b.edit(&format!("c['root']['path'] = '{}'", copy.path()));
    b.edit(MAPPED);
    let owner = |file: &str| {
        start_one(&b);
        let dir = b.sh("$OCI state one | sed -n 's/.*\"cgroup\": \"\\(.*\\)\".*/\\1/p'").ok();
        let owner = b.sh(&format!("stat -c %u {dir}/{file}")).ok();
        let made = b.sh("$OCI exec one mkdir /sys/fs/cgroup/below").code == 0;
        b.sh(&format!("rmdir {dir}/below 2>/dev/null; $OCI delete --force one")).ok();
        (owner, made)
    };
    assert_eq!(owner("cgroup.procs"), ("0".into(), false), "mounted read-only");
    b.edit("[m['options'].remove('ro') for m in c['mounts'] if m['type'] == 'cgroup']");
    assert_eq!(owner("cgroup.procs"), ("100000".into(), true));
    assert_eq!(owner("."), ("100000".into(), true));
    assert_eq!(owner("cgroup.max.depth").0, "0");
}
