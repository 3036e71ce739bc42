//! `--init`: PID 1 is husk's own, and of no more use to a container than none.

mod common;
use common::*;
use nix::sys::signal::Signal;
use std::os::unix::fs::chown;

/// The command is not PID 1; whatever its parent leaves behind is reaped.
#[test]
fn orphans() {
    let host = host!();
    let script = "echo $$
        sh -c 'sleep 0.1 & sleep 0.1 & sleep 0.1 &'
        sleep 1; ps -o pid,stat,comm | grep -c Z || cat /proc/1/comm";
    let with = host.inside(&["--init"], script).ok();
    assert_eq!(with, "2\n0\nhusk-init");
    // The control: a PID 1 that waits for nobody keeps them as zombies.
    let root = fresh_rootfs();
    host.sh(&format!(
        "printf '#include <unistd.h>\nint main(){{if(!fork()){{if(!fork()){{usleep(100000);return 0;}}\
         return 0;}}sleep(1);execl(\"/bin/ps\",\"ps\",\"-o\",\"pid,stat\",(char*)0);}}' \
         > {0}/x.c; cc -static -o {0}/orphan {0}/x.c",
        root.path()
    ))
    .ok();
    let run =
        |options: &[&str]| host.husk(&[&["run"], options, &[root.path(), "/orphan"]].concat()).ok();
    let zombies = |text: &str| text.lines().filter(|line| line.contains('Z')).count();
    assert_eq!(zombies(&run(&[])), 2, "the control");
    assert_eq!(zombies(&run(&["--init"])), 1, "its own child is its own");
}

#[test]
fn statuses() {
    let host = host!();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)] {
        assert_eq!(host.inside(&["--init"], script).code, code, "{script}");
    }
    host.husk(&["run", "--init", rootfs(), "nonesuch"]).refused(127, &["nonesuch"]);
    host.husk(&["run", "--init", rootfs(), "/etc/passwd"]).refused(126, &["/etc/passwd"]);
    // The command's end is everybody's.
    let run = host.inside(&["--init"], "sleep 1000 & exit 3");
    assert_eq!(run.code, 3);
    // A broken pipe ends `yes`, which as PID 1 it would not.
    assert_eq!(host.inside(&["--init"], "exec yes | head -n 1").ok(), "y");
}

/// A command without handlers ends by signals, as it does everywhere but as PID 1.
#[test]
fn signals() {
    let host = host!();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        let args = ["run", "--init", rootfs(), "sh", "-c", "echo ready; exec sleep 1000"];
        let mut running = start(&mut host.husk_command(&args));
        running.says("ready");
        running.signal(signal);
        assert_eq!(running.wait().code, 128 + signal as i32);
    }
    // Of husk's own none kills it: the container has them.
    let script = "for s in ALRM PWR USR2 VTALRM WINCH IO 34 40 64; do trap \"echo got $s\" $s; done
        echo ready; while :; do sleep 0.05; done";
    for options in [&[][..], &["--init"]] {
        let args = [&["run"], options, &[rootfs(), "sh", "-c", script]].concat();
        let mut running = start(&mut host.husk_command(&args));
        running.says("ready");
        for signal in ["ALRM", "PWR", "USR2", "VTALRM", "WINCH", "IO", "34", "40", "64"] {
            host.sh(&format!("kill -{signal} {}", running.pid())).ok();
            running.says(&format!("got {signal}\n"));
        }
        host.kill_inits();
        running.wait();
    }
    // The control: `sleep` as PID 1 has no handler, and goes on.
    host.husk(&["run", "-d", "--name=x", rootfs(), "sleep", "1000"]).ok();
    host.husk(&["kill", "-s", "TERM", "x"]).ok();
    assert_eq!(host.husk(&["exec", "x", "cat", "/proc/1/comm"]).ok(), "sleep");
    host.husk(&["kill", "x"]).ok();
    host.husk(&["run", "-d", "--init", "--name=x", rootfs(), "sleep", "1000"]).ok();
    host.husk(&["kill", "-s", "TERM", "x"]).ok();
    until("its end", || host.husk(&["ps", "-q"]).ok().is_empty());
}

/// PID 1 has nothing open, tells nothing of husk, and has no more rights than the command.
#[test]
fn nothing_of_husks() {
    let host = host!();
    let script = "ls /proc/1/fd | wc -w
        tr '\\0' ' ' < /proc/1/cmdline; echo
        tr -d '\\0' < /proc/1/environ | wc -c
        for key in Uid Gid Groups CapPrm CapEff CapBnd NoNewPrivs Seccomp; do
            [ \"$(grep ^$key: /proc/1/status)\" = \"$(grep ^$key: /proc/self/status)\" ] || echo $key
        done
        echo x 2>/dev/null >> /proc/1/exe || echo safe
        echo end";
    for user in ["0", "1000:5"] {
        let options = ["run", "--init", "-e", "SECRET=1", "-u", user];
        let words = [rootfs(), "sh", "-c", script, "arg"];
        let mut command = host.husk_command(&[&options[..], &words].concat());
        let run = run(command.env("CALLERS", "own"));
        let lines: Vec<&str> = run.out.lines().collect();
        assert!(run.code == 0 && lines.ends_with(&["safe", "end"]), "{run}");
        assert!(!run.out.contains("SECRET") && !run.out.contains("CALLERS"), "{run}");
        assert!(run.out.contains("husk-init sh -c"), "{run}");
        if user == "0" {
            assert_eq!((lines[0], lines[lines.len() - 3]), ("0", "0"), "{run}");
        }
        assert!(!run.out.contains(rootfs()), "a path of the host's: {run}");
    }
    // husk's own file, as the command too, and with rights that help.
    let root = fresh_rootfs();
    let write = "for n in 1 2 3; do cat /bin/true > /proc/1/exe; done 2>/dev/null; echo tried";
    let bin = husk_for_all();
    let before = fingerprint(bin.path());
    for more in [&[][..], &["--cap-add=ALL"]] {
        let words = [&["run", "--init"][..], more, &[root.path(), "sh", "-c", write]].concat();
        let mut command = host.command(bin.join("husk"));
        assert_eq!(run(command.args(&words)).ok(), "tried");
    }
    assert_eq!(fingerprint(bin.path()), before, "husk's own file was changed");
}

/// What is typed reaches the command, once, and its foreground jobs as on any terminal.
#[test]
fn on_a_terminal() {
    let host = host!();
    let on_pty = |options: &[&str], script: &str| {
        let args = [&["run"], options, &[rootfs(), "sh", "-c", script]].concat();
        host.pty(host.husk_command(&args))
    };
    // Nobody but `sleep` is there, and it has no handler.
    let mut pty = on_pty(&["--init"], "echo re''ady; exec sleep 1000");
    pty.expect("ready");
    pty.send("\x03");
    assert_eq!(pty.end().1, 130);

    let script = "n=0; trap 'n=$((n+1))' INT; echo re''ady; sleep 1; sleep 1; echo got $n; ps -o pid,tty,comm";
    let mut pty = on_pty(&["--init"], script);
    pty.expect("ready");
    pty.send("\x03");
    let (text, code) = pty.end();
    assert!(text.contains("got 1\r\n") && code == 0, "{text}");
    let init = text.lines().find(|line| line.contains("husk-init")).expect("PID 1");
    assert!(init.contains('?'), "PID 1 has no terminal: {text}");

    // Job control of a shell: ^Z, jobs, fg.
    let mut pty = host.pty(host.husk_command(&["run", "--init", "-e", "PS1=in$ ", rootfs(), "sh"]));
    pty.expect("in$ ");
    pty.send("sleep 1000\n");
    pty.expect("sleep 1000\r\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    pty.send("\x1a");
    pty.expect("Stopped");
    pty.expect("in$ ");
    pty.send("fg\n");
    pty.expect("sleep 1000");
    std::thread::sleep(std::time::Duration::from_millis(300));
    pty.send("\x03");
    pty.expect("in$ ");
    pty.send("exit 4\n");
    assert_eq!(pty.end().1, 4);
}

#[test]
fn exec_and_stop() {
    let host = host!();
    let args = ["run", "-d", "--init", "--name=x", "-e", "A=1", rootfs(), "sleep", "1000"];
    host.husk(&args).ok();
    assert_eq!(
        host.husk(&["exec", "x", "sh", "-c", "echo $A; cat /proc/1/comm"]).ok(),
        "1\nhusk-init"
    );
    // What exec leaves behind is taken in.
    host.husk(&["exec", "x", "sh", "-c", "sleep 0.1 & sleep 0.1 &"]).ok();
    let count = "ps -o stat | grep -c Z";
    until("no zombie", || host.husk(&["exec", "x", "sh", "-c", count]).out == "0\n");
    let ps = host.husk(&["ps"]).ok();
    assert!(ps.contains("husk-init sleep 1000"), "{ps}");
    host.husk(&["stop", "x"]).ok(); // at once, by SIGTERM
    assert!(host.containers().is_empty());
}

/// Whoever kills husk ends the container, whichever of its two first processes has which user.
#[test]
fn husk_is_killed() {
    let host = host!();
    for options in [&[][..], &["-u", "1000"]] {
        let script = "echo ready; sleep 1000";
        let args = [&["run", "--init"], options, &[rootfs(), "sh", "-c", script]].concat();
        let mut running = start(&mut host.husk_command(&args));
        running.says("ready");
        running.signal(Signal::SIGKILL);
        running.wait();
        until("the end of the container", || host.processes().is_empty());
        assert!(host.husk(&["ps", "-q"]).ok().is_empty());
    }
    // Whatever ends PID 1 ends all.
    let mut running = host.stays(&["--init"], "true");
    host.kill_inits();
    assert_eq!(running.wait().code, 137);
    // And the command's end is not put off by others that hold its files.
    running =
        start(&mut host.husk_command(&["run", "--init", rootfs(), "sh", "-c", "sleep 9 & exit 3"]));
    assert_eq!(running.wait().code, 3);
}

#[test]
fn rootless() {
    let host = host!();
    let (bin, root) = (husk_for_all(), rootfs_of(1000));
    chown(bin.path(), Some(1000), Some(1000)).expect("chown");
    let before = fingerprint(bin.path());
    let script = "cat /bin/true > /proc/1/exe; ls /proc/1/fd | wc -w; exit 5";
    let mut command = host.command(bin.join("husk"));
    command.args(["run", "--init", root.path(), "sh", "-c", script]);
    let run = run(as_user(&mut command, 1000));
    assert!(run.code == 5 && run.out == "0\n", "{run}");
    assert_eq!(fingerprint(bin.path()), before, "husk's own file was changed");
}

/// husk's own memory knows paths of the host's, which the command has no business with.
#[test]
fn memory_of_pid_1() {
    let host = host!();
    let script = "head -c 1 /proc/1/environ; exec 3</proc/1/mem";
    let run = host.husk(&["run", "--init", "--network", "none", rootfs(), "sh", "-c", script]);
    assert!(run.code != 0 && run.err.contains("Permission denied"), "{run}");
}
