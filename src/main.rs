//! husk: a container runtime to read. A container is a process in a thin shell of kernel settings;
//! this file is that shell, in the order in which `husk run` puts it on. `run`, below, is the table
//! of contents; README.md has a chapter for each numbered section.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fmt::{Arguments, Display};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, exit};
use std::time::{Duration, Instant};
use std::{env, mem, ptr, thread};

use libc::*;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, FcntlArg, OFlag, OpenHow, ResolveFlag, SealFlag};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal, kill, killpg, raise};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, umask};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::sys::{memfd, prctl, signalfd::SignalFd, statvfs};
use nix::unistd::{self, Gid, Pid, Uid};

/// What to run, and in what.
struct Container {
    name: String,
    hostname: String,
    rootfs: PathBuf,
    writable: bool,
    read_only: bool,
    mounts: Vec<Mount>,
    memory: Option<u64>,
    limits: Vec<(String, String)>, // a file of the cgroup and what to write to it
    namespaces: CloneFlags,
    bridge: bool,
    capabilities: u64,
    user: (u32, u32),
    env: Vec<CString>,
    workdir: PathBuf,
    command: Vec<CString>,
    detach: bool,
}

impl Container {
    fn new() -> Container {
        Container {
            name: String::new(),
            hostname: String::new(),
            rootfs: "/".into(),
            writable: false,
            read_only: false,
            mounts: vec![],
            memory: None,
            limits: vec![],
            namespaces: NAMESPACES,
            bridge: false,
            capabilities: 0,
            user: (0, 0),
            env: vec![],
            workdir: "/".into(),
            command: vec![],
            detach: false,
        }
    }
}

/// The table of contents. The closure runs in the child, which becomes the container; all else runs
/// in husk itself, section 3 while the child is busy with sections 4 and 5.
fn run(c: &Container) -> Result<u8> {
    let cgroup = create_cgroup(c)?; // 1
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let child = spawn(c.namespaces, cgroup.as_ref().map(|g| &g.lock), |parent| {
        enter_namespaces(c, uid, gid)?; // 2
        set_hostname(c)?; // 4
        let (workdir, hosts) = build_root(c)?; // 5
        let number = wait_for_parent(parent)?;
        network_inside(c, number, hosts)?; // 6
        lock_down(c, parent)?; // 7
        execute(c, &workdir) // 8
    });
    let outcome = child.and_then(|child| {
        supervise(child, c.detach, |pid| {
            let Some(cgroup) = &cgroup else { return Ok(0) };
            sweep(cgroup.husk());
            let number = if c.bridge { network_outside(pid, cgroup.husk())? } else { 0 }; // 3
            if c.detach {
                mark_detached(&cgroup.dir)?;
            }
            Ok(number)
        })
    });
    if let Some(cgroup) = cgroup.filter(|_| !c.detach || outcome.is_err()) {
        remove_cgroup(&cgroup.dir);
    }
    outcome
}

/// Why husk failed, and the exit status for it: docker's 125, 126 or 127.
struct Error(u8, String);

type Result<T, E = Error> = std::result::Result<T, E>;

fn error(message: impl Display) -> Error {
    Error(125, message.to_string())
}

// Who speaks under --explain: "parent" or "child". Without it the name is empty and nobody does.
thread_local!(static NARRATOR: Cell<&'static str> = const { Cell::new("") });

/// One write(2) per line, so that the lines of parent and child never mix.
fn narrate(line: Arguments) {
    if !NARRATOR.get().is_empty() {
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

fn section(title: &str) {
    narrate(format_args!("{title}"));
}

/// Every call that changes something goes through here, with the shell command that does the same
/// by hand: --explain prints it just before the call, and an error begins with it.
fn step<T, E: Into<io::Error>>(what: Arguments, call: impl FnOnce() -> Result<T, E>) -> Result<T> {
    narrate(format_args!("   {:6} {what}", NARRATOR.get()));
    tried(what, call())
}

fn tried<T, E: Into<io::Error>>(what: impl Display, result: Result<T, E>) -> Result<T> {
    result.map_err(|cause| {
        let cause = cause.into();
        let errno = cause.raw_os_error().map(Errno::from_raw);
        let reason = errno.map_or(cause.to_string(), |errno| format!("{errno}{}", hint(errno)));
        error(format!("{what}: {reason}"))
    })
}

/// What a user can do about an error whose name does not say it.
fn hint(errno: Errno) -> String {
    const SWITCHES: [(&str, &str); 3] = [
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
        ("kernel.unprivileged_userns_clone", "0"),
        ("user.max_user_namespaces", "0"),
    ];
    let file = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    let off = |(name, value): &&(&str, &str)| read(file(name)).is_ok_and(|s| s.trim() == *value);
    let text = match errno {
        Errno::EPERM | Errno::EACCES | Errno::ENOSPC if rootless() => match SWITCHES
            .iter()
            .find(off)
        {
            Some((name, value)) => &format!("user namespaces are off: sysctl {name} is {value}"),
            None => return String::new(),
        },
        Errno::EPERM => "not allowed: try sudo, or run rootless as an ordinary user",
        Errno::ENOSYS => "this kernel is too old: husk needs Linux 5.14",
        Errno::EAGAIN => "too many processes: see ulimit -u and pids.max",
        Errno::EXFULL => "the bridge is full: it takes 1,023 containers",
        _ => return String::new(),
    };
    format!(" ({text})")
}

/// The text of a file, of the kernel's as a rule. Paths in it may hold any bytes.
fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let bytes = tried(format_args!("cat {}", path.display()), fs::read(path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes to a file of the kernel's: without O_CREAT, so that a missing one is ENOENT.
fn echo(value: &str, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    step(format_args!("echo {value} > {}", path.display()), || {
        File::options().write(true).open(path)?.write_all(value.as_bytes())
    })
}

/// Is this process in a user namespace, or must the container be in one? Only the first user
/// namespace maps all ids, user_namespaces(7).
fn rootless() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !Uid::effective().is_root() || !map.trim_end().ends_with(" 4294967295")
}

/// The standard library's one source of randomness: the keys of its hash maps.
fn random() -> u32 {
    RandomState::new().hash_one(()) as u32
}

// ---- 0. the command line ------------------------------------------------------------------------

const HELP: &str = "\
husk run [OPTIONS] ROOTFS [COMMAND [ARG]...]   start a container; COMMAND is /bin/sh if not given
husk exec [-e K=V] [-w DIR] [-u UID[:GID]] CONTAINER COMMAND [ARG]...   join a running one
husk ps                                        list the running ones
husk stop [-t SECONDS] CONTAINER...            SIGTERM, and after 10 seconds SIGKILL

what      --name NAME, -h --hostname NAME, -e --env KEY=VALUE (or KEY: the caller's value)
          -w --workdir DIR, -u --user UID[:GID], -d --detach
files     -v --volume SRC:DST[:ro], --read-only, --writable (changes go to ROOTFS itself)
limits    -m --memory SIZE (64m), --cpus N (0.5), --pids-limit N, --cgroup FILE=VALUE
network   --network bridge|none|host
rights    --cap-add NAME|ALL, --cap-drop NAME|ALL
teaching  --explain (say each step as it happens)
          -i, -t and --rm are accepted: it is always so

Exit status: the command's; 128+N if signal N killed it; 125 husk failed; 126 the command
can't be run; 127 it was not found. As an ordinary user the same commands run rootless.
Example: sudo husk run -m 64m -v /srv/www:/www:ro rootfs httpd -f -h /www
";

fn main() -> ExitCode {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no code of ours. What husk's caller ignores, and SIGPIPE, which
        // Rust ignores, would else stay ignored in the container, signal(7).
        unsafe { libc::signal(signal, SIG_DFL) };
    }
    let mut words = Words { words: env::args_os().skip(1).collect(), ..Words::default() };
    let outcome = match words.words.pop_front().unwrap_or_default().to_str() {
        Some("run") => run_command(words),
        Some("exec") => exec_command(words),
        Some("ps") => ps_command(words),
        Some("stop") => stop_command(words),
        Some("help" | "--help" | "-h") => print(HELP),
        Some("--version") => print(concat!("husk ", env!("CARGO_PKG_VERSION"), "\n")),
        _ => Err(error("expected run, exec, ps or stop: see husk --help")),
    };
    ExitCode::from(outcome.unwrap_or_else(|Error(status, message)| {
        let _ = io::stderr().write_all(format!("husk: {}\n", one_line(&message)).as_bytes());
        status
    }))
}

/// Names and paths may hold line feeds and terminal escapes: shown, but harmless.
fn one_line(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}

fn print(text: &str) -> Result<u8> {
    tried("write to standard output", io::stdout().write_all(text.as_bytes())).map(|()| 0)
}

/// A command line. `-it` is `-i -t`, `-m64m` is `-m 64m`, `--opt=value` is `--opt value`.
#[derive(Default)]
struct Words {
    words: VecDeque<OsString>,
    option: String,
    attached: Vec<u8>,
}

impl Words {
    /// The next option; None at the first operand, where options end.
    fn option(&mut self) -> Result<Option<String>> {
        match mem::take(&mut self.attached) {
            rest if rest.is_empty() => {}
            rest if rest[0] == b'=' => {
                return Err(error(format!("{} takes no value", self.option)));
            }
            rest => self.words.push_front(OsString::from_vec([b"-", &rest[..]].concat())),
        }
        let is_option = |word: &mut OsString| word.len() > 1 && word.as_bytes()[0] == b'-';
        let Some(word) = self.words.pop_front_if(is_option).filter(|word| word != "--") else {
            return Ok(None);
        };
        let mut name = word.into_vec();
        let equals = name.iter().position(|byte| *byte == b'=').unwrap_or(name.len());
        self.attached = name.split_off(if name.starts_with(b"--") { equals } else { 2 });
        self.option = String::from_utf8_lossy(&name).into_owned();
        Ok(Some(self.option.clone()))
    }

    /// The value of the option just read, through `parse`.
    fn value<T>(&mut self, expected: &str, parse: impl FnOnce(&OsStr) -> Option<T>) -> Result<T> {
        let attached = mem::take(&mut self.attached);
        let value = match attached.strip_prefix(b"=").unwrap_or(&attached) {
            b"" if attached.is_empty() => {
                self.operand(&format!("{} needs {expected}", self.option))?
            }
            bytes => OsStr::from_bytes(bytes).to_owned(),
        };
        let bad = || error(format!("{} {}: expected {expected}", self.option, value.display()));
        parse(&value).ok_or_else(bad)
    }

    fn operand(&mut self, missing: &str) -> Result<OsString> {
        self.words.pop_front().ok_or_else(|| error(missing))
    }

    /// What is left: a command and its arguments, which go through as the bytes that they are.
    fn command(&mut self) -> Vec<CString> {
        self.words.drain(..).map(|word| c_string(&word)).collect()
    }
}

/// Arguments and environment came as C strings, so there is no NUL in them.
fn c_string(text: impl AsRef<OsStr>) -> CString {
    CString::new(text.as_ref().as_bytes()).unwrap_or_default()
}

const ENV: &str = "KEY=VALUE, or KEY to take the caller's";
const DIR: &str = "an absolute path";
const USER: &str = "UID[:GID] in numbers";
const NAME: &str = "a name of at most 63 letters, digits, _ . - that is no cgroup file's";
const VOLUME: &str = "SRC:DST[:ro], both absolute, SRC existing and DST not /";
const CAPABILITY: &str = "a capability such as NET_ADMIN, or ALL";

fn run_command(mut words: Words) -> Result<u8> {
    let mut c = Container { bridge: !rootless(), ..Container::new() };
    let (mut added, mut dropped, mut env) = (0, 0, vec![]);
    while let Some(option) = words.option()? {
        match option.as_str() {
            "--name" => c.name = words.value(NAME, name)?,
            "-h" | "--hostname" => c.hostname = words.value(NAME, name)?,
            "-e" | "--env" => env.push(words.value(ENV, pair)?),
            "-w" | "--workdir" => c.workdir = words.value(DIR, absolute)?,
            "-u" | "--user" => c.user = words.value(USER, user)?,
            "-d" | "--detach" => c.detach = true,
            "-v" | "--volume" => c.mounts.push(words.value(VOLUME, volume)?),
            "--read-only" => c.read_only = true,
            "--writable" => c.writable = true,
            "-m" | "--memory" => c.memory = Some(words.value("a size such as 64m or 2g", size)?),
            "--cpus" => c.limits.push(words.value("a number from 0.01, such as 0.5", cpus)?),
            "--pids-limit" => c.limits.push(words.value("a number from 1", pids)?),
            "--cgroup" => c.limits.push(words.value("FILE=VALUE, as in io.weight=50", limit)?),
            "--network" => {
                (c.bridge, c.namespaces) = words.value("bridge, none or host", network)?
            }
            "--cap-add" => added |= words.value(CAPABILITY, capability)?,
            "--cap-drop" => dropped |= words.value(CAPABILITY, capability)?,
            "--explain" => NARRATOR.set("parent"),
            "-i" | "--interactive" | "-t" | "--tty" | "--rm" => {}
            "--help" => return print(HELP),
            _ => return Err(error(format!("unknown option {option}: see husk --help"))),
        }
    }
    c.rootfs = root_dir(&words.operand("run needs a ROOTFS: the directory to be the root")?)?;
    c.command = words.command();
    // docker's rule: ALL comes first, names are exceptions from it.
    c.capabilities = match (added & ALL, dropped & ALL) {
        (ALL, _) => !(dropped & !ALL),
        (_, ALL) => added,
        _ => {
            (KEPT.split(' ').filter_map(|name| capability(name.as_ref())).sum::<u64>() | added)
                & !dropped
        }
    };
    complete(&mut c, env)?;
    shield()?;
    run(&c)
}

/// Adds what follows from the options taken together, and docker's defaults.
fn complete(c: &mut Container, env: Vec<OsString>) -> Result<()> {
    if c.writable && c.read_only {
        return Err(error("--read-only and --writable: expected one of them"));
    }
    if rootless() {
        c.namespaces |= CloneFlags::CLONE_NEWUSER;
        if c.bridge {
            return Err(error("--network bridge needs root; rootless there are none and host"));
        }
    }
    if let Some(bytes) = c.memory {
        c.limits.push(("memory.max".into(), bytes.to_string()));
        // Without this the kernel would swap out what goes over the limit.
        c.limits.push(("memory.swap.max".into(), "0".into()));
    }
    if c.name.is_empty() {
        c.name = format!("{:08x}", random());
    }
    if c.hostname.is_empty() {
        c.hostname = c.name.clone();
    }
    if c.command.is_empty() {
        c.command = vec![c"/bin/sh".into()];
    }
    let volumes = mem::take(&mut c.mounts);
    c.mounts = default_mounts(c);
    c.mounts.extend(volumes);
    let path = OsString::from("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let home = OsString::from(if c.user.0 == 0 { "HOME=/root" } else { "HOME=/" });
    let term = terminal().and_then(|_| pair("TERM".as_ref()));
    let defaults = [path, home, format!("HOSTNAME={}", c.hostname).into()];
    for pair in defaults.into_iter().chain(term).chain(env) {
        set_env(&mut c.env, &pair);
    }
    Ok(())
}

/// Starts husk again from a copy of itself that nobody can write to: a container whose command is
/// /proc/self/exe could else keep the host's husk open, and overwrite it later (CVE-2019-5736).
fn shield() -> Result<()> {
    let exe = tried("open /proc/self/exe", File::open("/proc/self/exe"))?;
    let is_sealed = fcntl::fcntl(&exe, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals != 0);
    let read_only = |fs: statvfs::Statvfs| fs.flags().contains(statvfs::FsFlags::ST_RDONLY);
    if is_sealed || statvfs::fstatvfs(&exe).is_ok_and(read_only) {
        return Ok(());
    }
    let args: Vec<CString> = env::args_os().map(c_string).collect();
    let env: Vec<CString> =
        env::vars_os().map(|(k, v)| c_string([k, v].join("=".as_ref()))).collect();
    step(format_args!("mount --bind -o ro husk husk && exec husk"), || {
        let copy = match clone_tree(Path::new("/proc/self/exe"), MsFlags::MS_RDONLY) {
            Ok(tree) => tree,
            Err(_) => {
                // An ordinary user may not clone a mount, but may seal a file in memory.
                let copy = memfd::memfd_create("husk", memfd::MFdFlags::MFD_ALLOW_SEALING)?;
                io::copy(&mut &exe, &mut File::from(copy.try_clone()?))?;
                fcntl::fcntl(&copy, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
                copy
            }
        };
        Err::<(), io::Error>(
            unistd::execveat(&copy, c"", &args, &env, AtFlags::AT_EMPTY_PATH).unwrap_err().into(),
        )
    })
}

// The parsers of the options' values: None where a value is not as expected.

/// A container is a directory among the files of the husk cgroup: it can't have a name like theirs.
fn name(value: &OsStr) -> Option<String> {
    let text = value.to_str().filter(|text| text.len() <= 63)?;
    let files =
        ["cgroup", "cpu", "cpuset", "dmem", "hugetlb", "io", "irq", "memory", "misc", "pids"];
    let is_file = text.split_once('.').is_some_and(|(controller, _)| files.contains(&controller));
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let good = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(legal);
    (good && !is_file).then(|| text.into())
}

fn absolute(value: &OsStr) -> Option<PathBuf> {
    Path::new(value).is_absolute().then(|| value.into())
}

/// KEY=VALUE. A KEY alone takes the caller's value, and stays unset where there is none.
fn pair(value: &OsStr) -> Option<OsString> {
    let equals = value.as_bytes().iter().position(|byte| *byte == b'=');
    match (equals, env::var_os(value)) {
        (Some(0), _) => None,
        (None, Some(callers)) => Some([value, &callers].join("=".as_ref())),
        _ => Some(value.into()),
    }
}

fn set_env(env: &mut Vec<CString>, pair: &OsStr) {
    if let Some(equals) = pair.as_bytes().iter().position(|byte| *byte == b'=') {
        env.retain(|old| !old.as_bytes().starts_with(&pair.as_bytes()[..=equals]));
        env.push(c_string(pair));
    }
}

fn user(value: &OsStr) -> Option<(u32, u32)> {
    let text = value.to_str()?;
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// The last ":/" divides SRC from DST, so that SRC may hold colons.
fn volume(value: &OsStr) -> Option<Mount> {
    let (both, options) = match value.as_bytes().strip_suffix(b":ro") {
        Some(both) => (both, "rbind,nodev,ro"),
        None => (value.as_bytes(), "rbind,nodev"),
    };
    let colon = both.windows(2).rposition(|two| two == b":/")?;
    let [source, target] =
        [&both[..colon], &both[colon + 1..]].map(OsStr::from_bytes).map(Path::new);
    let usable = source.is_absolute() && source.exists() && target.file_name().is_some();
    usable.then(|| Mount::new("none", options, source, target))
}

fn decimal(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|number| digits && *number > 0.0)
}

/// Bytes: a number, and a unit that is a power of 1,024.
fn size(value: &OsStr) -> Option<u64> {
    let text = value.to_str()?.to_ascii_lowercase();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[number.len()..].trim_end_matches('b');
    let power = ["", "k", "m", "g", "t"].iter().position(|known| *known == unit)?;
    Some((decimal(number)? * 1024f64.powi(power as i32)) as u64).filter(|bytes| *bytes > 0)
}

fn cpus(value: &OsStr) -> Option<(String, String)> {
    let cpus = decimal(value.to_str()?).filter(|cpus| *cpus >= 0.01)?;
    // Microseconds of CPU time in each period of 100 ms.
    Some(("cpu.max".into(), format!("{:.0} 100000", cpus * 100_000.0)))
}

fn pids(value: &OsStr) -> Option<(String, String)> {
    let pids: u32 = value.to_str()?.parse().ok().filter(|pids| *pids > 0)?;
    Some(("pids.max".into(), pids.to_string()))
}

fn limit(value: &OsStr) -> Option<(String, String)> {
    let (file, value) = value.to_str()?.split_once('=')?;
    let good = file.contains('.') && !file.contains('/') && !file.starts_with("cgroup.");
    good.then(|| (file.into(), value.into()))
}

fn network(value: &OsStr) -> Option<(bool, CloneFlags)> {
    match value.to_str()? {
        "bridge" => Some((true, NAMESPACES)),
        "none" => Some((false, NAMESPACES)),
        "host" => Some((false, NAMESPACES.difference(CloneFlags::CLONE_NEWNET))),
        _ => None,
    }
}

/// ROOTFS as an absolute path without symlinks.
fn root_dir(path: &OsStr) -> Result<PathBuf> {
    let what = format!("ROOTFS {}", path.display());
    let dir = tried(&what, fs::canonicalize(path))?;
    match tried(&what, fs::read_dir(&dir))?.next() {
        Some(_) => Ok(dir),
        None => Err(error(format!("{what} is empty: rootfs-scripts/ has ways to fill one"))),
    }
}

// ---- 1. cgroup: the budget ----------------------------------------------------------------------

struct Cgroup {
    dir: PathBuf,
    lock: File,
}

impl Cgroup {
    fn husk(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }
}

/// Where containers live: husk/ in the topmost cgroup of version 2 that the caller owns. For root
/// that is the mount itself; an ordinary user has one where systemd delegates, cgroups(7).
fn husk_cgroup() -> Result<PathBuf> {
    let (mounts, cgroups) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(mount) = line.and_then(|line| line.split(' ').nth(4)) else {
        return Err(error("no cgroup2 is mounted: expected one at /sys/fs/cgroup"));
    };
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let user = Uid::effective().as_raw();
    let mine = |dir: &&Path| fs::metadata(dir).is_ok_and(|meta| meta.uid() == user);
    let own = Path::new(mount).join(own);
    let top = own.ancestors().take_while(|dir| dir.starts_with(mount)).filter(mine).last();
    top.map(|top| top.join("husk")).ok_or_else(|| {
        error(
            "no cgroup is delegated to you, and limits, -d, ps, exec and stop need one: \
             start husk with systemd-run --user --scope -p Delegate=yes husk ...",
        )
    })
}

/// Made before the clone, so that the container is born inside and cannot outrun its limits.
fn create_cgroup(c: &Container) -> Result<Option<Cgroup>> {
    section("1. cgroup: the budget");
    let husk = match husk_cgroup() {
        Err(_) if rootless() && c.limits.is_empty() && !c.detach => return Ok(None),
        husk => husk?,
    };
    let is_new = !husk.exists();
    if is_new {
        step(format_args!("mkdir -p {}", husk.display()), || fs::create_dir_all(&husk))?;
    }
    let dir = husk.join(&c.name);
    let cgroup = Cgroup { lock: claim(&husk, &dir)?, dir };
    if is_new || !c.limits.is_empty() {
        enable_controllers(&husk, &c.limits);
    }
    for (file, value) in &c.limits {
        let path = cgroup.dir.join(file);
        // A kernel without swap has no memory.swap.max, and nothing to limit there.
        if path.exists() || file != "memory.swap.max" {
            let controller = file.split('.').next().unwrap_or_default();
            let missing =
                || error(format!("{file}: no {controller} controller in {}", husk.display()));
            let written = if path.exists() { echo(value, &path) } else { Err(missing()) };
            written.inspect_err(|_| remove_cgroup(&cgroup.dir))?;
        }
    }
    Ok(Some(cgroup))
}

/// The lock says that a husk looks after this container: without it the next husk sweeps it away.
/// A sweep that came between mkdir and the lock has taken the directory: then make it again.
fn claim(husk: &Path, dir: &Path) -> Result<File> {
    let mkdir =
        || step(format_args!("mkdir {}", dir.display()), || unistd::mkdir(dir, Mode::S_IRWXU));
    loop {
        if dir.exists() {
            sweep(husk);
        }
        if dir.exists() {
            let name = dir.file_name().unwrap_or_default().display();
            return Err(error(format!("--name {name}: a container of that name is running")));
        }
        mkdir()?;
        let Ok(lock) = File::open(dir) else { continue };
        step(format_args!("flock {}", dir.display()), || lock.lock())?;
        let inode = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| meta.ino());
        if inode(lock.metadata()) == inode(fs::metadata(dir)) {
            return Ok(lock);
        }
    }
}

/// Controllers are handed down one level at a time. Failure is no error here: whoever asked for a
/// limit is told when its file is missing, and nobody else needs them.
fn enable_controllers(husk: &Path, limits: &[(String, String)]) {
    let top = husk.parent().unwrap_or(husk);
    let own = unistd::getpid().to_string();
    if read(top.join("cgroup.procs")).is_ok_and(|pids| pids.lines().any(|pid| pid == own))
        && top.join("cgroup.type").exists()
    {
        // Only a cgroup without processes (or the root, which has no type) can hand them down.
        let leaf = husk.join(".self");
        let _ = fs::create_dir(&leaf);
        let _ = echo("0", leaf.join("cgroup.procs"));
    }
    let asked = limits.iter().filter_map(|(file, _)| Some(file.split_once('.')?.0));
    for controller in ["cpu", "memory", "pids"].into_iter().chain(asked) {
        for dir in [top, husk] {
            let _ = echo(&format!("+{controller}"), dir.join("cgroup.subtree_control"));
        }
    }
}

/// The containers: every directory in husk/ whose name husk can have given.
fn containers(husk: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(husk).into_iter().flatten().flatten();
    entries
        .filter(|e| name(&e.file_name()).is_some() && e.path().is_dir())
        .map(|e| e.path())
        .collect()
}

/// Clears away what a killed husk left behind. No lock and no mark: nobody looks after it, it dies.
/// A detached container is marked: it goes when it is empty.
fn sweep(husk: &Path) {
    for dir in containers(husk) {
        let unlocked = File::open(&dir).ok().filter(|lock| lock.try_lock().is_ok());
        if unlocked.is_some() && (!is_detached(&dir) || !is_populated(&dir)) {
            remove_cgroup(&dir);
        }
    }
    let _ = fs::remove_dir(husk.join(".self"));
}

fn is_populated(dir: &Path) -> bool {
    read(dir.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
}

/// Kills what is left in a cgroup and removes it. A process takes a moment to die.
fn remove_cgroup(dir: &Path) {
    if is_populated(dir) {
        let _ = echo("1", dir.join("cgroup.kill"));
    }
    let _ = step(format_args!("rmdir {}", dir.display()), || {
        let mut tries = 0..2000;
        loop {
            match fs::remove_dir(dir) {
                Err(e) if e.raw_os_error() == Some(EBUSY) && tries.next().is_some() => {
                    thread::sleep(Duration::from_millis(1))
                }
                removed => return removed,
            }
        }
    });
}

fn mark_detached(dir: &Path) -> Result<()> {
    step(format_args!("setfattr -n user.husk.detached {}", dir.display()), || {
        let path = c_string(dir);
        // SAFETY: both names are C strings that outlive the call, and the value is empty.
        Errno::result(unsafe {
            libc::setxattr(path.as_ptr(), c"user.husk.detached".as_ptr(), ptr::null(), 0, 0)
        })
    })?;
    Ok(())
}

fn is_detached(dir: &Path) -> bool {
    let path = c_string(dir);
    // SAFETY: as above; a null buffer of size 0 asks only for the length.
    unsafe {
        libc::getxattr(path.as_ptr(), c"user.husk.detached".as_ptr(), ptr::null_mut(), 0) >= 0
    }
}

// ---- 2. clone: new namespaces -------------------------------------------------------------------

/// Born inside a cgroup, clone(2). (The libc crate's constant is an int, too small for it.)
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// All but the cgroup namespace: its root would be the cgroup of the process that calls clone3,
/// so the child makes that one itself. The user namespace is for rootless containers only.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWPID
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET);

struct Child {
    pid: Pid,
    socket: OwnedFd,
}

/// Starts a child in new namespaces and in its cgroup, clone(2). It works through `body`, which
/// ends in exec; if it fails, the error goes to the parent through the socket.
fn spawn<F>(flags: CloneFlags, cgroup: Option<&File>, body: F) -> Result<Child>
where
    F: FnOnce(&OwnedFd) -> Result<Infallible>,
{
    section("2. clone: new namespaces");
    // The parent handles these in `wait`; blocked, they wait until then.
    let _ = handled_signals().thread_block();
    let kind = (AddressFamily::Unix, SockType::SeqPacket);
    let pair = socket::socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = tried("socketpair", pair)?;
    // SAFETY: every field of clone_args is an integer, for which zero means "not used".
    let mut args: clone_args = unsafe { mem::zeroed() };
    args.flags = flags.bits() as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and a stack of its own the child goes on here, as after fork, in a
    // copy of our memory; there are no threads whose locks it could find held.
    let clone3 = || {
        Errno::result(unsafe { libc::syscall(libc::SYS_clone3, &args, mem::size_of_val(&args)) })
    };
    let pid = step(format_args!("unshare --fork {}", names(flags)), clone3)?;
    if pid > 0 {
        return Ok(Child { pid: Pid::from_raw(pid as i32), socket: ours });
    }
    drop(ours);
    if !NARRATOR.get().is_empty() {
        NARRATOR.set("child");
    }
    let Err(Error(status, message)) = body(&theirs);
    let report = [&[status], message.as_bytes()].concat();
    let _ = socket::send(theirs.as_raw_fd(), &report, MsgFlags::MSG_NOSIGNAL);
    exit(status.into())
}

/// The option of unshare(1) for each namespace.
fn names(flags: CloneFlags) -> String {
    let names = flags.iter_names().map(|(name, _)| name.replace("CLONE_NEW", "--").to_lowercase());
    names.collect::<Vec<_>>().join(" ")
}

/// The child's first steps: its ids, if it is in a user namespace, and a cgroup namespace.
fn enter_namespaces(c: &Container, uid: Uid, gid: Gid) -> Result<()> {
    if c.namespaces.contains(CloneFlags::CLONE_NEWUSER) {
        // Without "deny" the kernel refuses gid_map: a process could drop a group that is there to
        // keep it out of a file, user_namespaces(7).
        echo("deny", "/proc/self/setgroups")?;
        echo(&format!("0 {uid} 1"), "/proc/self/uid_map")?;
        echo(&format!("0 {gid} 1"), "/proc/self/gid_map")?;
    }
    step(format_args!("unshare --cgroup"), || unshare(CloneFlags::CLONE_NEWCGROUP))
}

/// The parent's half: `prepare` what must come from outside, let the child go on, wait for its end.
fn supervise(child: Child, detach: bool, prepare: impl FnOnce(Pid) -> Result<u32>) -> Result<u8> {
    let mut terminal = None;
    let outcome = prepare(child.pid).and_then(|address| {
        terminal = if detach { None } else { hand_over_terminal(child.pid) };
        // If this fails the child is dead, which `wait` or the report will tell.
        let _ =
            socket::send(child.socket.as_raw_fd(), &address.to_ne_bytes(), MsgFlags::MSG_NOSIGNAL);
        if detach { Ok(0) } else { wait(child.pid, &terminal) }
    });
    if let Some(saved) = terminal {
        take_back_terminal(&saved);
    }
    if outcome.is_err() {
        let _ = kill(child.pid, Signal::SIGKILL);
    }
    // exec closes the child's end: a message means that it did not get that far.
    let mut report = [0; 4096];
    let flags = if detach { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    match socket::recv(child.socket.as_raw_fd(), &mut report, flags) {
        Ok(length) if length > 0 => {
            Err(Error(report[0], String::from_utf8_lossy(&report[1..length]).into()))
        }
        _ => outcome,
    }
}

/// Returns the container's number, see section 3, once the parent has done its half.
fn wait_for_parent(parent: &OwnedFd) -> Result<u32> {
    let mut number = [0; 4];
    match socket::recv(parent.as_raw_fd(), &mut number, MsgFlags::empty()) {
        Ok(4) => Ok(u32::from_ne_bytes(number)),
        _ => Err(error("the parent is gone")),
    }
}

// ---- 3. network, the host's side ----------------------------------------------------------------

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PREFIX: u8 = 16;

/// Let containers talk to the world and to each other, also where docker has set FORWARD to DROP
/// and sends bridged frames through it; from outside only answers come in.
const RULES: [[&str; 4]; 3] = [
    ["nat", "-A", "POSTROUTING", "-s 10.77.0.0/16 ! -o husk0 -j MASQUERADE"],
    ["filter", "-I", "FORWARD", "-i husk0 -j ACCEPT"],
    ["filter", "-I", "FORWARD", "-o husk0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"],
];

/// A netlink socket speaks to the kernel in messages: a header (nlmsghdr), a fixed part, and
/// attributes (type, length, value) that can hold attributes again: netlink(7), rtnetlink(7).
struct Netlink(OwnedFd);

const NETLINK_ERROR: u16 = NLMSG_ERROR as u16; // also the acknowledgement, with 0 for the error
const VETH_INFO_PEER: u16 = 1; // <linux/veth.h>

impl Netlink {
    fn open() -> Result<Netlink> {
        let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkRoute);
        let opened = socket::socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
        tried("socket AF_NETLINK", opened).map(Netlink)
    }

    /// Sends one message and returns what the answer holds after its header.
    fn request(&self, kind: u16, flags: c_int, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let length = 16 + body.len() as u32;
        let flags = (NLM_F_REQUEST | flags) as u16;
        let header =
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]];
        socket::send(self.0.as_raw_fd(), &[&header.concat(), body].concat(), MsgFlags::empty())?;
        let mut answer = vec![0; 4096];
        let length = socket::recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        answer.truncate(length);
        match (u16::from_ne_bytes([answer[4], answer[5]]), word(&answer, 16) as i32) {
            (NETLINK_ERROR, 0) => Ok(vec![]),
            (NETLINK_ERROR, error) => Err(Errno::from_raw(-error)),
            _ => Ok(answer.split_off(16)),
        }
    }

    /// Makes something, unless it is there already.
    fn ensure(&self, kind: u16, body: &[u8]) -> Result<bool, Errno> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.request(kind, flags, body) {
            Err(Errno::EEXIST) => Ok(false),
            made => made.map(|_| true),
        }
    }

    /// Index and flags of a network interface.
    fn find(&self, name: &str) -> Result<(u32, u32)> {
        let body = [link(0, 0), attribute(IFLA_IFNAME, name.as_bytes())].concat();
        let found =
            step(format_args!("ip link show {name}"), || self.request(RTM_GETLINK, 0, &body))?;
        Ok((word(&found, 4), word(&found, 8)))
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
}

/// struct ifinfomsg: family and type (none), index, flags, and which of the flags to change.
fn link(index: u32, flags: c_int) -> Vec<u8> {
    [0, index, flags as u32, flags as u32].map(u32::to_ne_bytes).concat()
}

/// struct ifaddrmsg (family, prefix length, flags, scope, index) and the address.
fn ip_address(index: u32, address: Ipv4Addr) -> Vec<u8> {
    let fixed = [[AF_INET as u8, PREFIX, 0, 0], index.to_ne_bytes()].concat();
    [fixed, attribute(IFA_LOCAL, &address.octets())].concat()
}

/// Length, type and value, padded to a multiple of four.
fn attribute(kind: c_ushort, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len() as u16;
    let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn ip_of(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(GATEWAY) - 1 + number)
}

/// Derived from the IP address, so that no neighbour's ARP cache is wrong when one is used again.
fn mac_of(address: Ipv4Addr) -> Vec<u8> {
    [&[0x02, 0x42], &address.octets()[..]].concat()
}

/// A veth pair: one end on the bridge, the other is eth0 in the container. The name leases the
/// address: the kernel refuses a second link of a name, and takes both ends away with the container.
fn network_outside(pid: Pid, husk: &Path) -> Result<u32> {
    section("3. network, the host's side");
    let netlink = Netlink::open()?;
    let bridge = match netlink.find("husk0") {
        Ok((index, flags)) if flags & IFF_UP as u32 != 0 => index,
        _ => make_bridge(&netlink, husk)?,
    };
    loop {
        let number = 2 + random() % 65_533; // not the net's own address, the gateway or broadcast
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
        let sentence =
            format_args!("ip link add {name} up master husk0 type veth peer eth0 netns {pid}");
        if step(sentence, || netlink.ensure(RTM_NEWLINK, &pair.concat()))? {
            return Ok(number);
        }
    }
}

/// Once per host, one husk at a time. That husk0 is up comes last and so proves all the rest,
/// whenever a husk was killed.
fn make_bridge(netlink: &Netlink, husk: &Path) -> Result<u32> {
    let lock = tried("open the husk cgroup", File::open(husk))?;
    step(format_args!("flock {}", husk.display()), || lock.lock())?;
    echo("1", "/proc/sys/net/ipv4/ip_forward")?;
    RULES.into_iter().try_for_each(add_rule)?;
    let mut kind = attribute(IFLA_INFO_KIND, b"bridge");
    kind = attribute(IFLA_LINKINFO, &kind);
    // A MAC of its own: else the bridge takes the lowest of its ports', and changes it with them.
    let mac = attribute(IFLA_ADDRESS, &mac_of(GATEWAY));
    let bridge = [link(0, 0), attribute(IFLA_IFNAME, b"husk0"), mac, kind].concat();
    step(format_args!("ip link add husk0 address 02:42:0a:4d:00:01 type bridge"), || {
        netlink.ensure(RTM_NEWLINK, &bridge)
    })?;
    let (index, _) = netlink.find("husk0")?;
    step(format_args!("ip addr add {GATEWAY}/{PREFIX} dev husk0"), || {
        netlink.ensure(RTM_NEWADDR, &ip_address(index, GATEWAY))
    })?;
    step(format_args!("ip link set husk0 up"), || {
        netlink.request(RTM_NEWLINK, NLM_F_ACK, &link(index, IFF_UP))
    })?;
    Ok(index)
}

/// iptables(8), the only program that husk runs for itself.
fn add_rule([table, action, chain, rule]: [&str; 4]) -> Result<()> {
    let iptables = |action| {
        let rule = rule.split(' ');
        Command::new("iptables").args(["-w", "-t", table, action, chain]).args(rule).output()
    };
    let sentence = format_args!("iptables -w -t {table} {action} {chain} {rule}");
    let check = iptables("-C");
    if check.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        let text =
            b"husk: no iptables here: containers reach the host and each other, nothing else\n";
        let _ = io::stderr().write_all(text);
        return Ok(());
    }
    if check.is_ok_and(|check| check.status.success()) {
        return Ok(());
    }
    let added = step(sentence, || iptables(action))?;
    let said = String::from_utf8_lossy(&added.stderr);
    if added.status.success() { Ok(()) } else { Err(error(format!("{sentence}: {}", said.trim()))) }
}

// ---- 4. hostname --------------------------------------------------------------------------------

fn set_hostname(c: &Container) -> Result<()> {
    section("4. hostname");
    step(format_args!("hostname {}", c.hostname), || unistd::sethostname(&c.hostname))
}

// ---- 5. root file system ------------------------------------------------------------------------

/// docker's mounts: type, options, source, target. Binds of the host's own device nodes are the only
/// ones without nodev; read-only, because a chmod of the container's /dev/null would reach the host's.
const MOUNTS: [[&str; 4]; 13] = [
    ["proc", "nosuid,nodev,noexec", "proc", "/proc"],
    ["tmpfs", "nosuid,nodev,noexec,mode=755,size=64m", "tmpfs", "/dev"],
    ["none", "bind,ro,nosuid,noexec", "/dev/null", "/dev/null"],
    ["none", "bind,ro,nosuid,noexec", "/dev/zero", "/dev/zero"],
    ["none", "bind,ro,nosuid,noexec", "/dev/full", "/dev/full"],
    ["none", "bind,ro,nosuid,noexec", "/dev/random", "/dev/random"],
    ["none", "bind,ro,nosuid,noexec", "/dev/urandom", "/dev/urandom"],
    ["none", "bind,ro,nosuid,noexec", "/dev/tty", "/dev/tty"],
    ["devpts", "nosuid,noexec,newinstance,ptmxmode=666,mode=620,gid=5", "devpts", "/dev/pts"],
    ["tmpfs", "nosuid,nodev,noexec,mode=1777,size=64m", "shm", "/dev/shm"],
    ["mqueue", "nosuid,nodev,noexec", "mqueue", "/dev/mqueue"],
    ["sysfs", "nosuid,nodev,noexec,ro", "sysfs", "/sys"],
    ["cgroup2", "nosuid,nodev,noexec,ro", "cgroup", "/sys/fs/cgroup"],
];

const LINKS: [[&str; 2]; 5] = [
    ["/proc/self/fd", "/dev/fd"],
    ["/proc/self/fd/0", "/dev/stdin"],
    ["/proc/self/fd/1", "/dev/stdout"],
    ["/proc/self/fd/2", "/dev/stderr"],
    ["pts/ptmx", "/dev/ptmx"],
];

/// What the kernel shows of the whole machine: covered, as docker does it.
const MASKED: [&str; 12] = [
    "/proc/acpi",       // hardware can be switched off there (CVE-2018-10892)
    "/proc/asound",     // sound cards tell of the host
    "/proc/interrupts", // timing of the host's keyboard and network
    "/proc/kcore",      // the whole of memory
    "/proc/keys",       // all users' keys
    "/proc/latency_stats",
    "/proc/sched_debug", // all processes
    "/proc/scsi",        // disks can be removed there
    "/proc/timer_list",  // all processes
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap", // power use leaks keys (CVE-2020-8694)
    "/sys/firmware",                 // firmware variables and keys
];

/// What would change the whole machine: read-only.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `mount -t fstype -o options source target`, as fstab(5) has it.
struct Mount {
    fstype: String,
    options: String,
    source: PathBuf,
    target: PathBuf,
}

const FLAGS: [(&str, MsFlags); 6] = [
    ("ro", MsFlags::MS_RDONLY),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("bind", MsFlags::MS_BIND),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC)),
];

impl Mount {
    fn new(
        fstype: &str,
        options: &str,
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
    ) -> Mount {
        let (source, target) = (source.as_ref().into(), target.as_ref().into());
        Mount { fstype: fstype.into(), options: options.into(), source, target }
    }

    /// The options that are flags of mount(2), and the others, which go to the file system.
    fn flags_and_data(&self) -> (MsFlags, String) {
        let flag =
            |option: &str| FLAGS.iter().find(|(name, _)| *name == option).map(|(_, flag)| *flag);
        let flags = self.options.split(',').filter_map(flag).collect();
        let data: Vec<&str> =
            self.options.split(',').filter(|option| flag(option).is_none()).collect();
        (flags, data.join(","))
    }
}

/// docker's mounts, as far as a rootless container can have them; and the caller's terminal, so
/// that ttyname(3) finds it.
fn default_mounts(c: &Container) -> Vec<Mount> {
    let shares_network = !c.namespaces.contains(CloneFlags::CLONE_NEWNET);
    let mut mounts = vec![];
    for [fstype, options, source, target] in MOUNTS {
        mounts.push(match fstype {
            // Group 5 (tty) is not among the ids of a rootless container.
            "devpts" if rootless() => {
                Mount::new(fstype, &options.replace(",gid=5", ""), source, target)
            }
            // sysfs shows the network, and belongs to whoever owns that.
            "sysfs" if rootless() && shares_network => {
                Mount::new("none", "rbind,nosuid,nodev,noexec,ro", "/sys", "/sys")
            }
            _ => Mount::new(fstype, options, source, target),
        });
    }
    let console = |tty| Mount::new("none", "bind,ro,nosuid,noexec", tty, "/dev/console");
    mounts.extend(terminal().map(console));
    mounts
}

/// A root file system in the making.
struct Tree {
    scratch: OwnedFd,                 // a tmpfs that only husk sees
    mounted: Vec<(PathBuf, OwnedFd)>, // the root and the file systems under it, by target
}

fn fd_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

const NONE: Option<&str> = None;
const DIRECTORY: Mode = Mode::from_bits_retain(0o755);
const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// Everything is mounted under the new root while the host is still in sight; then pivot_root(2)
/// and unmounting the old root put it out of reach. Returns the working directory and /etc/hosts.
fn build_root(c: &Container) -> Result<(OwnedFd, File)> {
    section("5. root file system");
    umask(Mode::from_bits_retain(0o022));
    step(format_args!("mount --make-rprivate /"), || {
        // Else systemd's shared mounts would carry ours back to the host.
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
    })?;
    step(format_args!("cd {}", c.rootfs.display()), || unistd::chdir(&c.rootfs))?;
    let mut tree = Tree { scratch: mount_scratch(c)?, mounted: vec![] };
    let scratch = fd_path(&tree.scratch);
    // ROOTFS is the working directory: no comma or colon in its name can break the options.
    let xattr = if rootless() { ",userxattr" } else { "" };
    let options =
        format!("nodev,lowerdir=.,upperdir={scratch}/upper,workdir={scratch}/work{xattr}");
    tree.attach(&match c.writable {
        true => Mount::new("none", "bind,nodev", ".", "/"),
        false => Mount::new("overlay", &options, "overlay", "/"),
    })?;
    let hosts = etc_files(c, &mut tree)?;
    c.mounts.iter().try_for_each(|mount| tree.attach(mount))?;
    for [to, link] in LINKS {
        let (dev, name) = tree.beneath(Path::new(link));
        step(format_args!("ln -s {to} {link}"), || unistd::symlinkat(to, dev, name))?;
    }
    for (paths, is_masked) in [(&MASKED[..], true), (&READ_ONLY[..], false)] {
        for target in paths {
            let (base, rest) = tree.beneath(Path::new(target));
            let Ok(found) = open_in(base, rest) else { continue };
            let source = match (is_masked, is_dir(&found)) {
                (false, _) => fd_path(&found),
                (true, true) => format!("{scratch}/empty"),
                (true, false) => "/dev/null".into(),
            };
            tree.attach(&Mount::new("none", "rbind,ro,nosuid,noexec", source, target))?;
        }
    }
    let root = &tree.mounted[0].1;
    let workdir = make_dir(root, &c.workdir)?;
    if c.read_only {
        step(format_args!("mount -o remount,bind,ro /"), || set_flags(root, MsFlags::MS_RDONLY))?;
    }
    step(format_args!("cd {}", fd_path(root)), || unistd::fchdir(root))?;
    // Both on one spot: so the old root needs no directory in the new one.
    step(format_args!("pivot_root . ."), || unistd::pivot_root(".", "."))?;
    step(format_args!("umount --lazy ."), || umount2(".", MntFlags::MNT_DETACH))?;
    Ok((workdir, hosts))
}

/// A tmpfs over ROOTFS, for what the container changes and husk's own files. It is gone with the
/// last process of the container, whatever ended it.
fn mount_scratch(c: &Container) -> Result<OwnedFd> {
    let size = c.memory.map_or("50%".into(), |bytes| bytes.to_string());
    let data = format!("mode=755,size={size}");
    step(format_args!("mount -t tmpfs -o {data} scratch {}", c.rootfs.display()), || {
        mount(Some("scratch"), ".", Some("tmpfs"), MsFlags::MS_NODEV, Some(data.as_str()))
    })?;
    // "." is still below the new mount; and so would "/" be, but not "/..", if that is ROOTFS.
    let above = if c.rootfs == Path::new("/") { Path::new("/..") } else { &c.rootfs };
    let scratch = tried("open the scratch tmpfs", fcntl::open(above, PATH, Mode::empty()))?;
    for dir in ["upper", "work", "root", "new", "empty"] {
        step(format_args!("mkdir {dir}"), || mkdirat(&scratch, dir, DIRECTORY))?;
    }
    Ok(scratch)
}

impl Tree {
    /// A new mount where only husk can look, then moved to its target: what a hostile ROOTFS makes
    /// of the way there, symlinks included, it can never end outside of the root.
    fn attach(&mut self, m: &Mount) -> Result<()> {
        let (fstype, options, target) = (&m.fstype, &m.options, m.target.display());
        step(format_args!("mount -t {fstype} -o {options} {} {target}", m.source.display()), || {
            let (flags, data) = m.flags_and_data();
            let mounted = if flags.contains(MsFlags::MS_BIND) {
                clone_tree(&m.source, flags)?
            } else {
                let new = fd_path(&self.scratch) + "/new";
                mount(
                    Some(&m.source),
                    new.as_str(),
                    Some(fstype.as_str()),
                    flags,
                    Some(data.as_str()),
                )?;
                fcntl::open(new.as_str(), PATH, Mode::empty())?
            };
            let at = match self.mounted.is_empty() {
                true => fcntl::openat(&self.scratch, "root", PATH, Mode::empty())?,
                false => {
                    let (base, rest) = self.beneath(&m.target);
                    make_in(base, rest, is_dir(&mounted), 0)?
                }
            };
            let [from, to] = [&mounted, &at].map(|fd| fd_path(fd));
            mount(Some(from.as_str()), to.as_str(), NONE, MsFlags::MS_MOVE, NONE)?;
            if self.mounted.is_empty() || !flags.contains(MsFlags::MS_BIND) {
                self.mounted.push((m.target.clone(), mounted));
            }
            Ok::<_, Errno>(())
        })
    }

    /// The innermost of our file systems that holds `path`, and the rest of the path in it. By its
    /// descriptor: a ROOTFS that swaps symlinks while we mount cannot lead /proc/sys to elsewhere.
    fn beneath<'a>(&'a self, path: &'a Path) -> (&'a OwnedFd, &'a Path) {
        let holds = |(at, fd): &'a (PathBuf, OwnedFd)| Some((fd, path.strip_prefix(at).ok()?));
        self.mounted.iter().rev().find_map(holds).unwrap_or((&self.mounted[0].1, path))
    }
}

/// A bind mount, attached nowhere yet: open_tree(2) and mount_setattr(2).
fn clone_tree(path: &Path, flags: MsFlags) -> Result<OwnedFd, Errno> {
    let recursive = if flags.contains(MsFlags::MS_REC) { AT_RECURSIVE as u32 } else { 0 };
    let how = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive;
    let path = c_string(path);
    // SAFETY: a C string that outlives the call; its result is a descriptor of ours alone.
    let tree = unsafe { owned(syscall(SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), how)) }?;
    set_flags(&tree, flags)?;
    Ok(tree)
}

/// Sets ro, nosuid, nodev and noexec of a mount; their MOUNT_ATTR_ and MS_ bits are the same.
fn set_flags(tree: &OwnedFd, flags: MsFlags) -> Result<(), Errno> {
    let recursive = if flags.contains(MsFlags::MS_REC) { AT_RECURSIVE } else { 0 };
    let set =
        mount_attr { attr_set: flags.bits() & 0xf, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let (how, size) = (AT_EMPTY_PATH | recursive, mem::size_of_val(&set));
    // SAFETY: an empty C string, and a structure that outlives the call, with its size.
    Errno::result(unsafe {
        syscall(SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), how, &set, size)
    })?;
    Ok(())
}

/// # Safety
/// `result` is a system call's: -1, or a new descriptor that nobody else owns.
unsafe fn owned(result: c_long) -> Result<OwnedFd, Errno> {
    // SAFETY: as the caller promised.
    Errno::result(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A directory under `root`, made if it is missing.
fn make_dir(root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    step(format_args!("mkdir -p {}", path.display()), || make_in(root, path, true, 0))
}

/// /etc/hostname, /etc/resolv.conf and /etc/hosts: files of the scratch tmpfs, bound over ROOTFS's.
/// Returns the last one, to which the address is still to be added.
fn etc_files(c: &Container, tree: &mut Tree) -> Result<File> {
    let mut file_for = |name: &str, text: String| {
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = step(format_args!("> {name}"), || {
            let mut file = File::from(fcntl::openat(
                &tree.scratch,
                name,
                flags,
                Mode::from_bits_retain(0o644),
            )?);
            file.write_all(text.as_bytes()).map(|()| file)
        })?;
        tree.attach(&Mount::new(
            "none",
            "bind,nodev",
            fd_path(&file),
            Path::new("/etc").join(name),
        ))?;
        Ok(file)
    };
    file_for("hostname", format!("{}\n", c.hostname))?;
    file_for("resolv.conf", resolv_conf(c))?;
    file_for("hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".into())
}

/// The host's name servers. A loopback one (systemd-resolved's 127.0.0.53) answers only there, so
/// the list that it asks itself is taken then.
fn resolv_conf(c: &Container) -> String {
    let shared = !c.namespaces.contains(CloneFlags::CLONE_NEWNET);
    let useful = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next() != Some("nameserver")
            || words.next().is_some_and(|ip| shared || !ip.starts_with("127.") && ip != "::1")
    };
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let read_useful = |file| {
        let text = read(file).unwrap_or_default();
        text.lines().filter(useful).map(|line| format!("{line}\n")).collect::<String>()
    };
    files.iter().map(read_useful).find(|text| text.contains("nameserver")).unwrap_or_default()
}

/// Opens `path` with `dir` as the root: neither "..", nor a symlink, nor /proc's magic links lead
/// out of it, openat2(2). It answers EAGAIN where a rename somewhere made ".." uncertain.
fn open_in(dir: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    loop {
        match fcntl::openat2(dir, path, how) {
            Err(Errno::EAGAIN) => {}
            opened => return opened,
        }
    }
}

/// The same, and what is missing is made, as `mkdir -p` or `touch` would; also where a symlink
/// points to what is missing. `links` guards against going round in circles.
fn make_in(dir: &OwnedFd, path: &Path, want_dir: bool, links: u32) -> Result<OwnedFd, Errno> {
    let missing = open_in(dir, path);
    let (Err(Errno::ENOENT), Some(parent), Some(name)) =
        (&missing, path.parent(), path.file_name())
    else {
        return missing;
    };
    let parent_fd = make_in(dir, parent, true, links)?;
    let made = match want_dir {
        true => mkdirat(&parent_fd, name, Mode::from_bits_retain(0o755)),
        false => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            fcntl::openat(&parent_fd, name, flags, Mode::from_bits_retain(0o644)).map(drop)
        }
    };
    match (made, fcntl::readlinkat(&parent_fd, name)) {
        (Err(Errno::EEXIST), Ok(_)) if links == 40 => Err(Errno::ELOOP),
        (Err(Errno::EEXIST), Ok(to)) => make_in(dir, &parent.join(to), want_dir, links + 1),
        (Ok(()) | Err(Errno::EEXIST), _) => open_in(dir, path),
        (Err(other), _) => Err(other),
    }
}

fn is_dir(fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
}

// ---- 6. network, the container's side -----------------------------------------------------------

fn network_inside(c: &Container, number: u32, mut hosts: File) -> Result<()> {
    section("6. network, the container's side");
    if !c.namespaces.contains(CloneFlags::CLONE_NEWNET) {
        return Ok(());
    }
    let netlink = Netlink::open()?;
    let up = |index| netlink.request(RTM_NEWLINK, NLM_F_ACK, &link(index, IFF_UP));
    // A new network namespace has lo as number 1; the kernel gives it 127.0.0.1 when it comes up.
    step(format_args!("ip link set lo up"), || up(1))?;
    if number == 0 {
        return Ok(());
    }
    let (eth0, _) = netlink.find("eth0")?;
    let address = ip_of(number);
    step(format_args!("ip addr add {address}/{PREFIX} dev eth0"), || {
        netlink.ensure(RTM_NEWADDR, &ip_address(eth0, address))
    })?;
    step(format_args!("ip link set eth0 up"), || up(eth0))?;
    // struct rtmsg: to 0.0.0.0/0, in the main table, for ever, everywhere, unicast.
    let (family, table) = (AF_INET as u8, RT_TABLE_MAIN);
    let scope = RT_SCOPE_UNIVERSE;
    let fixed = [family, 0, 0, 0, table, RTPROT_BOOT, scope, RTN_UNICAST, 0, 0, 0, 0];
    let route = [&fixed, &attribute(RTA_GATEWAY, &GATEWAY.octets())[..]].concat();
    step(format_args!("ip route add default via {GATEWAY}"), || {
        netlink.ensure(RTM_NEWROUTE, &route)
    })?;
    step(format_args!("echo {address} {} >> /etc/hosts", c.hostname), || {
        hosts.write_all(format!("{address}\t{}\n", c.hostname).as_bytes())
    })
}

// ---- 7. lock-down -------------------------------------------------------------------------------

/// The pieces of root's power in the order of their numbers, capabilities(7).
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID \
    SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER \
    SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE \
    SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN \
    SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// docker's choice: what package managers and servers need, over the container's own files and
/// processes. Less MKNOD: a device node is a door to the host's disks.
const KEPT: &str = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE \
    NET_RAW SYS_CHROOT AUDIT_WRITE SETFCAP";

/// Stands for every capability, and has no capability's bit.
const ALL: u64 = 1 << 63;

fn capability(name: &OsStr) -> Option<u64> {
    let name = name.to_str()?.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    let number = CAPABILITIES.split_whitespace().position(|known| known == name);
    number.map(|number| 1 << number).or((name == "ALL").then_some(ALL))
}

/// System calls that are refused (EPERM), and the capability that gives them back ("": none does).
/// Each has been a way out of a container, or changes what all containers share.
const DENIED: &[(&str, &[c_long])] = &[
    // Namespaces and mounts: root in a new user namespace meets kernel code that was written for
    // the real root (CVE-2022-0185: fsconfig; CVE-2023-0386: overlay).
    ("SYS_ADMIN", &[SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root]),
    ("SYS_ADMIN", &[SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_move_mount]),
    ("SYS_ADMIN", &[SYS_open_tree, SYS_mount_setattr, SYS_quotactl, SYS_quotactl_fd]),
    ("SYS_ADMIN", &[SYS_swapon, SYS_swapoff, SYS_sethostname, SYS_setdomainname]),
    ("SYS_ADMIN", &[SYS_fanotify_init, SYS_lookup_dcookie]),
    // Opens any file of a mount by its number, also outside of the root ("shocker").
    ("DAC_READ_SEARCH", &[SYS_open_by_handle_at]),
    // Code of the tenant's in the kernel, or another kernel.
    ("SYS_MODULE", &[SYS_init_module, SYS_finit_module, SYS_delete_module]),
    ("SYS_BOOT", &[SYS_reboot, SYS_kexec_load, SYS_kexec_file_load]),
    ("BPF", &[SYS_bpf]),
    ("PERFMON", &[SYS_perf_event_open]),
    // The clock, the log, the terminals and the accounts are the host's.
    ("SYS_TIME", &[SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime]),
    ("SYSLOG", &[SYS_syslog]),
    ("SYS_TTY_CONFIG", &[SYS_vhangup]),
    ("SYS_PACCT", &[SYS_acct]),
    // Other processes' memory, descriptors, and where it lies.
    ("SYS_PTRACE", &[SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_kcmp]),
    ("SYS_PTRACE", &[SYS_process_madvise]),
    ("SYS_NICE", &[SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy, SYS_move_pages]),
    ("SYS_NICE", &[SYS_migrate_pages, SYS_set_mempolicy_home_node]),
    // Keys are not in any namespace (CVE-2016-0728).
    ("", &[SYS_keyctl, SYS_add_key, SYS_request_key]),
    // Stops the kernel in the middle of a copy: the helper of most exploits of a race.
    ("", &[SYS_userfaultfd]),
    // A second way into the kernel, past this filter; more exploits than any other since 2020.
    ("", &[SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register]),
    ("", &[SYS_nfsservctl]),
    #[cfg(target_arch = "x86_64")]
    ("SYS_RAWIO", &[SYS_iopl, SYS_ioperm]),
    #[cfg(target_arch = "x86_64")]
    ("", &[SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl, SYS_modify_ldt]),
];

/// System calls that are refused for one argument: which one, how it is compared, and with what.
const DENIED_ARGUMENTS: [(c_long, u32, u32, u32); 4] = [
    (SYS_clone, 0, BPF_JSET, NEW_NAMESPACES),  // as unshare
    (SYS_ioctl, 1, BPF_JEQ, TIOCSTI as u32),   // types into the caller's terminal (CVE-2017-5226)
    (SYS_ioctl, 1, BPF_JEQ, TIOCLINUX as u32), // the same on a console (CVE-2023-1523)
    (SYS_socket, 0, BPF_JEQ, AF_VSOCK as u32), // reaches the machine's hypervisor
];
const NEW_NAMESPACES: u32 = 0x7e02_0000;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// A program for the kernel's BPF machine, seccomp(2). It sees struct seccomp_data: the call's
/// number at 0, the ABI at 4, and six arguments from 16 on, of which the low halves count here.
fn seccomp_filter(capabilities: u64) -> Vec<sock_filter> {
    let line = |code, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| line(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
    let answer = |what| line(BPF_RET | BPF_K, 0, 0, what);
    // Goes on at the next line if the comparison holds, else skips some.
    let unless = |how, value, skip| line(BPF_JMP | how | BPF_K, 0, skip, value);
    let refuse = answer(SECCOMP_RET_ERRNO | EPERM as u32);
    let unknown = answer(SECCOMP_RET_ERRNO | ENOSYS as u32);
    // Another ABI has other numbers; x32's, and calls newer than this table, are above the last.
    let mut filter = vec![load(4), line(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, AUDIT_ARCH), refuse];
    filter.extend([load(0), unless(BPF_JGT, SYS_mseal as u32, 1), unknown]);
    let holds = |name: &str| capability(name.as_ref()).is_some_and(|bit| capabilities & bit != 0);
    for (_, calls) in DENIED.iter().filter(|(name, _)| !holds(name)) {
        for call in *calls {
            filter.extend([unless(BPF_JEQ, *call as u32, 1), refuse]);
        }
    }
    if !holds("SYS_ADMIN") {
        // Its flags are in memory, where a filter can't look; libc falls back to clone.
        filter.extend([unless(BPF_JEQ, SYS_clone3 as u32, 1), unknown]);
    }
    for (call, argument, how, value) in DENIED_ARGUMENTS {
        if call != SYS_clone || !holds("SYS_ADMIN") {
            let check = [load(16 + 8 * argument), unless(how, value, 1), refuse, load(0)];
            filter.push(unless(BPF_JEQ, call as u32, check.len() as u8));
            filter.extend(check);
        }
    }
    filter.push(answer(SECCOMP_RET_ALLOW));
    filter
}

fn prctl(option: c_int, value: u64) -> Result<c_int, Errno> {
    // SAFETY: both options take a capability's number and change nothing in memory, prctl(2).
    Errno::result(unsafe { libc::prctl(option, value, 0, 0, 0) })
}

/// From here on the process is as weak as its command may be. In this order, because each line
/// needs a power that a later one takes away.
fn lock_down(c: &Container, parent: &OwnedFd) -> Result<()> {
    section("7. lock-down");
    let mut kept = 0;
    for number in 0..64 {
        // An error: the kernel has no more. 0: husk does not have it, and so can't give it.
        let Ok(held) = prctl(PR_CAPBSET_READ, number) else { break };
        if held == 1 && c.capabilities & (1 << number) != 0 {
            kept |= 1 << number;
        } else if held == 1 {
            tried("setpriv --bounding-set", prctl(PR_CAPBSET_DROP, number))?;
        }
    }
    let (uid, gid) = (Uid::from_raw(c.user.0), Gid::from_raw(c.user.1));
    if !rootless() {
        step(format_args!("setpriv --clear-groups"), || unistd::setgroups(&[]))?;
    }
    step(format_args!("setpriv --regid {gid}"), || unistd::setresgid(gid, gid, gid))?;
    step(format_args!("setpriv --reuid {uid}"), || unistd::setresuid(uid, uid, uid))?;
    let kept_now = if uid.is_root() { kept } else { 0 };
    step(format_args!("capset {kept_now:x}"), || set_capabilities(kept_now))?;
    step(format_args!("setpriv --no-new-privs"), prctl::set_no_new_privs)?;
    if !c.detach {
        // Any change of ids or capabilities clears this, so it comes after them; a parent that died
        // before has closed its end of the socket.
        step(format_args!("setpriv --pdeathsig KILL"), || prctl::set_pdeathsig(Signal::SIGKILL))?;
        let still = socket::recv(parent.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT);
        if still != Err(Errno::EAGAIN) {
            return Err(error("the parent is gone"));
        }
    }
    let filter = seccomp_filter(kept);
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    step(format_args!("seccomp: {} instructions", filter.len()), || {
        // SAFETY: the kernel copies the program, which outlives the call, and only reads it.
        Errno::result(unsafe { syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) })
    })?;
    Ok(())
}

/// Permitted and effective are `set`; inheritable, and with it ambient, is empty: capset(2).
fn set_capabilities(set: u64) -> Result<(), Errno> {
    let (low, high) = (set as u32, (set >> 32) as u32);
    let header = [0x2008_0522u32, 0]; // _LINUX_CAPABILITY_VERSION_3, this thread
    let data = [low, low, 0, high, high, 0];
    // SAFETY: both arrays have the layout that version 3 asks for, and outlive the call.
    Errno::result(unsafe { syscall(SYS_capset, &header, &data) }).map(drop)
}

// ---- 8. exec, wait, exit status, clean-up -------------------------------------------------------

/// The last line of the child: the command takes its place, and is PID 1.
fn execute(c: &Container, workdir: &OwnedFd) -> Result<Infallible> {
    section("8. exec, wait, exit status, clean-up");
    step(format_args!("cd {}", c.workdir.display()), || unistd::fchdir(workdir))?;
    if c.detach {
        let null = tried("open /dev/null", File::open("/dev/null"))?;
        step(format_args!("setsid <&- >&2"), || {
            unistd::setsid()?;
            unistd::dup2_stdin(null)?;
            unistd::dup2_stdout(io::stderr())
        })?;
    }
    // SAFETY: integers only. Nothing but 0, 1 and 2 survives exec.
    unsafe { syscall(SYS_close_range, 3, c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    let _ = SigSet::empty().thread_set_mask();
    let name = c.command[0].to_bytes();
    let path = c.env.iter().find_map(|pair| pair.to_bytes().strip_prefix(b"PATH="));
    let dirs = match name {
        _ if name.contains(&b'/') => vec![&b""[..]],
        _ => path.unwrap_or_default().split(|byte| *byte == b':').collect(),
    };
    let shown = c.command[0].to_string_lossy();
    narrate(format_args!("   {:6} exec {shown}", NARRATOR.get()));
    let mut failure = Error(127, format!("{shown}: not found"));
    for dir in dirs.into_iter().filter(|_| !name.is_empty()) {
        let file = Path::new(OsStr::from_bytes(dir)).join(OsStr::from_bytes(name));
        let Err(errno) = unistd::execve(&c_string(file.as_os_str()), &c.command, &c.env);
        match errno {
            Errno::ENOENT if file.exists() => {
                failure = Error(126, format!("{shown}: its interpreter is missing"));
            }
            Errno::ENOENT | Errno::ENOTDIR => {}
            _ => failure = Error(126, format!("{shown}: {errno}")),
        }
    }
    Err(failure)
}

/// What husk passes on to its container.
const FORWARDED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// What `wait` handles; SIGTTOU is blocked so that husk can take the terminal back.
fn handled_signals() -> SigSet {
    FORWARDED.into_iter().chain([Signal::SIGCHLD, Signal::SIGTTOU]).collect()
}

/// Waits for the child, passing signals on. As in a shell, 128+N is an end by signal N.
fn wait(pid: Pid, terminal: &Option<Termios>) -> Result<u8> {
    let signals = tried("signalfd", SignalFd::new(&handled_signals()))?;
    loop {
        let Some(info) = tried("read signals", signals.read_signal())? else { continue };
        let signal = tried("read signals", Signal::try_from(info.ssi_signo as c_int))?;
        // What the terminal sends (SI_KERNEL) it sends to the container itself.
        if FORWARDED.contains(&signal) && info.ssi_code != SI_KERNEL {
            let _ = kill(pid, signal);
        }
        let mut status = 0;
        let flags = WNOHANG | WUNTRACED;
        // SAFETY: waitpid writes one integer. (nix's knows no real-time signals.)
        if unsafe { libc::waitpid(pid.as_raw(), &mut status, flags) } <= 0 {
            continue;
        }
        if WIFEXITED(status) {
            return Ok(WEXITSTATUS(status) as u8);
        }
        if WIFSIGNALED(status) {
            return Ok(128 + WTERMSIG(status) as u8);
        }
        if let Some(saved) = terminal {
            // ^Z has stopped the job: husk stops too, and both go on after fg.
            take_back_terminal(saved);
            let _ = raise(Signal::SIGSTOP);
            hand_over_terminal(pid);
            let _ = killpg(pid, Signal::SIGCONT);
        }
    }
}

/// Makes the child the terminal's foreground job, as a shell would: ^C reaches the container only.
/// Not in a pipeline or the background, where the rest of husk's own group needs the terminal.
fn hand_over_terminal(pid: Pid) -> Option<Termios> {
    let (stdin, own) = (io::stdin(), unistd::getpgrp());
    let both = stdin.is_terminal() && io::stdout().is_terminal();
    if !both || unistd::tcgetpgrp(&stdin) != Ok(own) {
        return None;
    }
    let saved = tcgetattr(&stdin).ok()?;
    let _ = unistd::setpgid(pid, pid);
    let _ = unistd::tcsetpgrp(&stdin, pid);
    Some(saved)
}

/// The caller's terminal, if husk has one on 0, 1 or 2.
fn terminal() -> Option<String> {
    let are = [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    are.iter().position(|is| *is).map(|fd| format!("/proc/self/fd/{fd}"))
}

fn take_back_terminal(saved: &Termios) {
    let _ = unistd::tcsetpgrp(io::stdin(), unistd::getpgrp());
    let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, saved);
}

// ---- 9. coming back: exec, ps, stop -------------------------------------------------------------

/// A value in /proc/PID/status, proc_pid_status(5).
fn field<'a>(status: &'a str, key: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':');
    status.lines().find_map(value).unwrap_or_default().trim()
}

/// A container's PID 1, with its status. The pidfd comes first: as long as it is alive, what was
/// read under this number was not another process's that got the number after it.
fn first_process(dir: &Path) -> Option<(Pid, OwnedFd, String)> {
    let own = read("/proc/self/status").ok()?;
    let depth = field(&own, "NSpid").split_whitespace().count() + 1;
    let here = format!("/husk/{}", dir.file_name()?.to_str()?);
    let pids = read(dir.join("cgroup.procs")).ok()?;
    pids.lines().find_map(|line| {
        let pid: i32 = line.parse().ok()?;
        // SAFETY: integers only; the result is ours alone.
        let pidfd = unsafe { owned(syscall(SYS_pidfd_open, pid, 0)) }.ok()?;
        let status = read(format!("/proc/{pid}/status")).ok()?;
        let cgroup = read(format!("/proc/{pid}/cgroup")).ok()?;
        // A PID 1 of a namespace inside the container has more numbers.
        let ids: Vec<&str> = field(&status, "NSpid").split_whitespace().collect();
        let is_first = ids.len() == depth && ids.last() == Some(&"1");
        let is_here = cgroup.lines().any(|line| line.starts_with("0::") && line.ends_with(&here));
        (is_first && is_here && send_signal(&pidfd, 0).is_ok()).then_some((
            Pid::from_raw(pid),
            pidfd,
            status,
        ))
    })
}

fn send_signal(pidfd: &OwnedFd, signal: c_int) -> Result<(), Errno> {
    let none = ptr::null::<siginfo_t>();
    // SAFETY: a null siginfo is what kill(2) would send, pidfd_send_signal(2).
    Errno::result(unsafe { syscall(SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) })
        .map(drop)
}

const NAMESPACE_FILES: [(&str, CloneFlags); 6] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("net", CloneFlags::CLONE_NEWNET),
];

/// The container of that name, or the only one whose name begins like that.
fn find_container(husk: &Path, wanted: &OsStr) -> Result<PathBuf> {
    let begins = |dir: &PathBuf| {
        dir.file_name().is_some_and(|name| name.as_bytes().starts_with(wanted.as_bytes()))
    };
    let mut found: Vec<PathBuf> = containers(husk).into_iter().filter(begins).collect();
    found.sort(); // a whole name comes before those that it begins
    match &found[..] {
        [only] => Ok(only.clone()),
        [exact, ..] if exact.file_name() == Some(wanted) => Ok(exact.clone()),
        [] => Err(error(format!("{}: no such container", wanted.display()))),
        _ => Err(error(format!("{}: several containers begin so", wanted.display()))),
    }
}

/// `husk exec`: the same steps, but the namespaces are there already: setns(2) enters them.
fn exec_command(mut words: Words) -> Result<u8> {
    let mut c = Container::new();
    let (mut given_user, mut env) = (None, vec![]);
    while let Some(option) = words.option()? {
        match option.as_str() {
            "-e" | "--env" => env.push(words.value(ENV, pair)?),
            "-w" | "--workdir" => c.workdir = words.value(DIR, absolute)?,
            "-u" | "--user" => given_user = Some(words.value(USER, user)?),
            "-i" | "--interactive" | "-t" | "--tty" => {}
            "--help" => return print(HELP),
            _ => return Err(error(format!("unknown option {option}: see husk --help"))),
        }
    }
    let wanted = words.operand("exec needs a CONTAINER and a COMMAND")?;
    c.command = words.command();
    if c.command.is_empty() {
        return Err(error("exec needs a COMMAND"));
    }
    shield()?;
    let husk = husk_cgroup()?;
    sweep(&husk);
    let dir = find_container(&husk, &wanted)?;
    let gone = || error(format!("{}: not running", wanted.display()));
    let (pid, pidfd, status) = first_process(&dir).ok_or_else(gone)?;
    let number = |key, nth| field(&status, key).split_whitespace().nth(nth)?.parse().ok();
    c.user =
        given_user.or_else(|| Some((number("Uid", 1)?, number("Gid", 1)?))).ok_or_else(gone)?;
    c.capabilities = u64::from_str_radix(field(&status, "CapBnd"), 16).map_err(|_| gone())?;
    let variables = fs::read(format!("/proc/{pid}/environ")).map_err(|_| gone())?;
    let first = variables.split(|byte| *byte == 0).map(|pair| OsStr::from_bytes(pair).to_owned());
    first.chain(env).for_each(|pair| set_env(&mut c.env, &pair));
    let cgroup = File::open(&dir).map_err(|_| gone())?;
    // setns into a namespace where one is already can be refused: only the others.
    let link = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
    let differs =
        |(name, _): &&(&str, CloneFlags)| link("self", name) != link(&pid.to_string(), name);
    let namespaces = NAMESPACE_FILES.iter().filter(differs).map(|(_, flag)| *flag).collect();
    // Inside, nobody may trace husk or look through its /proc/PID until it has become the command
    // (CVE-2016-9962).
    step(format_args!("prctl PR_SET_DUMPABLE 0"), || prctl::set_dumpable(false))?;
    step(format_args!("nsenter --target {pid} --all"), || setns(&pidfd, namespaces))?;
    let child = spawn(CloneFlags::empty(), Some(&cgroup), |parent| {
        // Last, and in the child: seen from inside, husk's own cgroup does not exist.
        step(format_args!("nsenter --target {pid} --cgroup"), || {
            setns(&pidfd, CloneFlags::CLONE_NEWCGROUP)
        })?;
        let root = tried("open /", File::open("/"))?.into();
        let workdir = make_dir(&root, &c.workdir)?;
        wait_for_parent(parent)?;
        lock_down(&c, parent)?;
        execute(&c, &workdir)
    })?;
    supervise(child, false, |_| Ok(0))
}

/// `husk ps`: the youngest first.
fn ps_command(mut words: Words) -> Result<u8> {
    match words.option()?.as_deref() {
        None if words.words.is_empty() => {}
        Some("--help") => return print(HELP),
        _ => return Err(error("ps takes no arguments")),
    }
    let husk = husk_cgroup()?;
    sweep(&husk);
    let mut rows: Vec<(f64, [String; 6])> =
        containers(&husk).iter().filter_map(|dir| row(dir)).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let titles = ["CONTAINER", "PID", "ADDRESS", "MEMORY", "AGE", "COMMAND"].map(String::from);
    rows.insert(0, (0.0, titles));
    let width =
        |column: usize| rows.iter().map(|(_, row)| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for (_, row) in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text += &format!("{cell:width$}   ");
        }
        text += &format!("{}\n", row[5]);
    }
    print(&text)
}

/// A line of `husk ps`, and the age in seconds by which to sort it.
fn row(dir: &Path) -> Option<(f64, [String; 6])> {
    let (pid, ..) = first_process(dir)?;
    let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    // proc_pid_stat(5): field 22 is when it started, in ticks (100 a second) since boot. The second
    // field is a name in parentheses, which may hold anything.
    let stat = file("stat")?;
    let start: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let uptime: f64 = read("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
    let age = uptime - start / 100.0;
    let shown_age = match age as u64 {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    };
    let bytes = fs::read_to_string(dir.join("memory.current")).ok();
    let memory = bytes.and_then(|bytes| bytes.trim().parse().ok());
    let memory = memory.map_or("-".into(), |bytes: f64| format!("{:.1}M", bytes / 1048576.0));
    // The routing table lists each local address on the line before "/32 host LOCAL".
    let routes = file("net/fib_trie").unwrap_or_default();
    let address = routes.split("/32 host LOCAL").filter_map(|part| part.split_whitespace().last());
    let address =
        address.filter(|ip| ip.starts_with("10.77.") && *ip != "10.77.0.1").next().unwrap_or("-");
    let name = dir.file_name()?.to_string_lossy().into();
    let command = one_line(file("cmdline")?.trim_end_matches('\0').replace('\0', " ").as_str());
    Some((age, [name, pid.to_string(), address.into(), memory, shown_age, command]))
}

/// `husk stop`: SIGTERM to all of them, then wait for each, then SIGKILL.
fn stop_command(mut words: Words) -> Result<u8> {
    let mut seconds = 10;
    while let Some(option) = words.option()? {
        match option.as_str() {
            "-t" | "--time" => {
                seconds = words.value("a number of SECONDS", |v| v.to_str()?.parse().ok())?
            }
            "--help" => return print(HELP),
            _ => return Err(error(format!("unknown option {option}: see husk --help"))),
        }
    }
    let first = words.operand("stop needs a CONTAINER")?;
    words.words.push_front(first);
    let husk = husk_cgroup()?;
    sweep(&husk);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let found: Vec<Result<PathBuf>> =
        words.words.iter().map(|name| find_container(&husk, name)).collect();
    for dir in found.iter().flatten() {
        if let Some((_, pidfd, _)) = first_process(dir) {
            let _ = send_signal(&pidfd, SIGTERM);
        }
    }
    let mut missing = vec![];
    for container in found {
        match container {
            Ok(dir) => {
                while is_populated(&dir) && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(5));
                }
                remove_cgroup(&dir);
            }
            Err(Error(_, message)) => missing.push(message),
        }
    }
    if missing.is_empty() { Ok(0) } else { Err(error(missing.join("; "))) }
}
