//! The container's names, and its settings of the kernel.

use super::namespaces::{IPC, NETWORK, UTS};
use super::plan::Plan;
use super::{calls, fail};
use crate::step::{Result, attempt, step};
use libc::c_int;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd;
use std::fs::File;
use std::io::Write;

/// What may be set is what only a namespace keeps away from the host.
const SYSCTLS: [(c_int, &str); 6] = [
    (NETWORK, "net/"),
    (UTS, "kernel/domainname"),
    (IPC, "kernel/msg"),
    (IPC, "kernel/sem"),
    (IPC, "kernel/shm"),
    (IPC, "fs/mqueue/"),
];

pub fn set_names(plan: &Plan) -> Result<()> {
    if let Some(name) = plan.spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        if !plan.has(UTS) {
            return fail("hostname: expected a uts namespace");
        }
        step!(unistd::sethostname(name), "hostname {name}")?;
    }
    for (key, value) in plan.linux.sysctl().iter().flatten() {
        set_sysctl(plan, key, value)?;
    }
    if let Some(name) = plan.spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        if !plan.has(UTS) {
            return fail("domainname: expected a uts namespace");
        }
        write(plan, "kernel/domainname", name)?;
    }
    if !plan.keeps_keyring {
        let _ = calls::join_session_keyring(); // the caller's stays his
    }
    Ok(())
}

fn set_sysctl(plan: &Plan, key: &str, value: &str) -> Result<()> {
    let path = sysctl_path(key);
    let is_own = |(flag, start): &(c_int, &str)| plan.has(*flag) && path.starts_with(start);
    if !SYSCTLS.iter().any(is_own) || path.split('/').any(|part| part == "..") {
        return fail(format!("linux.sysctl.{key}: not in a namespace of its own"));
    }
    write(plan, &path, value)
}

/// As in sysctl(8): if the first separator is a slash, a dot is part of a name.
fn sysctl_path(key: &str) -> String {
    let first = key.chars().find(|c| ['.', '/'].contains(c));
    if first == Some('/') {
        return key.to_string();
    }
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    key.chars().map(swapped).collect()
}

/// By the caller's /proc: the container's may be covered, and is not there yet.
fn write(plan: &Plan, path: &str, value: &str) -> Result<()> {
    let what = format!("echo {value} > /proc/sys/{path}");
    let Some(dir) = &plan.sysctl else { return fail("expected /proc/sys") };
    let file = openat(dir, path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
    let mut file = File::from(attempt(&what, file)?);
    step!(file.write_all(value.as_bytes()), "{what}")
}
