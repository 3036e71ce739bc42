//! create, run and start: the parent's half, hand in hand with the child's in root.rs.

use super::delegate::delegate;
use super::namespaces::{MOUNT, Namespaces, USER};
use super::options::Given;
use super::plan::Plan;
use super::root::{self, Sources};
use super::spawn::{Beside, Child, launch};
use super::state::{Home, start_time};
use super::verbs::{end, remove};
use super::words::{tell, wait_for_exec, wait_for_word};
use super::{
    SPEC_VERSION, cgroup, config, device_rules, fail, hooks, idmap, is_nothing, limits, log,
    netdevices,
};
use crate::lockdown::KEPT;
use crate::step::{Result, attempt, step};
use crate::terminal::{LastWords, Outside};
use crate::{shield, sys};
use nix::unistd;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path;

/// `create`; and `run`, which is create and start in one.
pub fn create(mut home: Home, given: &Given) -> Result<u8> {
    let bundle = given.get("bundle").unwrap_or(".");
    let bundle = attempt(bundle, path::absolute(bundle))?;
    let (config, spec) = config::read_config(&bundle)?;
    if given.words[0] == "create" || !is_alone(&config) {
        shield::raise()?;
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
    hooks::check(&home.state["config"])?;
    let mut plan = Plan::new(home, spec, process, given)?;
    plan.scheduler_flags = config::scheduler_flags(&plan.home.state["config"]["process"]);
    plan.is_new = true;
    plan.namespaces = Namespaces::of(&plan.linux)?;
    if !plan.has(MOUNT) {
        plan.home.state["mountBefore"] = root::mount_number(plan.home.text("rootfs")).into();
    }
    plan.home.make()?;
    let outcome = create_in(&mut plan, given);
    if outcome.is_err() || (given.in_foreground() && !given.is("keep")) {
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
    if let Some(cgroup) = &cgroup {
        delegate(plan, cgroup)?;
    }
    plan.is_guarded = device_rules::guard(plan, cgroup.as_ref())?;
    if !is_run {
        let listener = UnixListener::bind(plan.home.start_path());
        plan.start = Some(step!(listener, "listen for start")?);
    }
    if unistd::geteuid().is_root() {
        plan.sources = Some(Sources::open(plan)?); // the child may not be allowed to
    }
    let (child, beside) = launch(plan, cgroup.as_ref(), given)?;
    (plan.sources, plan.agent) = (None, None); // the child's now
    plan.home.state["pid"] = child.pid.into();
    plan.home.state["startTime"] = start_time(child.pid).into();
    if plan.namespaces.new & USER != 0 {
        idmap::write(child.pid, plan.linux.uid_mappings(), plan.linux.gid_mappings())?;
        let _ = tell(&child.socket, "go on");
    }
    if plan.home.has_hooks() || plan.has_net_devices() {
        wait_for_word(&child.socket)?; // the root is made
        netdevices::move_in(plan, child.pid)?;
        hooks::run(&plan.home, "prestart", "creating", &[])?; // docker still uses these
        hooks::run(&plan.home, "createRuntime", "creating", &[])?;
        let _ = tell(&child.socket, "go on");
    }
    if is_run {
        return attend(plan, &child, beside, given);
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
    let is_kept = |name: &Value| KEPT.iter().any(|kept| *name == format!("CAP_{kept}"));
    list_at(config, "/process/capabilities/bounding").iter().all(is_kept)
}

fn list_at<'a>(config: &'a Value, place: &str) -> &'a [Value] {
    match config.pointer(place) {
        Some(Value::Array(list)) => list,
        _ => &[],
    }
}

/// Tells a child of our own to go on, which nobody else may enter before it is its command. In the
/// foreground husk stays beside it until it ends.
pub fn attend(plan: &Plan, child: &Child, beside: Beside, given: &Given) -> Result<u8> {
    let mut outcome = until_started(plan, child).map(|()| (0, LastWords::default()));
    if outcome.is_ok() && given.in_foreground() {
        outcome = wait(child.pid, beside);
    }
    let (status, last_words) = outcome.inspect_err(|_| kill(child))?;
    last_words.copy()?;
    Ok(status)
}

/// Where --console-socket has the terminal, only signals are left to us.
fn wait(pid: i32, beside: Beside) -> Result<(u8, LastWords)> {
    let outside = match beside.outside {
        Some(outside) => outside,
        None => Outside::without_streams()?,
    };
    crate::wait(pid, outside, beside.signals)
}

fn kill(child: &Child) {
    let _ = sys::kill(child.pid, libc::SIGKILL);
}

fn until_started(plan: &Plan, child: &Child) -> Result<()> {
    let home = &plan.home;
    if plan.is_new {
        home.publish()?; // whoever kills us later, it can be found
    }
    let _ = tell(&child.socket, "go on");
    wait_for_exec(&child.socket)?;
    if shield::is_husk(child.pid) {
        return fail("process.args: is husk itself");
    }
    home.unlock()?;
    if plan.is_new {
        hooks::run(home, "poststart", "running", &[])?;
    }
    Ok(())
}

pub fn start(home: Home, _: &Given) -> Result<u8> {
    let status = home.status();
    if status != "created" {
        return fail(format!("cannot start a container in the {status} state"));
    }
    let path = home.start_path();
    let child = step!(UnixStream::connect(&path), "connect {}", path.display())?;
    wait_for_exec(&child)?;
    step!(fs::remove_file(&path), "rm {}", path.display())?;
    home.unlock()?; // the hooks may enter it
    if let Err(why) = hooks::run(&home, "poststart", "running", &[]) {
        end(&home);
        return Err(why);
    }
    Ok(0)
}
