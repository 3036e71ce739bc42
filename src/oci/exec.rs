//! exec: the same steps, but the namespaces are there already.

use super::config::{read_json, scheduler_flags};
use super::create::attend;
use super::namespaces::Namespaces;
use super::options::Given;
use super::plan::Plan;
use super::spawn::launch;
use super::state::Home;
use super::{cgroup, fail, scheduling};
use crate::shield;
use crate::step::{Result, error};
use oci_spec::runtime::{Process, Spec};
use serde::Deserialize;
use std::fs::File;

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
    if status != "running" {
        return fail(format!("cannot exec in a {status} container"));
    }
    let Some((_, pidfd)) = home.first() else { return fail("container not running") };
    let spec = Spec::deserialize(&home.state["config"]).map_err(error)?;
    let (json, process) = match given.get("process") {
        Some(path) => read_json(path)?,
        None => {
            let process = spec.process().clone().unwrap_or_default();
            (home.state["config"]["process"].clone(), by_options(process, given))
        }
    };
    let cgroup = match home.cgroup() {
        Ok(dir) => Some(cgroup::open(dir)?),
        Err(_) => None,
    };
    let mut plan = Plan::new(home, spec, process, given)?;
    plan.namespaces = Namespaces::of_process(&plan.linux, pidfd);
    plan.scheduler_flags = scheduler_flags(&json);
    if let Some(affinity) = plan.process.exec_cpu_affinity() {
        let list = affinity.initial().as_deref();
        scheduling::set_affinity("process.execCPUAffinity.initial", list)?;
    }
    let (child, beside) = launch(&plan, cgroup.as_ref(), given)?;
    attend(&plan, &child, beside, given)
}

/// The container's own process, with what the command line has otherwise.
fn by_options(mut process: Process, given: &Given) -> Process {
    let mut env = process.env().clone().unwrap_or_default();
    for new in given.all("env") {
        let name = new.split('=').next();
        env.retain(|old| old.split('=').next() != name);
        env.push(new.to_string());
    }
    if let Some(dir) = given.get("cwd") {
        process.set_cwd(dir.into());
    }
    process.set_args(Some(given.words[2..].to_vec()));
    process.set_env(Some(env));
    process.set_terminal(Some(given.is("tty")));
    process
}
