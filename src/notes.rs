//! What a later `husk exec` or `husk stop` has to know of a container. The kernel keeps it, in
//! attributes of the container's cgroup directory, xattr(7). Root's begin with "trusted.": nobody
//! in a container can read or change those. A user's begin with "user.": whatever runs in the
//! container is that same user.

use crate::caller::is_rootless;
use crate::paths::c_string;
use crate::sys;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where there are none, it is all empty.
#[derive(Default)]
pub struct Notes {
    pub user: String,
    pub ulimits: String,
    pub stop_signal: Option<i32>,
    pub workdir: PathBuf,
    pub env: Vec<CString>,
}

/// The kernel takes 64 KiB in one attribute. Of a user's it takes twice that, and of root's more
/// than a command's environment can be.
const MOST: usize = 60_000;

fn attribute(name: &str) -> String {
    let kind = if is_rootless() { "user" } else { "trusted" };
    format!("{kind}.husk.{name}")
}

/// It is no error if there is no room for a part: exec has defaults.
pub fn keep(
    cgroup: &File,
    user: &str,
    ulimits: &str,
    stop_signal: i32,
    workdir: &Path,
    env: &[CString],
) {
    let signal = stop_signal.to_string();
    let workdir = workdir.as_os_str().as_bytes();
    let words = [user.as_bytes(), ulimits.as_bytes(), signal.as_bytes(), workdir];
    let _ = sys::fsetxattr(cgroup, &attribute("command"), &words.join(&0));
    let mut variables = vec![];
    for pair in env {
        variables.extend(pair.to_bytes_with_nul());
    }
    // The last part comes first: without the first one nobody reads the others.
    for (number, part) in variables.chunks(MOST).enumerate().rev() {
        if sys::fsetxattr(cgroup, &attribute(&format!("env{number}")), part).is_err() {
            break;
        }
    }
}

pub fn read(cgroup: &File) -> Notes {
    let command = sys::fgetxattr(cgroup, &attribute("command")).unwrap_or_default();
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    let [user, ulimits, signal, workdir] = words[..] else { return Notes::default() };
    let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let mut variables = vec![];
    for number in 0.. {
        match sys::fgetxattr(cgroup, &attribute(&format!("env{number}"))) {
            Ok(part) => variables.extend(part),
            Err(_) => break,
        }
    }
    let pairs = variables.split(|byte| *byte == 0).filter(|pair| !pair.is_empty());
    Notes {
        user: text(user),
        ulimits: text(ulimits),
        stop_signal: text(signal).parse().ok(),
        workdir: OsString::from_vec(workdir.to_vec()).into(),
        env: pairs.map(|pair| c_string(OsStr::from_bytes(pair))).collect(),
    }
}
