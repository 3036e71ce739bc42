//! `step!`: say it, do it, name it when it fails. With it errors, and `echo` and `cat`.

use crate::caller;
use nix::errno::Errno;
use std::cell::Cell;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Why husk failed, and its exit status: docker's 125, 126 or 127.
#[derive(Debug)]
pub struct Error {
    pub status: u8,
    pub why: String,
}

impl Error {
    /// Says it in one line.
    pub fn report(self) -> u8 {
        let line = format!("husk: {}\n", plain(&self.why));
        let _ = io::stderr().write_all(line.as_bytes());
        self.status
    }
}

/// Says something that is no error: in one line, too.
pub fn warn(what: impl Display) {
    Error { status: 0, why: what.to_string() }.report();
}

/// Characters that change how others are shown, or that nobody sees: Unicode's category Cf, and its
/// separators of lines.
const INVISIBLE: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// What others have named may hold line feeds, terminal escapes and the like: they become "?".
pub fn plain(text: &str) -> String {
    let is_invisible =
        |c: char| INVISIBLE.iter().any(|(first, last)| (*first..=*last).contains(&c));
    text.replace(|c: char| c.is_control() || is_invisible(c), "?")
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of husk's own, as opposed to one of the command that it was to start.
pub fn error(why: impl Display) -> Error {
    Error { status: 125, why: why.to_string() }
}

// Who speaks under --explain, "parent" or "child". Without --explain nobody does.
thread_local!(static NARRATOR: Cell<Option<&'static str>> = const { Cell::new(None) });

/// Makes `name` the one who speaks.
pub fn narrate_as(name: &'static str) {
    NARRATOR.set(Some(name));
}

/// After a clone the child has a voice of its own, if its parent has one.
pub fn rename_narrator(name: &'static str) {
    if NARRATOR.get().is_some() {
        NARRATOR.set(Some(name));
    }
}

/// Nobody speaks any more.
pub fn fall_silent() {
    NARRATOR.set(None);
}

/// Prints a line under --explain, in one write(2): so lines of parent and child never mix.
pub fn say(line: impl Display) {
    if NARRATOR.get().is_some() {
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

pub fn say_step(sentence: impl Display) {
    if let Some(name) = NARRATOR.get() {
        say(format_args!("   {name:6} {sentence}"));
    }
}

/// Nearly every call that changes something is a step: `step!(call, sentence)`. The sentence is the
/// shell command that does the same by hand. --explain prints it, then the call is made, and an
/// error begins with it. It is a macro because a function would be called too late to print first.
#[macro_export]
macro_rules! step {
    ($call:expr, $($sentence:tt)+) => {{
        $crate::step::say_step(format_args!($($sentence)+));
        $crate::step::attempt(format_args!($($sentence)+), $call)
    }};
}
pub use crate::step;

/// Gives an error its context: what was attempted, the kernel's reason, and a hint.
pub fn attempt<T, E: Into<io::Error>>(what: impl Display, result: Result<T, E>) -> Result<T> {
    let cause = match result {
        Ok(value) => return Ok(value),
        Err(cause) => cause.into(),
    };
    let Some(number) = cause.raw_os_error() else {
        return Err(error(format!("{what}: {cause}")));
    };
    let errno = Errno::from_raw(number);
    match hint(errno) {
        Some(hint) => Err(error(format!("{what}: {errno} ({hint})"))),
        None => Err(error(format!("{what}: {errno}"))),
    }
}

/// What a user can do about an error, where its name does not say that.
fn hint(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EPERM if !caller::is_rootless() => {
            Some("try sudo, or run it rootless as an ordinary user")
        }
        Errno::EPERM | Errno::EACCES | Errno::ENOSPC => caller::obstacle(),
        Errno::ENOSYS => {
            Some("this kernel is too old, or a seccomp filter hides it: husk needs Linux 5.14")
        }
        Errno::EAGAIN => Some("too many: see ulimit -u, pids.max and cgroup.max.*"),
        Errno::EPIPE | Errno::ESRCH => {
            Some("it was killed in its start: by husk stop, or is --memory too small?")
        }
        Errno::EXFULL => Some("a bridge takes 1,023 containers"),
        _ => None,
    }
}

/// The most that is read of one file: what a container says may have no end.
const READ_LIMIT: u64 = 16 << 20;

/// Reads a file, mostly one of the kernel's, and at most 16 MiB of it.
pub fn cat_bytes(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let mut bytes = Vec::with_capacity(4096); // mostly enough for one read(2)
    let file = attempt(format_args!("cat {}", path.display()), File::open(path))?;
    let outcome = file.take(READ_LIMIT).read_to_end(&mut bytes);
    attempt(format_args!("cat {}", path.display()), outcome)?;
    Ok(bytes)
}

/// The same as text. Paths in it may hold any bytes: those that are no UTF-8 are replaced.
pub fn cat(path: impl AsRef<Path>) -> Result<String> {
    let bytes = cat_bytes(path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes to a file of the kernel's: without O_CREAT, so that a missing one is ENOENT.
pub fn echo(value: &str, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    step!(overwrite(path, value), "echo {value} > {}", path.display())
}

fn overwrite(path: &Path, value: &str) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(value.as_bytes())
}

/// Writes to standard output, which may be closed or full.
pub fn print(text: &str) -> Result<()> {
    attempt("standard output", io::stdout().write_all(text.as_bytes()))
}
