//! Messages for whoever has called us, in the JSON form of runc's log, which conmon and
//! containerd's shim read.

use super::options::Given;
use crate::step::{Result, attempt};
use serde_json::json;
use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::SystemTime;

static LOG: OnceLock<File> = OnceLock::new();

pub fn open(given: &Given) -> Result<()> {
    let Some(path) = given.get("log") else { return Ok(()) };
    let file = attempt("--log", File::options().append(true).create(true).open(path))?;
    let _ = LOG.set(file);
    Ok(())
}

pub fn write(level: &str, why: impl Display) {
    let Some(mut file) = LOG.get() else { return };
    let line = json!({"level": level, "msg": why.to_string(), "time": now()});
    let _ = file.write_all(format!("{line}\n").as_bytes());
}

pub fn warn(why: impl Display) {
    write("warning", why);
}

pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// For those who close all other files. It is no directory, so it leads nowhere.
pub fn descriptor() -> Option<BorrowedFd<'static>> {
    LOG.get().map(AsFd::as_fd)
}
