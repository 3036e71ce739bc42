//! husk: a container runtime to read. A container is a process in a thin shell of kernel settings;
//! this file is that shell, in the order in which `husk run` puts it on. `run`, below, is the table
//! of contents; README.md has a chapter for each numbered section.

use libc::*;
use nix::fcntl::{self, AtFlags, FcntlArg, OFlag, OpenHow, ResolveFlag, SealFlag};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{self, SigSet, Signal};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::sys::{memfd, prctl, signalfd::SignalFd, stat, statvfs};
use nix::{errno::Errno, unistd, unistd::Gid, unistd::Pid, unistd::Uid};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::{ffi::OsStrExt, ffi::OsStringExt, fs::MetadataExt, fs::PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, exit};
use std::time::{Duration, Instant};
use std::{cell::Cell, collections::VecDeque, convert::Infallible, env, fmt, fmt::Display};
use std::{hash::BuildHasher, hash::RandomState, mem, net::Ipv4Addr, ptr, thread};

/// What to run, and in what.
#[derive(Default)]
struct Container {
    name: String,
    hostname: String,
    rootfs: PathBuf,
    writable: bool,
    read_only: bool,
    volumes: Vec<(PathBuf, PathBuf, MsFlags)>, // source, target
    limits: Vec<Limit>,                        // a file of the cgroup, and what to write to it
    namespaces: c_int,
    bridge: bool,
    capabilities: u64,
    user: (u32, u32),
    env: Vec<CString>,
    workdir: PathBuf,
    command: Vec<CString>,
    detach: bool,
}

/// The table of contents. What `spawn` is given runs in the child, which becomes the container; all
/// else runs in husk itself, section 3 while the child is busy with sections 4 and 5.
fn run(c: &Container) -> Result<u8> {
    let cgroup = create_cgroup(c)?; // 1
    let caller = (unistd::geteuid(), unistd::getegid());
    let child = spawn(c.namespaces, cgroup.as_ref(), |parent| {
        enter_namespaces(c, caller)?; // 2
        set_hostname(c)?; // 4
        let hosts = build_root(c)?; // 5
        let number = wait_for_parent(parent)?;
        network_inside(c, number, hosts)?; // 6
        lock_down(c, parent)?; // 7
        execute(c) // 8
    });
    let outcome = child.and_then(|child| {
        supervise(&child, c.detach, || match &cgroup {
            Some(cgroup) => network_outside(c, child.pid, cgroup), // 3
            None => Ok(0),
        })
    });
    clean_up(c, cgroup, outcome) // 8
}

/// The exit status, docker's 125, 126 or 127, and why husk failed.
struct Error(u8, String);

type Result<T, E = Error> = std::result::Result<T, E>;

fn error(why: impl Display) -> Error {
    Error(125, why.to_string())
}

// Who speaks under --explain: "parent" or "child". Without it the name is empty and nobody does.
thread_local!(static NARRATOR: Cell<&'static str> = const { Cell::new("") });

/// One write(2) per line, so that the lines of parent and child never mix.
fn narrate(line: fmt::Arguments) {
    if !NARRATOR.get().is_empty() {
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

/// Every call that changes something is a step, with the shell command that does the same by hand:
/// --explain prints it just before the call, and an error begins with it.
macro_rules! step {
    ($call:expr, $($sentence:tt)+) => {{
        narrate(format_args!("   {:6} {}", NARRATOR.get(), format_args!($($sentence)+)));
        attempt(format_args!($($sentence)+), $call)
    }};
}

fn attempt<T, E: Into<io::Error>>(what: impl Display, result: Result<T, E>) -> Result<T> {
    result.map_err(|cause| {
        let cause = cause.into();
        let errno = cause.raw_os_error().map(Errno::from_raw);
        let why = errno.map_or(cause.to_string(), |errno| format!("{errno}{}", hint(errno)));
        error(format!("{what}: {why}"))
    })
}

/// What a user can do about an error whose name does not say it.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM if !rootless() => " (try sudo, or an ordinary user for a rootless container)",
        Errno::EPERM | Errno::EACCES | Errno::ENOSPC if rootless() => {
            " (rootless: see sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and \
             kernel.apparmor_restrict_unprivileged_userns)"
        }
        Errno::ENOSYS => " (this kernel is too old: husk needs Linux 5.14)",
        Errno::EAGAIN => " (too many processes: see ulimit -u and pids.max)",
        Errno::EXFULL => " (a bridge takes 1,023 containers)",
        _ => "",
    }
}

/// The text of a file, as a rule of the kernel's. Paths in it may hold any bytes.
fn read(path: impl AsRef<Path>) -> Result<String> {
    let bytes = attempt(format_args!("cat {}", path.as_ref().display()), fs::read(&path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes to a file of the kernel's: without O_CREAT, so that a missing one is ENOENT.
fn echo(value: &str, path: impl AsRef<Path>) -> Result<()> {
    let write = || File::options().write(true).open(&path)?.write_all(value.as_bytes());
    step!(write(), "echo {value} > {}", path.as_ref().display())
}

/// Is this process in a user namespace, or must its container be? Only the first namespace maps
/// all ids in one line, user_namespaces(7).
fn rootless() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !unistd::geteuid().is_root() || !map.trim_end().ends_with(" 4294967295")
}

/// The standard library's one source of randomness: the keys of its hash maps.
fn random() -> u32 {
    RandomState::new().hash_one(()) as u32
}

// ---- 0. the command line ------------------------------------------------------------------------

/// Also the table of options: what stands here between two spaces or more is an option with its
/// short name and, in capitals, its value. What does not stand here is not accepted.
const HELP: &str = "\
husk run [OPTIONS] ROOTFS [COMMAND [ARG]...]   start a container; COMMAND is /bin/sh if not given
husk exec [-e -u -w] CONTAINER COMMAND [ARG]...   run a command in a running one
husk ps                                        list the running ones
husk stop [-t] CONTAINER...                    SIGTERM, and SIGKILL after 10 seconds

what      --name NAME  -h --hostname NAME  -e --env KEY=VALUE (or KEY, for the caller's value)
          -w --workdir DIR  -u --user UID[:GID]  -d --detach
files     -v --volume SRC:DST[:ro]  --read-only  --writable (changes go to ROOTFS itself)
limits    -m --memory SIZE (64m)  --cpus NUMBER (0.5)  --pids-limit NUMBER  --cgroup FILE=VALUE
network   --network MODE (bridge, none or host)
rights    --cap-add NAME (or ALL)  --cap-drop NAME (or ALL)
teaching  --explain (say each step as it happens)
stop      -t --time SECONDS
ignored   -i --interactive  -t --tty  --rm (it is always so)

Exit status: the command's; 128+N if signal N killed it; 125 husk failed; 126 the command can't
be run; 127 it was not found. As an ordinary user the same commands run rootless.
Example: sudo husk run -m 64m -v /srv/www:/www:ro rootfs httpd -f -h /www
";

fn main() -> ExitCode {
    for number in 1..=64 {
        // SAFETY: SIG_DFL installs no code of ours. What husk's caller ignores, and SIGPIPE, which
        // Rust ignores, would else stay ignored in the container, signal(7).
        unsafe { libc::signal(number, SIG_DFL) };
    }
    let mut words: Words = env::args_os().skip(1).collect();
    let outcome = match words.pop_front().unwrap_or_default().to_str() {
        Some("run") => run_command(words),
        Some("exec") => exec_command(words),
        Some("ps") => ps_command(words),
        Some("stop") => stop_command(words),
        Some("help" | "--help" | "-h") => print(HELP),
        Some("--version") => print(concat!("husk ", env!("CARGO_PKG_VERSION"), "\n")),
        _ => Err(error("expected run, exec, ps or stop: see husk --help")),
    };
    ExitCode::from(outcome.unwrap_or_else(|Error(status, why)| {
        let _ = io::stderr().write_all(format!("husk: {}\n", one_line(&why)).as_bytes());
        status
    }))
}

/// Names and paths may hold line feeds and terminal escapes: shown, but harmless.
fn one_line(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}

fn print(text: &str) -> Result<u8> {
    attempt("standard output", io::stdout().write_all(text.as_bytes())).map(|()| 0)
}

type Words = VecDeque<OsString>;

/// Takes the options off a command line: each one's long name, its value, and what `table` has of
/// it. `-it` is `-i -t`, `-m64m` is `-m 64m`, `--opt=value` is `--opt value`.
fn options<'a>(words: &mut Words, table: &'a str) -> Result<Vec<(&'a str, OsString, &'a str)>> {
    let mut found = vec![];
    while let Some(word) = words.pop_front_if(|word| word.len() > 1 && word.as_bytes()[0] == b'-') {
        let bytes = word.as_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
        let (name, rest) = bytes.split_at(if bytes[1] == b'-' { equals } else { 2 });
        if name == b"--" {
            break;
        }
        let names = |entry: &'a str| entry.split(' ').take_while(|word| word.starts_with('-'));
        let mut entries = table.split("  ").flat_map(str::lines);
        let entry = entries.find(|entry| names(entry).any(|known| known.as_bytes() == name));
        let entry = entry.ok_or_else(|| error(format!("{}: see husk --help", word.display())))?;
        let option = names(entry).last().unwrap_or_default();
        let expected = entry[entry.find(option).unwrap_or(0) + option.len()..].trim();
        let takes_value = expected.starts_with(char::is_uppercase);
        let missing = || error(format!("{option}: expected {expected}"));
        let value = match rest {
            [] if takes_value => words.pop_front().ok_or_else(missing)?,
            [b'=', value @ ..] | value if takes_value => OsStr::from_bytes(value).into(),
            [] => OsString::new(),
            [b'=', ..] => return Err(error(format!("{option}: expected no value"))),
            more => {
                words.push_front(OsString::from_vec([b"-", more].concat()));
                OsString::new()
            }
        };
        found.push((option, value, expected));
    }
    Ok(found)
}

fn set<T>(place: &mut T, value: Option<T>) -> Option<()> {
    value.map(|value| *place = value)
}

fn run_command(mut words: Words) -> Result<u8> {
    let mut c = Container { bridge: !rootless(), namespaces: NAMESPACES, ..Default::default() };
    let (mut added, mut dropped) = (0, 0);
    (c.name, c.workdir) = (format!("{:08x}", random()), "/".into());
    for (option, value, expected) in options(&mut words, HELP)? {
        let text = value.to_str().unwrap_or_default();
        let good = match option {
            "--help" => return print(HELP),
            "--name" => set(&mut c.name, name(text)),
            "--hostname" => set(&mut c.hostname, name(text)),
            "--env" => set_env(&mut c.env, &value),
            "--workdir" => set(&mut c.workdir, absolute(&value)),
            "--user" => set(&mut c.user, user(text)),
            "--detach" => set(&mut c.detach, Some(true)),
            "--volume" => volume(&value).map(|volume| c.volumes.push(volume)),
            "--read-only" => set(&mut c.read_only, Some(true)),
            "--writable" => set(&mut c.writable, Some(true)),
            "--network" => {
                network(text).map(|(bridge, flags)| (c.bridge, c.namespaces) = (bridge, flags))
            }
            "--cap-add" => capability(text).map(|bit| added |= bit),
            "--cap-drop" => capability(text).map(|bit| dropped |= bit),
            "--explain" => Some(NARRATOR.set("parent")),
            "--interactive" | "--tty" | "--rm" => Some(()),
            _ => limit(option, text).map(|limit| c.limits.push(limit)),
        };
        good.ok_or_else(|| error(format!("{option} {}: expected {expected}", value.display())))?;
    }
    if c.writable && c.read_only {
        return Err(error("--read-only and --writable: expected one of them"));
    }
    c.rootfs = root_dir(words.pop_front().ok_or_else(|| error("run: expected a ROOTFS"))?)?;
    c.command = words.into_iter().map(c_string).collect();
    // docker's rule: ALL comes first, names are exceptions from it.
    c.capabilities = match (added & ALL, dropped & ALL) {
        (ALL, _) => !(dropped & !ALL),
        (_, ALL) => added,
        _ => (KEPT.split(' ').filter_map(capability).sum::<u64>() | added) & !dropped,
    };
    if c.hostname.is_empty() {
        c.hostname = c.name.clone();
    }
    if c.command.is_empty() {
        c.command.push(c"/bin/sh".into());
    }
    if rootless() {
        c.namespaces |= CLONE_NEWUSER;
    }
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let home = if c.user.0 == 0 { "HOME=/root" } else { "HOME=/" };
    let term = if terminal().is_some() { "TERM" } else { path };
    let given = mem::take(&mut c.env);
    let defaults = [path, term, home, &format!("HOSTNAME={}", c.hostname)].map(OsString::from);
    let given = given.into_iter().map(|pair| OsString::from_vec(pair.into_bytes()));
    defaults.into_iter().chain(given).for_each(|pair| {
        set_env(&mut c.env, &pair);
    });
    shield()?;
    run(&c)
}

/// Starts husk again from a copy of itself that nobody can write to: a container whose command is
/// /proc/self/exe could else keep the host's husk open, and overwrite it later (CVE-2019-5736).
fn shield() -> Result<()> {
    let exe = attempt("open /proc/self/exe", File::open("/proc/self/exe"))?;
    let is_sealed = fcntl::fcntl(&exe, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals != 0);
    let mount = attempt("statvfs /proc/self/exe", statvfs::fstatvfs(&exe))?;
    if is_sealed || mount.flags().contains(statvfs::FsFlags::ST_RDONLY) {
        return Ok(());
    }
    let args: Vec<CString> = env::args_os().map(c_string).collect();
    let pair = |(key, value): (OsString, _)| c_string([key, value].join("=".as_ref()));
    let env: Vec<CString> = env::vars_os().map(pair).collect();
    let sealed_copy = || {
        let copy = memfd::memfd_create("husk", memfd::MFdFlags::MFD_ALLOW_SEALING)?;
        io::copy(&mut &exe, &mut File::from(copy.try_clone()?))?;
        fcntl::fcntl(&copy, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
        Ok::<_, io::Error>(copy)
    };
    // An ordinary user may not clone a mount.
    let copy = match clone_tree("/proc/self/exe".as_ref(), MsFlags::MS_RDONLY) {
        Ok(copy) => copy,
        Err(_) => step!(sealed_copy(), "cp husk (a sealed memfd)")?,
    };
    let Err(why) =
        step!(unistd::execveat(&copy, c"", &args, &env, AtFlags::AT_EMPTY_PATH), "exec husk");
    Err(why)
}

/// Command line and environment came as C strings, so there is no NUL in them.
fn c_string(text: impl AsRef<OsStr>) -> CString {
    CString::new(text.as_ref().as_bytes()).unwrap_or_default()
}

/// A container is a directory among its cgroup's files: it can't be called "cpu.max".
fn name(text: &str) -> Option<String> {
    let files =
        ["cgroup", "cpu", "cpuset", "dmem", "hugetlb", "io", "irq", "memory", "misc", "pids"];
    let is_file = text.split_once('.').is_some_and(|(prefix, _)| files.contains(&prefix));
    let is_legal = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let is_good = is_legal && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    (is_good && !is_file && text.len() <= 63).then(|| text.into())
}

fn absolute(value: &OsStr) -> Option<PathBuf> {
    Some(PathBuf::from(value)).filter(|path| path.is_absolute())
}

/// KEY=VALUE. A KEY alone takes the caller's value, and stays unset where there is none.
fn set_env(env: &mut Vec<CString>, pair: &OsStr) -> Option<()> {
    let Some(equals) = pair.as_bytes().iter().position(|byte| *byte == b'=') else {
        let value = env::var_os(pair).map(|value| [pair, &value].join("=".as_ref()));
        return value.map_or((!pair.is_empty()).then_some(()), |pair| set_env(env, &pair));
    };
    env.retain(|old| !old.as_bytes().starts_with(&pair.as_bytes()[..=equals]));
    env.push(c_string(pair));
    (equals > 0).then_some(())
}

fn user(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// The last ":/" divides SRC from DST, so that SRC may hold colons.
fn volume(value: &OsStr) -> Option<(PathBuf, PathBuf, MsFlags)> {
    let (both, read_only) = match value.as_bytes() {
        [both @ .., b':', b'r', b'o'] => (both, MsFlags::MS_RDONLY),
        [both @ .., b':', b'r', b'w'] | both => (both, MsFlags::empty()),
    };
    let (source, target) = both.split_at(both.windows(2).rposition(|two| two == b":/")?);
    let [source, target] =
        [source, &target[1..]].map(|path| PathBuf::from(OsStr::from_bytes(path)));
    let is_good = source.is_absolute() && source.exists() && target.file_name().is_some();
    is_good.then_some((source, target, read_only | MsFlags::MS_NODEV | MsFlags::MS_REC))
}

type Limit = (String, String);

/// The cgroup file that an option stands for, and what to write to it.
fn limit(option: &str, value: &str) -> Option<Limit> {
    let (file, value) = match option {
        // Microseconds of CPU time in each period of 100 ms; the kernel takes no less than 1 ms.
        "--cpus" => {
            ("cpu.max", format!("{:.0} 100000", 1e5 * decimal(value).filter(|n| *n >= 0.01)?))
        }
        "--pids-limit" => ("pids.max", value.parse::<u32>().ok().filter(|n| *n > 0)?.to_string()),
        "--memory" => ("memory.max", bytes(value)?.to_string()),
        "--cgroup" => value.split_once('=').map(|(file, value)| (file, value.into()))?,
        _ => return None,
    };
    let is_good = file.contains('.') && !file.contains('/') && !file.starts_with("cgroup.");
    is_good.then(|| (file.into(), value))
}

fn decimal(text: &str) -> Option<f64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|number| is_plain && *number > 0.0)
}

/// A number, with a power of 1,024 as its unit.
fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].trim_end_matches('b');
    let power = ["", "k", "m", "g", "t"].iter().position(|known| *known == unit)?;
    let bytes = decimal(digits)? * 1024f64.powi(power as i32);
    (1.0..9e18).contains(&bytes).then_some(bytes as u64)
}

fn network(text: &str) -> Option<(bool, c_int)> {
    match text {
        "bridge" if !rootless() => Some((true, NAMESPACES)),
        "none" => Some((false, NAMESPACES)),
        "host" => Some((false, NAMESPACES & !CLONE_NEWNET)),
        _ => None,
    }
}

/// ROOTFS as an absolute path without symlinks.
fn root_dir(path: OsString) -> Result<PathBuf> {
    let what = format!("ROOTFS {}", path.display());
    let dir = attempt(&what, fs::canonicalize(path))?;
    match attempt(&what, fs::read_dir(&dir))?.next() {
        Some(_) => Ok(dir),
        None => Err(error(format!("{what} is empty: rootfs-scripts/ has ways to fill one"))),
    }
}

// ---- 1. cgroup: the budget ----------------------------------------------------------------------

/// A container's cgroup. The lock on the directory says that a husk looks after it.
struct Cgroup {
    dir: PathBuf,
    lock: File,
}

/// Where containers live: husk/ in the topmost cgroup of version 2 that the caller owns. For root
/// that is the mount itself; a user has one where systemd delegates it, cgroups(7).
fn husk_cgroup() -> Result<PathBuf> {
    let (mounts, cgroups) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = line.and_then(|line| line.split(' ').nth(4));
    let mount =
        mount.ok_or_else(|| error("expected a cgroup2 mount, as a rule at /sys/fs/cgroup"))?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let is_callers =
        |dir: &&Path| fs::metadata(dir).is_ok_and(|meta| meta.uid() == unistd::geteuid().as_raw());
    let own = Path::new(mount).join(own);
    let above = own.ancestors().take_while(|dir| dir.starts_with(mount));
    above.filter(is_callers).last().map(|top| top.join("husk")).ok_or_else(|| {
        error(
            "limits, -d, exec, ps and stop need a cgroup that is delegated to you: start husk with \
               systemd-run --user --scope -p Delegate=yes husk ...",
        )
    })
}

/// Made before the clone, so that the container is born inside and never runs without its limits.
fn create_cgroup(c: &Container) -> Result<Option<Cgroup>> {
    narrate(format_args!("1. cgroup: the budget"));
    let husk = match husk_cgroup() {
        Err(_) if rootless() && c.limits.is_empty() && !c.detach => return Ok(None),
        husk => husk?,
    };
    let is_new = !husk.exists() && step!(fs::create_dir(&husk), "mkdir {}", husk.display()).is_ok();
    let dir = husk.join(&c.name);
    if dir.exists() {
        sweep(&husk);
    }
    let cgroup = claim(dir)?;
    if is_new || !c.limits.is_empty() {
        enable_controllers(&husk, &c.limits);
    }
    set_limits(c, &cgroup.dir).inspect_err(|_| remove_cgroup(&cgroup.dir))?;
    Ok(Some(cgroup))
}

/// Makes a cgroup and locks it. A sweep between the two takes the directory away: then once more.
fn claim(dir: PathBuf) -> Result<Cgroup> {
    let inode = |meta: io::Result<fs::Metadata>| meta.map_or(0, |meta| meta.ino());
    while !dir.exists() {
        step!(fs::create_dir(&dir), "mkdir {}", dir.display())?;
        let Ok(lock) = File::open(&dir) else { continue };
        step!(lock.lock(), "flock {}", dir.display())?;
        if inode(lock.metadata()) == inode(fs::metadata(&dir)) {
            return Ok(Cgroup { dir, lock });
        }
    }
    let name = dir.file_name().unwrap_or_default().display();
    Err(error(format!("{name}: a container of that name is running")))
}

fn set_limits(c: &Container, cgroup: &Path) -> Result<()> {
    let swap = ("memory.swap.max".into(), "0".into()); // else what is over memory.max is swapped out
    for (file, value) in c.limits.iter().chain([&swap]) {
        let exists = cgroup.join(file).exists();
        if file == &swap.0 && !(exists && memory_limit(c).is_some()) {
            continue;
        }
        if !exists {
            return Err(error(format!("{file}: no such controller in {}", cgroup.display())));
        }
        echo(value, cgroup.join(file))?;
    }
    Ok(())
}

fn memory_limit(c: &Container) -> Option<&str> {
    c.limits.iter().find(|(file, _)| file == "memory.max").map(|(_, bytes)| bytes.as_str())
}

/// Controllers are handed down from level to level, by cgroups without processes of their own (or
/// the root). Failure is no error: who asked for a limit is told that its file is missing.
fn enable_controllers(husk: &Path, limits: &[Limit]) {
    let top = husk.parent().unwrap_or(husk);
    let own = unistd::getpid().to_string();
    if read(top.join("cgroup.procs")).is_ok_and(|pids| pids.lines().any(|pid| pid == own)) {
        let _ = fs::create_dir(husk.join(".self"));
        let _ = echo("0", husk.join(".self/cgroup.procs"));
    }
    let asked = limits.iter().filter_map(|(file, _)| file.split('.').next());
    for controller in ["cpu", "memory", "pids"].into_iter().chain(asked) {
        for dir in [top, husk] {
            let _ = echo(&format!("+{controller}"), dir.join("cgroup.subtree_control"));
        }
    }
}

/// The cgroups right below one.
fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).filter(|path| !path.ends_with(".self")).collect()
}

/// The mark of a detached container, which nobody locks: the sticky bit of its directory.
const DETACHED: u32 = 0o1755;

/// Clears away what killed husks left behind: what is neither locked nor marked dies, and what is
/// marked goes when it is empty.
fn sweep(husk: &Path) {
    for dir in children(husk) {
        let Ok(lock) = File::open(&dir) else { continue };
        let is_detached = lock.metadata().is_ok_and(|meta| meta.mode() & DETACHED == DETACHED);
        if lock.try_lock().is_ok() && (!is_detached || !is_populated(&dir)) {
            remove_cgroup(&dir);
        }
    }
    let _ = fs::remove_dir(husk.join(".self"));
}

fn is_populated(dir: &Path) -> bool {
    read(dir.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
}

/// Kills what is left in a cgroup, and removes it as soon as the kernel lets go of it.
fn remove_cgroup(dir: &Path) {
    if is_populated(dir) {
        let _ = echo("1", dir.join("cgroup.kill"));
    }
    children(dir).iter().for_each(|child| remove_cgroup(child));
    let is_busy = |e: &io::Error| e.raw_os_error() == Some(EBUSY);
    let removed = step!(fs::remove_dir(dir), "rmdir {}", dir.display());
    let mut tries = if removed.is_err() { 0..2000 } else { 0..0 };
    while tries.next().is_some() && fs::remove_dir(dir).is_err_and(|e| is_busy(&e)) {
        thread::sleep(Duration::from_millis(1));
    }
}

// ---- 2. clone: new namespaces -------------------------------------------------------------------

/// All but the cgroup namespace: its root would be the cgroup of whoever calls clone3, so the child
/// makes that one itself. The user namespace comes on top where there is no root.
const NAMESPACES: c_int = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;

/// The child is born in this cgroup. (The libc crate's constant is an int, and too small for it.)
const INTO_CGROUP: u64 = 0x2_0000_0000;

struct Child {
    pid: Pid,
    socket: OwnedFd,
}

/// Starts a child in new namespaces and in its cgroup, clone(2). It works through `body`, which
/// ends in exec; where that fails, the error goes to the parent through the socket.
fn spawn<F>(namespaces: c_int, cgroup: Option<&Cgroup>, body: F) -> Result<Child>
where
    F: FnOnce(&OwnedFd) -> Result<Infallible>,
{
    narrate(format_args!("2. clone: new namespaces"));
    let _ = handled_signals().thread_block(); // until `wait` asks for them
    let (family, kind) = (AddressFamily::Unix, SockType::SeqPacket);
    let pair = socket::socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = attempt("socketpair", pair)?;
    // SAFETY: all of clone_args are integers, and 0 means "not used".
    let mut args: clone_args = unsafe { mem::zeroed() };
    args.flags = namespaces as u64;
    args.exit_signal = SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = cgroup.lock.as_raw_fd() as u64;
    }
    // SAFETY: without a stack of its own the child goes on here in a copy of our memory, as after
    // fork(2). There are no threads that could hold a lock in it.
    let clone3 = || Errno::result(unsafe { syscall(SYS_clone3, &args, mem::size_of_val(&args)) });
    let names = CloneFlags::from_bits_retain(namespaces);
    let pid = step!(clone3(), "clone3 {names:?}")?;
    if pid > 0 {
        return Ok(Child { pid: Pid::from_raw(pid as i32), socket: ours });
    }
    drop(ours);
    NARRATOR.set(if NARRATOR.get().is_empty() { "" } else { "child" });
    let Err(Error(status, why)) = body(&theirs);
    let report = [&[status], why.as_bytes()].concat();
    let _ = socket::send(theirs.as_raw_fd(), &report, MsgFlags::MSG_NOSIGNAL);
    exit(status.into())
}

/// The child's first steps: its ids, if it is in a user namespace, and its view of cgroups.
fn enter_namespaces(c: &Container, (uid, gid): (Uid, Gid)) -> Result<()> {
    if c.namespaces & CLONE_NEWUSER != 0 {
        // Who could drop a group could open the files that are closed to that group: so the kernel
        // takes our gid_map only after this, user_namespaces(7).
        echo("deny", "/proc/self/setgroups")?;
        echo(&format!("0 {uid} 1"), "/proc/self/uid_map")?;
        echo(&format!("0 {gid} 1"), "/proc/self/gid_map")?;
    }
    step!(unshare(CloneFlags::CLONE_NEWCGROUP), "unshare --cgroup")
}

/// The parent's half: what has to come from outside, then the word to go on, then waiting.
fn supervise(child: &Child, detach: bool, prepare: impl FnOnce() -> Result<u32>) -> Result<u8> {
    let socket = child.socket.as_raw_fd();
    let outcome = prepare().and_then(|number| {
        let terminal = if detach { None } else { hand_over_terminal(child.pid) };
        // If this fails the child is dead: its report, or `wait`, will tell.
        let _ = socket::send(socket, &number.to_ne_bytes(), MsgFlags::MSG_NOSIGNAL);
        let status = if detach { Ok(0) } else { wait(child.pid, terminal.as_ref()) };
        terminal.iter().for_each(take_back_terminal);
        status
    });
    if outcome.is_err() {
        let _ = signal::kill(child.pid, Signal::SIGKILL);
    }
    // exec closes the child's end; a message says why it did not come to that.
    let mut report = [0; 4096];
    let flags = if detach { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    match socket::recv(socket, &mut report, flags) {
        Ok(n) if n > 0 => Err(Error(report[0], String::from_utf8_lossy(&report[1..n]).into())),
        _ => outcome,
    }
}

/// The parent's word to go on: the container's number in the network, see section 3.
fn wait_for_parent(parent: &OwnedFd) -> Result<u32> {
    let mut number = [0; 4];
    match socket::recv(parent.as_raw_fd(), &mut number, MsgFlags::empty()) {
        Ok(4) => Ok(u32::from_ne_bytes(number)),
        _ => Err(error("the parent is gone")),
    }
}

// ---- 3. network, the host's side ----------------------------------------------------------------

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1); // of 10.77.0.0/16
const PREFIX: u8 = 16;

/// Containers may talk to each other and to the world, also where docker has FORWARD dropped and
/// sends bridged frames through it. From outside only answers come in.
const RULES: [[&str; 4]; 3] = [
    ["nat", "-A", "POSTROUTING", "-s 10.77.0.0/16 ! -o husk0 -j MASQUERADE"],
    ["filter", "-I", "FORWARD", "-i husk0 -j ACCEPT"],
    ["filter", "-I", "FORWARD", "-o husk0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"],
];

/// A netlink socket takes messages: a header (nlmsghdr), a fixed part, and attributes (type, length,
/// value), which can hold attributes again: netlink(7), rtnetlink(7).
struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> Result<Netlink> {
        let (kind, protocol) = (SockType::Raw, SockProtocol::NetlinkRoute);
        let socket = socket::socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, protocol);
        attempt("socket AF_NETLINK", socket).map(Netlink)
    }

    /// Sends a message, and returns what the answer holds behind its header.
    fn request(&self, kind: u16, flags: c_int, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let length = (16 + body.len() as u32).to_ne_bytes();
        let flags = ((NLM_F_REQUEST | flags) as u16).to_ne_bytes();
        let message = [&length[..], &kind.to_ne_bytes(), &flags, &[0; 8], body].concat();
        socket::send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = vec![0; 4096];
        socket::recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let body = answer.split_off(16);
        match (u16::from_ne_bytes([answer[4], answer[5]]), word(&body, 0) as i32) {
            (2, error @ i32::MIN..0) => Err(Errno::from_raw(-error)), // NLMSG_ERROR; with 0 all went well
            _ => Ok(body),
        }
    }

    /// Makes something; false if it is there already.
    fn create(&self, kind: u16, body: &[u8]) -> Result<bool, Errno> {
        match self.request(kind, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body) {
            Err(Errno::EEXIST) => Ok(false),
            made => made.map(|_| true),
        }
    }

    /// An interface's index, and whether it is up.
    fn find(&self, name: &str) -> Result<(u32, bool)> {
        let message = [link(0, 0), attribute(IFLA_IFNAME, name.as_bytes())].concat();
        let found = step!(self.request(RTM_GETLINK, 0, &message), "ip link show {name}")?;
        Ok((word(&found, 4), word(&found, 8) & IFF_UP as u32 != 0))
    }

    fn set_up(&self, name: &str, index: u32) -> Result<()> {
        let message = link(index, IFF_UP);
        step!(self.request(RTM_NEWLINK, NLM_F_ACK, &message), "ip link set {name} up").map(drop)
    }

    fn add_address(&self, name: &str, index: u32, address: Ipv4Addr) -> Result<bool> {
        // struct ifaddrmsg: family, prefix, flags, scope, index.
        let fixed = [[AF_INET as u8, PREFIX, 0, 0], index.to_ne_bytes()].concat();
        let message = [fixed, attribute(IFA_LOCAL, &address.octets())].concat();
        step!(self.create(RTM_NEWADDR, &message), "ip addr add {address}/{PREFIX} dev {name}")
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_ne_bytes(*four))
}

/// struct ifinfomsg: family and type (none), index, flags, and which flags to change.
fn link(index: u32, flags: c_int) -> Vec<u8> {
    [0, index, flags as u32, flags as u32].map(u32::to_ne_bytes).concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len() as u16;
    let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn ip_of(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(GATEWAY) - 1 + number)
}

/// A MAC address made of the IP address: when that is used again, no ARP cache is wrong.
fn mac_of(address: Ipv4Addr) -> Vec<u8> {
    [&[0x02, 0x42], &address.octets()[..]].concat()
}

/// A pair of veths: one on the bridge; the other, eth0, in the container, with which both vanish.
/// The name leases the address: the kernel refuses a second interface of that name.
fn network_outside(c: &Container, pid: Pid, cgroup: &Cgroup) -> Result<u32> {
    let husk = cgroup.dir.parent().unwrap_or(&cgroup.dir);
    sweep(husk);
    if c.detach {
        let mode = fs::Permissions::from_mode(DETACHED);
        step!(fs::set_permissions(&cgroup.dir, mode), "chmod 1755 {}", cgroup.dir.display())?;
    }
    if !c.bridge {
        return Ok(0);
    }
    narrate(format_args!("3. network, the host's side"));
    let netlink = Netlink::open()?;
    let bridge = match netlink.find("husk0") {
        Ok((index, true)) => index,
        _ => make_bridge(&netlink, husk)?,
    };
    loop {
        let number = 2 + random() % 65_533; // 0 is the network, 1 the gateway, the last broadcast
        let name = format!("husk{number}");
        let peer = [
            link(0, 0),
            attribute(IFLA_IFNAME, b"eth0"),
            attribute(IFLA_ADDRESS, &mac_of(ip_of(number))),
            attribute(IFLA_NET_NS_PID, &pid.as_raw().to_ne_bytes()),
        ];
        let kind = attribute(IFLA_INFO_KIND, b"veth");
        let data = attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer.concat()));
        let pair = [
            link(0, IFF_UP),
            attribute(IFLA_IFNAME, name.as_bytes()),
            attribute(IFLA_MASTER, &bridge.to_ne_bytes()),
            attribute(IFLA_LINKINFO, &[kind, data].concat()),
        ];
        let made = step!(
            netlink.create(RTM_NEWLINK, &pair.concat()),
            "ip link add {name} up master husk0 type veth peer eth0 netns {pid}"
        );
        if made? {
            return Ok(number);
        }
    }
}

const VETH_INFO_PEER: u16 = 1; // of <linux/veth.h>

/// Once per host, by one husk at a time. A husk0 that is up proves that all else was done before,
/// whenever a husk was killed.
fn make_bridge(netlink: &Netlink, husk: &Path) -> Result<u32> {
    let dir = attempt("open the husk cgroup", File::open(husk))?;
    step!(dir.lock(), "flock {}", husk.display())?;
    echo("1", "/proc/sys/net/ipv4/ip_forward")?;
    add_rules()?;
    let name = attribute(IFLA_IFNAME, b"husk0");
    // Of its own: else it takes the lowest of its ports', and changes when that one leaves.
    let mac = attribute(IFLA_ADDRESS, &mac_of(GATEWAY));
    let kind = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"bridge"));
    let bridge = [link(0, 0), name, mac, kind].concat();
    step!(netlink.create(RTM_NEWLINK, &bridge), "ip link add husk0 type bridge")?;
    let (index, _) = netlink.find("husk0")?;
    netlink.add_address("husk0", index, GATEWAY)?;
    netlink.set_up("husk0", index)?;
    Ok(index)
}

/// iptables(8) is the one program that husk runs for itself.
fn add_rules() -> Result<()> {
    for [table, action, chain, rule] in RULES {
        let iptables = |action| {
            let rule = rule.split(' ');
            Command::new("iptables").args(["-w", "-t", table, action, chain]).args(rule).output()
        };
        match iptables("-C") {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let text = b"husk: no iptables: containers reach the host and each other only\n";
                return attempt("standard error", io::stderr().write_all(text));
            }
            Ok(found) if found.status.success() => continue,
            _ => {}
        }
        let what = format!("iptables -w -t {table} {action} {chain} {rule}");
        let done = step!(iptables(action), "{what}")?;
        if !done.status.success() {
            return Err(error(format!("{what}: {}", String::from_utf8_lossy(&done.stderr).trim())));
        }
    }
    Ok(())
}

// ---- 4. hostname --------------------------------------------------------------------------------

fn set_hostname(c: &Container) -> Result<()> {
    narrate(format_args!("4. hostname"));
    step!(unistd::sethostname(&c.hostname), "hostname {}", c.hostname)
}

// ---- 5. root file system ------------------------------------------------------------------------

/// docker's mounts, in the words of fstab(5).
const MOUNTS: [[&str; 4]; 7] = [
    ["proc", "proc", "proc", "nosuid,nodev,noexec"],
    ["tmpfs", "dev", "tmpfs", "nosuid,nodev,noexec,mode=755,size=64m"],
    ["devpts", "dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=666,mode=620,gid=5"],
    ["shm", "dev/shm", "tmpfs", "nosuid,nodev,noexec,mode=1777,size=64m"],
    ["mqueue", "dev/mqueue", "mqueue", "nosuid,nodev,noexec"],
    ["sysfs", "sys", "sysfs", "nosuid,nodev,noexec,ro"],
    ["cgroup", "sys/fs/cgroup", "cgroup2", "nosuid,nodev,noexec,ro"],
];

/// The host's own nodes, bound read-only: a chmod of /dev/null in here must not reach the host's.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [[&str; 2]; 5] = [
    ["/proc/self/fd", "dev/fd"],
    ["/proc/self/fd/0", "dev/stdin"],
    ["/proc/self/fd/1", "dev/stdout"],
    ["/proc/self/fd/2", "dev/stderr"],
    ["pts/ptmx", "dev/ptmx"],
];

/// docker's masked paths, which tell of the host or change it: covered by something empty.
const MASKED: [&str; 12] = [
    "proc/acpi",       // switches hardware off (CVE-2018-10892)
    "proc/asound",     // what the host plays
    "proc/interrupts", // when somebody types on the host
    "proc/kcore",      // all memory
    "proc/keys",       // everybody's keys
    "proc/latency_stats",
    "proc/sched_debug", // everybody's processes, as in its neighbours
    "proc/scsi",        // removes disks
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap", // power use betrays keys (CVE-2020-8694)
    "sys/firmware",                 // the firmware's variables
];

/// docker's read-only paths: settings of the whole machine, and its emergency keys.
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

const NONE: Option<&str> = None;

/// The new root and all that belongs in it are made on a tmpfs that only husk sees. Then pivot_root
/// and umount put the host out of reach, and only then does anything follow the paths of ROOTFS:
/// wherever its symlinks point, they can't lead out any more. Returns /etc/hosts.
fn build_root(c: &Container) -> Result<File> {
    narrate(format_args!("5. root file system"));
    stat::umask(stat::Mode::from_bits_retain(0o022));
    // Else systemd's shared mounts would carry ours over to the host.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    step!(mount(NONE, "/", NONE, private, NONE), "mount --make-rprivate /")?;
    mount_root(c)?;
    mount_kernel_files(c.namespaces)?;
    let hosts = write_etc(c)?;
    let etc = ["/etc/hostname", "/etc/resolv.conf", "/etc/hosts"].map(|path| (&path[5..], path));
    let own = [("dev", "/dev"), ("sys", "/sys")].into_iter().chain(etc);
    let own = own.map(|(source, target)| (source.into(), target.into(), MsFlags::MS_REC));
    let mut trees = vec![];
    for (source, target, flags) in own.chain(c.volumes.iter().cloned()) {
        trees.push((clone_tree(&source, flags)?, target, source.is_dir()));
    }
    let proc = clone_tree("proc".as_ref(), MsFlags::MS_REC)?;
    step!(unistd::chdir("root"), "cd root")?;
    // Both roots in one place: so the old one needs no directory in the new one.
    step!(unistd::pivot_root(".", "."), "pivot_root . .")?;
    step!(umount2(".", MntFlags::MNT_DETACH), "umount --lazy .")?;
    for (tree, target, is_dir) in trees {
        place(&tree, &target, is_dir)?;
    }
    step!(make_target(&c.workdir, true), "mkdir -p {}", c.workdir.display())?;
    // The last one: its links in /proc/self/fd would lead to what husk has open.
    place(&proc, Path::new("/proc"), true)?;
    if c.read_only {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
        step!(mount(NONE, "/", NONE, flags, NONE), "mount -o remount,bind,ro,nodev /")?;
    }
    Ok(hosts)
}

/// A tmpfs over ROOTFS, and in it the new root: an overlay of what the container changes (upper)
/// over ROOTFS. The tmpfs ends with the container's last process, whatever ended that.
fn mount_root(c: &Container) -> Result<()> {
    let how = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let rootfs = attempt("open ROOTFS", fcntl::open(&c.rootfs, how, stat::Mode::empty()))?;
    // By its number: ROOTFS may have commas and colons in its name.
    let lower = format!("/proc/self/fd/{}", rootfs.as_raw_fd());
    let size = memory_limit(c).unwrap_or("50%");
    mount_line("tmpfs", &c.rootfs, "tmpfs", &format!("nodev,mode=755,size={size}"))?;
    // If ROOTFS is "/", that is still what lies below the new mount; on top is "/..".
    let top = if c.rootfs == Path::new("/") { Path::new("/..") } else { &c.rootfs };
    step!(unistd::chdir(top), "cd {}", top.display())?;
    for dir in ["upper", "work", "root", "empty"] {
        step!(fs::create_dir(dir), "mkdir {dir}")?;
    }
    if c.writable {
        return bind(lower, "root", MsFlags::MS_NODEV);
    }
    let user = if rootless() { ",userxattr" } else { "" };
    let options = format!("nodev,lowerdir={lower},upperdir=upper,workdir=work{user}");
    mount_line("overlay", Path::new("root"), "overlay", &options)
}

/// /dev, /proc and /sys.
fn mount_kernel_files(namespaces: c_int) -> Result<()> {
    let device = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let read_only = device | MsFlags::MS_NODEV;
    for [source, target, fstype, options] in MOUNTS {
        step!(fs::create_dir_all(target), "mkdir -p {target}")?;
        match fstype {
            // A sysfs shows a network, and only who owns that may mount one.
            "sysfs" if rootless() && namespaces & CLONE_NEWNET == 0 => {
                bind("/sys", target, read_only | MsFlags::MS_REC)?
            }
            // Group 5, tty, is not among a user's ids.
            "devpts" if rootless() => {
                mount_line(source, target.as_ref(), fstype, &options.replace(",gid=5", ""))?
            }
            _ => mount_line(source, target.as_ref(), fstype, options)?,
        }
    }
    for name in DEVICES {
        bind(format!("/dev/{name}"), format!("dev/{name}"), device)?;
    }
    if let Some(terminal) = terminal() {
        bind(terminal, "dev/console", device)?; // where ttyname(3) finds it
    }
    for [to, link] in LINKS {
        step!(std::os::unix::fs::symlink(to, link), "ln -s {to} {link}")?;
    }
    for path in MASKED.map(Path::new).into_iter().filter(|path| path.exists()) {
        bind(if path.is_dir() { "empty" } else { "dev/null" }, path, device)?;
    }
    for path in READ_ONLY.map(Path::new).into_iter().filter(|path| path.exists()) {
        bind(path, path, read_only)?;
    }
    Ok(())
}

/// A line of fstab(5): `mount -t fstype -o options source target`.
fn mount_line(source: &str, target: &Path, fstype: &str, options: &str) -> Result<()> {
    let (mut flags, mut data) = (MsFlags::empty(), vec![]);
    for option in options.split(',') {
        match option {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            other => data.push(other),
        }
    }
    let data = data.join(",");
    let call = || mount(Some(source), target, Some(fstype), flags, Some(data.as_str()));
    step!(call(), "mount -t {fstype} -o {options} {source} {}", target.display())
}

fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>, flags: MsFlags) -> Result<()> {
    let (source, target) = (source.as_ref(), target.as_ref());
    place(&clone_tree(source, flags)?, target, source.is_dir())
}

/// A bind mount that is attached nowhere yet, open_tree(2), with its flags, mount_setattr(2).
fn clone_tree(path: &Path, flags: MsFlags) -> Result<OwnedFd> {
    let all = if flags.contains(MsFlags::MS_REC) { AT_RECURSIVE as u32 } else { 0 };
    let (name, how) = (c_string(path), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | all);
    // SAFETY: the path is a C string that outlives the call.
    let open = || Errno::result(unsafe { syscall(SYS_open_tree, AT_FDCWD, name.as_ptr(), how) });
    let fd = step!(open(), "mount --bind {} (detached)", path.display())?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    let tree = unsafe { OwnedFd::from_raw_fd(fd as c_int) };
    // The bits for ro, nosuid, nodev and noexec are those of mount(2).
    let set =
        mount_attr { attr_set: flags.bits() & 0xf, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let (how, size) = (AT_EMPTY_PATH as u32 | all, mem::size_of_val(&set));
    let (fd, empty) = (tree.as_raw_fd(), c"".as_ptr());
    // SAFETY: `set` is a mount_attr of that size, and outlives the call.
    let result = Errno::result(unsafe { syscall(SYS_mount_setattr, fd, empty, how, &set, size) });
    attempt(format_args!("mount -o remount,bind {}", path.display()), result)?;
    Ok(tree)
}

/// Attaches it at its target, which is made if it is missing, move_mount(2).
fn place(tree: &OwnedFd, target: &Path, is_dir: bool) -> Result<()> {
    let (fd, name) = (tree.as_raw_fd(), c_string(target));
    let (from, to) = (c"".as_ptr(), name.as_ptr());
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
    let move_mount = || {
        make_target(target, is_dir)?;
        // SAFETY: both paths are C strings that outlive the call.
        Errno::result(unsafe { syscall(SYS_move_mount, fd, from, AT_FDCWD, to, flags) })?;
        Ok::<_, io::Error>(())
    };
    step!(move_mount(), "mount --move (it) {}", target.display())
}

/// As `mkdir -p` or `touch`; also where a symlink points to what is missing.
fn make_target(path: &Path, is_dir: bool) -> io::Result<()> {
    let is_missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let parent = path.parent().unwrap_or(path);
    match (fs::metadata(path), fs::read_link(path)) {
        (Err(e), Ok(link)) if is_missing(&e) => make_target(&parent.join(link), is_dir),
        (Err(e), _) if is_missing(&e) && is_dir => fs::create_dir_all(path),
        (Err(e), _) if is_missing(&e) => {
            fs::create_dir_all(parent)?;
            File::options().append(true).create(true).open(path).map(drop)
        }
        (found, _) => found.map(drop),
    }
}

/// The files of /etc that are a container's own. Into the last goes its address, once it has one.
fn write_etc(c: &Container) -> Result<File> {
    let write = |name: &str, text: &str| {
        let call = || {
            File::create_new(name)
                .and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file))
        };
        step!(call(), "write {name}")
    };
    write("hostname", &format!("{}\n", c.hostname))?;
    write("resolv.conf", &name_servers(c.namespaces & CLONE_NEWNET == 0))?;
    write("hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
}

/// The host's resolv.conf(5). A server on the host's loopback, such as systemd-resolved, can't be
/// reached from another network; those that systemd-resolved asks can.
fn name_servers(is_shared: bool) -> String {
    let is_reachable = |line: &&str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["nameserver", ip, ..] => is_shared || !(ip.starts_with("127.") || ip == "::1"),
        _ => true,
    };
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let mut texts = files.into_iter().map(|file| {
        let text = read(file).unwrap_or_default();
        text.lines().filter(is_reachable).map(|line| format!("{line}\n")).collect::<String>()
    });
    texts.find(|text| text.contains("nameserver")).unwrap_or_default()
}

// ---- 6. network, the container's side -----------------------------------------------------------

fn network_inside(c: &Container, number: u32, mut hosts: File) -> Result<()> {
    narrate(format_args!("6. network, the container's side"));
    if c.namespaces & CLONE_NEWNET == 0 {
        return Ok(());
    }
    let netlink = Netlink::open()?;
    netlink.set_up("lo", 1)?; // always number 1; and the kernel gives it 127.0.0.1
    if !c.bridge {
        return Ok(());
    }
    let (eth0, _) = netlink.find("eth0")?;
    let address = ip_of(number);
    netlink.add_address("eth0", eth0, address)?;
    netlink.set_up("eth0", eth0)?;
    // struct rtmsg: family, lengths and service (to anywhere), table, protocol, scope, type, flags.
    let (family, table) = (AF_INET as u8, RT_TABLE_MAIN);
    let fixed = [family, 0, 0, 0, table, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0];
    let route = [&fixed[..], &attribute(RTA_GATEWAY, &GATEWAY.octets())].concat();
    step!(netlink.create(RTM_NEWROUTE, &route), "ip route add default via {GATEWAY}")?;
    let line = format!("{address}\t{}\n", c.hostname);
    step!(hosts.write_all(line.as_bytes()), "echo {address} {} >> /etc/hosts", c.hostname)
}

// ---- 7. lock-down -------------------------------------------------------------------------------

/// The pieces of root's power in the order of their numbers, capabilities(7).
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID \
    SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER \
    SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE \
    SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN \
    SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// docker's choice, which is what package managers and servers need; less MKNOD, for a device node
/// of a disk is a door to the host.
const KEPT: &str = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE \
    NET_RAW SYS_CHROOT AUDIT_WRITE SETFCAP";

const ALL: u64 = 1 << 63; // no capability has this number

fn capability(text: &str) -> Option<u64> {
    let text = text.to_ascii_uppercase();
    let name = text.strip_prefix("CAP_").unwrap_or(&text);
    match CAPABILITIES.split(' ').position(|known| known == name) {
        Some(number) => Some(1 << number),
        None => (name == "ALL").then_some(ALL),
    }
}

/// System calls that answer EPERM, and the capability with which they don't. Each was a way out of a
/// container, or changes what all containers share.
const DENIED: &[(&str, &[c_long])] = &[
    // Mounts and namespaces: as root of a new user namespace a tenant reaches kernel code that was
    // written for the real root (CVE-2022-0185, CVE-2023-0386).
    ("SYS_ADMIN", &[SYS_mount, SYS_umount2, SYS_pivot_root, SYS_unshare, SYS_setns]),
    ("SYS_ADMIN", &[SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_move_mount]),
    ("SYS_ADMIN", &[SYS_open_tree, SYS_mount_setattr, SYS_quotactl, SYS_quotactl_fd]),
    ("SYS_ADMIN", &[SYS_swapon, SYS_swapoff, SYS_sethostname, SYS_setdomainname]),
    ("SYS_ADMIN", &[SYS_fanotify_init, SYS_lookup_dcookie]),
    ("DAC_READ_SEARCH", &[SYS_open_by_handle_at]), // a host's file by its number ("shocker", 2014)
    ("SYS_MODULE", &[SYS_init_module, SYS_finit_module, SYS_delete_module]), // code in the kernel
    ("SYS_BOOT", &[SYS_reboot, SYS_kexec_load, SYS_kexec_file_load]), // another kernel
    ("BPF", &[SYS_bpf]),                           // programs in the kernel (CVE-2021-3490)
    ("PERFMON", &[SYS_perf_event_open]),           // watches the host (CVE-2023-6931)
    ("SYS_TIME", &[SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime]), // everybody's clock
    ("SYSLOG", &[SYS_syslog]),                     // the host's log, with kernel addresses
    ("SYS_TTY_CONFIG", &[SYS_vhangup]),            // the caller's terminal
    ("SYS_PACCT", &[SYS_acct]),                    // a log of everybody's processes
    ("SYS_PTRACE", &[SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_kcmp]),
    (
        "SYS_NICE",
        &[SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy, SYS_move_pages, SYS_migrate_pages],
    ),
    ("", &[SYS_keyctl, SYS_add_key, SYS_request_key]), // no namespace for keys (CVE-2016-0728)
    ("", &[SYS_userfaultfd]), // stops the kernel at will: a help for most exploits of races
    // A second way into the kernel, past this filter (CVE-2022-29582 and many more).
    ("", &[SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register]),
    #[cfg(target_arch = "x86_64")]
    ("SYS_RAWIO", &[SYS_iopl, SYS_ioperm]), // the hardware itself
    #[cfg(target_arch = "x86_64")]
    ("", &[SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl]), // only attackers still use them
];

/// Refused for one argument: the call, which argument, how it is compared, and with what.
const DENIED_ARGUMENTS: [(c_long, u32, u32, u32); 4] = [
    (SYS_clone, 0, BPF_JSET, 0x7e02_0000), // any CLONE_NEW*, as unshare
    (SYS_ioctl, 1, BPF_JEQ, TIOCSTI as u32), // types into the caller's terminal (CVE-2017-5226)
    (SYS_ioctl, 1, BPF_JEQ, TIOCLINUX as u32), // the same on a console
    (SYS_socket, 0, BPF_JEQ, AF_VSOCK as u32), // past the network namespace, to the hypervisor
];

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// A program for the kernel's BPF machine, seccomp(2). It sees a seccomp_data: the call's number at
/// 0, the ABI at 4, and from 16 the arguments, of which only the low halves count here.
fn seccomp_filter(capabilities: u64) -> Vec<sock_filter> {
    let line = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| line(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
    let skip_unless = |how, value, skip| line(BPF_JMP | how | BPF_K, 0, skip, value);
    let answer = |what| line(BPF_RET | BPF_K, 0, 0, what);
    let refuse = answer(SECCOMP_RET_ERRNO | EPERM as u32);
    let unknown = answer(SECCOMP_RET_ERRNO | ENOSYS as u32);
    let holds = |name: &str| capability(name).is_some_and(|bit| capabilities & bit != 0);
    // Another ABI numbers its calls differently (int 0x80).
    let mut filter =
        vec![load(4), line(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, AUDIT_ARCH), refuse, load(0)];
    // Above the last call that this file knows are only newer ones, and x32's.
    filter.extend([skip_unless(BPF_JGT, SYS_mseal as u32, 1), unknown]);
    for (_, calls) in DENIED.iter().filter(|(name, _)| !holds(name)) {
        calls
            .iter()
            .for_each(|call| filter.extend([skip_unless(BPF_JEQ, *call as u32, 1), refuse]));
    }
    if !holds("SYS_ADMIN") {
        // Its flags are in memory, out of the filter's sight. libc falls back to clone.
        filter.extend([skip_unless(BPF_JEQ, SYS_clone3 as u32, 1), unknown]);
    }
    for (call, argument, how, value) in DENIED_ARGUMENTS {
        if call != SYS_clone || !holds("SYS_ADMIN") {
            filter.extend([skip_unless(BPF_JEQ, call as u32, 4), load(16 + 8 * argument)]);
            filter.extend([skip_unless(how, value, 1), refuse, load(0)]);
        }
    }
    filter.push(answer(SECCOMP_RET_ALLOW));
    filter
}

/// Now the process becomes as weak as its command may be. The order is not free: each line needs a
/// power that a later one takes away.
fn lock_down(c: &Container, parent: &OwnedFd) -> Result<()> {
    narrate(format_args!("7. lock-down"));
    let kept = drop_capabilities(c.capabilities)?;
    let (uid, gid) = (Uid::from_raw(c.user.0), Gid::from_raw(c.user.1));
    if !rootless() {
        step!(unistd::setgroups(&[]), "setpriv --clear-groups")?;
    }
    step!(unistd::setresgid(gid, gid, gid), "setpriv --regid {gid}")?;
    step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid {uid}")?;
    let effective = if uid.is_root() { kept } else { 0 };
    step!(set_capabilities(effective), "capset 0x{effective:x}")?;
    step!(prctl::set_no_new_privs(), "setpriv --no-new-privs")?;
    if !c.detach {
        // Every change of ids or capabilities clears this one. A parent that died before it has
        // closed its end of the socket.
        step!(prctl::set_pdeathsig(Signal::SIGKILL), "setpriv --pdeathsig KILL")?;
        if socket::recv(parent.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) != Err(Errno::EAGAIN)
        {
            return Err(error("the parent is gone"));
        }
    }
    let filter = seccomp_filter(kept);
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions of the filter, which outlives the call.
    let load =
        || Errno::result(unsafe { syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) });
    step!(load(), "seccomp: {} instructions", filter.len()).map(drop)
}

/// The bounding set: what no program can get back. What husk does not hold, it can't give.
fn drop_capabilities(wanted: u64) -> Result<u64> {
    let mut kept = 0;
    for number in 0..63 {
        // SAFETY: prctl(2) takes a number here, and changes nothing in memory.
        match unsafe { libc::prctl(PR_CAPBSET_READ, number, 0, 0, 0) } {
            1 if wanted >> number & 1 == 1 => kept |= 1 << number,
            1 => {
                // SAFETY: as above.
                let dropped =
                    Errno::result(unsafe { libc::prctl(PR_CAPBSET_DROP, number, 0, 0, 0) });
                attempt("setpriv --bounding-set", dropped)?;
            }
            _ => {}
        }
    }
    Ok(kept)
}

/// capset(2): permitted and effective are `set`; inheritable, and with it ambient, is empty.
fn set_capabilities(set: u64) -> Result<(), Errno> {
    let (low, high) = (set as u32, (set >> 32) as u32);
    let header = [0x2008_0522_u32, 0]; // version 3, and this thread
    let data = [low, low, 0, high, high, 0];
    // SAFETY: both arrays are laid out as version 3 says, and outlive the call.
    Errno::result(unsafe { syscall(SYS_capset, &header, &data) }).map(drop)
}

// ---- 8. exec, wait, exit status, clean-up -------------------------------------------------------

/// The child's last line: the command takes its place, with nothing of husk's but 0, 1 and 2.
fn execute(c: &Container) -> Result<Infallible> {
    narrate(format_args!("8. exec, wait, exit status, clean-up"));
    // A link in /proc could lead the working directory out (CVE-2024-21626).
    let how = OpenHow::new().flags(OFlag::O_PATH).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let workdir = fcntl::openat2(fcntl::AT_FDCWD, &c.workdir, how);
    step!(workdir.and_then(unistd::fchdir), "cd {}", c.workdir.display())?;
    if c.detach {
        let null = attempt("/dev/null", File::open("/dev/null"))?;
        let detach = || {
            unistd::dup2_stdin(null)?;
            unistd::dup2_stdout(io::stderr())?;
            unistd::setsid()
        };
        step!(detach(), "setsid ... </dev/null >&2")?;
    }
    // SAFETY: integers only; whatever is open from 3 on closes when exec succeeds.
    unsafe { syscall(SYS_close_range, 3, c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    let _ = SigSet::empty().thread_set_mask();
    let name = c.command[0].to_bytes();
    let path = c.env.iter().find_map(|pair| pair.to_bytes().strip_prefix(b"PATH="));
    let dirs = if name.contains(&b'/') { b"" } else { path.unwrap_or_default() };
    let shown = c.command[0].to_string_lossy();
    narrate(format_args!("   {:6} exec {shown}", NARRATOR.get()));
    let mut failure = Error(127, format!("{shown}: not found"));
    for dir in dirs.split(|byte| *byte == b':').filter(|_| !name.is_empty()) {
        let file = Path::new(OsStr::from_bytes(dir)).join(OsStr::from_bytes(name));
        let Err(errno) = unistd::execve(&c_string(&file), &c.command, &c.env);
        match errno {
            Errno::ENOENT if file.exists() => {
                failure = Error(126, format!("{shown}: its interpreter is missing"))
            }
            Errno::ENOENT | Errno::ENOTDIR => {}
            _ => failure = Error(126, format!("{shown}: {errno}")),
        }
    }
    Err(failure)
}

/// What husk passes on.
const FORWARDED: [c_int; 7] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// What `wait` handles; SIGTTOU is blocked so that husk can take the terminal back.
fn handled_signals() -> SigSet {
    let numbers = FORWARDED.into_iter().chain([SIGCHLD, SIGTTOU]);
    numbers.filter_map(|number| Signal::try_from(number).ok()).collect()
}

/// Waits for the child, and passes signals on to it. As in a shell, 128+N is an end by signal N.
fn wait(pid: Pid, terminal: Option<&Termios>) -> Result<u8> {
    let signals = attempt("signalfd", SignalFd::new(&handled_signals()))?;
    while let Some(info) = attempt("signalfd", signals.read_signal())? {
        let number = info.ssi_signo as c_int;
        // What the terminal sends (SI_KERNEL) it sends to the container itself.
        if FORWARDED.contains(&number) && info.ssi_code != SI_KERNEL {
            let _ = signal::kill(pid, Signal::try_from(number).ok());
        }
        let mut status = 0;
        // SAFETY: waitpid writes one integer. (nix's knows no real-time signals.)
        if unsafe { libc::waitpid(pid.as_raw(), &mut status, WNOHANG | WUNTRACED) } <= 0 {
            continue;
        } else if WIFEXITED(status) {
            return Ok(WEXITSTATUS(status) as u8);
        } else if WIFSIGNALED(status) {
            return Ok(128 + WTERMSIG(status) as u8);
        } else if let Some(saved) = terminal {
            // ^Z has stopped the job: husk stops too, and both go on after fg.
            take_back_terminal(saved);
            let _ = signal::raise(Signal::SIGSTOP);
            hand_over_terminal(pid);
            let _ = signal::killpg(pid, Signal::SIGCONT);
        }
    }
    Err(error("signalfd: no more signals"))
}

/// Makes the child the terminal's foreground job, as a shell would: ^C reaches the container only.
/// Not in a pipeline or the background, where the rest of husk's own group needs the terminal.
fn hand_over_terminal(pid: Pid) -> Option<Termios> {
    let stdin = io::stdin();
    let is_ours = unistd::tcgetpgrp(&stdin) == Ok(unistd::getpgrp());
    let saved = tcgetattr(&stdin).ok().filter(|_| is_ours && io::stdout().is_terminal())?;
    let _ = unistd::setpgid(pid, pid);
    let _ = unistd::tcsetpgrp(&stdin, pid);
    Some(saved)
}

fn take_back_terminal(saved: &Termios) {
    let _ = unistd::tcsetpgrp(io::stdin(), unistd::getpgrp());
    let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, saved);
}

/// The caller's terminal, if one of 0, 1 and 2 is one.
fn terminal() -> Option<String> {
    let are = [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    are.iter().position(|is| *is).map(|fd| format!("/proc/self/fd/{fd}"))
}

/// All else that a container was is gone with its last process: what is left is its cgroup.
fn clean_up(c: &Container, cgroup: Option<Cgroup>, outcome: Result<u8>) -> Result<u8> {
    if outcome.is_err() {
        NARRATOR.set(""); // the step that failed has the last word
    } else if c.detach {
        return print(&format!("{}\n", c.name));
    }
    cgroup.iter().for_each(|cgroup| remove_cgroup(&cgroup.dir));
    outcome
}

// ---- 9. coming back: exec, ps, stop -------------------------------------------------------------

/// A container's PID 1, and a line of /proc/PID/status by its name. PID 1 is one level of namespaces
/// below us; deeper ones are of the container's making. The pidfd comes first: while it is alive,
/// the number has not gone to another process, and all that was read is its own.
struct First {
    pid: Pid,
    pidfd: OwnedFd,
    status: String,
}

impl First {
    fn of(dir: &Path) -> Option<First> {
        let depth = field(&read("/proc/self/status").ok()?, "NSpid").len() + 1;
        let here = format!("/husk/{}", dir.file_name()?.to_str()?);
        read(dir.join("cgroup.procs")).ok()?.lines().find_map(|line| {
            let pid: i32 = line.parse().ok()?;
            // SAFETY: integers only.
            let fd = Errno::result(unsafe { syscall(SYS_pidfd_open, pid, 0) }).ok()?;
            // SAFETY: the kernel has just made this descriptor, and nobody else has it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(fd as c_int) };
            let status = read(format!("/proc/{pid}/status")).ok()?;
            let cgroup = read(format!("/proc/{pid}/cgroup")).ok()?;
            let ids = field(&status, "NSpid");
            let is_first = ids.len() == depth && ids.last() == Some(&"1");
            let is_here =
                cgroup.lines().any(|line| line.starts_with("0::") && line.ends_with(&here));
            let first = First { pid: Pid::from_raw(pid), pidfd, status };
            (is_first && is_here && first.signal(0).is_ok()).then_some(first)
        })
    }

    fn signal(&self, number: c_int) -> Result<(), Errno> {
        let (fd, info) = (self.pidfd.as_raw_fd(), ptr::null::<siginfo_t>());
        // SAFETY: without a siginfo the kernel fills in what kill(2) would, pidfd_send_signal(2).
        Errno::result(unsafe { syscall(SYS_pidfd_send_signal, fd, number, info, 0) }).map(drop)
    }
}

/// The words of a line of /proc/PID/status, proc_pid_status(5).
fn field<'a>(status: &'a str, key: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().collect()
}

/// The container of that name, or the only one whose name begins like that.
fn find_container(husk: &Path, wanted: &OsStr) -> Result<PathBuf> {
    let name = |dir: &PathBuf| dir.file_name().unwrap_or_default().to_owned();
    let mut found = children(husk);
    found.retain(|dir| name(dir).as_bytes().starts_with(wanted.as_bytes()));
    found.sort(); // a whole name comes before those that begin with it
    match &found[..] {
        [] => Err(error(format!("{}: no such container", wanted.display()))),
        [first, rest @ ..] if rest.is_empty() || name(first) == wanted => Ok(first.clone()),
        _ => Err(error(format!("{}: several containers begin like that", wanted.display()))),
    }
}

/// `husk exec`: the same steps, but the namespaces are there already, setns(2).
fn exec_command(mut words: Words) -> Result<u8> {
    let mut c = Container { workdir: "/".into(), ..Container::default() };
    let (mut given_user, mut given_env) = (None, vec![]);
    for (option, value, expected) in options(&mut words, HELP)? {
        let good = match option {
            "--help" => return print(HELP),
            "--env" => set_env(&mut given_env, &value),
            "--workdir" => set(&mut c.workdir, absolute(&value)),
            "--user" => set(&mut given_user, user(value.to_str().unwrap_or_default()).map(Some)),
            "--interactive" | "--tty" => Some(()),
            _ => return Err(error(format!("{option} goes with run, not with exec"))),
        };
        good.ok_or_else(|| error(format!("{option} {}: expected {expected}", value.display())))?;
    }
    let wanted = words.pop_front().filter(|_| !words.is_empty());
    let wanted = wanted.ok_or_else(|| error("exec: expected a CONTAINER and a COMMAND"))?;
    c.command = words.into_iter().map(c_string).collect();
    shield()?;
    let husk = husk_cgroup()?;
    sweep(&husk);
    let dir = find_container(&husk, &wanted)?;
    let gone = || error(format!("{}: not running", wanted.display()));
    let first = First::of(&dir).ok_or_else(gone)?;
    let own = |key, nth: usize| field(&first.status, key).get(nth)?.parse().ok();
    c.user = given_user.or_else(|| own("Uid", 1).zip(own("Gid", 1))).ok_or_else(gone)?;
    let bounding = field(&first.status, "CapBnd").concat();
    c.capabilities = u64::from_str_radix(&bounding, 16).map_err(|_| gone())?;
    let variables = fs::read(format!("/proc/{}/environ", first.pid)).map_err(|_| gone())?;
    let variables = variables.split(|byte| *byte == 0);
    for pair in variables.chain(given_env.iter().map(|pair| pair.as_bytes())) {
        set_env(&mut c.env, OsStr::from_bytes(pair));
    }
    let cgroup = Cgroup { lock: File::open(&dir).map_err(|_| gone())?, dir };
    // setns(2) into a namespace where husk is already may be refused.
    let link = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
    let differs =
        |(name, _): &(&str, c_int)| link("self", name) != link(&first.pid.to_string(), name);
    let others = NAMESPACE_NAMES.into_iter().filter(differs).map(|(_, flag)| flag).sum();
    // Until it is the command, nobody in there may trace husk, or look into its /proc/PID
    // (CVE-2016-9962).
    step!(prctl::set_dumpable(false), "prctl PR_SET_DUMPABLE 0")?;
    let others = CloneFlags::from_bits_retain(others);
    step!(setns(&first.pidfd, others), "nsenter --target {} {others:?}", first.pid)?;
    let child = spawn(0, Some(&cgroup), |parent| {
        let namespace = CloneFlags::CLONE_NEWCGROUP; // in there, husk's own cgroup can't be seen
        step!(setns(&first.pidfd, namespace), "nsenter --target {} --cgroup", first.pid)?;
        step!(make_target(&c.workdir, true), "mkdir -p {}", c.workdir.display())?;
        wait_for_parent(parent)?;
        lock_down(&c, parent)?;
        execute(&c)
    })?;
    supervise(&child, false, || Ok(0))
}

const NAMESPACE_NAMES: [(&str, c_int); 6] = [
    ("user", CLONE_NEWUSER),
    ("mnt", CLONE_NEWNS),
    ("pid", CLONE_NEWPID),
    ("uts", CLONE_NEWUTS),
    ("ipc", CLONE_NEWIPC),
    ("net", CLONE_NEWNET),
];

/// `husk ps`: the youngest first.
fn ps_command(words: Words) -> Result<u8> {
    if !words.is_empty() {
        return Err(error("ps takes no arguments"));
    }
    let husk = husk_cgroup()?;
    sweep(&husk);
    let mut rows: Vec<(u64, [String; 6])> =
        children(&husk).iter().filter_map(|dir| row(dir)).collect();
    rows.sort();
    let titles = ["CONTAINER", "PID", "ADDRESS", "MEMORY", "AGE", "COMMAND"].map(String::from);
    rows.insert(0, (0, titles));
    let width = |column: usize| rows.iter().map(|(_, row)| row[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for (_, row) in &rows {
        for (cell, width) in row.iter().zip(widths) {
            text += &format!("{cell:width$}   ");
        }
        text += &format!("{}\n", row[5]);
    }
    print(&text)
}

/// A line of `husk ps`, and the age in seconds by which to sort it.
fn row(dir: &Path) -> Option<(u64, [String; 6])> {
    let pid = First::of(dir)?.pid;
    let file = |name| read(format!("/proc/{pid}/{name}")).ok();
    // proc_pid_stat(5): field 22 is the start, in ticks since boot. Field 2, in parentheses, is a
    // name and may hold anything.
    let start: f64 = file("stat")?.rsplit_once(')')?.1.split(' ').nth(20)?.parse().ok()?;
    let uptime: f64 = read("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
    let age = (uptime - start / 100.0) as u64;
    let units = [(86400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let (seconds, unit) =
        units.into_iter().find(|(seconds, _)| age >= 2 * seconds).unwrap_or((1, 's'));
    let memory = read(dir.join("memory.current")).ok().and_then(|bytes| bytes.trim().parse().ok());
    let memory = memory.map_or("-".into(), |bytes: f64| format!("{:.1}M", bytes / 1048576.0));
    // Each of the namespace's own addresses stands before "/32 host LOCAL".
    let routes = file("net/fib_trie")?;
    let mut addresses =
        routes.split("/32 host LOCAL").filter_map(|text| text.split_whitespace().last());
    let address =
        addresses.find(|ip| ip.starts_with("10.77.") && *ip != "10.77.0.1").unwrap_or("-");
    let command = one_line(file("cmdline")?.replace('\0', " ").trim_end());
    let name = dir.file_name()?.to_string_lossy().into();
    let age_text = format!("{}{unit}", age / seconds);
    Some((age, [name, pid.to_string(), address.into(), memory, age_text, command]))
}

/// `husk stop`: SIGTERM to all of them; then wait for each, and kill what is left.
fn stop_command(mut words: Words) -> Result<u8> {
    let mut seconds = 10;
    for (option, value, expected) in options(&mut words, "-t --time SECONDS")? {
        let good = set(&mut seconds, value.to_str().and_then(|text| text.parse().ok()));
        good.ok_or_else(|| error(format!("{option} {}: expected {expected}", value.display())))?;
    }
    if words.is_empty() {
        return Err(error("stop: expected a CONTAINER"));
    }
    let husk = husk_cgroup()?;
    sweep(&husk);
    let (mut dirs, mut missing) = (vec![], vec![]);
    for name in &words {
        match find_container(&husk, name) {
            Ok(dir) => dirs.push(dir),
            Err(Error(_, why)) => missing.push(why),
        }
    }
    let deadline = Instant::now() + Duration::from_secs(seconds);
    for first in dirs.iter().filter_map(|dir| First::of(dir)) {
        let _ = first.signal(SIGTERM);
    }
    for dir in dirs {
        while is_populated(&dir) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        remove_cgroup(&dir);
    }
    if missing.is_empty() { Ok(0) } else { Err(error(missing.join("; "))) }
}
