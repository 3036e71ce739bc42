//! The words of a command line: options, and the values behind them.

use crate::step::{Error, Result, error};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What is left of the command line, and the option that is being read.
pub struct Line {
    pub words: VecDeque<OsString>,
    pub option: String,
    attached: Option<OsString>,
}

impl Line {
    pub fn new(words: VecDeque<OsString>) -> Line {
        Line { words, option: String::new(), attached: None }
    }

    /// Goes on to the next option: `--option`, `--option=value`, `-o`, `-ovalue` or `-op`, which is
    /// `-o -p`. False if there is none: options end at the first word that is not one, or after
    /// `--`.
    pub fn next(&mut self) -> bool {
        let is_option = |word: &OsString| word.len() > 1 && word.as_bytes()[0] == b'-';
        if !self.words.front().is_some_and(is_option) {
            return false;
        }
        let word = self.words.pop_front().unwrap_or_default();
        if word == "--" {
            return false;
        }
        let bytes = word.as_bytes();
        let (name, rest) = if bytes[1] == b'-' {
            let end = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
            bytes.split_at(end)
        } else {
            bytes.split_at(2)
        };
        self.option = String::from_utf8_lossy(name).into_owned();
        self.attached = (!rest.is_empty()).then(|| OsStr::from_bytes(rest).into());
        true
    }

    /// The option takes no value.
    pub fn flag(&mut self) -> Result<()> {
        let Some(rest) = self.attached.take() else { return Ok(()) };
        if let [b'=', ..] = rest.as_bytes() {
            return Err(error(format!("{}{}: takes no value", self.option, rest.display())));
        }
        self.words.push_front(OsString::from_vec([b"-", rest.as_bytes()].concat()));
        Ok(())
    }

    /// As `flag`, but it may say =true or =false.
    pub fn switch(&mut self) -> Result<bool> {
        let says = self.attached.as_ref().and_then(|rest| rest.to_str());
        let is_on = match says {
            Some("=true") => true,
            Some("=false") => false,
            _ => return self.flag().map(|()| true),
        };
        self.attached = None;
        Ok(is_on)
    }

    /// The option's value.
    pub fn value(&mut self, expected: &str) -> Result<OsString> {
        if let Some(attached) = self.attached.take() {
            let bytes = attached.as_bytes();
            let value = bytes.strip_prefix(b"=").unwrap_or(bytes);
            return Ok(OsStr::from_bytes(value).into());
        }
        let missing = || error(format!("{}: expected {expected}", self.option));
        self.words.pop_front().ok_or_else(missing)
    }

    /// The option's value, if it is what `read` makes of it.
    pub fn read<T>(&mut self, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        let value = self.value(expected)?;
        let text = value.to_str().unwrap_or_default();
        read(text).ok_or_else(|| self.bad(&value, expected))
    }

    pub fn bad(&self, value: &OsStr, expected: &str) -> Error {
        error(format!("{} {}: expected {expected}", self.option, value.display()))
    }
}
