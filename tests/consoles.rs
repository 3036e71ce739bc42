//! On what people sit in front of: sudo with and without a terminal of its own, script, tmux, and a
//! console that stands still.

mod common;
#[path = "common/debian.rs"]
mod debian;

use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const OUTER: &str = "outer$ ";
const INNER: &str = "inner$ ";

/// A person's own shell, started by this script's last words.
fn outer(host: &Host, script: &str) -> Pty {
    let mut shell = host.sh_command(script);
    shell.env("PS1", OUTER).env("R", rootfs()).env("INNER", INNER);
    let mut pty = host.pty(shell);
    pty.expect(OUTER);
    pty
}

fn leave(mut pty: Pty) {
    pty.send("exit 5\nexit 5\n"); // the first may only warn of stopped jobs
    let (text, code) = pty.end();
    assert_eq!(code, 5, "the outer shell:\n{text}");
}

/// A shell in a container, at its first prompt: its keys act in there, and the window reaches it.
#[track_caller]
fn assert_interactive(pty: &mut Pty, size: (u16, u16)) {
    let seen = pty.line("tty; echo flags=$-", INNER);
    let has_jobs = seen.lines().any(|line| line.starts_with("flags=") && line.contains('m'));
    assert!(seen.contains("\n/dev/") && has_jobs, "{seen}");
    pty.line("sh -c 'echo go; sleep 1000'", "\ngo\r\n");
    pty.send("\x03");
    pty.expect(INNER);
    pty.line("echo status=$?", "status=130\r\n");
    pty.expect(INNER);
    pty.line("sh -c 'echo go; read x; echo got=$x'", "\ngo\r\n");
    pty.send("\x1a");
    pty.expect(INNER);
    assert!(pty.line("jobs", INNER).contains("Stopped"));
    pty.line("fg", "fg\r\n");
    pty.line("words", "got=words\r\n");
    pty.expect(INNER);
    // Who stands between may take a moment to hear of it.
    pty.resize(size.0, size.1);
    let wanted = format!("\n{} {}\r\n", size.0, size.1);
    until("the window's size", || pty.line("stty size", INNER).contains(&wanted));
}

// ---- sudo ---------------------------------------------------------------------------------------

/// A shell on a terminal where sudo goes by these settings. They lie over the machine's own in a
/// mount namespace of the shell's; and PAM, which may want anything there, says yes.
fn with_sudo(host: &Host, dir: &TempDir, defaults: &str) -> Pty {
    let path = "Defaults secure_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let text = format!("Defaults {defaults},!syslog\n{path}\nroot ALL=(ALL:ALL) NOPASSWD: ALL\n");
    let sudoers = dir.join("sudoers");
    fs::write(&sudoers, text).expect("write");
    fs::set_permissions(&sudoers, fs::Permissions::from_mode(0o440)).expect("chmod");
    let _ = fs::create_dir(dir.join("pam.d"));
    let rules =
        ["auth", "account", "session"].map(|kind| format!("{kind} required pam_permit.so\n"));
    fs::write(dir.join("pam.d/sudo"), rules.concat()).expect("write");
    let script = format!(
        "exec unshare -m --propagation private sh -c 'mount --bind {0}/sudoers /etc/sudoers &&
        mount --bind {0}/pam.d /etc/pam.d && exec sh -i' # $R",
        dir.path()
    );
    outer(host, &script)
}

#[track_caller]
fn shell_by_sudo(host: &Host, defaults: &str) {
    let dir = TempDir::new();
    let mut pty = with_sudo(host, &dir, defaults);
    let differs = if defaults.starts_with('!') { 0 } else { 1 };
    pty.line("test $(tty) = $(sudo tty); echo differs=$?", &format!("differs={differs}\r\n"));
    pty.expect(OUTER);
    let before = pty.line("stty -g", OUTER);
    pty.line("sudo $HUSK run -e PS1=\"$INNER\" $R sh", INNER);
    assert_interactive(&mut pty, (31, 91));
    pty.send("exit 3\n");
    pty.expect(OUTER);
    pty.line("echo status=$?", "status=3\r\n");
    pty.expect(OUTER);
    assert_eq!(pty.line("stty -g", OUTER), before, "{defaults}: after run");
    // The same by exec, and its end by a signal.
    pty.line("sudo $HUSK run -d --name x $R sleep 1000", OUTER);
    pty.line("sudo $HUSK exec -e PS1=\"$INNER\" x sh", INNER);
    assert_interactive(&mut pty, (32, 92));
    pty.line("stty raw -echo; kill -9 $$", OUTER);
    pty.line("echo status=$?", "status=137\r\n");
    pty.expect(OUTER);
    assert_eq!(pty.line("stty -g", OUTER), before, "{defaults}: after exec");
    pty.line("sudo $HUSK stop -t0 x", OUTER);
    // Without a terminal in there, the keys are signals.
    let script = "trap \"echo got; exit 9\" INT; trap \"echo again\" CONT; echo go; \
        sleep 1000 & while :; do wait; done";
    pty.line(&format!("sudo $HUSK run -t=false $R sh -c '{script}'"), "\ngo");
    pty.send("\x1a");
    pty.expect(OUTER);
    until("it is stopped", || pty.line("jobs", OUTER).contains("Stopped"));
    pty.line("fg", "\nagain");
    pty.send("\x03");
    pty.expect("got\r\n"); // SIGCONT may come twice, from the shell and from sudo
    pty.expect(OUTER);
    pty.line("echo status=$?", "status=9\r\n");
    pty.expect(OUTER);
    for (line, printed) in [
        ("sudo $HUSK run $R seq 20000 | tail -n 1", "\n20000\r\n"),
        // (sudo's own terminal ends this line by CR LF, and the caller's by one more CR.)
        ("seq 20000 | sudo $HUSK run $R tail -n 1", "\n20000\r"),
        ("sudo $HUSK run $R seq 20000 >/dev/null; echo status=$?", "\nstatus=0\r\n"),
        ("x=$(sudo $HUSK run $R seq 20000 | wc -l); echo lines=$x", "\nlines=20000\r\n"),
    ] {
        pty.line(line, printed);
        pty.expect(OUTER);
    }
    assert_eq!(pty.line("stty -g", OUTER), before, "{defaults}: after pipelines");
    leave(pty);
}

/// sudo makes a terminal of its own for what it runs, and copies: Debian's default.
#[test]
fn sudo_with_a_terminal() {
    let host = host!();
    if !have("sudo") {
        skip!(host, "there is no sudo here");
    }
    shell_by_sudo(&host, "use_pty");
}

/// sudo stands aside, and husk is in front of the caller's own terminal.
#[test]
fn sudo_without_a_terminal() {
    let host = host!();
    if !have("sudo") {
        skip!(host, "there is no sudo here");
    }
    shell_by_sudo(&host, "!use_pty");
}

// ---- script -------------------------------------------------------------------------------------

/// script(1) makes a terminal, as CI systems do that want one.
#[test]
fn under_script() {
    let host = host!();
    if !have("script") {
        skip!(host, "there is no script here");
    }
    let mut pty = outer(&host, "exec sh -i # $R");
    let before = pty.line("stty -g", OUTER);
    pty.line("script -qec '$HUSK run -e PS1=\"$INNER\" $R sh' /dev/null", INNER);
    assert_interactive(&mut pty, (31, 91));
    pty.send("exit 3\n");
    pty.expect(OUTER);
    pty.line("echo status=$?", "status=3\r\n");
    pty.expect(OUTER);
    assert_eq!(pty.line("stty -g", OUTER), before);
    leave(pty);
    // Without a terminal of the caller's: all that was written arrives, and its end.
    for input in ["</dev/null", "<$R/etc/passwd"] {
        let command = "$HUSK run $R sh -c \"tty; seq 20000; exit 4\"";
        let run = host.sh(&format!("script -qec '{command}' /dev/null {input}"));
        assert!(run.code == 4 && run.out.contains("/dev/pts/"), "{input}: {}", run.code);
        assert!(run.out.ends_with("\n19999\r\n20000\r\n"), "{input}: {}", run.out.len());
    }
    let run = host
        .sh("echo words | script -qec '$HUSK run $R sh -c \"read x; echo got-\\$x\"' /dev/null");
    assert!(run.out.ends_with("got-words\r\n"), "{run}");
}

// ---- tmux ---------------------------------------------------------------------------------------

/// A tmux of the test's own, with one window and nobody in front of it.
struct Tmux<'a> {
    host: &'a Host,
    dir: TempDir,
}

impl Tmux<'_> {
    fn new(host: &Host) -> Tmux<'_> {
        let tmux = Tmux { host, dir: TempDir::new() };
        tmux.call(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh", "-i"]);
        tmux.shows(OUTER);
        tmux
    }

    fn call(&self, args: &[&str]) -> String {
        let mut command = self.host.command("tmux");
        command.arg("-S").arg(self.dir.join("socket")).args(args);
        command.env("PS1", OUTER).env("HUSK", husk()).env("R", rootfs()).env("INNER", INNER);
        run(command.env_remove("TMUX").env("LC_ALL", "C.UTF-8")).ok()
    }

    fn screen(&self) -> String {
        self.call(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let mut screen = String::new();
        let start = std::time::Instant::now();
        while !screen.contains(text.trim_end()) {
            assert!(start.elapsed() < limit(), "no {text:?} on this screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
            screen = self.screen();
        }
    }

    /// A line as it is typed.
    fn types(&self, text: &str) {
        self.call(&["send-keys", "-l", text]);
        self.keys(&["Enter"]);
    }

    /// Keys by their names.
    fn keys(&self, names: &[&str]) {
        self.call(&[&["send-keys"], names].concat());
    }

    /// Nothing of before is on the screen any more, but a new prompt.
    fn clear(&self, prompt: &str) {
        self.types("clear; echo cleared$((6 * 7))");
        self.shows("cleared42\n");
        self.shows(&format!("\n{prompt}"));
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let mut command = self.host.command("tmux");
        command.arg("-S").arg(self.dir.join("socket")).arg("kill-server");
        let _ = command.status();
        if !std::thread::panicking() {
            until("the end of tmux", || self.host.processes().is_empty());
        }
    }
}

#[test]
fn in_tmux() {
    let host = host!();
    if !have("tmux") {
        skip!(host, "there is no tmux here");
    }
    let tmux = Tmux::new(&host);
    tmux.types("before=$(stty -g); $HUSK run -e PS1=\"$INNER\" $R sh");
    tmux.shows(INNER);
    tmux.types("tty; stty size");
    tmux.shows("\n/dev/pts/");
    tmux.shows("\n24 80\n");
    tmux.call(&["resize-window", "-x", "70", "-y", "20"]);
    tmux.types("sleep 0.2; stty size");
    tmux.shows("\n20 70\n");
    tmux.types("sleep 1000");
    tmux.shows("sleep 1000");
    tmux.keys(&["C-z"]);
    tmux.shows("Stopped");
    tmux.clear(INNER);
    // Programs that take the whole screen, and give it back.
    tmux.types("vi /tmp/file");
    tmux.shows("~\n~\n");
    tmux.keys(&["i", "first", "Enter", "second", "Escape"]);
    tmux.shows("first\nsecond\n");
    tmux.types(":wq");
    tmux.clear(INNER);
    tmux.types("cat /tmp/file | tr a-z A-Z");
    tmux.shows("FIRST\nSECOND\n");
    tmux.types("seq 1000 | less");
    tmux.shows("\n17\n18\n");
    tmux.keys(&["G"]);
    tmux.shows("\n999\n1000\n");
    // It hears of the window's size.
    tmux.call(&["resize-window", "-x", "80", "-y", "30"]);
    tmux.keys(&["g"]);
    tmux.shows("\n28\n");
    tmux.keys(&["q"]);
    tmux.clear(INNER);
    tmux.types("top");
    tmux.shows("Load average");
    tmux.keys(&["q"]);
    tmux.clear(INNER);
    tmux.types("kill -9 %1; wait");
    tmux.clear(INNER);
    tmux.types("exit 3");
    tmux.shows(&format!("\n{OUTER}")); // what is typed before is lost
    tmux.types("echo status=$?; [ $before = $(stty -g) ] && echo same$((6 * 7))");
    tmux.shows("\nstatus=3\nsame42\n");
}

/// readline reads keys one by one, and draws its line anew.
#[test]
fn bash_in_tmux() {
    let host = host!();
    if !have("tmux") {
        skip!(host, "there is no tmux here");
    }
    let root = match debian::debian() {
        Ok(root) => root,
        Err(reason) => skip!(host, "{reason}"),
    };
    let tmux = Tmux::new(&host);
    tmux.types(&format!("$HUSK run -e PS1=\"$INNER\" {root} bash --norc"));
    tmux.shows(INNER);
    tmux.types("echo one$((1 + 1))");
    tmux.shows("\none2\n");
    tmux.types("echo two$((2 + 2))");
    tmux.shows("\ntwo4\n");
    tmux.clear(INNER);
    tmux.keys(&["Up", "Up", "Up", "Enter"]);
    tmux.shows("\none2\n");
    tmux.call(&["send-keys", "-l", "world"]);
    tmux.keys(&["C-a"]);
    tmux.types("echo hello ");
    tmux.shows("\nhello world\n");
    tmux.keys(&["C-r"]);
    tmux.shows("(reverse-i-search)");
    tmux.call(&["send-keys", "-l", "two"]);
    tmux.shows("two': echo two$((2 + 2))");
    tmux.keys(&["Enter"]);
    tmux.shows("\ntwo4\n");
    tmux.call(&["send-keys", "-l", "cat /etc/debian_v"]);
    tmux.keys(&["Tab"]);
    tmux.shows("cat /etc/debian_version");
    tmux.keys(&["C-u"]);
    // A long line is wrapped where the window ends, also when that has moved.
    tmux.call(&["resize-window", "-x", "40", "-y", "20"]);
    tmux.types("sleep 0.2; echo columns=$COLUMNS");
    tmux.types("echo columns=$COLUMNS");
    tmux.shows("columns=40\n");
    tmux.types(&format!("echo {} | wc -c", "x".repeat(100)));
    tmux.shows("\n101\n");
    tmux.types("exit");
    tmux.shows(&format!("\n{OUTER}"));
}

// ---- a console that stands still ----------------------------------------------------------------

/// Reads what comes until it stands still.
fn drain(pty: &mut Pty) {
    while pty.sees("y") {
        pty.expect("y");
    }
}

/// Of a flood onto a console that takes nothing any more, the end: by signals, and by `husk stop`.
#[test]
fn flood() {
    let host = host!();
    let script = "trap \"exit 9\" TERM; yes & wait";
    for (options, key, stop) in [
        ("", "", false), // nobody reads
        ("", "", true),
        ("-t=false", "", true),
        ("-t=false", "\x13", false), // ^S, which the caller's terminal obeys
        ("-t=false", "\x13", true),
        ("", "\x13", false), // the container's does
        ("", "\x13", true),
    ] {
        let what = format!("{options} {key:?} {stop}");
        let shell = host.sh_command(&format!(
            "stty ixon -ixany; exec $HUSK run --name x {options} $R sh -c '{script}'"
        ));
        let mut pty = host.pty(shell);
        let husk = pty.child.id() as i32;
        if key.is_empty() {
            until("it runs", || !host.inits().is_empty());
            std::thread::sleep(Duration::from_secs(1));
        } else {
            pty.expect("y\r\ny\r\n");
            pty.send(key);
            drain(&mut pty);
            pty.send("\x11"); // ^Q
            pty.expect("y\r\ny\r\n");
            pty.send(key);
            drain(&mut pty);
        }
        assert_waits(husk);
        if stop {
            host.husk(&["stop", "x"]).ok();
        } else {
            kill(Pid::from_raw(husk), Signal::SIGTERM).expect("kill");
        }
        until("the container's end", || host.inits().is_empty());
        // The name is free, soon: who holds what nobody takes is husk alone.
        until("the name to be free", || {
            host.husk(&["run", "--name", "x", rootfs(), "true"]).code == 0
        });
        if options.is_empty() && !key.is_empty() {
            let (_, code) = pty.end();
            assert_eq!(code, 9, "{what}");
            continue;
        }
        assert!(pty.child.try_wait().expect("wait").is_none(), "{what}: its last words wait");
        assert_waits(husk);
        if stop {
            pty.send("\x03");
        } else {
            kill(Pid::from_raw(husk), Signal::SIGTERM).expect("kill");
        }
        until("husk's end", || pty.child.try_wait().expect("wait").is_some());
        assert_eq!(pty.child.wait().expect("wait").code(), Some(9), "{what}");
    }
}
