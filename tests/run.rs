//! What a command finds inside its container, and what of it can be seen from outside.

mod common;
use common::*;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn exit_statuses() {
    let host = host!();
    for code in [0, 1, 7, 125, 255] {
        let run = host.inside(&[], &format!("exit {code}"));
        assert!(run.code == code && run.err.is_empty(), "expected {code}: {run}");
    }
    assert_eq!(host.inside(&[], "sleep 1000 & exit 3").code, 3, "nobody waits for orphans");
    assert_eq!(
        host.inside(&[], "sh -c 'kill -9 $$'; exit $?").code,
        137,
        "the shell's own 128 + 9"
    );

    for (signal, code) in [(Signal::SIGKILL, 137), (Signal::SIGTERM, 143)] {
        // Nothing but SIGKILL kills a PID 1 that has no handler, signal(7) notwithstanding.
        let running = host.stays(&[], "trap 'exit 143' TERM");
        kill(Pid::from_raw(host.inits()[0]), signal).expect("kill");
        let run = running.wait();
        assert!(run.code == code && run.err.is_empty(), "{signal}, so {code}: {run}");
    }
}

#[test]
fn default_command_is_a_shell() {
    let host = host!();
    let run = start_with(&mut host.husk_command(&["run", rootfs()]), "echo $$ $0; exit 4\n").wait();
    assert!(run.code == 4 && run.out == "1 /bin/sh\n", "{run}");
}

#[test]
fn namespaces() {
    let host = host!();
    let list = "for n in pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done";
    let (inside, outside) = (host.inside(&[], list).ok(), host.sh(list).ok());
    for (a, b) in inside.lines().zip(outside.lines()) {
        assert_ne!(a, b, "a namespace is shared with the host");
    }
    assert_eq!(inside.lines().count(), 6, "{inside}");
    assert_eq!(host.inside(&[], "echo $$").ok(), "1");
    assert_eq!(host.inside(&[], "tail -n1 /proc/self/cgroup").ok(), "0::/");
    let ps = host.inside(&[], "ps -o pid,comm; true").ok();
    assert_eq!(ps.lines().count(), 3, "the title, sh and ps: {ps}");
    let script = "id=$(ipcmk -M 4096 | grep -o '[0-9]*$'); grep -c . /proc/sysvipc/shm
        $HUSK run $R grep -c . /proc/sysvipc/shm; ipcrm -m $id";
    let lines = host.sh(script).ok();
    assert!(lines != "1\n1" && lines.ends_with("\n1"), "shared memory outside and inside: {lines}");
}

#[test]
fn host_name() {
    let host = host!();
    let before = host.sh("uname -n").ok();
    let name = host.inside(&[], "uname -n").ok();
    assert!(name.len() == 8 && name.bytes().all(|c| b"0123456789abcdef".contains(&c)), "{name}");
    assert_ne!(name, host.inside(&[], "uname -n").ok(), "two containers with one id");
    for (options, expected) in [
        (&["--name", "walnut"][..], "walnut"),
        (&["-h", "kernel.example"], "kernel.example"),
        (&["--hostname=x", "--name=y"], "x"),
    ] {
        let seen = host.inside(options, "uname -n; cat /etc/hostname; echo $HOSTNAME").ok();
        assert_eq!(seen, [expected; 3].join("\n"), "with {options:?}");
    }
    assert_eq!(host.sh("uname -n").ok(), before, "the host's own name");
}

#[test]
fn mounts() {
    let host = host!();
    let table = host.inside(&[], "cat /proc/self/mountinfo").ok();
    let mounted = |target: &str| {
        let mut lines = table.lines().filter(|line| line.split(' ').nth(4) == Some(target));
        lines.next_back().unwrap_or_else(|| panic!("nothing is mounted on {target}:\n{table}"))
    };
    for (target, kind, options) in [
        ("/", "overlay", &["rw", "nodev"][..]),
        ("/proc", "proc", &["rw", "nosuid", "nodev", "noexec"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        ("/sys/fs/cgroup", "cgroup2", &["ro", "nosuid", "nodev", "noexec"]),
        ("/dev", "tmpfs", &["nosuid", "mode=755"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec", "size=65536k"]),
        ("/dev/mqueue", "mqueue", &["rw", "nosuid", "nodev", "noexec"]),
    ] {
        let line = mounted(target);
        assert!(line.contains(&format!(" - {kind} ")), "{target} should be {kind}: {line}");
        let words: Vec<_> = line.split([' ', ',']).collect();
        for option in options {
            assert!(words.contains(option), "{target} lacks {option}: {line}");
        }
    }
    let roots = table.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count();
    assert_eq!(roots, 1, "the old root is still mounted:\n{table}");
    let shared = table.lines().filter(|line| line.contains(" shared:")).count();
    assert_eq!(shared, 0, "a mount could show up elsewhere:\n{table}");

    // Everything the host mounted besides must be out of sight.
    let device = fs::metadata("/").expect("stat /").dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let of_host = format!(" {major}:{minor} / ");
    assert!(!table.contains(&of_host), "the host's root is mounted:\n{table}");
    let marker = TempDir::new();
    let script = "ls -d $0 /..$0 /proc/1/root$0 2>/dev/null; ls -id / /.. /proc/1/root/";
    let seen = host.husk(&["run", rootfs(), "sh", "-c", script, marker.path()]).ok();
    assert!(!seen.contains(marker.path()), "a directory of the host can be seen:\n{seen}");
    let roots: Vec<_> = seen.lines().map(|line| line.split_whitespace().next()).collect();
    assert!(
        roots.len() == 3 && roots.iter().all(|root| *root == roots[0]),
        "roots differ:\n{seen}"
    );
}

#[test]
fn mount_points_are_made() {
    let host = host!();
    let root = TempDir::new();
    fs::copy(format!("{}/bin/busybox", rootfs()), root.join("busybox")).expect("cp");
    let before = fingerprint(root.path());
    let run =
        host.husk(&["run", root.path(), "/busybox", "cat", "/proc/self/comm", "/etc/hostname"]);
    assert_eq!(run.ok().lines().next(), Some("busybox"));
    assert_eq!(fingerprint(root.path()), before, "ROOTFS was changed");
}

#[test]
fn devices() {
    let host = host!();
    let stat = "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty";
    let expected: Vec<_> = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)]
        .map(|(name, minor)| format!("{name} character special file 1:{minor} 666"))
        .into_iter()
        .chain(["tty character special file 5:0 666".into()])
        .collect();
    assert_eq!(host.inside(&[], stat).ok(), expected.join("\n"));

    for (script, expected) in [
        ("echo gone > /dev/null; cat /dev/null", ""),
        ("head -c 3 /dev/zero | od -An -tx1", " 00 00 00"),
        ("echo x 2>&1 > /dev/full || echo full", "sh: write error: No space left on device\nfull"),
        ("head -c 5 /dev/random | wc -c; head -c 5 /dev/urandom | wc -c", "5\n5"),
        (
            "for l in fd stdin stdout stderr; do readlink /dev/$l; done",
            "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2",
        ),
        ("echo out >> /dev/stdout; echo again >> /dev/fd/1", "out\nagain"),
        ("echo in | cat /dev/stdin", "in"),
        ("test -c /dev/ptmx -a -r /dev/ptmx -a -w /dev/ptmx && ls -A /dev/pts", "ptmx"),
        ("mktemp -p /dev/shm shm.XXXXXX >/dev/null && stat -c %a /dev/shm", "1777"),
        ("ls -d /dev/mqueue", "/dev/mqueue"),
        ("chmod 666 /dev/null 2>&1", "chmod: /dev/null: Read-only file system"),
        ("(cat < /dev/tty) 2>&1", "sh: can't open /dev/tty: No such device or address"),
    ] {
        let run = host.inside(&[], script);
        assert_eq!(run.out.trim_end_matches('\n'), expected, "{run}");
    }
}

#[test]
fn changes_stay_in_the_container() {
    let host = host!();
    let root = fresh_rootfs();
    let before = fingerprint(root.path());
    let script =
        "set -e; echo new > /new; rm /bin/ls; mkdir -p /a/b; chmod 700 /bin; chown 1:1 /etc
        echo x >> /etc/passwd; rmdir /root; rm -rf /tmp; ln -s x /lnk; touch -d @0 /bin/busybox
        cat /new";
    assert_eq!(host.husk(&["run", root.path(), "sh", "-c", script]).ok(), "new");
    assert_eq!(fingerprint(root.path()), before, "ROOTFS was changed");

    // Two at once on one ROOTFS: each finds only its own file.
    let script =
        "n=$(ls / | grep -c '^mine'); echo $n; echo $0 > /mine.$0; echo ready; sleep 1000 & wait";
    let two = ["a", "b"].map(|name| {
        let mut running =
            start(&mut host.husk_command(&["run", root.path(), "sh", "-c", script, name]));
        running.says("ready");
        running
    });
    for (one, name) in two.iter().zip(["mine.a", "mine.b"]) {
        assert!(one.out().starts_with("0\n"), "it saw another's file: {}", one.out());
        assert!(!root.join(name).exists(), "{name} is in ROOTFS");
    }
    host.inits().iter().for_each(|&pid| kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill"));
    for one in two {
        assert_eq!(one.wait().code, 137);
    }
    assert_eq!(fingerprint(root.path()), before, "ROOTFS was changed");
}

#[test]
fn writable_and_read_only() {
    let host = host!();
    let root = fresh_rootfs();
    let run = |options: &[&str], script| {
        host.husk(&[&["run"], options, &[root.path(), "sh", "-c", script]].concat())
    };
    run(&["--writable"], "echo kept > /kept; rm /bin/ls; touch /etc/x").ok();
    assert_eq!(fs::read_to_string(root.join("kept")).expect("/kept"), "kept\n");
    assert!(!root.join("bin/ls").exists(), "rm under --writable");
    assert_eq!(run(&[], "cat /kept").ok(), "kept");

    let before = fingerprint(root.path());
    for script in ["touch /x", "rm /kept", "mkdir /etc/y", "chmod 7 /kept", "mount -o remount,rw /"]
    {
        let run = run(&["--read-only"], script);
        assert!(run.code != 0, "`{script}` under --read-only: {run}");
    }
    run(&["--read-only"], "touch /dev/shm/x; echo > /dev/null").ok();
    let data = TempDir::new();
    let volume = format!("{}:/data", data.path());
    run(&["--read-only", "-v", &volume], "touch /data/x").ok();
    assert!(data.join("x").exists(), "a volume can be written all the same");
    assert_eq!(fingerprint(root.path()), before, "ROOTFS was changed");
}

#[test]
fn volumes() {
    let host = host!();
    let data = TempDir::new();
    fs::write(data.join("file"), "text\n").expect("write");
    fs::create_dir(data.join("dir")).expect("mkdir");
    symlink("file", data.join("link")).expect("ln -s");
    let from = |name: &str, to: &str| format!("{}/{name}:{to}", data.path());
    for (volume, script, out) in [
        (from("", "/data"), "cat /data/file; echo a > /data/dir/a", "text"),
        (from("", "/made/for/it"), "ls /made/for/it", "dir\nfile\nlink"),
        (from("file", "/etc/passwd"), "cat /etc/passwd", "text"),
        (from("file", "/no/such/file"), "cat /no/such/file; echo b >> /no/such/file", "text"),
        (from("link", "/here"), "cat /here", "text\nb"),
        (from("file", "/ro:ro"), "echo c 2>/dev/null >> /ro || cat /ro", "text\nb"),
        (from("dir", "/tmp/../tmp/x"), "cat /tmp/x/a", "a"),
        (from("dir", "/dev/shm/x"), "cat /dev/shm/x/a", "a"),
    ] {
        let run = host.inside(&["-v", &volume], script);
        assert_eq!(run.ok(), out, "-v {volume}");
    }
    assert_eq!(fs::read_to_string(data.join("dir/a")).expect("a"), "a\n", "written inside");

    let volume = from("", "/data:ro");
    for script in
        ["touch /data/x", "touch /data/dir/x", "rm /data/file", "mount -o remount,rw /data"]
    {
        let run = host.inside(&["--volume", &volume], script);
        assert!(run.code != 0, "{script} on a read-only volume: {run}");
    }
    let two =
        host.inside(&["-v", &from("dir", "/a"), "-v", &from("file", "/b:ro")], "ls /a; cat /b");
    assert_eq!(two.ok(), "a\ntext\nb");

    // Not in the order in which they come, but so that none hides another.
    let two = host.inside(&["-v", &from("file", "/a/b"), "-v", &from("dir", "/a")], "cat /a/b");
    assert_eq!(two.ok(), "text\nb");
    // docker's other options are not taken for a part of the name.
    for option in ["ro,z", "z", "rshared"] {
        let volume = from("", "/data") + ":" + option;
        host.inside(&["-v", &volume], "true").refused(125, &["-v", ":ro or :rw"]);
    }

    // What is mounted below SRC comes along, read-only too: in a host of its own, which it leaves.
    let script = format!(
        "mount -t tmpfs none {0}/dir && touch {0}/dir/below && $HUSK run -v {0}:/d:ro $R sh -c \
         'ls /d/dir; touch /d/dir/x 2>/dev/null || echo read-only'; umount {0}/dir",
        data.path()
    );
    assert_eq!(host.sh(&script).ok(), "below\nread-only");

    // A device node or a set-user-id program must not become usable by way of a volume.
    host.sh(&format!("mknod {}/zero c 1 5", data.path())).ok();
    let run = host.inside(&["-v", &from("", "/data")], "head -c1 /data/zero");
    assert!(run.code != 0, "a device node on a volume was opened: {run}");
}

#[test]
fn files_in_etc() {
    let host = host!();
    let root = fresh_rootfs();
    let hosts = host.husk(&["run", "-h", "walnut", root.path(), "cat", "/etc/hosts"]).ok();
    for name in ["localhost", "walnut"] {
        assert!(
            hosts.split_whitespace().any(|word| word == name),
            "no {name} in /etc/hosts:\n{hosts}"
        );
    }
    let ping =
        "ping -c1 -w5 $(hostname) >/dev/null && ping -c1 -w5 localhost >/dev/null && echo yes";
    assert_eq!(host.inside(&[], ping).ok(), "yes", "both names lead here");
    // A name of digits alone would be taken for an address.
    let names = (0..100).map(|_| host.inside(&["--network", "none"], "hostname").ok());
    let is_letter = |name: &String| name.starts_with(|c: char| c.is_ascii_alphabetic());
    assert!(names.into_iter().all(|name| is_letter(&name)));

    // The files are the container's own: it may edit them, and keeps them under an odd umask.
    let edit =
        "cd /etc; echo 1.2.3.4 x >> hosts; echo > hostname; echo > resolv.conf; tail -n1 hosts";
    assert_eq!(host.husk(&["run", root.path(), "sh", "-c", edit]).ok(), "1.2.3.4 x");
    let odd = "umask 077; exec $HUSK run -u 1000:1000 $R sh -c '
        cd /etc; cat hosts hostname resolv.conf >/dev/null; cd /dev/shm; touch x
        stat -c %a / /etc /proc /dev /dev/shm /etc/hosts'";
    assert_eq!(host.sh(odd).ok(), "755\n755\n555\n755\n1777\n644");

    // Name servers: the host's; but a stub on the host's loopback would be of no use inside.
    for (etc, run, expected) in [
        (
            "nameserver 192.0.2.53\nsearch example.com\n",
            "",
            "nameserver 192.0.2.53\nsearch example.com",
        ),
        (
            "nameserver 127.0.0.53\noptions edns0\n",
            "nameserver 192.0.2.54\n",
            "nameserver 192.0.2.54",
        ),
    ] {
        let dir = TempDir::new();
        fs::create_dir_all(dir.join("run/systemd/resolve")).expect("mkdir");
        fs::write(dir.join("run/systemd/resolve/resolv.conf"), run).expect("write");
        let script = "set -e; cp -a /etc $0/etc; cd $0/etc; rm -f resolv.conf
            printf %s \"$1\" > resolv.conf; mount --bind $0/etc /etc; mount --bind $0/run /run
            exec $HUSK run $R cat /etc/resolv.conf";
        let mut command = host.command("unshare");
        command.args(["-m", "sh", "-c", script, dir.path(), etc]);
        let seen = common::run(command.env("HUSK", husk()).env("R", rootfs())).ok();
        assert_eq!(seen, expected, "with /etc/resolv.conf {etc:?}");
    }
}

#[test]
fn environment() {
    let host = host!();
    let env = |options: &[&str]| {
        let args = [&["run", "-h", "walnut"], options, &[rootfs(), "env"]].concat();
        let mut command = host.husk_command(&args);
        let run = common::run(
            command.env("SECRET", "1").env("HERE", "from outside").env("TERM", "vt100"),
        );
        let mut lines: Vec<_> = run.ok().lines().map(str::to_string).collect();
        lines.sort();
        lines
    };
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(env(&[]), ["HOME=/root", "HOSTNAME=walnut", path]);
    assert_eq!(
        env(&["-e", "A=b", "--env", "C=", "--env=E==f g", "-e", "HERE", "-e", "NOWHERE"]),
        ["A=b", "C=", "E==f g", "HERE=from outside", "HOME=/root", "HOSTNAME=walnut", path]
    );
    assert_eq!(
        env(&["-e", "PATH=/bin", "-e", "HOME=/tmp", "-e", "HOSTNAME=x", "-e", "A=1", "-e", "A=2"]),
        ["A=2", "HOME=/tmp", "HOSTNAME=x", "PATH=/bin"]
    );
    let found = host.inside(&["-e", "PATH=/nowhere"], "true");
    found.refused(127, &["sh"]);
}

#[test]
fn clean_start() {
    let host = host!();
    // A caller that ignores signals, blocks others and leaves descriptors open.
    let script = "trap '' PIPE INT HUP QUIT TERM USR1 CHLD TSTP TTOU; ulimit -c 0
        exec 5</etc/passwd 6</ 7>/dev/null 9<&0; exec $HUSK run $R sleep 1000";
    let mut command = host.sh_command(script);
    let block = || {
        let mut set = nix::sys::signal::SigSet::empty();
        set.add(Signal::SIGUSR2);
        set.add(Signal::SIGALRM);
        Ok(set.thread_block()?)
    };
    // SAFETY: one system call.
    unsafe { command.pre_exec(block) };
    let running = start(&mut command);
    let comm = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    until("sleep is PID 1", || host.inits().first().is_some_and(|pid| comm(pid) == "sleep\n"));
    let pid = host.inits()[0];
    let mut fds: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("fd")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("a number"))
        .collect();
    fds.sort();
    assert_eq!(fds, ["0", "1", "2"], "descriptors of PID 1");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    for field in ["SigBlk", "SigIgn", "SigCgt"] {
        let set = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:\t")));
        let set = u64::from_str_radix(set.expect("a set of signals"), 16).expect("a number");
        let of_libc = 3 << 31; // signals 32 and 33: a libc keeps them to itself
        assert_eq!(set & !of_libc, 0, "{field} is not empty:\n{status}");
    }
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
    assert_eq!(running.wait().code, 137);
    assert_eq!(host.inside(&[], "touch /x; stat -c %a /x; pwd").ok(), "644\n/");
}

#[test]
fn working_directory() {
    let host = host!();
    let root = fresh_rootfs();
    symlink("/etc", root.join("absolute")).expect("ln -s");
    symlink("../../../../../../..", root.join("up")).expect("ln -s");
    let pwd = |dir: &str| {
        host.husk(&["run", "-w", dir, root.path(), "sh", "-c", "pwd -P; ls /proc/self/cwd"])
    };
    for (dir, expected) in [
        ("/tmp", "/tmp"),
        ("/", "/"),
        ("/made/for/it", "/made/for/it"),
        ("/absolute", "/etc"),
        ("/up", "/"),
        ("/../..", "/"),
    ] {
        let run = pwd(dir);
        assert!(run.code == 0 && run.out.starts_with(&format!("{expected}\n")), "-w {dir}: {run}");
    }
    assert!(!root.join("made").exists(), "-w made a directory in ROOTFS");
    for fd in 0..20 {
        // A directory that husk holds open would be a way out.
        let run = pwd(&format!("/proc/self/fd/{fd}"));
        let empty = run.code == 0 && run.out.lines().count() == 1; // made for it, inside
        assert!(empty || run.code == 125, "-w /proc/self/fd/{fd}: {run}");
    }
    let run = pwd("/etc/passwd");
    assert!(
        (125..=127).contains(&run.code) && run.err.starts_with("husk: "),
        "-w on a file: {run}"
    );
}

#[test]
fn signals_reach_pid_1() {
    let host = host!();
    let names = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"];
    let script = format!(
        "for s in {}; do trap \"echo got-$s\" $s; done; trap 'exit 0' ALRM; echo ready
        while :; do sleep 1000 & wait; done",
        names.join(" ")
    );
    let mut running = start(&mut host.husk_command(&["run", rootfs(), "sh", "-c", &script]));
    running.says("ready");
    for name in names {
        running.signal(format!("SIG{name}").parse().expect("a signal"));
        running.says(&format!("got-{name}\n"));
    }
    kill(Pid::from_raw(host.inits()[0]), Signal::SIGALRM).expect("kill");
    let run = running.wait();
    assert!(run.code == 0 && run.err.is_empty(), "{run}");
}

#[test]
fn dies_with_husk() {
    let host = host!();
    for options in [&[][..], &["-u", "1000"], &["--network", "none"]] {
        let args = [&["run"], options, &[rootfs(), "sh", "-c", "echo ready; sleep 1000"]].concat();
        let mut running = start(&mut host.husk_command(&args));
        running.says("ready");
        running.signal(Signal::SIGKILL);
        assert_eq!(running.wait().code, -9);
        if options.first() != Some(&"-u") {
            until("PID 1 dies with husk", || host.inits().is_empty());
        }
        host.husk(&["ps"]).ok();
        host.assert_clean();
    }
}

#[test]
fn pipes() {
    let host = host!();
    assert_eq!(host.sh("echo hello | $HUSK run $R cat").ok(), "hello");
    let megabytes = "head -c 5000000 /dev/zero | $HUSK run $R cat | wc -c";
    assert_eq!(host.sh(megabytes).ok(), "5000000");
    assert_eq!(host.inside(&[], "yes | head -n1; echo done").ok(), "y\ndone");
    let run = host.sh("$HUSK run $R sh -c 'yes; echo $? >&2' | head -n1");
    assert!(run.code == 0 && run.out == "y\n" && run.err == "141\n", "{run}");
    let run = host.inside(&[], "echo out; echo err >&2");
    assert!(run.out == "out\n" && run.err == "err\n", "{run}");
}

#[test]
fn bytes_pass_through() {
    let host = host!();
    let script = r#"a=$(printf 'a\377\001 "b')
        $HUSK run -e "V=$a" $R sh -c 'printf %s "$0$V"' "$a" | od -An -tx1"#;
    assert_eq!(host.sh(script).ok().replace(' ', ""), "61ff0120226261ff01202262");
    let long = "x".repeat(100_000);
    let run = host.husk(&["run", rootfs(), "sh", "-c", "echo ${#0}", &long]);
    assert_eq!(run.ok(), "100000");
    assert_eq!(
        host.husk(&["run", rootfs(), "printf", "<%s>", "", "--rm", "-e"]).ok(),
        "<><--rm><-e>"
    );
    let name = "a: b,c\\d\n\"e'lowerdir=";
    let parent = TempDir::new();
    let odd = parent.join(name);
    host.sh(&format!("cp -a {} '{}/r'", rootfs(), parent.path())).ok();
    fs::rename(parent.join("r"), &odd).expect("mv");
    let odd = odd.to_str().expect("UTF-8");
    assert_eq!(host.husk(&["run", odd, "echo", "odd"]).ok(), "odd");
    let volume = format!("{}:/v w,x", parent.path());
    assert_eq!(host.inside(&["-v", &volume], "ls '/v w,x'").code, 0, "-v {volume}");
    let bytes = r#"cd $0; d=$(printf 'r\377'); ln -s "$1" "$d"
        $HUSK run "$d" echo bytes; $HUSK run ./"$d"/ echo dot
        $HUSK run -v "$PWD/$d:/$d" $R ls "/$d/bin/sh""#;
    let mut command = host.sh_command(bytes);
    let run = common::run(command.args([parent.path(), odd]).env("R", rootfs()));
    assert!(run.code == 0 && run.out.starts_with("bytes\ndot\n/r"), "{run}");
    assert_eq!(
        host.sh("cd $R && $HUSK run . echo here && cd bin && $HUSK run .. echo up").ok(),
        "here\nup"
    );
    assert_eq!(host.sh("cd / && $HUSK run / echo slash").ok(), "slash");
}

#[test]
fn accepted_and_without_effect() {
    let host = host!();
    assert_eq!(host.inside(&["--rm", "-i", "-t"], "echo yes").ok(), "yes");
    assert_eq!(host.inside(&["-it", "--rm"], "echo yes").ok(), "yes");
}

#[test]
fn user() {
    let host = host!();
    for (user, id) in
        [("1000", "uid=1000 gid=0"), ("1000:1001", "uid=1000 gid=1001"), ("0:5", "uid=0 gid=5")]
    {
        let seen = host
            .inside(&["-u", user], "id | sed 's/([a-z]*)//g'; grep -h Groups /proc/self/status")
            .ok();
        let (first, groups) = seen.split_once('\n').expect("two lines");
        assert!(first.starts_with(id), "-u {user}: {seen}");
        assert_eq!(groups.split_whitespace().count(), 1, "supplementary groups: {groups}");
    }
}

/// Where a rootfs's own links may point, and every place where husk mounts or writes.
#[test]
fn links_cannot_steer() {
    let host = host!();
    if in_vm() {
        skip!(host, "hundreds of starts take too long on emulated processors");
    }
    let out = TempDir::new();
    let canary = out.join("canary");
    fs::create_dir(&canary).expect("mkdir");
    for name in ["hostname", "hosts", "resolv.conf", "null", "secret"] {
        fs::write(canary.join(name), "secret\n").expect("write");
    }
    let canary = canary.to_str().expect("UTF-8");
    let before = fingerprint(canary);
    let of_host = || {
        let files = "/etc/hostname /etc/hosts /etc/resolv.conf /dev/null /dev/console";
        host.sh(&format!("stat -c '%n %a %u' /etc /dev {files}; cat /etc/ho*; ls -d /etc/x /dev/x"))
            .out
    };
    let host_before = of_host();
    let file = format!("{canary}/secret");
    let deep = format!("../../../../../../../..{canary}");
    let targets =
        ["/etc", "../../..", "/proc/1/root/etc", canary, &deep, &file, "/proc/self/fd/3", "loop"];
    let places = [
        "proc",
        "sys",
        "dev",
        "etc",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "dev/null",
        "dev/pts",
        "dev/shm",
        "dev/console",
        "data",
        "work",
    ];
    let root = fresh_rootfs();
    let volume = format!("{}:/data:ro", rootfs());
    for place in places {
        for target in targets {
            let script = "cd $0; rm -rf proc sys dev data work etc; mkdir -p etc $(dirname $1)
                rmdir $1 2>/dev/null; ln -s $2 $1";
            common::run(host.command("sh").args(["-c", script, root.path(), place, target])).ok();
            for mode in [&[][..], &["--writable"]] {
                let args =
                    [&["run", "-w", "/work/x", "-v", &volume], mode, &[root.path(), "sh", "-c"]]
                        .concat();
                let script = format!(
                    "cat /{place} /{place}/secret /proc/1/root/{file}; touch /{place}/x
                    echo x > /{place}; chmod 7 /{place}; exit 3"
                );
                let run = host.husk(&[&args[..], &[&script]].concat());
                assert!(
                    !run.out.contains("secret"),
                    "{place} -> {target}, {mode:?} shows the host's file: {run}"
                );
                assert!(
                    run.code == 3 || (run.code == 125 && run.err.starts_with("husk: ")),
                    "{place} -> {target}: {run}"
                );
                assert_eq!(
                    fingerprint(canary),
                    before,
                    "{place} -> {target}, {mode:?} changed the host's files"
                );
            }
        }
    }
    assert_eq!(of_host(), host_before, "the host's /etc or /dev");
}

/// A neighbour who shares the root file system swaps directories for links while husk mounts.
#[test]
fn swapped_links_cannot_steer() {
    let host = host!();
    let out = TempDir::new();
    fs::write(out.join("hostname"), "secret\n").expect("write");
    let before = fingerprint(out.path());
    let root = fresh_rootfs();
    let places = ["proc", "dev", "sys", "etc", "work"];
    for place in places {
        fs::create_dir_all(root.join(place)).expect("mkdir");
        symlink(out.path(), root.join(format!("{place}.link"))).expect("ln -s");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for place in places {
                    let (a, b) = (root.join(place), root.join(format!("{place}.link")));
                    let exchange = RenameFlags::RENAME_EXCHANGE;
                    renameat2(AT_FDCWD, &a, AT_FDCWD, &b, exchange).expect("swap");
                }
                std::thread::yield_now();
            }
        });
        for _ in 0..if in_vm() { 10 } else { 60 } {
            let run = host.husk(&[
                "run",
                "--network",
                "none",
                "--writable",
                "-w",
                "/work",
                root.path(),
                "cat",
                "/etc/hostname",
                "/dev/hostname",
                "/proc/hostname",
            ]);
            if run.out.contains("secret") || !(run.code <= 1 || run.err.starts_with("husk: ")) {
                stop.store(true, Ordering::Relaxed);
                panic!("{run}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fingerprint(out.path()), before, "the host's files were changed");
}
