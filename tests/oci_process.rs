//! The appendix: what config.json asks for is applied, or refused by name: "If the runtime cannot
//! apply a property … it MUST generate an error" (runtime-spec 1.3, runtime.md, "Errors").
#![cfg(feature = "oci")]

mod bundle;
mod common;
use bundle::oci;
use common::*;
use std::fs;

/// config.md, "Linux Process": scheduler, "based on sched_setattr(2)".
#[test]
fn scheduler() {
    oci!(host, b);
    let set = |text: &str| b.edit(&format!("c['process']['scheduler'] = dict({text})"));
    // proc_pid_stat(5): nice value, real-time priority, policy.
    b.command("cut -d' ' -f19,40,41 /proc/1/stat");
    let cases = [
        ("policy='SCHED_OTHER', nice=7", "7 0 0"),
        ("policy='SCHED_BATCH', nice=3", "3 0 3"),
        ("policy='SCHED_IDLE'", "0 0 5"),
        ("policy='SCHED_FIFO', priority=9", "0 9 1"),
        ("policy='SCHED_RR', priority=5", "0 5 2"),
    ];
    for (text, expected) in cases {
        set(text);
        assert_eq!(b.run(), expected, "{text}");
    }
    // What the shell starts has the default again, the shell itself has not.
    set("policy='SCHED_FIFO', priority=9, flags=['SCHED_FLAG_RESET_ON_FORK']");
    b.command("cut -d' ' -f19,40,41 /proc/1/stat /proc/self/stat; true");
    assert_eq!(b.run(), "0 9 1\n0 0 0");
    for (text, word) in [
        ("policy='SCHED_ISO'", "SCHED_ISO"),
        ("policy='SCHED_NEW'", "SCHED_NEW"),
        ("policy='SCHED_OTHER', flags=['SCHED_FLAG_NEW']", "SCHED_FLAG_NEW"),
        ("policy='SCHED_FIFO', priority=-1", "priority"),
        ("policy='SCHED_FIFO', priority=100", "EINVAL"),
    ] {
        set(text);
        b.refuses("$OCI run --bundle $B one", &["process.scheduler", word]);
    }
}

/// config.md: ioPriority, by class and level; config-linux.md: personality.
#[test]
fn io_priority_and_personality() {
    oci!(host, b);
    b.command("ionice -p 1; uname -m");
    let set = |text: &str| b.edit(&format!("c['process']['ioPriority'] = dict({text})"));
    for (text, expected) in [
        ("'class': 'IOPRIO_CLASS_BE', 'priority': 6", "best-effort: prio 6"),
        ("'class': 'IOPRIO_CLASS_RT', 'priority': 2", "realtime: prio 2"),
        ("'class': 'IOPRIO_CLASS_IDLE', 'priority': 0", "idle"),
    ] {
        set(&format!("**{{{text}}}"));
        let seen = b.run();
        assert!(seen.starts_with(expected), "{text}: {seen}");
    }
    set("**{'class': 'IOPRIO_CLASS_BE', 'priority': 8}");
    b.refuses("$OCI run --bundle $B one", &["process.ioPriority", "8", "0 to 7"]);
    set("**{'class': 'IOPRIO_CLASS_NEW', 'priority': 1}");
    b.refuses("$OCI run --bundle $B one", &["ioPriority", "IOPRIO_CLASS_NEW"]);
    b.edit("del c['process']['ioPriority']; c['linux']['personality'] = dict(domain='LINUX32')");
    b.command("uname -m");
    let expected = if cfg!(target_arch = "x86_64") { "i686" } else { "armv8l" };
    assert_eq!(b.run(), expected);
    b.edit("c['linux']['personality'] = dict(domain='LINUX')");
    assert_eq!(b.run(), std::env::consts::ARCH);
    // "Currently no flag values are supported."
    b.edit("c['linux']['personality'] = dict(domain='LINUX', flags=['ADDR_NO_RANDOMIZE'])");
    b.refuses("$OCI run --bundle $B one", &["linux.personality.flags", "ADDR_NO_RANDOMIZE"]);
    b.edit("c['linux']['personality'] = dict(domain='BSD')");
    b.refuses("$OCI run --bundle $B one", &["personality", "BSD"]);
}

/// config-linux.md: "memoryPolicy: the NUMA memory policy", set_mempolicy(2).
#[test]
fn memory_policy() {
    oci!(host, b);
    if !fs::exists("/proc/self/numa_maps").expect("numa_maps") {
        skip!(host, "a kernel without NUMA");
    }
    let set = |text: &str| b.edit(&format!("c['linux']['memoryPolicy'] = dict({text})"));
    b.command("grep -o -m 1 -e 'bind[^ ]*' -e 'interleave[^ ]*' -e 'prefer[^ ]*' -e local /proc/self/numa_maps");
    for (text, expected) in [
        ("mode='MPOL_BIND', nodes='0'", "bind:0"),
        ("mode='MPOL_BIND', nodes='0', flags=['MPOL_F_STATIC_NODES']", "bind=static:0"),
        ("mode='MPOL_BIND', nodes='0', flags=['MPOL_F_RELATIVE_NODES']", "bind=relative:0"),
        ("mode='MPOL_INTERLEAVE', nodes='0-0'", "interleave:0"),
        ("mode='MPOL_PREFERRED', nodes='0'", "prefer:0"),
        ("mode='MPOL_LOCAL'", "local"),
    ] {
        set(text);
        assert_eq!(b.run(), expected, "{text}");
    }
    b.command("echo started");
    set("mode='MPOL_DEFAULT'");
    assert_eq!(b.run(), "started");
    for (text, word) in [
        ("mode='MPOL_BIND', nodes='x'", "nodes"),
        ("mode='MPOL_BIND', nodes='3-1'", "nodes"),
        ("mode='MPOL_BIND', nodes='4000'", "EINVAL"),
        ("mode='MPOL_NEW'", "MPOL_NEW"),
    ] {
        set(text);
        b.refuses("$OCI run --bundle $B one", &["memoryPolicy", word]);
    }
}

/// config.md: "initial … before the transition to container's cgroup"; "final … after"; neither is
/// for the container's first process.
#[test]
fn cpus_of_exec() {
    oci!(host, b);
    let count: usize = b.sh("nproc").ok().parse().expect("a number");
    if count < 2 {
        skip!(host, "one CPU only");
    }
    let set = |text: &str| b.edit(&format!("c['process']['execCPUAffinity'] = {{{text}}}"));
    b.command("grep ^Cpus_allowed_list /proc/self/status > /tmp/first; sleep 1000");
    b.edit("c['mounts'].append(dict(destination='/tmp', type='tmpfs'))");
    let seen = || {
        b.sh("$OCI run --detach --bundle $B one </dev/null >/dev/null 2>&1").ok();
        until("the first process", || b.sh("$OCI exec one test -s /tmp/first").code == 0);
        let list = "cat /tmp/first; grep ^Cpus_allowed_list /proc/self/status";
        let lists = b.sh(&format!("$OCI exec one sh -c '{list}'")).ok();
        b.sh("$OCI delete --force one").ok();
        let lists: Vec<String> =
            lists.lines().map(|line| line.split('\t').nth(1).unwrap_or("").into()).collect();
        (lists[0].clone(), lists[1].clone())
    };
    set("'initial': '0', 'final': '1'");
    let (first, later) = seen();
    assert_ne!(first, "0");
    assert_eq!(later, "1");
    set("'initial': '0'");
    assert_eq!(seen().1, "0");
    set("'final': '0-1'");
    assert_eq!(seen().1, "0-1");
    set("'initial': '0..3'");
    b.refuses("$OCI run --bundle $B one", &["execCPUAffinity"]);
}

/// config.md: "The runtime MUST generate an error for any values which cannot be mapped to a
/// relevant kernel interface"; "If rlimits contains duplicated entries … MUST generate an error".
#[test]
fn rlimits() {
    oci!(host, b);
    let set = |text: &str| b.edit(&format!("c['process']['rlimits'] = [{text}]"));
    let all = [
        ("CPU", "cpu time"),
        ("FSIZE", "file size"),
        ("DATA", "data size"),
        ("STACK", "stack size"),
        ("CORE", "core file size"),
        ("RSS", "resident set"),
        ("NPROC", "processes"),
        ("NOFILE", "open files"),
        ("MEMLOCK", "locked memory"),
        ("AS", "address space"),
        ("LOCKS", "file locks"),
        ("SIGPENDING", "pending signals"),
        ("MSGQUEUE", "msgqueue size"),
        ("NICE", "nice priority"),
        ("RTPRIO", "realtime priority"),
        ("RTTIME", "realtime timeout"),
    ];
    let now = b.sh("cat /proc/self/limits").ok();
    for (name, title) in all {
        let line = |text: &str| {
            let line = text.lines().find(|line| line.to_lowercase().contains(title));
            line.unwrap_or_else(|| panic!("{title}: {text}")).to_string()
        };
        // No more than there is: to raise one takes a capability that may be missing.
        let hard = line(&now)[26..].split_whitespace().nth(1).unwrap_or("0").to_string();
        let most: u64 = hard.parse().unwrap_or(u64::MAX);
        let (soft, hard) = (most.min(8 << 20), most.min(9 << 20));
        set(&format!("dict(type='RLIMIT_{name}', soft={soft}, hard={hard})"));
        b.command("cat /proc/self/limits");
        let words = line(&b.run())[26..].to_string();
        let words: Vec<&str> = words.split_whitespace().collect();
        assert_eq!(words[..2], [soft.to_string(), hard.to_string()], "{name}");
    }
    set("dict(type='RLIMIT_NEW', soft=1, hard=1)");
    b.refuses("$OCI run --bundle $B one", &["process.rlimits", "RLIMIT_NEW"]);
    set("dict(type='RLIMIT_CORE', soft=1, hard=1), dict(type='RLIMIT_CORE', soft=2, hard=2)");
    b.refuses("$OCI run --bundle $B one", &["process.rlimits", "RLIMIT_CORE", "twice"]);
    set("dict(type='RLIMIT_CORE', soft=2, hard=1)");
    b.refuses("$OCI run --bundle $B one", &["process.rlimits", "RLIMIT_CORE", "EINVAL"]);
}

/// config-linux.md, "Sysctl"; config.md: hostname and domainname "in the container UTS namespace".
#[test]
fn sysctls_and_names() {
    oci!(host, b);
    b.edit("c['hostname'] = 'oak'; c['domainname'] = 'wood'");
    b.edit(
        "c['linux']['sysctl'] = {'kernel.shm_rmid_forced': '1', 'fs.mqueue.msg_max': '5', \
         'net.ipv4.ip_forward': '1', 'net/ipv4/conf/lo/forwarding': '0'}",
    );
    b.command(
        "hostname; cd /proc/sys; cat kernel/domainname kernel/shm_rmid_forced fs/mqueue/msg_max \
         net/ipv4/ip_forward net/ipv4/conf/lo/forwarding",
    );
    assert_eq!(b.run(), "oak\nwood\n1\n5\n1\n0");
    for key in ["vm.swappiness", "kernel.panic", "net/../kernel/panic", "kernel.hostname"] {
        b.edit(&format!("c['linux']['sysctl'] = {{'{key}': '1'}}"));
        b.refuses("$OCI run --bundle $B one", &[key, "namespace"]);
    }
    let remove = "c['linux']['sysctl'] = {}; \
        c['linux']['namespaces'] = [n for n in c['linux']['namespaces'] if n['type'] != 'uts']";
    b.edit(remove);
    b.refuses("$OCI run --bundle $B one", &["hostname", "uts namespace"]);
    b.edit("c['hostname'] = ''");
    b.refuses("$OCI run --bundle $B one", &["domainname", "uts namespace"]);
}

/// config-linux.md, "Unified": "If the conversion is not possible the runtime MUST generate an
/// error"; and limits that are wrong on every host.
#[test]
fn resources_that_are_refused() {
    oci!(host, b);
    let cases = [
        ("memory={'kernel': 1000000}", "memory.kernel"),
        ("memory={'kernelTCP': 1000000}", "memory.kernel"),
        ("memory={'swappiness': 10}", "memory.swappiness"),
        ("memory={'disableOOMKiller': True}", "memory.disableOOMKiller"),
        ("memory={'swap': 1000000}", "memory.swap"),
        ("memory={'swap': 1000000, 'limit': 2000000}", "memory.swap"),
        ("cpu={'realtimeRuntime': 1000}", "cpu.realtimeRuntime"),
        ("cpu={'realtimePeriod': 1000}", "cpu.realtimeRuntime"),
        ("cpu={'period': 5}", "cpu.period"),
        ("cpu={'period': 2000000}", "cpu.period"),
        ("cpu={'quota': 5}", "cpu.quota"),
        ("cpu={'quota': 2000, 'burst': 3000}", "cpu.burst"),
        ("cpu={'idle': 2}", "cpu.idle"),
        ("network={'classID': 5}", "network"),
        ("network={'priorities': [{'name': 'lo', 'priority': 5}]}", "network"),
        ("blockIO={'leafWeight': 100}", "blockIO.leafWeight"),
        (
            "blockIO={'weightDevice': [{'major': 8, 'minor': 0, 'leafWeight': 100}]}",
            "blockIO.weightDevice.leafWeight",
        ),
        ("hugepageLimits=[{'pageSize': '2/MB', 'limit': 0}]", "hugepageLimits"),
        ("hugepageLimits=[{'pageSize': '3MB', 'limit': 0}]", "hugetlb.3MB.max"),
        ("rdma={'mlx5_1': {}}", "rdma"),
        ("unified={'cgroup.procs': '1'}", "unified.cgroup.procs"),
        ("unified={'../memory.max': '1'}", "unified.../memory.max"),
        ("unified={'nosuch.max': '1'}", "nosuch.max"),
    ];
    for (text, word) in cases {
        b.edit(&format!("c['linux']['resources'] = dict({text})"));
        b.refuses("$OCI run --bundle $B one", &["linux.resources", word]);
    }
    b.edit("c['linux']['resources'] = {}; c['linux']['mountLabel'] = 'system_u:object_r:x_t:s0'");
    b.edit("c['linux']['mountLabel'] = 'system_u:object_r:x_t:s0'");
    if !fs::exists("/sys/fs/selinux/enforce").expect("selinux") {
        b.refuses("$OCI run --bundle $B one", &["linux.mountLabel", "SELinux"]);
    }
}

/// config-linux.md: "hugepageLimits … limit in bytes"; "unified: each key in the map refers to a
/// file in the cgroup unified hierarchy"; and with a kernel that has them, all the others.
#[test]
fn resources_that_are_applied() {
    oci!(host, b);
    b.command("sleep 1000");
    let file = |name: &str| {
        let run = "$OCI run --detach --bundle $B one </dev/null >/dev/null 2>$B/err";
        b.sh(&format!("{run} || {{ cat $B/err >&2; exit 1; }}")).ok();
        let cgroup = b.sh("$OCI state one | sed -n 's/.*\"cgroup\": \"\\(.*\\)\".*/\\1/p'").ok();
        let text = b.sh(&format!("cat {cgroup}/{name}")).ok();
        b.sh("$OCI delete --force one").ok();
        text
    };
    let cases = [
        (
            "hugetlb",
            "hugepageLimits=[{'pageSize': '2MB', 'limit': 4194304}]",
            "hugetlb.2MB.max",
            "4194304",
        ),
        (
            "hugetlb",
            "hugepageLimits=[{'pageSize': '2MB', 'limit': 4194304}]",
            "hugetlb.2MB.rsvd.max",
            "4194304",
        ),
        ("hugetlb", "unified={'hugetlb.2MB.max': '2097152'}", "hugetlb.2MB.max", "2097152"),
        ("", "unified={'cgroup.max.descendants': '7'}", "cgroup.max.descendants", "7"),
        ("memory", "memory={'limit': 67108864}", "memory.max", "67108864"),
        ("memory", "memory={'limit': 67108864, 'swap': 100663296}", "memory.swap.max", "33554432"),
        ("memory", "memory={'limit': 67108864, 'swap': -1}", "memory.swap.max", "max"),
        ("memory", "memory={'reservation': 33554432}", "memory.low", "33554432"),
        ("pids", "pids={'limit': 77}", "pids.max", "77"),
        ("pids", "pids={'limit': -1}", "pids.max", "max"),
        ("cpu", "cpu={'quota': 50000, 'period': 200000}", "cpu.max", "50000 200000"),
        ("cpu", "cpu={'period': 200000}", "cpu.max", "max 200000"),
        ("cpu", "cpu={'quota': 50000}", "cpu.max", "50000 100000"),
        ("cpu", "cpu={'quota': 50000, 'burst': 20000}", "cpu.max.burst", "20000"),
        ("cpu", "cpu={'idle': 1}", "cpu.idle", "1"),
        ("cpuset", "cpu={'cpus': '0', 'mems': '0'}", "cpuset.cpus", "0"),
    ];
    for (controller, text, name, expected) in cases {
        if !controller.is_empty() && !host.has_controller(controller) {
            host.skip_part(&format!("no {controller} controller: {text}"));
            continue;
        }
        b.edit(&format!("c['linux']['resources'] = dict({text})"));
        assert_eq!(file(name), expected, "{text}");
    }
    let device = b.sh("cat /sys/block/vda/dev 2>/dev/null || true").ok();
    if !host.has_controller("io") || device.is_empty() {
        host.skip_part("no io controller, or no disk of that name: blockIO");
        return;
    }
    let (major, minor) = device.split_once(':').expect("two numbers");
    let number = format!("'major': {major}, 'minor': {minor}");
    b.edit(&format!(
        "c['linux']['resources'] = dict(blockIO={{'throttleReadBpsDevice': [{{{number}, \
         'rate': 600}}], 'throttleWriteIOPSDevice': [{{{number}, 'rate': 300}}]}})"
    ));
    assert_eq!(file("io.max"), format!("{device} rbps=600 wbps=max riops=max wiops=300"));
}

/// runtime.md, "Create" and "Start": an error is told. A child that was killed before it was the
/// program is one, and no end of the program's.
#[test]
fn child_killed_before_exec() {
    oci!(host, b);
    b.command("true");
    for call in ["sethostname", "pivot_root", "capset"] {
        let inject = format!("-e trace={call} -e inject={call}:signal=KILL");
        let strace = format!("strace -f -qq -o /dev/null {inject}");
        b.refuses(&format!("{strace} $OCI run --bundle $B one"), &["killed in its start"]);
    }
    assert_eq!(b.sh("$OCI list -q").ok(), "");
}
