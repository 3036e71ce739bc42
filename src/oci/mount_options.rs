//! The options of a mount, in the words of mount(8) and config.md.

use super::idmap::{self, Mappings};
use super::{fail, list_of, log};
use crate::step::Result;
use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
};
use nix::mount::MsFlags;
use oci_spec::runtime::Mount;

/// What belongs to a mount rather than to its file system: for mount_setattr(2) the attributes to
/// set, and the ones to clear first. An r before a word means: and all mounts below.
const ATTRIBUTES: [(&str, u64, u64); 17] = [
    ("ro", MOUNT_ATTR_RDONLY, 0),
    ("rw", 0, MOUNT_ATTR_RDONLY),
    ("nosuid", MOUNT_ATTR_NOSUID, 0),
    ("suid", 0, MOUNT_ATTR_NOSUID),
    ("nodev", MOUNT_ATTR_NODEV, 0),
    ("dev", 0, MOUNT_ATTR_NODEV),
    ("noexec", MOUNT_ATTR_NOEXEC, 0),
    ("exec", 0, MOUNT_ATTR_NOEXEC),
    ("nodiratime", MOUNT_ATTR_NODIRATIME, 0),
    ("diratime", 0, MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0),
    ("symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW),
    ("noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
    ("strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
    // The kernel's own choice is relatime.
    ("relatime", 0, MOUNT_ATTR__ATIME),
    ("atime", 0, MOUNT_ATTR__ATIME),
    ("nostrictatime", 0, MOUNT_ATTR__ATIME),
];

/// The same attributes as flags of mount(2), which makes new file systems.
const AS_FLAGS: [(u64, MsFlags); 8] = [
    (MOUNT_ATTR_RDONLY, MsFlags::MS_RDONLY),
    (MOUNT_ATTR_NOSUID, MsFlags::MS_NOSUID),
    (MOUNT_ATTR_NODEV, MsFlags::MS_NODEV),
    (MOUNT_ATTR_NOEXEC, MsFlags::MS_NOEXEC),
    (MOUNT_ATTR_NODIRATIME, MsFlags::MS_NODIRATIME),
    (MOUNT_ATTR_NOSYMFOLLOW, MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW)),
    (MOUNT_ATTR_NOATIME, MsFlags::MS_NOATIME),
    (MOUNT_ATTR_STRICTATIME, MsFlags::MS_STRICTATIME),
];

/// What belongs to a file system: to set, and to clear.
const FLAGS: [(&str, &str, MsFlags); 6] = [
    ("sync", "async", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", "nodirsync", MsFlags::MS_DIRSYNC),
    ("lazytime", "nolazytime", MsFlags::MS_LAZYTIME),
    ("mand", "nomand", MsFlags::MS_MANDLOCK),
    ("iversion", "noiversion", MsFlags::MS_I_VERSION),
    ("silent", "loud", MsFlags::MS_SILENT),
];

/// How mounts spread to other mount namespaces, and from them.
const PROPAGATION: [(&str, MsFlags); 4] = [
    ("private", MsFlags::MS_PRIVATE),
    ("slave", MsFlags::MS_SLAVE),
    ("shared", MsFlags::MS_SHARED),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

/// Attributes to set, and others to clear.
#[derive(Clone, Copy, Default)]
pub struct Change {
    pub set: u64,
    pub clear: u64,
}

impl Change {
    /// Later words win.
    fn add(&mut self, set: u64, clear: u64) {
        self.set = self.set & !clear | set;
        self.clear = self.clear & !set | clear;
    }

    pub fn is_none(&self) -> bool {
        self.set | self.clear == 0
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
pub enum Reach {
    #[default]
    No,
    Top,
    All,
}

#[derive(Default)]
pub struct Options {
    pub bind: Reach,
    pub remounts: bool,
    /// Of the mount itself, and of it and all below.
    pub top: Change,
    pub all: Change,
    pub copies_up: bool,
    /// Are its owners mapped?
    pub idmap: Reach,
    /// By mappings among the options, rather than beside them.
    pub mappings: Option<[Mappings; 2]>,
    /// To apply one after the other.
    pub spreads: Vec<MsFlags>,
    filesystem: u64,
    /// The file system's own options.
    pub data: Vec<String>,
}

impl Options {
    pub fn of(m: &Mount) -> Result<Options> {
        let mut options = Options::default();
        if m.typ().as_deref() == Some("bind") {
            options.bind = Reach::Top;
        }
        for word in list_of(m.options()) {
            options.take(word)?;
        }
        if options.bind != Reach::No && options.filesystem != 0 {
            let path = m.destination().display();
            let flags = MsFlags::from_bits_retain(options.filesystem);
            log::warn(format!("mounts: {path}: {flags:?}: a bind keeps its file system's own"));
        }
        if options.bind != Reach::No && !options.data.is_empty() {
            let (path, words) = (m.destination().display(), options.data.join(","));
            log::warn(format!("mounts: {path}: {words}: unknown, ignored"));
        }
        Ok(options)
    }

    fn take(&mut self, word: &str) -> Result<()> {
        if self.take_attribute(word) || self.take_flag(word) {
            return Ok(());
        }
        if let Some(how) = propagation(word) {
            self.spreads.push(how);
            return Ok(());
        }
        match word {
            "defaults" | "" => {}
            "bind" => self.bind = Reach::Top,
            "rbind" => self.bind = Reach::All,
            "remount" => self.remounts = true,
            "tmpcopyup" => self.copies_up = true,
            "idmap" => self.idmap = Reach::Top,
            "ridmap" => self.idmap = Reach::All,
            "move" => return fail("move: is no option of a new mount"),
            _ => return self.take_other(word),
        }
        Ok(())
    }

    fn take_other(&mut self, word: &str) -> Result<()> {
        match word.split_once('=') {
            Some(("idmap", text)) => {
                self.idmap = Reach::Top;
                self.mappings = Some(idmap::of_option(text)?);
            }
            Some(("ridmap", text)) => {
                self.idmap = Reach::All;
                self.mappings = Some(idmap::of_option(text)?);
            }
            _ => self.data.push(word.to_string()),
        }
        Ok(())
    }

    fn take_attribute(&mut self, word: &str) -> bool {
        for (name, set, clear) in ATTRIBUTES {
            if word == name {
                self.top.add(set, clear);
                return true;
            }
            if word.strip_prefix('r') == Some(name) {
                self.all.add(set, clear);
                return true;
            }
        }
        // The opposite of the kernel's own choice is none: it stays.
        if word == "norelatime" || word == "rnorelatime" {
            return true;
        }
        false
    }

    fn take_flag(&mut self, word: &str) -> bool {
        for (set, clear, flag) in FLAGS {
            if word == set {
                self.filesystem |= flag.bits();
                return true;
            }
            if word == clear {
                self.filesystem &= !flag.bits();
                return true;
            }
        }
        false
    }

    /// All of them as flags of mount(2).
    pub fn flags(&self) -> MsFlags {
        let mut flags = MsFlags::from_bits_retain(self.filesystem);
        let set = self.top.set & !self.all.clear | self.all.set;
        for (attribute, flag) in AS_FLAGS {
            if set & attribute != 0 {
                flags |= flag;
            }
        }
        flags
    }

    pub fn stay_writable(&mut self) {
        self.top.set &= !MOUNT_ATTR_RDONLY;
        self.all.set &= !MOUNT_ATTR_RDONLY;
    }

    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MsFlags::MS_RDONLY)
    }
}

/// All words that are no file system's own.
pub fn words() -> Vec<String> {
    let mut words: Vec<String> = vec![];
    for (name, ..) in ATTRIBUTES {
        words.extend([name.to_string(), format!("r{name}")]);
    }
    for (name, _) in PROPAGATION {
        words.extend([name.to_string(), format!("r{name}")]);
    }
    for (set, clear, _) in FLAGS {
        words.extend([set.to_string(), clear.to_string()]);
    }
    for name in ["bind", "rbind", "idmap", "ridmap", "remount", "tmpcopyup", "defaults"] {
        words.push(name.to_string());
    }
    words.extend(["norelatime".to_string(), "rnorelatime".to_string()]);
    words.sort();
    words
}

/// `slave`, or `rslave` for all below too.
pub fn propagation(word: &str) -> Option<MsFlags> {
    for (name, flag) in PROPAGATION {
        if word == name {
            return Some(flag);
        }
        if word.strip_prefix('r') == Some(name) {
            return Some(flag | MsFlags::MS_REC);
        }
    }
    None
}
