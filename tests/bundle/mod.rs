//! Bundles of the appendix's tests: config.json, and husk-oci to run it.
#![allow(dead_code, unused_macros, unused_imports)] // every test file uses another part of this

use crate::common::*;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

/// The program, called by the name that makes it an OCI runtime.
pub fn program() -> PathBuf {
    let link = PathBuf::from(concat!(env!("CARGO_TARGET_TMPDIR"), "/husk-oci"));
    let _ = symlink(env!("CARGO_BIN_EXE_husk"), &link); // another test may have made it
    std::env::var_os("HUSK_OCI").map_or(link, PathBuf::from)
}

/// `oci!(host, b)`: a test's host, and a bundle on it.
macro_rules! oci {
    ($host:ident, $bundle:ident) => {
        let $host = $crate::common::host!();
        let $bundle = $crate::bundle::Bundle::new(&$host, $crate::bundle::program());
    };
}
pub(crate) use oci;

/// A directory with config.json, whose root file system is the shared one, and one for the state.
pub struct Bundle<'a> {
    pub host: &'a Host,
    pub dir: TempDir,
    program: PathBuf,
}

impl<'a> Bundle<'a> {
    pub fn new(host: &'a Host, program: PathBuf) -> Bundle<'a> {
        let bundle = Bundle { host, dir: TempDir::new(), program };
        bundle.sh("cd $B && $OCI spec").ok();
        bundle.edit("c['process']['terminal'] = False; c['root']['path'] = os.environ['R']");
        bundle
    }

    /// A shell script on the test's host: $OCI is the program with its own --root, $B the bundle.
    pub fn sh(&self, script: &str) -> Run {
        self.sh_with("", script)
    }

    pub fn sh_with(&self, change: &str, script: &str) -> Run {
        run(self.prepared(script).env("CHANGE", change))
    }

    /// That script's shell, to be started in some other way.
    pub fn prepared(&self, script: &str) -> Command {
        let mut command = self.host.sh_command(script);
        let oci = format!("{} --root {}/state", self.program.display(), self.dir.path());
        command.env("OCI", oci).env("B", self.dir.path()).env("R", rootfs());
        command
    }

    /// Changes config.json, `c`, by a line of Python.
    pub fn edit(&self, change: &str) {
        let script = r#"python3 -c "
import json, os
path = os.environ['B'] + '/config.json'
c = json.load(open(path))
exec(os.environ['CHANGE'])
json.dump(c, open(path, 'w'))""#;
        self.sh_with(change, script).ok();
    }

    pub fn command(&self, words: &str) {
        self.edit(&format!("c['process']['args'] = ['sh', '-c', '''{words}''']"));
    }

    /// Runs the bundle, and returns what it printed.
    #[track_caller]
    pub fn run(&self) -> String {
        self.sh("$OCI run --bundle $B one").ok()
    }

    #[track_caller]
    pub fn refuses(&self, script: &str, words: &[&str]) {
        let done = self.sh(script);
        let all = words.iter().all(|word| done.err.contains(word));
        assert!(done.code == 1 && done.out.is_empty() && all, "expected {words:?}: {done}");
    }
}
