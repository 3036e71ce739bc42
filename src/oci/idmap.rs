//! Mappings of ids: for the container's user namespace, and for mounts.

use super::namespaces::USER;
use super::spawn::{Child, clone};
use super::words::wait_for_word;
use super::{fail, list_of};
use crate::step::{Result, attempt, echo, error};
use crate::sys;
use nix::unistd;
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::exit;

pub type Mappings = Option<Vec<LinuxIdMapping>>;

/// Writes the mappings of a new user namespace, the one of this process.
pub fn write(pid: i32, uids: &Mappings, gids: &Mappings) -> Result<()> {
    let dir = format!("/proc/{pid}");
    if !unistd::geteuid().is_root() {
        echo("deny", format!("{dir}/setgroups"))?;
    }
    echo(&lines(list_of(uids)), format!("{dir}/uid_map"))?;
    echo(&lines(list_of(gids)), format!("{dir}/gid_map"))
}

fn lines(maps: &[LinuxIdMapping]) -> String {
    let mut text = String::new();
    for map in maps {
        text += &format!("{} {} {}\n", map.container_id(), map.host_id(), map.size());
    }
    text
}

/// A user namespace that nobody lives in: only its mappings are wanted.
pub fn user_namespace(uids: &Mappings, gids: &Mappings) -> Result<OwnedFd> {
    if list_of(uids).is_empty() || list_of(gids).is_empty() {
        return fail("expected both uidMappings and gidMappings");
    }
    let child = match clone(USER, None)? {
        (0, parent) => {
            let _ = wait_for_word(&parent); // there is none: its end is ours
            exit(0)
        }
        (pid, socket) => Child { pid, socket },
    };
    let written = write(child.pid, uids, gids);
    let path = format!("/proc/{}/ns/user", child.pid);
    let users = attempt(&path, File::open(&path));
    drop(child.socket);
    attempt("waitpid", sys::waitpid(child.pid, 0))?;
    written?;
    Ok(users?.into())
}

/// crun's and podman's way to write mappings among a mount's options: `uids=0-1000-1#5-2000-9` and,
/// after a semicolon, gids. Each of them is as in uidMappings: container's, host's, how many.
pub fn of_option(text: &str) -> Result<[Mappings; 2]> {
    let mut all = [None, None];
    for part in text.split(';') {
        let (kind, list) = match part.split_once('=') {
            Some(("uids", list)) => (0, list),
            Some(("gids", list)) => (1, list),
            _ => return fail(format!("idmap={text}: expected uids=…;gids=…")),
        };
        let mut mappings = vec![];
        for mapping in list.split('#') {
            let numbers: Vec<u32> = mapping.split('-').flat_map(str::parse).collect();
            let [container, host, size] = numbers[..] else {
                return fail(format!("idmap={text}: {mapping}: expected three numbers"));
            };
            let one = LinuxIdMappingBuilder::default().container_id(container).host_id(host);
            mappings.push(one.size(size).build().map_err(error)?);
        }
        all[kind] = Some(mappings);
    }
    Ok(all)
}
