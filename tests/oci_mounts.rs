//! The appendix: the mounts of config.json. What is right is in runtime-spec 1.3, config.md, "Linux
//! mount options"; the kernel says in mountinfo what it has made of them.
#![cfg(feature = "oci")]

mod bundle;
mod common;
use bundle::{Bundle, oci};
use common::*;
use std::fs;

/// The fields of a container's mountinfo line: the mount's options, its optional fields, and the
/// file system's own options, with blanks around each word.
fn info(mountinfo: &str, path: &str) -> [String; 3] {
    let mut lines = mountinfo.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let line = lines.rfind(|fields| fields.len() > 6 && fields[4] == path);
    let line = line.unwrap_or_else(|| panic!("no mount at {path} in:\n{mountinfo}"));
    let dash = line.iter().position(|field| *field == "-").expect("a dash");
    let words = |text: &str| format!(" {} ", text.replace(',', " "));
    [words(line[5]), words(&line[6..dash].join(" ")), words(line[dash + 3])]
}

/// A bundle with a root file system of its own, in which targets may be made.
fn writable(b: &Bundle) -> TempDir {
    let copy = fresh_rootfs();
    b.edit(&format!("c['root'] = dict(path='{}', readonly=False)", copy.path()));
    copy
}

#[test]
fn options_of_new_file_systems() {
    oci!(host, b);
    let _copy = writable(&b);
    // Which options, and of what the kernel then says the mount has them, or not ("-").
    let cases = [
        ("ro", "ro"),
        ("rw", "rw"),
        ("nosuid", "nosuid"),
        ("nosuid suid", "-nosuid"),
        ("dev", "-nodev"),
        ("noexec", "noexec"),
        ("noexec exec", "-noexec"),
        ("nosymfollow", "nosymfollow"),
        ("nosymfollow symfollow", "-nosymfollow"),
        ("noatime", "noatime"),
        ("noatime atime", "relatime"),
        ("relatime", "relatime"),
        ("strictatime", "-relatime"),
        ("strictatime", "-noatime"),
        ("strictatime nostrictatime", "relatime"),
        ("nodiratime", "nodiratime"),
        ("nodiratime diratime", "-nodiratime"),
        ("sync", "sync"),
        ("sync async", "-sync"),
        ("dirsync", "dirsync"),
        ("lazytime", "lazytime"),
        ("lazytime nolazytime", "-lazytime"),
        ("iversion", "rw"),
        ("noiversion", "rw"),
        ("silent loud defaults", "rw"),
        ("rro", "ro"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("mode=700 size=64k", "size=64k"),
    ];
    b.edit("c['linux']['resources'] = {'devices': [{'allow': True}]}");
    for (n, (options, _)) in cases.iter().enumerate() {
        b.edit(&format!(
            "c['mounts'].append(dict(destination='/tmp/{n}', type='tmpfs', source='tmpfs', \
             options='{options}'.split()))"
        ));
    }
    b.command("cat /proc/self/mountinfo");
    let mounts = b.run();
    for (n, (options, expected)) in cases.iter().enumerate() {
        let all = info(&mounts, &format!("/tmp/{n}")).concat();
        let (word, wanted) = match expected.strip_prefix('-') {
            Some(word) => (word, false),
            None => (*expected, true),
        };
        assert_eq!(all.contains(&format!(" {word} ")), wanted, "{options}: {expected}: {all}");
    }
}

/// "bind: Bind mount", "rbind: recursively"; the r before a word: "applies recursively, using
/// AT_RECURSIVE"; without it a word is about the top mount only.
#[test]
fn options_of_binds_and_of_what_is_below() {
    oci!(host, b);
    let _copy = writable(&b);
    b.sh(
        "mkdir $B/top; mount -t tmpfs top $B/top; mkdir $B/top/sub; mount -t tmpfs sub $B/top/sub",
    )
    .ok();
    let cases = [
        ("ro", "ro", true, false),
        ("rro", "ro", true, true),
        ("rro rw", "ro", true, true),
        ("nosuid", "nosuid", true, false),
        ("rnosuid", "nosuid", true, true),
        ("noexec", "noexec", true, false),
        ("rnoexec", "noexec", true, true),
        ("rnoexec rexec", "noexec", false, false),
        ("rnodev", "nodev", true, true),
        ("noatime", "noatime", true, false),
        ("rnoatime", "noatime", true, true),
        ("rnoatime ratime", "relatime", true, true),
        ("rstrictatime", "relatime", false, false),
        ("rnodiratime", "nodiratime", true, true),
        ("rnosymfollow", "nosymfollow", true, true),
        ("", "ro", false, false),
    ];
    b.edit("c['linux']['resources'] = {'devices': [{'allow': True}]}");
    for (n, (options, ..)) in cases.iter().enumerate() {
        b.edit(&format!(
            "c['mounts'].append(dict(destination='/tmp/{n}', source='top', \
             options=['rbind'] + '{options}'.split()))"
        ));
    }
    b.edit("c['mounts'].append(dict(destination='/tmp/flat', source='top', options=['bind']))");
    b.command("cat /proc/self/mountinfo");
    let mounts = b.run();
    for (n, (options, word, top, sub)) in cases.iter().enumerate() {
        for (path, wanted) in [("", top), ("/sub", sub)] {
            let [own, ..] = info(&mounts, &format!("/tmp/{n}{path}"));
            assert_eq!(own.contains(&format!(" {word} ")), *wanted, "{options}{path}: {own}");
        }
    }
    assert!(!mounts.contains("/tmp/flat/sub"), "{mounts}");
    b.sh("umount -R $B/top").ok();
}

#[test]
fn propagation() {
    oci!(host, b);
    let _copy = writable(&b);
    b.sh("mkdir $B/top; mount -t tmpfs top $B/top; mount --make-shared $B/top").ok();
    let cases = [
        ("shared", " shared:", ""),
        ("rshared", " shared:", ""),
        ("slave", " master:", ""),
        ("rslave", " master:", " shared:"),
        ("slave shared", " master:", ""),
        ("private", "", " master:"),
        ("rprivate", "", " shared:"),
        ("unbindable", " unbindable ", ""),
        ("runbindable", " unbindable ", ""),
    ];
    for (n, (options, ..)) in cases.iter().enumerate() {
        b.edit(&format!(
            "c['mounts'].append(dict(destination='/tmp/{n}', source='top', \
             options=['rbind'] + '{options}'.split()))"
        ));
    }
    b.edit("c['mounts'].append(dict(destination='/tmp/new', type='tmpfs', options=['shared']))");
    b.command("cat /proc/self/mountinfo");
    let mounts = b.run();
    for (n, (options, has, lacks)) in cases.iter().enumerate() {
        let [_, optional, _] = info(&mounts, &format!("/tmp/{n}"));
        assert!(optional.contains(has), "{options}: {optional}");
        assert!(lacks.is_empty() || !optional.contains(lacks), "{options}: {optional}");
    }
    assert!(info(&mounts, "/tmp/new")[1].contains("shared:"), "{mounts}");
    // "shared: mount events propagate": what the container mounts is seen on the host.
    b.edit("c['mounts'] = [m for m in c['mounts'] if m['destination'][:5] != '/tmp/']");
    b.edit("c['mounts'].append(dict(destination='/tmp/s', source='top', options=['rbind', 'rshared']))");
    b.edit("caps = c['process']['capabilities']; [caps[k].append('CAP_SYS_ADMIN') for k in caps]");
    b.edit("c['linux']['seccomp'] = None");
    b.command("mkdir /tmp/s/new; mount -t tmpfs seen /tmp/s/new");
    b.run();
    assert!(b.sh("cat /proc/self/mountinfo").ok().contains("/top/new "));
    b.sh("umount -R $B/top").ok();
}

/// "tmpcopyup: copy up the contents to a tmpfs".
#[test]
fn tmpfs_over_a_directory() {
    oci!(host, b);
    let copy = writable(&b);
    let dir = format!("{}/full", copy.path());
    b.sh(&format!(
        "mkdir -p {dir}/deep; cd {dir}; chmod 1770 .; chown 3:4 .; echo text > deep/file; \
         chown 5:6 deep/file; chmod 4755 deep/file; ln -s /nowhere link; mkfifo pipe"
    ))
    .ok();
    b.edit("c['mounts'].append(dict(destination='/full', type='tmpfs', options=['tmpcopyup']))");
    b.edit("c['mounts'].append(dict(destination='/tmp', type='tmpfs', options=['mode=711']))");
    b.command(
        "stat -c '%a %n' /full /tmp; cd /full; cat deep/file; \
         stat -c '%a %u %g %F' deep/file; readlink link; stat -c %F pipe; rm -r deep",
    );
    let expected = "1770 /full\n711 /tmp\ntext\n4755 5 6 regular file\n/nowhere\nfifo";
    assert_eq!(b.run(), expected);
    assert_eq!(fs::read_to_string(format!("{dir}/deep/file")).expect("the original"), "text\n");
}

#[test]
fn proc_and_sys_only_on_directories() {
    oci!(host, b);
    let copy = writable(&b);
    for (name, fstype) in [("proc", "proc"), ("sys", "sysfs")] {
        b.sh(&format!("cd {}; mv {name} real; ln -s real {name}", copy.path())).ok();
        b.refuses("$OCI run --bundle $B one", &[fstype, "must be mounted on ordinary directory"]);
        b.sh(&format!("cd {}; rm {name}; mv real {name}", copy.path())).ok();
    }
    b.command("echo fine");
    assert_eq!(b.run(), "fine");
}

/// "remount: Attempt to remount an already-mounted filesystem."
#[test]
fn remounts() {
    oci!(host, b);
    let _copy = writable(&b);
    b.edit("c['mounts'].append(dict(destination='/tmp', type='tmpfs', options=['size=64k']))");
    b.edit(
        "c['mounts'].append(dict(destination='/tmp', type='tmpfs', \
         options=['remount', 'size=128k', 'nosuid']))",
    );
    b.edit("c['mounts'].append(dict(destination='/', options=['bind', 'remount', 'noexec']))");
    b.command("cat /proc/self/mountinfo");
    let run = b.sh("$OCI run --bundle $B one");
    assert!(run.err.contains("permission denied"), "noexec: {run}");
    b.edit("c['mounts'].pop()");
    let mounts = b.run();
    let [own, _, filesystem] = info(&mounts, "/tmp");
    assert!(own.contains(" nosuid ") && filesystem.contains(" size=128k "), "{mounts}");
}

/// "idmap: Indicates that the mount MUST have an idmapping applied. If uidMappings or gidMappings
/// are specified for the mount, the runtime MUST use those values."; "ridmap: … recursively"; "If
/// there are no mappings and the container isn't using user namespaces, an error MUST be returned".
#[test]
fn mapped_owners() {
    oci!(host, b);
    let _copy = writable(&b);
    b.sh(
        "mkdir $B/top; mount -t tmpfs top $B/top; mkdir $B/top/sub; mount -t tmpfs sub $B/top/sub; \
         touch $B/top/file $B/top/sub/file; chown 1000:1000 $B/top/file $B/top/sub/file",
    )
    .ok();
    let mount = |options: &str, more: &str| {
        b.edit(&format!(
            "c['mounts'] = [m for m in c['mounts'] if m['destination'] != '/tmp'] + \
             [dict(destination='/tmp', source='top', options='{options}'.split(){more})]"
        ))
    };
    let maps = ", uidMappings=[dict(containerID=1000, hostID=5, size=1), \
        dict(containerID=0, hostID=0, size=1)], gidMappings=[dict(containerID=1000, hostID=6, size=1)]";
    b.command("stat -c %u:%g /tmp/file /tmp/sub/file");
    mount("rbind idmap", maps);
    assert_eq!(b.run(), "5:6\n1000:1000");
    mount("rbind ridmap", maps);
    assert_eq!(b.run(), "5:6\n5:6");
    // The same among the options, as crun has it.
    mount("rbind ridmap=uids=1000-7-1#0-0-1;gids=1000-8-1", "");
    assert_eq!(b.run(), "7:8\n7:8");
    mount("rbind idmap=uids=1000-7;gids=1000-8-1", "");
    b.refuses("$OCI run --bundle $B one", &["/tmp", "1000-7: expected three numbers"]);
    mount("rbind idmap", "");
    b.refuses("$OCI run --bundle $B one", &["/tmp", "idmap", "uidMappings"]);
    mount("rbind idmap", ", uidMappings=[dict(containerID=0, hostID=0, size=1)]");
    b.refuses("$OCI run --bundle $B one", &["/tmp", "gidMappings"]);
    b.sh("umount -R $B/top").ok();
}
