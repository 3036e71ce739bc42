//! The container's cgroup, and how limits get into it.

use super::limits::KEPT;
use super::state::Home;
use super::{fail, log};
use crate::caller::is_rootless;
use crate::cgroups::{self, cgroups_below, pids, why_missing};
use crate::containers;
use crate::step::{Error, Result, attempt, cat, echo, step};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A file of the cgroup, and what to write to it.
pub type Limit = (String, String);

/// Without the right to a cgroup of its own, a container has none, unless limits are asked for.
pub fn make(home: &Home, wanted: &Option<PathBuf>, limits: &[Limit]) -> Result<Option<Cgroup>> {
    let husk = match containers::husk_dir() {
        Err(_) if is_rootless() && !limits.iter().any(is_limit) => return Ok(None),
        husk => husk?,
    };
    let path = match wanted {
        Some(path) => below_top(&path.to_string_lossy()),
        None => Path::new("husk-oci").join(home.text("id")),
    };
    let dir = husk.with_file_name(path);
    step!(fs::create_dir_all(&dir), "mkdir -p {}", dir.display())?;
    let events = cat(dir.join("cgroup.events"))?;
    if events.contains("populated 1") || events.contains("frozen 1") {
        return fail(format!("container's cgroup is not empty, or frozen: {}", dir.display()));
    }
    if let Err(why) = set_limits(&dir, limits) {
        cgroups::remove(&dir);
        return Err(why);
    }
    open(dir).map(Some)
}

/// systemd's form of a path is SLICE:PREFIX:NAME, and a slice "a-b.slice" is in "a.slice".
fn below_top(path: &str) -> PathBuf {
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        let plain = Path::new(path).iter().filter(|part| *part != "/" && *part != "..");
        return plain.collect();
    };
    let mut dir = PathBuf::new();
    let mut whole = String::new();
    for part in slice.trim_end_matches(".slice").split('-') {
        whole += part;
        dir.push(format!("{whole}.slice"));
        whole += "-";
    }
    dir.join(format!("{prefix}-{name}.scope"))
}

/// Nothing of the walk's sweeps these cgroups, so they need no lock.
pub struct Cgroup {
    pub dir: PathBuf,
    pub fd: File,
}

pub fn open(dir: PathBuf) -> Result<Cgroup> {
    let fd = attempt(dir.display(), File::open(&dir))?;
    Ok(Cgroup { dir, fd })
}

/// What engines ask for where their user did not ask for anything: podman and dockerd for 2048
/// processes and 1024 shares, a kubelet for 2 shares and the default period.
const DEFAULTS: [(&str, &str); 5] = [
    ("pids.max", "2048"),
    ("cpu.weight", "100"),
    ("cpu.weight", "1"),
    ("cpu.idle", "0"),
    ("cpu.max.burst", "0"),
];

fn is_limit((file, value): &Limit) -> bool {
    let is_none = value.starts_with("max") || value.starts_with(KEPT);
    !is_none && !DEFAULTS.contains(&(file, value))
}

/// The walk's own hands controllers down in one place only, and its limits are all asked for.
pub fn set_limits(dir: &Path, limits: &[Limit]) -> Result<()> {
    for limit in limits {
        let (file, value) = limit;
        let path = dir.join(file);
        let controller = file.split('.').next().unwrap_or_default();
        if !path.exists() {
            hand_down(dir, controller);
        }
        if !path.exists() {
            let why = format!("linux.resources: {}", why_missing(dir, file));
            if is_limit(limit) && !file.contains(".rsvd.") {
                return fail(why);
            }
            log::warn(format!("{why}; {value}: ignored, for it is a default"));
            continue;
        }
        let mut value = value.clone();
        if value.contains(KEPT) {
            let now = cat(&path)?;
            value = value.replace(KEPT, now.split(' ').next().unwrap_or("max"));
        }
        if let Err(Error { why, .. }) = echo(&value, path) {
            return fail(format!("linux.resources: {why}"));
        }
    }
    Ok(())
}

/// Controllers are handed down from level to level, from the top.
fn hand_down(dir: &Path, controller: &str) {
    let above: Vec<&Path> = dir.ancestors().skip(1).collect();
    for dir in above.iter().rev() {
        let _ = echo(&format!("+{controller}"), dir.join("cgroup.subtree_control"));
    }
}

pub fn all_pids(dir: &Path) -> Vec<i32> {
    let mut all = pids(dir);
    for below in cgroups_below(dir) {
        all.extend(all_pids(&below));
    }
    all
}
