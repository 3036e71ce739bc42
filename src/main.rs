//! husk: a container runtime to read. A container is a process in a thin shell of kernel settings;
//! this file is that shell, in the order in which `husk run` puts it on. `run`, below, is the table
//! of contents; README.md has a chapter for each numbered section.

use libc::*;
use nix::fcntl::{self, FcntlArg, OFlag, OpenHow, ResolveFlag, SealFlag};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{self, SigSet, Signal};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::sys::{prctl, signalfd::SignalFd, stat, statvfs};
use nix::unistd::{self, Gid, Pid, Uid, UnlinkatFlags, ttyname};
use nix::{errno::Errno, net::if_::if_nametoindex};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CString, OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::{fd::OwnedFd, unix::net::UnixStream, unix::prelude::*};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, ExitStatus, exit};
use std::time::{Duration, Instant};
use std::{cell::Cell, convert::Infallible, env, fmt::Display, fs, fs::File, mem, ptr, thread};
use std::{net::Ipv4Addr, num::NonZero, sync::LazyLock};

/// What to run, and in what: the whole command line.
#[derive(Default)]
struct Container {
    name: String,
    hostname: String,
    rootfs: PathBuf,
    writable: bool,
    read_only: bool,
    volumes: Vec<(PathBuf, PathBuf, MsFlags)>, // source, target, flags to add
    limits: Vec<(String, String)>,             // a file of the cgroup, and what to write to it
    namespaces: c_int,
    bridge: bool,
    capabilities: u64, // at first those of --cap-add, in the end the container's
    dropped: u64,      // those of --cap-drop
    user: Option<(u32, u32)>, // by default root, or with exec the user of PID 1
    env: Vec<CString>,
    workdir: PathBuf,
    command: Vec<CString>,
    detach: bool,
    time: u32, // that stop waits, in seconds
}

/// The table of contents. What `spawn` is given runs in the child, which becomes the container; all
/// else runs in husk itself, the parent: sections 3 and 6 at the same time as sections 4 and 5.
fn run(c: &Container) -> Result<u8> {
    let husk_pidfd = attempt("pidfd_open", pidfd_open(unistd::getpid().as_raw()))?;
    let cgroup = create_cgroup(c)?; // 1
    let caller = (unistd::geteuid(), unistd::getegid());
    // Root's network namespace takes longest: the parent makes it, beside the child's mounts.
    let by_clone = if *ROOTLESS { c.namespaces } else { c.namespaces & !CLONE_NEWNET };
    let child = spawn(by_clone, cgroup.as_ref(), |socket| {
        enter_namespaces(c, caller)?; // 2
        set_hostname(c)?; // 4
        let hosts = build_root(c, || join_network(c, socket, &husk_pidfd))?; // 5, 6
        let address = wait_for_parent(socket)?;
        name_address(c, address, hosts)?; // 6
        lock_down(c, socket)?; // 7
        execute(c, socket) // 8
    });
    drop(husk_pidfd); // the child has its own
    let outcome = child.and_then(|child| {
        let network = network_outside(c, &child); // 3, 6
        supervise(c, &child, network, cgroup.as_ref()) // 8
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
fn say(line: impl Display) {
    if !NARRATOR.get().is_empty() {
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

fn say_step(sentence: impl Display) {
    say(format_args!("   {:6} {sentence}", NARRATOR.get()));
}

/// Nearly every call that changes something is a step, with the shell command that does the same by
/// hand: --explain prints it, then the call is made (a function would be given its result, too late
/// to print); an error begins with it.
macro_rules! step {
    ($call:expr, $($sentence:tt)+) => {{
        say_step(format_args!($($sentence)+));
        attempt(format_args!($($sentence)+), $call)
    }};
}

fn attempt<T, E: Into<io::Error>>(what: impl Display, result: Result<T, E>) -> Result<T> {
    result.map_err(|cause| {
        let cause = cause.into();
        let Some(number) = cause.raw_os_error() else { return error(format!("{what}: {cause}")) };
        let errno = Errno::from_raw(number);
        let hint = hint(errno).map_or(String::new(), |hint| format!(" ({hint})"));
        error(format!("{what}: {errno}{hint}"))
    })
}

/// What a user can do about an error, where its name does not say that.
fn hint(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EPERM if !*ROOTLESS => Some("try sudo, or run it rootless as an ordinary user"),
        Errno::EPERM | Errno::EACCES | Errno::ENOSPC => *NO_USER_NAMESPACES,
        Errno::ENOSYS => {
            Some("this kernel is too old, or a seccomp filter hides it: husk needs Linux 5.14")
        }
        Errno::EAGAIN => Some("too many: see ulimit -u, pids.max and cgroup.max.*"),
        Errno::EPIPE => Some("the child was killed: is --memory too small?"),
        Errno::EXFULL => Some("a bridge takes 1,023 containers"),
        _ => None,
    }
}

/// A file, as a rule of the kernel's: 16 MiB at most, for what a container says may have no end.
fn read_bytes(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096); // mostly enough for one read(2)
    let read = File::open(&path).and_then(|file| file.take(1 << 24).read_to_end(&mut bytes));
    attempt(format_args!("cat {}", path.as_ref().display()), read).map(|_| bytes)
}

/// The same as text. Paths in it may hold any bytes: those that are no UTF-8 are replaced.
fn read(path: impl AsRef<Path>) -> Result<String> {
    read_bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes to a file of the kernel's: without O_CREAT, so that a missing one is ENOENT.
fn echo(value: &str, path: impl AsRef<Path>) -> Result<()> {
    let write = || File::options().write(true).open(&path)?.write_all(value.as_bytes());
    step!(write(), "echo {value} > {}", path.as_ref().display())
}

/// Is this process in a user namespace, or must its container be? The number is that of the first
/// one, PROC_USER_INIT_INO. Found out at the start: later /proc may be what ROOTFS says it is.
static ROOTLESS: LazyLock<bool> = LazyLock::new(|| {
    let is_other = |own| own != Path::new("user:[4026531837]");
    !unistd::geteuid().is_root() || fs::read_link("/proc/self/ns/user").is_ok_and(is_other)
});

/// The setting that keeps an ordinary user from having user namespaces, found out at the start too.
static NO_USER_NAMESPACES: LazyLock<Option<&str>> = LazyLock::new(|| {
    let settings = "user.max_user_namespaces=0 kernel.unprivileged_userns_clone=0 \
        kernel.apparmor_restrict_unprivileged_userns=1";
    settings.split(' ').filter(|_| *ROOTLESS).find(|setting| {
        let (name, value) = setting.split_once('=').unwrap_or_default();
        let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")));
        text.is_ok_and(|text| text.trim() == value)
    })
});

/// The standard library's one source of randomness: the keys of its hash maps.
fn random() -> u32 {
    RandomState::new().hash_one(()) as u32
}

/// Command line and environment came as C strings, so there is no NUL in them.
fn c_string(text: impl AsRef<OsStr>) -> CString {
    CString::new(text.as_ref().as_bytes()).unwrap_or_default()
}

fn print(text: &str) -> Result<u8> {
    attempt("standard output", io::stdout().write_all(text.as_bytes())).map(|()| 0)
}

// ---- 0. the command line ------------------------------------------------------------------------

/// Also the table of options, which `parse` reads: the first ten columns of a line are the commands
/// that take its options, two blanks lie between these, and a value is written in capitals. What an
/// error says that it expected is from here too.
const HELP: &str = "\
husk run [OPTIONS] ROOTFS [COMMAND [ARG]...]    start a container; COMMAND is /bin/sh if not given
husk exec [OPTIONS] CONTAINER COMMAND [ARG]...  run a command in a running one
husk ps                                         list the running ones
husk stop [OPTIONS] CONTAINER...                SIGTERM, and SIGKILL after 10 seconds

run       --name NAME (letters, digits, _.-)  -h --hostname NAME  -d --detach  --rm (always so)
run       -v --volume SRC:DST[:ro]  --read-only  --writable (changes go to ROOTFS itself)
run       -m --memory SIZE (64m)  --cpus NUMBER (0.5)  --pids-limit NUMBER  --cgroup FILE=VALUE
run       --network MODE (bridge, none or host)  --cap-add NAME (or ALL)  --cap-drop NAME (or ALL)
run exec  -e --env KEY=VALUE (or KEY, for the caller's value)  -w --workdir DIR
run exec  -u --user UID[:GID]  --explain (say each step)  -i --interactive  -t --tty (always so)
stop      -t --time SECONDS

For example: husk run --memory 64m --volume $PWD:/work --workdir /work rootfs ls

Exit status: the command's; 128+N if signal N killed it; 125 husk failed; 126 the command can't
be run; 127 it was not found. As an ordinary user the same commands work rootless.
";

fn main() -> ExitCode {
    for number in 1..=64 {
        // SAFETY: SIG_DFL installs no code of ours. What husk's caller ignores, and SIGPIPE, which
        // Rust ignores, would else stay ignored in the container, signal(7).
        unsafe { libc::signal(number, SIG_DFL) };
    }
    LazyLock::force(&NO_USER_NAMESPACES); // and so ROOTLESS
    #[cfg(feature = "oci")]
    if env::args_os().next().is_some_and(|name| name.as_bytes().ends_with(b"husk-oci")) {
        return oci::main();
    }
    stat::umask(stat::Mode::from_bits_retain(0o022));
    let mut words: VecDeque<OsString> = env::args_os().skip(1).collect();
    let outcome = match words.pop_front().unwrap_or_default().to_str() {
        Some("help" | "--help" | "-h") => print(HELP),
        Some("--version") => print(concat!("husk ", env!("CARGO_PKG_VERSION"), "\n")),
        Some(_) if words.front().is_some_and(|word| word == "--help") => print(HELP),
        // Whom it shows by a number must be who has that number here.
        Some(_) if fs::read_link("/proc/self").ok() != Some(process::id().to_string().into()) => {
            Err(error("expected this pid namespace's own /proc: mount -t proc proc /proc"))
        }
        Some("run") => parse("run", words).and_then(run_command),
        Some("exec") => parse("exec", words).and_then(exec_command),
        Some("ps") => parse("ps", words).and_then(ps_command),
        Some("stop") => parse("stop", words).and_then(stop_command),
        _ => Err(error("expected run, exec, ps or stop: see husk --help")),
    };
    ExitCode::from(outcome.unwrap_or_else(|Error(status, why)| {
        // A name may hold line feeds and terminal escapes.
        let line = format!("husk: {}\n", why.replace(char::is_control, "?"));
        let _ = io::stderr().write_all(line.as_bytes());
        status
    }))
}

/// Options, then words. `-it` is `-i -t`, `-m64m` is `-m 64m`, `--opt=value` is `--opt value`.
fn parse(command: &str, mut words: VecDeque<OsString>) -> Result<Container> {
    let mut c = Container { bridge: !*ROOTLESS, time: 10, ..Container::default() };
    // It begins with a letter: a host name of digits alone would be taken for an address.
    c.name = format!("{:08x}", random() | 0xa000_0000);
    (c.workdir, c.namespaces) = ("/".into(), NAMESPACES);
    let lines = HELP.lines().filter_map(|line| line.split_at_checked(10));
    let lines = lines.filter(|(commands, _)| commands.split(' ').any(|word| word == command));
    let table: Vec<&str> = lines.flat_map(|(_, options)| options.split("  ")).collect();
    while let Some(word) = words.pop_front_if(|word| word.len() > 1 && word.as_bytes()[0] == b'-') {
        let bytes = word.as_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
        let (name, rest) = bytes.split_at(if bytes[1] == b'-' { equals } else { 2 });
        if name == b"--" {
            break;
        }
        let entry = table.iter().find(|entry| entry.split(' ').any(|w| w.as_bytes() == name));
        let (_, usage) = entry
            .and_then(|entry| entry.split_once("--"))
            .ok_or_else(|| error(format!("{}: see husk --help", word.display())))?;
        let (option, expected) = usage.split_once(' ').unwrap_or((usage, ""));
        let takes_value = expected.starts_with(char::is_uppercase);
        let expected = if takes_value { expected } else { "no value" };
        let value = match rest {
            [] if takes_value => words.pop_front(),
            [b'=', value @ ..] | value if takes_value => Some(OsStr::from_bytes(value).into()),
            [b'=', ..] => None,
            [] => Some(OsString::new()),
            more => {
                words.push_front(OsString::from_vec([b"-", more].concat()));
                Some(OsString::new())
            }
        };
        if value.as_ref().and_then(|value| c.set(option, value)).is_none() {
            let value = value.unwrap_or_default();
            return Err(error(format!("--{option} {}: expected {expected}", value.display())));
        }
    }
    c.command = words.into_iter().map(c_string).collect();
    // In the background of a terminal nobody can type for it.
    let is_background = unistd::tcgetpgrp(io::stdin()).is_ok_and(|it| it != unistd::getpgrp());
    if c.detach || is_background {
        let null = || Ok::<_, io::Error>(unistd::dup2_stdin(File::open("/dev/null")?)?);
        attempt("exec </dev/null", null())?;
    }
    Ok(c)
}

impl Container {
    /// Takes an option; None if that is not a value for it.
    fn set(&mut self, option: &str, value: &OsStr) -> Option<()> {
        let text = value.to_str().unwrap_or_default();
        match option {
            "name" => self.name = name(text)?,
            "hostname" => self.hostname = name(text)?,
            "detach" => self.detach = true,
            "volume" => self.volumes.push(volume(value.as_bytes())?),
            "read-only" => self.read_only = true,
            "writable" => self.writable = true,
            "memory" | "cpus" | "pids-limit" | "cgroup" => self.limits.push(limit(option, text)?),
            "network" => match text {
                "bridge" if !*ROOTLESS => (self.bridge, self.namespaces) = (true, NAMESPACES),
                "none" => (self.bridge, self.namespaces) = (false, NAMESPACES),
                "host" => (self.bridge, self.namespaces) = (false, NAMESPACES & !CLONE_NEWNET),
                _ => return None,
            },
            "cap-add" => self.capabilities |= capability(text)?,
            "cap-drop" => self.dropped |= capability(text)?,
            "explain" => NARRATOR.set("parent"),
            "env" => match value.as_bytes() {
                [] | [b'=', ..] => return None,
                pair if pair.contains(&b'=') => self.env.push(c_string(value)),
                _ => {
                    let own = env::var_os(value).map(|own| [value, &own].join("=".as_ref()));
                    self.env.extend(own.map(c_string)); // stays unset where the caller has none
                }
            },
            "workdir" => self.workdir = Path::new(value).is_absolute().then(|| value.into())?,
            "user" => {
                let id = |id: &str| id.parse().ok().filter(|id| *id != u32::MAX); // setresuid(2)
                let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
                self.user = Some((id(uid)?, id(gid)?));
            }
            "time" => self.time = text.parse().ok()?,
            "rm" | "interactive" | "tty" => {} // always so
            _ => return None,
        }
        Some(())
    }
}

/// The cgroup file that an option stands for, and what to write to it.
fn limit(option: &str, text: &str) -> Option<(String, String)> {
    let (file, value) = match option {
        "memory" => {
            let size = text.strip_suffix(['b', 'B']).unwrap_or(text); // the kernel knows the others
            let number = size.strip_suffix(|unit| "kmgtKMGT".contains(unit)).unwrap_or(size);
            number.parse::<NonZero<u64>>().ok().map(|_| ("memory.max", size.into()))?
        }
        "cpus" => {
            // Microseconds in each period of 100 ms; the kernel takes no less than 1 ms.
            let cpus: f64 = text.parse().ok().filter(|cpus| (0.01..1e6).contains(cpus))?;
            ("cpu.max", format!("{:.0} 100000", cpus * 1e5))
        }
        "pids-limit" => ("pids.max", text.parse::<NonZero<u32>>().ok()?.to_string()),
        _ => text.split_once('=').map(|(file, value)| (file, value.into()))?,
    };
    let is_good = file.contains('.') && !file.contains('/') && !file.starts_with("cgroup.");
    is_good.then(|| (file.into(), value))
}

/// A container is a directory among its cgroup's files: it can't be called "cpu.max".
fn name(text: &str) -> Option<String> {
    let controllers = "cgroup cpu cpuset dmem hugetlb io irq memory misc pids rdma";
    let (prefix, _) = text.split_once('.').unwrap_or_default();
    let is_file = controllers.split(' ').any(|controller| controller == prefix);
    let is_legal = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let is_good = is_legal && !is_file && !text.starts_with(['_', '.', '-']);
    (is_good && (1..=63).contains(&text.len())).then(|| text.into())
}

/// The last ":/" divides SRC from DST, so that SRC may hold colons.
fn volume(value: &[u8]) -> Option<(PathBuf, PathBuf, MsFlags)> {
    let (paths, read_only) = match value {
        [paths @ .., b':', b'r', b'o'] => (paths, MsFlags::MS_RDONLY),
        [paths @ .., b':', b'r', b'w'] | paths => (paths, MsFlags::empty()),
    };
    let colon = paths.windows(2).rposition(|two| two == b":/")?;
    let path = |bytes| PathBuf::from(OsStr::from_bytes(bytes));
    let (source, target) = (path(&paths[..colon]), path(&paths[colon + 1..]));
    // What is in /proc would be hidden by the container's own. A colon is taken for the beginning
    // of an option of docker's that husk does not have, such as ":ro,z".
    let is_good = target.file_name().is_some() && !target.starts_with("/proc");
    let is_good = is_good && source.is_absolute() && !paths[colon + 1..].contains(&b':');
    is_good.then_some((source, target, read_only | MsFlags::MS_NODEV | MsFlags::MS_REC))
}

/// The variables of `old`, which is like /proc/PID/environ, unless --env has given them anew.
fn add_env(c: &mut Container, old: &[u8]) {
    let given = c.env.iter().map(|pair| pair.to_bytes());
    let mut env = BTreeMap::new();
    for pair in old.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()).chain(given) {
        env.insert(pair.split(|byte| *byte == b'=').next(), pair);
    }
    c.env = env.into_values().map(|pair| c_string(OsStr::from_bytes(pair))).collect();
}

/// What the command line has left open is as docker has it.
fn run_command(mut c: Container) -> Result<u8> {
    let [rootfs, ..] = &c.command[..] else { return Err(error("run: expected a ROOTFS")) };
    let shown = format!("ROOTFS {}", rootfs.to_string_lossy());
    c.rootfs = attempt(&shown, fs::canonicalize(OsStr::from_bytes(rootfs.to_bytes())))?;
    if attempt(&shown, fs::read_dir(&c.rootfs))?.next().is_none() {
        return Err(error(format!("{shown} is empty: rootfs-scripts/ has ways to fill one")));
    }
    if c.writable && c.read_only {
        return Err(error("--read-only and --writable: expected one of them"));
    }
    c.command.remove(0);
    if c.command.is_empty() {
        c.command.push(c"/bin/sh".into());
    }
    if c.hostname.is_empty() {
        c.hostname = c.name.clone();
    }
    c.namespaces |= if *ROOTLESS { CLONE_NEWUSER } else { 0 };
    c.volumes.sort_by_key(|(_, target, _)| target.components().count()); // /a before /a/b
    // ALL comes first, names are exceptions from it, in whatever order they are given.
    let kept = KEPT.split(' ').filter_map(capability).sum();
    let before = match (c.capabilities & ALL, c.dropped & ALL) {
        (ALL, _) => u64::MAX, // --cap-add ALL --cap-drop KILL: all but KILL
        (_, ALL) => 0,        // --cap-drop ALL --cap-add KILL: KILL alone
        _ => kept,
    };
    c.capabilities |= before & !c.dropped;
    // `is_husk_itself` is enough only where no code of ROOTFS, as its loader, can run as husk, and
    // without the capabilities that have other ways to a program's file (chapter 8).
    if !cfg!(target_feature = "crt-static") || c.capabilities & !kept != 0 {
        shield()?;
    }
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let (uid, _) = c.user.unwrap_or_default();
    let home = if uid == 0 { "/root" } else { "/" };
    let term = terminal().and_then(|_| env::var("TERM").ok()).map(|term| format!("\0TERM={term}"));
    let term = term.unwrap_or_default();
    let env = format!("{path}\0HOME={home}\0HOSTNAME={}{term}", c.hostname);
    add_env(&mut c, env.as_bytes());
    run(&c)
}

// ---- 1. cgroup: the budget ----------------------------------------------------------------------

/// The cgroup of a container, or below it that of an exec, and the lock on its name.
struct Cgroup {
    dir: PathBuf,
    fd: File,
    lock: File,
}

/// The file whose bytes are locked, fcntl(2): not the container's directory, which the container
/// could lock itself.
fn open_locks() -> Result<File> {
    let file = File::options().read(true).write(true).open("cgroup.procs");
    attempt("open cgroup.procs", file)
}

/// Locks the byte whose number is a hash of the name (FNV-1a), as long as `locks` is open: for
/// reading who looks after a container, for writing who makes or removes it. The error is the kind
/// of lock that is in the way. husk works in husk/, so `dir` is always `./NAME` there.
fn set_lock(locks: &File, kind: c_int, dir: &Path) -> Result<(), c_int> {
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = dir.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, hash);
    // SAFETY: all of struct flock are integers.
    let mut byte: flock = unsafe { mem::zeroed() };
    (byte.l_type, byte.l_start, byte.l_len) = (kind as i16, (hash >> 1) as i64, 1); // it is signed
    fcntl::fcntl(locks, FcntlArg::F_OFD_SETLK(&byte)).map(drop).map_err(|_| {
        let _ = fcntl::fcntl(locks, FcntlArg::F_OFD_GETLK(&mut byte));
        byte.l_type.into()
    })
}

/// Where containers live: husk/ in the topmost cgroup of version 2 that the caller owns. For root
/// that is the mount itself; a user has one where systemd delegates it, cgroups(7).
fn husk_cgroup() -> Result<PathBuf> {
    let (mounts, cgroups) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    // What begins outside of our cgroup namespace ("/..") is taken only if there is no other.
    let lines = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let mount = lines
        .min_by_key(|line| line.contains(" /.."))
        .and_then(|line| line.split(' ').nth(4))
        .ok_or_else(|| error("expected a cgroup2 mount, as a rule at /sys/fs/cgroup"))?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let own = Path::new(mount).join(own);
    let uid = unistd::geteuid().as_raw();
    let is_callers = |dir: &&Path| fs::metadata(dir).is_ok_and(|meta| meta.uid() == uid);
    let above = own.ancestors().take_while(|dir| dir.starts_with(mount));
    let hint = "expected a cgroup of your own: systemd-run --user --scope -p Delegate=yes husk ...";
    Ok(above.filter(is_callers).last().ok_or_else(|| error(hint))?.join("husk"))
}

/// Made before the clone, so that the container is born inside and never runs without its limits.
fn create_cgroup(c: &Container) -> Result<Option<Cgroup>> {
    say("1. cgroup: the budget");
    let husk = match husk_cgroup() {
        Err(_) if *ROOTLESS && c.limits.is_empty() && !c.detach => return Ok(None),
        husk => husk?,
    };
    if !husk.exists() || !c.limits.is_empty() {
        // Not for others: who can open cgroup.procs can lock its bytes.
        let make = || fs::DirBuilder::new().recursive(true).mode(0o700).create(&husk);
        step!(make(), "mkdir -p -m 700 {}", husk.display())?;
        enable_controllers(&husk, &c.limits);
    }
    step!(unistd::chdir(&husk), "cd {}", husk.display())?;
    let cgroup = make_cgroup(Path::new(".").join(&c.name))?;
    for (file, value) in &c.limits {
        let (path, controller) = (cgroup.dir.join(file), file.split('.').next().unwrap_or(file));
        let missing = || error(format!("{file}: no {controller} controller in {}", husk.display()));
        let set = if path.exists() { echo(value, path) } else { Err(missing()) };
        set.inspect_err(|_| drop(fs::remove_dir(&cgroup.dir)))?;
    }
    if memory_limit(c).is_some() {
        let _ = echo("0", cgroup.dir.join("memory.swap.max")); // else the excess is swapped out
    }
    Ok(Some(cgroup))
}

/// The lock comes before the directory: so nobody ever sees one without the other. It is for
/// writing until the command runs, see `open_to_others` (that of an exec to its end: nobody enters
/// it).
fn make_cgroup(dir: PathBuf) -> Result<Cgroup> {
    let name = dir.file_name().unwrap_or_default().display();
    let is_running = || error(format!("{name}: a container of that name is running"));
    let lock = open_locks()?;
    say_step(format_args!("fcntl F_OFD_SETLK ({name})"));
    while let Err(other) = set_lock(&lock, F_WRLCK, &dir) {
        if other == F_RDLCK {
            return Err(is_running());
        }
        thread::sleep(Duration::from_millis(1));
    }
    if dir.exists() && remove_unless_alive(&lock, &dir) {
        return Err(is_running());
    }
    step!(fs::create_dir(&dir), "mkdir {}", dir.display())?;
    let fd = File::open(&dir).inspect_err(|_| drop(fs::remove_dir(&dir)));
    Ok(Cgroup { fd: attempt(dir.display(), fd)?, dir, lock })
}

fn memory_limit(c: &Container) -> Option<&str> {
    c.limits.iter().find(|(file, _)| file == "memory.max").map(|(_, bytes)| bytes.as_str())
}

/// Controllers are handed down from level to level, by cgroups without processes of their own (or
/// the root): where husk itself is in the way, it moves to `.self`, beside the containers. Failure
/// is no error: who asked for a limit is told that its file is missing.
fn enable_controllers(husk: &Path, limits: &[(String, String)]) {
    let (top, own) = (husk.parent().unwrap_or(husk), unistd::getpid().to_string());
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

/// The cgroups right below one; none if it is gone.
fn cgroups_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|dir| dir.path()).collect()
}

/// How the name of an exec's cgroup ends. It begins with a random number.
const EXEC: &str = "husk-exec";

/// The mark of what goes on when its husk has ended: the sticky bit of its directory.
const DETACHED: u32 = 0o1755;

fn is_marked(meta: &fs::Metadata) -> bool {
    meta.mode() & DETACHED == DETACHED
}

/// Clears away what killed husks left behind, and returns the containers that are left. Of the
/// detached ones it looks at `most`: where there are hundreds, an empty directory can wait.
fn sweep(mut most: usize) -> Vec<PathBuf> {
    if Path::new(".self").exists() {
        let _ = step!(fs::remove_dir(".self"), "rmdir .self");
    }
    let Ok(locks) = open_locks() else { return vec![] };
    let mut dirs = cgroups_below(Path::new("."));
    dirs.retain(|dir| !dir.as_os_str().as_bytes().starts_with(b"./.")); // no container's name
    let first = random() as usize % dirs.len().max(1); // so that each gets its turn
    dirs.rotate_left(first);
    dirs.retain(|dir| {
        // Each directory has two links, its name and its ".", and one for each in it, as an exec's.
        let can_wait = fs::metadata(dir).is_ok_and(|meta| is_marked(&meta) && meta.nlink() == 2);
        if can_wait && most == 0 {
            return true;
        }
        most -= usize::from(can_wait);
        remove_unless_alive(&locks, dir)
    });
    dirs
}

/// The living containers, for the commands of section 9.
fn living() -> Result<Vec<PathBuf>> {
    let husk = husk_cgroup()?;
    Ok(if unistd::chdir(&husk).is_ok() { sweep(usize::MAX) } else { vec![] })
}

/// Is it alive? What is locked is, and what is marked until it is empty. All else is removed.
fn remove_unless_alive(locks: &File, dir: &Path) -> bool {
    // In it, and locked just the same, are those of each `husk exec`.
    for exec in cgroups_below(dir).iter().filter(|it| it.extension() == Some(EXEC.as_ref())) {
        remove_unless_alive(locks, exec);
    }
    if set_lock(locks, F_WRLCK, dir).is_err() {
        return true;
    }
    // Only now: a husk marks its container before it lets go of the lock.
    let is_alive = fs::metadata(dir).is_ok_and(|meta| is_marked(&meta)) && is_populated(dir);
    if is_alive {
        let _ = set_lock(locks, F_UNLCK, dir); // nobody has to wait for the end of this sweep
    } else {
        remove_cgroup(dir);
    }
    is_alive
}

fn is_populated(dir: &Path) -> bool {
    read(dir.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
}

/// Asks again and again, every 200 us. False: it is still so at the deadline.
fn wait_while(deadline: Instant, mut is_so: impl FnMut() -> bool) -> bool {
    while is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_micros(200));
    }
    true
}

/// Removes a cgroup, and kills what is left in it, if anything is.
fn remove_cgroup(dir: &Path) {
    if step!(fs::remove_dir(dir), "rmdir {}", dir.display()).is_err() {
        kill_rest(dir);
        cgroups_below(dir).iter().for_each(|child| remove_cgroup(child));
        let _ = step!(fs::remove_dir(dir), "rmdir {}", dir.display());
    }
}

fn kill_rest(dir: &Path) {
    let _ = echo("1", dir.join("cgroup.kill"));
    wait_while(Instant::now() + Duration::from_secs(2), || {
        // That was a signal to main threads: a process whose main thread has ended before the
        // others gets none. A number may be another's by now, but not if it is still in here.
        for pid in pids(dir).into_iter().take(100) {
            if let Some(pidfd) = pidfd_open(pid).ok().filter(|_| pids(dir).contains(&pid)) {
                let _ = send_signal(&pidfd, SIGKILL);
            }
        }
        is_populated(dir)
    });
}

// ---- 2. clone: new namespaces -------------------------------------------------------------------

/// All but the cgroup namespace: its root would be the cgroup of whoever calls clone3, so the child
/// makes that one itself. The user namespace comes on top where there is no root.
const NAMESPACES: c_int = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;

struct Child {
    pid: Pid,
    socket: UnixStream,
}

/// Starts a child in new namespaces and in its cgroup, clone(2). It works through `body`, which
/// ends in exec; where that fails, the error goes to the parent through the socket.
fn spawn(
    namespaces: c_int,
    cgroup: Option<&Cgroup>,
    body: impl FnOnce(&UnixStream) -> Result<Infallible>,
) -> Result<Child> {
    say("2. clone: new namespaces");
    let (ours, theirs) = attempt("socketpair", UnixStream::pair())?;
    const INTO_CGROUP: u64 = 0x2_0000_0000; // the libc crate's constant is an int, too small for it
    let (into, dir) = cgroup.map_or((0, 0), |c| (INTO_CGROUP, c.fd.as_raw_fd() as u64));
    // SAFETY: all of struct clone_args are integers; 0 means "not used".
    let mut args: clone_args = unsafe { mem::zeroed() };
    (args.flags, args.exit_signal, args.cgroup) = (namespaces as u64 | into, SIGCHLD as u64, dir);
    // SAFETY: without a stack of its own the child goes on here in a copy of our memory, as after
    // fork(2). There are no threads that could hold a lock in it.
    let clone3 =
        || Errno::result(unsafe { syscall(SYS_clone3, &args, mem::size_of::<clone_args>()) });
    let pid = step!(clone3(), "clone3 {:?}", CloneFlags::from_bits_retain(namespaces))?;
    if pid > 0 {
        return Ok(Child { pid: Pid::from_raw(pid as i32), socket: ours });
    }
    drop(ours); // so that its end is the parent's, and seen here
    // The parent's alone: else the lock would last until exec, whatever has become of husk. (Here
    // `cgroup` is never dropped, which would close it again: this process ends in exec or exit.)
    cgroup.map(|cgroup| unistd::close(cgroup.lock.as_raw_fd()));
    NARRATOR.set(if NARRATOR.get().is_empty() { "" } else { "child" });
    let Err(Error(status, why)) = body(&theirs); // it comes back only if it has failed
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
    let _ = echo("0", "/proc/self/oom_score_adj"); // the caller's may make it immune
    step!(unshare(CloneFlags::CLONE_NEWCGROUP), "unshare --cgroup")
}

/// The parent's half: it gives the child the word to go on, if all is well, and waits for its end.
fn supervise(
    c: &Container,
    child: &Child,
    network: Result<Network>,
    cgroup: Option<&Cgroup>,
) -> Result<u8> {
    let (mut socket, mut report) = (&child.socket, vec![]);
    let _ = handled_signals().thread_block(); // until `wait` asks for them; so far they end husk
    let terminal = if c.detach { None } else { hand_over_terminal(child.pid) };
    let outcome = network.and_then(|(ip, rest)| {
        tell(socket, &ip.octets(), "the child may go on")?;
        drop(rest);
        if cgroup.is_some() {
            sweep(16); // now, because it costs nothing as long as the child is busy
        }
        // exec makes no namespaces: others are in there already, and it has no lock to pass on.
        if c.namespaces != 0 {
            let _ = socket.read_to_end(&mut report); // ends with execve(2), or with why not
            if report.is_empty() {
                open_to_others(c, child.pid, cgroup)?;
            }
        }
        if c.detach { Ok(0) } else { wait(child.pid, &terminal) }
    });
    terminal.iter().for_each(take_back_terminal);
    if outcome.is_err() {
        let _ = signal::kill(child.pid, Signal::SIGKILL);
    }
    let _ = socket.read_to_end(&mut report);
    match &report[..] {
        [status, why @ ..] => Err(Error(*status, String::from_utf8_lossy(why).into())),
        [] => outcome,
    }
}

fn tell(child: &UnixStream, word: &[u8], meaning: &str) -> Result<()> {
    let send = || socket::send(child.as_raw_fd(), word, MsgFlags::MSG_NOSIGNAL);
    step!(send(), "sendto ({meaning})").map(drop)
}

/// The parent's word to go on: the container's address, or 0 if it gets none.
fn wait_for_parent(mut parent: &UnixStream) -> Result<Ipv4Addr> {
    let mut address = [0; 4];
    attempt("the parent is gone", parent.read_exact(&mut address))?;
    Ok(address.into())
}

// ---- 3. network, the host's side ----------------------------------------------------------------

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1); // of 10.77.0.0/16, see RULES and `row`
const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// The container's address, and what is only to be closed when the child goes on: to take a mount
/// away, the kernel waits for all processors.
type Network = (Ipv4Addr, Option<OwnedFd>);

/// Containers may talk to each other and to the world, also where docker has FORWARD dropped and
/// sends bridged frames through it. From outside come only answers, and what is sent on (DNAT).
const RULES: [&str; 4] = [
    "-t nat -A POSTROUTING -s 10.77.0.0/16 ! -o husk0 -j MASQUERADE",
    "-t filter -I FORWARD -o husk0 -j DROP", // -I puts each later one above this
    "-t filter -I FORWARD -i husk0 -j ACCEPT",
    "-t filter -I FORWARD -o husk0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
];

/// In the container's network, as docker has it: with IPv6 each container's search for neighbours
/// and routers would be every other's, too, and each could pose as a router. And users other than
/// root may serve on port 80, and ping.
const SETTINGS: [(&str, &str); 3] = [
    ("sys/net/ipv6/conf/default/disable_ipv6", "1"),
    ("sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// A socket whose other end is the kernel, netlink(7): for the network namespace that we are in.
fn netlink_socket() -> Result<OwnedFd> {
    let (raw, route) = (SockType::Raw, SockProtocol::NetlinkRoute);
    let socket = socket::socket(AddressFamily::Netlink, raw, SockFlag::SOCK_CLOEXEC, route);
    attempt("netlink socket", socket)
}

/// Asks the kernel to make or change something: a header (nlmsghdr), then a fixed part, then
/// attributes, rtnetlink(7). False if it is there already. (NLM_F_CREATE and NLM_F_EXCL mean
/// nothing to RTM_SETLINK.)
fn netlink(socket: &OwnedFd, kind: u16, body: &[u8]) -> Result<bool, Errno> {
    let length = (16 + body.len() as u32).to_ne_bytes();
    let flags = ((NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) as u16).to_ne_bytes();
    let message = [&length[..], &kind.to_ne_bytes(), &flags, &[0; 8], body].concat();
    socket::send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 20]; // a header, and an errno
    socket::recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let [.., a, b, c, d] = answer;
    match -i32::from_ne_bytes([a, b, c, d]) {
        0 => Ok(true),
        EEXIST => Ok(false),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// Type, length and value, which may be attributes again.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len() as u16;
    let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An interface. Its fixed part, struct ifinfomsg, is a family, a type and an index (each of them
/// 0, as it has a name), then its flags, and which of these to change.
fn link(name: &str, flags: c_int, attributes: &[Vec<u8>]) -> Vec<u8> {
    let fixed = [0, 0, flags, flags].map(c_int::to_ne_bytes).concat();
    [fixed, attribute(IFLA_IFNAME, name.as_bytes()), attributes.concat()].concat()
}

/// A MAC address made of the IP address: when that is used again, no ARP cache is wrong.
fn mac(ip: Ipv4Addr) -> Vec<u8> {
    attribute(IFLA_ADDRESS, &[&[0x02, 0x42], &ip.octets()[..]].concat())
}

fn set_address_and_up(socket: &OwnedFd, name: &str, ip: Ipv4Addr) -> Result<()> {
    let index = attempt(name, if_nametoindex(name))?;
    // struct ifaddrmsg: family, prefix, flags, scope, index.
    let fixed = [[AF_INET as u8, 16, 0, 0], index.to_ne_bytes()].concat();
    let message = [fixed, attribute(IFA_LOCAL, &ip.octets())].concat();
    step!(netlink(socket, RTM_NEWADDR, &message), "ip addr add {ip}/16 dev {name}")?;
    set_up(socket, name)
}

fn set_up(socket: &OwnedFd, name: &str) -> Result<()> {
    step!(netlink(socket, RTM_SETLINK, &link(name, IFF_UP, &[])), "ip link set {name} up").map(drop)
}

/// The parent's work beside the child's mounts: root's network namespace, and the way out of it.
fn network_outside(c: &Container, child: &Child) -> Result<Network> {
    if *ROOTLESS || c.namespaces & CLONE_NEWNET == 0 {
        return Ok((NOWHERE, None));
    }
    let mut bridge = 0;
    if c.bridge {
        say("3. network, the host's side");
        // A bridge that is up has a route, and so a line here.
        if !read("/proc/net/route")?.lines().any(|line| line.starts_with("husk0\t")) {
            make_bridge()?;
        }
        bridge = attempt("husk0", if_nametoindex("husk0"))?;
    }
    let host = netlink_socket()?;
    // husk stays in it, so that the child can join it there. `host` still speaks to the host's.
    step!(unshare(CloneFlags::CLONE_NEWNET), "unshare --net")?;
    tell(&child.socket, &[0], "join it")?;
    if !c.bridge {
        return Ok((network_inside(NOWHERE)?, None));
    }
    let proc = change_settings()?;
    let ip = make_veths(&host, bridge)?;
    drop(host); // where few files may be open
    Ok((network_inside(ip)?, Some(proc)))
}

/// By a /proc of our own: the host's would look through the entries of all network namespaces.
fn change_settings() -> Result<OwnedFd> {
    let proc = new_tree("proc", "nosuid")?;
    for (file, value) in SETTINGS {
        match fcntl::openat(&proc, file, OFlag::O_WRONLY, stat::Mode::empty()) {
            Err(Errno::ENOENT) => {} // a kernel without IPv6
            setting => {
                let write = || unistd::write(setting?, value.as_bytes());
                step!(write(), "echo {value} > /proc/{file}")?;
            }
        }
    }
    Ok(proc)
}

/// A pair of veths: one on the bridge; the other, eth0, in the container, with which both vanish.
/// The name leases the address: the kernel refuses a second interface of that name.
fn make_veths(host: &OwnedFd, bridge: u32) -> Result<Ipv4Addr> {
    // Else each end has as many queues as there are CPUs, and these take long to make.
    let one = |kind| attribute(kind, &1u32.to_ne_bytes());
    let queues = [one(IFLA_NUM_TX_QUEUES), one(IFLA_NUM_RX_QUEUES)].concat();
    let pid = unistd::getpid();
    loop {
        // 0 is the network, 1 the gateway, the last broadcast.
        let ip = Ipv4Addr::from_bits(GATEWAY.to_bits() + 1 + random() % 65_533);
        let name = format!("husk{}", ip.to_bits() & 0xffff);
        let ns = attribute(IFLA_NET_NS_PID, &pid.as_raw().to_ne_bytes());
        let peer = attribute(1, &link("eth0", 0, &[mac(ip), ns, queues.clone()])); // VETH_INFO_PEER
        let kind = [attribute(IFLA_INFO_KIND, b"veth"), attribute(IFLA_INFO_DATA, &peer)].concat();
        let kind = attribute(IFLA_LINKINFO, &kind);
        let master = attribute(IFLA_MASTER, &bridge.to_ne_bytes());
        let veth = link(&name, IFF_UP, &[master, kind, queues.clone()]);
        if step!(
            netlink(host, RTM_NEWLINK, &veth),
            "ip link add {name} up master husk0 type veth peer eth0 netns {pid}"
        )? {
            return Ok(ip);
        }
    }
}

/// Once per host, by one husk at a time. A husk0 that is up proves that all else was done before,
/// whenever a husk was killed. iptables(8) is the one program that husk runs for itself.
fn make_bridge() -> Result<()> {
    let husk = husk_cgroup()?;
    let dir = attempt("open the husk cgroup", File::open(&husk))?;
    step!(dir.lock(), "flock {}", husk.display())?;
    echo("1", "/proc/sys/net/ipv4/ip_forward")?;
    for rule in RULES {
        let iptables = |rule: &str| {
            let done = Command::new("iptables").arg("-w").args(rule.split(' ')).output()?;
            let why = || io::Error::other(String::from_utf8_lossy(&done.stderr).trim());
            done.status.success().then_some(()).ok_or_else(why)
        };
        // Anew, for their order counts.
        let delete = rule.replace(" -A ", " -D ").replace(" -I ", " -D ");
        say_step(format_args!("iptables -w {delete}"));
        match iptables(&delete) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let text = b"husk: no iptables: containers reach the host and each other only\n";
                let _ = io::stderr().write_all(text);
                break;
            }
            _ => step!(iptables(rule), "iptables -w {rule}")?,
        }
    }
    // A MAC of its own: else it takes the lowest of its ports', and changes when that one leaves.
    let kind = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"bridge"));
    let (socket, bridge) = (netlink_socket()?, link("husk0", 0, &[mac(GATEWAY), kind]));
    step!(netlink(&socket, RTM_NEWLINK, &bridge), "ip link add husk0 type bridge")?;
    // A container must not become the host's router (CVE-2020-13401). Fails only without IPv6.
    let _ = echo("0", "/proc/sys/net/ipv6/conf/husk0/accept_ra");
    set_address_and_up(&socket, "husk0", GATEWAY)
}

// ---- 4. hostname --------------------------------------------------------------------------------

fn set_hostname(c: &Container) -> Result<()> {
    say("4. hostname");
    step!(unistd::sethostname(&c.hostname), "hostname {}", c.hostname)
}

// ---- 5. root file system ------------------------------------------------------------------------

/// docker's mounts, in the words of fstab(5). A relative target is below the last absolute one.
const DEV: [[&str; 3]; 4] = [
    ["tmpfs", "/dev", "nosuid,nodev,noexec,mode=755,size=64m"],
    ["devpts", "pts", "nosuid,noexec,ptmxmode=666,mode=620,gid=5"],
    ["tmpfs", "shm", "nosuid,nodev,noexec,mode=1777,size=64m"],
    ["mqueue", "mqueue", "nosuid,nodev,noexec"],
];
const SYS: [[&str; 3]; 2] = [
    ["sysfs", "/sys", "nosuid,nodev,noexec,ro"],
    ["cgroup2", "fs/cgroup", "nosuid,nodev,noexec,ro"],
];
const PROC: [[&str; 3]; 1] = [["proc", "/proc", "nosuid,nodev,noexec"]];

/// The host's own nodes, bound read-only: a chmod of /dev/null in here must not reach the host's.
const DEVICES: &str = "null zero full random urandom tty";
const DEVICE: MsFlags = MsFlags::MS_RDONLY.union(MsFlags::MS_NOSUID).union(MsFlags::MS_NOEXEC);
const LINKS: &str = "fd=/proc/self/fd stdin=/proc/self/fd/0 stdout=/proc/self/fd/1 \
    stderr=/proc/self/fd/2 ptmx=pts/ptmx";

/// docker's masked paths and a few more, which tell of the host or change it, are covered by
/// something empty; its read-only ones, the machine's settings and emergency keys, by themselves.
const MASKED: [&str; 7] = [
    "/proc/acpi /proc/scsi", // switch hardware off (CVE-2018-10892), remove disks (CVE-2017-16539)
    "/proc/asound /proc/interrupts", // what the host plays, when somebody types on it
    "/proc/dynamic_debug",   // turns the kernel's messages on
    "/proc/kcore /proc/keys /proc/locks", // all memory, everybody's keys, husk's locks
    "/proc/latency_stats /proc/sched_debug /proc/timer_list", // all processes
    "/sys/devices/virtual/powercap", // power use betrays keys (CVE-2020-8694)
    "/sys/firmware",         // the firmware's variables
];
const READ_ONLY: &str = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger";

/// A mount that is attached nowhere yet, and where it shall be.
type Tree = (OwnedFd, PathBuf);

/// All that belongs in the new root is made while the host can be seen, but attached nowhere. Then
/// pivot_root and umount put the host out of reach, and only then does anything follow the paths of
/// ROOTFS: wherever its symlinks point, they can't lead out any more. Returns /etc/hosts, which
/// still lacks the container's address.
fn build_root(c: &Container, join: impl FnOnce() -> Result<()>) -> Result<File> {
    say("5. root file system");
    // Else systemd's shared mounts would carry ours over to the host.
    let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    step!(mount(none, "/", none, private, none), "mount --make-rprivate /")?;
    let (mut trees, mut volumes) = (make_dev(c)?, vec![]);
    for (source, target, flags) in &c.volumes {
        volumes.push((clone_tree(AT_FDCWD, source, *flags)?, target.clone()));
    }
    mount_root(c)?; // from here on /dev is a tmpfs, which nobody else sees, and "." is ROOTFS
    let name = format!("{}\n", c.hostname);
    let servers = name_servers(c.namespaces & CLONE_NEWNET == 0);
    let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    for (file, text) in [("hostname", &*name), ("resolv.conf", &servers), ("hosts", hosts)] {
        let path = Path::new("/dev").join(file);
        step!(fs::write(&path, text), "write {}", path.display())?;
        trees.push((clone_tree(AT_FDCWD, &path, MsFlags::MS_NODEV)?, Path::new("/etc").join(file)));
    }
    let hosts = attempt("/dev/hosts", File::options().append(true).open("/dev/hosts"))?;
    join()?; // the network, before /sys is made, which shows the one of its maker
    trees.extend(make_mounts(c, &SYS)?);
    trees.extend(volumes);
    trees.extend(make_mounts(c, &PROC)?);
    step!(unistd::chdir("/dev/root"), "cd /dev/root")?;
    // Both roots in one place, so the old one needs no directory in the new one: it lies on top,
    // and is taken away with all that is mounted in it.
    step!(unistd::pivot_root(".", "."), "pivot_root . .")?;
    step!(umount2(".", MntFlags::MNT_DETACH), "umount --lazy .")?;
    attach(c, &trees)?;
    if c.read_only {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
        step!(mount(none, "/", none, flags, none), "mount -o remount,bind,ro,nodev /")?;
    }
    Ok(hosts)
}

/// /proc comes last: its links in /proc/self/fd lead to what husk has open.
fn attach(c: &Container, trees: &[Tree]) -> Result<()> {
    for (tree, target) in trees {
        // As long as there is no /proc: this path is steered by ROOTFS, to /proc/self/fd maybe.
        if target == Path::new("/proc") && !c.workdir.exists() {
            step!(make_target(&c.workdir, true), "mkdir -p {}", c.workdir.display())?;
        }
        place(tree, target)?;
        if ["/dev", "/sys", "/proc"].iter().any(|own| target == Path::new(own)) {
            // What follows may lie in it: by no path that ROOTFS could steer.
            step!(unistd::fchdir(tree), "cd {}", target.display())?;
            cover(target, &trees[0].0)?;
        }
    }
    Ok(())
}

/// The working directory is `base`; `dev` is the container's /dev.
fn cover(base: &Path, dev: &OwnedFd) -> Result<()> {
    let below = |path| Path::new(path).strip_prefix(base).ok();
    for path in MASKED.iter().flat_map(|line| line.split(' ')).filter_map(below) {
        let empty = match fs::metadata(path) {
            Err(_) => continue,
            Ok(masked) if masked.is_dir() => new_tree("tmpfs", "ro,nosuid,nodev,noexec")?,
            Ok(_) => clone_tree(dev.as_raw_fd(), "null", DEVICE)?,
        };
        place(&empty, path)?;
    }
    for path in READ_ONLY.split(' ').filter_map(below).filter(|path| path.exists()) {
        place(&clone_tree(AT_FDCWD, path, DEVICE | MsFlags::MS_NODEV)?, path)?;
    }
    Ok(())
}

fn make_dev(c: &Container) -> Result<Vec<Tree>> {
    let mut trees = make_mounts(c, &DEV)?;
    for (name, to) in LINKS.split(' ').filter_map(|link| link.split_once('=')) {
        let link = || unistd::symlinkat(to, &trees[0].0, name);
        step!(link(), "ln -s {to} /dev/{name}")?;
    }
    let nodes = device_nodes(c)?;
    replace_stdio(&nodes)?;
    trees.extend(nodes);
    Ok(trees)
}

fn device_nodes(c: &Container) -> Result<Vec<Tree>> {
    let nodes = DEVICES.split(' ').map(|name| (Path::new("/dev").join(name), name));
    // Where ttyname(3) finds the terminal.
    let console = terminal().filter(|_| !c.detach).map(|path| (path, "console"));
    let clone = |(path, name)| Ok((clone_tree(AT_FDCWD, path, DEVICE)?, Path::new(name).into()));
    nodes.chain(console).map(clone).collect()
}

fn make_mounts(c: &Container, table: &[[&str; 3]]) -> Result<Vec<Tree>> {
    let mut trees = vec![];
    for [fstype, target, options] in table {
        // A sysfs shows a network, and only who owns that may mount one.
        let tree = if *fstype == "sysfs" && *ROOTLESS && c.namespaces & CLONE_NEWNET == 0 {
            clone_tree(AT_FDCWD, "/sys", DEVICE | MsFlags::MS_NODEV | MsFlags::MS_REC)?
        } else {
            // Group 5, tty, is not among a user's ids.
            new_tree(fstype, options.trim_end_matches(if *ROOTLESS { ",gid=5" } else { "" }))?
        };
        trees.push((tree, target.into()));
    }
    Ok(trees)
}

/// 0, 1 and 2 may be open on nodes of the host, the caller's terminal or /dev/null. They are opened
/// again by the read-only mounts, so that fchmod(2) does not reach the host's. The paths here are
/// the host's: the container's own /dev is what it has made of it.
fn replace_stdio(nodes: &[Tree]) -> Result<()> {
    for fd in 0..3 {
        // SAFETY: of 0, 1 and 2 nothing in this process is the owner.
        let own = stat::fstat(unsafe { BorrowedFd::borrow_raw(fd) }).map_or(0, |it| it.st_rdev);
        let is_own = |(node, _): &&Tree| stat::fstat(node).is_ok_and(|it| it.st_rdev == own);
        let Some((node, _)) = nodes.iter().find(is_own).filter(|_| own != 0) else { continue };
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // Where a user may not open it, it stays as the caller gave it.
        if let Ok(node) = fcntl::open(&by_number(node), flags, stat::Mode::empty()) {
            // SAFETY: as above.
            attempt("dup2", Errno::result(unsafe { dup2(node.as_raw_fd(), fd) }))?;
        }
    }
    Ok(())
}

/// The root is an overlay of what the container changes (upper) over ROOTFS, which is ".": so its
/// name may hold commas and colons. The upper one is on a tmpfs, mounted over our copy of the
/// host's /dev, which is not needed any more. It ends with the container's last process, whatever
/// ended that.
fn mount_root(c: &Container) -> Result<()> {
    step!(unistd::chdir(&c.rootfs), "cd {}", c.rootfs.display())?;
    let mount_new = |fstype: &str, target: &str, options: &str| {
        let call = || mount(Some(fstype), target, Some(fstype), MsFlags::MS_NODEV, Some(options));
        step!(call(), "mount -t {fstype} -o nodev,{options} {fstype} {target}")
    };
    mount_new("tmpfs", "/dev", &format!("mode=755,size={}", memory_limit(c).unwrap_or("50%")))?;
    for dir in ["/dev/upper", "/dev/work", "/dev/root"] {
        step!(fs::create_dir(dir), "mkdir {dir}")?;
    }
    if c.writable {
        return place(&clone_tree(AT_FDCWD, ".", MsFlags::MS_NODEV)?, "/dev/root");
    }
    let user = if *ROOTLESS { ",userxattr" } else { "" };
    let layers = format!("lowerdir=.,upperdir=/dev/upper,workdir=/dev/work{user}");
    mount_new("overlay", "/dev/root", &layers)
}

/// A new file system by the options of fstab(5), fsopen(2), fsconfig(2), fsmount(2). Four of these
/// are bits for the mount, from MS_RDONLY, 1, to MS_NOEXEC, 8; the others are the file system's.
fn new_tree(fstype: &str, options: &str) -> Result<OwnedFd> {
    let flag = |word: &str| ["ro", "nosuid", "nodev", "noexec"].iter().position(|it| *it == word);
    let flags: c_int = options.split(',').filter_map(flag).map(|bit| 1 << bit).sum();
    let pairs = options.split(',').filter_map(|word| word.split_once('='));
    // SAFETY: all the strings outlive the call that they are for.
    let make = || unsafe {
        let tree = new_fd(syscall(SYS_fsopen, c_string(fstype).as_ptr(), FSOPEN_CLOEXEC))?;
        let fs = tree.as_raw_fd();
        for (key, value) in pairs.chain([("source", fstype)]) {
            let (key, value) = (c_string(key), c_string(value));
            let set =
                syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0);
            Errno::result(set)?;
        }
        let none = ptr::null::<c_char>();
        Errno::result(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, none, none, 0))?;
        new_fd(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, flags))
    };
    step!(make(), "mount -t {fstype} -o {options} {fstype} (detached)")
}

/// What a system call has returned: an error, or a descriptor that is nobody else's yet.
fn new_fd(returned: c_long) -> Result<OwnedFd, Errno> {
    // SAFETY: see above.
    Errno::result(returned).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// A bind mount, open_tree(2), with its flags, mount_setattr(2).
fn clone_tree(dir: c_int, path: impl AsRef<Path>, flags: MsFlags) -> Result<OwnedFd> {
    let (path, empty) = (path.as_ref(), c"".as_ptr());
    let all = if flags.contains(MsFlags::MS_REC) { AT_RECURSIVE as u32 } else { 0 };
    let (name, new) = (c_string(path), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | all);
    // struct mount_attr: what to set, what to clear (nothing), and more. The bits for ro, nosuid,
    // nodev and noexec are mount(2)'s.
    let attr = [flags.bits() & 0xf, 0, 0, 0];
    // SAFETY: names and `attr` outlive the calls.
    let clone = || unsafe {
        let tree = new_fd(syscall(SYS_open_tree, dir, name.as_ptr(), new))?;
        let (fd, how) = (tree.as_raw_fd(), AT_EMPTY_PATH as u32 | all);
        let size = mem::size_of_val(&attr);
        Errno::result(syscall(SYS_mount_setattr, fd, empty, how, &attr, size)).map(|_| tree)
    };
    step!(clone(), "mount --bind {} (detached)", path.display())
}

/// Attaches it at its target, which is made if it is missing, move_mount(2).
fn place(tree: &OwnedFd, target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    let (name, empty) = (c_string(target), c"".as_ptr());
    let (fd, how) = (tree.as_raw_fd(), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
    // SAFETY: both names are C strings that outlive the call.
    let call = || unsafe { syscall(SYS_move_mount, fd, empty, AT_FDCWD, name.as_ptr(), how) };
    let move_mount = || match Errno::result(call()) {
        Err(Errno::ENOENT) => {
            make_target(target, is_dir(tree))?;
            Ok::<_, io::Error>(Errno::result(call())?)
        }
        moved => Ok(moved?),
    };
    step!(move_mount(), "mount --move (it) {}", target.display()).map(drop)
}

/// The way to an open file, proc_pid_fd(5).
fn by_number(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn is_dir(tree: &OwnedFd) -> bool {
    stat::fstat(tree).is_ok_and(|meta| meta.st_mode & S_IFMT == S_IFDIR)
}

/// As `mkdir -p` or `touch`; also where a symlink points to what is missing.
fn make_target(path: &Path, is_dir: bool) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    if path.try_exists()? {
        return Ok(()); // and not a link to itself
    }
    if let Ok(link) = fs::read_link(path) {
        return make_target(&parent.join(link), is_dir);
    }
    fs::create_dir_all(if is_dir { path } else { parent })?;
    let touch = || File::options().append(true).create(true).custom_flags(O_NONBLOCK).open(path);
    if is_dir { Ok(()) } else { touch().map(drop) }
}

/// The host's resolv.conf(5). A server on the host's loopback, such as systemd-resolved, can't be
/// reached from another network; those that systemd-resolved asks can.
fn name_servers(is_shared: bool) -> String {
    let is_reachable = |line: &&str| {
        let mut words = line.split_whitespace().skip_while(|word| *word == "nameserver");
        is_shared || !words.next().is_some_and(|ip| ip.starts_with("127.") || ip == "::1")
    };
    let texts = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"].map(|file| {
        let text = read(file).unwrap_or_default();
        text.lines().filter(is_reachable).map(|line| format!("{line}\n")).collect::<String>()
    });
    texts.into_iter().find(|text| text.contains("nameserver")).unwrap_or_default()
}

// ---- 6. network, the container's side -----------------------------------------------------------

/// An interface is configured from inside its namespace, which the parent has entered: it has time
/// for that, while the child builds the root file system.
fn network_inside(ip: Ipv4Addr) -> Result<Ipv4Addr> {
    say("6. network, the container's side");
    let socket = netlink_socket()?;
    set_up(&socket, "lo")?; // the kernel gives it 127.0.0.1
    if ip != NOWHERE {
        set_address_and_up(&socket, "eth0", ip)?;
        // struct rtmsg: family, lengths and service (to anywhere), table, protocol, scope, type,
        // flags.
        let (family, table) = (AF_INET as u8, RT_TABLE_MAIN);
        let fixed = [family, 0, 0, 0, table, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST];
        let gateway = attribute(RTA_GATEWAY, &GATEWAY.octets());
        let route = [&fixed[..], &[0; 4], &gateway].concat();
        step!(netlink(&socket, RTM_NEWROUTE, &route), "ip route add default via {GATEWAY}")?;
    }
    Ok(ip)
}

/// The child's way in, when the parent has told it that it may. (A user's child is in there from
/// the clone on, and nobody else may enter.)
fn join_network(c: &Container, mut parent: &UnixStream, husk_pidfd: &OwnedFd) -> Result<()> {
    if c.namespaces & CLONE_NEWNET == 0 {
        return Ok(());
    }
    if *ROOTLESS {
        return network_inside(NOWHERE).map(drop);
    }
    attempt("the parent is gone", parent.read_exact(&mut [0]))?;
    step!(setns(husk_pidfd, CloneFlags::CLONE_NEWNET), "nsenter --target (the parent) --net")
}

fn name_address(c: &Container, ip: Ipv4Addr, mut hosts: File) -> Result<()> {
    if ip == NOWHERE {
        return Ok(());
    }
    step!(writeln!(hosts, "{ip}\t{}", c.hostname), "echo {ip} {} >> /etc/hosts", c.hostname)
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
    let number = CAPABILITIES.split(' ').position(|known| known == name);
    number.map(|number| 1 << number).or((name == "ALL").then_some(ALL))
}

/// Capabilities, and system calls that answer EPERM to who has none of these. Many were a way
/// out once, or change what all containers share.
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
    ("BPF SYS_ADMIN", &[SYS_bpf]),                 // programs in the kernel (CVE-2021-3490)
    ("PERFMON SYS_ADMIN", &[SYS_perf_event_open]), // watches the host; many bugs (CVE-2023-6931)
    ("SYS_TIME", &[SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime]), // everybody's clock
    ("SYSLOG SYS_ADMIN", &[SYS_syslog]),           // the host's log, with kernel addresses
    ("SYS_TTY_CONFIG", &[SYS_vhangup]),            // the caller's terminal
    ("SYS_PACCT", &[SYS_acct]),                    // a log of everybody's processes
    ("SYS_PTRACE", &[SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_kcmp]),
    ("SYS_NICE", &[SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy]), // takes others' memory
    ("SYS_NICE", &[SYS_move_pages, SYS_migrate_pages, SYS_set_mempolicy_home_node]),
    ("", &[SYS_keyctl, SYS_add_key, SYS_request_key]), // the host's root's (CVE-2016-0728)
    ("", &[SYS_userfaultfd]), // stops the kernel at will: a help for most exploits of races
    // A second way into the kernel, past this filter, with many bugs (CVE-2022-29582).
    ("", &[SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register]),
    #[cfg(target_arch = "x86_64")]
    ("SYS_RAWIO", &[SYS_iopl, SYS_ioperm]), // the hardware itself
    #[cfg(target_arch = "x86_64")]
    ("", &[SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl]), // only attackers still use them
];

const ALL_NAMESPACES: c_int = NAMESPACES | CLONE_NEWCGROUP | CLONE_NEWUSER;

/// The same for one argument: capabilities, the call, which argument, how compared, with what.
const DENIED_ARGUMENTS: [(&str, c_long, u32, u32, u32); 5] = [
    ("SYS_ADMIN", SYS_clone, 0, BPF_JSET, ALL_NAMESPACES as u32), // as unshare
    ("LEASE", SYS_fcntl, 1, BPF_JEQ, F_SETLEASE as u32), // who opens that file next waits for 45 s
    ("", SYS_ioctl, 1, BPF_JEQ, TIOCSTI as u32), // types into the caller's terminal (CVE-2017-5226)
    ("", SYS_ioctl, 1, BPF_JEQ, TIOCLINUX as u32), // the same on a console (CVE-2023-28100)
    ("", SYS_socket, 0, BPF_JEQ, AF_VSOCK as u32), // past the network namespace, to the hypervisor
];

const AUDIT_ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
const ALLOW: sock_filter = bpf(BPF_RET, SECCOMP_RET_ALLOW, 0, 0);
const REFUSE: sock_filter = bpf(BPF_RET, SECCOMP_RET_ERRNO | EPERM as u32, 0, 0);
const UNKNOWN: sock_filter = bpf(BPF_RET, SECCOMP_RET_ERRNO | ENOSYS as u32, 0, 0);

/// An instruction. A jump compares what was loaded with `k`, and skips `yes` lines or `no` lines.
const fn bpf(code: u32, k: u32, yes: usize, no: usize) -> sock_filter {
    sock_filter { code: code as u16, jt: yes as u8, jf: no as u8, k }
}

/// A program for the kernel's BPF machine, seccomp(2). It sees a seccomp_data: the call's number at
/// 0, the ABI at 4, and from 16 the arguments, of which only the low halves count here.
fn seccomp_filter(capabilities: u64) -> Vec<sock_filter> {
    let load = |offset| bpf(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
    let equal = |k, yes, no| bpf(BPF_JMP | BPF_JEQ, k, yes, no);
    // The empty name is no capability's, so everybody lacks it.
    let lacks_one = |name: &str| capability(name).is_none_or(|bit| capabilities & bit == 0);
    let lacks = |names: &str| names.split(' ').all(lacks_one);
    // Another ABI numbers its calls differently (int 0x80).
    let mut filter = vec![load(4), equal(AUDIT_ARCH, 1, 0), REFUSE, load(0)];
    // Above mseal are only calls newer than this table, and x32's. "Unknown" makes programs do
    // without them, as on an older kernel; EPERM would be taken for an answer.
    filter.extend([bpf(BPF_JMP | BPF_JGT, SYS_mseal as u32, 0, 1), UNKNOWN]);
    let arguments = DENIED_ARGUMENTS.into_iter().filter(|(names, ..)| lacks(names));
    for (_, call, argument, how, value) in arguments {
        // If it is another call, past the next four; else at the end its number again.
        filter.extend([equal(call as u32, 0, 4), load(16 + 8 * argument)]);
        filter.extend([bpf(BPF_JMP | how, value, 0, 1), REFUSE, load(0)]);
    }
    if lacks("SYS_ADMIN") {
        // Its flags are in memory, out of the filter's sight. libc falls back to clone.
        filter.extend([equal(SYS_clone3 as u32, 0, 1), UNKNOWN]);
    }
    for (_, calls) in DENIED.iter().filter(|(names, _)| lacks(names)) {
        filter.extend(calls.iter().flat_map(|call| [equal(*call as u32, 0, 1), REFUSE]));
    }
    // A long way for every other call, but the kernel remembers which ones always get this far.
    filter.push(ALLOW);
    filter
}

/// Now the process becomes as weak as its command may be. The order is not free: the bounding set
/// and the ids need capabilities, the filter needs no_new_privs.
fn lock_down(c: &Container, parent: &UnixStream) -> Result<()> {
    say("7. lock-down");
    // What is dropped from the bounding set no program gets back. What husk lacks, it can't give.
    say_step(format_args!("setpriv --bounding-set (of 0x{:x})", c.capabilities));
    let mut kept = 0;
    for number in 0..63 {
        let is_kept = c.capabilities >> number & 1 == 1;
        let action = if is_kept { PR_CAPBSET_READ } else { PR_CAPBSET_DROP };
        // SAFETY: prctl(2) takes numbers here, and changes nothing in memory. Of the two actions
        // the first answers with the bit, the other with 0.
        match Errno::result(unsafe { libc::prctl(action, number, 0, 0, 0) }) {
            Err(Errno::EINVAL) => break, // past the last that this kernel knows
            bit => kept |= (attempt("setpriv --bounding-set", bit)? as u64) << number,
        }
    }
    let (uid, gid) = c.user.unwrap_or_default();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if !*ROOTLESS {
        step!(unistd::setgroups(&[]), "setpriv --clear-groups")?;
    }
    step!(unistd::setresgid(gid, gid, gid), "setpriv --regid {gid}")?;
    step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid {uid}")?;
    let effective = if uid.is_root() { kept } else { 0 };
    let (low, high) = (effective as u32, (effective >> 32) as u32);
    // Version 3, this thread; then effective, permitted and inheritable (with it ambient: empty).
    let (header, sets) = ([0x2008_0522_u32, 0], [low, low, 0, high, high, 0]);
    // SAFETY: both arrays are laid out as capset(2) says for version 3, and outlive the call.
    let capset = || Errno::result(unsafe { syscall(SYS_capset, &header, &sets) });
    step!(capset(), "capset 0x{effective:x}")?;
    step!(prctl::set_no_new_privs(), "setpriv --no-new-privs")?;
    if !c.detach {
        // So late because a change of ids may clear it. If the parent died before this line no
        // signal comes; but then its end of the socket is closed, and no EAGAIN.
        step!(prctl::set_pdeathsig(Signal::SIGKILL), "setpriv --pdeathsig KILL")?;
        let word = socket::recv(parent.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT);
        word.err().filter(|e| *e == Errno::EAGAIN).ok_or_else(|| error("the parent is gone"))?;
    }
    let filter = seccomp_filter(kept);
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions of the filter, which outlives the call.
    let seccomp = || unsafe { syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) };
    step!(Errno::result(seccomp()), "seccomp: {} instructions", filter.len()).map(|_| ())
}

// ---- 8. exec, wait, exit status, clean-up -------------------------------------------------------

/// The child's last line: the command takes its place, with nothing of husk's but 0, 1 and 2.
fn execute(c: &Container, parent: &UnixStream) -> Result<Infallible> {
    say("8. exec, wait, exit status, clean-up");
    close_others(3, &[parent.as_raw_fd()]); // which exec closes, and which leads nowhere
    step!(open_workdir(&c.workdir).and_then(unistd::fchdir), "cd {}", c.workdir.display())?;
    // Else `kill 0` in here would reach husk's caller. Who was given the terminal leads a group of
    // its own already, and stays in the session: EPERM.
    let _ = step!(unistd::setsid(), "setsid");
    if c.detach {
        if io::stderr().is_terminal() {
            // Else it could read what is typed for others when husk has ended. 0 is /dev/null.
            step!(unistd::dup2_stderr(io::stdin()), "exec 2>&0")?;
        }
        step!(unistd::dup2_stdout(io::stderr()), "exec >&2")?;
    }
    let _ = SigSet::empty().thread_set_mask();
    let name = c.command[0].to_bytes();
    let path = c.env.iter().find_map(|pair| pair.to_bytes().strip_prefix(b"PATH="));
    let dirs = if name.contains(&b'/') { b"" } else { path.unwrap_or_default() };
    let shown = c.command[0].to_string_lossy();
    say_step(format_args!("exec {shown}"));
    let mut failure = Error(127, format!("{shown}: not found"));
    for dir in dirs.split(|byte| *byte == b':').filter(|_| !name.is_empty()) {
        let file = Path::new(OsStr::from_bytes(dir)).join(OsStr::from_bytes(name));
        let Err(errno) = unistd::execve(&c_string(&file), &c.command, &c.env);
        if errno == Errno::ENOENT && file.exists() {
            failure = Error(126, format!("{shown}: its interpreter is missing"));
        } else if errno != Errno::ENOENT && errno != Errno::ENOTDIR {
            failure = Error(126, format!("{shown}: {errno}"));
        }
    }
    Err(failure)
}

/// A link in /proc could lead the working directory out (CVE-2024-21626).
fn open_workdir(path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
    fcntl::openat2(fcntl::AT_FDCWD, path, how.resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS))
}

/// Not only by exec, for the command's own path may lead through /proc/self/fd to what is open then
/// (CVE-2024-21626). `kept` is in ascending order.
fn close_others(from: c_int, kept: &[c_int]) {
    let mut first = from;
    for next in kept.iter().filter(|kept| **kept >= from).chain([&c_int::MAX]) {
        // SAFETY: integers only, and of these files none is used any more.
        unsafe { syscall(SYS_close_range, first, next - 1, 0) };
        first = next.saturating_add(1);
    }
}

/// Until its execve(2) the child is husk, with the host's files open. So only now `husk exec` may
/// enter, which waits for this lock, and a detached container may go on without a husk.
fn open_to_others(c: &Container, pid: Pid, cgroup: Option<&Cgroup>) -> Result<()> {
    if is_husk_itself(pid) {
        return Err(Error(126, format!("{}: is husk itself", c.command[0].to_string_lossy())));
    }
    let Some(cgroup) = cgroup else { return Ok(()) };
    let _ = set_lock(&cgroup.lock, F_RDLCK, &cgroup.dir);
    let mark = fs::Permissions::from_mode(DETACHED);
    let set =
        || step!(fs::set_permissions(&cgroup.dir, mark), "chmod 1755 {}", cgroup.dir.display());
    if c.detach { set() } else { Ok(()) }
}

/// A command such as /proc/self/exe leads to the host's husk, which the container could overwrite
/// later (CVE-2019-5736). So far only husk's own code has run in there.
fn is_husk_itself(pid: Pid) -> bool {
    let program = |pid: &str| {
        let exe = File::options().read(true).custom_flags(O_PATH).open(format!("/proc/{pid}/exe"));
        let info = format!("/proc/self/fdinfo/{}", exe.as_ref().ok()?.as_raw_fd());
        let info = fs::read_to_string(info).ok()?;
        // Also its mount: by a volume it is the same file, but that is what the caller wants.
        Some(["mnt_id", "ino"].map(|key| field(&info, key).concat()))
    };
    // None: it has ended, or we may not look at it, and then nobody in there may.
    program(&pid.to_string()).is_some_and(|its| Some(its) == program("self"))
}

/// What husk passes on.
const FORWARDED: [c_int; 7] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// What `wait` handles; SIGTTOU is blocked so that husk can take the terminal back.
fn handled_signals() -> SigSet {
    let numbers = FORWARDED.into_iter().chain([SIGCHLD, SIGTTOU]);
    numbers.filter_map(|number| Signal::try_from(number).ok()).collect()
}

/// Waits for the child, and passes signals on to it. As in a shell, 128+N is an end by signal N.
fn wait(pid: Pid, terminal: &Option<Termios>) -> Result<u8> {
    let signals = attempt("signalfd", SignalFd::new(&handled_signals()))?;
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes one integer. (nix's knows no real-time signals.)
        let changed = unsafe { libc::waitpid(pid.as_raw(), &mut status, WNOHANG | WUNTRACED) };
        let status = ExitStatus::from_raw(status);
        let code = status.code().or(status.signal().map(|number| 128 + number));
        if let (1.., Some(code)) = (changed, code) {
            return Ok(code as u8);
        } else if let (1.., Some(saved)) = (changed, terminal) {
            // ^Z has stopped the job (of exec: PID 1 drops it). husk stops too, until fg.
            take_back_terminal(saved);
            let _ = signal::raise(Signal::SIGSTOP);
            hand_over_terminal(pid);
            let _ = signal::killpg(pid, Signal::SIGCONT);
        }
        let Some(info) = attempt("read signalfd", signals.read_signal())? else { continue };
        let number = info.ssi_signo as c_int;
        if FORWARDED.contains(&number) {
            // What is typed at the terminal (SI_KERNEL) is for a whole group: ^C in a pipeline.
            let sign = if info.ssi_code == SI_KERNEL { -1 } else { 1 };
            let _ = signal::kill(Pid::from_raw(sign * pid.as_raw()), Signal::try_from(number).ok());
        }
    }
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
    let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, saved);
}

/// The caller's terminal, if one of 0, 1 and 2 is one.
fn terminal() -> Option<PathBuf> {
    let names = [ttyname(io::stdin()), ttyname(io::stdout()), ttyname(io::stderr())];
    names.into_iter().flatten().next()
}

/// All else that a container was is gone with its last process: what is left is its cgroup.
fn clean_up(c: &Container, cgroup: Option<Cgroup>, mut outcome: Result<u8>) -> Result<u8> {
    if c.detach {
        outcome = outcome.and_then(|_| print(&format!("{}\n", c.name)));
    }
    if outcome.is_err() {
        NARRATOR.set(""); // the step that failed has the last word
    } else if c.detach {
        return outcome;
    }
    if let Some(cgroup) = cgroup {
        let _ = set_lock(&cgroup.lock, F_WRLCK, &cgroup.dir); // so that nobody enters any more
        remove_cgroup(&cgroup.dir);
    }
    outcome
}

// ---- 9. coming back: exec, ps, stop -------------------------------------------------------------

/// A container's PID 1: its number, its pidfd, and its /proc/PID/status. It is one level of
/// namespaces below us; deeper ones are of the container's making. The pidfd comes first: if the
/// number goes to another process after that, the pidfd is of no use any more.
fn first_process(dir: &Path) -> Option<(i32, OwnedFd, String)> {
    let depth = field(&read("/proc/self/status").ok()?, "NSpid").len() + 1;
    pids(dir).into_iter().find_map(|pid| {
        let pidfd = pidfd_open(pid).ok()?;
        let status = read(format!("/proc/{pid}/status")).ok()?;
        let ids = field(&status, "NSpid");
        let is_first = ids.len() == depth && ids.ends_with(&["1"]);
        (is_first && pids(dir).contains(&pid)).then_some((pid, pidfd, status))
    })
}

/// The processes of a cgroup, less those that can't be seen from here: these are listed as 0.
fn pids(dir: &Path) -> Vec<i32> {
    let text = read(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only.
    new_fd(unsafe { syscall(SYS_pidfd_open, pid, 0) })
}

fn send_signal(pidfd: &OwnedFd, number: c_int) -> Result<c_long, Errno> {
    let (fd, none) = (pidfd.as_raw_fd(), ptr::null::<siginfo_t>());
    // SAFETY: without a siginfo the kernel fills in what kill(2) would.
    Errno::result(unsafe { syscall(SYS_pidfd_send_signal, fd, number, none, 0) })
}

/// The words of a line of /proc/PID/status, proc_pid_status(5), or of /proc/PID/fdinfo/FD.
fn field<'a>(status: &'a str, key: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().collect()
}

/// The container of that name, or the only one whose name begins like that.
fn find_container(living: &[PathBuf], wanted: &CString) -> Result<PathBuf> {
    let wanted = wanted.to_string_lossy();
    let name = |dir: &PathBuf| dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut similar = living.iter().filter(|dir| name(dir).starts_with(&*wanted));
    match (living.iter().find(|dir| name(dir) == wanted), similar.next(), similar.next()) {
        (Some(dir), ..) | (None, Some(dir), None) if !wanted.is_empty() => Ok(dir.clone()),
        (None, Some(_), Some(_)) => {
            Err(error(format!("{wanted}: several containers begin like that")))
        }
        _ => Err(error(format!("{wanted}: no such container"))),
    }
}

/// Starts husk again from a copy of itself that nobody can write to: where `is_husk_itself` would
/// look too late, as in exec, or does not see all (CVE-2019-5736).
fn shield() -> Result<()> {
    let exe = attempt("open /proc/self/exe", File::open("/proc/self/exe"))?;
    let seals = fcntl::fcntl(&exe, FcntlArg::F_GET_SEALS).unwrap_or_default();
    let mount = attempt("statvfs /proc/self/exe", statvfs::fstatvfs(&exe))?;
    if seals & F_SEAL_WRITE != 0 || mount.flags().contains(statvfs::FsFlags::ST_RDONLY) {
        // exec has named the process after a file called "4" or so, in /proc/self/fd.
        return attempt("prctl PR_SET_NAME", prctl::set_name(c"husk"));
    }
    let sealed_copy = || {
        let mut copy = File::from(memfd_create("husk", MFdFlags::MFD_ALLOW_SEALING)?);
        io::copy(&mut &exe, &mut copy)?;
        fcntl::fcntl(&copy, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
        Ok::<_, io::Error>(copy.into())
    };
    // An ordinary user may not clone a mount.
    let copy = clone_tree(AT_FDCWD, "/proc/self/exe", MsFlags::MS_RDONLY)
        .or_else(|_| step!(sealed_copy(), "cp husk (a sealed memfd)"))?;
    let mut husk = Command::new(by_number(&copy));
    let own_name = env::args_os().next().unwrap_or_default();
    step!(Err(husk.arg0(own_name).args(env::args_os().skip(1)).exec()), "exec husk")
}

/// `husk exec`: the same steps, but the namespaces are there already, setns(2).
fn exec_command(mut c: Container) -> Result<u8> {
    if c.command.len() < 2 {
        return Err(error("exec: expected a CONTAINER and a COMMAND"));
    }
    shield()?;
    let dir = find_container(&living()?, &c.command.remove(0))?;
    let gone = || error(format!("{}: not running", dir.display()));
    let lock = open_locks()?;
    while set_lock(&lock, F_RDLCK, &dir).is_err() {
        thread::sleep(Duration::from_millis(1)); // until PID 1 is the command
    }
    let (pid, pidfd, status) = first_process(&dir).ok_or_else(gone)?;
    let container = File::open(&dir).map_err(|_| gone())?;
    let name = format!("{:08x}.{EXEC}", random());
    let cgroup = make_cgroup(dir.join(&name))?;
    drop(lock);
    c.capabilities = u64::from_str_radix(&field(&status, "CapBnd").concat(), 16).unwrap_or(0);
    let id = |key| field(&status, key).get(1)?.parse().ok();
    c.user = c.user.or(id("Uid").zip(id("Gid")).filter(|_| !*ROOTLESS)); // a user has one id only
    add_env(&mut c, &read_bytes(format!("/proc/{pid}/environ")).map_err(|_| gone())?);
    let mut namespaces = CloneFlags::from_bits_retain(NAMESPACES);
    let link = |pid: &str, name| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
    let is_other = |name| link("self", name) != link(&pid.to_string(), name);
    namespaces.set(CloneFlags::CLONE_NEWUSER, is_other("user")); // to enter our own is EINVAL
    namespaces.set(CloneFlags::CLONE_NEWNET, is_other("net")); // the host's is EPERM for a user
    c.namespaces = 0; // to make
    // A user may bind none of these, and can change none but his own terminal.
    let nodes = if *ROOTLESS { vec![] } else { device_nodes(&c)? };
    replace_stdio(&nodes)?;
    let _ = echo("0", "/proc/self/oom_score_adj"); // see `enter_namespaces`
    // Until it is the command, nobody in there may trace it, or see its files (CVE-2016-9962).
    step!(prctl::set_dumpable(false), "prctl PR_SET_DUMPABLE 0")?;
    step!(setns(&pidfd, namespaces), "nsenter --target {pid} {namespaces:?}")?;
    let child = spawn(c.namespaces, Some(&cgroup), |parent| {
        // In there, husk's own cgroup can't be seen.
        step!(setns(&pidfd, CloneFlags::CLONE_NEWCGROUP), "nsenter --target {pid} --cgroup")?;
        wait_for_parent(parent)?;
        lock_down(&c, parent)?;
        execute(&c, parent)
    });
    let outcome = child.and_then(|child| supervise(&c, &child, Ok((NOWHERE, None)), None));
    // By descriptors: from in here the host's paths lead nowhere. What the command has left running
    // in the background goes on.
    if unistd::unlinkat(&container, name.as_str(), UnlinkatFlags::RemoveDir).is_err() {
        let _ = cgroup.fd.set_permissions(fs::Permissions::from_mode(DETACHED));
    }
    outcome
}

/// `husk ps`: the youngest first.
fn ps_command(c: Container) -> Result<u8> {
    if !c.command.is_empty() {
        return Err(error("ps takes no arguments"));
    }
    let titles = "PID      ADDRESS        MEMORY     AGE   COMMAND";
    let mut rows: Vec<_> = living()?.iter().filter_map(|dir| row(dir)).collect();
    rows.push((u64::MAX, "CONTAINER".into(), titles.into()));
    rows.sort();
    let width = rows.iter().map(|(_, name, _)| name.len()).max().unwrap_or_default();
    let line = |(_, name, rest)| format!("{name:width$}  {rest}\n");
    print(&rows.into_iter().rev().map(line).collect::<String>())
}

/// When it started, its name, and the rest of its line in `husk ps`.
fn row(dir: &Path) -> Option<(u64, String, String)> {
    let (pid, ..) = first_process(dir)?;
    let file = |name| read(format!("/proc/{pid}/{name}")).ok();
    // proc_pid_stat(5): field 22 is the start, in ticks since boot. Field 2, in parentheses, is a
    // name and may hold anything.
    let start: u64 = file("stat")?.rsplit_once(')')?.1.split(' ').nth(20)?.parse().ok()?;
    let uptime: u64 = read("/proc/uptime").ok()?.split('.').next()?.parse().ok()?;
    let age = uptime.saturating_sub(start / 100);
    let units = [(86400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let (unit, letter) = units.into_iter().find(|(unit, _)| age >= 2 * unit).unwrap_or((1, 's'));
    let age = format!("{}{letter}", age / unit);
    let memory = read(dir.join("memory.current")).ok().and_then(|bytes| bytes.trim().parse().ok());
    let memory = memory.map_or("-".into(), |bytes: f64| format!("{:.1}M", bytes / 1048576.0));
    // Each of the namespace's own addresses stands before "/32 host LOCAL".
    let routes = file("net/fib_trie").unwrap_or_default();
    let mut ips = routes.split("/32 host LOCAL").filter_map(|text| text.split_whitespace().last());
    let ip = ips.find(|ip| ip.starts_with("10.77.") && *ip != "10.77.0.1").unwrap_or("-");
    let command: String = file("cmdline")?.replace('\0', " ").chars().take(40).collect();
    let command = command.replace(char::is_control, "?");
    let rest = format!("{pid:<7}  {ip:13}  {memory:9}  {age:4}  {}", command.trim_end());
    Some((start, dir.file_name()?.to_string_lossy().into(), rest))
}

/// `husk stop`: SIGTERM to all of them; then wait for each, and kill what is left.
fn stop_command(c: Container) -> Result<u8> {
    if c.command.is_empty() {
        return Err(error("stop: expected a CONTAINER"));
    }
    let (mut found, mut missing) = (vec![], vec![]);
    let living = living()?;
    for name in &c.command {
        let open = |dir: PathBuf| Ok((attempt(dir.display(), File::open(&dir))?, dir));
        match find_container(&living, name).and_then(open) {
            Ok((fd, dir)) => {
                // By its descriptor: the name may be another's soon.
                let own = by_number(&fd);
                if let Some((_, pidfd, _)) = first_process(&own) {
                    let _ = send_signal(&pidfd, SIGTERM);
                }
                found.push((dir, own, fd));
            }
            Err(Error(_, why)) => missing.push(why),
        }
    }
    let deadline = Instant::now() + Duration::from_secs(c.time.into());
    for (dir, own, _fd) in found {
        wait_while(deadline, || is_populated(&own));
        kill_rest(&own);
        // A foreground container is removed by its own husk, which has the lock: wait for that. A
        // detached one is removed here.
        let is_there = || own.join("cgroup.procs").exists();
        let is_kept = || open_locks().is_ok_and(|locks| remove_unless_alive(&locks, &dir));
        let patience = Instant::now() + Duration::from_secs(2);
        wait_while(patience, || is_there() && is_kept());
    }
    if missing.is_empty() { Ok(0) } else { Err(error(missing.join("; "))) }
}

// The appendix, see the README.
#[cfg(feature = "oci")]
mod oci;
