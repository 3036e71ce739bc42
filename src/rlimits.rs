//! Limits of a process, getrlimit(2): what --ulimit says.

use crate::step::{Result, step};
use crate::sys;

/// By the names that docker and limits.conf(5) have for them.
const NAMES: [(&str, u32); 15] = [
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

/// Resource, soft and hard limit.
type Limit = (u32, u64, u64);

/// NAME=SOFT[:HARD]; -1 is no limit.
pub fn parse(text: &str) -> Option<Limit> {
    let (name, values) = text.split_once('=')?;
    let (_, resource) = NAMES.iter().find(|(known, _)| *known == name)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (amount(soft)?, amount(hard)?);
    (soft <= hard).then_some((*resource, soft, hard))
}

fn amount(text: &str) -> Option<u64> {
    match text {
        "-1" | "unlimited" => Some(libc::RLIM_INFINITY),
        _ => text.parse().ok(),
    }
}

/// `wanted` are such limits, with commas between them.
pub fn set(wanted: &str) -> Result<()> {
    for text in wanted.split(',') {
        let Some((resource, soft, hard)) = parse(text) else { continue };
        step!(sys::setrlimit(resource, soft, hard), "prlimit --{text}")?;
    }
    Ok(())
}
