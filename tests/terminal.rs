//! In front of a terminal: job control inside, and the caller's own terminal and shell unharmed.

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
        ("$HUSK run $R head -n1 | sed s/^/file-/", "typed", "file-typed\r\n"),
        ("$HUSK run $R head -n1 | $HUSK run $R sed s/^/two-/", "typed", "two-typed\r\n"),
        // One of a script's commands, and the script goes on to read.
        (
            "sh -c '$HUSK run $R sh -c \"read x; echo one=\\$x\"; read y; echo two=$y'",
            "a\nb",
            "two=b\r\n",
        ),
        ("x=$($HUSK run $R head -n1); echo sub=$x", "typed", "sub=typed\r\n"),
    ] {
        pty.send(&format!("{line}\n"));
        if !answer.is_empty() {
            pty.send(&format!("{answer}\n"));
        }
        pty.expect(printed);
        pty.expect(OUTER);
    }
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
        assert!(run.out.contains("survivor\nend"), "{options}: {run}");
    }
    host.husk(&["stop", "-t0", "x"]).ok();
    // The same from a terminal, in a pipeline: there is no other group for husk to give it.
    let mut pty = outer(&host);
    pty.line("$HUSK run $R sh -c 'kill -9 0; kill -9 1; echo go; head -n1' | cat", "\ngo\r\n");
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
