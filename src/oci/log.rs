//! Messages for whoever has called us, in the forms of runc's log; conmon and containerd's shim
//! read the JSON one.

use super::options::Given;
use crate::step::{Result, attempt};
use serde_json::json;
use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::SystemTime;

static IS_TEXT: OnceLock<bool> = OnceLock::new();
static LOG: OnceLock<File> = OnceLock::new();

pub fn open(given: &Given) -> Result<()> {
    let Some(path) = given.get("log") else { return Ok(()) };
    let file = attempt("--log", File::options().append(true).create(true).open(path))?;
    let _ = LOG.set(file);
    let _ = IS_TEXT.set(given.get("log-format") != Some("json"));
    Ok(())
}

pub fn write(level: &str, why: impl Display) {
    let Some(mut file) = LOG.get() else { return };
    let (why, time) = (why.to_string(), now());
    let line = match IS_TEXT.get() {
        Some(true) => format!("time={time:?} level={level} msg={why:?}"),
        _ => json!({"level": level, "msg": why, "time": time}).to_string(),
    };
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
