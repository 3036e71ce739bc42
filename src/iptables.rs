//! iptables(8): the one program that husk runs for itself, once per host and for published ports.

use crate::step::{Result, attempt, say_step};
use std::io;
use std::path::PathBuf;
use std::process::Command;

pub struct Iptables(PathBuf);

impl Iptables {
    /// It is often in a directory that PATH lacks, as cron's and su's does.
    pub fn find() -> Option<Iptables> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
        dirs.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
        dirs.into_iter().map(|dir| dir.join("iptables")).find(|file| file.is_file()).map(Iptables)
    }

    /// A rule in iptables' own words, of which none has a space in it.
    pub fn rule(&self, rule: &str) -> Result<()> {
        attempt(format_args!("iptables -w {rule}"), self.run(rule))?;
        Ok(())
    }

    /// The same, but it does not matter whether it works: mostly it is to delete something.
    pub fn try_rule(&self, rule: &str) {
        let _ = self.run(rule);
    }

    /// The rules that are there, as they would be made: `-A CHAIN ...`, a line each.
    pub fn list(&self, chain: &str) -> Vec<String> {
        let text = self.run(chain).unwrap_or_default();
        text.lines().map(|line| line.replace('"', "")).collect()
    }

    /// -w: another one may be at work, and has a lock.
    fn run(&self, rule: &str) -> io::Result<String> {
        say_step(format_args!("iptables -w {rule}"));
        let done = Command::new(&self.0).arg("-w").args(rule.split(' ')).output()?;
        if !done.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}
