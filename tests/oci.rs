//! The appendix, husk-oci: the lifecycle and its errors, what config.json asks for, and real
//! engines. `make test-oci` runs it.
#![cfg(feature = "oci")]

mod bundle;
mod common;
use bundle::oci;
use common::*;
use std::fs;
use std::path::PathBuf;

#[test]
fn lifecycle() {
    oci!(host, b);
    b.command("trap 'exit 5' TERM; while :; do sleep 0.1; done");
    b.sh("$OCI create --bundle $B --pid-file $B/pid one </dev/null >/dev/null 2>&1").ok();
    let status = |wanted: &str| {
        assert!(b.sh("$OCI state one").ok().contains(&format!("\"status\": \"{wanted}\"")));
    };
    status("created");
    let pid = fs::read_to_string(b.dir.join("pid")).expect("pid file");
    assert!(b.sh("$OCI state one").ok().contains(&format!("\"pid\": {pid}")));
    b.refuses("$OCI create --bundle $B one", &["already exists"]);
    b.sh("$OCI start one").ok();
    status("running");
    b.refuses("$OCI start one", &["cannot start", "running"]);
    b.refuses("$OCI delete one", &["not stopped: running"]);
    assert_eq!(b.sh("$OCI list -q").ok(), "one");
    assert!(b.sh("$OCI ps --format json one").ok().contains(&pid));
    b.sh("$OCI pause one").ok();
    status("paused");
    b.refuses("$OCI exec one true", &["paused"]);
    b.sh("$OCI resume one").ok();
    status("running");
    assert_eq!(b.sh("$OCI exec -e A=b --cwd /tmp one sh -c 'echo $A; pwd'").ok(), "b\n/tmp");
    assert_eq!(b.sh("$OCI exec one sh -c 'exit 9'").code, 9);
    assert_eq!(b.sh("$OCI exec -e TERM=c one env | grep ^TERM").ok(), "TERM=c");
    b.refuses("$OCI exec --pid-file /nonexistent/pid one true", &["/nonexistent/pid"]);
    b.sh("$OCI kill one KILL").ok();
    until("the container's end", || b.sh("$OCI state one").ok().contains("stopped"));
    b.refuses("$OCI kill one 9", &["container not running"]);
    b.refuses("$OCI start one", &["stopped"]);
    b.sh("$OCI delete one").ok();
    b.refuses("$OCI state one", &["does not exist"]);
    b.sh("$OCI delete --force one").ok();
    // Whoever has not begun yet is ended.
    b.sh("$OCI create --bundle $B one </dev/null >/dev/null 2>&1; $OCI delete one").ok();
    b.refuses("$OCI state one", &["does not exist"]);
}

#[test]
fn bad_configurations() {
    oci!(host, b);
    let good = fs::read(b.dir.join("config.json")).expect("config.json");
    let again = || fs::write(b.dir.join("config.json"), &good).expect("write");
    let cases = [
        ("c['process']['args'] = []", "args"),
        ("c['process']['cwd'] = 'relative'", "cwd"),
        ("c['process']['terminal'] = 'yes'", "process.terminal"),
        ("c['root']['path'] = '/nonexistent'", "root.path"),
        ("c['ociVersion'] = '2.0.0'", "ociVersion"),
        ("c['linux']['namespaces'].append({'type': 'user', 'path': '/x'})", "namespaces"),
        ("c['linux']['sysctl'] = {'kernel.panic': '1'}", "sysctl"),
        ("c['linux']['rootfsPropagation'] = 'often'", "rootfsPropagation"),
        ("c['linux']['intelRdt'] = {'closID': 'x'}", "intelRdt"),
        ("c['linux']['resources'] = {'unified': {'nosuch.max': '1'}}", "nosuch.max"),
        ("c['process']['args'] = ['nosuch']", "executable file not found"),
        ("c['process']['args'] = ['/etc']", "permission denied"),
    ];
    for (change, word) in cases {
        b.edit(change);
        b.refuses("$OCI --log $B/log --log-format json create --bundle $B one </dev/null", &[word]);
        let log = fs::read_to_string(b.dir.join("log")).expect("the log");
        assert!(
            log.lines().last().is_some_and(|line| line.contains("\"level\":\"error\"")),
            "{log}"
        );
        assert_eq!(b.sh("$OCI list -q").ok(), "", "{change}");
        again();
    }
    fs::write(b.dir.join("config.json"), "{").expect("write");
    b.refuses("$OCI run --bundle $B one", &["config.json"]);
    fs::remove_file(b.dir.join("config.json")).expect("rm");
    b.refuses("$OCI run --bundle $B one", &["config.json"]);
    b.refuses("$OCI run ../one", &["invalid container ID"]);
}

#[test]
fn process() {
    oci!(host, b);
    b.edit("c['process']['user'] = dict(uid=7, gid=8, additionalGids=[9], umask=0o27)");
    b.edit("c['process']['rlimits'] = [dict(type='RLIMIT_NOFILE', hard=77, soft=66)]");
    b.edit("c['process']['noNewPrivileges'] = True; c['process']['oomScoreAdj'] = 500");
    b.edit("c['hostname'] = 'oak'; c['domainname'] = 'wood'; c['process']['cwd'] = '/root'");
    b.command(
        "id -u; id -G; umask; ulimit -Sn; ulimit -Hn; hostname; cat /proc/self/oom_score_adj",
    );
    assert_eq!(b.run(), "7\n8 9\n0027\n66\n77\noak\n500");
    b.command("cat /proc/sys/kernel/domainname; grep -h NoNewPrivs /proc/self/status; echo $HOME");
    assert_eq!(b.run(), "wood\nNoNewPrivs:\t1\n/");
    let sets = "bounding effective permitted inheritable ambient";
    b.edit(&format!(
        "c['process']['capabilities'] = {{s: ['CAP_KILL', 'CAP_NEW'] for s in '{sets}'.split()}}"
    ));
    b.command("grep -h ^Cap /proc/self/status | cut -f2 | sort -u");
    assert_eq!(b.run(), "0000000000000020");
    // `kill 0` is for the container's process group, not for its caller's.
    b.command("kill -9 0; echo here");
    let run = b.sh("(until [ -e $B/end ]; do sleep 0.1; done; echo survivor) & \
         $OCI run --bundle $B one; touch $B/end; wait");
    assert_eq!(run.ok(), "here\nsurvivor");
}

#[test]
fn files() {
    oci!(host, b);
    fs::write(b.dir.join("note"), "from the host\n").expect("write");
    b.edit("c['mounts'].append(dict(destination='/tmp/n', type='bind', source='note', options=['bind', 'ro']))");
    b.edit("c['linux']['maskedPaths'].append('/proc/uptime')");
    b.edit("c['linux']['devices'] = [dict(path='/dev/nosuch', type='c', major=240, minor=99)]");
    b.edit("c['root']['readonly'] = False");
    b.command("cat /tmp/n; cat /proc/uptime; (echo > /proc/sysrq-trigger) 2>/dev/null || echo ro");
    // The mount's target is made in the root file system, so that is a copy.
    let copy = fresh_rootfs();
    b.edit(&format!("c['root']['path'] = '{}'", copy.path()));
    assert_eq!(b.run(), "from the host\nro");
    b.command("cat /dev/nosuch 2>&1; chmod 777 /dev/null 2>&1; echo x > /dev/null && echo works");
    let out = b.run();
    assert!(out.contains("ermission denied") && out.contains("Read-only"), "{out}");
    assert!(out.ends_with("works"), "{out}");
    // Neither a symlink nor `..` leads a mount out.
    for trap in ["/etc", "../../../../../../../../../etc"] {
        b.sh(&format!("rm -rf {0}/trap; ln -s {trap} {0}/trap", copy.path())).ok();
        b.edit("c['mounts'][-1]['destination'] = '/trap/n'");
        b.command("cat /etc/n");
        assert_eq!(b.run(), "from the host");
        assert!(!PathBuf::from("/etc/n").exists());
    }
}

/// config-linux.md, "Devices": "fileMode … uid … gid", and "If a file already exists at path that
/// does not match the requested device, the runtime MUST generate an error".
#[test]
fn nodes_of_its_own() {
    oci!(host, b);
    if !fs::exists("/dev/fuse").expect("/dev") {
        skip!(host, "no /dev/fuse");
    }
    let copy = fresh_rootfs();
    b.edit(&format!("c['root'] = dict(path='{}', readonly=False)", copy.path()));
    b.edit(
        "c['linux']['devices'] = [dict(path='/opt/dev/fuse', type='c', major=10, minor=229, \
         fileMode=0o640, uid=7, gid=8), dict(path='/dev/pipe', type='p', fileMode=0o600)]",
    );
    b.edit(
        "c['linux']['resources'] = {'devices': [{'allow': False, 'access': 'rwm'}, \
         {'allow': True, 'type': 'c', 'major': 10, 'minor': 229, 'access': 'r'}]}",
    );
    b.edit("c['process']['user'] = dict(uid=7, gid=8)");
    let before = b.sh("stat -c '%a %u %g' /dev/fuse").ok();
    b.command(
        "stat -c '%a %u %g %t:%T' /opt/dev/fuse; stat -c '%a %F' /dev/pipe; \
         (: < /opt/dev/fuse) && echo open; (: > /opt/dev/fuse) || echo closed",
    );
    let run = b.sh("$OCI run --bundle $B one 2>&1").ok();
    assert!(run.starts_with("640 7 8 a:e5\n600 fifo\nopen\n"), "{run}");
    assert!(run.contains("ot permitted") && run.ends_with("closed"), "{run}");
    assert_eq!(b.sh("stat -c '%a %u %g' /dev/fuse").ok(), before);
    b.sh(&format!("rm {0}/opt/dev/fuse; echo text > {0}/opt/dev/fuse", copy.path())).ok();
    b.refuses("$OCI run --bundle $B one", &["/opt/dev/fuse", "another file"]);
}

#[test]
fn runc_bundles() {
    oci!(host, b);
    if !have("runc") {
        skip!(host, "no runc");
    }
    b.sh("cd $B && rm config.json && runc spec").ok();
    b.edit("c['process']['terminal'] = False; c['root']['path'] = os.environ['R']");
    b.command("echo hello; exit 7");
    let done = b.sh("$OCI run --bundle $B one");
    assert!(done.code == 7 && done.out == "hello\n", "{done}");
}

#[test]
fn what_start_reports() {
    oci!(host, b);
    let copy = fresh_rootfs();
    b.edit(&format!("c['root']['path'] = '{}'", copy.path()));
    fs::write(format!("{}/empty", copy.path()), "").expect("write");
    b.sh(&format!("chmod 755 {}/empty", copy.path())).ok();
    b.edit("c['process']['args'] = ['/empty']");
    b.sh("$OCI create --bundle $B one </dev/null >/dev/null 2>&1").ok();
    b.refuses("$OCI start one", &["exec /empty", "ENOEXEC"]);
    b.sh("$OCI delete --force one").ok();
    // The program itself would be the host's own file in there, which the container could change.
    b.edit("c['process']['args'] = ['/proc/self/exe', '--version']");
    if !cfg!(target_feature = "crt-static") {
        skip!(host, "a husk that needs libraries can't run in there anyway");
    }
    // Its output goes nowhere, so that it has not ended before run looks. (In the foreground it
    // would go to husk.)
    let full = "mkfifo $B/full; exec 3<>$B/full; \
        dd if=/dev/zero of=$B/full oflag=nonblock bs=4096 2>/dev/null";
    let run = b.sh(&format!("{full}; $OCI run --detach --bundle $B one >&3"));
    assert!(run.code == 1 && run.err.contains("is husk itself"), "{run}");
}

#[test]
fn deletes_by_pattern() {
    oci!(host, b);
    b.command("true");
    for id in ["web-1", "web-2", "db-1"] {
        b.sh(&format!("$OCI run --detach --bundle $B {id} </dev/null >/dev/null 2>&1")).ok();
    }
    until("their end", || !b.sh("$OCI list").ok().contains("running"));
    b.refuses("$OCI delete --regex 'web-('", &["--regex"]);
    b.sh("$OCI delete --regex '^none'").ok();
    b.sh("$OCI delete --regex '^web-[0-9]+$'").ok();
    assert_eq!(b.sh("$OCI list -q").ok(), "db-1");
    b.command("sleep 1000");
    b.sh("$OCI run --detach --bundle $B web-3 </dev/null >/dev/null 2>&1").ok();
    b.refuses("$OCI delete --regex .", &["web-3", "not stopped"]);
    assert_eq!(b.sh("$OCI list -q").ok(), "web-3");
    b.sh("$OCI delete --force --regex web").ok();
    assert_eq!(b.sh("$OCI list -q").ok(), "");
}

#[test]
fn devices_by_another_name() {
    oci!(host, b);
    b.edit("c['linux']['devices'] = [dict(path='/dev/nought', type='c', major=1, minor=5)]");
    b.command("head -c 3 /dev/nought | wc -c; chmod 777 /dev/nought 2>/dev/null || echo ro");
    assert_eq!(b.run(), "3\nro");
}

#[test]
fn podman() {
    oci!(host, b);
    if !have("podman") {
        skip!(host, "no podman");
    }
    let podman = "P='podman --root '$B'/pod --runroot '$B'/run --storage-driver vfs'; \
        RUN=\"$P --runtime ${OCI%% *} run --network none --ulimit nofile=99:99 --ulimit nproc=99:99\"";
    b.sh(&format!("{podman}; tar -C $R -c . | $P import - box >/dev/null 2>&1")).ok();
    let run = |script: &str| b.sh(&format!("{podman}; {script}"));
    assert_eq!(run("$RUN --rm box echo hello").ok(), "hello");
    assert_eq!(run("$RUN --rm box sh -c 'exit 9'").code, 9);
    assert_eq!(run("$RUN --rm box nosuch").code, 127);
    assert_eq!(run("$RUN --rm box /etc").code, 126);
    run("$RUN -d --name one box sh -c \
        'trap \"echo bye; exit 3\" TERM; echo up; while :; do sleep 0.1; done' >/dev/null")
    .ok();
    until("the container's first word", || run("$P logs one").out.contains("up"));
    assert_eq!(run("$P exec one sh -c 'echo $((6*7))'").ok(), "42");
    assert_eq!(run("$P exec -t one tty").out.trim(), "/dev/pts/0");
    run("$P stop one >/dev/null").ok();
    assert_eq!(run("$P logs one").ok(), "up\nbye");
    run("$P rm -f one >/dev/null; rm -rf $B/pod $B/run").ok();
}
