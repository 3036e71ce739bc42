//! `--explain` against strace: what it says happens, what happens it says, and a failure is the
//! last thing that it says.

mod common;
use common::*;
use std::collections::HashMap;
use std::fs;

const TITLES: [&str; 8] = ["1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "7. ", "8. "];

/// The lines of `--explain`: who speaks, and the sentence. Section titles have no speaker.
fn parse(line: &str) -> (&str, &str) {
    let words = line.trim_start();
    match words.split_once(' ') {
        Some((who @ ("parent" | "child"), sentence)) => (who, sentence.trim_start()),
        _ => ("", line),
    }
}

#[test]
fn tells_the_story_in_order() {
    let host = host!();
    for options in
        [&["--explain"][..], &["--explain", "--network", "none"], &["--explain", "--writable"]]
    {
        let run = host.inside(options, "echo said >&2; exit 3");
        assert_eq!(run.code, 3, "{run}");
        let lines: Vec<_> = run.err.lines().collect();
        let titles: Vec<_> =
            lines.iter().filter(|line| parse(line).0.is_empty() && **line != "said").collect();
        for title in &titles {
            assert!(
                TITLES.iter().any(|number| title.starts_with(number)),
                "what is this? {title}\n{run}"
            );
            assert_eq!(
                lines.iter().filter(|line| line == title).count(),
                1,
                "twice: {title}\n{run}"
            );
        }
        let order: Vec<_> = titles.iter().map(|title| &title[..3]).collect();
        assert_eq!(order, TITLES, "{run}");
        for who in ["parent", "child"] {
            assert!(lines.iter().any(|line| parse(line).0 == who), "no {who}: {run}");
        }
        // The last line before the command's own is the call that becomes it.
        let said = lines.iter().position(|line| *line == "said").expect("the command's line");
        assert!(parse(lines[said - 1]).1.contains("exec"), "before the command: {run}");
        assert!(parse(lines[said - 1]).0 == "child", "before the command: {run}");
    }
    // Without it, nothing.
    assert_eq!(host.inside(&[], "true").err, "");
}

/// What each sentence may do, by the command that it begins with. Other sentences begin with the
/// name of their system call.
const CALLS: [(&str, &str); 21] = [
    ("chown", "fchown"),
    ("bridge", "sendto"),
    ("cd", "chdir fchdir openat2"),
    ("cp", "memfd_create"),
    ("echo", "openat write"),
    ("exec", "execve execveat"),
    ("hostname", "sethostname"),
    ("ip", "sendto"),
    ("iptables", "clone clone3 vfork"),
    ("ln", "symlink symlinkat"),
    ("mkdir", "mkdir mkdirat"),
    (
        "mount",
        "mount open_tree fsopen fsconfig fsmount mount_setattr move_mount openat openat2 mkdir \
         mkdirat",
    ),
    ("nsenter", "setns"),
    ("open", "openat"),
    ("rmdir", "rmdir unlinkat"),
    ("setfattr", "fsetxattr"),
    ("setpriv", "prctl setgroups setresgid setresuid"),
    ("touch", "mknodat"),
    ("umount", "umount2"),
    ("unshare", "clone3 unshare"),
    ("write", "openat write"),
];

/// The calls that must have their line.
const TOLD: &str = "clone clone3 vfork unshare setns mount umount2 move_mount open_tree fsopen fsmount \
    mount_setattr pivot_root sendto mkdir mkdirat rmdir";

fn among(name: &str, list: &str) -> bool {
    list.split(' ').any(|word| word == name)
}

/// A call as strace saw it.
struct Call {
    pid: String,
    name: String,
    args: String,
}

fn traced(host: &Host, options: &str) -> Vec<Call> {
    let dir = TempDir::new();
    let log = dir.join("trace");
    let script = format!(
        "{FORWARD}; exec strace -f -qq -s 400 -o {} $HUSK run {options} $R true",
        log.display()
    );
    let run = host.sh(&script);
    assert_eq!(run.code, 0, "{run}");
    let text = fs::read_to_string(log).expect("the trace");
    let calls = text.lines().filter_map(|line| {
        let (pid, call) = line.split_once(' ')?;
        let (name, args) = call.trim_start().split_once('(')?;
        let plain = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        plain.then(|| Call { pid: pid.into(), name: name.into(), args: args.into() })
    });
    calls.collect()
}

impl Call {
    /// The explain line that this call prints, if it does.
    fn line(&self) -> Option<(&str, &str)> {
        let text = self.args.strip_prefix("2, \"").filter(|_| self.name == "write")?;
        let text = text.rsplit_once("\\n\", ")?.0;
        Some(parse(text)).filter(|(who, _)| !who.is_empty())
    }

    /// Does it change something, as opposed to look at it?
    fn changes(&self) -> bool {
        let flags = ["O_WRONLY", "O_RDWR", "O_CREAT"];
        match self.name.as_str() {
            // A lock needs a descriptor that could write.
            "openat" if self.args.contains("/husk/cgroup.procs\"") => false,
            "openat" => flags.iter().any(|flag| self.args.contains(flag)),
            "sendto" => self.args.contains("nlmsg"), // else it is between parent and child
            "write" => false,
            "ioctl" => self.args.contains("TIOCSCTTY"),
            name => among(name, TOLD) || CALLS.iter().any(|(_, calls)| among(name, calls)),
        }
    }

    fn is_of(&self, sentence: &str) -> bool {
        let word = sentence.split([' ', '(', ':']).next().unwrap_or_default();
        let known = CALLS.iter().find(|(command, _)| *command == word);
        among(&self.name, known.map_or(word, |(_, calls)| calls))
    }
}

#[test]
fn says_what_strace_sees() {
    let host = host!();
    if !have("strace") {
        skip!(host, "no strace");
    }
    // For each process its last sentence, and whether the call has come.
    let mut now: HashMap<String, (String, bool)> = HashMap::new();
    let calls = traced(&host, "--explain");
    let is_iptables = |call: &Call| call.name == "execve" && call.args.contains("/iptables\"");
    let others: Vec<_> = calls.iter().filter(|c| is_iptables(c)).map(|c| c.pid.clone()).collect();
    for call in calls.iter().filter(|call| !others.contains(&call.pid)) {
        if let Some((_, sentence)) = call.line() {
            if let Some((before, false)) = now.insert(call.pid.clone(), (sentence.into(), false)) {
                // The command line's PATH has several places for a command to be.
                assert!(
                    before.starts_with("exec "),
                    "no call after `{before}`, before `{sentence}`"
                );
            }
            continue;
        }
        let told = among(&call.name, TOLD) && call.changes();
        let Some((sentence, done)) = now.get_mut(&call.pid) else {
            assert!(!told, "{}({} comes before any line", call.name, call.args);
            continue;
        };
        let fits = call.is_of(sentence);
        assert!(fits || !told, "`{sentence}`, but what happens is {}({}", call.name, call.args);
        assert!(
            fits || *done || !call.changes(),
            "first {}({}: `{sentence}`",
            call.name,
            call.args
        );
        *done |= fits;
    }
    assert!(now.len() >= 2, "two processes have something to say: {now:?}");
}

#[test]
fn a_failure_is_the_last_word() {
    let host = host!();
    if !have("strace") {
        skip!(host, "no strace");
    }
    let calls = traced(&host, "");
    let (mut tried, mut speakers) = (vec![], vec![]);
    for (name, error) in [
        ("mkdir", "ENOSPC"),
        ("mkdirat", "ENOSPC"),
        ("clone3", "EAGAIN"),
        ("sendto", "ENOBUFS:when=2"),
        ("sethostname", "EPERM"),
        ("fsopen", "ENODEV"),
        ("move_mount", "EINVAL"),
        ("pivot_root", "EINVAL"),
        ("umount2", "EBUSY"),
        ("setgroups", "EPERM"),
        ("capset", "EPERM"),
        ("seccomp", "EINVAL"),
        ("execveat", "EIO"),
    ] {
        if !calls.iter().any(|call| call.name == name) {
            continue;
        }
        let strace = format!("strace -f -qq -o /dev/null -e inject={name}:error={error}");
        let script = format!("{FORWARD}; exec {strace} $HUSK run --explain $R true");
        let run = host.sh(&script);
        assert!([125, 126].contains(&run.code), "{name}: {run}");
        let (told, last) = run.err.trim_end().rsplit_once('\n').expect("two lines at least");
        let message = last.strip_prefix("husk: ").unwrap_or_else(|| panic!("{name}: {run}"));
        let step = told
            .lines()
            .map(parse)
            .rfind(|(who, sentence)| !who.is_empty() && message.starts_with(sentence));
        let Some((who, sentence)) = step else { panic!("{name}: no line for the error: {run}") };
        let last_of = told.lines().map(parse).rfind(|(speaker, _)| *speaker == who);
        assert_eq!(last_of, Some((who, sentence)), "{name}: not the last line of the {who}: {run}");
        assert!(message.contains(error.split(':').next().unwrap_or(error)), "{name}: {run}");
        tried.push(name);
        speakers.push(who.to_string());
        host.assert_clean();
    }
    assert!(tried.len() >= 5, "too few: {tried:?}");
    assert!(
        ["parent", "child"].iter().all(|who| speakers.iter().any(|s| s == who)),
        "{speakers:?}"
    );
}

/// What a learner came for is done in main.rs itself, and not in a room beside it.
#[test]
fn the_walk_is_in_main() {
    let main = include_str!("../src/main.rs");
    let code: String = main.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut steps = String::new();
    for start in ["step!(", "echo(", "say_step("] {
        for call in code.split(start).skip(1) {
            steps.push_str(call.split(';').next().unwrap_or_default());
        }
    }
    for word in [
        "clone3",
        "memory.swap.max",
        "echo",
        "hostname",
        "overlay",
        "pivot_root",
        "umount",
        "veth",
        "addr",
        "route",
        "--bounding-set",
        "--no-new-privs",
        "exec",
        "capset",
        "seccomp",
        "tmpfs",
    ] {
        assert!(steps.contains(word), "no step with {word} in main.rs");
    }
    assert!(code.contains("new_mount(\"proc\""), "the proc mount");
}
