//! Hooks: other people's programs, run at given moments.

use super::state::Home;
use super::{fail, list_of, log};
use crate::cgroups::wait_while;
use crate::step::{Error, Result, attempt, error, step};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::Hook;
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Those after the start and the end of a container may fail, with a warning.
pub fn run(home: &Home, kind: &str, status: &str) -> Result<()> {
    let hooks = Option::<Vec<Hook>>::deserialize(&home.state["config"]["hooks"][kind]);
    for hook in hooks.map_err(error)?.unwrap_or_default() {
        let what = format!("{kind} hook {}", hook.path().display());
        match run_one(&hook, &what, &home.report(status)) {
            Err(Error { why, .. }) if kind.starts_with("post") => log::warn(why),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// State JSON on standard input, and nothing of the caller's environment.
fn run_one(hook: &Hook, what: &str, state: &Value) -> Result<()> {
    let mut command = Command::new(hook.path());
    if let [name, rest @ ..] = list_of(hook.args()) {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for pair in list_of(hook.env()) {
        if let Some((name, value)) = pair.split_once('=') {
            command.env(name, value);
        }
    }
    command.stdin(file_of(state, what)?).stdout(Stdio::null());
    let mut child = step!(command.spawn(), "{what}")?;
    let seconds = hook.timeout().unwrap_or(i64::MAX).clamp(0, i64::from(i32::MAX));
    let deadline = Instant::now() + Duration::from_secs(seconds as u64);
    if !wait_while(deadline, || matches!(child.try_wait(), Ok(None))) {
        let _ = child.kill();
        return fail(format!("{what}: timeout"));
    }
    let status = attempt(what, child.wait())?;
    if !status.success() {
        return fail(format!("{what}: {status}"));
    }
    Ok(())
}

fn file_of(state: &Value, what: &str) -> Result<File> {
    let memory = attempt(what, memfd_create("state", MFdFlags::MFD_CLOEXEC))?;
    let mut file = File::from(memory);
    attempt(what, file.write_all(state.to_string().as_bytes()))?;
    attempt(what, file.rewind())?;
    Ok(file)
}
