//! exec: the same steps, but the namespaces are there already.

use super::cgroup::{self, Cgroup};
use super::config::{read_json, scheduler_flags};
use super::create::attend;
use super::namespaces::Namespaces;
use super::options::Given;
use super::plan::Plan;
use super::spawn::launch;
use super::state::Home;
use super::{fail, scheduling};
use crate::shield;
use crate::step::{Result, error};
use oci_spec::runtime::{Capabilities, Capability, Process, Spec};
use serde::Deserialize;
use serde_json::json;
use std::fs::File;
use std::path::Path;

pub fn exec(home: Home, given: &Given) -> Result<u8> {
    shield::raise()?;
    let is_locked = match File::open(&home.path) {
        Ok(file) => file.try_lock_shared().is_err(),
        Err(_) => true,
    };
    if is_locked {
        return fail("the container is being started or deleted");
    }
    let status = home.status();
    if status != "running" && !(status == "paused" && given.is("ignore-paused")) {
        return fail(format!("cannot exec in a {status} container"));
    }
    let Some((pid, pidfd)) = home.first() else { return fail("container not running") };
    let spec = Spec::deserialize(&home.state["config"]).map_err(error)?;
    let (json, process) = match given.get("process") {
        Some("-") => read_json("/proc/self/fd/0")?,
        Some(path) => read_json(path)?,
        None => {
            let process = spec.process().clone().unwrap_or_default();
            (home.state["config"]["process"].clone(), by_options(process, given)?)
        }
    };
    let cgroup = cgroup_for(&home, given)?;
    let mut plan = Plan::new(home, spec, process, given)?;
    plan.namespaces = Namespaces::of_process(&plan.linux, pid.as_raw(), pidfd);
    plan.scheduler_flags = scheduler_flags(&json);
    if let Some(affinity) = plan.process.exec_cpu_affinity() {
        let list = affinity.initial().as_deref();
        scheduling::set_affinity("process.execCPUAffinity.initial", list)?;
    }
    let (child, beside) = launch(&mut plan, cgroup.as_ref(), given)?;
    plan.agent = None; // the child's now
    attend(&plan, &child, beside, given)
}

/// The container's own process, with what the command line has otherwise.
fn by_options(mut process: Process, given: &Given) -> Result<Process> {
    if given.words.len() < 3 {
        return fail("exec: expected a COMMAND or --process");
    }
    let mut env = process.env().clone().unwrap_or_default();
    for new in given.all("env") {
        let name = new.split('=').next();
        env.retain(|old| old.split('=').next() != name);
        env.push(new.to_string());
    }
    if let Some(dir) = given.get("cwd") {
        process.set_cwd(dir.into());
    }
    if let Some(name) = given.get("apparmor") {
        process.set_apparmor_profile(Some(name.into()));
    }
    if let Some(label) = given.get("process-label") {
        process.set_selinux_label(Some(label.into()));
    }
    if given.is("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    set_user(&mut process, given)?;
    add_capabilities(&mut process, given)?;
    process.set_args(Some(given.words[2..].to_vec()));
    process.set_env(Some(env));
    process.set_terminal(Some(given.is("tty")));
    Ok(process)
}

fn set_user(process: &mut Process, given: &Given) -> Result<()> {
    let id = |option: &str, text: &str| {
        let number = text.parse::<u32>();
        number.map_err(|_| error(format!("--{option} {text}: expected a number")))
    };
    let mut user = process.user().clone();
    if let Some(text) = given.get("user") {
        let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
        user.set_uid(id("user", uid)?).set_gid(id("user", gid)?);
    }
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for text in given.all("additional-gids") {
        groups.push(id("additional-gids", text)?);
    }
    user.set_additional_gids(Some(groups));
    process.set_user(user);
    Ok(())
}

fn add_capabilities(process: &mut Process, given: &Given) -> Result<()> {
    let mut all = process.capabilities().clone().unwrap_or_default();
    for name in given.all("cap") {
        let unknown = |_| error(format!("--cap {name}: no capability"));
        let capability = Capability::deserialize(json!(name)).map_err(unknown)?;
        let with = |set: &Option<Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective) = (with(all.bounding()), with(all.effective()));
        let permitted = with(all.permitted());
        all.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    }
    process.set_capabilities(Some(all));
    Ok(())
}

/// The container's cgroup, or one below it that is there.
fn cgroup_for(home: &Home, given: &Given) -> Result<Option<Cgroup>> {
    let below = given.get("cgroup").unwrap_or_default();
    let Ok(dir) = home.cgroup() else {
        if below.is_empty() {
            return Ok(None);
        }
        return fail(format!("--cgroup {below}: the container has no cgroup"));
    };
    let below = Path::new(below.trim_start_matches('/'));
    if below.iter().any(|part| part == "..") {
        return fail(format!("--cgroup {}: expected one below the container's", below.display()));
    }
    cgroup::open(dir.join(below)).map(Some)
}
