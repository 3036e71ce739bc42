//! linux.netDevices: interfaces of the host's that a container gets for its lifetime. They keep
//! their addresses, which the kernel forgets when an interface moves.

use super::namespaces::NETWORK;
use super::plan::Plan;
use super::route::Route;
use super::state::Home;
use super::{fail, log};
use crate::step::{Error, Result, attempt, step};
use netlink_packet_route::address::AddressMessage;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;

/// Moves them into the child's network namespace, and sets them up there.
pub fn move_in(plan: &mut Plan, pid: i32) -> Result<()> {
    let Some(devices) = plan.linux.net_devices().as_ref().filter(|map| !map.is_empty()) else {
        return Ok(());
    };
    if !plan.has(NETWORK) {
        return fail("linux.netDevices: expected a network namespace other than the caller's");
    }
    let mut names = vec![];
    let mut seen = BTreeSet::new();
    for (outside, device) in devices {
        let inside = device.name().as_deref().filter(|name| !name.is_empty());
        let inside = inside.unwrap_or(outside);
        check_name(inside)?;
        if !seen.insert(inside) {
            return fail(format!("linux.netDevices: {inside}: twice"));
        }
        names.push((outside.clone(), inside.to_string()));
    }
    let path = format!("/proc/{pid}/ns/net");
    let network = attempt(&path, File::open(&path))?;
    let (own, other) = (Route::open()?, Route::open_in(&network)?);
    plan.home.network = Some(network.try_clone().map_err(crate::step::error)?);
    for (outside, inside) in &names {
        let addresses = move_one(&own, &other, &network, outside, inside)?;
        plan.home.state["netDevices"][inside] = json!(outside);
        finish(&other, inside, addresses)?;
    }
    Ok(())
}

/// The kernel's rules for the name of an interface.
fn check_name(name: &str) -> Result<()> {
    let is_bad = |c: char| c.is_whitespace() || "/:%".contains(c);
    if name.is_empty() || name.len() > 15 || name.contains(is_bad) || [".", ".."].contains(&name) {
        return fail(format!("linux.netDevices: {name:?}: no name for an interface"));
    }
    Ok(())
}

/// Returns the addresses that it had.
fn move_one(
    from: &Route,
    to: &Route,
    network: &File,
    old: &str,
    new: &str,
) -> Result<Vec<AddressMessage>> {
    let what = format!("linux.netDevices: {old}");
    let index = attempt(&what, from.index_of(old))?;
    // The kernel would move it first, and then refuse the name.
    if to.index_of(new).is_ok() {
        return fail(format!("{what}: there is a {new} already"));
    }
    let addresses = attempt(&what, from.addresses(index))?;
    step!(
        from.move_link(index, new, network.as_raw_fd()),
        "{what}: ip link set {old} netns (its) name {new}"
    )?;
    Ok(addresses)
}

fn finish(network: &Route, name: &str, addresses: Vec<AddressMessage>) -> Result<()> {
    let what = format!("linux.netDevices: {name}");
    let index = attempt(&what, network.index_of(name))?;
    for address in addresses {
        attempt(&what, network.add_address(index, address))?;
    }
    step!(network.set_up(index), "{what}: ip link set {name} up")
}

/// Gives back what is still there, when the container has ended. `network` was its.
pub fn give_back(home: &Home, network: Option<File>) {
    let (Some(devices), Some(network)) = (home.state["netDevices"].as_object(), network) else {
        return;
    };
    for (inside, outside) in devices {
        let outside = outside.as_str().unwrap_or(inside);
        if let Err(Error { why, .. }) = give_one_back(&network, inside, outside) {
            log::warn(why); // a virtual one ends with its namespace, say
        }
    }
}

fn give_one_back(network: &File, inside: &str, outside: &str) -> Result<()> {
    let own = attempt("/proc/self/ns/net", File::open("/proc/self/ns/net"))?;
    let (from, to) = (Route::open_in(network)?, Route::open()?);
    let addresses = move_one(&from, &to, &own, inside, outside)?;
    finish(&to, outside, addresses)
}

/// The container's network namespace, as long as there is a way to it.
pub fn network_of(home: &Home) -> Option<File> {
    if let Some(network) = &home.network {
        return network.try_clone().ok();
    }
    if home.state["netDevices"].is_null() {
        return None;
    }
    let (pid, _) = home.first()?;
    File::open(format!("/proc/{pid}/ns/net")).ok()
}
