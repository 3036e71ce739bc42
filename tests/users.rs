//! `-u` by name: users, groups and home directories as the container's own files have them; these
//! are somebody else's text.

mod common;
use common::*;
use std::fs;
use std::os::unix::fs::symlink;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
postgres:x:101:103::/var/lib/postgresql:/bin/sh
homeless:x:102:104:::
4711:x:5:5::/wrong:
broken
odd:x:x:1::/odd:/bin/sh
";

const GROUP: &str = "root:x:0:
ssl-cert:x:107:postgres
mail:x:8:somebody,postgres
postgres:x:103:
staff:x:50:homeless
broken
";

fn root() -> TempDir {
    let root = fresh_rootfs();
    fs::write(root.join("etc/passwd"), PASSWD).expect("write");
    fs::write(root.join("etc/group"), GROUP).expect("write");
    root
}

const WHO: &str = "grep -E '^(Uid|Gid|Groups):' /proc/self/status | cut -f 2- | tr '\\t\\n' '  ';
    echo $HOME";

fn ids(uid: u32, gid: u32, groups: &str, home: &str) -> String {
    let four = |id: u32| format!("{id} {id} {id} {id}");
    format!("{} {} {groups} {home}", four(uid), four(gid)).replace("  ", " ")
}

/// Spaces as in `ids`.
fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn names_and_numbers() {
    let host = host!();
    let root = root();
    for (user, wanted) in [
        ("postgres", ids(101, 103, "8 107", "/var/lib/postgresql")),
        ("101", ids(101, 103, "8 107", "/var/lib/postgresql")),
        ("postgres:staff", ids(101, 50, "", "/var/lib/postgresql")),
        ("postgres:12", ids(101, 12, "", "/var/lib/postgresql")),
        ("homeless", ids(102, 104, "50", "/")),
        ("4711", ids(4711, 0, "", "/")), // a number is no name
        ("4711:mail", ids(4711, 8, "", "/")),
        ("root", ids(0, 0, "", "/root")),
        ("0:103", ids(0, 103, "", "/root")),
    ] {
        let run = host.husk(&["run", "-u", user, root.path(), "sh", "-c", WHO]).ok();
        assert_eq!(tidy(&run), wanted, "-u {user}");
    }
    let more = ["--group-add", "ssl-cert", "--group-add=12", "-u", "1000:1000"];
    let run = host.husk(&[&["run"], &more[..], &[root.path(), "sh", "-c", WHO]].concat()).ok();
    assert_eq!(tidy(&run), ids(1000, 1000, "12 107", "/"));
    let home = ["run", "-u", "postgres", "-e", "HOME=/mine", root.path(), "sh", "-c", "echo $HOME"];
    assert_eq!(host.husk(&home).ok(), "/mine");
}

#[test]
fn exec_by_name() {
    let host = host!();
    let root = root();
    host.husk(&["run", "-d", "--name=x", "-u", "postgres", root.path(), "sleep", "1000"]).ok();
    let exec = |options: &[&str]| {
        tidy(&host.husk(&[&["exec"], options, &["x", "sh", "-c", WHO]].concat()).ok())
    };
    assert_eq!(exec(&[]), ids(101, 103, "8 107", "/var/lib/postgresql"));
    assert_eq!(exec(&["-u", "root"]), ids(0, 0, "", "/root"));
    assert_eq!(exec(&["-u", "homeless:mail"]), ids(102, 8, "", "/"));
    host.husk(&["exec", "-u", "nonesuch", "x", "true"]).refused(125, &["nonesuch", "/etc/passwd"]);
    host.husk(&["stop", "-t0", "x"]).ok();
}

#[test]
fn unknown_names() {
    let host = host!();
    let root = root();
    for (user, words) in [
        ("nonesuch", &["--user nonesuch", "no nonesuch", "/etc/passwd"][..]),
        ("odd", &["--user odd", "/etc/passwd"]),
        ("postgres:nonesuch", &["--user nonesuch", "/etc/group"]),
        ("a b", &["-u a b", "expected USER[:GROUP]"]),
        ("a,b", &["-u a,b", "expected USER[:GROUP]"]),
        (":mail", &["-u :mail", "expected USER[:GROUP]"]),
        ("4294967295", &["-u 4294967295", "expected USER[:GROUP]"]),
    ] {
        host.husk(&["run", "-u", user, root.path(), "true"]).refused(125, words);
    }
    let run = ["run", "--group-add", "nonesuch", root.path(), "true"];
    host.husk(&run).refused(125, &["--group-add nonesuch", "/etc/group"]);
}

/// Whatever a ROOTFS has in place of these files: an error and an end, or a number that works.
#[test]
fn hostile_files() {
    let host = host!();
    let root = root();
    let secret = TempDir::new();
    fs::write(secret.join("passwd"), "thief:x:0:0::/:\n").expect("write");
    let volume = ["-v", "/proc:/hp:ro"];
    let passwd = root.join("etc/passwd");
    let try_all = |what: &str, words: &[&str]| {
        let by_name = ["-u", "thief", root.path(), "true"];
        host.husk(&[&["run"], &volume[..], &by_name].concat()).refused(125, words);
        let script = "echo $(grep ^Uid /proc/self/status | cut -f 2) $HOME";
        let by_number = ["-u", "101", root.path(), "sh", "-c", script];
        let run = host.husk(&[&["run"], &volume[..], &by_number].concat());
        assert_eq!(run.ok(), "101 /", "{what}");
    };
    let made = |command: &str| {
        fs::remove_file(&passwd).or_else(|_| fs::remove_dir(&passwd)).expect("rm");
        host.sh(&command.replace("PASSWD", passwd.to_str().expect("UTF-8"))).ok();
    };
    made("mkfifo PASSWD");
    try_all("a fifo", &["/etc/passwd", "expected a file"]);
    made("mkdir PASSWD");
    try_all("a directory", &["/etc/passwd", "expected a file"]);
    made("truncate -s 3G PASSWD");
    try_all("a large file", &["/etc/passwd", "1 MiB"]);
    made("yes thief:x:0:0::/: | head -c 2000000 > PASSWD");
    host.husk(&["run", "-u", "thief", root.path(), "true"]).refused(125, &["1 MiB"]);
    made("ln -s /nowhere PASSWD");
    try_all("a dangling link", &["no thief", "/etc/passwd"]);
    // A procfs that a volume brought in has links to the host.
    fs::remove_file(&passwd).expect("rm");
    symlink(format!("/hp/{}/root{}/passwd", host.pid(), secret.path()), &passwd).expect("ln -s");
    try_all("a link to the host", &["/etc/passwd"]);
    for kernels in
        ["/proc/kmsg", "/proc/self/environ", "/proc/meminfo", "/sys/kernel/uevent_seqnum"]
    {
        made(&format!("ln -s {kernels} PASSWD"));
        try_all(kernels, &["/etc/passwd", "expected a file"]);
    }
    made("head -c 3000 /dev/urandom > PASSWD");
    try_all("noise", &["no thief", "/etc/passwd"]);
}

#[test]
fn rootless() {
    let host = host!();
    let (bin, root) = (husk_for_all(), rootfs_of(1000));
    let husk = |args: &[&str]| {
        let mut command = host.command(bin.join("husk"));
        run(as_user(command.args(args), 1000))
    };
    assert_eq!(husk(&["run", "-u", "root:root", root.path(), "id", "-u"]).ok(), "0");
    for options in [&["-u", "nobody"][..], &["-u", "1000"], &["-u", "0:5"], &["--group-add=tty"]] {
        let run = husk(&[&["run"], options, &[root.path(), "true"]].concat());
        run.refused(125, &["--user", "one user and one group"]);
    }
    // Of the host's own root the kernel shows a user too little, with all that is mounted in it.
    husk(&["run", "/", "id"]).refused(125, &["ROOTFS /", "mounted in it", "be root"]);
}
