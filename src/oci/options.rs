//! The command line: options, which may stand anywhere, and words.

use crate::step::Result;
use lexopt::{Arg, ValueExt};

/// For all verbs, with "=" if they take a value. `-x` is short for the first that begins with an x.
pub const OPTIONS: &str = "bundle= process= pid-file= console-socket= preserve-fds= detach env= \
    tty cwd= force all quiet resources= root= rootless log= log-format= format= systemd-cgroup \
    debug no-pivot no-new-keyring regex help version";

/// Options as they were given, and the words between and behind them.
#[derive(Default)]
pub struct Given {
    options: Vec<(&'static str, String)>,
    pub words: Vec<String>,
}

impl Given {
    pub fn take(mut line: lexopt::Parser) -> Result<Given, lexopt::Error> {
        let mut given = Given::default();
        while let Some(arg) = line.next()? {
            if let Some(known) = find(&arg) {
                let name = known.trim_end_matches('=');
                let mut value = String::new();
                if known != name {
                    value = line.value()?.string()?;
                }
                given.options.push((name, value));
                continue;
            }
            let Arg::Value(word) = arg else { return Err(arg.unexpected()) };
            given.words.push(word.string()?);
            if given.words.len() == 2 && given.words[0] == "exec" {
                given.take_command(&mut line)?;
            }
        }
        Ok(given)
    }

    /// What follows the container's name are the command's own options too.
    fn take_command(&mut self, line: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        for word in line.raw_args()? {
            self.words.push(word.string()?);
        }
        Ok(())
    }

    pub fn all(&self, option: &str) -> Vec<&str> {
        let same = self.options.iter().filter(|(name, _)| *name == option);
        same.map(|(_, value)| value.as_str()).collect()
    }

    pub fn get(&self, option: &str) -> Option<&str> {
        self.all(option).pop()
    }

    pub fn is(&self, option: &str) -> bool {
        self.get(option).is_some()
    }

    /// Has it the caller's terminal, and is its end waited for?
    pub fn in_foreground(&self) -> bool {
        self.words[0] != "create" && !self.is("detach")
    }
}

fn find(arg: &Arg) -> Option<&'static str> {
    OPTIONS.split_whitespace().find(|known| match arg {
        Arg::Long(name) => known.trim_end_matches('=') == *name,
        Arg::Short(letter) => known.starts_with(*letter),
        Arg::Value(_) => false,
    })
}
