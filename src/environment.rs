//! The environment of a command: docker's defaults, and what --env says.

use crate::paths::{c_string, exists};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// docker's, but for HOME, which depends on the user. A container with a terminal also has the
/// caller's TERM.
pub fn defaults(hostname: &str, term: Option<&OsStr>) -> Vec<CString> {
    let mut env = vec![c_string(PATH), c_string(format!("HOSTNAME={hostname}"))];
    if let Some(term) = term {
        env.push(c_string([OsStr::new("TERM="), term].join(OsStr::new(""))));
    }
    env
}

/// With HOME, unless there is one.
pub fn with_home(env: &[CString], home: &str) -> Vec<CString> {
    merge(vec![c_string(format!("HOME={home}"))], env.to_vec())
}

/// The old variables, unless new ones have the same name; sorted.
pub fn merge(old: Vec<CString>, new: Vec<CString>) -> Vec<CString> {
    let mut env = BTreeMap::new();
    for pair in old.into_iter().chain(new) {
        let name = pair.to_bytes().split(|byte| *byte == b'=').next();
        env.insert(name.unwrap_or_default().to_vec(), pair);
    }
    env.into_values().collect()
}

/// The files that a command may mean, in the order of PATH: execvp(3) without its fallback to a
/// shell.
pub fn candidates(command: &CString, env: &[CString]) -> Vec<CString> {
    let name = OsStr::from_bytes(command.to_bytes());
    if name.is_empty() || command.to_bytes().contains(&b'/') {
        return vec![command.clone()];
    }
    let path = env.iter().find_map(|pair| pair.to_bytes().strip_prefix(b"PATH="));
    let dirs = path.unwrap_or_default().split(|byte| *byte == b':');
    dirs.map(|dir| c_string(Path::new(OsStr::from_bytes(dir)).join(name))).collect()
}

/// Why a file that is there can't be run. None if it is not there: the next one may be.
pub fn refusal(file: &CStr, errno: Errno) -> Option<String> {
    match errno {
        Errno::ENOENT if exists(file) => Some("its interpreter is missing".into()),
        Errno::ENOENT | Errno::ENOTDIR => None,
        _ => Some(errno.to_string()),
    }
}
