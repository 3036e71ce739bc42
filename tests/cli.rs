//! The command line, and above all what it refuses: one line, status 125 (126 or 127 where it is
//! the command's fault), nothing left behind.

mod common;
use common::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn help() {
    let host = host!();
    for args in [&["--help"][..], &["run", "--help"], &["help"]] {
        let text = host.husk(args).ok();
        let (lines, widest) = (text.lines().count(), text.lines().map(str::len).max());
        assert!(lines <= 50 && widest <= Some(100), "{args:?} does not fit a screen:\n{text}");
        assert!(text.contains("ROOTFS"), "{args:?}:\n{text}");
    }
    let text = host.husk(&["run", "--help"]).ok();
    for option in [
        "--name",
        "--hostname",
        "--env",
        "--workdir",
        "--user",
        "--volume",
        "--read-only",
        "--writable",
        "--memory",
        "--cpus",
        "--pids-limit",
        "--cgroup",
        "--network",
        "--cap-add",
        "--cap-drop",
        "--detach",
        "--explain",
    ] {
        assert!(text.contains(option), "no {option} in:\n{text}");
    }
}

#[test]
fn refused_options() {
    let host = host!();
    let root = rootfs();
    let long = "x".repeat(64);
    for (options, words) in [
        (&["--frobnicate"][..], &["--frobnicate"][..]),
        (&["-x"], &["-x"]),
        (&["-"], &["-"]),
        (&["-m", "12q"], &["12q"]),
        (&["-m", "lots"], &["lots"]),
        (&["-m", ""], &["-m"]),
        (&["-m", "0"], &["0"]),
        (&["-m", "-1"], &["-1"]),
        (&["--memory=99999999999999999999g"], &["memory"]),
        (&["--cpus", "0"], &["--cpus"]),
        (&["--cpus", "x"], &["--cpus", "x"]),
        (&["--cpus", "nan"], &["--cpus", "nan"]),
        (&["--cpus", "inf"], &["--cpus", "inf"]),
        (&["--cpus=-2"], &["--cpus", "-2"]),
        (&["--cpus", "1e300"], &["--cpus"]),
        (&["--cpus", "0.000001"], &["--cpus"]),
        (&["--pids-limit", "-1"], &["--pids-limit", "-1"]),
        (&["--pids-limit", "0"], &["--pids-limit"]),
        (&["--pids-limit=many"], &["--pids-limit", "many"]),
        (&["-v", "/tmp"], &["/tmp"]),
        (&["-v", "tmp:/x"], &["tmp"]),
        (&["-v", "/no/such/directory:/x"], &["/no/such/directory"]),
        (&["-v", "/tmp:x"], &["x"]),
        (&["-v", ":/x"], &["-v"]),
        (&["-v", "/tmp:"], &["-v"]),
        (&["--name", ""], &["--name"]),
        (&["--name", ".."], &[".."]),
        (&["--name", "."], &["."]),
        (&["--name", ".hidden"], &[".hidden"]),
        (&["--name=-x"], &["-x"]),
        (&["--name", "a/b"], &["a/b"]),
        (&["--name", "a b"], &["a b"]),
        (&["--name", "h\u{fc}lle"], &["--name"]),
        (&["--name", &long], &["--name"]),
        (&["--name", "cgroup.procs"], &["cgroup.procs"]),
        (&["--name", "memory.max"], &["memory.max"]),
        (&["--cgroup", "../x/memory.max=1"], &["--cgroup"]),
        (&["--cgroup", "cgroup.procs=1"], &["cgroup.procs"]),
        (&["--cgroup", "cgroup.freeze=1"], &["cgroup.freeze"]),
        (&["--cgroup", "memory.high"], &["memory.high"]),
        (&["--cgroup", "=1"], &["--cgroup"]),
        (&["--cgroup", "no.such=1"], &["no.such"]),
        (&["--cgroup", "..=1"], &[]),
        (&["--network", "wifi"], &["wifi"]),
        (&["--cap-add", "FLY"], &["FLY"]),
        (&["--cap-drop", "CAP_FLY"], &["CAP_FLY"]),
        (&["--cap-add", ""], &["--cap-add"]),
        (&["-u", "somebody"], &["somebody"]),
        (&["-u", "1:"], &["-u"]),
        (&["-u", "1:nonesuch"], &["nonesuch"]),
        (&["-u", "-1"], &["-1"]),
        (&["-u", "4294967295"], &["4294967295"]),
        (&["-u", "4294967296"], &["4294967296"]),
        (&["-e", "=x"], &["-e"]),
        (&["-w", ""], &["-w"]),
        (&["-h", ""], &["-h"]),
        (&["-h", &"h".repeat(65)], &["-h"]),
        (&["--read-only=maybe"], &["--read-only"]),
        (&["--read-only", "--writable"], &["--read-only", "--writable"]),
        (&["--detach=x"], &["--detach"]),
    ] {
        host.husk(&[&["run"], options, &[root, "true"]].concat()).refused(125, words);
    }
}

#[test]
fn refused_words() {
    let host = host!();
    let (empty, dir) = (TempDir::new(), TempDir::new());
    fs::write(dir.join("file"), "").expect("write");
    let file = dir.join("file");
    let file = file.to_str().expect("UTF-8");
    for (args, words) in [
        (&["frobnicate"][..], &["husk --help"][..]),
        (&["--frobnicate"], &["husk --help"]),
        (&["run"], &["ROOTFS"]),
        (&["run", "--rm"], &["ROOTFS"]),
        (&["run", "-m"], &["-m"]),
        (&["run", "--name"], &["--name"]),
        (&["run", "-v"], &["-v"]),
        (&["run", "--env"], &["--env"]),
        (&["run", "--cap-add"], &["--cap-add"]),
        (&["run", "/no/such/rootfs", "true"], &["/no/such/rootfs"]),
        (&["run", "", "true"], &["ROOTFS"]),
        (&["run", file, "true"], &["file"]),
        (&["run", "/dev/null", "true"], &["/dev/null"]),
        (&["exec"], &["CONTAINER"]),
        (&["exec", "walnut"], &["COMMAND"]),
        (&["exec", "walnut", "true"], &["walnut"]),
        (&["exec", "..", "true"], &[".."]),
        (&["exec", "a/b", "true"], &["a/b"]),
        (&["exec", "--frobnicate", "walnut", "true"], &["--frobnicate"]),
        (&["exec", "-e"], &["-e"]),
        (&["stop"], &["CONTAINER"]),
        (&["stop", "walnut"], &["walnut"]),
        (&["stop", ".."], &[".."]),
        (&["stop", "-t", "soon", "walnut"], &["soon"]),
        (&["stop", "-t", "-1", "walnut"], &["-1"]),
        (&["ps", "walnut"], &["ps"]),
        (&["ps", "-a"], &["-a"]),
        (&["kill"], &["CONTAINER"]),
        (&["kill", "walnut"], &["walnut"]),
        (&["kill", "-s", "FLY", "walnut"], &["FLY"]),
        (&["kill", "-s", "65", "walnut"], &["65"]),
        (&["kill", "-s", "33x", "walnut"], &["33x"]),
        (&["kill", "-s", "RTMIN+31", "walnut"], &["RTMIN+31"]),
        (&["stop", "-s", "0", "walnut"], &["-s 0"]),
    ] {
        host.husk(args).refused(125, words);
    }
    host.husk(&["run", empty.path()]).refused(125, &[empty.path(), "empty"]);
    host.husk(&["run", dir.path()]).refused(127, &["/bin/sh"]);

    // Out of an ordinary user's reach.
    let unreadable = fresh_rootfs();
    fs::set_permissions(&*unreadable, fs::Permissions::from_mode(0o700)).expect("chmod");
    let bin = husk_for_all();
    let mut command = host.command(bin.join("husk"));
    command.args(["run", unreadable.path(), "true"]);
    run(as_user(&mut command, 65501)).refused(125, &[unreadable.path()]);
}

#[test]
fn refused_commands() {
    let host = host!();
    let root = fresh_rootfs();
    let write = |name: &str, text: &[u8], mode| {
        fs::write(root.join(name), text).expect("write");
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    };
    write("plain", b"echo\n", 0o644);
    write("script", b"#!/no/such/interpreter\n", 0o755);
    write("nonsense", b"\x00\x01\x02\x03", 0o755);
    write("bin/plain-in-path", b"echo\n", 0o644);
    write("text", b"echo\n", 0o755);
    for (command, code) in [
        ("no-such-command", 127),
        ("/no/such/command", 127),
        ("./no-such-command", 127),
        ("/plain/x", 127),
        ("/plain", 126),
        ("plain-in-path", 126),
        ("/bin", 126),
        ("/", 126),
        ("/nonsense", 126),
        ("/text", 126),
        ("", 127),
    ] {
        host.husk(&["run", root.path(), command]).refused(code, &[command]);
    }
    let missing = host.husk(&["run", root.path(), "/script"]);
    assert!([126, 127].contains(&missing.code), "{missing}");
    let code = missing.code;
    missing.refused(code, &["/script"]);
}

/// An unknown option is named, also where it is short; help and version come before all else.
#[test]
fn options_are_named() {
    let host = host!();
    for words in [
        &["run", "-z", "80:80", "R", "true"][..],
        &["run", "-zp", "R", "true"],
        &["exec", "-z", "a", "true"],
        &["ps", "-z"],
        &["stop", "-z", "a"],
    ] {
        host.husk(words).refused(125, &["unknown option -z"]);
    }
    for option in ["--publish-al", "--Network"] {
        host.husk(&["run", option, rootfs(), "true"]).refused(125, &["unknown option", option]);
    }
    // What another command has.
    host.husk(&["exec", "-p", "80:80", "a", "true"]).refused(125, &["unknown option -p"]);
    host.husk(&["run", "-P", rootfs(), "true"]).refused(125, &["-P", "-p PORT:PORT"]);
    for words in [&["--version"][..], &["run", "--version"], &["ps", "--version"]] {
        let version = host.husk(words).ok();
        assert_eq!(version, concat!("husk ", env!("CARGO_PKG_VERSION")), "{words:?}");
    }
}

#[test]
fn names_are_taken_once() {
    let host = host!();
    let running = host.stays(&["--name", "walnut"], "true");
    host.husk(&["run", "--name=walnut", rootfs(), "true"]).refused(125, &["walnut"]);
    assert_eq!(host.inside(&["--name=walnut2"], "echo other").ok(), "other");
    host.kill_inits();
    assert_eq!(running.wait().code, 137);
    assert_eq!(host.inside(&["--name=walnut"], "echo free again").ok(), "free again");
    let longest = "x".repeat(63);
    assert_eq!(host.inside(&["--name", &longest], "echo $HOSTNAME").ok(), longest);
    for name in ["x", "0", "a_b.c-d", "husk0", "A.", "test"] {
        assert_eq!(host.inside(&["--name", name], "echo yes").ok(), "yes", "--name {name}");
    }
}

#[test]
fn options_end_at_rootfs() {
    let host = host!();
    let run = host.husk(&["run", rootfs(), "echo", "--name", "x", "--help"]);
    assert_eq!(run.ok(), "--name x --help");
    assert_eq!(host.husk(&["run", "--", rootfs(), "echo", "--", "x"]).ok(), "-- x");
    host.husk(&["run", rootfs(), "--help"]).refused(127, &["--help"]);
    let twice = host.inside(&["--name=a", "--name=b", "-h", "c", "-h", "d"], "uname -n");
    assert_eq!(twice.ok(), "d", "the last one counts");
}

#[test]
fn bytes_are_no_trouble() {
    let host = host!();
    for args in [
        "run \"$R\" \"$B\"",
        "run --name \"$B\" \"$R\" true",
        "run \"$B\" true",
        "run -m \"$B\" \"$R\" true",
        "run \"-$B\" \"$R\" true",
        "run -v \"/$B:/x\" \"$R\" true",
        "\"$B\"",
        "stop \"$B\"",
        "exec \"$B\" true",
        "run --cgroup \"$B=$B\" \"$R\" true",
        "run \"--$B=x\" \"$R\" true",
        "run -u \"$B\" \"$R\" true",
        "run -w \"/$B\" \"$R\" no-such-command",
    ] {
        let run = host.sh(&format!("B=$(printf 'a\\377b\\001'); exec $HUSK {args}"));
        let code = if args.starts_with("run \"$R\"") || args.ends_with("no-such-command") {
            127
        } else {
            125
        };
        run.refused(code, &[]);
    }
}

/// What the machine may lack.
#[test]
fn poor_hosts() {
    let host = host!();
    // Closed standard descriptors: either it works, or it is refused; never does a file of husk's
    // own take their place.
    for (redirect, script, out, err) in [
        ("<&-", "cat 2>/dev/null; echo out; echo err >&2", "out\n", "err\n"),
        (">&-", "echo out 2>/dev/null; echo err >&2", "", "err\n"),
        ("2>&-", "echo out; echo err 2>/dev/null >&2; true", "out\n", ""),
        ("<&- >&- 2>&-", "echo out; echo err >&2; true", "", ""),
    ] {
        let run = host.sh(&format!("exec $HUSK run $R sh -c '{script}' {redirect}"));
        let worked = run.code == 0 && run.out == out && run.err == err;
        let refused = run.code == 125 && run.out.is_empty() && run.err.lines().count() <= 1;
        assert!(worked || refused, "{redirect}: {run}");
        host.assert_clean();
    }

    for limit in 4..=16 {
        let run = host.sh(&format!("ulimit -n {limit}; exec $HUSK run $R echo enough"));
        match run.code {
            0 => assert_eq!(run.ok(), "enough", "{limit} descriptors"),
            _ => run.refused(125, &["Too many open files"]),
        }
        host.assert_clean();
    }

    let mount = cgroup2();
    let none = format!("umount -l {0}; umount -l {0}; exec $HUSK run $R true", mount.display());
    let mut command = host.command("unshare");
    command.args(["-m", "sh", "-c", &none]).env("HUSK", husk()).env("R", rootfs());
    run(&mut command).refused(125, &["cgroup2"]);
}

/// Where /proc is another pid namespace's, its numbers are other processes'.
#[test]
fn another_proc() {
    let host = host!();
    for verb in ["run $R true", "ps", "exec x true", "stop x"] {
        let script = format!("exec unshare --pid --fork sh -c \"true; $HUSK {verb}\"");
        host.sh(&script).refused(125, &["/proc"]);
    }
    let script =
        "exec unshare --pid --fork --mount-proc sh -c 'true; $HUSK run --network none $R echo ok'";
    assert_eq!(host.sh(script).ok(), "ok");
}

#[test]
fn refusing_kernels() {
    let host = host!();
    if !have("strace") {
        skip!(host, "no strace");
    }
    for (inject, words) in [
        ("clone3:error=ENOSYS", &["kernel", "too old"][..]),
        ("clone3:error=EPERM", &["sudo"]),
        ("clone3:error=EAGAIN", &["too many"]),
        ("pivot_root:error=EINVAL", &["pivot_root"]),
    ] {
        let script = format!(
            "{FORWARD}; exec strace -qq -f -o /dev/null -e inject={inject} $HUSK run $R true"
        );
        host.sh(&script).refused(125, words);
        host.assert_clean();
    }
    // Root in name only: without any capability.
    if !have("setpriv") {
        return;
    }
    let weak = host.sh("exec setpriv --bounding-set=-all --inh-caps=-all $HUSK run $R true");
    assert!(weak.code == 0 || weak.err.contains("sudo"), "{weak}");
    if weak.code != 0 {
        weak.refused(125, &["sudo"]);
    }
}
