//! The list of mounts: their options, their sources, and how they get into the root.

use super::devices::nodev;
use super::inside;
use super::list_of;
use super::log;
use super::namespaces::{CGROUP, NETWORK};
use super::plan::Plan;
use crate::{ROOTLESS, Result, attempt, by_number, clone_tree, error, is_dir, place, say_step};
use libc::AT_FDCWD;
use nix::mount::{MsFlags, mount};
use oci_spec::runtime::Mount;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub const NONE: Option<&str> = None;
pub const PRIVATE: MsFlags = MsFlags::MS_PRIVATE.union(MsFlags::MS_REC);
pub const SLAVE: MsFlags = MsFlags::MS_SLAVE.union(MsFlags::MS_REC);
const PROPAGATION: MsFlags = MsFlags::MS_PRIVATE
    .union(MsFlags::MS_SLAVE)
    .union(MsFlags::MS_SHARED)
    .union(MsFlags::MS_UNBINDABLE);

/// A mount by its options, before anything of it is in the root.
pub struct Prepared {
    /// What to bind.
    pub tree: Option<OwnedFd>,
    pub flags: MsFlags,
    /// How it spreads to other mount namespaces, and from them.
    spreads: Option<MsFlags>,
    /// The file system's own options.
    data: String,
}

/// The words of fstab(5) are the kernel's names of flags, but for two. r means: and all below it.
pub fn flag(word: &str) -> Option<MsFlags> {
    let name = match word {
        "ro" => "RDONLY".into(),
        "sync" => "SYNCHRONOUS".into(),
        word => word.to_uppercase(),
    };
    if let Some(flag) = MsFlags::from_name(&format!("MS_{name}")) {
        return Some(flag);
    }
    let flag = flag(word.strip_prefix('r')?)?;
    Some(flag | MsFlags::MS_REC)
}

/// The same for a word that takes a flag away: `dev` for `nodev`.
fn inverse(word: &str) -> Option<MsFlags> {
    if word == "rw" {
        return flag("ro");
    }
    match word.strip_prefix("no") {
        Some(positive) => flag(positive),
        None => flag(&format!("no{word}")),
    }
}

fn read_options(m: &Mount) -> Result<Prepared> {
    let (tree, flags, data) = (None, MsFlags::empty(), String::new());
    let mut it = Prepared { tree, flags, spreads: None, data };
    let mut data = vec![];
    if m.typ().as_deref() == Some("bind") {
        it.flags = MsFlags::MS_BIND;
    }
    for word in list_of(m.options()) {
        if let Some(flag) = flag(word) {
            if flag.intersects(PROPAGATION) {
                it.spreads = Some(flag);
            } else if flag.contains(MsFlags::MS_BIND) {
                it.flags |= flag;
            } else {
                it.flags |= flag - MsFlags::MS_REC;
            }
            continue;
        }
        if let Some(flag) = inverse(word) {
            it.flags -= flag;
            continue;
        }
        match word.as_str() {
            "idmap" | "ridmap" => return Err(error(format!("{word}: not supported"))),
            "tmpcopyup" => log::warn(format!("mount option {word}: ignored")),
            "defaults" | "async" | "loud" | "silent" | "mand" | "rrw" => {}
            other => data.push(other),
        }
    }
    it.data = data.join(",");
    Ok(it)
}

/// The sources of binds are opened while mounts of the host still spread to us.
pub fn prepare(plan: &Plan, m: &Mount) -> Result<Prepared> {
    if m.uid_mappings().is_some() || m.gid_mappings().is_some() {
        return Err(error("uidMappings: not supported"));
    }
    let mut it = read_options(m)?;
    if m.typ().as_deref() != Some("devpts") {
        it.flags |= nodev(plan, "a", -1, -1);
    }
    if let Some(source) = source(plan, m, &mut it)? {
        it.tree = Some(clone_tree(AT_FDCWD, &source, it.flags)?);
        it.spreads = it.spreads.or(Some(PRIVATE));
    }
    Ok(it)
}

/// What to bind, if it is a bind.
fn source(plan: &Plan, m: &Mount, it: &mut Prepared) -> Result<Option<PathBuf>> {
    if it.flags.contains(MsFlags::MS_BIND) {
        let Some(source) = m.source() else { return Err(error("source: expected")) };
        return Ok(Some(Path::new(plan.home.text("bundle")).join(source)));
    }
    let new = plan.namespaces.new;
    match m.typ().as_deref() {
        // Without a cgroup namespace a new mount would show all of the host's.
        Some("cgroup" | "cgroup2") if new & CGROUP == 0 => Ok(plan.home.cgroup().ok()),
        // It shows a network, and only its owner may mount one.
        Some("sysfs") if *ROOTLESS && new & NETWORK == 0 => {
            it.flags |= MsFlags::MS_REC;
            Ok(Some("/sys".into()))
        }
        _ => Ok(None),
    }
}

pub fn attach(root: &OwnedFd, m: &Mount, it: Prepared) -> Result<()> {
    let is_dir = it.tree.as_ref().is_none_or(is_dir);
    let target = attempt("open", inside::make(root, m.destination(), is_dir))?;
    let at = by_number(&target);
    match it.tree {
        Some(tree) => place(&tree, &at)?,
        None => mount_new(m, &at, it.flags, &it.data)?,
    }
    let Some(how) = it.spreads else { return Ok(()) };
    let top = attempt("open", inside::open(root, m.destination()))?;
    propagate(by_number(&top), how)
}

fn mount_new(m: &Mount, at: &Path, flags: MsFlags, data: &str) -> Result<()> {
    let (fstype, data) = match m.typ().as_deref().unwrap_or("none") {
        "cgroup" | "cgroup2" => ("cgroup2", ""),
        fstype => (fstype, data),
    };
    let source = m.source().as_deref().unwrap_or(Path::new(fstype));
    let mounted = mount(Some(source), at, Some(fstype), flags, Some(data));
    step!(mounted, "mount -t {fstype} -o {data} {}", source.display())
}

pub fn propagate(at: impl AsRef<Path>, how: MsFlags) -> Result<()> {
    let at = at.as_ref();
    step!(mount(NONE, at, NONE, how, NONE), "mount --make-... ({how:?}) {}", at.display())
}
