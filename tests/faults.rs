//! Whatever is killed, and whatever runs out: a clear error, and nothing left behind.

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, mkfifo};
use std::fmt::Debug;
use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// A number below `end`.
fn random(end: u64) -> u64 {
    RandomState::new().hash_one(()) % end
}

fn names<T: Debug + Ord>(names: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut names: Vec<T> = names.into_iter().collect();
    names.sort();
    names
}

fn container_names(host: &Host) -> Vec<String> {
    let name = |dir: PathBuf| dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    names(host.containers().into_iter().map(name))
}

fn detach(host: &Host, name: &str) {
    let run = host.husk(&["run", "-d", "--name", name, rootfs(), "sleep", "1000"]);
    assert!(run.code == 0, "{run}");
}

/// It works again, and of what failed before nothing is left.
fn recovers(host: &Host) {
    assert_eq!(host.inside(&["--name=after"], "echo fine").ok(), "fine");
    host.assert_clean();
}

// ------------------------------------------------------------------------------------ killed husks

/// Where a husk was when it was killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    BeforeClone,
    CloneToExec,
    CommandRuns,
    CleanUp,
}

const PHASES: [Phase; 4] =
    [Phase::BeforeClone, Phase::CloneToExec, Phase::CommandRuns, Phase::CleanUp];

/// Stops a husk in its tracks, has a look at it, and kills it. None if it had ended before.
fn kill_and_tell(husk: &Running) -> Option<Phase> {
    let pid = husk.pid();
    husk.signal(Signal::SIGSTOP);
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    let stopped = waitid(Id::Pid(pid), flags).expect("waitid");
    if !matches!(stopped, WaitStatus::Stopped(..)) {
        return None;
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let exe = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let phase = match children.expect("/proc/PID/task/TID/children").split_whitespace().next() {
        None if husk.out().is_empty() && husk.err().is_empty() => Phase::BeforeClone,
        None => Phase::CleanUp,
        Some(child) => match exe(child) {
            None => Phase::CleanUp, // a zombie
            program if program == exe(&pid.to_string()) => Phase::CloneToExec,
            Some(_) => Phase::CommandRuns,
        },
    };
    husk.signal(Signal::SIGKILL);
    Some(phase)
}

/// After how many microseconds to kill: near to where it worked lately, if it did.
fn delay(worked: &[u64]) -> u64 {
    let lately = &worked[worked.len().saturating_sub(16)..];
    match lately.len() as u64 {
        n if n > 0 && random(4) > 0 => (lately[random(n) as usize] + random(300)).max(150) - 150,
        _ => random(6000),
    }
}

/// Ends the others' work when this goes out of scope, by a panic too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn storm() {
    let host = host!();
    let enough = if in_vm() { 10 } else { 100 }; // an emulated machine takes ten times as long
    let root = fresh_rootfs();
    File::create(root.join("fifo")).expect("a place to mount at, also for --writable");
    let before = fingerprint(root.path());
    host.inside(&[], "true").ok(); // the bridge is there, and the rules
    let rules = || host.sh("iptables-save | grep -v '^[#:]'").ok();
    let rules_before = rules();

    let living = [host.stays(&["--name=l1"], "true"), host.stays(&["--name=l2", "-u7"], "true")];
    ["l3", "l4"].iter().for_each(|name| detach(&host, name));
    let inits = || names(host.inits());
    let inits_before = inits();
    assert_eq!(inits_before.len(), 4);

    let over = AtomicBool::new(false);
    let (mut counts, mut ended, mut slowest) = ([0; 4], 0, Duration::ZERO);
    let mut worked = [const { vec![] }; 4];
    scope(|threads| {
        // Others start and sweep all the time, and none of them may fail.
        let others = threads.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(host.inside(&[], "echo fine").ok(), "fine");
                count += 1;
            }
            count
        });
        let end = Over(&over);
        // The command ends when we close the pipe; what it leaves running the kernel kills then.
        let dir = TempDir::new();
        let fifo = dir.join("fifo");
        mkfifo(&fifo, Mode::from_bits_truncate(0o600)).expect("mkfifo");
        fs::set_permissions(&fifo, Permissions::from_mode(0o666)).expect("chmod");
        let volume = format!("{}:/fifo", fifo.display());
        let open_pipe = || File::options().read(true).write(true).open(&fifo).expect("open");
        let script = "sleep 9 & sleep 9 & exec 3</fifo; echo ran; exec cat <&3";
        let as_nobody = format!("exec su -s /bin/sh nobody -c '{script}'");
        let kinds = [
            (&[][..], script),
            (&["-u", "1000:1000"], script),
            (&[], &as_nobody),
            (&["-d", "--log=/dev/stderr"], script),
            (&["--network=none", "--writable"], script),
        ];
        let deadline = Instant::now() + 6 * limit();
        let mut starts = 0;
        while starts < 5 * enough || counts.iter().any(|count| *count < enough) {
            assert!(Instant::now() < deadline && !others.is_finished(), "{counts:?}");
            let rarest = (0..4).min_by_key(|phase| counts[*phase]).expect("four");
            let wanted = if random(4) == 0 { random(4) as usize } else { rarest };
            let after = delay(&worked[wanted]);
            let (options, script) = kinds[starts % kinds.len()];
            starts += 1;
            let name = format!("s{starts}");
            let args = ["--name", &name, "-v", &volume, root.path(), "sh", "-c", script];
            let pipe = open_pipe();
            let husk = start(&mut host.husk_command(&[&["run"], options, &args].concat()));
            if wanted >= Phase::CommandRuns as usize {
                until("the command to run", || (husk.out() + &husk.err()).contains("ran\n"));
            }
            let pipe = Some(pipe).filter(|_| wanted != Phase::CleanUp as usize);
            sleep(Duration::from_micros(after));
            match kill_and_tell(&husk) {
                Some(phase) => {
                    counts[phase as usize] += 1;
                    if phase as usize == wanted {
                        worked[wanted].push(after);
                    }
                }
                None => ended += 1,
            }
            drop(pipe);
            let killed = Instant::now();
            let procs = host.cgroup.join("husk").join(&name).join("cgroup.procs");
            until(&format!("the end of {name}, {options:?}"), || {
                drop(open_pipe()); // a detached one goes on, and may come to open it only now
                fs::read_to_string(&procs).unwrap_or_default().is_empty()
            });
            slowest = slowest.max(killed.elapsed());
        }
        drop(end);
        let others = others.join().expect("no other start may fail");
        let counts = PHASES.map(|phase| (phase, counts[phase as usize]));
        println!("{starts} starts, killed at {counts:?}, {ended} had ended; {others} others ran");
        println!("the slowest container was gone {slowest:?} after its husk");
    });

    host.husk(&["ps"]).ok();
    assert_eq!(container_names(&host), ["l1", "l2", "l3", "l4"]);
    assert_eq!(inits(), inits_before, "the living containers are not untouched");
    assert_eq!(host.processes().len(), 2 * 3 + 2, "two husks, their shells and sleeps; two sleeps");
    assert_eq!(rules(), rules_before);
    assert_eq!(fingerprint(root.path()), before, "ROOTFS was changed");
    until("veth pairs to go", || host.links().len() == 1 + 4);
    for name in ["l1", "l2", "l3", "l4"] {
        host.husk(&["exec", "-u0", name, "ping", "-c1", "-W9", "10.77.0.1"]).ok();
    }
    host.husk(&["stop", "-t0", "l1", "l2", "l3", "l4"]).ok();
    for husk in living {
        assert_eq!(husk.wait().code, 137);
    }
}

const SETUID: &str = "exec su -s /bin/sh nobody -c 'echo ready; sleep 1000 & wait'";

/// A container whose PID 1 has changed its user by itself.
fn changes_its_user(host: &Host) -> Running {
    let mut running = start(&mut host.husk_command(&["run", rootfs(), "sh", "-c", SETUID]));
    running.says("ready\n");
    running
}

#[test]
fn husk_killed() {
    let host = host!();
    let other = host.stays(&["--name=other"], "true");
    let alone = host.inits();
    for options in [&[][..], &["-u", "1000:1000"], &["--network=none"], &["--cap-drop=ALL"]] {
        let husk = host.stays(options, "true");
        husk.signal(Signal::SIGKILL);
        let killed = Instant::now();
        until("the container to die by itself", || host.inits() == alone);
        println!("{options:?}: dead {:?} after its husk", killed.elapsed());
        assert_eq!(husk.wait().code, -9);
    }
    let husk = changes_its_user(&host);
    husk.signal(Signal::SIGKILL);
    assert_eq!(husk.wait().code, -9);
    assert!(host.containers().len() > 1, "what is the next command to do?");
    host.husk(&["ps"]).ok();
    assert_eq!(container_names(&host), ["other"]);
    assert_eq!(host.inits(), alone, "ps returned before what it swept was gone");

    // Every command sweeps.
    let commands: [&[&str]; 4] = [
        &["stop", "nonesuch"],
        &["exec", "other", "true"],
        &["run", rootfs(), "true"],
        &["run", "-d", rootfs(), "true"],
    ];
    for command in commands {
        let husk = changes_its_user(&host);
        husk.signal(Signal::SIGKILL);
        assert_eq!(husk.wait().code, -9);
        host.husk(command);
        until(&format!("{command:?} to sweep"), || host.inits() == alone);
    }
    host.husk(&["stop", "-t0", "other"]).ok();
    assert_eq!(other.wait().code, 137);
}

#[test]
fn first_process_killed() {
    let host = host!();
    for options in [&[][..], &["-u", "1000:1000"]] {
        let husk = host.stays(options, "(sleep 1000 &)");
        host.kill_inits();
        assert_eq!(husk.wait().code, 137);
        assert!(host.containers().is_empty() && host.processes().is_empty());
    }
    let husk = changes_its_user(&host);
    host.kill_inits();
    assert_eq!(husk.wait().code, 137);
    host.assert_clean();
}

#[test]
fn both_killed() {
    let host = host!();
    for round in 0..20 {
        let husk = if round % 2 == 0 { host.stays(&[], "true") } else { changes_its_user(&host) };
        let init = Pid::from_raw(host.inits()[0]);
        let [first, second] = if round % 4 < 2 { [init, husk.pid()] } else { [husk.pid(), init] };
        kill(first, Signal::SIGKILL).expect("kill");
        let _ = kill(second, Signal::SIGKILL); // may be dead, and reaped, already
        husk.wait();
        until("both to die", || host.processes().is_empty());
    }
    host.husk(&["ps"]).ok();
    host.assert_clean();
}

#[test]
fn detached_container_killed() {
    let host = host!();
    detach(&host, "walnut");
    host.kill_inits();
    until("PID 1 to die", || host.inits().is_empty());
    detach(&host, "walnut"); // its name is free, though nobody has swept yet
    host.kill_inits();
    until("PID 1 to die", || host.inits().is_empty());
    host.husk(&["ps"]).ok();
    host.assert_clean();
}

#[test]
fn name_is_free_while_others_sweep() {
    let host = host!();
    let script = "exec su -s /bin/sh nobody -c 'echo ready; exec sleep 1000'";
    for round in 0..20 {
        let args = ["run", "--network=none", "--name=walnut", rootfs(), "sh", "-c", script];
        let mut husk = start(&mut host.husk_command(&args));
        husk.says("ready\n");
        husk.signal(Signal::SIGKILL);
        assert_eq!(husk.wait().code, -9);
        let others: Vec<_> = (0..3).map(|_| start(&mut host.husk_command(&["ps"]))).collect();
        let again = host.husk(&["run", "--network=none", "--name=walnut", rootfs(), "true"]);
        assert!(again.code == 0, "round {round}: {again}");
        others.into_iter().for_each(|ps| drop(ps.wait().ok()));
    }
}

#[test]
fn sweeping_harms_no_start() {
    let host = host!();
    host.inside(&[], "true").ok();
    let mut swept = 0;
    let batches = if in_vm() { 4 } else { 40 };
    for batch in 0..batches {
        let start_one = |i: usize| {
            let network = if i.is_multiple_of(5) { "--network=bridge" } else { "--network=none" };
            start(&mut host.husk_command(&["run", network, rootfs(), "echo", "fine"]))
        };
        // Some are killed, so that there is something to sweep.
        let doomed: Vec<_> = (0..5).map(start_one).collect();
        let all: Vec<_> = (0..50).map(start_one).collect();
        for husk in doomed {
            husk.signal(Signal::SIGKILL);
            swept += usize::from(husk.wait().code == -9);
        }
        for husk in all {
            let run = husk.wait();
            assert!(run.out == "fine\n", "batch {batch}: {run}");
            run.ok();
        }
    }
    println!("{} starts, 50 at a time, beside {swept} that were killed", 50 * batches);
    host.husk(&["ps"]).ok();
}

// --------------------------------------------------------------------------------- what can run out

#[test]
fn full_disk() {
    let host = host!();
    let dir = TempDir::new();
    let disk = dir.join("disk");
    fs::create_dir(&disk).expect("mkdir");
    let path = disk.to_str().expect("UTF-8");
    for fill in
        ["cat /dev/zero > $0/full 2>/dev/null", "i=0; while touch $0/$i; do i=$((i+1)); done"]
    {
        let script = format!(
            "mount -t tmpfs -o size=4m,nr_inodes=500,mode=755 disk $0 && cp -a $R/. $0 &&
             rm -rf $0/proc $0/sys $0/dev && {{ {fill}; }} 2>/dev/null; mkdir $0/new 2>&1"
        );
        let filled = run(host.sh_command(&script).arg(path));
        let full = filled.out.contains("No space") || fill.starts_with("cat");
        assert!(full, "the disk is not full: {filled}");

        // What the container changes goes elsewhere.
        assert_eq!(host.husk(&["run", path, "sh", "-c", "echo x > /y; cat /y"]).ok(), "x");
        let run = host.husk(&["run", "-v", "/etc:/v/w:ro", path, "ls", "-d", "/v/w/passwd"]);
        assert_eq!(run.ok(), "/v/w/passwd");
        if !fill.starts_with("cat") {
            let run = host.husk(&["run", "--writable", path, "true"]);
            run.refused(125, &["ENOSPC"]);
            host.husk(&["run", "-d", "--writable", path, "true"]).refused(125, &["ENOSPC"]);
        }
        assert_eq!(container_names(&host), Vec::<String>::new());
        host.sh(&format!("umount {path}")).ok();
    }
    host.assert_clean();
}

#[test]
fn too_many_processes_of_a_user() {
    const UID: u32 = 4343;
    let host = host!();
    let (bin, root) = (husk_for_all(), rootfs_of(UID));
    let limited = |script: &str, uid: u32| {
        let mut command = host.sh_command(script);
        command.env("HUSK", bin.join("husk")).env("R", root.path());
        if uid != 0 {
            as_user(&mut command, uid)
        } else {
            &mut command
        };
        run(&mut command)
    };
    assert_eq!(limited("$HUSK run $R echo fine", UID).ok(), "fine");
    limited("exec prlimit --nproc=1 $HUSK run $R true", UID).refused(125, &["EAGAIN", "ulimit -u"]);

    // As root it is exec that fails, for a process whose new user has too many.
    let sleeper = || start(as_user(host.command("sleep").arg("1000"), UID));
    let sleepers = [sleeper(), sleeper()];
    let run = limited("exec prlimit --nproc=1 $HUSK run -u 4343:4343 $R true", 0);
    assert!(run.code == 126 && run.out.is_empty() && run.err.lines().count() == 1, "{run}");
    assert!(run.err.contains("EAGAIN"), "{run}");
    assert!(host.containers().is_empty());
    drop(sleepers);
    host.assert_clean();
}

#[test]
fn too_few_descriptors() {
    let host = host!();
    if is_sanitized() {
        skip!(host, "it would hit the calls of the loader and of AddressSanitizer");
    }
    let expected = host.inside(&[], SHELL_OF_IT).ok();
    let mut refused = 0;
    for limit in 3..64 {
        for options in ["", "-d"] {
            let script = format!("ulimit -n {limit}; exec $HUSK run {options} $R sh -ec \"$0\"");
            let run = run(host.sh_command(&script).arg(SHELL_OF_IT));
            if run.code == 0 && options.is_empty() {
                assert_eq!(run.ok(), expected, "ulimit -n {limit}");
            } else if run.code != 0 {
                refused += 1;
                run.refused(125, &[]);
                assert!(host.containers().is_empty(), "ulimit -n {limit}");
            }
        }
    }
    println!("{refused} were refused");
    assert!((1..122).contains(&refused));
    until("the detached to end", || host.inits().is_empty());
    recovers(&host);
}

#[test]
fn no_cgroup_to_be_had() {
    let host = host!();
    for file in ["cgroup.max.descendants", "cgroup.max.depth"] {
        let limit = |value: &str| fs::write(host.cgroup.join(file), value).expect("echo");
        limit("1"); // there is one for the tests' own commands, and depth 1 is husk's directory
        for options in [&["run"][..], &["run", "-d"]] {
            let run = host.husk(&[options, &[rootfs(), "true"]].concat());
            assert!(!run.err.contains("processes"), "it is not processes that ran out: {run}");
            run.refused(125, &["mkdir", "EAGAIN"]);
        }
        assert!(container_names(&host).is_empty() && host.processes().is_empty());
        limit("max");
        recovers(&host);
    }
    // With room for one.
    fs::write(host.cgroup.join("cgroup.max.descendants"), "3").expect("echo");
    let one = host.stays(&["--name=one"], "true");
    host.inside(&[], "true").refused(125, &["mkdir", "EAGAIN"]);
    one.signal(Signal::SIGKILL);
    assert_eq!(one.wait().code, -9);
    until("it to die", || host.inits().is_empty());
    fs::write(host.cgroup.join("cgroup.max.descendants"), "max").expect("echo");
    recovers(&host);
}

#[test]
fn no_more_pids() {
    let host = host!();
    if !host.has_controller("pids") {
        skip!(host, "no pids controller in cgroup v2");
    }
    host.inside(&[], "true").ok();
    let number = |file: &str| fs::read_to_string(host.cgroup.join(file)).expect(file);
    let current: u32 = number("pids.current").trim().parse().expect("a number");
    for options in [&[][..], &["-d"]] {
        for name in ["run", "exec"] {
            detach(&host, "walnut");
            // husk itself, the sleep of the container there is, and nobody else.
            let max = (current + 2).to_string();
            fs::write(host.cgroup.join("pids.max"), max).expect("echo");
            match name {
                "run" => host.husk(&[&["run"], options, &[rootfs(), "true"]].concat()),
                _ => host.husk(&["exec", "walnut", "true"]),
            }
            .refused(125, &["EAGAIN", "pids.max"]);
            fs::write(host.cgroup.join("pids.max"), "max").expect("echo");
            assert_eq!(container_names(&host), ["walnut"]);
            host.husk(&["stop", "-t0", "walnut"]).ok();
        }
    }
    // The first start needs iptables, which is a process more in the caller's own cgroup.
    let fresh = Host::new("");
    fs::write(fresh.cgroup.join("cgroup.subtree_control"), "+pids").expect("echo");
    let test = fresh.cgroup.join("test/pids.max");
    fs::write(&test, "1").expect("echo");
    fresh.inside(&[], "true").refused(125, &["iptables", "EAGAIN"]);
    fs::write(&test, "max").expect("echo");
    recovers(&fresh);
    recovers(&host);
}

/// husk with a system call that fails, as strace(1) has it: `clone3:error=EAGAIN:when=1`. Also tells
/// whether it came to that.
fn injected(host: &Host, what: &str, args: &[&str]) -> (Run, bool) {
    let dir = TempDir::new();
    let (log, inject) = (dir.join("log"), format!("inject={what}"));
    let trace = format!("trace={}", what.split(':').next().expect("a call"));
    let mut strace = host.command("strace");
    strace.args(["-f", "-qq", "--seccomp-bpf", "-e", &trace, "-e", &inject, "-o"]);
    strace.arg(&log).arg(husk()).args(args);
    let run = run(&mut strace);
    let log = fs::read_to_string(&log).expect("strace's log");
    (run, log.contains("(INJECTED)"))
}

#[test]
fn clone_refused() {
    let host = host!();
    for error in ["EAGAIN", "ENOMEM", "ENOSPC", "EPERM"] {
        let what = format!("clone3:error={error}");
        for options in [&["run"][..], &["run", "-d"], &["run", "--network=none", "-u", "7"]] {
            let (run, _) = injected(&host, &what, &[options, &[rootfs(), "true"]].concat());
            run.refused(125, &[error]);
            assert!(host.containers().is_empty() && host.processes().is_empty(), "{error}");
        }
    }
    recovers(&host);
}

/// Whatever ends the child before it is its command, such as the kernel for want of memory: that is
/// no end of the command's.
#[test]
fn child_killed_before_exec() {
    let host = host!();
    let web = host.husk(&["run", "-d", rootfs(), "sleep", "1000"]).ok();
    for call in ["sethostname", "pivot_root", "setresgid", "seccomp"] {
        let what = format!("{call}:signal=KILL"); // no other one reaches a PID 1 in its start
        for options in [&["run"][..], &["run", "-d"], &["run", "--network=none", "-u", "7"]] {
            let args = [options, &[rootfs(), "true"]].concat();
            let (run, _) = injected(&host, &what, &args);
            run.refused(125, &["it was killed in its start"]);
            assert_eq!(host.containers().len(), 1, "{what}");
        }
    }
    for signal in ["KILL", "SEGV", "TERM"] {
        let what = format!("setresgid:signal={signal}");
        let (run, _) = injected(&host, &what, &["exec", &web, "true"]);
        run.refused(125, &["it was killed in its start"]);
    }
    host.husk(&["stop", "-t0", &web]).ok();
    host.assert_clean();
}

/// The calls by which husk does its work, each of which can fail for reasons of its own.
const CALLS: &str = "socketpair clone3 mkdir flock openat open openat2 unshare sethostname mount \
    umount2 mkdirat open_tree mount_setattr move_mount fsopen fsconfig fsmount pivot_root chdir \
    fchdir symlinkat socket sendto sendmsg capset seccomp setgroups setresgid setresuid \
    signalfd4 fchmod fchmodat chmod setxattr fsetxattr setsid dup2 dup3 rmdir";

/// What every container has: its mounts, its interfaces, and no more rights than it should.
const SHELL_OF_IT: &str = "cat /proc/self/uid_map; grep -c . /proc/self/mountinfo /proc/net/dev; \
    grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; echo whole";

/// Either husk can do without that call, and the container lacks nothing; or husk says what failed,
/// and undoes the rest.
#[test]
fn any_call_refused() {
    let host = host!();
    if is_sanitized() {
        skip!(host, "it would hit the calls of the loader and of AddressSanitizer");
    }
    host.inside(&[], "true").ok(); // killed first starts are in network.rs
    let detach = "fchmod fchmodat chmod setxattr fsetxattr setsid dup2 dup3 sendto";
    for (options, calls) in
        [(&["run"][..], CALLS), (&["run", "-d", "--log=/dev/stderr", "-u7"], detach)]
    {
        let args = [options, &["--name=x", rootfs(), "sh", "-ec", SHELL_OF_IT]].concat();
        let whole = |mut running: Running| {
            let _ = running.child.wait();
            until("the container to end", || host.processes().is_empty());
            running.out() + &running.err()
        };
        let expected = whole(start(&mut host.husk_command(&args)));
        assert!(expected.contains("whole"), "{expected}");
        let (mut refused, mut done_without, mut left_to_others) = (0, vec![], vec![]);
        for call in calls.split_whitespace() {
            for nth in 1..200 {
                // strace counts in husk and its child apart: if both come so far, it fails in both.
                let what = format!("{call}:error=ENOMEM:when={nth}");
                let (run, was_injected) = injected(&host, &what, &args);
                if !was_injected {
                    break;
                }
                until(&format!("{what} to end"), || host.processes().is_empty());
                let complaints = run.err.lines().filter(|line| line.starts_with("husk: ")).count();
                if run.code == 125 {
                    refused += 1;
                    // The mark of a detached one is the last step: its command has spoken by then.
                    let mut others = run.err.lines().filter(|line| !line.starts_with("husk: "));
                    let is_one =
                        others.all(|line| call.contains("chmod") && expected.contains(line));
                    assert!(complaints == 1 && is_one, "{what}: {run}");
                    if !host.containers().is_empty() {
                        left_to_others.push(what);
                    }
                } else {
                    // The call may have been one of the command's own: then that failed. (Nobody
                    // hears the status of a detached one, but it does not come to its end.)
                    let output = run.out.clone() + &run.err;
                    let has_failed = run.code != 0 || !output.contains("whole");
                    assert!(complaints == 0 && (output == expected || has_failed), "{what}: {run}");
                    done_without.push(what);
                }
                host.husk(&["ps"]).ok();
                host.assert_clean();
            }
        }
        println!("{options:?}: {refused} refused, done without {done_without:?}");
        println!("the next husk had to clean up after {left_to_others:?}");
    }
    recovers(&host);
}
