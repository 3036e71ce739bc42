//! Ids, capabilities, resource limits.

use super::{calls, fail, list_of, log};
use crate::caller::is_rootless;
use crate::lockdown::capability;
use crate::step::{Result, attempt, step};
use capctl::{CapSet, CapState, ambient, bounding};
use nix::sys::{prctl, stat};
use nix::unistd::{self, Gid, Uid};
use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};

pub fn set_rlimits(process: &Process) -> Result<()> {
    let mut seen = vec![];
    for limit in list_of(process.rlimits()) {
        let (typ, soft, hard) = (limit.typ(), limit.soft(), limit.hard());
        if seen.contains(&typ) {
            return fail(format!("process.rlimits: {typ}: twice"));
        }
        seen.push(typ);
        // The kernel's numbers follow the order of these names.
        step!(calls::setrlimit(typ as u32, soft, hard), "process.rlimits: {typ} {soft}:{hard}")?;
    }
    Ok(())
}

/// Groups and ids, of which later programs of the process get no more capabilities than these.
pub fn become_user(process: &Process) -> Result<Kept> {
    let (wanted, held) = (set_of(sets(process).bounding()), bounding::probe());
    drop_bounding(wanted, held)?;
    become_ids(process)?;
    Ok(Kept(wanted & held))
}

/// What is left of the bounding set.
#[derive(Clone, Copy)]
pub struct Kept(CapSet);

fn sets(process: &Process) -> LinuxCapabilities {
    process.capabilities().clone().unwrap_or_default()
}

/// For what only the mighty may do, as install a filter. A change of ids has taken this away.
pub fn use_all_capabilities() -> Result<()> {
    let mut state = attempt("capget", CapState::get_current())?;
    state.effective = state.permitted;
    step!(state.set_current(), "capset {state}")
}

pub fn limit_capabilities(process: &Process, Kept(wanted): Kept) -> Result<()> {
    let caps = sets(process);
    let permitted = set_of(caps.permitted()) & wanted;
    let effective = set_of(caps.effective()) & permitted;
    let inheritable = set_of(caps.inheritable()) & wanted;
    let state = CapState { effective, permitted, inheritable };
    step!(state.set_current(), "capset {state}")?;
    for cap in (set_of(caps.ambient()) & permitted & inheritable).iter() {
        step!(ambient::raise(cap), "setpriv --ambient-caps +{cap}")?;
    }
    Ok(())
}

fn set_of(names: &Option<Capabilities>) -> CapSet {
    let mut bits = 0;
    for name in names.iter().flatten() {
        bits |= capability(&name.to_string()).unwrap_or(0);
    }
    CapSet::from_bitmask_truncate(bits)
}

fn drop_bounding(wanted: CapSet, held: CapSet) -> Result<()> {
    if !held.issuperset(wanted) {
        log::warn(format!("process.capabilities: {:?}: not held", wanted - held));
    }
    for cap in (held - wanted).iter() {
        step!(bounding::drop(cap), "setpriv --bounding-set -{cap}")?;
    }
    step!(bounding::clear_unknown(), "setpriv --bounding-set (unknown ones)")
}

fn become_ids(process: &Process) -> Result<()> {
    let user = process.user();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    let mut groups = vec![];
    for group in list_of(user.additional_gids()) {
        groups.push(Gid::from_raw(*group));
    }
    let grouped = unistd::setgroups(&groups);
    if !is_rootless() || !groups.is_empty() {
        step!(grouped, "setpriv --groups {groups:?}")?; // else the kernel may deny it
    }
    step!(unistd::setresgid(gid, gid, gid), "setpriv --regid {gid}")?;
    attempt("prctl PR_SET_KEEPCAPS", prctl::set_keepcaps(true))?;
    step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid {uid}")?;
    stat::umask(stat::Mode::from_bits_retain(user.umask().unwrap_or(0o022)));
    Ok(())
}
