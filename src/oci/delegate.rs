//! The container's cgroup may be its user's, config-linux.md, "Cgroup ownership": if the container
//! has a cgroup namespace and a mount of it that can be written to.

use super::cgroup::Cgroup;
use super::list_of;
use super::mount_options::Options;
use super::namespaces::CGROUP;
use super::plan::Plan;
use crate::step::{Result, cat, step};
use oci_spec::runtime::LinuxIdMapping;
use std::os::unix::fs::chown;
use std::path::Path;

/// Where the kernel does not say which files these are.
const FILES: &str = "cgroup.procs cgroup.subtree_control cgroup.threads";

pub fn delegate(plan: &Plan, cgroup: &Cgroup) -> Result<()> {
    let uid = plan.process.user().uid();
    let owner = outside(uid, list_of(plan.linux.uid_mappings()));
    if owner == 0 || plan.namespaces.new & CGROUP == 0 || !is_writable(plan)? {
        return Ok(());
    }
    let own =
        |path: &Path| step!(chown(path, Some(owner), None), "chown {owner} {}", path.display());
    own(&cgroup.dir)?;
    let files = cat("/sys/kernel/cgroup/delegate").unwrap_or(FILES.into());
    for file in files.split_whitespace() {
        let path = cgroup.dir.join(file);
        if path.exists() {
            own(&path)?;
        }
    }
    Ok(())
}

fn is_writable(plan: &Plan) -> Result<bool> {
    for m in list_of(plan.spec.mounts()) {
        let is_cgroup = m.typ().as_deref().is_some_and(|typ| typ.starts_with("cgroup"));
        if is_cgroup && m.destination() == Path::new("/sys/fs/cgroup") {
            return Ok(!Options::of(m)?.is_read_only());
        }
    }
    Ok(false)
}

/// The caller's number for one of the container's.
fn outside(id: u32, mappings: &[LinuxIdMapping]) -> u32 {
    for map in mappings {
        if id >= map.container_id() && id - map.container_id() < map.size() {
            return map.host_id() + (id - map.container_id());
        }
    }
    id
}
