//! What a hostile tenant tries with what he was given: a volume, a lot of files, a process that does
//! not want to end. (What he tries alone is in attack.rs.)

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::thread::sleep;
use std::time::Duration;

const UID: u32 = 1000;

/// A root file system and a directory beside it, both root's or a user's.
fn scene(uid: u32) -> (TempDir, TempDir) {
    let (root, out) = (fresh_rootfs(), TempDir::new());
    for dir in [root.path(), out.path()] {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("chmod");
        chown(dir, Some(uid), Some(uid)).expect("chown");
    }
    fs::create_dir(root.join("hp")).expect("mkdir");
    chown(root.join("hp"), Some(uid), Some(uid)).expect("chown");
    (root, out)
}

fn run_as(host: &Host, uid: u32, script: &str, root: &TempDir, out: &TempDir) -> Run {
    let bin = husk_for_all();
    let mut command = host.command("sh");
    command.args(["-c", script]).env("HUSK", bin.join("husk"));
    command.env("R", root.path()).env("OUT", out.path());
    if uid == 0 {
        return run(&mut command);
    }
    run(as_user(&mut command, uid))
}

/// A procfs that a volume brings in has magic links, which lead to what husk or its caller has open,
/// and to other processes' roots.
#[test]
fn magic_links_of_a_volume() {
    let host = host!();
    for uid in [0, UID] {
        let (root, out) = scene(uid);
        fs::write(out.join("file"), "text").expect("write");
        for number in 3..12 {
            let up = format!("/hp/self/fd/{number}/{}{}/made", "../".repeat(12), out.path());
            symlink(up, root.join(format!("app{number}"))).expect("ln -s");
        }
        let other = format!("/hp/{}/root{}", host.pid(), out.path());
        symlink(&other, root.join("data")).expect("ln -s");
        symlink(format!("{other}/made"), root.join("workdir")).expect("ln -s");
        let run = |options: &str, command: &str| {
            let script = format!(
                "exec 9</; exec $HUSK run --network none -v /proc:/hp:ro {options} $R {command}"
            );
            run_as(&host, uid, &script, &root, &out)
        };
        // Unprotected, that is where the links lead.
        let control = "exec chroot $R sh -c 'cd /data && pwd && ls file'";
        let mount = "mount --bind /proc $R/hp";
        if uid == 0 {
            let script = format!("exec unshare -m sh -c \"{mount}; {control}\"");
            assert!(run_as(&host, uid, &script, &root, &out).out.contains("file"));
        }
        for number in 3..12 {
            let path = format!("/app{number}");
            run(&format!("-w {path}"), "true").refused(125, &[&path]);
            run(&format!("-v $OUT/file:{path}/x"), "true").refused(125, &[&path]);
        }
        for target in ["/data/x", "/workdir", "/workdir/x"] {
            run(&format!("-v $OUT/file:{target}"), "true").refused(125, &[target]);
            run(&format!("-v $OUT:{target}"), "true").refused(125, &[target]);
            run(&format!("-w {target}"), "true").refused(125, &[target]);
        }
        let left: Vec<_> = fs::read_dir(out.path()).expect("ls").flatten().collect();
        assert_eq!(left.len(), 1, "made on the host: {left:?}");
    }
}

/// The same for whoever comes later.
#[test]
fn magic_links_of_a_volume_for_exec() {
    let host = host!();
    let (root, out) = scene(0);
    symlink(format!("/hp/{}/root", host.pid()), root.join("host")).expect("ln -s");
    let script = "$HUSK run -d --name trap --network none -v /proc:/hp:ro $R sleep 1000 >&2";
    assert_eq!(run_as(&host, 0, script, &root, &out).code, 0);
    host.husk(&["exec", "-w", "/host/etc", "trap", "true"]).refused(125, &["/host/etc"]);
    host.husk(&["exec", "-w", "/host", "trap", "true"]).refused(125, &["/host"]);
    host.husk(&["stop", "-t0", "trap"]).ok();
}

/// What a container writes is kept in memory: a fifth of the machine's for files, and a twentieth
/// for the kernel's own memory of them.
#[test]
fn storage_is_bounded() {
    let host = host!();
    let memory = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let total = memory.split_whitespace().nth(1).expect("MemTotal:");
    let total: u64 = total.parse().expect("kB");
    let inside = |options: &[&str], script: &str| {
        let options = [&["--network", "none"], options].concat();
        host.inside(&options, script).ok()
    };
    let size = inside(&[], "df -k / | awk 'END { print $2 }'");
    let size: u64 = size.parse().expect("a number");
    assert!(size <= total / 5 + 4, "{size} of {total} kB");
    let inodes = inside(&[], "df -i /etc/hosts | awk 'END { print $2 }'");
    let inodes: u64 = inodes.parse().expect("a number");
    assert!(inodes * 2 <= total / 20 && inodes > 10_000, "{inodes}, {total} kB");
    for dir in ["/dev", "/dev/shm"] {
        let inodes = inside(&[], &format!("df -i {dir} | awk 'END {{ print $2 }}'"));
        assert!(inodes.parse::<u64>().is_ok_and(|inodes| inodes <= 16384), "{dir}: {inodes}");
    }
    let fill = "dd if=/dev/zero of=/file bs=1M count=64 2>&1; stat -c %s /file";
    let run = host.inside(&["--network", "none", "--storage-opt", "size=16m"], fill);
    assert!(run.out.contains("No space left"), "{run}");
    let size: u64 = run.out.lines().last().and_then(|size| size.parse().ok()).expect("a size");
    assert!(size <= 16 << 20, "{run}");
    assert_eq!(inside(&["--storage-opt=size=80m"], fill).lines().last(), Some("67108864"));
    for value in ["16m", "size=", "size=much", "inodes=3", "size=0"] {
        let run = host.husk(&["run", "--storage-opt", value, rootfs(), "true"]);
        run.refused(125, &["--storage-opt", value, "size=SIZE"]);
    }
}

#[test]
fn read_only_means_all() {
    let host = host!();
    for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
        let script = format!("echo more >>{file}");
        let run = host.inside(&["--read-only"], &script);
        assert!(run.code != 0 && run.err.contains("Read-only"), "{file}: {run}");
        host.inside(&[], &script).ok();
    }
    // It has its address all the same.
    let hosts = host.inside(&["--read-only", "-h", "walnut"], "cat /etc/hosts").ok();
    assert!(hosts.contains("10.77.") && hosts.contains("walnut"), "{hosts}");
}

/// A husk that is stopped itself can't clean up.
#[test]
fn stop_wakes_a_stopped_husk() {
    let host = host!();
    let running = host.stays(&["--name=walnut", "--network=none"], "true");
    let husk = Pid::from_raw(running.child.id() as i32);
    kill(husk, Signal::SIGSTOP).expect("kill -STOP");
    host.husk(&["stop", "-t", "0", "walnut"]).ok();
    assert!(host.containers().is_empty(), "stop returned too early");
    assert_eq!(running.wait().code, 137);
}

/// Whatever a container calls itself, it is shown plainly.
#[test]
fn names_are_shown_plainly() {
    let host = host!();
    let title = "sleep 1000; : # \u{202e}evil\u{200b}\u{2066}\u{1b}[31m";
    let mut command = host.husk_command(&["run", "--name=x", rootfs(), "sh", "-c", title]);
    let running = start(&mut command);
    until("the container", || host.husk(&["ps"]).out.contains("evil"));
    let ps = host.husk(&["ps"]).ok();
    assert!(ps.contains("# ?evil??"), "{ps}");
    host.husk(&["stop", "-t0", "x"]).ok();
    running.wait();
    let name = "\u{202e}evil\u{feff}";
    let run = host.husk(&["exec", name, "true"]);
    assert!(!run.err.contains('\u{202e}'), "{run}");
    run.refused(125, &["?evil?"]);
}

/// Whoever enters while a container ends is told that, and nothing of the kernel's reasons.
#[test]
fn exec_into_a_dying_container() {
    let host = host!();
    for _ in 0..10 {
        let running = host.stays(&["--name=dying", "--network=none"], "true");
        let execs: Vec<_> = (0..4)
            .map(|_| start(&mut host.husk_command(&["exec", "dying", "sleep", "1000"])))
            .collect();
        host.husk(&["stop", "-t0", "dying"]).ok();
        for exec in execs {
            let run = exec.wait();
            let told = ["not running", "no such container", "it was killed in its start"];
            let is_told = told.iter().any(|text| run.err.contains(text));
            assert!(run.code == 137 || (run.code == 125 && is_told), "{run}");
        }
        running.wait();
    }
}

/// Links that would take all of husk's stack.
#[test]
fn endless_links() {
    let host = host!();
    let root = fresh_rootfs();
    for number in 0..20 {
        let to = format!("/x{}{}", number + 1, "/b".repeat(2000));
        symlink(to, root.join(format!("x{number}"))).expect("ln -s");
    }
    host.husk(&["run", "--network", "none", "-w", "/x0", root.path(), "true"])
        .refused(125, &["/x0", "ELOOP"]);
}

/// A child that is held up before it is the command: a signal ends husk all the same.
#[test]
fn signals_before_the_command() {
    let host = host!();
    let freeze = host.cgroup.join("husk/slow/cgroup.freeze");
    let mut tries = 0;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM, Signal::SIGINT] {
        let args = ["run", "--name", "slow", "--network", "none", rootfs(), "true"];
        let slow = start(&mut host.husk_command(&args));
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while fs::write(&freeze, "1").is_err() && std::time::Instant::now() < deadline {}
        sleep(Duration::from_millis(300)); // by now it waits
        if freeze.exists() {
            tries += 1;
            slow.signal(signal);
        }
        let run = slow.wait();
        assert!([0, 128 + signal as i32, -(signal as i32)].contains(&run.code), "{run}");
    }
    assert!(tries > 0, "it was never soon enough");
}

/// Where root has come by sudo from a user's session, husk/ is root's all the same.
#[test]
fn root_in_the_cgroup_of_a_user() {
    let host = host!();
    for dir in ["user", "user/app"] {
        let dir = host.cgroup.join(dir);
        fs::create_dir(&dir).expect("mkdir");
        chown(&dir, Some(UID), Some(UID)).expect("chown");
    }
    let mut command = host.command_in("user/app", husk());
    command.args(["run", "--network", "none", rootfs(), "true"]);
    let run = run(&mut command);
    assert_eq!(run.code, 0, "{run}");
    for dir in ["user/app", "user"] {
        fs::remove_dir(host.cgroup.join(dir)).expect("rmdir");
    }
}
