//! Hooks: other people's programs, run at given moments.

use super::state::Home;
use super::{fail, list_of, log};
use crate::cgroups::wait_while;
use crate::step::{Error, Result, attempt, error, step};
use crate::sys;
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::Hook;
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Checks what can be checked before anything is made.
pub fn check(config: &Value) -> Result<()> {
    let Some(kinds) = config["hooks"].as_object() else { return Ok(()) };
    for kind in kinds.keys() {
        for hook in list(config, kind)? {
            let what = format!("hooks.{kind}: {}", hook.path().display());
            if !hook.path().is_absolute() {
                return fail(format!("{what}: expected an absolute path"));
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return fail(format!("{what}: timeout: expected more than 0"));
            }
        }
    }
    Ok(())
}

fn list(config: &Value, kind: &str) -> Result<Vec<Hook>> {
    let hooks = Option::<Vec<Hook>>::deserialize(&config["hooks"][kind]);
    let hooks = hooks.map_err(|why| error(format!("hooks.{kind}: {why}")))?;
    Ok(hooks.unwrap_or_default())
}

/// `env` is for hooks that have none of their own.
pub fn run(home: &Home, kind: &str, status: &str, env: &[String]) -> Result<()> {
    for hook in list(&home.state["config"], kind)? {
        let what = format!("{kind} hook {}", hook.path().display());
        match run_one(&hook, &what, &home.report(status), env) {
            // The container is gone: there is nothing left to stop.
            Err(Error { why, .. }) if kind == "poststop" => log::warn(why),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// State JSON on standard input, and nothing of the caller's environment.
fn run_one(hook: &Hook, what: &str, state: &Value, env: &[String]) -> Result<()> {
    let mut command = Command::new(hook.path());
    if let [name, rest @ ..] = list_of(hook.args()) {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for pair in hook.env().as_deref().unwrap_or(env) {
        if let Some((name, value)) = pair.split_once('=') {
            command.env(name, value);
        }
    }
    command.stdin(file_of(state, what)?).stdout(Stdio::null());
    command.process_group(0); // so that nothing of it is left after a timeout
    let mut child = step!(command.spawn(), "{what}")?;
    let seconds = hook.timeout().unwrap_or(i64::MAX).clamp(0, i64::from(i32::MAX));
    let deadline = Instant::now() + Duration::from_secs(seconds as u64);
    if !wait_while(deadline, || matches!(child.try_wait(), Ok(None))) {
        let _ = sys::kill(-(child.id() as i32), libc::SIGKILL);
        let _ = child.wait();
        return fail(format!("{what}: no end within its timeout, {seconds} s"));
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
