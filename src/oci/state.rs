//! What is known of a container. What lasts is a file below --root, which is empty until the
//! container is complete: config.json, and what the kernel does not know better.

use super::{fail, is_nothing};
use crate::paths::by_number;
use crate::step::{Result, attempt, cat, error, step};
use crate::sys;
use nix::unistd::{self, Pid};
use serde_json::Value;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static ROOT: OnceLock<PathBuf> = OnceLock::new();

pub fn set_root(path: PathBuf) {
    let _ = ROOT.set(path);
}

/// The directory of all containers' files.
pub fn root() -> &'static Path {
    ROOT.get().map_or(Path::new("/nonexistent"), PathBuf::as_path)
}

#[derive(Default)]
pub struct Home {
    pub path: PathBuf,
    pub state: Value,
    pub lock: Option<File>,
    /// The container's network, for what it has to give back.
    pub network: Option<File>,
}

impl Home {
    /// Only one command at a time creates, starts or deletes a container: it locks.
    pub fn open(id: &str, locks: bool) -> Result<Home> {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || !id.chars().all(is_legal) || [".", ".."].contains(&id) {
            return fail(format!("invalid container ID {id:?}"));
        }
        let path = root().join(id);
        let mut lock = None;
        if locks && let Ok(file) = File::open(&path) {
            attempt("flock", file.lock())?;
            lock = Some(file);
        }
        let text = fs::read(&path).unwrap_or_default();
        let state = serde_json::from_slice(&text).unwrap_or_default();
        Ok(Home { path, state, lock, network: None })
    }

    pub fn make(&mut self) -> Result<()> {
        if self.path.exists() {
            return fail("container with given ID already exists");
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        attempt(root().display(), builder.create(root()))?;
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let file = step!(options.open(&self.path), "touch {}", self.path.display())?;
        attempt("flock", file.lock())?;
        self.lock = Some(file);
        Ok(())
    }

    /// Now there is a container, which others may enter when it is unlocked.
    pub fn publish(&self) -> Result<()> {
        let Some(mut file) = self.lock.as_ref() else { return Ok(()) };
        let text = self.state.to_string();
        step!(file.write_all(text.as_bytes()), "write {}", self.path.display())?;
        let own = attempt("fstat", file.metadata())?.ino();
        if fs::metadata(&self.path).map_or(0, |meta| meta.ino()) != own {
            return fail("the container has been deleted meanwhile");
        }
        Ok(())
    }

    pub fn unlock(&self) -> Result<()> {
        match &self.lock {
            Some(file) => attempt("flock", file.unlock()),
            None => Ok(()),
        }
    }

    /// The socket that is there from `create` to `start`, whose name is no container's: by a
    /// directory that stays open, for its path may be too long for a socket.
    pub fn start_path(&self) -> PathBuf {
        static DIR: OnceLock<Option<File>> = OnceLock::new();
        let dir = DIR.get_or_init(|| File::open(root()).ok());
        let inode = fs::metadata(&self.path).map_or(0, |meta| meta.ino());
        let name = format!("start:{inode}");
        match dir {
            Some(dir) => by_number(dir).join(name),
            None => root().join(name),
        }
    }

    pub fn has_hooks(&self) -> bool {
        !is_nothing(&self.state["config"]["hooks"])
    }

    pub fn text(&self, key: &str) -> &str {
        self.state[key].as_str().unwrap_or_default()
    }

    pub fn cgroup(&self) -> Result<PathBuf> {
        let dir = self.state["cgroup"].as_str();
        dir.map(PathBuf::from).ok_or_else(|| error("the container has no cgroup"))
    }

    /// The container's first process, if that is still the one that `create` has started.
    pub fn first(&self) -> Option<(Pid, OwnedFd)> {
        let pid = self.state["pid"].as_i64()? as i32;
        let pidfd = sys::pidfd_open(pid).ok()?;
        if start_time(pid)? != self.text("startTime") {
            return None;
        }
        Some((Pid::from_raw(pid), pidfd))
    }

    pub fn status(&self) -> &'static str {
        if self.first().is_none() {
            return "stopped";
        }
        if self.start_path().exists() {
            return "created";
        }
        if self.is_frozen() {
            return "paused";
        }
        "running"
    }

    fn is_frozen(&self) -> bool {
        let Ok(dir) = self.cgroup() else { return false };
        cat(dir.join("cgroup.events")).is_ok_and(|events| events.contains("frozen 1"))
    }

    /// What `state` prints and hooks are given. A child that runs hooks does not know its number.
    pub fn report(&self, status: &str) -> Value {
        let mut state = self.state.clone();
        if status == "stopped" {
            state["pid"] = 0.into();
        } else if state["pid"].is_null() {
            state["pid"] = unistd::getpid().as_raw().into();
        }
        state["status"] = status.into();
        if let Some(state) = state.as_object_mut() {
            state.remove("config");
            state.remove("mountBefore");
            state.remove("netDevices");
        }
        state
    }
}

/// What there is below --root.
pub fn all(locks: bool) -> Vec<Home> {
    let mut homes = vec![];
    let Ok(entries) = fs::read_dir(root()) else { return homes };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Ok(home) = Home::open(&name.to_string_lossy(), locks) else { continue };
        if !home.state.is_null() {
            homes.push(home);
        }
    }
    homes
}

/// Field 22 of proc_pid_stat(5); none for a zombie, which is as good as gone.
pub fn start_time(pid: i32) -> Option<String> {
    let stat = cat(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    if fields.starts_with(['Z', 'X']) {
        return None;
    }
    fields.split(' ').nth(19).map(str::to_string)
}
