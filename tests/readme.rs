//! README.md and docs/ are true: their transcripts are typed into a shell on a host of their own and
//! compared, and the chapters, functions, options and diffs that they show are those of the sources.
//!
//! A fenced block marked `console` is a transcript; one marked `console vm` is typed only where
//! HUSK_VM says that the machine is ours to break. The blocks below one `## ` heading are one session,
//! in a directory that looks like the repository's. `# ` is root's prompt and `$ ` an ordinary user's,
//! who has a shell of his own; `/ # ` is a prompt in a container, `> ` goes on with the line above. In
//! what is expected, `...` stands for anything in a line, or, alone, for any lines.
//!
//! What a text names is there: `name()` is a function of src/main.rs, `file.rs: name()` is one of
//! src/file.rs, and `file.rs: NAME` is a table of it.

mod common;
use common::*;
use nix::poll::{PollFd, PollFlags, poll};
use std::collections::BTreeSet;
use std::fs;
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const USER: u32 = 1000;
const README: &str = "README.md";

// ------------------------------------------------------------------------------ the pages, the sources

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(in_repository(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Those files of a directory whose names end so, with their texts: in the order of their names.
fn files(dir: &str, end: &str) -> Vec<(String, String)> {
    let mut paths = vec![];
    for entry in fs::read_dir(in_repository(dir)).expect("a directory of the repository") {
        let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
        if name.ends_with(end) {
            paths.push(format!("{dir}/{name}"));
        }
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// README.md and every page of docs/.
static PAGES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let mut pages = vec![(README.to_string(), read(README))];
    pages.extend(files("docs", ".md"));
    pages
});

fn page(path: &str) -> &'static str {
    let found = PAGES.iter().find(|(its, _)| its == path);
    &found.unwrap_or_else(|| panic!("no {path}")).1
}

/// All of src/ but the appendix, one file after the other.
static SOURCES: LazyLock<String> = LazyLock::new(|| {
    let mut all = String::new();
    for dir in ["src", "src/cli", "src/commands", "src/sys", "src/terminal"] {
        for (_, text) in files(dir, ".rs") {
            all += &text;
        }
    }
    all
});

// ---------------------------------------------------------------------------------------- transcripts

/// A fenced block: the page and the `## ` title that it stands under, the line, language and text.
#[derive(Clone)]
struct Block {
    page: &'static str,
    chapter: &'static str,
    line: usize,
    language: &'static str,
    text: Vec<&'static str>,
}

impl Block {
    fn is_vm(&self) -> bool {
        self.language == "console vm"
    }

    fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

fn fences_of(page: &'static str, text: &'static str) -> Vec<Block> {
    let (mut chapter, mut open, mut all) = ("", false, Vec::<Block>::new());
    for (number, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                all.push(Block { page, chapter, line: number + 1, language, text: vec![] });
                open = true;
            }
            None if open => all.last_mut().expect("an open block").text.push(line),
            None => chapter = line.strip_prefix("## ").unwrap_or(chapter),
        }
    }
    assert!(!open, "{page}: a fenced block has no end");
    all
}

fn fences() -> Vec<Block> {
    PAGES.iter().flat_map(|(path, text)| fences_of(path, text)).collect()
}

fn transcripts() -> Vec<Block> {
    let mut all = fences();
    all.retain(|block| block.language.starts_with("console"));
    for block in &all {
        let (place, language) = (block.place(), block.language);
        assert!(["console", "console vm"].contains(&language), "{place}: {language}?");
    }
    all
}

/// A command of a transcript, and what it should print.
struct Step {
    place: String,
    user: bool,
    command: String,
    expected: Vec<&'static str>,
}

fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![];
    for (number, text) in block.text.iter().enumerate() {
        let place = format!("{}:{}", block.page, block.line + 1 + number);
        let prompt = ["# ", "/ # ", "$ "].into_iter().find(|prompt| text.starts_with(prompt));
        match (prompt, steps.last_mut()) {
            (Some(prompt), _) => {
                let command = text[prompt.len()..].to_string();
                steps.push(Step { place, user: prompt == "$ ", command, expected: vec![] });
            }
            (None, Some(step)) => match text.strip_prefix("> ") {
                Some(more) if step.expected.is_empty() => {
                    step.command.push('\n');
                    step.command.push_str(more);
                }
                _ => step.expected.push(text),
            },
            (None, None) => panic!("{place}: a transcript begins with a prompt"),
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
        let Step { place, command, expected, .. } = &step;
        let output = shells[usize::from(step.user)].type_in(command);
        let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
        // Ends at the first surprise: what comes next may be meant for a namespace that isn't there.
        assert!(
            fits(expected, &lines),
            "{place}: {command}\n-- says\n{}\n-- is\n{}",
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
        for name in Makefile README.md docs rootfs-scripts src tests; do ln -s "$3/$name" .; done"#;
    let args = ["-c", script, "sh", dir.path(), rootfs(), env!("CARGO_MANIFEST_DIR")];
    run(Command::new("sh").args(args).arg(uid.to_string())).ok();
    dir
}

fn number(chapter: &str) -> Option<usize> {
    chapter.split_once(". ")?.0.parse().ok()
}

/// Types the transcripts that are wanted, those of each `## ` heading as a session on a host of its own.
fn check(name: &str, wanted: fn(&Block) -> bool) {
    let mut blocks = transcripts();
    blocks.retain(|block| block.is_vm() == name.ends_with("vm") && wanted(block));
    assert!(!blocks.is_empty(), "nothing to do for {name}");
    let sessions: BTreeSet<_> = blocks.iter().map(|block| (block.page, block.chapter)).collect();
    for (page, chapter) in sessions {
        println!("{page}: {chapter}");
        let mut here: Vec<&Block> = blocks.iter().collect();
        here.retain(|block| (block.page, block.chapter) == (page, chapter));
        session(&Host::new(""), &here);
    }
}

/// `$name` is a test of the transcripts that fit: of those for a machine of their own if it ends in vm.
macro_rules! transcripts {
    ($($name:ident: $wanted:expr;)+) => {$(
        #[test]
        fn $name() {
            let host = host!();
            if stringify!($name).ends_with("vm") && !in_vm() {
                skip!(host, "these transcripts are for a machine of their own");
            }
            check(stringify!($name), $wanted);
        }
    )+};
}

fn is_chapter(block: &Block, n: usize) -> bool {
    block.page == README && number(block.chapter) == Some(n)
}

transcripts! {
    chapter_1: |b| is_chapter(b, 1);
    chapter_2: |b| is_chapter(b, 2);
    chapter_3: |b| is_chapter(b, 3);
    chapter_4: |b| is_chapter(b, 4);
    chapter_5: |b| is_chapter(b, 5);
    chapter_6: |b| is_chapter(b, 6);
    chapter_7: |b| is_chapter(b, 7);
    chapter_8: |b| is_chapter(b, 8);
    other_chapters: |b| b.page == README && number(b.chapter).is_none();
    recipes: |b| b.page == "docs/recipes.md";
    other_docs: |b| b.page != README && b.page != "docs/recipes.md";
    chapters_in_a_vm: |b| b.page == README;
    docs_in_a_vm: |b| b.page != README;
}

// ------------------------------------------------------------------- README, main.rs and --explain

const PARTS: [&str; 5] = ["Idea", "By hand", "Check it", "Try to break it", "Exercise"];

/// The numbered sections of main.rs.
fn sections() -> Vec<String> {
    let main = read("src/main.rs");
    let headings = main.lines().filter_map(|line| line.strip_prefix("// ---- "));
    let titles = headings.map(|line| line.trim_end_matches('-').trim().to_string());
    titles.filter(|title| number(title).is_some()).collect()
}

/// The `## ` titles of a page, each with its text.
fn chapters(path: &str) -> Vec<(&'static str, &'static str)> {
    let text = page(path).split("\n## ").skip(1);
    text.map(|chapter| chapter.split_once('\n').expect("more than a title")).collect()
}

#[test]
fn chapters_are_the_sections_of_main() {
    let host = host!();
    let mut numbered = chapters(README);
    numbered.retain(|(title, _)| number(title).is_some());
    let titles: Vec<&str> = numbered.iter().map(|(title, _)| *title).collect();
    let sections = sections();
    assert_eq!(titles, sections);
    assert!((1..=8).eq(sections.iter().filter_map(|title| number(title))), "{sections:?}");
    for (title, text) in &numbered {
        for part in PARTS {
            assert_eq!(text.matches(&format!("**{part}.**")).count(), 1, "{title}: {part}");
        }
    }
    let run = host.husk(&["run", "--explain", rootfs(), "true"]);
    let told = run.err.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let told: BTreeSet<&str> = told.collect();
    assert_eq!(told, titles.into_iter().collect(), "the titles that --explain says");
}

/// Short enough to be read: the whole, and each chapter.
#[test]
fn it_is_short() {
    let _host = host!();
    assert!(page(README).lines().count() <= 650, "README.md has over 650 lines");
    for (title, text) in chapters(README) {
        let lines = text.lines().count();
        assert!(number(title).is_none() || lines <= 50, "{title}: {lines} lines");
    }
    for (path, text) in PAGES.iter() {
        for (n, line) in text.lines().enumerate() {
            let is_long = line.chars().count() > 120 && !line.starts_with('|');
            assert!(!is_long, "{path}:{}: over 120 characters", n + 1);
        }
    }
}

#[test]
fn each_transcript_says_where() {
    let _host = host!();
    for block in transcripts() {
        let lines: Vec<&str> = page(block.page).lines().collect();
        let before = lines[..block.line - 1].iter().rev();
        let paragraph: Vec<&str> = before.take_while(|line| !line.is_empty()).copied().collect();
        let says = |words: &str| paragraph.iter().any(|line| line.contains(words));
        let places = ["nywhere", "`make vm`", "unshare -nm", "n the same shell"];
        // What is no chapter says at its page's beginning where its transcripts can be typed.
        let fits = match (block.is_vm(), number(block.chapter)) {
            (true, _) => says("`make vm`"),
            (false, None) => true,
            (false, Some(_)) => places.iter().any(|words| says(words)),
        };
        assert!(fits, "{}: where is that to be typed?", block.place());
    }
}

/// What a page puts between backticks, out of fenced blocks.
fn code(page: &'static str) -> Vec<&'static str> {
    let (mut fenced, mut found) = (false, vec![]);
    for paragraph in page.split("\n\n") {
        // A fence may hold empty lines; a code span may go on in the next line, not past an empty one.
        let mut text = paragraph;
        while let Some(at) = text.find('`') {
            if text[at..].starts_with("```") {
                (fenced, text) = (!fenced, &text[at + 3..]);
            } else if fenced {
                text = &text[at + 1..];
            } else {
                let end = text[at + 1..].find('`').expect("the other backtick") + at + 1;
                found.push(&text[at + 1..end]);
                text = &text[end + 1..];
            }
        }
    }
    found
}

/// The file and the name that a code span names, if it does: `name()` is main.rs's.
fn named(span: &str) -> Option<(String, &str)> {
    let (file, name) = span.split_once(": ").unwrap_or(("main.rs", span));
    let path = file.strip_suffix(".rs").map(|_| format!("src/{file}"))?;
    let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_ours = name.strip_suffix("()").is_some_and(is_plain) || (name != span && is_plain(name));
    is_ours.then_some((path, name))
}

#[test]
fn what_it_names_exists() {
    let _host = host!();
    let mut functions = 0;
    for (path, text) in PAGES.iter() {
        for span in code(text) {
            let Some((file, name)) = named(span) else { continue };
            let source = read(&file);
            let starts: &[String] = &match name.strip_suffix("()") {
                Some(name) => [format!("fn {name}("), format!("fn {name}<")],
                None => [format!("const {name}:"), format!("static {name}:")],
            };
            assert!(starts.iter().any(|start| source.contains(start)), "{path}: no {span}");
            functions += 1;
        }
    }
    assert!(functions > 10, "only {functions} functions are named");
}

#[test]
fn commands_scripts_and_links_exist() {
    let _host = host!();
    let makefile = read("Makefile");
    let shells = fences().into_iter().filter(|block| block.language == "sh");
    let mut commands: Vec<&str> = shells.flat_map(|block| block.text).collect();
    for (_, text) in PAGES.iter() {
        commands.extend(code(text));
    }
    for command in &commands {
        let command = command.trim_start();
        if let Some(rest) = command.strip_prefix("make ") {
            let mut words = rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
            let target = words.next().unwrap_or_default();
            assert!(makefile.contains(&format!("\n{target}:")), "no target for make {command}");
        }
        if command.starts_with("rootfs-scripts/") {
            let script = command.split(' ').next().unwrap_or(command);
            assert!(in_repository(script).exists(), "no {script}");
        }
    }
    for (path, text) in PAGES.iter() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.starts_with("http") {
                check_link(path, link);
            }
        }
    }
}

/// A link in a page: to a file, or to a heading, as FILE#anchor.
fn check_link(page: &str, link: &str) {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let dir = Path::new(page).parent().expect("a page's directory");
    let path = if file.is_empty() { PathBuf::from(page) } else { dir.join(file) };
    let path = in_repository(path.to_str().expect("a plain path"));
    assert!(path.exists(), "{page}: no {link}");
    if !anchor.is_empty() {
        let text = fs::read_to_string(&path).expect("a page");
        let titles = text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
        let mut anchors = titles.map(|title| {
            let plain = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
            title.to_lowercase().chars().filter(plain).collect::<String>().replace(' ', "-")
        });
        assert!(anchors.any(|its| its == anchor), "{page}: no {link}");
    }
}

/// README leads to every page of docs/.
#[test]
fn all_pages_are_linked() {
    let _host = host!();
    for (path, _) in PAGES.iter().skip(1) {
        let times = page(README).matches(&format!("({path}")).count();
        assert!(times > 0, "README.md has no link to {path}");
    }
}

/// The lines of the table that begins so, but for its titles.
fn table(path: &str, start: &str) -> Vec<&'static str> {
    let (_, table) = page(path).split_once(start).unwrap_or_else(|| panic!("{path}: no {start}"));
    table.split("\n\n").next().unwrap_or(table).lines().skip(2).collect()
}

#[test]
fn what_it_refuses_is_refused() {
    let _host = host!();
    let (mut capabilities, mut calls) = (0, 0);
    let rows = table("docs/security.md", "| refused |");
    for cell in rows.iter().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()) {
        let cell = cell.split('(').next().unwrap_or(cell).split(" with ").next().unwrap_or(cell);
        let (rights, refused) = match cell.split_once("; ") {
            Some((capability, refused)) if !capability.contains(' ') => (capability, refused),
            _ => ("", cell),
        };
        if !rights.is_empty() {
            assert!(SOURCES.contains(&format!("({rights}")), "not in REFUSED: {rights}");
            capabilities += 1;
        }
        for path in cell.split([' ', ',']).filter(|word| word.starts_with('/') && word.len() > 5) {
            let known = path == "/proc/PID/exe" || SOURCES.contains(&path[1..]);
            assert!(known, "no source has {path}");
        }
        for word in refused.split(", ").filter(|word| !word.contains([' ', '/', '.'])) {
            let is_call = word.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c));
            let name = if is_call { format!("SYS_{word}") } else { word.to_string() };
            assert!(SOURCES.contains(&name), "no source has {name}");
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
    let rows = table(README, "| option |");
    let first_cells = rows.iter().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let ours: BTreeSet<&str> = first_cells.flat_map(options).collect();
    let theirs: BTreeSet<&str> =
        options(&help).into_iter().filter(|option| *option != "--help").collect();
    assert_eq!(ours, theirs);
}

#[test]
fn errors_are_those_of_husk() {
    let _host = host!();
    // A backslash at a line's end takes the next line's indentation away.
    let sources: String = SOURCES.split("\\\n").map(|part| part.trim_start()).collect();
    let rows = table("docs/troubleshooting.md", "| husk says |");
    let messages: Vec<&str> =
        rows.iter().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(messages.len() > 5, "{messages:?}");
    for message in messages {
        assert!(sources.contains(message), "husk never says {message}");
    }
}

/// Each diff begins with the name of its file; each of its parts, divided by @@, fits in one place.
#[test]
fn diffs_fit() {
    let _host = host!();
    let mut diffs = fences();
    diffs.retain(|block| block.language == "diff");
    assert!(!diffs.is_empty(), "no diffs");
    for diff in diffs {
        let file = diff.text[0].strip_prefix("--- ").expect("a diff begins with --- FILE");
        for hunk in diff.text[1..].split(|line| line.starts_with("@@")) {
            let kept = hunk.iter().filter(|line| !line.starts_with('+'));
            let kept: Vec<&str> = kept.map(|line| line.get(1..).unwrap_or_default()).collect();
            let places = read(file).matches(&kept.join("\n")).count();
            let is_fit = places == 1 || hunk.is_empty();
            assert!(is_fit, "{}: where in {file} is {kept:?}?", diff.place());
        }
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
