//! The program that says which devices a cgroup's processes may use, in the kernel itself.

mod common;
#[allow(dead_code)]
#[path = "../src"]
mod husk {
    pub mod caller;
    pub mod devices;
    pub mod paths;
    pub mod step;
    pub mod sys;
}
use husk::{caller, devices, paths, step, sys};

use common::*;
use devices::{ALL, Kind, MKNOD, READ, Rule, WRITE, access, attach, device_program};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;

fn rule(allow: bool, kind: Kind, numbers: (u32, u32), access: u32) -> Rule {
    Rule { allow, kind, major: Some(numbers.0), minor: Some(numbers.1), access }
}

fn every(allow: bool) -> Rule {
    Rule { allow, kind: Kind::Any, major: None, minor: None, access: ALL }
}

const NULL: (u32, u32) = (1, 3);
const ZERO: (u32, u32) = (1, 5);
const FULL: (u32, u32) = (1, 7);

/// A cgroup of this host with these rules.
struct Place<'a> {
    host: &'a Host,
    name: &'static str,
}

impl<'a> Place<'a> {
    fn new(host: &'a Host, name: &'static str) -> Place<'a> {
        let place = Place { host, name };
        fs::create_dir(place.dir()).expect("mkdir");
        place
    }

    fn dir(&self) -> PathBuf {
        self.host.cgroup.join(self.name)
    }

    fn set(&self, rules: &[Rule]) {
        let dir = File::open(self.dir()).expect("the cgroup's directory");
        attach(dir.as_fd(), &device_program(rules)).expect("attach");
    }

    /// What works in there of: reading, writing, both with one descriptor; as `rw+`.
    fn works(&self, device: &str) -> String {
        // Without standard error: /dev/null may be what is refused.
        let script = "exec 2>&-; (: <$0) && printf r; (: >$0) && printf w; (: <>$0) && printf +; :";
        run(self.host.command_in(self.name, "sh").args(["-c", script, device])).ok()
    }

    /// mknod of a node that only this test sees.
    fn makes(&self, kind: &str, (major, minor): (u32, u32)) -> bool {
        let dir = TempDir::new();
        let script = format!("mknod {}/node {kind} {major} {minor}", dir.path());
        run(self.host.command_in(self.name, "sh").args(["-c", &script])).code == 0
    }
}

#[test]
fn last_rule_wins() {
    let host = host!();
    let place = Place::new(&host, "devices");
    let works = |device| place.works(device);
    assert_eq!(works("/dev/null"), "rw+", "no program, no rules");

    place.set(&[]);
    assert_eq!(works("/dev/null"), "", "what no rule allows is refused");
    assert!(!place.makes("c", NULL));

    place.set(&[every(true)]);
    assert_eq!(works("/dev/null"), "rw+", "replaced");
    assert!(place.makes("c", NULL));

    place.set(&[every(false), rule(true, Kind::Char, NULL, ALL)]);
    assert_eq!([works("/dev/null"), works("/dev/zero"), works("/dev/full")], ["rw+", "", ""]);

    place.set(&[rule(true, Kind::Char, NULL, ALL), every(false)]);
    assert_eq!(works("/dev/null"), "", "the last one counts");

    place.set(&[every(true), rule(false, Kind::Char, NULL, ALL)]);
    assert_eq!([works("/dev/null"), works("/dev/zero")], ["", "rw+"]);
}

#[test]
fn letters() {
    let host = host!();
    let place = Place::new(&host, "devices");
    let works = |device| place.works(device);

    place.set(&[rule(true, Kind::Char, NULL, READ), rule(true, Kind::Char, ZERO, WRITE | MKNOD)]);
    assert_eq!([works("/dev/null"), works("/dev/zero")], ["r", "w"]);
    assert_eq!([place.makes("c", NULL), place.makes("c", ZERO)], [false, true]);

    // Two rules allow together what they allow; a refusal of one letter refuses both at once, too.
    place.set(&[rule(true, Kind::Char, NULL, READ), rule(true, Kind::Char, NULL, WRITE)]);
    assert_eq!(works("/dev/null"), "rw+");
    place.set(&[every(true), rule(false, Kind::Char, NULL, WRITE)]);
    assert_eq!([works("/dev/null"), works("/dev/zero")], ["r", "rw+"]);
    place.set(&[
        every(true),
        rule(false, Kind::Char, NULL, ALL),
        rule(true, Kind::Char, NULL, READ),
    ]);
    assert_eq!([works("/dev/null"), works("/dev/zero")], ["r", "rw+"]);
    assert_eq!([place.makes("c", NULL), place.makes("c", ZERO)], [false, true]);
}

#[test]
fn wildcards_and_kinds() {
    let host = host!();
    let place = Place::new(&host, "devices");
    let works = |device| place.works(device);
    let of_major = Rule { minor: None, ..rule(true, Kind::Char, (1, 0), ALL) };
    let of_minor = Rule { major: None, ..rule(true, Kind::Char, (0, 5), ALL) };
    let of_both = Rule { kind: Kind::Any, ..rule(true, Kind::Char, FULL, ALL) };
    let blocks = Rule { major: None, minor: None, ..rule(true, Kind::Block, (0, 0), ALL) };

    place.set(&[of_major]);
    assert_eq!([works("/dev/null"), works("/dev/zero")], ["rw+", "rw+"]);
    assert_eq!([place.makes("c", (1, 77)), place.makes("c", (2, 3))], [true, false]);
    assert!(!place.makes("b", (1, 3)), "a block device with the same numbers");
    place.set(&[of_minor]);
    assert_eq!([works("/dev/null"), works("/dev/zero")], ["", "rw+"]);
    place.set(&[of_both]);
    assert_eq!([works("/dev/full"), works("/dev/zero")], ["rw+", ""]);
    assert_eq!([place.makes("b", FULL), place.makes("c", FULL)], [true, true]);
    place.set(&[blocks]);
    assert_eq!(works("/dev/null"), "");
    assert_eq!([place.makes("b", (7, 9)), place.makes("c", (7, 9))], [true, false]);
    // Numbers of 32 bits are compared as such.
    place.set(&[rule(true, Kind::Char, (u32::MAX, u32::MAX), ALL)]);
    assert_eq!(works("/dev/null"), "");
}

/// More rules than anybody has; and those of a cgroup above hold, too.
#[test]
fn many_rules() {
    let host = host!();
    let place = Place::new(&host, "devices");
    let mut rules: Vec<_> = (0..5000).map(|n| rule(true, Kind::Char, (200, n), ALL)).collect();
    rules.insert(0, rule(true, Kind::Char, NULL, ALL));
    place.set(&rules);
    assert_eq!([place.works("/dev/null"), place.works("/dev/zero")], ["rw+", ""]);

    let below = Place::new(&host, "devices/below");
    assert_eq!([below.works("/dev/null"), below.works("/dev/zero")], ["rw+", ""]);
    below.set(&[every(true), rule(false, Kind::Char, NULL, WRITE)]);
    assert_eq!([below.works("/dev/null"), below.works("/dev/zero")], ["r", ""]);
    for _ in 0..100 {
        below.set(&[every(true)]); // what was there goes: the kernel takes 64 at most
    }
    assert_eq!([below.works("/dev/null"), below.works("/dev/zero")], ["rw+", ""]);
}

#[test]
fn letters_by_name() {
    assert_eq!(access("r"), Some(READ));
    assert_eq!(access("mwr"), Some(ALL));
    for wrong in ["", "x", "rr", "rwmr", "RW", "r w"] {
        assert_eq!(access(wrong), None, "{wrong:?}");
    }
}

// ---- husk run --device --------------------------------------------------------------------------

/// What works of reading, writing and both; and of chmod, which must not reach the host's node.
const TRY: &str = r#"try() {
    (: <$1) && printf r; (: >$1) && printf w; (: <>$1) && printf +; chmod 666 $1 && printf C
    printf ' '
    }; exec 2>&-;"#;

fn tried(host: &Host, options: &[&str], devices: &str) -> String {
    let script = format!("{TRY} for device in {devices}; do try $device; done");
    host.inside(&[&["--network", "none"], options].concat(), &script).ok()
}

#[test]
fn a_device_by_another_name() {
    let host = host!();
    let options = ["--device", "/dev/zero:/dev/deep/er/zero", "--device=/dev/full:/nodes/full:rw"];
    let devices = "/dev/deep/er/zero /nodes/full /dev/zero /dev/null";
    // What is not named r or w may still be read and written: only m is missing of full.
    assert_eq!(tried(&host, &options, devices), "rw+ rw+ rw+ rw+ ");
    let read = "head -c 3 /dev/deep/er/zero | od -An -tx1";
    assert_eq!(host.inside(&options, read).ok().trim(), "00 00 00");
    let made = "mknod /dev/x c 1 7; mknod /dev/y c 1 5; ls /dev/x /dev/y 2>/dev/null";
    let options = [&options[..], &["--cap-add", "MKNOD"]].concat();
    assert_eq!(host.inside(&options, made).out, "/dev/y\n");
}

#[test]
fn letters_of_a_device() {
    let host = host!();
    let read = ["--device", "/dev/full:/dev/f:r"];
    assert_eq!(tried(&host, &read, "/dev/f /dev/full /dev/zero"), "r r rw+ ");
    let write = ["--device", "/dev/full:w"];
    assert_eq!(tried(&host, &write, "/dev/full /dev/zero"), "w rw+ ");
    let both = ["--device", "/dev/full:/dev/r:r", "--device", "/dev/full:/dev/w:w"];
    assert_eq!(tried(&host, &both, "/dev/r /dev/w"), "rw+ rw+ ", "the letters are the device's");
    // For those who come later, too, and for whom it isn't meant no less.
    let name = ["--name", "limited", "--device", "/dev/full:r"];
    let limited = host.stays(&name, ":");
    let script = format!("{TRY} try /dev/full; try /dev/zero");
    assert_eq!(host.husk(&["exec", "limited", "sh", "-c", &script]).ok(), "r rw+ ");
    assert_eq!(tried(&host, &[], "/dev/full"), "rw+ ");
    host.kill_inits();
    assert_eq!(limited.wait().code, 137);
}

#[test]
fn a_directory_of_devices() {
    let host = host!();
    let dir = TempDir::new();
    let script = r#"cd "$0" && mkdir sub && mknod one c 1 5 && mknod sub/two c 1 7 &&
        ln -s one link && echo text > file"#;
    run(host.command("sh").args(["-c", script, dir.path()])).ok();
    let all = format!("{}:/dev/all:r", dir.path());
    let options = ["--device", &all];
    assert_eq!(
        host.inside(&options, "cd /dev/all && find . | sort").ok(),
        ".\n./one\n./sub\n./sub/two"
    );
    assert_eq!(tried(&host, &options, "/dev/all/one /dev/all/sub/two /dev/null"), "r r rw+ ");
}

/// A node that a volume brings is dead, though its mode can be changed; the same by --device is not.
#[test]
fn not_by_a_volume() {
    let host = host!();
    let dir = TempDir::new();
    let node = format!("{}/zero", dir.path());
    run(host.command("mknod").args([&node, "c", "1", "5"])).ok();
    let shared = format!("{node}:/zero");
    assert_eq!(tried(&host, &["-v", &shared], "/zero"), "C ");
    assert_eq!(tried(&host, &["--device", &shared], "/zero"), "rw+ ");
}

#[test]
fn as_an_ordinary_user() {
    let host = host!();
    let (dir, root) = (husk_for_all(), rootfs_of(1000));
    let husk = |options: &[&str]| {
        let script = format!("{TRY} try /dev/x; try /dev/zero");
        let args = [&["run"], options, &[root.path(), "sh", "-c", &script]].concat();
        run(as_user(host.command(dir.join("husk")).args(args), 1000))
    };
    assert_eq!(husk(&["--device", "/dev/full:/dev/x"]).ok(), "rw+ rw+ ");
    husk(&["--device", "/dev/full:/dev/x:r"]).refused(125, &["--device", "rwm", "root"]);
}

#[test]
fn mistakes() {
    let host = host!();
    let dir = TempDir::new();
    let expected = "expected SRC[:DST][:rwm]";
    for (device, words) in [
        ("", &["--device", expected][..]),
        ("dev/null", &["dev/null", expected]),
        ("/dev/null:", &["/dev/null:", expected]),
        ("/dev/null:null", &["/dev/null:null", expected]),
        ("/dev/null:rr", &["/dev/null:rr", expected]),
        ("/dev/null:/dev/x:", &[expected]),
        ("/dev/null:/dev/x:rwx", &["/dev/null:/dev/x:rwx", expected]),
        ("/dev/null:/dev/x:r:w", &[expected]),
        ("/dev/null:/", &[expected]),
        ("/dev/null:/proc/x", &[expected]),
        ("/dev/null:/sys/x", &[expected]),
        ("/dev/no-such-device", &["--device /dev/no-such-device", "ENOENT"]),
        ("/etc/passwd", &["--device /etc/passwd", "expected a device"]),
        (dir.path(), &["expected a device, or a directory with some"]),
    ] {
        host.husk(&["run", "--device", device, rootfs(), "true"]).refused(125, words);
    }
    host.husk(&["run", "--device", "/dev/null:/etc", rootfs(), "true"]).refused(125, &["/etc"]);
}
