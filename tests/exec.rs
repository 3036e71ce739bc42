//! `husk exec` has what `husk run` was told, whatever has become of PID 1; and the kernel keeps that
//! where nobody in a container can read it.

mod common;
use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// A PID 1 that writes over its own title and environment, as nginx, redis and sshd do: in C, where
/// they lie one behind the other.
const FORGETS: &str = r#"
#include <string.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv) {
    char **last = environ;
    while (last[1]) last++;
    char *end = *last + strlen(*last);
    memset(argv[0], 0, end - argv[0]);
    strcpy(argv[0], "forgets: main process");
    for (;;) pause();
}
"#;

/// A busybox with that program in it.
fn with_program(host: &Host, name: &str, source: &str) -> TempDir {
    let root = fresh_rootfs();
    fs::write(root.join("program.c"), source).expect("write");
    let compile = format!("cc -static -o {0}/{name} {0}/program.c", root.path());
    host.sh(&compile).ok();
    root
}

fn stop(host: &Host, name: &str) {
    host.husk(&["stop", "-t0", name]).ok();
}

/// Waits until something is so in the container.
fn wait_for(host: &Host, name: &str, command: &[&str]) {
    let exec = [&["exec", "-e", "PATH=/bin", name], command].concat();
    until(&format!("{command:?}"), || host.husk(&exec).code == 0);
}

#[test]
fn environment_that_pid_1_has_overwritten() {
    let host = host!();
    let root = with_program(&host, "forgets", FORGETS);
    let run =
        ["run", "-d", "--name=x", "-e", "SECRET=a b", "-h", "walnut", root.path(), "/forgets"];
    host.husk(&run).ok();
    wait_for(&host, "x", &["grep", "-q", "main process", "/proc/1/cmdline"]);
    let left = host.husk(&["exec", "x", "/bin/cat", "/proc/1/environ"]).out;
    assert!(!left.contains("SECRET"), "the control: PID 1 has forgotten nothing: {left:?}");
    let script = "echo $SECRET; echo $HOME; echo $HOSTNAME; echo $PATH";
    let seen = host.husk(&["exec", "x", "sh", "-c", script]).ok();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(seen, format!("a b\n/root\nwalnut\n{path}"));
    stop(&host, "x");
}

/// PID 1 can't say with which environment others run: PATH would choose their programs.
#[test]
fn environment_that_pid_1_has_forged() {
    let host = host!();
    let script = "exec env -i PATH=/evil LD_PRELOAD=/evil.so /bin/sleep 1000";
    host.husk(&["run", "-d", "--name=x", rootfs(), "sh", "-c", script]).ok();
    wait_for(&host, "x", &["grep", "-q", "evil", "/proc/1/environ"]);
    let seen = host.husk(&["exec", "x", "env"]).ok();
    assert!(!seen.contains("evil") && seen.contains("PATH=/usr/local/sbin"), "{seen}");
    stop(&host, "x");
}

#[test]
fn long_environment() {
    let host = host!();
    let mut args = vec!["run".to_string(), "-d".into(), "--name=x".into()];
    for number in 0..100 {
        args.extend(["-e".into(), format!("VARIABLE{number}={}", "x".repeat(1500))]);
    }
    args.extend(["-e".into(), format!("HUGE={}", "y".repeat(100_000))]);
    args.extend([rootfs().into(), "sleep".into(), "1000".into()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    host.husk(&args).ok();
    let script = "echo ${#VARIABLE0} ${#VARIABLE99} ${#HUGE}; env | grep -c ^VARIABLE";
    assert_eq!(host.husk(&["exec", "x", "sh", "-c", script]).ok(), "1500 1500 100000\n100");
    stop(&host, "x");
}

/// What `-e` says can be a password: another user inside must not read it, neither in husk's notes
/// nor elsewhere.
#[test]
fn environment_is_no_secret_told() {
    let host = host!();
    let root = with_program(
        &host,
        "attributes",
        r#"
#include <stdio.h>
#include <sys/xattr.h>
int main(int argc, char **argv) {
    char names[65536], value[65536];
    long length = listxattr(argv[1], names, sizeof names);
    for (long i = 0; i < length; i++) putchar(names[i] ? names[i] : '\n');
    const char *all[] = {"trusted.husk.env0", "user.husk.env0", "trusted.husk.command", 0};
    for (int i = 0; all[i]; i++)
        printf("%s %ld\n", all[i], (long)getxattr(argv[1], all[i], value, sizeof value));
}
"#,
    );
    host.husk(&["run", "-d", "--name=x", "-e", "SECRET=1", root.path(), "sleep", "1000"]).ok();
    // As root outside it is there: the control.
    let dir = host.cgroup.join("husk/x");
    let outside = run(Command::new(root.join("attributes")).arg(dir)).ok();
    assert!(
        outside.contains("trusted.husk.env0\n") && outside.contains("user.husk.env0 -1"),
        "{outside}"
    );
    for user in ["0", "1000"] {
        let exec = ["exec", "-u", user, "x", "/attributes", "/sys/fs/cgroup"];
        let seen = host.husk(&exec).ok();
        let nothing = "trusted.husk.env0 -1\nuser.husk.env0 -1\ntrusted.husk.command -1";
        assert_eq!(seen, nothing, "as user {user}");
    }
    stop(&host, "x");
}

#[test]
fn user_and_directory_of_run() {
    let host = host!();
    let root = fresh_rootfs();
    chown(root.join("srv"), Some(1000), Some(1001)).expect("chown");
    let options = ["run", "-d", "--name=x", "-u", "1000:1001", "-w", "/srv"];
    host.husk(&[&options[..], &[root.path(), "sleep", "1000"]].concat()).ok();
    let script = "echo $(id -u) $(id -g) $(pwd)";
    let exec = |options: &[&str]| {
        host.husk(&[&["exec"], options, &["x", "sh", "-c", script]].concat()).ok()
    };
    assert_eq!(exec(&[]), "1000 1001 /srv");
    assert_eq!(exec(&["-w", "/tmp"]), "1000 1001 /tmp");
    assert_eq!(exec(&["-u", "0"]), "0 0 /srv");
    stop(&host, "x");
}

/// Not as whoever PID 1 has become by itself.
#[test]
fn user_that_pid_1_has_become() {
    let host = host!();
    let script = "exec su -s /bin/sh nobody -c 'exec sleep 1000'";
    host.husk(&["run", "-d", "--name=x", rootfs(), "sh", "-c", script]).ok();
    wait_for(&host, "x", &["grep", "-q", "^Uid:.65534", "/proc/1/status"]);
    assert_eq!(host.husk(&["exec", "x", "id", "-u"]).ok(), "0");
    assert_eq!(host.husk(&["exec", "-u", "nobody", "x", "id", "-u"]).ok(), "65534");
    stop(&host, "x");
}

/// docker's: whoever may not enter a directory by himself can be put there.
#[test]
fn closed_directory() {
    let host = host!();
    let root = fresh_rootfs();
    fs::create_dir_all(root.join("root")).expect("mkdir");
    host.sh(&format!("chmod 700 {}/root", root.path())).ok();
    let run = host.husk(&["run", "-u", "1000", "-w", "/root", root.path(), "sh", "-c", "id -u"]);
    assert_eq!(run.ok(), "1000");
}

/// A rootless container keeps the same, in attributes that its user owns.
#[test]
fn rootless() {
    let host = host!();
    for dir in ["user", "user/session"] {
        let dir = host.cgroup.join(dir);
        fs::create_dir(&dir).expect("mkdir");
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            chown(dir.join(file), Some(1000), Some(1000)).expect("chown");
        }
    }
    let (bin, root) = (husk_for_all(), rootfs_of(1000));
    let husk = |args: &[&str]| {
        let mut command = host.command_in("user/session", bin.join("husk"));
        run(as_user(command.args(args), 1000))
    };
    let script = "exec env -i /bin/sleep 1000";
    let words = [root.path(), "sh", "-c", script];
    husk(&[&["run", "-d", "--name=x", "-e", "A=1", "-w", "/tmp"], &words[..]].concat()).ok();
    until("sleep", || husk(&["exec", "x", "grep", "-q", "sleep", "/proc/1/comm"]).code == 0);
    assert_eq!(husk(&["exec", "x", "sh", "-c", "echo $A $(pwd) $(id -u)"]).ok(), "1 /tmp 0");
    // More than the kernel takes from a user: then exec has the defaults.
    let huge = format!("HUGE={}", "x".repeat(120_000));
    let more = ["-e", &huge, "-e", &huge.replace("HUGE", "MORE"), root.path(), "sleep", "1000"];
    husk(&[&["run", "-d", "--name=y", "-w", "/tmp"], &more[..]].concat()).ok();
    let script = "echo ${#HUGE} $PATH $(pwd)";
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(husk(&["exec", "y", "sh", "-c", script]).ok(), format!("0 {path} /tmp"));
    husk(&["stop", "-t0", "x", "y"]).ok();
}

/// Whoever traces a process learns of its end before the parent does, and may keep it. So husk has
/// to wait, but not against every signal.
#[test]
fn traced_by_pid_1() {
    let host = host!();
    let root = with_program(
        &host,
        "seize",
        r#"
#include <dirent.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>
int main(void) {
    for (;;) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while ((entry = readdir(proc)))
            if (atoi(entry->d_name) > 1)
                ptrace(PTRACE_SEIZE, atoi(entry->d_name), 0, 0);
        closedir(proc);
        usleep(1000);
    }
}
"#,
    );
    host.husk(&["run", "-d", "--name=x", root.path(), "/seize"]).ok();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut exec = start(&mut host.husk_command(&["exec", "x", "sleep", "0.5"]));
        std::thread::sleep(Duration::from_millis(1500) * slowness());
        if exec.child.try_wait().expect("wait").is_some() {
            host.skip_part("this kernel lets nobody trace others");
            break;
        }
        exec.signal(signal);
        assert_eq!(exec.wait().code, 128 + signal as i32);
    }
    stop(&host, "x");
}

/// A husk that is stopped takes nobody in, and then PID 1 can't end.
#[test]
fn stopped_beside_its_container() {
    let host = host!();
    for options in [&["--name=x"][..], &["--name=x", "--init"]] {
        let run = host.stays(options, "true");
        let mut command = host.husk_command(&["exec", "x", "sh", "-c", "echo go; sleep 1000"]);
        let mut exec = start(command.process_group(0));
        exec.says("go\n");
        exec.signal(Signal::SIGSTOP);
        host.husk(&["stop", "-t1", "x"]).ok();
        assert_eq!(exec.wait().code, 137);
        let code = run.wait().code;
        assert!([137, 143].contains(&code), "{code}"); // with --init the command had SIGTERM
    }
}

/// Until its execve(2) the first process is husk's own, with all that husk may do. When the husk of
/// such a one is killed, its lock is free, and still nobody enters.
#[test]
fn exec_into_a_killed_start() {
    let host = host!();
    host.sh(FORWARD).ok();
    host.husk(&["run", "--network=none", rootfs(), "true"]).ok();
    let busy = fs::File::open(host.cgroup.join("husk")).expect("husk/");
    busy.lock().expect("flock"); // whoever makes the bridge waits for that
    for option in ["-d", "--init"] {
        let command = ["run", option, "--name=x", "--user=1000", rootfs(), "sleep", "1000"];
        let run = start(&mut host.husk_command(&command));
        until("the child", || host.inits().len() == 1);
        let child = host.inits()[0];
        // It sleeps until its parent has a word for it. (Before, it had the lock open, too.)
        let stat = || fs::read_to_string(format!("/proc/{child}/stat")).expect("stat");
        until("it waits", || stat().contains(") S "));
        kill(Pid::from_raw(child), Signal::SIGSTOP).expect("kill");
        let exec = start(&mut host.husk_command(&["exec", "x", "id", "-u"]));
        std::thread::sleep(Duration::from_millis(300) * slowness()); // it waits for the lock
        run.signal(Signal::SIGKILL);
        let told = exec.wait();
        assert!(told.code == 125 && told.out.is_empty(), "{told}");
        run.wait();
        host.husk(&["ps"]).ok();
    }
}
