//! What parent and child both know of the process that they are about to start.

use super::namespaces::Namespaces;
use super::options::Given;
use super::root::Sources;
use super::state::Home;
use super::{fail, list_of, notify};
use crate::step::{Result, error, step};
use crate::terminal::Inside;
use libc::c_uint;
use oci_spec::runtime::{Linux, Process, Spec};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

pub struct Plan {
    pub home: Home,
    pub spec: Spec,
    pub linux: Linux,
    pub process: Process,
    pub scheduler_flags: Vec<String>,
    pub namespaces: Namespaces,
    /// Is it a container, rather than one more process in one?
    pub is_new: bool,
    pub keeps_keyring: bool,
    /// The caller's /proc/sys, as long as the child needs it.
    pub sysctl: Option<OwnedFd>,
    /// None: the child opens them itself.
    pub sources: Option<Sources>,
    /// Does a program of its cgroup refuse devices?
    pub is_guarded: bool,
    /// In the foreground, what its 0, 1 and 2 will be.
    pub inside: Option<Inside>,
    /// Where the other end of its terminal goes.
    pub console: Option<UnixStream>,
    /// Whence `start` comes, after `create`.
    pub start: Option<UnixListener>,
    /// Who answers for calls of its seccomp profile.
    pub agent: Option<UnixStream>,
    /// The child's own number, as the caller sees it.
    pub host_pid: i32,
    /// The first file descriptor that the command does not get.
    pub closed: c_uint,
}

impl Plan {
    /// Checks what is to run, and how.
    pub fn new(home: Home, spec: Spec, process: Process, given: &Given) -> Result<Plan> {
        if list_of(process.args()).is_empty() || !process.cwd().is_absolute() {
            return fail("process: expected args, and an absolute path as cwd");
        }
        let preserved = given.get("preserve-fds").unwrap_or("0").parse::<u16>();
        let preserved = preserved.map_err(|why| error(format!("--preserve-fds: {why}")))?;
        let linux = spec.linux().clone().unwrap_or_default();
        let agent = match linux.seccomp() {
            Some(profile) => notify::connect(profile)?,
            None => None,
        };
        Ok(Plan {
            console: console(&process, given)?,
            linux,
            agent,
            host_pid: 0,
            closed: 3 + c_uint::from(preserved),
            namespaces: Namespaces::default(),
            is_new: false,
            scheduler_flags: vec![],
            keeps_keyring: given.is("no-new-keyring"),
            sysctl: None,
            sources: None,
            is_guarded: false,
            inside: None,
            start: None,
            home,
            spec,
            process,
        })
    }
}

impl Plan {
    pub fn has_net_devices(&self) -> bool {
        self.linux.net_devices().as_ref().is_some_and(|map| !map.is_empty())
    }
}

/// In the foreground it has the caller's own terminal.
fn console(process: &Process, given: &Given) -> Result<Option<UnixStream>> {
    if process.terminal() != Some(true) {
        return Ok(None);
    }
    if let Some(path) = given.get("console-socket") {
        return step!(UnixStream::connect(path), "connect {path}").map(Some);
    }
    if !given.in_foreground() {
        return fail("process.terminal: expected --console-socket, for nobody attends it");
    }
    Ok(None)
}
