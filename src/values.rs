//! What the values of options may be, each as a function from text to value; None is a bad one.

use crate::devices;
use crate::mounts::Volume;
use std::ffi::OsStr;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Letters, digits and _.- are legal. But a container is a directory among its cgroup's files: it
/// can't be called "cpu.max".
pub fn name(text: &str) -> Option<String> {
    const CONTROLLERS: [&str; 11] = [
        "cgroup", "cpu", "cpuset", "dmem", "hugetlb", "io", "irq", "memory", "misc", "pids", "rdma",
    ];
    let is_legal = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !is_legal || text.is_empty() || text.len() > 63 || text.starts_with(['_', '.', '-']) {
        return None;
    }
    match text.split_once('.') {
        Some((prefix, _)) if CONTROLLERS.contains(&prefix) => None,
        _ => Some(text.into()),
    }
}

/// The last ":/" divides SRC from DST, so that SRC may hold colons.
pub fn volume(value: &OsStr) -> Option<Volume> {
    let (paths, read_only) = match value.as_bytes() {
        [paths @ .., b':', b'r', b'o'] => (paths, true),
        [paths @ .., b':', b'r', b'w'] | paths => (paths, false),
    };
    let colon = paths.windows(2).rposition(|two| two == b":/")?;
    let source = PathBuf::from(OsStr::from_bytes(&paths[..colon]));
    let target = PathBuf::from(OsStr::from_bytes(&paths[colon + 1..]));
    // What is in /proc would be hidden by the container's own. A colon is taken for the beginning
    // of an option of docker's that husk does not have, such as ":ro,z".
    let is_good = target.file_name().is_some()
        && !target.starts_with("/proc")
        && source.is_absolute()
        && !paths[colon + 1..].contains(&b':');
    is_good.then_some(Volume { source, target, read_only })
}

/// SRC[:DST][:rwm] becomes SRC, DST and what is allowed.
pub fn device(text: &str) -> Option<(PathBuf, PathBuf, u32)> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, letters) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, target] if target.starts_with('/') => (source, target, "rwm"),
        [source, letters] => (source, source, letters),
        [source, target, letters] => (source, target, letters),
        _ => return None,
    };
    let (source, target) = (PathBuf::from(source), PathBuf::from(target));
    // As with a volume; and nothing can be made in /sys.
    let is_good = source.is_absolute()
        && target.is_absolute()
        && target.file_name().is_some()
        && !target.starts_with("/proc")
        && !target.starts_with("/sys");
    let access = devices::access(letters)?;
    is_good.then_some((source, target, access))
}

/// Bytes, with one of the kernel's letters for more, or with docker's b.
pub fn size(text: &str) -> Option<String> {
    let size = text.strip_suffix(['b', 'B']).unwrap_or(text);
    let number = size.strip_suffix(|unit| "kmgtKMGT".contains(unit)).unwrap_or(size);
    number.parse::<NonZero<u64>>().ok()?;
    Some(size.into())
}

/// docker's word for the size of a container's changes.
pub fn storage(text: &str) -> Option<String> {
    size(text.strip_prefix("size=")?)
}

/// Microseconds in each period of 100 ms; the kernel takes no less than 1 ms.
pub fn cpu_time(text: &str) -> Option<String> {
    let cpus: f64 = text.parse().ok().filter(|cpus| (0.01..1e6).contains(cpus))?;
    Some(format!("{:.0} 100000", cpus * 1e5))
}

pub fn limit(text: &str) -> Option<(String, String)> {
    let (file, value) = text.split_once('=')?;
    let is_good = file.contains('.') && !file.contains('/') && !file.starts_with("cgroup.");
    is_good.then(|| (file.into(), value.into()))
}

pub fn user(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let id = |text: &str| text.parse().ok().filter(|id| *id != u32::MAX); // setresuid(2)
    Some((id(uid)?, id(gid)?))
}
