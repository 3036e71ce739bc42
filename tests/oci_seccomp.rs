//! The appendix: linux.seccomp, as runtime-spec 1.3 has it in config-linux.md, "Seccomp".
#![cfg(feature = "oci")]

mod bundle;
mod common;
use bundle::{Bundle, oci};
use common::*;
use std::fs;

#[test]
fn seccomp_profile() {
    oci!(host, b);
    b.edit(
        "c['linux']['seccomp'] = dict(defaultAction='SCMP_ACT_ALLOW', syscalls=[\
         dict(names=['mkdir', 'mkdirat', 'nosuchcall', 'close_range'], \
         action='SCMP_ACT_ERRNO', errnoRet=28), \
         dict(names=['kill'], action='SCMP_ACT_ERRNO', errnoRet=95, \
         args=[dict(index=1, value=n, op='SCMP_CMP_EQ') for n in (12, 10)])])",
    );
    b.command("mkdir /tmp/x 2>&1; kill -12 1 2>&1; kill -0 1 && ls /proc/self/fd/9 || echo fine");
    let out = b.sh("$OCI run --bundle $B one 9</ 2>&1").ok();
    assert!(out.contains("No space left") && out.contains("not supported"), "{out}");
    assert!(out.ends_with("fine"), "{out}");
}

/// `call NUMBER [ARG]...` makes a system call and prints what it returns; `call i386 ...` by the
/// other ABI of x86.
const CALL: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int other = argc > 1 && !strcmp(argv[1], "i386");
    unsigned long a[7] = {0};
    for (int i = 1 + other; i < argc && i < 8 + other; i++)
        a[i - 1 - other] = strtoul(argv[i], 0, 0);
    long result;
#ifdef __x86_64__
    if (other) {
        int low;
        asm volatile("int $0x80" : "=a"(low) : "a"((int)a[0]), "b"(a[1]), "c"(a[2]) : "memory");
        printf("%d\n", low);
        return 0;
    }
#endif
    result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    printf("%ld\n", result < 0 ? -errno : result);
    return 0;
}
"#;

/// Puts that program into the container, and returns its root file system.
fn with_call(b: &Bundle) -> TempDir {
    let copy = fresh_rootfs();
    fs::write(b.dir.join("call.c"), CALL).expect("write");
    b.sh(&format!("cc -static -o {}/bin/call $B/call.c", copy.path())).ok();
    b.edit(&format!("c['root']['path'] = '{}'", copy.path()));
    copy
}

fn profile(b: &Bundle, text: &str) {
    b.edit(&format!("c['linux']['seccomp'] = dict({text})"));
}

/// "op: a valid list of constants": each of them, on both halves of 64 bits.
#[test]
fn comparisons() {
    oci!(host, b);
    let _copy = with_call(&b);
    let big = 0x5_0000_0003_u64;
    let values = [0, 2, 3, 4, 0x3_0000_0000, 0x5_0000_0002, big, 0x5_0000_0004, 0x6_0000_0000];
    type Holds = fn(u64) -> bool;
    const BIG: u64 = 0x5_0000_0003;
    let cases: [(&str, u64, Holds); 9] = [
        ("SCMP_CMP_NE", big, |it| it != BIG),
        ("SCMP_CMP_LT", big, |it| it < BIG),
        ("SCMP_CMP_LE", big, |it| it <= BIG),
        ("SCMP_CMP_EQ", big, |it| it == BIG),
        ("SCMP_CMP_GE", big, |it| it >= BIG),
        ("SCMP_CMP_GT", big, |it| it > BIG),
        ("SCMP_CMP_LT", 3, |it| it < 3),
        ("SCMP_CMP_GE", 3, |it| it >= 3),
        ("SCMP_CMP_EQ", 0, |it| it == 0),
    ];
    let number = libc::SYS_getppid;
    let calls: String = values.iter().map(|value| format!("call {number} 0 {value}; ")).collect();
    b.command(&calls);
    let seen = |op: &str| {
        profile(
            &b,
            &format!(
                "defaultAction='SCMP_ACT_ALLOW', syscalls=[dict(names=['getppid'], \
                 action='SCMP_ACT_ERRNO', errnoRet=77, args=[dict(index=1, {op})])]"
            ),
        );
        b.run().lines().map(|line| line == "-77").collect::<Vec<bool>>()
    };
    for (op, with, holds) in cases {
        let expected: Vec<bool> = values.iter().map(|value| holds(*value)).collect();
        assert_eq!(seen(&format!("op='{op}', value={with}")), expected, "{op} {with}");
    }
    // Masked: value is the mask, valueTwo what must be left.
    let expected: Vec<bool> = values.iter().map(|it| it & 0x4_0000_0002 == 0x4_0000_0002).collect();
    let masked = "op='SCMP_CMP_MASKED_EQ', value=0x400000002, valueTwo=0x400000002";
    assert_eq!(seen(masked), expected);
}

/// "action: a valid list of constants"; "errnoRet … If not specified its default value is EPERM".
#[test]
fn actions() {
    oci!(host, b);
    let _copy = with_call(&b);
    let number = libc::SYS_getppid;
    b.command(&format!("call {number}; exit $?"));
    let rule = |text: &str| {
        profile(
            &b,
            &format!(
                "defaultAction='SCMP_ACT_ALLOW', syscalls=[dict(names=['getppid'], action={text})]"
            ),
        );
        b.sh("$OCI run --bundle $B one")
    };
    for (text, code, out) in [
        ("'SCMP_ACT_ALLOW'", 0, "1\n"),
        ("'SCMP_ACT_LOG'", 0, "1\n"),
        ("'SCMP_ACT_ERRNO'", 0, "-1\n"),
        ("'SCMP_ACT_ERRNO', errnoRet=95", 0, "-95\n"),
        ("'SCMP_ACT_TRACE', errnoRet=5", 0, "-38\n"), // nobody traces it
        ("'SCMP_ACT_TRAP'", 159, ""),
        ("'SCMP_ACT_KILL'", 159, ""),
        ("'SCMP_ACT_KILL_THREAD'", 159, ""),
        ("'SCMP_ACT_KILL_PROCESS'", 159, ""),
    ] {
        let run = rule(text);
        assert!(run.code == code && run.out == out, "{text}: {run}");
    }
    // "When the action doesn't support an errno, the runtime MUST print an error and fail."
    for (text, word) in [
        ("'SCMP_ACT_KILL', errnoRet=5", "errno"),
        ("'SCMP_ACT_ALLOW', errnoRet=5", "errno"),
        ("'SCMP_ACT_NEW'", "SCMP_ACT_NEW"),
        ("'SCMP_ACT_ERRNO', errnoRet=5, args=[dict(index=6, value=0, op='SCMP_CMP_EQ')]", "six"),
        ("'SCMP_ACT_ERRNO', args=[dict(index=0, value=0, op='SCMP_CMP_NEW')]", "SCMP_CMP_NEW"),
        ("'SCMP_ACT_NOTIFY'", "listenerPath"),
    ] {
        let run = rule(text);
        assert!(run.code == 1 && run.err.contains(word), "{text}: {run}");
    }
    for (text, word) in [
        ("defaultAction='SCMP_ACT_KILL', defaultErrnoRet=5", "defaultErrnoRet"),
        ("defaultAction='SCMP_ACT_NOTIFY', listenerPath='/x'", "SCMP_ACT_NOTIFY"),
        ("defaultAction='SCMP_ACT_ALLOW', listenerMetadata='x'", "listenerMetadata"),
        ("defaultAction='SCMP_ACT_ALLOW', flags=['SECCOMP_FILTER_FLAG_NEW']", "FLAG_NEW"),
        ("defaultAction='SCMP_ACT_ALLOW', architectures=['SCMP_ARCH_NEW']", "SCMP_ARCH_NEW"),
        (
            "defaultAction='SCMP_ACT_ALLOW', syscalls=[dict(names=[], action='SCMP_ACT_LOG')]",
            "names",
        ),
    ] {
        profile(&b, text);
        b.refuses("$OCI run --bundle $B one", &["seccomp", word]);
    }
}

/// "architectures: the architecture used for system calls"; "flags: list of flags to use with
/// seccomp(2)".
#[test]
fn architectures_and_flags() {
    oci!(host, b);
    let _copy = with_call(&b);
    if !cfg!(target_arch = "x86_64") {
        skip!(host, "of x86 only");
    }
    // getppid is number 64 there, getpid number 20.
    b.command("call i386 64; call i386 20; call 110");
    let rules = "defaultAction='SCMP_ACT_ALLOW', syscalls=[dict(names=['getppid'], \
        action='SCMP_ACT_ERRNO', errnoRet=77)]";
    profile(&b, &format!("{rules}, architectures=['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86']"));
    let out = b.run();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0] == "-77" && lines[1].parse::<i32>().unwrap_or(0) > 0, "{out}");
    assert_eq!(lines[2], "-77");
    // Not among them: it has no calls.
    profile(&b, &format!("{rules}, architectures=['SCMP_ARCH_X86_64', 'SCMP_ARCH_ARM']"));
    assert_eq!(b.run(), "-38\n-38\n-77");
    b.command("grep Seccomp_filters /proc/self/status | cut -f2; cat /proc/self/status");
    for flag in ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"] {
        profile(&b, &format!("{rules}, flags=['SECCOMP_FILTER_FLAG_{flag}']"));
        let out = b.run();
        assert!(out.starts_with("1\n"), "{flag}: {out}");
        // The one flag that can be seen.
        let vulnerable = out.contains("Speculation_Store_Bypass:\tthread force mitigated")
            || out.contains("Speculation_Store_Bypass:\tthread mitigated");
        assert!(flag != "SPEC_ALLOW" || !vulnerable, "{out}");
    }
}

/// A profile need not allow what only the runtime has to do: neither with nor without new
/// privileges.
#[test]
fn loaded_at_last() {
    oci!(host, b);
    let _copy = with_call(&b);
    b.edit("c['process']['args'] = ['call', '39']; c['process']['user'] = dict(uid=7, gid=7)");
    b.edit("c['hooks'] = dict(startContainer=[dict(path='/bin/sh', args=['sh', '-c', 'ls / > /dev/null'])])");
    let all = "'execve', 'exit_group', 'getpid', 'write', 'writev', 'brk', 'arch_prctl', \
        'set_tid_address', 'set_robust_list', 'rseq', 'prlimit64', 'readlink', 'readlinkat', \
        'getrandom', 'mprotect', 'mmap', 'munmap', 'fstat', 'newfstatat', 'ioctl'";
    for (bound, more) in [("True", ""), ("False", ", 'capset', 'prctl'")] {
        b.edit(&format!("c['process']['noNewPrivileges'] = {bound}"));
        profile(
            &b,
            &format!(
                "defaultAction='SCMP_ACT_ERRNO', syscalls=[dict(names=[{all}{more}], \
                 action='SCMP_ACT_ALLOW')]"
            ),
        );
        assert_eq!(b.run(), "1", "noNewPrivileges: {bound}");
        b.sh("$OCI create --bundle $B one </dev/null >$B/out 2>&1; $OCI start one").ok();
        until("the end", || b.sh("$OCI state one").ok().contains("stopped"));
        assert_eq!(b.sh("cat $B/out; $OCI delete one").ok(), "1");
    }
}

/// "listenerPath … the runtime will send the container process state"; "exactly one … per
/// connection"; "seccompFd … is the seccomp file descriptor"; "listenerMetadata … will be sent as
/// the metadata field".
const AGENT: &str = r#"
import array, fcntl, json, os, socket, struct, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(sys.argv[1])
server.listen()
open(sys.argv[1] + '.ready', 'w')
for n in range(int(sys.argv[2])):
    peer, _ = server.accept()
    text, ancillary, _, _ = peer.recvmsg(1 << 16, socket.CMSG_SPACE(4 * 4))
    fds = array.array('i', ancillary[0][2])
    rest = peer.recv(1 << 16)  # to its end: the connection is closed
    state = json.loads(text)
    print(len(fds), len(rest), state['fds'], state['metadata'], state['state']['id'],
          state['state']['status'], os.path.exists('/proc/%d' % state['pid']), flush=True)
    notif = bytearray(80)
    fcntl.ioctl(fds[0], 0xc0502100, notif)
    id, pid = struct.unpack_from('QI', notif)
    fcntl.ioctl(fds[0], 0xc0182101, bytearray(struct.pack('QqiI', id, 4242, 0, 0)))
    os.close(fds[0])
    peer.close()
"#;

#[test]
fn notifications() {
    oci!(host, b);
    let _copy = with_call(&b);
    fs::write(b.dir.join("agent.py"), AGENT).expect("write");
    profile(
        &b,
        "defaultAction='SCMP_ACT_ALLOW', listenerPath=os.environ['B'] + '/agent', \
         listenerMetadata='some words', flags=['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV', \
         'SECCOMP_FILTER_FLAG_TSYNC'], syscalls=[dict(names=['sched_get_priority_max'], \
         action='SCMP_ACT_NOTIFY')]",
    );
    let number = libc::SYS_sched_get_priority_max; // a shell never makes this call
    let agent = |count: u32, script: &str| {
        let start = "rm -f $B/agent*ready $B/agent; python3 $B/agent.py $B/agent";
        b.sh(&format!(
            "{start} {count} > $B/seen & until [ -e $B/agent.ready ]; do sleep 0.1; done; \
             {script}; wait; cat $B/seen"
        ))
        .ok()
    };
    let line = |status: &str| format!("1 0 ['seccompFd'] some words one {status} True");
    for bound in ["True", "False"] {
        b.edit(&format!("c['process']['noNewPrivileges'] = {bound}"));
        b.command(&format!("call {number}"));
        let seen = agent(1, "$OCI run --bundle $B one");
        assert_eq!(seen, format!("4242\n{}", line("creating")), "{bound}");
        // By create, start and exec.
        b.command(&format!("call {number}; sleep 1000"));
        let seen = agent(
            2,
            &format!(
                "$OCI create --bundle $B one </dev/null >$B/out 2>&1; $OCI start one; \
                 until grep -q 4242 $B/out; do sleep 0.1; done; \
                 $OCI exec one call {number}; $OCI delete --force one"
            ),
        );
        assert_eq!(seen, format!("4242\n{}\n{}", line("creating"), line("running")), "{bound}");
    }
    // "If sending to this socket fails, the runtime MUST generate an error."
    b.sh("rm $B/agent").ok();
    b.refuses("$OCI run --bundle $B one", &["listenerPath"]);
}
