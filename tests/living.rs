//! Containers that go on living: detached, entered by exec, listed by ps, ended by stop.

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// Starts a detached container: its id, and what collects its output (as `err()`).
fn detached(mut command: Command) -> (String, Running) {
    let mut running = start(&mut command);
    until("husk run -d to return", || running.child.try_wait().expect("wait").is_some());
    let status = running.child.wait().expect("wait");
    assert!(status.success(), "{status}: {}", running.err());
    (running.out().trim_end().to_string(), running)
}

/// The output goes to the file that is husk's own standard error.
const LOG: &str = "--log=/dev/stderr";

fn detach(host: &Host, options: &[&str], script: &str) -> (String, Running) {
    let script = format!("{script}; sleep 1000 & wait");
    detached(
        host.husk_command(
            &[&["run", "-d", LOG], options, &[rootfs(), "sh", "-c", &script]].concat(),
        ),
    )
}

fn writes(running: &Running, text: &str) {
    until(&format!("{text:?} from a detached container"), || running.err().contains(text));
}

fn stop(host: &Host, name: &str) {
    host.husk(&["stop", "-t", "0", name]).ok();
}

/// The program that a process runs.
fn exe(pid: i32) -> String {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    exe.file_name().unwrap_or_default().to_string_lossy().into()
}

/// PID 1 of a container, as the host numbers it.
fn init(host: &Host, name: &str) -> i32 {
    let inits = host.inits();
    let ours =
        |pid: &&i32| processes_of(&host.cgroup.join("husk").join(name)).contains(&pid.to_string());
    *inits.iter().find(ours).unwrap_or_else(|| panic!("{name} has no PID 1"))
}

/// The processes in a container's cgroup, and in those below it.
fn processes_of(dir: &Path) -> Vec<String> {
    let mut all: Vec<_> = fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .map(String::from)
        .collect();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            all.extend(processes_of(&entry.path()));
        }
    }
    all
}

/// `husk ps` without its header, cut where the header's words begin.
fn table(text: &str) -> Vec<Vec<String>> {
    let header = text.lines().next().expect("a header");
    let starts: Vec<usize> = (0..header.len())
        .filter(|&i| !header[i..].starts_with(' ') && (i == 0 || header[..i].ends_with(' ')))
        .collect();
    assert_eq!(starts.len(), 8, "eight columns: {header}");
    let row = |line: &str| -> Vec<String> {
        let chars: Vec<char> = line.chars().collect();
        let cell = |i: usize| {
            let end = starts.get(i + 1).map_or(chars.len(), |end| *end);
            assert!(i == 7 || chars[end - 1] == ' ', "column {i} does not fit:\n{text}");
            chars[starts[i]..end].iter().collect::<String>().trim_end().to_string()
        };
        (0..8).map(cell).collect()
    };
    text.lines().skip(1).map(row).collect()
}

fn ps(host: &Host) -> Vec<Vec<String>> {
    table(&host.husk(&["ps"]).ok())
}

/// A container that nobody has been told of would be one that nobody ends.
#[test]
fn unheard_of() {
    let host = host!();
    let script = r#"$HUSK run -d "$R" sleep 1000 >/dev/full"#;
    host.sh(script).refused(125, &["standard output", "ENOSPC"]);
    host.assert_clean();
}

#[test]
fn detached_container() {
    let host = host!();
    let script = "echo out; echo err >&2; cat; echo end of input";
    let (id, output) = detach(&host, &[], script);
    assert!(id.len() == 8 && id.bytes().all(|c| b"0123456789abcdef".contains(&c)), "{id}");
    writes(&output, "out\nerr\nend of input\n");
    assert_eq!(output.out(), format!("{id}\n"), "husk's stdout is for the id alone");

    let pid = init(&host, &id);
    let fd = |n: u32| fs::read_link(format!("/proc/{pid}/fd/{n}")).expect("readlink");
    assert_eq!(fd(0), Path::new("/dev/null"));
    assert_eq!(fd(1), fd(2));
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    // A busybox shell keeps its script open as 10, if it has one.
    let more = fds.flatten().filter(|fd| fd.file_name().len() == 1).count();
    assert_eq!(more, 3, "a descriptor of husk's is left in the container");
    let others: Vec<_> =
        host.processes().into_iter().filter(|pid| exe(*pid) != "busybox").collect();
    assert_eq!(others.len(), 1, "beside the container's own only a husk, for its log");
    let session = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let session = session.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(3));
    assert_eq!(session, Some(pid.to_string().as_str()), "a session of its own");
    stop(&host, &id);
    assert!(host.containers().is_empty());

    let (name, _output) = detach(&host, &["--name=walnut", "-e", "A=1"], "true");
    assert_eq!(name, "walnut");
    host.husk(&["run", "-d", "--name=walnut", rootfs()]).refused(125, &["walnut"]);
    stop(&host, "walnut");
}

#[test]
fn detach_returns_the_id_at_once() {
    let host = host!();
    let script = r#"ID=$($HUSK run -d "$R" sh -c 'echo noise; echo more >&2; sleep 1000' 2>/dev/null)
        [ ${#ID} = 8 ] && $HUSK ps | grep -c "^$ID " && $HUSK stop -t 0 "$ID""#;
    assert_eq!(host.sh(script).ok(), "1");
}

#[test]
fn detach_waits_for_the_command() {
    let host = host!();
    for _ in 0..20 {
        let (id, _output) = detached(host.husk_command(&["run", "-d", rootfs(), "sleep", "1000"]));
        assert_eq!(exe(init(&host, &id)), "busybox", "husk returned before exec");
        stop(&host, &id);
    }
    host.husk(&["run", "-d", rootfs(), "nonesuch"]).refused(127, &["nonesuch"]);
    host.husk(&["run", "-d", rootfs(), "/etc/passwd"]).refused(126, &["/etc/passwd"]);
    host.husk(&["run", "-d", "/nonesuch", "true"]).refused(125, &["/nonesuch"]);
    host.husk(&["run", "-d", "--cgroup=pids.max=x", rootfs(), "true"]).refused(125, &["pids.max"]);
    host.husk(&["run", "-d", "-w", "/etc/passwd", rootfs(), "true"]).refused(125, &["/etc/passwd"]);
    assert_eq!(host.containers(), Vec::<PathBuf>::new(), "a failed start has no need of a sweep");
    host.assert_clean();
}

#[test]
fn detached_container_ends_by_itself() {
    let host = host!();
    for _ in 0..3 {
        let run = host.husk(&["run", "-d", "--name=walnut", rootfs(), "true"]);
        assert!(run.code == 0 && run.out == "walnut\n", "the name is free again: {run}");
        until("true to end", || host.inits().is_empty());
    }
    assert!(ps(&host).is_empty());
    assert!(host.containers().is_empty(), "ps sweeps");
}

#[test]
fn detached_container_outlives_its_terminal() {
    let host = host!();
    let mut shell = host.command("sh");
    shell.arg("-i").env("PS1", "outer$ ").env_remove("ENV");
    let mut pty = host.pty(shell);
    pty.expect("outer$ ");
    let run = format!("{} run -d --name=walnut {} sleep 1000", husk().display(), rootfs());
    let seen = pty.line(&run, "outer$ ");
    assert!(seen.contains("\nwalnut\r\n"), "{seen:?}");
    pty.line("trap '' HUP; kill -HUP 0; trap - HUP", "outer$ ");
    drop(pty); // its leader is killed, so the kernel sends SIGHUP, and every read is EIO
    sleep(Duration::from_millis(100)); // what should not happen can't be waited for
    assert_eq!(ps(&host)[0][0], "walnut");
    assert_eq!(host.husk(&["exec", "walnut", "echo", "alive"]).ok(), "alive");
    stop(&host, "walnut");
}

#[test]
fn ps_lists_what_runs() {
    let host = host!();
    let header = host.husk(&["ps"]).ok();
    assert_eq!(header.lines().count(), 1, "nothing but the header: {header}");

    let long = "x".repeat(63);
    let (_, first) = detach(&host, &["--name=a"], "cat /etc/hosts");
    sleep(Duration::from_millis(50)); // ages are counted in ticks of 10 ms
    let (_, second) = detach(&host, &["--name", &long, "--network=none"], "echo ready");
    sleep(Duration::from_millis(50));
    let odd = "echo 'h\u{fc}lle\t\x1b[31m\n'";
    let third = host.stays(&["--name=c", "--network=host"], odd);
    writes(&first, "10.77.");
    writes(&second, "ready");

    let text = host.husk(&["ps"]).ok();
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\t'), "{text:?}");
    let rows = table(&text);
    let column = |n: usize| rows.iter().map(|row| row[n].as_str()).collect::<Vec<_>>();
    assert_eq!(column(0), ["c", &long, "a"], "the youngest first:\n{text}");
    for row in &rows {
        assert_eq!(row[1], init(&host, &row[0]).to_string(), "the PID of {}:\n{text}", row[0]);
    }
    let address = first.err();
    let address = address.lines().find(|line| line.starts_with("10.77.")).expect("an address");
    assert_eq!(column(2), ["-", "-", address.split('\t').next().expect("address")]);
    for memory in column(3) {
        let digits = memory.trim_end_matches(char::is_alphabetic).parse::<f64>();
        assert_eq!(digits.is_ok(), host.has_controller("memory"), "{text}");
        assert!(digits.is_ok() || memory == "-", "{text}");
    }
    for cpu in column(4) {
        let seconds = cpu.strip_suffix('s').and_then(|text| text.parse::<f64>().ok());
        assert!(seconds.is_some_and(|seconds| seconds < 60.0), "{text}");
    }
    for age in column(5) {
        assert!(age.ends_with(['s', 'm']) && age.len() <= 4, "{text}");
    }
    assert!(rows[2][7].starts_with("sh -c cat /etc/hosts; sleep"), "{text}");
    assert!(rows[0][7].contains("h\u{fc}lle"), "{text}");

    kill(third.pid(), Signal::SIGKILL).expect("kill");
    until("the foreground container to go", || host.inits().len() == 2);
    assert_eq!(ps(&host).len(), 2);
    host.husk(&["stop", "-t0", "a", &long]).ok();
    assert_eq!(host.husk(&["ps"]).ok(), header, "titles alone");
}

/// What systemd does for `Delegate=yes`: a cgroup of the user's own.
fn delegate(host: &Host, uid: u32) {
    let dir = host.cgroup.join("user");
    fs::create_dir_all(dir.join("shell")).expect("mkdir");
    for dir in [&dir, &dir.join("shell")] {
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(dir.join(file), Some(uid), Some(uid)).expect("chown");
        }
    }
}

#[test]
fn rootless_containers_live_too() {
    const UID: u32 = 4242;
    let host = host!();
    let (bin, root) = (husk_for_all(), rootfs_of(UID));
    delegate(&host, UID);
    let command = |args: &[&str]| {
        let mut command = host.command_in("user/shell", bin.join("husk"));
        command.args(args);
        as_user(&mut command, UID);
        command
    };
    let husk = |args: &[&str]| run(&mut command(args));
    assert!(table(&husk(&["ps"]).ok()).is_empty());
    let (id, output) =
        detached(command(&["run", "-d", LOG, root.path(), "sh", "-c", "id -u; sleep 1000 & wait"]));
    writes(&output, "0\n");
    let running = {
        let script = "echo ready; sleep 1000 & wait";
        let mut running =
            start(&mut command(&["run", "--name=fore", root.path(), "sh", "-c", script]));
        running.says("ready\n");
        running
    };
    let rows = table(&husk(&["ps"]).ok());
    let mut names: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
    names.sort();
    let mut expected = [id.as_str(), "fore"];
    expected.sort();
    assert_eq!(names, expected);

    let script = "echo $$ $(id -u) $(grep -c . /proc/self/uid_map); readlink /proc/1/ns/user; \
        readlink /proc/self/ns/user";
    let seen = husk(&["exec", &id, "sh", "-c", script]).ok();
    let lines: Vec<_> = seen.lines().collect();
    assert!(lines[0].ends_with(" 0 1") && lines[1] == lines[2], "{seen}");
    // Root's containers and the user's do not meet.
    assert!(ps(&host).is_empty());
    host.husk(&["exec", &id, "true"]).refused(125, &[&id]);

    running.signal(Signal::SIGKILL);
    until("the foreground container to go", || host.inits().len() == 1);
    husk(&["stop", "-t", "0", &id]).ok();
    husk(&["exec", &id, "true"]).refused(125, &[&id]);
    let left = fs::read_dir(host.cgroup.join("user/husk")).expect("ls").flatten();
    let left: Vec<_> = left.filter(|e| e.path().is_dir()).map(|e| e.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    drop((running, output));
}

#[test]
fn exec_joins_everything() {
    let host = host!();
    let (id, _output) = detach(&host, &["-h", "walnut"], "echo mine > /tmp/file");
    until("the file", || host.husk(&["exec", &id, "test", "-s", "/tmp/file"]).code == 0);
    let script = "for n in pid mnt uts ipc net user cgroup; do
            [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo not its $n; done
        [ / -ef /proc/1/root/ ] || echo not its root
        uname -n; cat /tmp/file; pwd; ps -o comm | grep -c sleep";
    let seen = host.husk(&["exec", &id, "sh", "-c", script]).ok();
    assert_eq!(seen, "walnut\nmine\n/\n1");

    let mut sleeper =
        start(&mut host.husk_command(&["exec", &id, "sh", "-c", "echo in; sleep 1000 & wait"]));
    sleeper.says("in");
    let inside = || processes_of(&host.cgroup.join("husk").join(&id));
    until("a shell and a sleep in the cgroup, twice", || inside().len() == 4);
    sleeper.signal(Signal::SIGTERM);
    assert_eq!(sleeper.wait().code, 143, "signals are passed on");
    stop(&host, &id);
}

#[test]
fn exec_options_and_statuses() {
    let host = host!();
    let options = ["-e", "A=1", "-e", "B=2", "--name=walnut"];
    let (_, _output) = detach(&host, &options, "mkdir -p /srv/a");
    let sh = |options: &[&str], script: &str| {
        host.husk(&[&["exec"], options, &["walnut", "sh", "-c", script]].concat())
    };
    until("the directory", || sh(&[], "test -d /srv/a").code == 0);
    assert_eq!(sh(&["-e", "B=3", "--env=C=4"], "echo $A $B $C $HOSTNAME").ok(), "1 3 4 walnut");
    assert_eq!(sh(&["-w", "/srv/a"], "pwd").ok(), "/srv/a");
    assert_eq!(sh(&["-u", "12:34"], "echo $(id -u) $(id -g) $(id -G)").ok(), "12 34 34");
    assert_eq!(sh(&["-it", "--interactive"], "echo yes").ok(), "yes");
    for code in [0, 7, 125] {
        assert_eq!(sh(&[], &format!("exit {code}")).code, code);
    }
    assert_eq!(sh(&[], "kill -9 $$").code, 137);
    host.husk(&["exec", "walnut", "nonesuch"]).refused(127, &["nonesuch"]);
    host.husk(&["exec", "walnut", "/etc/passwd"]).refused(126, &["/etc/passwd"]);
    host.husk(&["exec", "-e", "PATH=/nowhere", "walnut", "true"]).refused(127, &["true"]);
    let pipe = start_with(&mut host.husk_command(&["exec", "walnut", "cat"]), "through\n").wait();
    assert_eq!(pipe.ok(), "through");
    // What exec leaves running belongs to the container, and ends with it.
    sh(&[], "sleep 1000 > /dev/null 2>&1 &").ok();
    host.husk(&["ps"]).ok();
    let count = sh(&[], "ps -o comm | grep -c sleep").ok();
    assert_eq!(count, "2", "a background process is gone after ps");
    stop(&host, "walnut");

    let path = ["run", "-d", "--name=walnut", "-e", "PATH=/nowhere", rootfs(), "/bin/sleep", "99"];
    let (_, _output) = detached(host.husk_command(&path));
    host.husk(&["exec", "walnut", "true"]).refused(127, &["true"]);
    host.husk(&["exec", "-e", "PATH=/bin", "walnut", "true"]).ok();
    stop(&host, "walnut");
}

/// A container in a user namespace is not entered as the host's root.
#[test]
fn exec_from_outside_of_a_user_namespace() {
    let host = host!();
    host.sh("exec unshare -Ur $HUSK run -d --name x $R sleep 1000 >/dev/null").ok();
    let run = host.husk(&["exec", "x", "cat", "/proc/self/uid_map"]);
    assert!(!run.out.contains("4294967295"), "{run}");
    stop(&host, "x");
}

/// The environment is bytes; and what the caller is to the kernel's OOM killer stays the caller's.
#[test]
fn exec_in_an_odd_environment() {
    let host = host!();
    let run = host.sh("echo 500 >/proc/self/oom_score_adj
        $HUSK run $R cat /proc/self/oom_score_adj
        $HUSK run -d --name x -e A=\"$(printf '\\377')\" $R sleep 1000 >/dev/null
        $HUSK exec x cat /proc/self/oom_score_adj
        $HUSK exec x env | grep -a ^A= | od -An -tx1; $HUSK stop -t0 x");
    assert_eq!(run.ok(), "0\n0\n 41 3d ff 0a");
}

#[test]
fn exec_is_locked_down_as_run() {
    let host = host!();
    let status = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    for options in [
        &[][..],
        &["--cap-drop=ALL"],
        &["--cap-add=SYS_ADMIN", "--cap-drop=CHOWN"],
        &["-u", "1000:1001"],
        &["-u", "1000:1001", "--cap-add=SYS_ADMIN"],
    ] {
        let (id, output) = detach(&host, options, &format!("{status}; echo ready"));
        writes(&output, "ready\n");
        let first = output.err().replace("ready\n", "");
        assert!(first.contains("Seccomp:\t2") && first.contains("NoNewPrivs:\t1"), "{first}");
        let seen = host.husk(&["exec", &id, "sh", "-c", status]).ok();
        assert_eq!(seen, first.trim_end(), "exec beside {options:?}");
        // The filter follows from the capabilities: unshare(2) is refused without SYS_ADMIN.
        let unshare = host.husk(&["exec", "-u", "0", &id, "unshare", "-u", "true"]);
        let may = options.contains(&"--cap-add=SYS_ADMIN");
        assert_eq!(unshare.code == 0, may, "with {options:?}: {unshare}");
        stop(&host, &id);
    }
}

/// Until its exec PID 1 is husk, with the host's files open: nobody is let in.
#[test]
fn exec_waits_until_the_command_runs() {
    let host = host!();
    let slow = "exec strace -f -qq -o /dev/null -e trace=pivot_root \
        -e inject=pivot_root:delay_enter=700000 $HUSK run --name=slow --network=none $R sleep 1000";
    let running = start(&mut host.sh_command(slow));
    until("its directory", || !host.containers().is_empty());
    let exec = host.husk(&["exec", "slow", "sh", "-c", "cat /proc/1/comm; ls /proc/1/fd | wc -w"]);
    assert_eq!(exec.ok(), "sleep\n3");
    host.husk(&["stop", "-t0", "slow"]).ok();
    running.wait();
}

#[test]
fn exec_finds_the_outermost_init() {
    let host = host!();
    let nested = "echo $(readlink /proc/1/ns/pid); unshare -pf sh -c 'echo $$; sleep 1000 & wait' &
        wait $!";
    let (id, output) = detach(&host, &["--cap-add=SYS_ADMIN"], nested);
    writes(&output, "\n1\n");
    for _ in 0..5 {
        let seen = host.husk(&["exec", &id, "readlink", "/proc/self/ns/pid"]).ok();
        assert!(output.err().starts_with(&seen), "{seen} is not {}", output.err());
    }
    assert_eq!(ps(&host).len(), 1);
    stop(&host, &id);
}

#[test]
fn exec_on_a_terminal() {
    let host = host!();
    let (_, _output) = detach(&host, &["--name=walnut"], "true");
    let mut shell = host.command("sh");
    shell.arg("-i").env("PS1", "outer$ ").env("INNER", "inner$ ").env_remove("ENV");
    let mut pty = host.pty(shell);
    pty.expect("outer$ ");
    pty.send(&format!("{} exec -it -e \"PS1=$INNER\" walnut sh\n", husk().display()));
    let greeting = pty.expect("inner$ ");
    assert!(!greeting.contains("job control"), "{greeting}"); // ... "turned off", says busybox
    let size = pty.line("stty size; echo $-", "inner$ ");
    assert!(size.contains("24 80") && size.contains('m'), "{size}");
    pty.send("sleep 1000\n");
    pty.expect("sleep 1000\r\n");
    sleep(Duration::from_millis(50)); // sleep must be the foreground job before ^Z comes
    pty.send("\x1a");
    assert!(pty.expect("inner$ ").contains("Stopped"));
    pty.send("fg\n");
    pty.expect("sleep 1000\r\n");
    sleep(Duration::from_millis(50));
    pty.send("\x03");
    pty.expect("inner$ ");
    pty.send("exit 9\n");
    pty.expect("outer$ ");
    let after = pty.line("echo status=$?; jobs; stty -a | tr ';' '\\n' | grep -c echo", "outer$ ");
    assert!(after.contains("status=9"), "{after}");
    // ^Z of a command without job control of its own does nothing, for nobody would go on with it.
    pty.send(&format!("{} exec walnut sh -c 'echo here; sleep 1000'\n", husk().display()));
    pty.expect("\nhere\r\n");
    sleep(Duration::from_millis(50));
    pty.send("\x1a");
    sleep(Duration::from_millis(50));
    pty.send("\x03");
    pty.expect("outer$ ");
    pty.send("exit 0\n");
    pty.end();
    stop(&host, "walnut");
}

#[test]
fn exec_ends_with_the_container() {
    let host = host!();
    let (id, _output) = detach(&host, &[], "true");
    let mut inside =
        start(&mut host.husk_command(&["exec", &id, "sh", "-c", "echo in; sleep 1000"]));
    inside.says("in");
    stop(&host, &id);
    assert_eq!(inside.wait().code, 137);
}

#[test]
fn exec_dies_with_its_husk() {
    let host = host!();
    let args = ["run", "-d", rootfs(), "sh", "-c", "sleep 1000 & wait"];
    let (id, _output) = detached(host.husk_command(&args));
    until("the container's sleep", || host.processes().len() == 2);
    let before = host.processes();
    for options in [&[][..], &["-u", "1000"]] {
        let script = "echo in; exec sleep 1000";
        let args = [&["exec"], options, &[&id, "sh", "-c", script]].concat();
        let mut inside = start(&mut host.husk_command(&args));
        inside.says("in");
        inside.signal(Signal::SIGKILL);
        until("the command to die with husk", || host.processes().len() == before.len());
        assert_eq!(host.processes(), before, "the container itself is untouched");
    }
    stop(&host, &id);
}

#[test]
fn exec_that_changed_its_user_dies_at_the_next_command() {
    let host = host!();
    let args = ["run", "-d", rootfs(), "sh", "-c", "sleep 1000 & wait"];
    let (id, _output) = detached(host.husk_command(&args));
    until("the container's sleep", || host.processes().len() == 2);
    let before = host.processes();
    let script = "exec su -s /bin/sh nobody -c 'echo in; exec sleep 1000'";
    let mut inside = start(&mut host.husk_command(&["exec", &id, "sh", "-c", script]));
    inside.says("in");
    inside.signal(Signal::SIGKILL);
    assert_eq!(inside.wait().code, -9);
    assert_eq!(ps(&host).len(), 1);
    until("the command to die", || host.processes().len() == before.len());
    assert_eq!(host.processes(), before, "the container itself is untouched");
    stop(&host, &id);
}

/// A start looks at few of the detached containers, but at all that may be a killed husk's.
#[test]
fn orphans_among_many_are_swept_by_a_start() {
    let host = host!();
    let many: Vec<_> = (0..30).map(|_| detach(&host, &["--network=none"], "true")).collect();
    let orphans: Vec<_> = (0..10).map(|n| host.cgroup.join(format!("husk/orphan{n}"))).collect();
    for orphan in &orphans {
        fs::create_dir(orphan).expect("mkdir");
    }
    host.inside(&["--network=none"], "true").ok();
    let left: Vec<_> = orphans.iter().filter(|orphan| orphan.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    let names: Vec<_> = many.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(ps(&host).len(), names.len(), "the containers themselves are untouched");
    host.husk(&[&["stop", "-t", "0"], &names[..]].concat()).ok();
}

#[test]
fn stop_ends_them() {
    let host = host!();
    // PID 1 gets SIGTERM and may leave with grace.
    let grace = host.stays(&["--name=grace"], "trap 'echo bye; exit 3' TERM");
    host.husk(&["stop", "grace"]).ok();
    let run = grace.wait();
    assert!(run.code == 3 && run.out.ends_with("bye\n"), "{run}");

    // One that has no handler for it is killed in the end, with all that it started.
    let stubborn = host.stays(&["--name=stubborn"], "(sleep 1000 &)");
    host.husk(&["stop", "--time=1", "stubborn"]).ok();
    assert!(host.containers().is_empty() && host.inits().is_empty(), "stop returned too early");
    assert_eq!(stubborn.wait().code, 137);

    // Several at once, and what is not there does not save the others.
    let all: Vec<_> = ["n1", "n2", "n3"].map(|n| detach(&host, &["--name", n], "true")).into();
    let run = host.husk(&["stop", "-t", "0", "n1", "nonesuch", "n2", "n", "nor-this"]);
    assert!(run.code == 125 && run.out.is_empty(), "{run}");
    for name in ["nonesuch", "nor-this", "n:"] {
        assert!(run.err.contains(name), "{name}: {run}");
    }
    let left: Vec<_> = ps(&host).into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(left, ["n3"]);
    host.husk(&["stop", "-t0", "n3"]).ok();
    host.husk(&["stop", "n3"]).refused(125, &["n3"]);
    drop(all);

    // A frozen process can't handle SIGTERM, but it can be killed.
    let (id, _output) = detach(&host, &[], "true");
    fs::write(host.cgroup.join("husk").join(&id).join("cgroup.freeze"), "1").expect("freeze");
    host.husk(&["stop", "-t", "0", &id]).ok();
    assert!(host.containers().is_empty());
}

/// Who starts it again at once is not taken for the old one.
#[test]
fn stop_and_start_again() {
    let host = host!();
    let mut running = host.stays(&["--name=again", "--network=none"], "true");
    for _ in 0..20 {
        let stop = start(&mut host.husk_command(&["stop", "-t0", "again"]));
        assert_eq!(running.wait().code, 137);
        running = host.stays(&["--name=again", "--network=none"], "true");
        stop.wait().ok();
        host.husk(&["stop", "-t0", "again"]).ok();
        assert_eq!(running.wait().code, 137);
        assert_eq!(host.inside(&["--name=again", "--network=none"], "echo fine").ok(), "fine");
        running = host.stays(&["--name=again", "--network=none"], "true");
    }
    host.husk(&["stop", "-t0", "again"]).ok();
    running.wait();
}

#[test]
fn stop_without_t_waits_ten_seconds() {
    let host = host!();
    let (id, output) = detach(&host, &[], "trap 'sleep 2; echo saved; exit 0' TERM; echo set");
    writes(&output, "set\n");
    host.husk(&["stop", &id]).ok();
    assert_eq!(output.err(), "set\nsaved\n");
}

/// Of a generated name the beginning is enough. Of a given one it is not: "db" is not "db-evil".
#[test]
fn prefixes() {
    let host = host!();
    let names = ["db-evil", "db", "abcdefgh", "c0ffee1", "10000000"];
    let given: Vec<_> = names.map(|name| detach(&host, &["--name", name], "true")).into();
    let (id, _output) = detach(&host, &[], "true");
    let name_of = |prefix: &str| host.husk(&["exec", prefix, "uname", "-n"]);
    assert_eq!(name_of("db").ok(), "db");
    host.husk(&["stop", "-t0", "db"]).ok();
    for prefix in ["db", "db-", "db-evi", "abc", "c0f", "1000000", ""] {
        name_of(prefix).refused(125, &["no such"]);
        host.husk(&["stop", "-t0", prefix]).refused(125, &["no such"]);
        host.husk(&["kill", prefix]).refused(125, &["no such"]);
    }
    for length in [1, 4, 8] {
        assert_eq!(name_of(&id[..length]).ok(), id);
    }
    name_of(&format!("{id}0")).refused(125, &["no such"]);
    host.husk(&["stop", "-t0", &id[..5], "db-evil", "abcdefgh", "c0ffee1", "10000000"]).ok();
    drop(given);

    // Only 6 letters and their digits can begin one: of seven two begin alike.
    let all: Vec<_> = (0..7).map(|_| detach(&host, &[], "true").0).collect();
    let is_shared = |id: &&String| all.iter().filter(|other| other[..1] == id[..1]).count() > 1;
    let id = all.iter().find(is_shared).expect("two ids that begin alike");
    name_of(&id[..1]).refused(125, &["several"]);
    let mut stop = vec!["stop", "-t0"];
    stop.extend(all.iter().map(String::as_str));
    host.husk(&stop).ok();
}

#[test]
fn names_touch_only_what_is_husks() {
    let host = host!();
    let (_, _output) = detach(&host, &["--name=walnut"], "true");
    // Next to husk's own directory, and in it, but not made by it.
    let outside = host.cgroup.join("outside");
    fs::create_dir(&outside).expect("mkdir");
    let mut sleeper = start(host.command_in("outside", "sleep").arg("1000"));
    fs::create_dir(host.cgroup.join("husk/.hidden")).expect("mkdir");
    let mut hidden = start(host.command_in("husk/.hidden", "sleep").arg("1000"));
    let absolute = cgroup2().join("husk/walnut");
    for name in [
        "",
        ".",
        "..",
        "/",
        "../outside",
        "walnut/",
        "walnut/.",
        "walnut/..",
        "walnut/../../outside",
        "./walnut",
        ".hidden",
        ".h",
        "wal*",
        "walnut\n",
        "cgroup.procs",
        "cgroup",
        absolute.to_str().expect("UTF-8"),
    ] {
        host.husk(&["exec", name, "true"]).refused(125, &[]);
        host.husk(&["stop", "-t", "0", name]).refused(125, &[]);
        assert_eq!(ps(&host).len(), 1, "{name:?} stopped another one");
    }
    for other in [&mut sleeper, &mut hidden] {
        assert!(other.child.try_wait().expect("wait").is_none(), "husk killed what is not its own");
        other.signal(Signal::SIGKILL);
        let _ = other.child.wait();
    }
    stop(&host, "walnut");
    for dir in [outside, host.cgroup.join("husk/.hidden")] {
        fs::remove_dir(&dir).expect("rmdir");
    }
}
