//! Which of 0, 1 and 2 is what in a container: each row of docs/terminal.md's table, and that what
//! is copied arrives as it would have without husk in between.

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROMPT: &str = "outer$ ";

fn outer(host: &Host) -> Pty {
    let mut shell = host.command("sh");
    shell.args(["-i"]).env("PS1", PROMPT).env("HUSK", husk()).env("R", rootfs());
    let mut pty = host.pty(shell);
    pty.expect(PROMPT);
    pty
}

/// Where 0, 1 and 2 lead in there, written to a file that the test can see.
const LOOK: &str =
    "sh -c 'exec 3>/seen/it; for n in 0 1 2; do x=$(readlink /proc/$$/fd/$n); echo $x >&3; done'";

/// The table: how husk is called on a terminal, and what 0, 1 and 2 are then.
const ROWS: [(&str, [&str; 3]); 14] = [
    ("$RUN $R $LOOK", ["pts", "pts", "pts"]),
    ("$RUN -i $R $LOOK", ["pts", "pts", "pts"]),
    ("$RUN $R $LOOK 2>$D/log", ["pts", "pts", "pipe"]),
    ("$RUN $R $LOOK 2>/dev/null", ["pts", "pts", "null"]),
    ("$RUN $R $LOOK 2>/dev/tty", ["pts", "pts", "pts"]),
    ("$RUN -t=false $R $LOOK", ["null", "pipe", "pipe"]),
    ("$RUN $R $LOOK | cat", ["null", "pipe", "pipe"]),
    ("$RUN -i $R $LOOK | cat", ["pipe", "pipe", "pipe"]),
    ("$RUN $R $LOOK >$D/log", ["null", "pipe", "pipe"]),
    ("$RUN $R $LOOK >/dev/null 2>&1", ["null", "null", "null"]),
    ("echo hi | $RUN $R $LOOK", ["pipe", "pipe", "pipe"]),
    ("$RUN $R $LOOK <$D/in", ["/in", "pipe", "pipe"]),
    ("$RUN $R $LOOK & wait", ["null", "pipe", "pipe"]),
    ("$RUN -d --log $D/log $R $LOOK; sleep 0.5", ["null", "pipe", "pipe"]),
];

#[test]
fn table() {
    let host = host!();
    let dir = TempDir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
    fs::write(dir.join("in"), "in").expect("write");
    let mut pty = outer(&host);
    pty.line(&format!("D={}; RUN=\"$HUSK run -v $D:/seen\"", dir.path()), PROMPT);
    for (line, expected) in ROWS {
        let _ = fs::remove_file(dir.join("it"));
        let line = line.replace("$LOOK", LOOK);
        pty.line(&format!("{line}; echo done$((6 * 7))"), "done42");
        pty.expect(PROMPT);
        until("the look", || {
            fs::read_to_string(dir.join("it")).is_ok_and(|text| text.lines().count() == 3)
        });
        let seen = fs::read_to_string(dir.join("it")).expect("read");
        for (found, wanted) in seen.lines().zip(expected) {
            let wanted = match wanted {
                "pts" => "/dev/pts/",
                "pipe" => "pipe:[",
                "null" => "/dev/null",
                other => other,
            };
            assert!(found.contains(wanted), "{line}: {seen}");
        }
    }
    pty.send("exit 5\nexit 5\n");
    pty.end();
}

/// Whoever asks for it reads the keyboard, and nobody else.
#[test]
fn keyboard() {
    let host = host!();
    let mut pty = outer(&host);
    // A pager has it for itself, also while what it shows is still being made.
    let pager = "sh -c 'cat >/dev/null & for n in 1 2 3 4; do read x </dev/tty; echo got-$x; done'";
    pty.send(&format!("$HUSK run $R sh -c 'sleep 1; cat' | {pager}\n"));
    std::thread::sleep(Duration::from_millis(300));
    for key in ["a", "b", "c", "d"] {
        pty.line(key, &format!("got-{key}\r\n"));
    }
    pty.expect(PROMPT);
    // With -i it is the container's, and the end of input as well.
    pty.send("$HUSK run -i $R sh -c 'cat; echo end' | sed s/^/out-/\n");
    pty.send("typed\n");
    pty.expect("out-typed\r\n");
    pty.send("\x04");
    pty.expect("out-end\r\n");
    pty.expect(PROMPT);
    pty.send("$HUSK run -it=false $R sh -c 'tty; cat; echo end'\n");
    pty.expect("not a tty");
    pty.line("typed", "typed\r\ntyped\r\n");
    pty.send("\x04");
    pty.expect("end\r\n");
    pty.expect(PROMPT);
    pty.send("exit 5\n");
    pty.end();
}

/// What a container does to 1 and 2 does not reach the file that they lead to.
#[test]
fn files_of_the_caller() {
    let host = host!();
    let dir = TempDir::new();
    let out = dir.join("out");
    let by = |command: &str| {
        fs::write(&out, "old\n").expect("write");
        fs::set_permissions(&out, fs::Permissions::from_mode(0o644)).expect("chmod");
        let mut shell = host.sh_command(command);
        let run = run(shell.env("OUT", &out).env("R", rootfs()));
        let meta = fs::metadata(&out).expect("stat");
        (run, meta.mode() & 0o7777, meta.uid(), fs::read_to_string(&out).expect("read"))
    };
    let script = "chmod 4755 /proc/self/fd/1; chown 7 /proc/self/fd/1; echo new; : >/dev/stdout";
    let (run, mode, uid, text) = by(&format!("$HUSK run $R sh -c '{script}' >$OUT"));
    assert_eq!((mode, uid, text.as_str()), (0o644, 0, "new\n"), "{run}");
    let (run, mode, uid, text) = by(&format!("$HUSK run $R sh -c '{script}' >>$OUT"));
    assert_eq!((mode, uid, text.as_str()), (0o644, 0, "old\nnew\n"), "{run}");
    let script = "chmod 4755 /proc/self/fd/2; echo new >&2";
    let (run, mode, _, text) = by(&format!("$HUSK run $R sh -c '{script}' 2>$OUT"));
    assert_eq!((mode, text.as_str()), (0o644, "new\n"), "{run}");
    host.husk(&["run", "-d", "--name=x", rootfs(), "sleep", "1000"]).ok();
    let script = "chmod 4755 /proc/self/fd/1; echo new";
    let (run, mode, _, text) = by(&format!("$HUSK exec x sh -c '{script}' >$OUT # $R"));
    assert_eq!((mode, text.as_str()), (0o644, "new\n"), "{run}");
    host.husk(&["stop", "-t0", "x"]).ok();
    let (run, mode, _, text) =
        by("$HUSK run -d --log $OUT $R sh -c 'chmod 4755 /proc/self/fd/1; echo new'; sleep 1");
    assert_eq!((mode, text.as_str()), (0o644, "old\nnew\n"), "{run}");
}

/// Programs that open /dev/stdout by that name, as nginx does.
#[test]
fn opened_by_name() {
    let host = host!();
    let script = "echo out >/dev/stdout; echo err >/dev/stderr; echo again >/proc/self/fd/1";
    for user in ["0", "1000", "1000:1000"] {
        let run = host.inside(&["-u", user], script);
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "out\nagain\n", "err\n"));
        let args = ["run", "-u", user, rootfs(), "sh", "-c", script];
        let text = host.sh(&format!("$HUSK {} | cat", quoted(&args[..4], script)));
        assert_eq!(text.out, "out\nagain\n", "{text}");
        // A socket, as systemd's journal has it.
        let (mut ours, theirs) = UnixStream::pair().expect("socketpair");
        let mut command = host.husk_command(&args);
        command.stdin(Stdio::null()).stdout(std::os::fd::OwnedFd::from(theirs));
        let status = command.stderr(Stdio::null()).status().expect("husk");
        drop(command);
        let mut text = String::new();
        ours.read_to_string(&mut text).expect("read");
        assert!(status.success() && text == "out\nagain\n", "{status} {text}");
    }
}

fn quoted(words: &[&str], script: &str) -> String {
    format!("{} sh -c '{script}'", words.join(" "))
}

/// All of it, in order for each; and for both together where both lead to the same.
#[test]
fn all_that_was_written() {
    let host = host!();
    let dir = TempDir::new();
    let file = dir.join("file");
    let sh = |script: &str| run(host.sh_command(script).env("F", &file).env("R", rootfs()));
    let many = "$HUSK run $R seq 1000000";
    let sum = sh("seq 1000000 | md5sum").ok();
    for to in [" | md5sum", " >$F; md5sum <$F", " | cat | md5sum"] {
        assert_eq!(sh(&format!("{many}{to}")).ok(), sum, "{to}");
    }
    assert_eq!(sh(&format!(": >$F; {many} >>$F; md5sum <$F")).ok(), sum);
    // A slow reader.
    assert_eq!(sh(&format!("{many} | (sleep 1; cat) | md5sum")).ok(), sum);
    // The end in the middle of it.
    let run = sh("$HUSK run $R sh -c 'seq 100000; kill -9 -1; kill -9 $$; exit 3' | tail -n 1");
    assert_eq!(run.out, "100000\n", "{run}");
    let both = "for n in 1 2 3 4 5 6 7 8; do echo out$n; echo err$n >&2; done";
    let expected = sh(&format!("({both}) 2>&1")).ok();
    assert_eq!(sh(&format!("$HUSK run $R sh -c '{both}' 2>&1")).ok(), expected);
    assert_eq!(sh(&format!("$HUSK run $R sh -c '{both}' >$F 2>&1; cat $F")).ok(), expected);
    assert_eq!(
        sh(&format!("rm $F; $HUSK run -d --log $F $R sh -c '{both}' >&2; sleep 1; cat $F")).out,
        expected + "\n"
    );
    let run = sh("$HUSK run $R sh -c 'echo out; echo err >&2' >$F; cat $F");
    assert!(run.out == "out\n" && run.err == "err\n", "{run}");
}

/// A reader that goes is told to the writer, and the writer's end to the reader.
#[test]
fn broken_pipes() {
    let host = host!();
    let run = host.sh("{ $HUSK run $R yes; echo status=$? >&2; } | head -n1");
    assert!(run.out == "y\n" && run.err.ends_with("status=1\n"), "{run}"); // PID 1 gets EPIPE
    let run = host.sh("{ $HUSK run $R sh -c 'yes; echo $? >&2'; } | head -n1");
    assert!(run.out == "y\n" && run.err == "141\n", "{run}");
    // Also where nothing is being written when the reader goes.
    let script = "sleep 1; echo late; echo late; echo survived >&2";
    let run = host.sh(&format!("$HUSK run $R sh -c '{script}' | true"));
    assert!(!run.err.contains("survived") || run.err.contains("Broken pipe"), "{run}");
    let mut reader = host.sh_command("exec $HUSK run $R sh -c 'echo first; exec >&-; sleep 1000'");
    let mut child = reader
        .env("R", rootfs())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut text = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("read");
    assert_eq!(text, "first\n", "and its end, while the container goes on");
    host.kill_inits();
    child.wait().expect("wait");
    // What can't be written is told at the end.
    let run = host.sh("$HUSK run $R sh -c 'yes | head -n 1000; exit 0' >/dev/full");
    run.refused(125, &["ENOSPC"]);
}

/// Whoever reads slowly, or has gone, keeps husk waiting, which takes no time; and the container's end
/// is one for all others.
#[test]
fn slow_readers() {
    let host = host!();
    let seq = "sh -c 'seq 20000; exit 7'"; // more than one pipe holds, less than two
    for command in [seq, "sh -c 'seq 20000; exec >&-; sleep 1000'"] {
        let mut shell = host.sh_command(&format!("exec $HUSK run --name x $R {command}"));
        shell.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = shell.spawn().expect("husk");
        let mut pipe = child.stdout.take().expect("a pipe");
        std::thread::sleep(Duration::from_secs(1));
        assert_waits(child.id() as i32);
        if command == seq {
            assert!(host.inits().is_empty());
            host.husk(&["run", "--name", "x", rootfs(), "true"]).ok();
        }
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("read");
        assert!(text.ends_with("\n20000\n") && text.lines().count() == 20000, "{command}");
        host.kill_inits();
        let status = child.wait().expect("wait");
        assert_eq!(status.code(), Some(if command == seq { 7 } else { 137 }));
    }
    let (ours, theirs) = UnixStream::pair().expect("socketpair");
    let mut command = host.husk_command(&["run", rootfs(), "sh", "-c", "echo; sleep 1000"]);
    command.stdin(Stdio::null()).stdout(std::os::fd::OwnedFd::from(theirs));
    let mut child = command.spawn().expect("husk");
    drop(command);
    (&ours).read_exact(&mut [0]).expect("read");
    drop(ours);
    std::thread::sleep(Duration::from_millis(500));
    assert_waits(child.id() as i32);
    host.kill_inits();
    child.wait().expect("wait");
}

/// 0 is the caller's own, so that what a container does not read is left for others.
#[test]
fn rest_of_the_input() {
    let host = host!();
    let script = "printf '1\\n2\\n3\\n' | while read x; do $HUSK run $R echo $x; done";
    assert_eq!(host.sh(script).ok(), "1\n2\n3");
    let script = "printf '1\\n2\\n' | { $HUSK run $R sh -c 'read x; echo a$x'; cat; }";
    assert_eq!(host.sh(script).ok(), "a1\n2");
    assert_eq!(host.sh("echo hi | $HUSK run $R cat").ok(), "hi");
    assert_eq!(host.sh("echo hi | $HUSK run $R cat | $HUSK run $R sed s/h/H/").ok(), "Hi");
}

/// Whoever an exec leaves behind keeps nobody waiting, and neither does a detached container.
#[test]
fn left_behind() {
    let host = host!();
    let start = Instant::now();
    let script = r#"ID=$($HUSK run -d $R sh -c 'echo noise; exec sleep 1000' 2>&1 | cat)
        x=$($HUSK exec $ID sh -c 'sleep 1000 & echo left' 2>&1); echo $x
        for n in 0 1 2; do readlink /proc/$($HUSK ps | awk 'NR == 2 { print $2 }')/fd/$n; done
        $HUSK stop -t0 $ID"#;
    let null = "/dev/null\n/dev/null\n/dev/null";
    assert_eq!(host.sh(script).ok(), format!("left\n{null}"));
    assert!(start.elapsed() < Duration::from_secs(100), "{:?}", start.elapsed());
    // A log's husk has nothing of the caller's open either.
    let dir = TempDir::new();
    let log = dir.join("log");
    let script = r#"ID=$( (exec 9>&1; $HUSK run -d --log $LOG $R sh -c 'echo a; echo b >&2; sleep 1000') 2>&1)
        sleep 0.5; cat $LOG; $HUSK stop -t0 $ID; echo ${#ID}"#;
    let run = run(host.sh_command(script).env("LOG", &log).env("R", rootfs()));
    assert_eq!(run.ok(), "a\nb\n8");
    host.husk(&["run", "--log", "/x", rootfs(), "true"]).refused(125, &["--log", "--detach"]);
    host.husk(&["run", "-d", "--log", "/dev/null", rootfs(), "true"]).refused(125, &["--log"]);
}

/// Where a container ends at once, and is taken in at once by whoever is its parent then.
#[test]
fn logs_of_short_commands() {
    let host = host!();
    let dir = TempDir::new();
    let script = r#"
import ctypes, os, sys
husk, root, logs = sys.argv[1:]
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
for number in range(100):
    options = ["--network", "none", "--log", f"{logs}/{number}"]
    os.posix_spawn(husk, ["husk", "run", "-d", *options, root, "echo", "hi"], os.environ)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass
"#;
    let mut command = host.command("python3");
    command.args(["-c", script]).arg(husk()).args([rootfs(), dir.path()]);
    assert_eq!(run(&mut command).ok().lines().count(), 100);
    for number in 0..100 {
        let log = fs::read_to_string(dir.join(number.to_string())).expect("a log");
        assert_eq!(log, "hi\n", "log {number}");
    }
}

/// tests/tty.c, which tells of each signal that it gets.
fn tty_program() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tty-streams");
    if have("cc") {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tty.c");
        let mut cc = Command::new("cc");
        run(cc.args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(&program).arg(source)).ok();
    }
    program.exists().then_some(program)
}

#[test]
fn signals_are_passed_on() {
    let host = host!();
    let Some(program) = tty_program() else { skip!(host, "no C compiler here") };
    let volume = format!("{}:/tty:ro", program.display());
    let mut command = host.husk_command(&["run", "-v", &volume, rootfs(), "/tty", "signals"]);
    // A group of its own, with a parent in another one: else nobody could make it go on, and the
    // kernel would not let it stop.
    let mut running = start(command.process_group(0));
    running.says("ready\n");
    let inits = host.inits();
    let [program] = inits[..] else { panic!("{inits:?}") };
    let own = [9, 19, 17, 13, 11, 7, 8, 4, 5, 32, 33];
    for number in (1..=64).filter(|number| !own.contains(number)) {
        // SAFETY: integers only.
        unsafe { libc::kill(running.pid().as_raw(), number) };
        if number == libc::SIGTSTP {
            // husk itself stops then, as the others of its pipeline.
            let pid = running.pid();
            until("husk to stop", || {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
            });
            // SIGCONT would take back one that the program has not had yet: signal(7).
            until("the program to have had it", || {
                let status = fs::read_to_string(format!("/proc/{program}/status"));
                status.unwrap_or_default().contains("ShdPnd:\t0000000000000000")
            });
            kill(pid, Signal::SIGCONT).expect("kill");
        }
        running.says(&format!("got {number}.\n"));
    }
    host.kill_inits();
    assert_eq!(running.wait().code, 137);
}
