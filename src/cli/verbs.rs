//! The command lines of those who come back: exec, ps, stop and kill.

use super::values::signal;
use super::words::Line;
use super::{Command, docker, process_option, term};
use crate::Container;
use crate::paths::c_string;
use crate::step::{Result, error};
use std::ffi::{OsStr, OsString};

/// Containers to stop: how many seconds each has for that, and the signal that asks for it, if it
/// is not the container's own.
pub struct Stop {
    pub names: Vec<OsString>,
    pub time: u32,
    pub signal: Option<i32>,
}

/// Containers that get a signal.
pub struct Kill {
    pub names: Vec<OsString>,
    pub signal: i32,
}

pub fn parse_exec(mut line: Line) -> Result<Command> {
    let mut c = Container::default();
    while line.next() {
        process_option(&mut c, &mut line)?;
    }
    if line.words.len() < 2 {
        return Err(error("exec: expected a CONTAINER and a COMMAND"));
    }
    if let Some(term) = term(&c) {
        c.env.insert(0, c_string([OsStr::new("TERM="), &term].join(OsStr::new(""))));
    }
    c.name = line.words.pop_front().unwrap_or_default().to_string_lossy().into();
    c.command = line.words.into_iter().map(c_string).collect();
    Ok(Command::Exec(Box::new(c)))
}

pub fn parse_ps(mut line: Line) -> Result<Command> {
    let mut names_only = false;
    while line.next() {
        match line.option.as_str() {
            "-q" | "--quiet" => {
                line.flag()?;
                names_only = true;
            }
            _ => return Err(docker::refuse_option(&line)),
        }
    }
    if !line.words.is_empty() {
        return Err(error("ps takes no arguments"));
    }
    Ok(Command::Ps { names_only })
}

const SIGNAL: &str = "SIGNAL (INT, SIGINT or 2)";

pub fn parse_stop(mut line: Line) -> Result<Command> {
    let mut stop = Stop { names: vec![], time: 10, signal: None };
    while line.next() {
        match line.option.as_str() {
            "-t" | "--time" => stop.time = line.read("SECONDS", |text| text.parse().ok())?,
            "-s" | "--signal" => stop.signal = Some(line.read(SIGNAL, signal)?),
            _ => return Err(docker::refuse_option(&line)),
        }
    }
    if line.words.is_empty() {
        return Err(error("stop: expected a CONTAINER"));
    }
    stop.names = line.words.into();
    Ok(Command::Stop(stop))
}

pub fn parse_kill(mut line: Line) -> Result<Command> {
    let mut kill = Kill { names: vec![], signal: libc::SIGKILL };
    while line.next() {
        match line.option.as_str() {
            "-s" | "--signal" => kill.signal = line.read(SIGNAL, signal)?,
            _ => return Err(docker::refuse_option(&line)),
        }
    }
    if line.words.is_empty() {
        return Err(error("kill: expected a CONTAINER"));
    }
    kill.names = line.words.into();
    Ok(Command::Kill(kill))
}
