//! In front of a terminal: job control inside, and the caller's own terminal and shell unharmed.

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const OUTER: &str = "outer$ ";
const INNER: &str = "inner$ ";

/// A person's own shell, with job control and husk at hand.
fn outer(host: &Host) -> Pty {
    let mut shell = host.command("sh");
    shell.args(["-i"]).env("PS1", OUTER).env("HUSK", husk()).env("R", rootfs()).env("INNER", INNER);
    let mut pty = host.pty(shell);
    pty.expect(OUTER);
    pty
}

/// That person's first container.
fn inner(pty: &mut Pty) {
    pty.send("$HUSK run -e PS1=\"$INNER\" $R sh\n");
    pty.expect(INNER);
}

#[test]
fn interactive_shell() {
    let host = host!();
    let mut shell = host.husk_command(&["run", "-e", &format!("PS1={INNER}"), rootfs()]);
    shell.env("SECRET", "x");
    let mut pty = host.pty(shell);
    let greeting = pty.expect(INNER);
    assert!(!greeting.contains("job control"), "{greeting}"); // ... "turned off", says busybox
    let tty = pty.line("tty; echo $TERM $-", INNER);
    assert!(tty.contains("/dev/") && tty.contains("vt100"), "{tty}");
    assert!(
        tty.lines().any(|line| line.starts_with("vt100") && line.contains('m')),
        "no job control: {tty}"
    );
    let size = pty.line("stty size; ls -l /dev/console", INNER);
    assert!(size.contains("24 80") && size.contains("/dev/console"), "{size}");
    pty.resize(33, 99);
    pty.line("stty size", "33 99\r\n");
    pty.expect(INNER);
    let tty = pty.line("echo by-name > /dev/tty; echo by-console > /dev/console", INNER);
    assert!(tty.contains("\nby-name") && tty.contains("\nby-console"), "{tty}");
    pty.send("exit 7\n");
    let (text, code) = pty.end();
    assert_eq!(code, 7, "{text}");
}

#[test]
fn end_of_input() {
    let host = host!();
    let mut pty = outer(&host);
    pty.send("$HUSK run $R sh -c 'echo go; cat; exit 6'\n");
    pty.expect("\ngo\r\n");
    pty.line("typed", "typed\r\ntyped\r\n");
    pty.send("\x04");
    pty.expect(OUTER);
    assert!(pty.line("echo status=$?", OUTER).contains("status=6"));
    leave(pty);
}

fn leave(mut pty: Pty) {
    pty.send("exit 5\nexit 5\n"); // the first may only warn of stopped jobs
    let (text, code) = pty.end();
    assert_eq!(code, 5, "the outer shell:\n{text}");
}

#[test]
fn job_control() {
    let host = host!();
    let mut pty = outer(&host);
    inner(&mut pty);
    // ^C ends the inner command only.
    pty.send("sh -c 'echo go; read x'\n");
    pty.expect("\ngo\r\n");
    pty.send("\x03");
    pty.expect(INNER);
    assert!(pty.line("echo status=$?", INNER).contains("status=130"));
    // ^Z stops it, fg goes on with it.
    pty.send("sh -c 'echo go; read x; echo got=$x'\n");
    pty.expect("\ngo\r\n");
    pty.send("\x1a");
    pty.expect(INNER);
    assert!(pty.line("jobs", INNER).contains("Stopped"));
    pty.send("fg\n");
    pty.send("words\n");
    pty.expect("got=words");
    pty.expect(INNER);
    // A background job that reads is stopped; one that only prints is not.
    pty.line("cat & sleep 0.2", INNER);
    until("the background cat is stopped", || pty.line("jobs", INNER).contains("Stopped"));
    pty.line("kill -9 %1; wait", INNER);
    pty.line("(sleep 0.1; echo printed) &", INNER);
    pty.expect("printed\r\n");
    pty.send("\nexit 3\n");
    pty.expect(OUTER);
    assert!(pty.line("echo status=$?", OUTER).contains("status=3"));
    // And the outer shell's job control works as before.
    pty.send("cat\n");
    pty.line("go", "go\r\ngo\r\n");
    pty.send("\x1a");
    pty.expect(OUTER);
    assert!(pty.line("jobs", OUTER).contains("Stopped"));
    pty.line("kill -9 %1; wait", OUTER);
    leave(pty);
}

#[test]
fn interrupt_reaches_pid_1() {
    let host = host!();
    let mut pty = outer(&host);
    for (key, signal) in [("\x03", "INT"), ("\x1c", "QUIT")] {
        let script =
            format!("trap \"echo got-{signal}; exit 9\" {signal}; echo go; sleep 1000 & wait");
        pty.send(&format!("$HUSK run $R sh -c '{script}'\n"));
        pty.expect("go\r\n");
        pty.send(key);
        pty.expect(&format!("got-{signal}"));
        pty.expect(OUTER);
        assert!(pty.line("echo status=$?", OUTER).contains("status=9"));
    }
    leave(pty);
}

#[test]
fn terminal_is_restored() {
    let host = host!();
    let mut pty = outer(&host);
    let before = pty.line("stty -g", OUTER);
    for (script, killed) in [
        ("stty raw -echo; exit 4", false),
        ("stty raw -echo; echo go; sleep 1000", true),
        ("stty raw -echo; setsid -c true; echo go; sleep 1000 & wait", true),
    ] {
        pty.send(&format!("$HUSK run $R sh -c '{script}'\n"));
        if killed {
            pty.expect("\ngo");
            host.kill_inits();
        }
        pty.expect(OUTER);
        assert_eq!(pty.line("stty -g", OUTER), before, "the terminal after `{script}`");
    }
    // A killed husk can restore nothing, but the shell must get its terminal back.
    inner(&mut pty);
    let father = host.sh(&format!("ps -o ppid= -p {}", host.inits()[0])).ok();
    kill(Pid::from_raw(father.trim().parse().expect("a pid")), Signal::SIGKILL).expect("kill");
    pty.expect(OUTER);
    assert!(pty.line("echo status=$?", OUTER).contains("status=137"));
    pty.line("$HUSK ps > /dev/null", OUTER);
    leave(pty);
}

/// husk takes the terminal for its container only where that hurts nobody.
#[test]
fn pipelines() {
    let host = host!();
    let mut pty = outer(&host);
    for (line, answer, printed) in [
        ("$HUSK run $R ls / | grep proc", "", "\nproc\r\n"),
        ("echo data | $HUSK run $R sed s/^/piped-/", "", "\npiped-data\r\n"),
        // A pager reads keys from the terminal while husk still writes, as `less` does.
        (
            "$HUSK run $R seq 100000 | sh -c 'read x </dev/tty; echo key=$x; cat >/dev/null'",
            "q",
            "key=q\r\n",
        ),
        (
            "yes | head -c 1000000 | $HUSK run $R wc -c | sh -c 'read x </dev/tty; cat'",
            "q",
            "\n1000000\r\n",
        ),
        // Input from the terminal, output into a file.
        ("$HUSK run -i $R head -n1 | sed s/^/file-/", "typed", "file-typed\r\n"),
        ("$HUSK run -i $R head -n1 | $HUSK run $R sed s/^/two-/", "typed", "two-typed\r\n"),
        ("x=$($HUSK run -i $R head -n1); echo sub=$x", "typed", "sub=typed\r\n"),
    ] {
        pty.send(&format!("{line}\n"));
        if !answer.is_empty() {
            pty.send(&format!("{answer}\n"));
        }
        pty.expect(printed);
        pty.expect(OUTER);
    }
    // One of a script's commands, and the script goes on to read.
    let script = "$HUSK run $R sh -c \"read x; echo one=\\$x\"; echo next; read y; echo two=$y";
    pty.send(&format!("sh -c '{script}'\na\n"));
    pty.expect("one=a\r\nnext\r\n");
    pty.line("b", "two=b\r\n");
    pty.expect(OUTER);
    leave(pty);
}

#[test]
fn background() {
    let host = host!();
    let mut pty = outer(&host);
    // The prompt may come before or after the background's output: wait for the echo of what is
    // typed, and then for the answer.
    let mut ask = |command: &str, answer: &str| {
        pty.line(command, &format!("{command}\r\n"));
        pty.expect(answer);
    };
    // Who wants to read in there finds nothing, and does not take what the shell gets.
    ask("$HUSK run $R sh -c 'cat; echo at-its-end' &", "at-its-end\r\n");
    ask("wait; echo status=$?", "status=0\r\n");
    ask("$HUSK run $R sh -c 'echo started; sleep 1000' &", "started\r\n");
    ask("printf give:; read x", "give:"); // only now is the shell's line editor out of the way
    ask("words", OUTER); // the shell gets what is typed, not the container
    ask("echo x=$x", "x=words\r\n");
    ask("kill -9 $!; wait; $HUSK ps > /dev/null; echo swept", "swept\r\n");
    ask("$HUSK run $R sh -c 'sleep 0.1; echo later; exit 8' &", "later\r\n");
    ask("wait $!; echo status=$?", "status=8\r\n");
    leave(pty);
}

/// A process group goes across pid namespaces. A container must not have its caller's: `kill 0` is a
/// signal to all of it, which root may send to whom he likes.
#[test]
fn groups() {
    let host = host!();
    host.husk(&["run", "-d", "--name=x", rootfs(), "sleep", "1000"]).ok();
    for (options, signal) in
        [("run --cap-drop ALL $R", "TERM"), ("run $R", "KILL"), ("exec x", "KILL")]
    {
        let script = format!(
            "(sleep 0.3; echo survivor) & $HUSK {options} sh -c 'kill -{signal} 0; sleep 0.1; :'
             echo status=$?; wait; echo end"
        );
        let run = host.sh(&script);
        let out = run.out.trim_end();
        assert!(out.contains("survivor\n") && out.ends_with("\nend"), "{options}: {run}");
    }
    host.husk(&["stop", "-t0", "x"]).ok();
    // The same from a terminal, in a pipeline: there is no other group for husk to give it.
    let mut pty = outer(&host);
    pty.line("$HUSK run -i $R sh -c 'kill -9 0; kill -9 1; echo go; head -n1' | cat", "\ngo\r\n");
    pty.line("typed", "typed\r\ntyped\r\n");
    pty.expect(OUTER);
    // ^C is for all of the container's group, and for the other programs of the pipeline.
    let script = "trap \"echo got >&2; exit 5\" INT; sleep 1000 & echo go >&2; wait";
    pty.send(&format!("$HUSK run $R sh -c '{script}' | cat\n"));
    pty.expect("\ngo");
    pty.send("\x03");
    pty.expect("got");
    pty.expect(OUTER);
    leave(pty);
}

/// Who stays when husk has ended could read what is typed to others.
#[test]
fn detached() {
    let host = host!();
    let mut pty = outer(&host);
    let look = "ls -l /proc/self/fd/2 /dev/console >/tmp/seen 2>&1; sleep 1000";
    pty.line(&format!("$HUSK run -d --name x $R sh -c '{look}'"), OUTER);
    let seen = pty.line("sleep 0.2; $HUSK exec x cat /tmp/seen", OUTER);
    assert!(seen.contains("console: No such file") && !seen.contains("/dev/pts"), "{seen}");
    let ends = pty.line("$HUSK exec x sh -c 'ls -l /proc/1/fd' | grep -c dev/null", OUTER);
    assert!(ends.contains("\n3\r\n"), "{ends}");
    pty.line("$HUSK stop -t0 x", OUTER);
    // In there /dev may be all of ROOTFS, and so /dev/null what that has made of it.
    let root = TempDir::new();
    let root = root.path();
    let script = format!(
        "cp -a $R/. {root}; rm -r {root}/dev; ln -s / {root}/dev; cd {root}; mkdir pts shm mqueue"
    );
    pty.line(&script, OUTER);
    for null in
        ["ln -sf /proc/self/fd/2 null", "ln -sf /proc/self/exe null", "rm null; mkfifo null"]
    {
        pty.line(null, OUTER);
        let run = format!("$HUSK run -d --name x --writable {root} sleep 1000; echo status=$?");
        assert!(pty.line(&run, OUTER).contains("\nstatus=0\r\n"), "{null}");
        let fds = "/proc/$($HUSK ps | awk '$1 == \"x\" { print $2 }')/fd";
        let ends = pty.line(&format!("ls -l {fds}"), OUTER);
        assert!(ends.matches("null\r\n").count() == 3 && !ends.contains("/pts/"), "{null}: {ends}");
        pty.line("$HUSK stop -t0 x", OUTER);
    }
    leave(pty);
}

// ---- what a container can do to its caller's terminal -------------------------------------------

/// tty.c as a static program. None where there is neither a compiler nor an earlier build.
fn tty_program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tty");
        if have("cc") {
            let new = program.with_extension(std::process::id().to_string());
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tty.c");
            let mut cc = Command::new("cc");
            run(cc.args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(&new).arg(source)).ok();
            fs::rename(new, &program).expect("mv tty");
        }
        program.exists().then_some(program)
    };
    PROGRAM.get_or_init(build).as_deref()
}

/// Whatever was done in there, this terminal still shows, hears and obeys.
#[track_caller]
fn assert_works(pty: &mut Pty, what: &str) {
    pty.send("\x11"); // ^Q and ^C: a person's first attempts
    press_until_prompt(pty, "\x03");
    for n in 1..=3 {
        pty.send(&format!("echo {what}$(({n} * 11))\n"));
        pty.expect(&format!("{what}{}\r\n", n * 11));
        pty.expect(OUTER);
    }
    pty.line("sh -c 'echo new >/dev/tty'", "\nnew\r\n");
    pty.expect(OUTER);
    pty.line("sh -c 'echo go; sleep 1000'", "\ngo\r\n");
    press_until_prompt(pty, "\x03");
    pty.line("echo status=$?", "status=130\r\n");
    pty.expect(OUTER);
}

/// The caller's terminal after a container in front of it has tried to make it useless.
#[test]
fn hostile_calls() {
    let host = host!();
    let Some(program) = tty_program() else { skip!(host, "no C compiler here") };
    let volume = format!("-v {}:/tty:ro", program.display());
    let mut pty = outer(&host);
    let before = pty.line("stty -g", OUTER);
    let calls = ["stop", "discipline", "exclusive", "raw", "group"];
    for call in calls {
        pty.send(&format!("$HUSK run {volume} $R /tty {call}\n"));
        pty.expect(OUTER);
        assert_works(&mut pty, call);
    }
    // A command of exec, too, can do that; and what runs beside it.
    pty.line(&format!("$HUSK run -d --name x {volume} $R sleep 1000"), OUTER);
    for call in calls {
        pty.send(&format!("$HUSK exec x /tty {call}\n"));
        pty.expect(OUTER);
        assert_works(&mut pty, call);
    }
    assert_eq!(pty.line("stty -g", OUTER), before, "its settings");
    pty.line("$HUSK stop -t0 x; echo stopped", "stopped\r\n");
    pty.expect(OUTER);
    pty.send("exit 5\n");
    pty.expect("exit 5");
}

/// What is typed is for the shell, and the shell gets all of it.
#[track_caller]
fn assert_heard(pty: &mut Pty, what: &str) {
    for n in 1..=6 {
        pty.send(&format!("echo {what}$(({n} + 40))\n"));
        pty.expect(&format!("{what}{}\r\n", 40 + n));
    }
    pty.expect(OUTER);
}

/// Nobody in there reads what is typed for others.
#[test]
fn thieves() {
    let host = host!();
    let mut pty = outer(&host);
    let thief = "cat <&1 >/dev/null & cat <&2 >/dev/null & echo thief; exec sleep 1000";
    for (what, command) in [
        ("background", format!("$HUSK run $R sh -c '{thief}' &")),
        ("errors", format!("$HUSK run $R sh -c '{thief}' 2>/dev/tty | cat &")),
    ] {
        pty.line(&command, "thief\r\n");
        pty.send("\n");
        pty.expect(OUTER);
        assert_heard(&mut pty, what);
        pty.line("kill -9 %1; wait; $HUSK ps >/dev/null; echo swept", "swept\r\n");
    }
    // What an exec in front of this terminal has left behind.
    pty.line("$HUSK run -d --name x $R sleep 1000; echo started", "started\r\n");
    pty.expect(OUTER);
    let left = "for fd in 0 1 2; do setsid cat <&$fd >/dev/null & done; echo left";
    pty.line(&format!("$HUSK exec x sh -c '{left}'"), "left\r\n");
    pty.expect(OUTER);
    assert_heard(&mut pty, "exec");
    // And what watches for it.
    let watch = "while :; do for f in /proc/[0-9]*/fd/[012]; do case $(readlink $f) in
        /dev/pts/*) cat <$f >/dev/null & ;; esac; done; done 2>/dev/null";
    pty.line(&format!("$HUSK exec x sh -c '{watch}' </dev/null >/dev/null 2>&1 &"), OUTER);
    pty.line("$HUSK exec x sh -c 'sleep 0.5; echo watched'", "\nwatched\r\n");
    pty.expect(OUTER);
    assert_heard(&mut pty, "watched");
    pty.line("$HUSK stop -t0 x; wait; echo stopped", "stopped\r\n");
    leave(pty);
}

/// A key may come too early, as between two commands of a script.
#[track_caller]
fn press_until_prompt(pty: &mut Pty, key: &str) {
    for _ in 0..100 {
        pty.send(key);
        let soon = Instant::now() + Duration::from_secs(1);
        while Instant::now() < soon {
            if pty.sees(OUTER) {
                return drop(pty.expect(OUTER));
            }
        }
    }
    panic!("{key:?} does nothing");
}

/// ^Z for a command that no shell in there would continue.
#[test]
fn suspend_key() {
    let host = host!();
    let mut pty = outer(&host);
    pty.line("$HUSK run $R sh -c 'echo go; sleep 1000; echo end'", "\ngo\r\n");
    pty.send("\x1a");
    press_until_prompt(&mut pty, "\x03");
    pty.line("$HUSK run -d --name x $R sleep 1000", OUTER);
    pty.line("$HUSK exec x sh -c 'echo go; sleep 1000; echo end'", "\ngo\r\n");
    pty.send("\x1a");
    press_until_prompt(&mut pty, "\x1c");
    pty.line("$HUSK stop -t0 x", OUTER);
    leave(pty);
}

/// husk itself can be stopped, and goes on where it is put.
#[test]
fn stop_husk() {
    let host = host!();
    let mut pty = outer(&host);
    let shell = |pty: &mut Pty| {
        while !pty.sees("Stopped") {
            pty.send("\n"); // it tells of a job in the background before the next prompt
        }
        pty.expect("Stopped");
        pty.send("echo in-$((1 + 1))\n");
        pty.expect("in-2"); // a shell may not know the terminal's settings after SIGSTOP
        pty.expect(OUTER);
    };
    inner(&mut pty);
    let before = pty.line("stty -g", INNER);
    let father = host.sh(&format!("ps -o ppid= -p {}", host.inits()[0])).ok();
    let husk = Pid::from_raw(father.trim().parse().expect("a pid"));
    for signal in [Signal::SIGSTOP, Signal::SIGTSTP] {
        kill(husk, signal).expect("kill");
        shell(&mut pty);
        let seen = pty.line("stty -a", OUTER);
        assert!(!seen.contains("-icanon") || signal == Signal::SIGSTOP, "{seen}");
        pty.line("fg", "run");
        pty.line("", INNER);
        pty.line("echo back$((6 * 7))", "\nback42\r\n");
        pty.expect(INNER);
        assert_eq!(pty.line("stty -g", INNER).lines().last(), before.lines().last());
        // In the background it stops again, as any program does that reads the keyboard.
        kill(husk, signal).expect("kill");
        shell(&mut pty);
        pty.send("bg\n");
        shell(&mut pty);
        pty.line("fg", "run");
        pty.line("", INNER);
        pty.line("echo again$((6 * 7))", "\nagain42\r\n");
        pty.expect(INNER);
    }
    // A window that has changed meanwhile.
    kill(husk, Signal::SIGSTOP).expect("kill");
    shell(&mut pty);
    pty.resize(31, 97);
    pty.line("fg", "run");
    pty.line("stty size", "31 97\r\n");
    pty.send("exit 3\n");
    pty.expect(OUTER);
    pty.line("echo status=$?", "status=3\r\n");
    leave(pty);
}

// ---- exec ---------------------------------------------------------------------------------------

#[test]
fn exec_has_a_terminal() {
    let host = host!();
    let mut pty = outer(&host);
    pty.line("$HUSK run -d --name x $R sleep 1000", OUTER);
    let seen = pty.line("$HUSK exec x sh -c 'tty; echo TERM=$TERM; stty size'", OUTER);
    assert!(seen.contains("\n/dev/pts/") && seen.contains("TERM=vt100\r\n24 80"), "{seen}");
    let seen = pty.line("$HUSK exec -e TERM=dumb x sh -c 'echo TERM=$TERM'", OUTER);
    assert!(seen.contains("\nTERM=dumb"), "{seen}");
    let seen = pty.line("$HUSK exec -t=false x sh -c 'tty; echo TERM=$TERM.'", OUTER);
    assert!(seen.contains("not a tty") && seen.contains("TERM=."), "{seen}");
    let seen = pty.line("$HUSK exec -u 1000 x sh -c 'echo mine >$(tty); id -u'", OUTER);
    assert!(seen.contains("mine\r\n1000"), "{seen}");
    // Job control, the window, the status.
    pty.line("$HUSK exec -e PS1=\"$INNER\" x sh", INNER);
    let tty = pty.line("echo flags=$-", INNER);
    assert!(tty.lines().any(|line| line.starts_with("flags=") && line.contains('m')), "{tty}");
    pty.resize(40, 100);
    pty.line("stty size", "40 100\r\n");
    pty.expect(INNER);
    pty.line("sh -c 'echo go; sleep 1000'", "\ngo\r\n");
    pty.send("\x1a");
    pty.expect(INNER);
    assert!(pty.line("jobs", INNER).contains("Stopped"));
    pty.line("kill -9 %1; wait", INNER);
    pty.line("", INNER); // by now it knows
    pty.send("exit 4\n");
    pty.expect(OUTER);
    pty.line("echo status=$?", "status=4\r\n");
    pty.expect(OUTER);
    // Whoever was left behind keeps nobody waiting.
    pty.line("$HUSK exec x sh -c 'trap \"\" HUP; sleep 1000 & echo left'", "\nleft\r\n");
    pty.expect(OUTER);
    pty.line("$HUSK stop -t0 x", OUTER);
    leave(pty);
}

/// The terminal of an exec is made by no path that a container could have bent.
#[test]
fn exec_and_hostile_devpts() {
    let host = host!();
    let mut pty = outer(&host);
    for trap in [
        "mkfifo /dev/pts",
        "ln -s /tmp /dev/pts",
        "touch /dev/pts",
        "mkdir /dev/pts && mkfifo /dev/pts/ptmx",
        "mkdir /dev/pts && ln -s /dev/null /dev/pts/ptmx",
        "true",
    ] {
        let script = format!("umount /dev/pts; rmdir /dev/pts; {trap}; exec sleep 1000");
        let options = "-d --name x --cap-add SYS_ADMIN";
        pty.line(&format!("$HUSK run {options} $R sh -c '{script}'; sleep 0.3"), OUTER);
        let seen = pty.line("$HUSK exec x echo never; echo status=$?", "status=125\r\n");
        assert!(seen.contains("husk: ") && !seen.contains("\nnever"), "{trap}: {seen}");
        pty.expect(OUTER);
        pty.line("$HUSK exec -t=false x echo without", "\nwithout\r\n");
        pty.expect(OUTER);
        pty.line("$HUSK stop -t0 x", OUTER);
    }
    leave(pty);
}

// ---- ends ---------------------------------------------------------------------------------------

/// When the window is closed, nobody can end what ran in it by a key.
#[test]
fn hang_up() {
    let host = host!();
    for (command, at_least) in [
        ("run $R sleep 1000", 9),
        ("run $R sh -c 'trap \"exit 3\" HUP; sleep 1000 & wait'", 0),
        ("run $R sleep 1000 | cat", 9),
        ("run $R sleep 1000 2>/dev/null", 9),
        ("exec x sh -c 'trap \"\" HUP; while :; do sleep 1; done'", 9),
    ] {
        let is_exec = command.starts_with("exec");
        if is_exec {
            host.husk(&["run", "-d", "--name=x", rootfs(), "sleep", "1000"]).ok();
        }
        let before = host.processes().len();
        let shell = host.sh_command(&format!("$HUSK {command}"));
        let mut pty = host.pty(shell);
        until("it runs", || host.processes().len() >= before + 2);
        std::thread::sleep(Duration::from_millis(500) * slowness());
        let start = Instant::now();
        pty.hang_up();
        until(&format!("the end of {command}"), || host.processes().len() == before);
        let took = start.elapsed().as_secs();
        assert!((at_least..at_least + 15).contains(&took), "{command}: {took} s");
        if is_exec {
            host.husk(&["stop", "-t0", "x"]).ok();
        }
    }
}

/// All that was written before the end arrives, whatever the end was.
#[test]
fn last_words() {
    let host = host!();
    let mut pty = outer(&host);
    for (command, status) in [
        ("$HUSK run $R sh -c 'seq 20000; exit 7'", "7"),
        ("$HUSK run $R sh -c '(seq 20000; kill -9 1) & wait'", ""), // 1 is safe from that
        ("$HUSK run $R sh -c 'seq 20000; kill -KILL -1; exit 7'", "7"),
        ("$HUSK run -t=false $R sh -c 'seq 20000; exit 7'", "7"),
    ] {
        pty.send(&format!("{command}; echo status=$?\n"));
        let seen = pty.expect("\nstatus=");
        assert!(seen.contains("\n19999\r\n20000\r"), "{command}");
        assert!(pty.expect(OUTER).starts_with(status), "{command}");
    }
    leave(pty);
}

/// Whoever takes nothing, or gives too much, keeps husk waiting, and no more than that.
#[test]
fn standstill() {
    let host = host!();
    for (command, typed) in [
        ("exec $HUSK run $R yes", ""), // a console that stands still
        ("exec $HUSK run -t=false $R yes", ""),
        ("exec $HUSK run $R sleep 1000", "never read\r"),
        ("exec $HUSK run $R sh -c 'stty raw -echo; exec sleep 1000'", "never read\r"),
    ] {
        let shell = host.sh_command(command);
        let mut pty = host.pty(shell);
        let husk = pty.child.id() as i32;
        until("it runs", || !host.inits().is_empty());
        for _ in 0..2000 {
            if !typed.is_empty() && !pty.send_some(typed) {
                break;
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        let (before, _) = usage(husk);
        std::thread::sleep(Duration::from_secs(1));
        let (after, memory) = usage(husk);
        assert!(
            after - before <= 5 * u64::from(slowness()),
            "{command}: {} ticks in a second",
            after - before
        );
        assert!(memory < 4096, "{command}: {memory} KiB");
        // It can still be ended; at the second signal also without what nobody takes.
        host.kill_inits();
        until("the container's end", || host.inits().is_empty());
        std::thread::sleep(Duration::from_millis(200));
        let _ = kill(Pid::from_raw(husk), Signal::SIGTERM);
        until("husk's end", || pty.child.try_wait().expect("wait").is_some());
    }
}

/// Started and ended at random moments, husk leaves the terminal as it was.
#[test]
fn settings_after_200_ends() {
    let host = host!();
    let mut pty = outer(&host);
    let before = pty.line("stty -g", OUTER);
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
    for n in 0..200 {
        let script =
            "trap \"exit 9\" TERM INT HUP QUIT; stty raw -echo; seq 200; sleep 1000 & wait";
        pty.send(&format!("$HUSK run --network none $R sh -c '{script}'\n"));
        let start = Instant::now();
        let pause = std::process::id().wrapping_mul(n + 1) % 61;
        std::thread::sleep(Duration::from_millis(pause.into()));
        // All but husk itself by SIGKILL: that is the one end after which it can restore nothing.
        while !pty.sees(OUTER) {
            assert!(start.elapsed() < limit(), "the {n}th does not end");
            for pid in host.processes() {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                if name == "husk\n" {
                    let _ = kill(Pid::from_raw(pid), signals[n as usize % 4]);
                }
            }
            if n % 3 == 0 {
                host.kill_inits();
            }
        }
        pty.expect(OUTER);
        if n % 10 == 9 {
            println!("{n}: {:?}", start.elapsed());
            assert_eq!(pty.line("stty -g", OUTER), before, "after {n} ends");
        }
    }
    leave(pty);
    host.husk(&["ps"]); // the last one may have ended before it listened to signals
}
