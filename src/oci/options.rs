//! The command line: options, which may stand anywhere, and words.

use crate::step::{Result, error};
use lexopt::{Arg, ValueExt};

pub struct Opt {
    pub name: &'static str,
    /// "-" if it has none.
    pub letter: char,
    /// What its value is called; "" if it takes none. With bars between them, all that it may be.
    pub value: &'static str,
    /// The verbs that have it; "" if all have.
    verbs: &'static str,
    pub about: &'static str,
}

const fn opt(
    name: &'static str,
    letter: char,
    value: &'static str,
    verbs: &'static str,
    about: &'static str,
) -> Opt {
    Opt { name, letter, value, verbs, about }
}

pub const OPTIONS: [Opt; 57] = [
    opt("root", '-', "DIR", "", "where the state of containers is kept"),
    opt("log", '-', "FILE", "", "where errors and warnings are written to"),
    opt("log-format", '-', "text|json", "", "and how"),
    opt("debug", '-', "", "", "accepted: there is nothing more to log"),
    opt("cgroup-manager", '-', "cgroupfs", "", "who makes cgroups: husk-oci itself"),
    opt("systemd-cgroup", '-', "", "", "refused: systemd is not asked for cgroups"),
    opt("help", 'h', "", "", "shows this text"),
    opt("version", 'v', "", "", "shows versions"),
    opt("bundle", 'b', "DIR", "create run spec", "where config.json is; by default here"),
    opt("console-socket", '-', "PATH", "create run exec", "gets the container's terminal"),
    opt("pid-file", '-', "FILE", "create run exec", "gets the process's number"),
    opt("preserve-fds", '-', "N", "create run exec", "how many files beyond 0 to 2 it gets"),
    opt("no-new-keyring", '-', "", "create run", "it keeps the caller's session keyring"),
    opt("no-pivot", '-', "", "create run", "refused: a chroot can be left"),
    opt("no-subreaper", '-', "", "create run exec", "accepted: husk-oci is none"),
    opt("detach", 'd', "", "run exec", "does not wait for its end"),
    opt("keep", '-', "", "run", "does not delete it at its end"),
    opt("process", 'p', "FILE", "exec", "what to run, as in config.json; - is standard input"),
    opt("cwd", '-', "DIR", "exec", "its working directory"),
    opt("env", 'e', "NAME=VALUE", "exec", "a variable"),
    opt("tty", 't', "", "exec", "a terminal of its own"),
    opt("user", 'u', "UID[:GID]", "exec", "whose process it is"),
    opt("additional-gids", 'g', "GID", "exec", "one more of its groups"),
    opt("cap", 'c', "NAME", "exec", "one more of its capabilities"),
    opt("no-new-privs", '-', "", "exec", "no program gives it more privileges"),
    opt("apparmor", '-', "PROFILE", "exec", "its AppArmor profile"),
    opt("process-label", '-', "LABEL", "exec", "its SELinux label"),
    opt("cgroup", '-', "PATH", "exec", "a cgroup below the container's"),
    opt("ignore-paused", '-', "", "exec", "waits in a container that is paused"),
    opt("force", 'f', "", "delete", "ends it first; it may be missing"),
    opt("regex", '-', "", "delete", "all whose IDs fit a regular expression"),
    opt("all", 'a', "", "kill", "all processes of the container"),
    opt("format", 'f', "table|json", "list ps", "by default a table"),
    opt("quiet", 'q', "", "list", "IDs only"),
    opt("stats", '-', "", "events", "once, what it uses now"),
    opt("interval", '-', "SECONDS", "events", "how often; by default each 5"),
    opt("rootless", '-', "", "spec", "for an ordinary user"),
    opt("resources", 'r', "FILE", "update", "limits as in config.json; - is standard input"),
    opt("memory", '-', "BYTES", "update", "memory.limit"),
    opt("memory-reservation", '-', "BYTES", "update", "memory.reservation"),
    opt("memory-swap", '-', "BYTES", "update", "memory.swap, which is both together"),
    opt("kernel-memory", '-', "BYTES", "update", "memory.kernel"),
    opt("pids-limit", '-', "N", "update", "pids.limit"),
    opt("cpu-share", '-', "N", "update", "cpu.shares"),
    opt("cpu-shares", '-', "N", "update", "the same"),
    opt("cpu-quota", '-', "USEC", "update", "cpu.quota"),
    opt("cpu-period", '-', "USEC", "update", "cpu.period"),
    opt("cpu-burst", '-', "USEC", "update", "cpu.burst"),
    opt("cpu-idle", '-', "N", "update", "cpu.idle"),
    opt("cpu-rt-runtime", '-', "USEC", "update", "cpu.realtimeRuntime"),
    opt("cpu-rt-period", '-', "USEC", "update", "cpu.realtimePeriod"),
    opt("cpuset-cpus", '-', "LIST", "update", "cpu.cpus"),
    opt("cpuset-mems", '-', "LIST", "update", "cpu.mems"),
    opt("blkio-weight", '-', "N", "update", "blockIO.weight"),
    opt("l3-cache-schema", '-', "TEXT", "update", "refused: intelRdt"),
    opt("mem-bw-schema", '-', "TEXT", "update", "refused: intelRdt"),
    opt("kernel-memory-tcp", '-', "BYTES", "update", "memory.kernelTCP"),
];

impl Opt {
    /// Has this verb the option, and is it not one that all have?
    pub fn is_of(&self, verb: &str) -> bool {
        self.verbs.split(' ').any(|one| one == verb)
    }

    fn is_called(&self, arg: &Arg) -> bool {
        match arg {
            Arg::Long(name) => *name == self.name,
            Arg::Short(letter) => *letter == self.letter,
            Arg::Value(_) => false,
        }
    }

    fn check(&self, value: &str) -> Result<()> {
        if self.value.contains('|') || self.name == "cgroup-manager" {
            let mut all = self.value.split('|');
            if !all.any(|one| one == value) {
                let (name, expected) = (self.name, self.value);
                return Err(error(format!("--{name} {value}: expected {expected}")));
            }
        }
        Ok(())
    }
}

/// Options as they were given, and the words between and behind them.
#[derive(Default)]
pub struct Given {
    options: Vec<(&'static str, String)>,
    pub words: Vec<String>,
}

impl Given {
    pub fn take(mut line: lexopt::Parser) -> Result<Given> {
        let mut given = Given::default();
        while let Some(arg) = line.next().map_err(error)? {
            let Arg::Value(word) = arg else {
                let known = find(&arg, given.verb());
                let Some(known) = known else { return Err(error(arg.unexpected())) };
                let mut value = String::new();
                if !known.value.is_empty() {
                    value = line.value().and_then(ValueExt::string).map_err(error)?;
                }
                known.check(&value)?;
                given.options.push((known.name, value));
                continue;
            };
            given.words.push(word.string().map_err(error)?);
            if given.words.len() == 2 && given.verb() == "exec" {
                given.take_command(&mut line)?;
            }
        }
        Ok(given)
    }

    /// What follows the container's name are the command's own options, too.
    fn take_command(&mut self, line: &mut lexopt::Parser) -> Result<()> {
        for word in line.raw_args().map_err(error)? {
            self.words.push(word.string().map_err(error)?);
        }
        Ok(())
    }

    pub fn verb(&self) -> &str {
        self.words.first().map_or("", String::as_str)
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
        self.verb() != "create" && !self.is("detach")
    }
}

/// The verb's own come before those that all have.
fn find(arg: &Arg, verb: &str) -> Option<&'static Opt> {
    let mut own = OPTIONS.iter().filter(|option| option.is_of(verb));
    let mut common = OPTIONS.iter().filter(|option| option.verbs.is_empty());
    let own = own.find(|option| option.is_called(arg));
    own.or(common.find(|option| option.is_called(arg)))
}
