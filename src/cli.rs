//! The command line becomes a `Container`; and the help text. docker's names, docker's habits.

mod docker;
mod limits;
mod values;
mod words;

use crate::caller::is_rootless;
use crate::containers::generate_name;
use crate::environment;
use crate::lockdown::{ALL, capability, kept};
use crate::mounts::{self, Source, Volume};
use crate::paths::c_string;
use crate::step::{Result, attempt, error, narrate_as};
use crate::{Container, NAMESPACES, terminal};
use std::collections::VecDeque;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use values::{name, signal, user, volume};
use words::Line;

pub const HELP: &str = "\
husk run [OPTIONS] ROOTFS [COMMAND [ARG]...]    start a container; COMMAND is /bin/sh if not given
husk exec [OPTIONS] CONTAINER COMMAND [ARG]...  run a command in a running one
husk ps [OPTIONS]                               list the running ones
husk stop [OPTIONS] CONTAINER...                SIGTERM, and SIGKILL after 10 seconds
husk kill [OPTIONS] CONTAINER...                a signal: SIGKILL, if no other is given

run       --name NAME (letters, digits, _.-)  -h --hostname NAME  --rm (always so)
run       -d --detach  --log FILE (where the output of a detached one goes)
run       -v --volume SRC:DST[:ro]  --read-only  --writable (changes go to ROOTFS itself)
run       --tmpfs DIR[:size=SIZE,mode=OCTAL,uid=N,gid=N,exec,ro]  --shm-size SIZE (64m)
run       --device SRC[:DST][:rwm] (a device of the host's, or a directory of them)
run       -m --memory SIZE (64m)  --cpus NUMBER (0.5)  --pids-limit NUMBER  --cgroup FILE=VALUE
run       --storage-opt size=SIZE (of its changes; by default a fifth of the machine's memory)
run       --ulimit NAME=SOFT[:HARD]  --sysctl NAME=VALUE  --cpuset-cpus LIST  --cpuset-mems LIST
run       --network MODE (bridge, none, host or container:NAME)
run       -p --publish [IP:]PORT:PORT[/udp]  --add-host NAME:IP
run       --dns IP  --dns-search DOMAIN  --dns-option OPTION
run       --cap-add NAME (or ALL)  --cap-drop NAME (or ALL)  --group-add GROUP
run       --init (PID 1 is husk's)  --entrypoint COMMAND  --stop-signal SIGNAL  --env-file FILE
run exec  -e --env KEY=VALUE (or KEY, for the caller's value)  -w --workdir DIR
run exec  -u --user USER[:GROUP]  --explain (say each step)  -i --interactive  -t --tty[=false]
ps        -q --quiet (only the names)
stop      -t --time SECONDS
stop kill -s --signal SIGNAL (INT, SIGINT or 2)

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
    Ps { names_only: bool },
    Stop(Stop),
    Kill(Kill),
}

/// Containers to stop: how many seconds each has for that, and the signal that asks for it, if it
/// is not the container's own.
pub struct Stop {
    pub names: Vec<OsString>,
    pub time: u32,
    pub signal: Option<i32>,
}

/// Containers that get a signal.
pub struct Kill {
    pub names: Vec<OsString>,
    pub signal: i32,
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
        "kill" => parse_kill(line),
        _ => Err(docker::refuse_verb(verb)),
    }
}

// ---- run ----------------------------------------------------------------------------------------

/// What options have said that has to wait for the last of them.
#[derive(Default)]
pub struct Asked {
    added: u64,
    dropped: u64,
    pub groups: Vec<String>,
    pub file_env: Vec<CString>,
    pub entrypoint: Option<CString>,
}

/// What the command line has left open is as docker has it.
fn parse_run(mut line: Line) -> Result<Command> {
    let mut c = Container {
        name: generate_name(),
        namespaces: NAMESPACES,
        bridge: !is_rootless(),
        workdir: "/".into(),
        stop_signal: libc::SIGTERM,
        ..Container::default()
    };
    let mut asked = Asked::default();
    while line.next() {
        run_option(&mut c, &mut asked, &mut line)?;
    }
    let rootfs = line.words.pop_front().ok_or_else(|| error("run: expected a ROOTFS"))?;
    c.rootfs = open_rootfs(&rootfs)?;
    if c.terminal.log.is_some() && !c.terminal.detach {
        return Err(error("--log: expected --detach, too"));
    }
    if c.writable && c.read_only {
        return Err(error("--read-only and --writable: expected one of them"));
    }
    c.command = asked.entrypoint.take().into_iter().collect();
    c.command.extend(line.words.into_iter().map(c_string));
    if c.command.is_empty() {
        c.command.push(c"/bin/sh".into());
    }
    if c.hostname.is_empty() {
        c.hostname = c.name.clone();
    }
    if is_rootless() {
        c.namespaces |= libc::CLONE_NEWUSER;
    }
    c.capabilities = capabilities(&asked);
    let own = environment::defaults(&c.hostname, term(&c).as_deref());
    let from_files = environment::merge(own, asked.file_env);
    c.env = environment::merge(from_files, c.env);
    for group in asked.groups {
        c.user.push_str(&format!(",{group}"));
    }
    docker::check(&c)?;
    Ok(Command::Run(Box::new(c)))
}

/// The caller's TERM, where the container has a terminal.
fn term(c: &Container) -> Option<OsString> {
    if terminal::has_pty(&c.terminal) { env::var_os("TERM") } else { None }
}

fn open_rootfs(rootfs: &OsStr) -> Result<PathBuf> {
    let shown = format!("ROOTFS {}", rootfs.display());
    let path = attempt(&shown, fs::canonicalize(rootfs))?;
    let mut entries = attempt(&shown, fs::read_dir(&path))?;
    if entries.next().is_none() {
        return Err(error(format!("{shown} is empty: rootfs-scripts/ has ways to fill one")));
    }
    // These a user can't take away, and the kernel shows nobody what is below them.
    let mounted = if is_rootless() { mounts::first_below(&path) } else { None };
    if let Some(point) = mounted {
        let why = "a user's ROOTFS must be without mounts; copy it, or be root";
        return Err(error(format!("{shown}: {} is mounted in it: {why}", point.display())));
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
            c.terminal.detach = true;
        }
        "--log" => c.terminal.log = Some(line.value("FILE")?.into()),
        "--rm" => line.flag()?, // always so
        "-v" | "--volume" => {
            let value = line.value("SRC:DST[:ro]")?;
            let volume = volume(&value).map_err(|expected| line.bad(&value, expected))?;
            add_volume(c, line, &value, volume)?;
        }
        "--device" => docker::device_option(c, line)?,
        "--read-only" => {
            line.flag()?;
            c.read_only = true;
        }
        "--writable" => {
            line.flag()?;
            c.writable = true;
        }
        "--network" => network(c, line)?,
        "--cap-add" => asked.added |= line.read("NAME (or ALL)", capability)?,
        "--cap-drop" => asked.dropped |= line.read("NAME (or ALL)", capability)?,
        _ => limits::option(c, asked, line)?,
    }
    Ok(())
}

/// What is to be mounted must be there, and nothing else in its place.
pub fn add_volume(c: &mut Container, line: &Line, value: &OsStr, volume: Volume) -> Result<()> {
    if c.volumes.iter().any(|other| other.target == volume.target) {
        let taken = format!("another DST, for {} is taken", volume.target.display());
        return Err(line.bad(value, &taken));
    }
    if let Source::Host(source) = &volume.source {
        match fs::metadata(source) {
            Err(why) if why.kind() == ErrorKind::NotFound => {
                return Err(line.bad(value, "a SRC that exists on the host"));
            }
            meta => attempt(format_args!("{} {}", line.option, value.display()), meta)?,
        };
    }
    c.volumes.push(volume);
    Ok(())
}

/// Those of run and exec.
pub fn process_option(c: &mut Container, line: &mut Line) -> Result<()> {
    match line.option.as_str() {
        "-e" | "--env" => env_option(c, line)?,
        "-w" | "--workdir" => {
            let dir = line.value("DIR")?;
            if !Path::new(&dir).is_absolute() {
                return Err(line.bad(&dir, "DIR, an absolute path"));
            }
            c.workdir = dir.into();
        }
        "-u" | "--user" => c.user = line.read("USER[:GROUP]", user)?,
        "--explain" => {
            line.flag()?;
            narrate_as("parent");
        }
        "-i" | "--interactive" => {
            line.flag()?;
            c.terminal.interactive = true;
        }
        "-t" | "--tty" => c.terminal.tty = Some(line.switch()?),
        _ => return Err(docker::refuse_option(line)),
    }
    Ok(())
}

fn network(c: &mut Container, line: &mut Line) -> Result<()> {
    let expected = "MODE (bridge, none, host or container:NAME)";
    let mode = line.value(expected)?;
    c.bridge = mode == "bridge";
    c.network_of = None;
    c.namespaces |= libc::CLONE_NEWNET;
    match mode.to_str().unwrap_or_default() {
        "bridge" if is_rootless() => return Err(error("--network bridge: needs root")),
        "bridge" | "none" => {}
        "host" => c.namespaces &= !libc::CLONE_NEWNET,
        text => {
            let other = text.strip_prefix("container:").filter(|name| !name.is_empty());
            c.network_of = Some(other.ok_or_else(|| line.bad(&mode, expected))?.into());
            c.namespaces &= !libc::CLONE_NEWNET;
        }
    }
    Ok(())
}

const PAIR: &str = "KEY=VALUE (or KEY, for the caller's value)";

fn env_option(c: &mut Container, line: &mut Line) -> Result<()> {
    let text = line.value(PAIR)?;
    c.env.extend(variable(&text).map_err(|expected| line.bad(&text, expected))?);
    Ok(())
}

/// A variable; None if it is to have the caller's value, and the caller has none.
pub fn variable(text: &OsStr) -> Result<Option<CString>, &'static str> {
    match text.as_bytes() {
        [] | [b'=', ..] => return Err(PAIR),
        bytes if bytes.contains(&b'=') => return Ok(Some(c_string(text))),
        _ => {}
    }
    let Some(value) = env::var_os(text) else { return Ok(None) };
    Ok(Some(c_string([text, &value].join(OsStr::new("=")))))
}

// ---- exec, ps, stop, kill -----------------------------------------------------------------------

fn parse_exec(mut line: Line) -> Result<Command> {
    let mut c = Container::default();
    while line.next() {
        process_option(&mut c, &mut line)?;
    }
    if line.words.len() < 2 {
        return Err(error("exec: expected a CONTAINER and a COMMAND"));
    }
    if let Some(term) = term(&c) {
        c.env.insert(0, c_string([OsStr::new("TERM="), &term].join(OsStr::new(""))));
    }
    c.name = line.words.pop_front().unwrap_or_default().to_string_lossy().into();
    c.command = line.words.into_iter().map(c_string).collect();
    Ok(Command::Exec(Box::new(c)))
}

fn parse_ps(mut line: Line) -> Result<Command> {
    let mut names_only = false;
    while line.next() {
        match line.option.as_str() {
            "-q" | "--quiet" => {
                line.flag()?;
                names_only = true;
            }
            _ => return Err(docker::refuse_option(&line)),
        }
    }
    if !line.words.is_empty() {
        return Err(error("ps takes no arguments"));
    }
    Ok(Command::Ps { names_only })
}

const SIGNAL: &str = "SIGNAL (INT, SIGINT or 2)";

fn parse_stop(mut line: Line) -> Result<Command> {
    let mut stop = Stop { names: vec![], time: 10, signal: None };
    while line.next() {
        match line.option.as_str() {
            "-t" | "--time" => stop.time = line.read("SECONDS", |text| text.parse().ok())?,
            "-s" | "--signal" => stop.signal = Some(line.read(SIGNAL, signal)?),
            _ => return Err(docker::refuse_option(&line)),
        }
    }
    if line.words.is_empty() {
        return Err(error("stop: expected a CONTAINER"));
    }
    stop.names = line.words.into();
    Ok(Command::Stop(stop))
}

fn parse_kill(mut line: Line) -> Result<Command> {
    let mut kill = Kill { names: vec![], signal: libc::SIGKILL };
    while line.next() {
        match line.option.as_str() {
            "-s" | "--signal" => kill.signal = line.read(SIGNAL, signal)?,
            _ => return Err(docker::refuse_option(&line)),
        }
    }
    if line.words.is_empty() {
        return Err(error("kill: expected a CONTAINER"));
    }
    kill.names = line.words.into();
    Ok(Command::Kill(kill))
}
