//! The same commands without root: what works, what can't, and what husk says then.

mod common;
#[path = "common/debian.rs"]
mod debian;

use common::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const UID: u32 = 1000;

/// A user with a husk and a root file system in a directory of their own.
struct User<'a> {
    host: &'a Host,
    dir: TempDir,
    root: TempDir,
    /// The cgroup that they start in.
    cgroup: &'static str,
}

impl<'a> User<'a> {
    fn new(host: &'a Host) -> User<'a> {
        let dir = husk_for_all();
        chown(dir.path(), Some(UID), Some(UID)).expect("chown");
        User { host, dir, root: rootfs_of(UID), cgroup: "test" }
    }

    /// One to whom a cgroup is delegated, as systemd does it.
    fn with_cgroup(host: &'a Host) -> User<'a> {
        for controller in ["+cpu", "+memory", "+pids"] {
            let _ = fs::write(host.cgroup.join("cgroup.subtree_control"), controller);
        }
        for dir in ["user", "user/session"] {
            let dir = host.cgroup.join(dir);
            fs::create_dir(&dir).expect("mkdir");
            for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
                chown(dir.join(file), Some(UID), Some(UID)).expect("chown");
            }
        }
        User { cgroup: "user/session", ..User::new(host) }
    }

    /// Where their containers are.
    fn containers(&self) -> PathBuf {
        self.host.cgroup.join("user/husk")
    }

    fn start(&self, command: &mut Command) -> Running {
        start(as_user(command, UID))
    }

    fn husk_command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command_in(self.cgroup, self.dir.join("husk"));
        command.args(args);
        command
    }

    fn husk(&self, args: &[&str]) -> Run {
        self.start(&mut self.husk_command(args)).wait()
    }

    fn inside(&self, options: &[&str], script: &str) -> Run {
        self.husk(&[&["run"], options, &[self.root.path(), "sh", "-c", script]].concat())
    }

    /// A root's script on this host; to run as the user is up to it.
    fn sh(&self, script: &str) -> Run {
        let mut command = self.host.command("sh");
        command.args(["-c", script, "sh"]).env("H", self.dir.join("husk"));
        command.env("R", self.root.path()).env("D", self.dir.path());
        command.env("AS_USER", "setpriv --reuid 1000 --regid 1000 --clear-groups");
        run(&mut command)
    }
}

// -------------------------------------------------------------------------------------- what works

#[test]
fn a_shell() {
    let host = host!();
    let user = User::new(&host);
    let script = "id -u; id -g; echo $$; echo $HOME; whoami; cat /proc/self/uid_map \
        /proc/self/gid_map /proc/self/setgroups | tr -s ' '; touch /x; stat -c %u /x";
    let out = user.inside(&[], script).ok();
    assert_eq!(out, "0\n0\n1\n/root\nroot\n 0 1000 1\n 0 1000 1\ndeny\n0");
}

/// The whole walk, as for root: its own namespaces, its mounts, its lock-down.
#[test]
fn the_same_walk() {
    let host = host!();
    let user = User::new(&host);
    let status = "cat /proc/self/status";
    let rootless = user.inside(&[], status).ok();
    let by_root = host.inside(&["--network", "none"], status).ok();
    for key in ["NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = |text: &str| text.lines().find(|line| line.starts_with(key)).map(String::from);
        assert_eq!(line(&rootless), line(&by_root));
    }
    // As for root, but for what one id can't have: a group for terminals.
    let mounts = "sort /proc/mounts | cut -d' ' -f 1-4 | grep -v ' / '";
    let plain = |text: String| {
        let words = text.replace(",gid=5", "").replace(",inode64", "");
        let words: Vec<_> = words.split_whitespace().map(String::from).collect();
        let is_option = |word: &String| !word.contains("uid=1000");
        words
            .into_iter()
            .map(|word| {
                let options: Vec<_> = word.split(',').map(String::from).collect();
                options.into_iter().filter(is_option).filter(|o| o != "gid=1000").collect()
            })
            .map(|options: Vec<String>| options.join(","))
            .collect::<Vec<_>>()
    };
    let (rootless, by_root) =
        (user.inside(&[], mounts).ok(), host.inside(&["--network", "none"], mounts).ok());
    assert_eq!(plain(rootless), plain(by_root));
    let script = "for n in user pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done";
    let inside = user.inside(&[], script).ok();
    let outside = host.sh(script).ok();
    for (inside, outside) in inside.lines().zip(outside.lines()) {
        assert_ne!(inside, outside);
    }
}

/// As git does it: a tree of files made, renamed, linked and removed.
#[test]
fn a_tree_of_files() {
    let host = host!();
    let user = User::new(&host);
    let before = fingerprint(user.root.path());
    let script = r#"set -e
        mkdir -p /repo/.git/objects /repo/.git/refs
        cd /repo
        for i in 1 2 3 4 5 6 7 8 9; do
            mkdir -p .git/objects/0$i
            echo $i >.git/objects/0$i/tmp
            chmod 444 .git/objects/0$i/tmp
            ln .git/objects/0$i/tmp .git/objects/0$i/object
            rm -f .git/objects/0$i/tmp
        done
        echo lock >.git/index.lock; mv .git/index.lock .git/index
        ln -s .git/index link; [ "$(cat link)" = lock ]
        mv .git/refs .git/refs2; mv .git/refs2 .git/refs
        [ "$(find . -name object | wc -l)" = 9 ]
        rm -r .git; rm link; cd /; rmdir /repo
        # What came with ROOTFS.
        echo more >>/etc/passwd; mv /etc/passwd /etc/passwd-; mv /etc/passwd- /etc/passwd
        chmod 700 /var/log; touch -d '2001-01-01 00:00:00' /etc/group
        echo done"#;
    assert_eq!(user.inside(&[], script).ok(), "done");
    assert_eq!(fingerprint(user.root.path()), before);
}

/// Directories that came with ROOTFS are removed, renamed and made again.
#[test]
fn directories_of_rootfs() {
    let host = host!();
    let user = User::new(&host);
    let before = fingerprint(user.root.path());
    let script = "set -e; rm -r /var; [ ! -e /var ]; mkdir /var; [ -z \"$(ls /var)\" ]
        rm -r /home /opt /srv /mnt; mv /usr /usr2; mv /usr2 /usr; echo done";
    let run = user.inside(&[], script);
    if run.err.contains("Input/output error") && kernel() < (6, 6) {
        skip!(host, "an overlay whose changes are on tmpfs needs Linux 6.6 for this");
    }
    assert_eq!(run.ok(), "done");
    assert_eq!(fingerprint(user.root.path()), before);
}

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    let mut numbers = release.split('.').map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// --writable and volumes change files of the user's, and as the user.
#[test]
fn files_of_the_user() {
    let host = host!();
    let user = User::new(&host);
    let volume = TempDir::new();
    chown(volume.path(), Some(UID), Some(UID)).expect("chown");
    let (rw, ro) = (format!("{}:/data", volume.path()), format!("{}:/same:ro", volume.path()));
    let script = "echo 1 >/data/file; echo 2 >/root-file; rm -r /opt; echo 3 >/same/file";
    let run = user.inside(&["--writable", "-v", &rw, "-v", &ro], script);
    assert!(run.err.contains("Read-only file system"), "{run}");
    for file in [volume.join("file"), user.root.join("root-file")] {
        let meta = fs::metadata(&file).expect("stat");
        assert_eq!((meta.uid(), meta.gid(), meta.len()), (UID, UID, 2), "{}", file.display());
    }
    assert!(!user.root.join("opt").exists());
    let run = user.inside(&["--read-only"], "echo >/file");
    assert!(run.err.contains("Read-only file system"), "{run}");
}

#[test]
fn python() {
    let host = host!();
    let user = User::new(&host);
    let root = match debian::debian_of(UID) {
        Ok(root) => root,
        Err(reason) => skip!(host, "{reason}"),
    };
    // By a path that this user can get to, wherever it is.
    let script = format!(
        r#"mkdir $D/debian; exec unshare -m sh -c 'mount --bind "{root}" $D/debian
        exec $AS_USER $H run $D/debian python3 -c "
import os, subprocess, threading, multiprocessing, sys, tempfile
lock = multiprocessing.Lock()
t = threading.Thread(target=lambda: print(subprocess.run([\"id\", \"-u\"], capture_output=True)))
t.start(); t.join()
with tempfile.TemporaryDirectory() as d: open(d + \"/x\", \"w\").write(\"x\")
print(os.getuid(), sys.version_info[0])"'"#
    );
    let out = user.sh(&script).ok();
    assert_eq!(
        out,
        "CompletedProcess(args=['id', '-u'], returncode=0, stdout=b'0\\n', stderr=b'')\n0 3"
    );
}

#[test]
fn network() {
    let host = host!();
    let user = User::new(&host);
    host.sh("ip link add test0 type veth peer name test1 && ip addr add 10.1.2.3/24 dev test0")
        .ok();
    let links = "ip -o link | cut -d: -f2 | cut -d@ -f1 | tr -d ' '";
    assert_eq!(user.inside(&[], links).ok(), "lo");
    assert_eq!(user.inside(&["--network", "none"], links).ok(), "lo");
    assert_eq!(user.inside(&[], "ping -c 1 127.0.0.1 | grep -c ' 0% packet loss'").ok(), "1");
    let all = user.inside(&["--network", "host"], links).ok();
    assert!(all.contains("test0"), "{all}");
    for options in [&["--network", "bridge"][..], &["--network=bridge"]] {
        user.inside(options, "true").refused(125, &["--network bridge", "needs root"]);
    }
    user.inside(&["-p", "8080:80"], "true").refused(125, &["--publish", "root"]);
    let hosts = user.inside(&["--add-host", "db:192.0.2.9"], "cat /etc/hosts").ok();
    assert!(hosts.contains("192.0.2.9\tdb\n"), "{hosts}");
    host.sh("ip link del test0").ok();
}

// ----------------------------------------------------------------------------------------- cgroups

#[test]
fn without_a_cgroup() {
    let host = host!();
    let user = User::new(&host);
    let advice = ["systemd-run --user --scope -p Delegate=yes"];
    for options in [&["-m", "64m"][..], &["--cpus", "1"], &["--pids-limit", "9"], &["-d"]] {
        user.inside(options, "true").refused(125, &advice);
    }
    user.husk(&["ps"]).refused(125, &advice);
    user.husk(&["stop", "x"]).refused(125, &advice);
    user.husk(&["exec", "x", "true"]).refused(125, &advice);
    // Names are kept by cgroups: without one, two may have the same.
    assert_eq!(user.inside(&["--name", "x"], "hostname").ok(), "x");
}

#[test]
fn with_a_cgroup() {
    let host = host!();
    let user = User::with_cgroup(&host);
    let root = user.root.path();
    let run = user.husk(&["run", "-d", "--name", "one", root, "sh", "-c", "sleep 1000 & wait"]);
    assert_eq!(run.ok(), "one");
    let mut two = user.start(&mut user.husk_command(&[
        "run",
        "--name",
        "two",
        root,
        "sh",
        "-c",
        "cat /proc/self/cgroup; echo ready; sleep 1000 & wait",
    ]));
    two.says("ready");
    assert!(two.out().contains("0::/\n"), "{}", two.out());
    for name in ["one", "two"] {
        assert!(user.containers().join(name).is_dir(), "{name}");
    }
    let ps = user.husk(&["ps"]).ok();
    assert!(ps.contains("one  ") && ps.contains("two  ") && ps.lines().count() == 3, "{ps}");

    let exec = user.husk(&["exec", "-e", "A=b", "one", "sh", "-c",
        "echo $A; hostname; id -u; ps -o comm | grep -cx sleep; grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status"]);
    assert_eq!(
        exec.ok(),
        "b\none\n0\n1\nCapEff:\t00000000a00425fb\nNoNewPrivs:\t1\nSeccomp:\t2"
            .replace("a00425fb", &capabilities(&user))
    );
    assert_eq!(user.husk(&["exec", "two", "sh", "-c", "exit 7"]).code, 7);

    let ended = user.husk(&["stop", "-t", "0", "one", "two"]);
    assert!(ended.code == 0, "{ended}");
    assert_eq!(two.wait().code, 137);
    assert_eq!(user.husk(&["ps"]).ok().lines().count(), 1);
    assert!(!user.containers().join("one").exists() && !user.containers().join("two").exists());
}

/// The low half of CapEff of a container's first process.
fn capabilities(user: &User) -> String {
    let status = user.inside(&[], "cat /proc/self/status").ok();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:\t00000000"));
    line.expect("CapEff").to_string()
}

/// `systemd-run --scope` puts husk itself into the cgroup, which then can't give controllers on.
#[test]
fn limits_where_a_cgroup_is_delegated() {
    let host = host!();
    if !host.has_controller("pids") || !host.has_controller("memory") {
        skip!(host, "no pids and memory controllers here");
    }
    let mut user = User::with_cgroup(&host);
    user.cgroup = "user";
    let options = ["--pids-limit", "20", "-m", "64m", "--cpus", "0.5", "--name", "limited"];
    let root = user.root.path();
    let args =
        [&["run"], &options[..], &[root, "sh", "-c", "echo ready; sleep 1000 & wait"]].concat();
    let mut running = user.start(&mut user.husk_command(&args));
    running.says("ready");
    let file = |name| fs::read_to_string(user.containers().join("limited").join(name)).expect(name);
    assert_eq!(file("pids.max"), "20\n");
    assert_eq!(file("memory.max"), "67108864\n");
    assert_eq!(file("cpu.max"), "50000 100000\n");
    user.cgroup = "user/session";
    assert!(user.husk(&["stop", "-t", "0", "limited"]).code == 0);
    assert_eq!(running.wait().code, 137);
    let bomb = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo survived";
    let run = user.inside(&["--pids-limit", "5"], bomb);
    assert!(!run.out.contains("survived") && run.err.contains("can't fork"), "{run}");
}

/// A foreground container whose husk is killed dies with it, and nothing is left.
#[test]
fn dies_with_husk() {
    let host = host!();
    for user in [User::new(&host), User::with_cgroup(&host)] {
        let args =
            ["run", "--name", "x", user.root.path(), "sh", "-c", "echo ready; sleep 1000 & wait"];
        let mut running = user.start(&mut user.husk_command(&args));
        running.says("ready");
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait();
        let start = Instant::now();
        until("the end of the container", || host.processes().is_empty());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        user.husk(&["ps"]);
        assert!(!user.containers().join("x").exists());
    }
}

// -------------------------------------------------------------------------------------- what can't

/// With one id, what belongs to others stays theirs: in the kernel's own words.
#[test]
fn one_id() {
    let host = host!();
    let user = User::new(&host);
    chown(user.root.join("etc/group"), Some(0), Some(0)).expect("chown");
    let private = user.root.join("etc/private");
    fs::write(&private, "root's").expect("write");
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("chmod");
    for (script, words) in [
        ("chown 1 /etc/passwd", "Invalid argument"),
        ("su nobody -c true", "can't set groups"),
        ("chmod 600 /etc/group", "not permitted"),
        ("echo >>/etc/group", "Permission denied"),
        ("cat /etc/private", "Permission denied"),
        ("mknod /x c 1 3", "not permitted"),
        ("hostname other", "not permitted"),
    ] {
        let run = user.inside(&[], script);
        assert!(run.code != 0 && run.err.contains(words), "expected {words:?}: {run}");
    }
    user.inside(&["-u", "1"], "true").refused(125, &["one user and one group"]);
}

/// What is not the user's can't be a ROOTFS, unless everybody may read it: and then it works.
#[test]
fn rootfs_of_another() {
    let host = host!();
    let user = User::new(&host);
    let shared = fresh_rootfs();
    assert_eq!(user.husk(&["run", shared.path(), "sh", "-c", "echo 1 >/x; cat /x"]).ok(), "1");
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
    user.husk(&["run", shared.path(), "true"]).refused(125, &["ROOTFS", "EACCES"]);
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Where user namespaces are switched off, the error says by which setting. The setting is made in
/// a user namespace, so that it is nobody else's.
#[test]
fn max_user_namespaces() {
    let host = host!();
    let user = User::new(&host);
    let script = r#"
        mkfifo $D/go
        # The second sh is root, and has all rights in there: by then the namespace has its ids.
        unshare -U sh -c 'read go <$D/go; exec sh -c "
            echo 0 >/proc/sys/user/max_user_namespaces
            exec $AS_USER $H run $R true"' &
        until [ "$(readlink /proc/$!/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do
            sleep 0.01
        done
        echo 0 0 65536 >/proc/$!/uid_map
        echo 0 0 65536 >/proc/$!/gid_map
        echo go >$D/go
        wait $!"#;
    user.sh(script).refused(125, &["ENOSPC", "user.max_user_namespaces=0"]);
}

/// Root of a user namespace is not the host's, also where that namespace has all ids.
#[test]
fn namespace_with_all_ids() {
    let host = host!();
    let script = "unshare -U sleep 1000 &
        until [ $(readlink /proc/$!/ns/user) != $(readlink /proc/self/ns/user) ]; do sleep 0.01; done
        echo 0 0 4294967295 >/proc/$!/uid_map; echo 0 0 4294967295 >/proc/$!/gid_map
        nsenter -U -t $! $HUSK run $R sh -c 'id -u; cat /proc/self/uid_map'; kill $!";
    let out = host.sh(script).ok();
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "0", "0", "1"]);
}

/// The settings are read where ROOTFS can't steer that, and whatever its files are.
#[test]
fn hostile_settings() {
    let host = host!();
    let user = User::new(&host);
    let script = "set -e; rm -r $R/etc; ln -s /dev/pts $R/etc; mkdir -p $R/proc/sys/user
        mkfifo $R/proc/sys/user/max_user_namespaces
        exec timeout 20 $AS_USER $H run $R true";
    user.sh(script).refused(125, &["hostname", "EACCES"]);
    user.sh("rm $R/etc; mkdir $R/etc").ok();
}

/// AppArmor and Debian's old switch can't be had everywhere: the kernel's answer is injected, and
/// the settings are files on a tmpfs.
#[test]
fn other_switches() {
    let host = host!();
    if !have("strace") {
        skip!(host, "no strace here");
    }
    let user = User::new(&host);
    for (file, value, error) in [
        ("apparmor_restrict_unprivileged_userns", "1", "EACCES"),
        ("apparmor_restrict_unprivileged_userns", "1", "EPERM"),
        ("unprivileged_userns_clone", "0", "EPERM"),
    ] {
        let refused = |value: &str| {
            let script = format!(
                r#"unshare -m sh -c 'mount -t tmpfs tmpfs /proc/sys/kernel
                echo {value} >/proc/sys/kernel/{file}
                exec $AS_USER strace -f -o $D/log -e inject=clone3:error={error} $H run $R true'"#
            );
            user.sh(&script)
        };
        refused(value).refused(125, &[error, &format!("kernel.{file}={value}")]);
        // Where it is on, it is not to blame.
        let other = refused(if value == "1" { "0" } else { "1" });
        assert!(other.code == 125 && !other.err.contains(file), "{other}");
    }
}

// -------------------------------------------------------------------------------------------- husk

/// The program that a user's container could get at when somebody enters is a sealed copy in memory.
#[test]
fn sealed_in_memory() {
    let host = host!();
    let user = User::with_cgroup(&host);
    let before = fs::read(user.dir.join("husk")).expect("read");
    user.husk(&["run", "-d", "--name", "one", user.root.path(), "sleep", "1000"]).ok();
    let exec = ["exec", "one", "sh", "-c", "echo ready; sleep 1000 & wait"];
    let mut running = user.start(&mut user.husk_command(&exec));
    running.says("ready");
    let exe = format!("/proc/{}/exe", running.pid());
    let link = fs::read_link(&exe).expect("readlink");
    assert!(link.to_string_lossy().starts_with("/memfd:"), "{}", link.display());
    let script = format!(
        "for how in '>' '>>' '1<>'; do $AS_USER sh -c \"echo owned $how {exe}\" && echo WROTE; done"
    );
    let attack = user.sh(&script);
    assert!(!attack.out.contains("WROTE"), "{attack}");
    let copy = fs::read(&exe).expect("read");
    assert!(copy == before && fs::read(user.dir.join("husk")).expect("read") == before);
    user.husk(&["stop", "-t", "0", "one"]);
    running.wait();
}
