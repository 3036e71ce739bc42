//! README.md is true: its transcripts are typed into a shell on a host of their own and compared, and
//! its chapters, functions, options and diffs are those of main.rs.
//!
//! A fenced block marked `console` is a transcript; one marked `console vm` is typed only where
//! HUSK_VM says that the machine is ours to break. A chapter's blocks are one session, in a directory
//! that looks like the repository's. `# ` is root's prompt and `$ ` an ordinary user's, who has a shell
//! of his own; `/ # ` is a prompt in a container, `> ` goes on with the line above. In what is
//! expected, `...` stands for anything in a line, or, alone, for any lines.

mod common;
use common::*;
use nix::poll::{PollFd, PollFlags, poll};
use std::collections::BTreeSet;
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const README: &str = include_str!("../README.md");
const MAIN: &str = include_str!("../src/main.rs");
const MAKEFILE: &str = include_str!("../Makefile");
const USER: u32 = 1000;

// ---------------------------------------------------------------------------------------- transcripts

struct Block {
    chapter: String,
    line: usize,
    vm: bool,
    text: Vec<&'static str>,
}

/// The title of the chapter, the language and the text of every fenced block.
fn fences() -> Vec<(String, usize, &'static str, Vec<&'static str>)> {
    let (mut chapter, mut open, mut all) = (String::new(), false, vec![]);
    for (number, line) in README.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                all.push((chapter.clone(), number + 1, language, vec![]));
                open = true;
            }
            None if open => all.last_mut().expect("an open block").3.push(line),
            None => {
                if let Some(title) = line.strip_prefix("## ") {
                    chapter = title.to_string();
                }
            }
        }
    }
    assert!(!open, "a fenced block has no end");
    all
}

fn blocks() -> Vec<Block> {
    let consoles =
        fences().into_iter().filter(|(_, _, language, _)| language.starts_with("console"));
    let block = |(chapter, line, language, text): (String, usize, &str, Vec<&'static str>)| {
        assert!(["console", "console vm"].contains(&language), "line {line}: {language}?");
        Block { chapter, line, vm: language == "console vm", text }
    };
    consoles.map(block).collect()
}

/// A command of a transcript, and what it should print.
struct Step {
    line: usize,
    user: bool,
    command: String,
    expected: Vec<&'static str>,
}

fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![];
    for (number, text) in block.text.iter().enumerate() {
        let line = block.line + 1 + number;
        let prompt = ["# ", "/ # ", "$ "].into_iter().find(|prompt| text.starts_with(prompt));
        match (prompt, steps.last_mut()) {
            (Some(prompt), _) => {
                let command = text[prompt.len()..].to_string();
                steps.push(Step { line, user: prompt == "$ ", command, expected: vec![] });
            }
            (None, Some(step)) => match text.strip_prefix("> ") {
                Some(more) if step.expected.is_empty() => {
                    step.command.push('\n');
                    step.command.push_str(more);
                }
                _ => step.expected.push(text),
            },
            (None, None) => panic!("line {line}: a transcript begins with a prompt"),
        }
    }
    steps
}

/// Does the line fit? `...` stands for any text.
fn line_fits(pattern: &str, line: &str) -> bool {
    match pattern.split_once("...") {
        None => pattern == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|tail| {
            let ends = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
            ends.into_iter().any(|at| line_fits(rest, &tail[at..]))
        }),
    }
}

fn fits(expected: &[&str], lines: &[&str]) -> bool {
    match expected {
        [] => lines.is_empty(),
        ["...", rest @ ..] => (0..=lines.len()).any(|n| fits(rest, &lines[n..])),
        [first, rest @ ..] => {
            lines.first().is_some_and(|line| line_fits(first, line)) && fits(rest, &lines[1..])
        }
    }
}

// --------------------------------------------------------------------------------------- the sessions

const MARK: &str = "@@ that was it @@";

/// A shell that is given one line after the other, by a pipe. Whatever shell it starts reads on.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    output: PipeReader,
}

impl Shell {
    fn start(mut command: Command) -> Shell {
        let (output, writer) = pipe().expect("pipe");
        let both = writer.try_clone().expect("dup");
        let mut child =
            command.stdin(Stdio::piped()).stdout(writer).stderr(both).spawn().expect("a shell");
        Shell { stdin: child.stdin.take().expect("a pipe"), child, output }
    }

    /// What a command prints, up to when the shell asks for the next one.
    fn type_in(&mut self, command: &str) -> String {
        let limit = if in_vm() { 2 * LIMIT } else { LIMIT };
        writeln!(self.stdin, "{command}").expect("write to the shell");
        // Some shells read ahead: what comes next must not end with the shell that `exit` ends.
        until("the shell to read its line", || {
            let mut unread = 0;
            // SAFETY: FIONREAD writes one integer.
            unsafe { libc::ioctl(self.stdin.as_raw_fd(), libc::FIONREAD, &mut unread) };
            unread == 0
        });
        // `$?` stays what it was.
        writeln!(self.stdin, "status=$?; echo '{MARK}'; (exit $status)").expect("write");
        let (mut seen, start) = (vec![], Instant::now());
        loop {
            let text = String::from_utf8_lossy(&seen);
            if let Some((before, _)) = text.split_once(MARK) {
                return before.to_string();
            }
            let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, 100u16) == Ok(1);
            let mut buffer = [0; 4096];
            let n = if ready { self.output.read(&mut buffer).expect("read") } else { 0 };
            assert!(!ready || n > 0, "the shell has ended at `{command}`: {text}");
            assert!(start.elapsed() < limit, "`{command}` has not ended: {text}");
            seen.extend_from_slice(&buffer[..n]);
        }
    }

    fn end(mut self) {
        drop(self.stdin);
        let start = Instant::now();
        while self.child.try_wait().expect("wait").is_none() {
            assert!(start.elapsed() < LIMIT, "the shell does not end with its input");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Types the transcripts into shells, and compares what comes out.
fn session(host: &Host, blocks: &[&Block]) {
    let (root, user) = (directory(0), directory(USER));
    let bin = husk_for_all();
    let shell = |dir: &TempDir, uid: u32| {
        let mut command = host.command("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}:/usr/sbin:/sbin", bin.path());
        // setns(2) into a mount namespace has led to its root.
        let script = r#"cd "$HOME" && exec bash --norc --noprofile"#;
        command.args(["-c", script]).env_clear();
        command.envs([("PATH", &path[..]), ("HOME", dir.path()), ("LC_ALL", "C.UTF-8")]);
        // SAFETY: a system call with integers only. What cargo's caller had open stays out of sight.
        unsafe {
            command.pre_exec(|| {
                libc::syscall(
                    libc::SYS_close_range,
                    3,
                    libc::c_uint::MAX,
                    libc::CLOSE_RANGE_CLOEXEC,
                );
                Ok(())
            })
        };
        if uid != 0 {
            as_user(&mut command, uid);
        }
        Shell::start(command)
    };
    let mut shells = [shell(&root, 0), shell(&user, USER)];
    for step in blocks.iter().flat_map(|block| steps(block)) {
        let Step { line, command, expected, .. } = &step;
        let output = shells[usize::from(step.user)].type_in(command);
        let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
        // Ends at the first surprise: what comes next may be meant for a namespace that isn't there.
        assert!(
            fits(expected, &lines),
            "README.md:{line}: {command}\n-- says\n{}\n-- is\n{}",
            expected.join("\n"),
            lines.join("\n")
        );
    }
    shells.into_iter().for_each(Shell::end);
}

/// A directory that looks like the repository, and `rootfs` in it.
fn directory(uid: u32) -> TempDir {
    let dir = TempDir::new();
    let script = r#"cd "$1" && cp -a "$2" rootfs && chown -hR "$4:$4" . &&
        for name in Makefile README.md rootfs-scripts src tests; do ln -s "$3/$name" .; done"#;
    let args = ["-c", script, "sh", dir.path(), rootfs(), env!("CARGO_MANIFEST_DIR")];
    run(Command::new("sh").args(args).arg(uid.to_string())).ok();
    dir
}

fn number(chapter: &str) -> Option<usize> {
    chapter.split_once(". ")?.0.parse().ok()
}

/// The transcripts of the chapters, each chapter a session on a host of its own.
fn check(name: &str, wanted: impl Fn(&Block) -> bool) {
    let blocks = blocks();
    let wanted: Vec<&Block> = blocks.iter().filter(|block| wanted(block)).collect();
    let chapters: BTreeSet<&str> = wanted.iter().map(|block| &block.chapter[..]).collect();
    assert!(!chapters.is_empty(), "nothing to do for {name}");
    for chapter in chapters {
        println!("{chapter}");
        let here: Vec<&Block> =
            wanted.iter().copied().filter(|block| block.chapter == chapter).collect();
        session(&Host::new(""), &here);
    }
}

/// `$name` is a test of the transcripts that fit.
macro_rules! transcripts {
    ($($name:ident: $wanted:expr;)+) => {$(
        #[test]
        fn $name() {
            let host = host!();
            let wanted: fn(&Block) -> bool = $wanted;
            if stringify!($name).ends_with("vm") && !in_vm() {
                skip!(host, "these transcripts are for a machine of their own");
            }
            check(stringify!($name), wanted);
        }
    )+};
}

transcripts! {
    chapter_0: |b| !b.vm && number(&b.chapter) == Some(0);
    chapter_1: |b| !b.vm && number(&b.chapter) == Some(1);
    chapter_2: |b| !b.vm && number(&b.chapter) == Some(2);
    chapter_3: |b| !b.vm && number(&b.chapter) == Some(3);
    chapter_4: |b| !b.vm && number(&b.chapter) == Some(4);
    chapter_5: |b| !b.vm && number(&b.chapter) == Some(5);
    chapter_6: |b| !b.vm && number(&b.chapter) == Some(6);
    chapter_7: |b| !b.vm && number(&b.chapter) == Some(7);
    chapter_8: |b| !b.vm && number(&b.chapter) == Some(8);
    chapter_9: |b| !b.vm && number(&b.chapter) == Some(9);
    other_chapters: |b| !b.vm && number(&b.chapter).is_none();
    chapters_in_a_vm: |b| b.vm;
}

// ------------------------------------------------------------------- README, main.rs and --explain

/// The numbered sections of main.rs.
fn sections() -> Vec<String> {
    let headings = MAIN.lines().filter_map(|line| line.strip_prefix("// ---- "));
    let titles = headings.map(|line| line.trim_end_matches('-').trim().to_string());
    titles.filter(|title| number(title).is_some()).collect()
}

#[test]
fn chapters_are_the_sections_of_main() {
    let host = host!();
    let chapters: Vec<&str> = README.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let numbered: Vec<&str> =
        chapters.iter().copied().filter(|title| number(title).is_some()).collect();
    let sections = sections();
    assert_eq!(numbered, sections);
    assert!((0..=9).eq(sections.iter().filter_map(|title| number(title))), "{sections:?}");
    for title in numbered {
        let start = README.find(&format!("\n## {title}\n")).expect("the chapter");
        let end = README[start + 1..].find("\n## ").map_or(README.len(), |end| start + 1 + end);
        let parts = ["idea", "Read", "calls", "By hand", "Check it", "Break it", "Go further"];
        for part in parts {
            let text = &README[start..end];
            let begins = |start: &str| text.contains(&format!("**{start}"));
            assert!(begins(part) || begins(&format!("The {part}")), "{title}: no {part}");
        }
    }
    let run = host.husk(&["run", "--explain", rootfs(), "true"]);
    let told = run.err.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let told: BTreeSet<&str> = told.collect();
    // 0 may have nothing to tell, and 9 is other commands'.
    assert!((1..=8).all(|n| told.iter().any(|title| number(title) == Some(n))), "{told:?}");
    for title in told {
        assert!(sections.iter().any(|section| section == title), "--explain says {title}");
    }
}

#[test]
fn each_transcript_says_where() {
    let _host = host!();
    let lines: Vec<&str> = README.lines().collect();
    for block in blocks().iter().filter(|block| number(&block.chapter).is_some()) {
        let before = lines[..block.line - 1].iter().rev();
        let paragraph: Vec<&str> = before.take_while(|line| !line.is_empty()).copied().collect();
        let says = |words: &str| paragraph.iter().any(|line| line.contains(words));
        let places = ["nywhere", "`make vm`", "unshare -nm", "in the same shell"];
        let fits =
            if block.vm { says("`make vm`") } else { places.iter().any(|words| says(words)) };
        assert!(fits, "README.md:{}: where is that to be typed?", block.line);
    }
}

/// What README puts between backticks, out of fenced blocks.
fn code() -> Vec<&'static str> {
    let mut fenced = false;
    let mut found = vec![];
    let mut rest = README;
    while let Some(at) = rest.find('`') {
        let (ticks, tail) = (if rest[at..].starts_with("```") { 3 } else { 1 }, &rest[at..]);
        rest = &tail[ticks..];
        if ticks == 3 {
            fenced = !fenced;
        } else if !fenced {
            let end = rest.find('`').expect("the other backtick");
            found.push(&rest[..end]);
            rest = &rest[end + 1..];
        }
    }
    found
}

#[test]
fn what_it_names_exists() {
    let _host = host!();
    let mut functions = 0;
    for word in code() {
        if let Some(name) = word.strip_suffix("()") {
            let is_there = |after| MAIN.contains(&format!("fn {name}{after}"));
            assert!(is_there('(') || is_there('<'), "main.rs has no function {name}");
            functions += 1;
        }
    }
    let shells = fences().into_iter().filter(|(_, _, language, _)| *language == "sh");
    let commands: Vec<&str> = shells.flat_map(|(_, _, _, text)| text).chain(code()).collect();
    for command in commands.iter().filter_map(|command| command.strip_prefix("make ")) {
        let mut words = command.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
        let target = words.next().unwrap_or_default();
        assert!(MAKEFILE.contains(&format!("\n{target}:")), "no target for make {command}");
    }
    assert!(functions > 10, "only {functions} functions are named");
    for line in README.lines() {
        for path in line.split('`').filter(|word| word.starts_with("rootfs-scripts/")) {
            let path = path.split(' ').next().unwrap_or(path);
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            assert!(path.exists(), "no {}", path.display());
        }
    }
}

#[test]
fn what_it_refuses_is_refused() {
    let _host = host!();
    let (_, table) = README.split_once("| refused |").expect("the table of reasons");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let (mut capabilities, mut calls) = (0, 0);
    for cell in table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()) {
        let cell = cell.split('(').next().unwrap_or(cell).split(" with ").next().unwrap_or(cell);
        let (rights, refused) = match cell.split_once("; ") {
            Some((capability, refused)) if !capability.contains(' ') => (capability, refused),
            _ => ("", cell),
        };
        if !rights.is_empty() {
            assert!(MAIN.contains(&format!("(\"{rights}")), "not in DENIED: {rights}");
            capabilities += 1;
        }
        for path in cell.split([' ', ',']).filter(|word| word.starts_with('/') && word.len() > 5) {
            let known = path == "/proc/PID/exe" || MAIN.contains(&path[1..]);
            assert!(known, "main.rs has no {path}");
        }
        for word in refused.split(", ").filter(|word| !word.contains([' ', '/', '.'])) {
            let is_call = word.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c));
            let name = if is_call { format!("SYS_{word}") } else { word.to_string() };
            assert!(MAIN.contains(&name), "main.rs has no {name}");
            calls += 1;
        }
    }
    assert!(capabilities > 5 && calls > 20, "{capabilities} capabilities, {calls} calls");
}

/// The options with a dash in a text, such as `-m` and `--memory`.
fn options(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with('-') && word.len() > 1 && !word.ends_with('-')).collect()
}

#[test]
fn the_table_of_options_is_complete() {
    let host = host!();
    let help = host.husk(&["run", "--help"]).ok() + &host.husk(&["--help"]).ok();
    let (_, table) = README.split_once("| option |").expect("the table of options");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let first_cells =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let ours: BTreeSet<&str> = first_cells.flat_map(options).collect();
    let theirs: BTreeSet<&str> =
        options(&help).into_iter().filter(|option| *option != "--help").collect();
    assert_eq!(ours, theirs);
}

#[test]
fn errors_are_those_of_main() {
    let _host = host!();
    let (_, table) = README.split_once("| husk says |").expect("the table of errors");
    let (table, _) = table.split_once("\n\n").expect("its end");
    // A backslash at a line's end takes the next line's indentation away.
    let main: String = MAIN.split("\\\n").map(|part| part.trim_start()).collect();
    let messages: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(messages.len() > 5, "{messages:?}");
    for message in messages {
        assert!(main.contains(message), "main.rs never says {message}");
    }
}

#[test]
fn diffs_fit() {
    let _host = host!();
    let diffs: Vec<_> =
        fences().into_iter().filter(|(_, _, language, _)| *language == "diff").collect();
    assert!(!diffs.is_empty(), "no diffs");
    for (chapter, line, _, text) in diffs {
        let kept = text.iter().filter(|line| !line.starts_with(['+', '@']));
        let kept: Vec<&str> = kept.map(|line| line.get(1..).unwrap_or_default()).collect();
        let places = MAIN.matches(&kept.join("\n")).count();
        assert_eq!(places, 1, "README.md:{line} ({chapter}): where is that in main.rs?");
    }
}

#[test]
fn patterns_are_compared() {
    let _host = host!();
    assert!(fits(&["a...c", "...", "x"], &["abbc", "1", "2", "x"]));
    assert!(!fits(&["...", "...x...", "end"], &["1", "axb", "2", "end"]));
    assert!(!fits(&["a"], &["a", "b"]) && !fits(&["a", "b"], &["a"]) && !fits(&["..."; 0], &["a"]));
    assert!(line_fits("...", "") && line_fits("a...", "a") && !line_fits("a...b", "ab c"));
}
