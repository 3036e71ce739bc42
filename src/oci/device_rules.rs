//! linux.resources.devices: which devices the container may use. A program of its cgroup sees to
//! it, by type, number and letters (r, w, m).

use super::cgroup::Cgroup;
use super::plan::Plan;
use super::{fail, list_of, log};
use crate::devices::{self, ALL, Kind, MKNOD, READ, Rule, WRITE};
use crate::step::{Result, step};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use std::os::fd::AsFd;

/// Returns whether there is a program, so that mounts need not be nodev. Rules about all devices at
/// once need none. Without the right to load one, mounts and nodes see to all but single letters.
pub fn guard(plan: &Plan, cgroup: Option<&Cgroup>) -> Result<bool> {
    let Some(resources) = plan.linux.resources() else { return Ok(false) };
    let mut rules = vec![];
    for asked in list_of(resources.devices()) {
        rules.push(rule(asked)?);
    }
    let Some(cgroup) = cgroup else { return Ok(false) };
    if rules.iter().all(is_about_all) {
        return Ok(false);
    }
    let is_finer = rules.iter().any(is_half);
    rules.extend(always());
    let program = devices::device_program(&rules);
    let done = step!(
        devices::attach(cgroup.fd.as_fd(), &program),
        "bpftool cgroup attach {} cgroup_device (it)",
        cgroup.dir.display()
    );
    match done {
        Ok(()) => Ok(true),
        Err(why) if is_finer => Err(why),
        Err(why) => {
            log::warn(format!("linux.resources.devices: {}: mounts are nodev instead", why.why));
            Ok(false)
        }
    }
}

fn rule(asked: &LinuxDeviceCgroup) -> Result<Rule> {
    let kind = match asked.typ().unwrap_or_default() {
        LinuxDeviceType::A => Kind::Any,
        LinuxDeviceType::B => Kind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => Kind::Char,
        LinuxDeviceType::P => return fail("linux.resources.devices: p: expected a, b or c"),
    };
    let letters = asked.access().as_deref().unwrap_or("rwm");
    let Some(access) = devices::access(letters) else {
        return fail(format!("linux.resources.devices: access {letters:?}: expected some of rwm"));
    };
    let (major, minor) = (number(asked.major()), number(asked.minor()));
    Ok(Rule { allow: asked.allow(), kind, major, minor, access })
}

/// None, like a number below zero, is any.
fn number(asked: Option<i64>) -> Option<u32> {
    u32::try_from(asked?).ok()
}

fn is_about_all(rule: &Rule) -> bool {
    let is_any = matches!(rule.kind, Kind::Any) && rule.major.is_none() && rule.minor.is_none();
    is_any && rule.access == ALL
}

/// May it be read but not written, or written but not read?
fn is_half(rule: &Rule) -> bool {
    let both = rule.access & (READ | WRITE);
    rule.allow && (both == READ || both == WRITE)
}

/// What every container may do, whatever the rules are: make nodes, and use those that runtime-spec
/// has in each /dev.
fn always() -> Vec<Rule> {
    let all = |major, minor| Rule {
        allow: true,
        kind: Kind::Char,
        major: Some(major),
        minor,
        access: ALL,
    };
    let mut rules =
        vec![Rule { allow: true, kind: Kind::Any, major: None, minor: None, access: MKNOD }];
    for minor in [3, 5, 7, 8, 9] {
        rules.push(all(1, Some(minor))); // null, zero, full, random, urandom
    }
    rules.push(all(5, Some(0))); // tty
    rules.push(all(5, Some(2))); // ptmx
    rules.push(all(136, None)); // pts/*
    rules
}
