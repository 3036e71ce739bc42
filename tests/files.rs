//! Volumes and tmpfs: each mistake in its own words, and what lies where.

mod common;
use common::*;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn mistakes() {
    let host = host!();
    for (options, words) in [
        (&["-v", "/tmp"][..], &["-v /tmp", "SRC:DST", "--tmpfs"][..]),
        (&["-v", "./x:/y"], &["-v ./x:/y", "an absolute SRC", "$PWD"]),
        (&["-v", "data:/y"], &["-v data:/y", "no named volumes"]),
        (&["-v", "/no/such:/y"], &["-v /no/such:/y", "a SRC that exists"]),
        (&["-v", "/tmp:y"], &["-v /tmp:y", "an absolute DST"]),
        (&["-v", "/tmp:/y:z"], &["-v /tmp:/y:z", "no option but :ro or :rw"]),
        (&["-v", "/tmp:/"], &["-v /tmp:/", "other than /"]),
        (&["-v", "/tmp:/proc/x"], &["/proc", "the container's own"]),
        (&["-v", "/tmp:/y", "-v", "/usr:/y/"], &["-v /usr:/y/", "/y/ is taken"]),
        (&["-v", "/tmp:/y", "--tmpfs", "/y"], &["--tmpfs /y", "is taken"]),
        (&["-v", "/tmp:/etc/passwd"], &["/etc/passwd", "a directory can't be mounted on a file"]),
        (&["-v", "/etc/passwd:/bin"], &["/bin", "nor a file on a directory"]),
        (&["-v", "/tmp:/etc/hosts"], &["/etc/hosts", "a directory can't be mounted on a file"]),
        (&["-v", "/tmp:/etc/passwd/x"], &["/etc/passwd/x"]),
        (&["--tmpfs", "x"], &["--tmpfs x", "absolute"]),
        (&["--tmpfs", "/"], &["--tmpfs /", "other than /"]),
        (&["--tmpfs", "/x:size=lots"], &["--tmpfs /x:size=lots", "size=SIZE"]),
        (&["--tmpfs", "/x:mode=9"], &["--tmpfs /x:mode=9", "mode=OCTAL"]),
        (&["--tmpfs", "/x:mode=77777"], &["mode=OCTAL"]),
        (&["--tmpfs", "/x:uid=me"], &["uid=NUMBER"]),
        (&["--tmpfs", "/x:fast"], &["--tmpfs /x:fast", "DIR[:size=SIZE"]),
        (&["--shm-size", "0"], &["--shm-size 0", "SIZE"]),
    ] {
        host.husk(&[&["run"], options, &[rootfs(), "true"]].concat()).refused(125, words);
    }
}

#[test]
fn tmpfs() {
    let host = host!();
    let options = ["--tmpfs", "/x:size=1m,mode=700", "--tmpfs=/made/here", "--shm-size=2m"];
    let script = "stat -c %a /x /made/here
        df -k /x /dev/shm | tail -n +2 | awk '{ print $2 }'
        grep -E ' (/x|/made/here) ' /proc/mounts | grep -c nosuid,nodev,noexec
        head -c 2000000 /dev/zero > /x/full 2>/dev/null || echo full
        head -c 1500000 /dev/zero > /dev/shm/a && echo fits";
    let seen = host.inside(&options, script).ok();
    assert_eq!(seen, "700\n1777\n1024\n2048\n2\nfull\nfits");
    let run = "cp /bin/busybox /x/true; /x/true && echo ran";
    assert_eq!(host.inside(&["--tmpfs", "/x:exec"], run).ok(), "ran");
    assert_ne!(host.inside(&["--tmpfs", "/x"], run).code, 0, "noexec is usual");
    let touch = "touch /x/y 2>/dev/null || echo read-only";
    assert_eq!(host.inside(&["--tmpfs", "/x:ro"], touch).ok(), "read-only");
    // Empty files cost the kernel memory, too, so they are counted, however small it is.
    let inodes = "df -i /x /dev/shm / | tail -n +2 | awk '{ print $2 }' | sort -u | wc -l";
    let storage = ["--tmpfs", "/x:size=1m", "--shm-size=2m"];
    assert_eq!(host.inside(&storage, inodes).ok(), "1");
    // The only place that a read-only container may write to.
    let script = "touch /y 2>/dev/null || touch /x/y && ls /x";
    assert_eq!(host.inside(&["--read-only", "--tmpfs", "/x"], script).ok(), "y");
    // A user who has one may use it; and in a volume it hides what is there.
    let owned = ["--tmpfs", "/x:uid=1000,gid=1000,mode=700", "-u", "1000"];
    assert_eq!(host.inside(&owned, "touch /x/y && ls /x").ok(), "y");
    let data = TempDir::new();
    fs::create_dir(data.join("cache")).expect("mkdir");
    fs::write(data.join("cache/file"), "").expect("write");
    let volume = format!("{}:/d", data.path());
    let script = "touch /d/cache/y; ls /d/cache";
    assert_eq!(host.inside(&["--tmpfs", "/d/cache", "-v", &volume], script).ok(), "y");
    assert!(!data.join("cache/y").exists(), "written to the volume");
}

/// husk's own files in /etc lie on top of a volume there, but not on one in their very place.
#[test]
fn volumes_on_etc() {
    let host = host!();
    let data = TempDir::new();
    fs::write(data.join("file"), "mine\n").expect("write");
    fs::write(data.join("hosts"), "1.2.3.4 other\n").expect("write");
    let etc = format!("{}:/etc", data.path());
    let script = "cat /etc/file; grep -c walnut /etc/hosts; cat /etc/hostname; ls /etc";
    let seen = host.inside(&["-h", "walnut", "-v", &etc], script).ok();
    assert_eq!(seen, "mine\n1\nwalnut\nfile\nhostname\nhosts\nresolv.conf");
    // As with docker: places were made in the volume, and nothing was written there.
    assert_eq!(fs::read_to_string(data.join("hosts")).expect("hosts"), "1.2.3.4 other\n");
    assert_eq!(fs::read_to_string(data.join("hostname")).expect("hostname"), "");
    let read_only = format!("{etc}:ro");
    assert_eq!(host.inside(&["-v", &read_only, "-h", "w"], "cat /etc/hostname").ok(), "w");

    let hosts = format!("{}/file:/etc/hosts", data.path());
    assert_eq!(host.inside(&["-v", &hosts], "cat /etc/hosts").ok(), "mine");
    assert_eq!(host.inside(&["-v", &hosts, "-v", &etc], "cat /etc/hosts").ok(), "mine");
    assert_eq!(fs::read_to_string(data.join("file")).expect("file"), "mine\n");
}

#[test]
fn volumes_on_volumes() {
    let host = host!();
    let (outer, inner) = (TempDir::new(), TempDir::new());
    fs::write(inner.join("file"), "inner\n").expect("write");
    let volumes = [format!("{}:/a/b/c", inner.path()), format!("{}:/a", outer.path())];
    let options = ["-v", &volumes[0], "-v", &volumes[1]];
    assert_eq!(host.inside(&options, "cat /a/b/c/file; touch /a/x").ok(), "inner");
    assert!(outer.join("b/c").is_dir() && outer.join("x").exists(), "docker makes the place");
    fs::remove_dir_all(outer.join("b")).expect("rm -r");
    let read_only = format!("{}:ro", volumes[1]);
    host.inside(&["-v", &volumes[0], "-v", &read_only], "true").refused(125, &["/a/b/c", "EROFS"]);
}

#[test]
fn targets_behind_dangling_links() {
    let host = host!();
    let root = fresh_rootfs();
    let data = TempDir::new();
    fs::write(data.join("file"), "text\n").expect("write");
    for (link, to) in [("a", "/no/such/dir"), ("b", "../..//c"), ("c", "d"), ("loop", "loop")] {
        symlink(to, root.join(link)).expect("ln -s");
    }
    let try_at = |source: &str, target: &str, script: &str| {
        let volume = format!("{}/{source}:{target}", data.path());
        host.husk(&["run", "-v", &volume, root.path(), "sh", "-c", script])
    };
    assert_eq!(try_at("", "/a/x", "cat /no/such/dir/x/file").ok(), "text");
    assert_eq!(try_at("file", "/a/x", "cat /no/such/dir/x").ok(), "text");
    assert_eq!(try_at("", "/b/x/y", "cat /d/x/y/file").ok(), "text");
    assert_eq!(try_at("", "/b", "cat /d/file").ok(), "text");
    assert_eq!(try_at("file", "/b", "cat /d").ok(), "text");
    try_at("", "/loop/x", "true").refused(125, &["/loop/x", "ELOOP"]);
    let run = host.husk(&["run", "-w", "/a/x", root.path(), "sh", "-c", "pwd -P"]);
    assert_eq!(run.ok(), "/no/such/dir/x");
}

/// Before Linux 6.6 a user can't remove what came with ROOTFS: husk says so, once, with the way out.
#[test]
fn directories_of_rootfs_as_a_user() {
    let host = host!();
    let (bin, root) = (husk_for_all(), rootfs_of(1000));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    let mut numbers = release.split(['.', '-']).map(|text| text.parse::<u32>().unwrap_or(0));
    let is_old = (numbers.next(), numbers.next()) < (Some(6), Some(6));
    let script =
        "mkdir /new; rm -r /new && rm -r /usr && mkdir /usr && mv /var /moved; echo status $?";
    let on_terminal = |options: &[&str]| {
        let mut command = host.command(bin.join("husk"));
        command.args(["run"]).args(options).args([root.path(), "sh", "-c", script]);
        as_user(&mut command, 1000);
        host.pty(command).end().0
    };
    let text = on_terminal(&[]);
    let warned = text.matches("husk: before Linux 6.6").count();
    if !is_old {
        assert!(text.contains("status 0") && warned == 0, "{text}");
        host.skip_part("this kernel is new enough: an older one has a warning");
        return;
    }
    assert!(text.contains("status 1") && warned == 1 && text.contains("--writable"), "{text}");
    // The way out.
    let text = on_terminal(&["--writable"]);
    assert!(text.contains("status 0") && !text.contains("husk:"), "{text}");
}
