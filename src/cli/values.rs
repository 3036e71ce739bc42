//! What the values of options may be, each as a function from text to value; None is a bad one.

use crate::bridge::GATEWAY;
use crate::devices;
use crate::mounts::{Source, Volume};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::net::IpAddr;
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

/// The last ":/" divides SRC from DST, so that SRC may hold colons. The error is what was expected.
pub fn volume(value: &OsStr) -> Result<Volume, &'static str> {
    let (paths, read_only) = match value.as_bytes() {
        [paths @ .., b':', b'r', b'o'] => (paths, true),
        [paths @ .., b':', b'r', b'w'] | paths => (paths, false),
    };
    let Some(colon) = paths.windows(2).rposition(|two| two == b":/") else {
        return Err(match paths {
            _ if paths.contains(&b':') => "an absolute DST",
            _ => "SRC:DST[:ro]; an empty directory is made by --tmpfs DST",
        });
    };
    let source = PathBuf::from(OsStr::from_bytes(&paths[..colon]));
    if !source.is_absolute() {
        return Err("an absolute SRC, such as $PWD/dir (there are no named volumes)");
    }
    let target = &paths[colon + 1..];
    if target.contains(&b':') {
        return Err("no option but :ro or :rw behind SRC:DST");
    }
    let target = mount_point(OsStr::from_bytes(target))?;
    Ok(Volume { source: Source::Host(source), target, read_only })
}

/// Where something can be mounted.
fn mount_point(path: &OsStr) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        return Err("an absolute DST");
    }
    if path.file_name().is_none() {
        return Err("a DST other than / (which is ROOTFS)");
    }
    if path.starts_with("/proc") {
        return Err("a DST outside of /proc (which is the container's own)");
    }
    Ok(path)
}

/// DIR[:OPTION,OPTION...]: a new tmpfs(5), by docker's default not for programs.
pub fn tmpfs(value: &OsStr) -> Result<Volume, &'static str> {
    let bytes = value.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
    let target = mount_point(OsStr::from_bytes(&bytes[..colon]))?;
    let asked = str::from_utf8(bytes.get(colon + 1..).unwrap_or_default()).unwrap_or(":");
    let mut options = vec!["nosuid".into(), "nodev".into()];
    let mut is_noexec = true;
    let mut mode = "1777";
    for word in asked.split(',').filter(|word| !word.is_empty()) {
        let (key, text) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "size" => options.push(format!("size={}", size(text).ok_or("size=SIZE (64m)")?)),
            "mode" => mode = octal(text).ok_or("mode=OCTAL (1777)")?,
            "uid" | "gid" => {
                options.push(format!("{key}={}", id(text).ok_or("uid=NUMBER and gid=NUMBER")?));
            }
            "ro" => options.push("ro".into()),
            "exec" => is_noexec = false,
            "rw" | "noexec" | "nosuid" | "nodev" => {} // so it is
            _ => return Err("DIR[:size=SIZE,mode=OCTAL,uid=NUMBER,gid=NUMBER,exec,ro]"),
        }
    }
    options.push(format!("mode={mode}"));
    if is_noexec {
        options.push("noexec".into());
    }
    Ok(Volume { source: Source::Tmpfs(options.join(",")), target, read_only: false })
}

fn octal(text: &str) -> Option<&str> {
    let mode = u32::from_str_radix(text, 8).ok()?;
    (mode <= 0o7777).then_some(text)
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

/// NAME or UID, and maybe :GROUP, likewise. Whom they mean, the container's own files say.
pub fn user(text: &str) -> Option<String> {
    let (name, group) = text.split_once(':').unwrap_or((text, "0"));
    (is_account(name) && is_account(group)).then(|| text.into())
}

/// May it be a user's or a group's name or number?
pub fn is_account(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return id(text).is_some();
    }
    let is_legal = |c: char| !c.is_control() && !c.is_whitespace() && !":,".contains(c);
    text.chars().all(is_legal) && !text.starts_with('-')
}

/// A user's or a group's number. The last one means "no change" to setresuid(2).
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// A signal, by its number or its name, with SIG or without, in any case; signal(7).
pub fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let text = text.to_ascii_uppercase();
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    if let Some(above) = name.strip_prefix("RTMIN") {
        return real_time(34, above);
    }
    if let Some(below) = name.strip_prefix("RTMAX") {
        return real_time(64, below);
    }
    let signal: Signal = format!("SIG{name}").parse().ok()?;
    Some(signal as i32)
}

/// The C library keeps 32 and 33 for itself, so RTMIN is 34.
fn real_time(base: i32, offset: &str) -> Option<i32> {
    let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    (34..=64).contains(&(base + offset)).then_some(base + offset)
}

/// A name and an address, or docker's word for the host's.
pub fn host(text: &str) -> Option<(String, IpAddr)> {
    let (name, ip) = text.split_once(':')?;
    let is_legal = name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !is_legal || name.is_empty() {
        return None;
    }
    match ip {
        "host-gateway" => Some((name.into(), GATEWAY.into())),
        ip => Some((name.into(), ip.parse().ok()?)),
    }
}
