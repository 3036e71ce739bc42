//! The other verbs.

use super::cgroup::all_pids;
use super::options::Given;
use super::state::{self, Home};
use super::{PATIENCE, SPEC_VERSION, fail, hooks, netdevices, root, show};
use crate::cgroups::{self, wait_while};
use crate::step::{Error, Result, echo, error, step};
use crate::sys;
use libc::c_int;
use nix::sys::signal::Signal;
use nix::unistd;
use oci_spec::runtime::Spec;
use regex::Regex;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

pub fn spec(_: Home, given: &Given) -> Result<u8> {
    let path = Path::new(given.get("bundle").unwrap_or(".")).join("config.json");
    let mut spec = Spec::default();
    if given.is("rootless") {
        spec = Spec::rootless(unistd::geteuid().as_raw(), unistd::getegid().as_raw());
    }
    spec.set_version(SPEC_VERSION.into()).set_hostname(Some("husk".into()));
    let text = serde_json::to_string_pretty(&spec).unwrap_or_default();
    let mut file = step!(File::create_new(&path), "touch {}", path.display())?;
    step!(writeln!(file, "{text}"), "write {}", path.display())?;
    Ok(0)
}

pub fn state(home: Home, _: &Given) -> Result<u8> {
    show(&home.report(home.status()))
}

pub fn kill(home: Home, given: &Given) -> Result<u8> {
    let text = given.words.get(2).map_or("TERM", String::as_str);
    let Some(number) = signal_number(text) else {
        return fail(format!("kill: {text}: unknown signal"));
    };
    if given.is("all") {
        if let Ok(dir) = home.cgroup() {
            kill_all(&dir, number);
        }
        return Ok(0);
    }
    let Some((pid, pidfd)) = home.first() else { return fail("container not running") };
    step!(sys::pidfd_send_signal(&pidfd, number), "kill -{number} {pid}")?;
    Ok(0)
}

/// By its number, or its name with or without SIG.
fn signal_number(text: &str) -> Option<c_int> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let text = text.to_uppercase();
    let name = format!("SIG{}", text.trim_start_matches("SIG"));
    Signal::from_str(&name).ok().map(|signal| signal as c_int)
}

fn kill_all(dir: &Path, number: c_int) {
    for pid in all_pids(dir) {
        if let Ok(pidfd) = sys::pidfd_open(pid) {
            let _ = sys::pidfd_send_signal(&pidfd, number);
        }
    }
}

pub fn delete(home: Home, given: &Given) -> Result<u8> {
    let status = home.status();
    // Who is waiting for `start` only has not begun yet.
    if !["stopped", "created"].contains(&status) && !given.is("force") {
        return fail(format!("cannot delete a container that is not stopped: {status}"));
    }
    remove(&home);
    Ok(0)
}

/// All containers whose ID fits a regular expression. One that can't be deleted is no obstacle to
/// the others.
pub fn delete_all_like(given: &Given) -> Result<u8> {
    let pattern = Regex::new(&given.words[1]).map_err(|why| error(format!("--regex: {why}")))?;
    let mut failures = vec![];
    for home in state::all(true) {
        let id = home.text("id").to_string();
        if !pattern.is_match(&id) {
            continue;
        }
        if let Err(Error { why, .. }) = delete(home, given) {
            failures.push(format!("{id}: {why}"));
        }
    }
    if failures.is_empty() { Ok(0) } else { fail(failures.join("; ")) }
}

/// Ends its processes.
pub fn end(home: &Home) {
    if let Some((_, pidfd)) = home.first() {
        let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
        wait_while(Instant::now() + PATIENCE, || home.first().is_some());
    }
}

/// The end of a container, and then its last hooks.
pub fn remove(home: &Home) {
    let network = netdevices::network_of(home);
    end(home);
    netdevices::give_back(home, network);
    if let Ok(dir) = home.cgroup() {
        // As a rule it is empty.
        if fs::remove_dir(&dir).is_err() {
            cgroups::remove(&dir);
        }
    }
    root::unmount(home);
    let _ = hooks::run(home, "poststop", "stopped", &[]);
    let _ = fs::remove_file(home.start_path());
    let _ = fs::remove_file(&home.path);
}

pub fn pause(home: Home, _: &Given) -> Result<u8> {
    freeze(&home, "running", "1")
}

pub fn resume(home: Home, _: &Given) -> Result<u8> {
    freeze(&home, "paused", "0")
}

fn freeze(home: &Home, wanted: &str, word: &str) -> Result<u8> {
    let status = home.status();
    if status != wanted {
        return fail(format!("the container is {status}, not {wanted}"));
    }
    echo(word, home.cgroup()?.join("cgroup.freeze"))?;
    wait_while(Instant::now() + PATIENCE, || home.status() == wanted);
    Ok(0)
}
