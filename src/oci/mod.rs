//! The appendix: husk as docker, podman and Kubernetes start it. What they add to a container is a
//! JSON file (config.json, in a "bundle" beside the root file system) and verbs that start and end
//! it step by step: the runtime-spec of the Open Container Initiative. Built with the feature `oci`
//! and called as husk-oci, the program does exactly what that file says, by the walk's functions.

mod cgroup; // the container's cgroup, and how limits get into it
mod child; // the child's story
mod config; // config.json: reading it, and what is refused
mod copy_up; // tmpcopyup
mod create; // create, run and start: the parent's half
mod delegate; // the cgroup as its user's
mod device_rules; // which devices may be used
mod devices; // device nodes, and which are open
mod events; // what a container uses
mod exec; // one more process in a container that runs
mod features; // what this runtime can do
mod help; // what --help shows
mod hooks; // other people's programs, at given moments
mod idmap; // mappings of user and group ids
mod inside; // paths of the root file system, which nothing leads out of
mod io_limits; // those of devices
mod limits; // linux.resources, as files of cgroup 2
mod log; // messages for whoever has called us
mod mount_options; // their options
mod mounts; // the list of mounts
mod names; // host name, domain name, sysctls
mod namespaces; // which to make, which to join
mod netdevices; // interfaces that move into the container
mod notify; // the filter's installation, and its agent
mod options; // the command line
mod plan; // what parent and child know of the process that they start
mod process; // the child's last steps, to the exec
mod rights; // ids, capabilities, rlimits
mod root; // the root file system
mod route; // messages to the kernel's network
mod scheduling; // scheduler, priorities, CPUs, memory nodes
mod seccomp; // linux.seccomp as a program for the kernel
mod spawn; // the child's start
mod state; // what is known of a container
mod stdio; // a process's input and output
mod tables; // list and ps
mod terminal; // process.terminal
mod time; // time namespaces
mod update; // other limits
mod verbs; // kill, delete, pause and the like
mod words; // what parent and child say to each other

use crate::caller::is_rootless;
use crate::step::{Error, Result, error, print};
use crate::sys::calls;
use nix::unistd;
use options::Given;
use serde_json::Value;
use state::Home;
use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// How long something may take that the kernel does at once, as a rule.
const PATIENCE: Duration = Duration::from_secs(10);

/// The newest runtime-spec that all of this follows.
const SPEC_VERSION: &str = "1.3.0";

struct Verb {
    name: &'static str,
    /// The words behind it. What must be there already is CONTAINER, and a new one is an ID.
    words: &'static str,
    about: &'static str,
    act: fn(Home, &Given) -> Result<u8>,
}

const fn verb(
    name: &'static str,
    words: &'static str,
    about: &'static str,
    act: fn(Home, &Given) -> Result<u8>,
) -> Verb {
    Verb { name, words, about, act }
}

const VERBS: [Verb; 15] = [
    verb("spec", "", "Writes a config.json to begin with.", verbs::spec),
    verb("create", "ID", "Makes a container, whose process waits for start.", create::create),
    verb("start", "CONTAINER", "Lets its process go on.", create::start),
    verb("run", "ID", "Creates, starts, waits and deletes.", create::create),
    verb("state", "CONTAINER", "Shows its state as JSON.", verbs::state),
    verb("kill", "CONTAINER [SIGNAL]", "Sends a signal, TERM by default.", verbs::kill),
    verb("delete", "CONTAINER", "Removes what has ended or never begun.", verbs::delete),
    verb("exec", "CONTAINER [COMMAND...]", "Runs one more process in it.", exec::exec),
    verb("ps", "CONTAINER [WORD...]", "Shows its processes; WORDs are for ps.", tables::ps),
    verb("list", "", "Shows all containers below --root.", tables::list),
    verb("pause", "CONTAINER", "Stops all its processes.", verbs::pause),
    verb("resume", "CONTAINER", "Lets them go on.", verbs::resume),
    verb("update", "CONTAINER", "Changes its limits.", update::update),
    verb("events", "CONTAINER", "Shows what it uses as JSON, again and again.", events::events),
    verb("features", "", "Shows what this runtime can do as JSON.", features::features),
];

fn fail<T>(why: impl Display) -> Result<T> {
    Err(error(why))
}

fn show(json: &Value) -> Result<u8> {
    print(&format!("{json:#}\n"))?;
    Ok(0)
}

/// Absent, or what means the same.
fn is_nothing(value: &Value) -> bool {
    let text = value.to_string();
    ["null", "false", "0", "-1", "\"\"", "[]", "{}"].contains(&text.as_str())
}

fn list_of<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// By the name that makes this program an OCI runtime?
pub fn is_called() -> bool {
    let name = env::args_os().next().unwrap_or_default();
    name.as_encoded_bytes().ends_with(b"husk-oci")
}

pub fn main() -> u8 {
    match command() {
        Ok(status) => status,
        Err(Error { why, .. }) => {
            log::write("error", &why);
            let line = format!("error: {}\n", why.replace(char::is_control, "?"));
            let _ = io::stderr().write_all(line.as_bytes());
            1
        }
    }
}

fn command() -> Result<u8> {
    let given = Given::take(lexopt::Parser::from_env())?;
    state::set_root(state_directory(&given));
    log::open(&given)?;
    if given.is("version") {
        let version = env!("CARGO_PKG_VERSION");
        print(&format!("husk-oci version {version}\nspec: {SPEC_VERSION}\n"))?;
        return Ok(0);
    }
    if given.is("help") || given.verb() == "help" {
        print(&help::of(given.verb()))?;
        return Ok(0);
    }
    refuse(&given)?;
    // See `create::is_alone`: this would be the host's own file.
    if unistd::getpid().as_raw() == 1 {
        return fail("can't be a container's first process");
    }
    let name = given.verb();
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        return fail(format!("{name:?}: unknown verb: see husk-oci --help"));
    };
    check_count(verb, given.words.len() - 1)?;
    if name == "delete" && given.is("regex") {
        return verbs::delete_all_like(&given);
    }
    let Some(id) = given.words.get(1) else { return (verb.act)(Home::default(), &given) };
    let home = Home::open(id, ["start", "delete"].contains(&name))?;
    if home.state.is_null() && verb.words.contains("CONTAINER") && !given.is("force") {
        return fail(format!("container does not exist: {id}"));
    }
    (verb.act)(home, &given)
}

fn check_count(verb: &Verb, count: usize) -> Result<()> {
    let words: Vec<&str> = verb.words.split_whitespace().collect();
    let least = words.iter().filter(|word| !word.starts_with('[')).count();
    let is_open = verb.words.contains("...");
    if count < least || (count > words.len() && !is_open) {
        return fail(format!("expected {} {}", verb.name, verb.words));
    }
    Ok(())
}

fn state_directory(given: &Given) -> PathBuf {
    if let Some(path) = given.get("root") {
        return path.into();
    }
    if !is_rootless() {
        return "/run/husk".into();
    }
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) => PathBuf::from(dir).join("husk"),
        None => format!("/tmp/husk-{}/husk", unistd::geteuid()).into(),
    }
}

/// What is known, but would be something else than its caller thinks.
fn refuse(given: &Given) -> Result<()> {
    if given.is("systemd-cgroup") {
        return fail(
            "--systemd-cgroup: systemd is not asked for cgroups: set the engine's cgroup manager \
             to cgroupfs (podman --cgroup-manager cgroupfs, dockerd --exec-opt \
             native.cgroupdriver=cgroupfs, SystemdCgroup = false for containerd)",
        );
    }
    if given.is("no-pivot") {
        return fail("--no-pivot: a container could leave a chroot");
    }
    Ok(())
}
