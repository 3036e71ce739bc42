//! create, run and start: the parent's half, hand in hand with the child's in root.rs.

use super::namespaces::{CGROUP, FOR_CHILDREN, Namespaces, PID, USER};
use super::options::Given;
use super::plan::Plan;
use super::root::Sources;
use super::state::{Home, start_time};
use super::verbs::remove;
use super::{SPEC_VERSION, cgroup, config, fail, hooks, idmap, is_nothing, limits, log, root};
use crate::{
    Cgroup, Child, Error, KEPT, Result, attempt, hand_over_terminal, handled_signals,
    is_husk_itself, say_step, shield, spawn, take_back_terminal, tell, wait,
};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::unistd;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path;

/// `create`; and `run`, which is create and start in one.
pub fn create(mut home: Home, given: &Given) -> Result<u8> {
    let bundle = given.get("bundle").unwrap_or(".");
    let bundle = attempt(bundle, path::absolute(bundle))?;
    let (config, spec) = config::read_config(&bundle)?;
    if given.words[0] == "create" || !is_alone(&config) {
        shield()?;
    }
    home.state = json!({
        "ociVersion": SPEC_VERSION,
        "id": given.words[1],
        "bundle": bundle,
        "rootfs": bundle.join(config["root"]["path"].as_str().unwrap_or_default()),
        "created": log::now(),
        "annotations": spec.annotations().clone().unwrap_or_default(),
        "config": config,
    });
    let process = spec.process().clone().unwrap_or_default();
    let mut plan = Plan::new(home, spec, process, given)?;
    plan.scheduler_flags = config::scheduler_flags(&plan.home.state["config"]["process"]);
    plan.namespaces = Namespaces::of(&plan.linux)?;
    plan.home.make()?;
    let outcome = create_in(&mut plan, given);
    if outcome.is_err() || given.in_foreground() {
        remove(&plan.home);
    }
    outcome
}

fn create_in(plan: &mut Plan, given: &Given) -> Result<u8> {
    let is_run = given.words[0] == "run";
    let limits = match plan.linux.resources() {
        Some(resources) => limits::limits(resources)?,
        None => vec![],
    };
    let cgroup = cgroup::make(&plan.home, plan.linux.cgroups_path(), &limits)?;
    plan.home.state["cgroup"] = json!(cgroup.as_ref().map(|cgroup| &cgroup.dir));
    if !is_run {
        let listener = UnixListener::bind(plan.home.start_path());
        plan.start = Some(step!(listener, "listen for start")?);
    }
    if unistd::geteuid().is_root() {
        plan.sources = Some(Sources::open(plan)?); // the child may not be allowed to
    }
    let child = launch(plan, cgroup.as_ref(), given)?;
    plan.sources = None;
    plan.home.state["pid"] = child.pid.as_raw().into();
    plan.home.state["startTime"] = start_time(child.pid.as_raw()).into();
    if plan.namespaces.new & USER != 0 {
        idmap::write(child.pid, plan.linux.uid_mappings(), plan.linux.gid_mappings())?;
        let _ = tell(&child.socket, &[0], "go on");
    }
    if plan.home.has_hooks() {
        wait_for_word(&child.socket)?; // the root is made
        hooks::run(&plan.home, "prestart", "creating")?; // deprecated, but docker still uses it
        hooks::run(&plan.home, "createRuntime", "creating")?;
        let _ = tell(&child.socket, &[0], "go on");
    }
    if is_run {
        return attend(plan, &child, given);
    }
    wait_for_word(&child.socket)?; // created
    plan.home.publish()?;
    plan.home.unlock()?;
    Ok(0)
}

/// Is there nobody in the container who could open husk by /proc/1/exe to change it later? Then
/// `run` need only see that its command is not husk. Else husk shields itself, see chapter 8.
fn is_alone(config: &Value) -> bool {
    if !cfg!(target_feature = "crt-static") || !is_nothing(&config["hooks"]["startContainer"]) {
        return false;
    }
    let is_new_pid = |it: &Value| it["type"] == "pid" && is_nothing(&it["path"]);
    if !list_at(config, "/linux/namespaces").iter().any(is_new_pid) {
        return false;
    }
    let is_kept = |name: &Value| KEPT.split(' ').any(|kept| *name == format!("CAP_{kept}"));
    list_at(config, "/process/capabilities/bounding").iter().all(is_kept)
}

fn list_at<'a>(config: &'a Value, place: &str) -> &'a [Value] {
    match config.pointer(place) {
        Some(Value::Array(list)) => list,
        _ => &[],
    }
}

/// Starts the child. The caller must be back in its own pid namespace before it starts anything
/// else.
pub fn launch(plan: &Plan, cgroup: Option<&Cgroup>, given: &Given) -> Result<Child> {
    let own = attempt("/proc/self/ns/pid", File::open("/proc/self/ns/pid"))?;
    let names = &plan.namespaces;
    // Whoever is in there already, or enters before husk has become the command, must not trace
    // it, or look into its /proc/PID (CVE-2016-9962). In a new user namespace it could not do so
    // itself.
    if names.new & USER == 0 || names.joined & PID != 0 {
        attempt("prctl PR_SET_DUMPABLE", prctl::set_dumpable(false))?;
    }
    names.join(FOR_CHILDREN)?;
    let _ = handled_signals().thread_block(); // else one could leave half a container behind
    let child = spawn(names.new & !CGROUP, cgroup, |parent| root::become_container(plan, parent))?;
    if plan.is_new() && names.joined & PID != 0 {
        step!(setns(own, CloneFlags::CLONE_NEWPID), "nsenter --pid (back)")?;
    }
    if let Some(path) = given.get("pid-file") {
        step!(fs::write(path, child.pid.to_string()), "echo {} > {path}", child.pid)?;
    }
    Ok(child)
}

/// Tells a child of our own to go on, which nobody else may enter before it is its command. In the
/// foreground the terminal is the child's from then on until it ends.
pub fn attend(plan: &Plan, child: &Child, given: &Given) -> Result<u8> {
    if !given.in_foreground() {
        return until_started(plan, child).map(|()| 0).inspect_err(|_| kill(child));
    }
    let terminal = hand_over_terminal(child.pid);
    let mut outcome = until_started(plan, child).map(|()| 0);
    if outcome.is_ok() {
        outcome = wait(child.pid, &terminal);
    }
    if let Some(saved) = &terminal {
        take_back_terminal(saved);
    }
    outcome.inspect_err(|_| kill(child))
}

fn kill(child: &Child) {
    let _ = signal::kill(child.pid, Signal::SIGKILL);
}

fn until_started(plan: &Plan, child: &Child) -> Result<()> {
    let home = &plan.home;
    if plan.is_new() {
        home.publish()?; // whoever kills us later, it can be found
    }
    let _ = tell(&child.socket, &[0], "go on");
    hear(&child.socket)?;
    if is_husk_itself(child.pid) {
        return fail("process.args: is husk itself");
    }
    home.unlock()?;
    if plan.is_new() {
        hooks::run(home, "poststart", "running")?;
    }
    Ok(())
}

/// Waits for one side's word to the other that it may go on. If that is gone, why comes from here.
pub fn wait_for_word(socket: &UnixStream) -> Result<()> {
    if hear(socket)? { Ok(()) } else { fail("the other side is gone") }
}

/// Anything but that word is the child's error; false is its end or its exec.
fn hear(mut socket: &UnixStream) -> Result<bool> {
    let mut word = [0];
    let is_there = socket.read_exact(&mut word).is_ok();
    if word == [0] {
        return Ok(is_there);
    }
    let mut why = vec![];
    let _ = socket.read_to_end(&mut why);
    Err(Error(word[0], String::from_utf8_lossy(&why).into()))
}

pub fn start(home: Home, _: &Given) -> Result<u8> {
    let status = home.status();
    if status != "created" {
        return fail(format!("cannot start a container in the {status} state"));
    }
    let path = home.start_path();
    let child = step!(UnixStream::connect(&path), "connect {}", path.display())?;
    hear(&child)?;
    step!(fs::remove_file(&path), "rm {}", path.display())?;
    home.unlock()?; // the hooks may enter it
    hooks::run(&home, "poststart", "running")?;
    Ok(0)
}
