//! Who a command runs as: what --user says, by the container's own passwd(5) and group(5). These
//! are read when ROOTFS's paths can't lead out any more, and are somebody else's text.

use crate::caller::is_rootless;
use crate::paths::{Tree, is_file};
use crate::step::{Result, error};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

pub struct User {
    pub uid: Uid,
    pub gid: Gid,
    pub groups: Vec<Gid>, // besides gid
    pub home: String,
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// More than that nobody needs, and a container shall not decide how much husk reads.
const MOST: u64 = 1 << 20;

/// `wanted` is USER[:GROUP][,GROUP]..., each a name or a number; or nothing, which is root. As
/// docker has it, a user without GROUP has all the groups that group(5) gives it, and a number that
/// is not in passwd(5) is in group 0.
pub fn find(wanted: &str) -> Result<User> {
    let mut names = wanted.split(',');
    let user = names.next().unwrap_or_default();
    let more: Vec<&str> = names.collect();
    let mut found = User { uid: 0.into(), gid: 0.into(), groups: vec![], home: "/root".into() };
    if !user.is_empty() {
        found = find_user(user)?;
    }
    if is_rootless() {
        if !found.uid.is_root() || found.gid.as_raw() != 0 || !more.is_empty() {
            let hint = "a user's container has one user and one group, 0 and 0";
            return Err(error(format!("--user {wanted}: {hint}")));
        }
        found.groups.clear(); // setgroups(2) is denied
    }
    for name in more {
        found.groups.push(find_group(name, "--group-add")?);
    }
    Ok(found)
}

fn find_user(wanted: &str) -> Result<User> {
    let (name, group) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (wanted, None),
    };
    let number = id(name);
    let passwd = read(PASSWD, number.is_some())?;
    let mut found = None;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [its_name, _, uid, gid, _, home, ..] = fields[..] else { continue };
        let (Some(uid), Some(gid)) = (id(uid), id(gid)) else { continue };
        if number == Some(uid) || number.is_none() && its_name == name {
            found = Some((its_name, uid, gid, home));
            break;
        }
    }
    let default = if number == Some(0) { "/root" } else { "/" };
    let (its_name, uid, gid, home) = match (found, number) {
        (Some(found), _) => found,
        (None, Some(uid)) => ("", uid, 0, default),
        (None, None) => return Err(unknown("--user", name, PASSWD)),
    };
    let home = if home.is_empty() { default } else { home };
    let mut user = User { uid: uid.into(), gid: gid.into(), groups: vec![], home: home.into() };
    match group {
        Some(group) => user.gid = find_group(group, "--user")?,
        None if !its_name.is_empty() => user.groups = groups_of(its_name)?,
        None => {}
    }
    Ok(user)
}

/// The groups that list this user.
fn groups_of(user: &str) -> Result<Vec<Gid>> {
    let mut groups = vec![];
    for line in read(GROUP, true)?.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members, ..] = fields[..] else { continue };
        let Some(gid) = id(gid) else { continue };
        if members.split(',').any(|member| member == user) {
            groups.push(Gid::from_raw(gid));
        }
    }
    Ok(groups)
}

fn find_group(wanted: &str, option: &str) -> Result<Gid> {
    if let Some(number) = id(wanted) {
        return Ok(number.into());
    }
    for line in read(GROUP, false)?.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, ..] = fields[..] else { continue };
        let Some(gid) = id(gid) else { continue };
        if name == wanted {
            return Ok(gid.into());
        }
    }
    Err(unknown(option, wanted, GROUP))
}

fn unknown(option: &str, name: &str, file: &str) -> crate::step::Error {
    error(format!("{option} {name}: there is no {name} in ROOTFS's {file}; a number is enough"))
}

/// A user's or a group's number. The last one means "no change" to setresuid(2).
pub fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// Is it no file of ROOTFS, but one that the kernel makes up for whoever reads it? husk may read
/// more than the container, as /proc/kmsg.
fn is_kernels(file: &OwnedFd) -> bool {
    let kinds = [PROC_SUPER_MAGIC, SYSFS_MAGIC];
    fstatfs(file).map_or(true, |meta| kinds.contains(&meta.filesystem_type()))
}

/// A text file of the container's: no fifo, which would make us wait, and not without end. A
/// missing one is empty.
fn read(path: &str, is_optional: bool) -> Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let bad = |why: &str| match is_optional {
        true => Ok(String::new()),
        false => Err(error(format!("ROOTFS's {path}: {why}"))),
    };
    let file = match Tree::Own.open(Path::new(path), flags, 0) {
        Ok(file) if is_file(&file) && !is_kernels(&file) => File::from(file),
        Ok(_) => return bad("expected a file"),
        Err(Errno::ENOENT) => return Ok(String::new()),
        Err(errno) => return bad(errno.desc()),
    };
    let mut bytes = vec![];
    match file.take(MOST + 1).read_to_end(&mut bytes) {
        Ok(length) if length as u64 > MOST => bad("expected at most 1 MiB"),
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into()),
        Err(why) => bad(&why.to_string()),
    }
}
