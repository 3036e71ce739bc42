//! The command line becomes a `Container`; and the help text. docker's names, docker's habits.

use crate::caller::is_rootless;
use crate::containers::random;
use crate::devices;
use crate::environment;
use crate::lockdown::{ALL, capability, kept};
use crate::paths::c_string;
use crate::step::{Result, attempt, error, narrate_as};
use crate::values::{cpu_time, device, limit, name, size, storage, user, volume};
use crate::words::Line;
use crate::{Container, NAMESPACES, terminal};
use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub const HELP: &str = "\
husk run [OPTIONS] ROOTFS [COMMAND [ARG]...]    start a container; COMMAND is /bin/sh if not given
husk exec [OPTIONS] CONTAINER COMMAND [ARG]...  run a command in a running one
husk ps                                         list the running ones
husk stop [OPTIONS] CONTAINER...                SIGTERM, and SIGKILL after 10 seconds

run       --name NAME (letters, digits, _.-)  -h --hostname NAME  -d --detach  --rm (always so)
run       -v --volume SRC:DST[:ro]  --read-only  --writable (changes go to ROOTFS itself)
run       --device SRC[:DST][:rwm] (a device of the host's, or a directory of them)
run       -m --memory SIZE (64m)  --cpus NUMBER (0.5)  --pids-limit NUMBER  --cgroup FILE=VALUE
run       --storage-opt size=SIZE (of its changes; by default a fifth of the machine's memory)
run       --network MODE (bridge, none or host)  --cap-add NAME (or ALL)  --cap-drop NAME (or ALL)
run exec  -e --env KEY=VALUE (or KEY, for the caller's value)  -w --workdir DIR
run exec  -u --user UID[:GID]  --explain (say each step)  -i --interactive  -t --tty (always so)
stop      -t --time SECONDS

For example: husk run --memory 64m --volume $PWD:/work --workdir /work rootfs ls

Exit status: the command's; 128+N if signal N killed it; 125 husk failed; 126 the command can't
be run; 127 it was not found. As an ordinary user the same commands work rootless.
";

pub const VERSION: &str = concat!("husk ", env!("CARGO_PKG_VERSION"), "\n");

/// What the command line asks for.
pub enum Command {
    Print(&'static str),
    Run(Box<Container>),
    Exec(Box<Container>),
    Ps,
    Stop(Stop),
}

/// Containers to stop, and how many seconds each has for that.
pub struct Stop {
    pub names: Vec<OsString>,
    pub time: u32,
}

/// Reads the words after the program's name.
pub fn parse(mut words: VecDeque<OsString>) -> Result<Command> {
    let verb = words.pop_front().unwrap_or_default();
    let verb = verb.to_str().unwrap_or_default();
    let first = words.front().and_then(|word| word.to_str());
    match (verb, first) {
        ("help" | "--help" | "-h", _) | (_, Some("--help")) => return Ok(Command::Print(HELP)),
        ("--version", _) | (_, Some("--version")) => return Ok(Command::Print(VERSION)),
        _ => {}
    }
    let line = Line::new(words);
    match verb {
        "run" => parse_run(line),
        "exec" => parse_exec(line),
        "ps" => parse_ps(line),
        "stop" => parse_stop(line),
        _ => Err(error("expected run, exec, ps or stop: see husk --help")),
    }
}

// ---- run ----------------------------------------------------------------------------------------

/// What options have said of capabilities.
#[derive(Default)]
struct Asked {
    added: u64,
    dropped: u64,
}

/// What the command line has left open is as docker has it.
fn parse_run(mut line: Line) -> Result<Command> {
    let mut c = Container {
        // It begins with a letter: a host name of digits alone would be taken for an address.
        name: format!("{:08x}", random() | 0xa000_0000),
        namespaces: NAMESPACES,
        bridge: !is_rootless(),
        workdir: "/".into(),
        ..Container::default()
    };
    let mut asked = Asked::default();
    while line.next() {
        run_option(&mut c, &mut asked, &mut line)?;
    }
    let rootfs = line.words.pop_front().ok_or_else(|| error("run: expected a ROOTFS"))?;
    c.rootfs = open_rootfs(&rootfs)?;
    if c.writable && c.read_only {
        return Err(error("--read-only and --writable: expected one of them"));
    }
    c.command = line.words.into_iter().map(c_string).collect();
    if c.command.is_empty() {
        c.command.push(c"/bin/sh".into());
    }
    if c.hostname.is_empty() {
        c.hostname = c.name.clone();
    }
    if is_rootless() {
        c.namespaces |= libc::CLONE_NEWUSER;
    }
    c.volumes.sort_by_key(|volume| volume.target.components().count()); // /a before /a/b
    c.capabilities = capabilities(&asked);
    let term = terminal::name().and_then(|_| env::var_os("TERM"));
    let own = environment::defaults(&c.hostname, c.user, term.as_deref());
    c.env = environment::merge(own, c.env);
    Ok(Command::Run(Box::new(c)))
}

fn open_rootfs(rootfs: &OsStr) -> Result<PathBuf> {
    let shown = format!("ROOTFS {}", rootfs.display());
    let path = attempt(&shown, fs::canonicalize(rootfs))?;
    let mut entries = attempt(&shown, fs::read_dir(&path))?;
    if entries.next().is_none() {
        return Err(error(format!("{shown} is empty: rootfs-scripts/ has ways to fill one")));
    }
    Ok(path)
}

/// ALL comes first, names are exceptions from it, in whatever order they are given.
fn capabilities(asked: &Asked) -> u64 {
    let kept = kept();
    let before = match (asked.added & ALL, asked.dropped & ALL) {
        (ALL, _) => u64::MAX, // --cap-add ALL --cap-drop KILL: all but KILL
        (_, ALL) => 0,        // --cap-drop ALL --cap-add KILL: KILL alone
        _ => kept,
    };
    asked.added | (before & !asked.dropped)
}

fn run_option(c: &mut Container, asked: &mut Asked, line: &mut Line) -> Result<()> {
    match line.option.as_str() {
        "--name" => c.name = line.read("NAME (letters, digits, _.-)", name)?,
        "-h" | "--hostname" => c.hostname = line.read("NAME (letters, digits, _.-)", name)?,
        "-d" | "--detach" => {
            line.flag()?;
            c.detach = true;
        }
        "--rm" => line.flag()?, // always so
        "-v" | "--volume" => {
            let value = line.value("SRC:DST[:ro]")?;
            let bad = || line.bad(&value, "SRC:DST[:ro]");
            c.volumes.push(volume(&value).ok_or_else(bad)?);
        }
        "--device" => device_option(c, line)?,
        "--read-only" => {
            line.flag()?;
            c.read_only = true;
        }
        "--writable" => {
            line.flag()?;
            c.writable = true;
        }
        "-m" | "--memory" => {
            let size = line.read("SIZE (64m)", size)?;
            c.limits.push(("memory.max".into(), size.clone()));
            c.memory = Some(size);
        }
        "--storage-opt" => c.storage = Some(line.read("size=SIZE (size=2g)", storage)?),
        "--cpus" => c.limits.push(("cpu.max".into(), line.read("NUMBER (0.5)", cpu_time)?)),
        "--pids-limit" => {
            let most = line.read("NUMBER", |text| text.parse::<NonZero<u32>>().ok())?;
            c.limits.push(("pids.max".into(), most.to_string()));
        }
        "--cgroup" => {
            let (file, value) = line.read("FILE=VALUE", limit)?;
            if file == "memory.max" {
                c.memory = size(&value);
            }
            c.limits.push((file, value));
        }
        "--network" => network(c, line)?,
        "--cap-add" => asked.added |= line.read("NAME (or ALL)", capability)?,
        "--cap-drop" => asked.dropped |= line.read("NAME (or ALL)", capability)?,
        _ => process_option(c, line)?,
    }
    Ok(())
}

/// Those of run and exec.
fn process_option(c: &mut Container, line: &mut Line) -> Result<()> {
    match line.option.as_str() {
        "-e" | "--env" => env_option(c, line)?,
        "-w" | "--workdir" => {
            let dir = line.value("DIR")?;
            if !Path::new(&dir).is_absolute() {
                return Err(line.bad(&dir, "DIR, an absolute path"));
            }
            c.workdir = dir.into();
        }
        "-u" | "--user" => c.user = Some(line.read("UID[:GID]", user)?),
        "--explain" => {
            line.flag()?;
            narrate_as("parent");
        }
        "-i" | "--interactive" | "-t" | "--tty" => line.flag()?, // always so
        _ => return Err(line.unknown()),
    }
    Ok(())
}

fn network(c: &mut Container, line: &mut Line) -> Result<()> {
    let mode = line.value("MODE (bridge, none or host)")?;
    c.bridge = mode == "bridge";
    c.namespaces |= libc::CLONE_NEWNET;
    match mode.to_str() {
        Some("bridge") if is_rootless() => Err(error("--network bridge: needs root")),
        Some("bridge" | "none") => Ok(()),
        Some("host") => {
            c.namespaces &= !libc::CLONE_NEWNET;
            Ok(())
        }
        _ => Err(line.bad(&mode, "MODE (bridge, none or host)")),
    }
}

fn device_option(c: &mut Container, line: &mut Line) -> Result<()> {
    let (source, target, access) = line.read("SRC[:DST][:rwm], absolute paths", device)?;
    if is_rootless() && access != devices::ALL {
        return Err(error("--device: letters other than rwm need root"));
    }
    c.devices.extend(devices::find(&source, &target, access)?);
    Ok(())
}

fn env_option(c: &mut Container, line: &mut Line) -> Result<()> {
    let expected = "KEY=VALUE (or KEY, for the caller's value)";
    let pair = line.value(expected)?;
    match pair.as_bytes() {
        [] | [b'=', ..] => return Err(line.bad(&pair, expected)),
        bytes if bytes.contains(&b'=') => c.env.push(c_string(&pair)),
        _ => {
            // It stays unset where the caller has none.
            if let Some(value) = env::var_os(&pair) {
                c.env.push(c_string([pair.as_os_str(), &value].join(OsStr::new("="))));
            }
        }
    }
    Ok(())
}

// ---- exec, ps, stop -----------------------------------------------------------------------------

fn parse_exec(mut line: Line) -> Result<Command> {
    let mut c = Container { workdir: "/".into(), ..Container::default() };
    while line.next() {
        process_option(&mut c, &mut line)?;
    }
    if line.words.len() < 2 {
        return Err(error("exec: expected a CONTAINER and a COMMAND"));
    }
    c.name = line.words.pop_front().unwrap_or_default().to_string_lossy().into();
    c.command = line.words.into_iter().map(c_string).collect();
    Ok(Command::Exec(Box::new(c)))
}

fn parse_ps(mut line: Line) -> Result<Command> {
    if line.next() {
        return Err(line.unknown());
    }
    if !line.words.is_empty() {
        return Err(error("ps takes no arguments"));
    }
    Ok(Command::Ps)
}

fn parse_stop(mut line: Line) -> Result<Command> {
    let mut time = 10;
    while line.next() {
        match line.option.as_str() {
            "-t" | "--time" => time = line.read("SECONDS", |text| text.parse().ok())?,
            _ => return Err(line.unknown()),
        }
    }
    if line.words.is_empty() {
        return Err(error("stop: expected a CONTAINER"));
    }
    Ok(Command::Stop(Stop { names: line.words.into(), time }))
}
