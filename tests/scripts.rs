//! rootfs-scripts/: what they unpack, from where, who can reach it, and what pack.sh packs.

mod common;
use common::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const UID: u32 = 4321; // nobody that this machine has a name for
const OTHER: u32 = 4322;

/// A directory that everybody may enter, with husk and the scripts in it.
struct Place<'a> {
    host: &'a Host,
    dir: TempDir,
    owner: u32,
}

impl<'a> Place<'a> {
    fn new(host: &'a Host, owner: u32) -> Place<'a> {
        let dir = husk_for_all();
        let scripts = format!("{SOURCE}/rootfs-scripts");
        run(Command::new("cp").args(["-r", &scripts, dir.path()])).ok();
        copy_busybox(&dir);
        chown(dir.path(), Some(owner), Some(owner)).expect("chown");
        Place { host, dir, owner }
    }

    fn command(&self, script: &str) -> Command {
        // To enter a mount namespace leads to its root directory.
        let mut command = self.host.sh_command(&format!("cd {}; {script}", self.dir.path()));
        // The scripts' own settings, where the caller has any, are not for these.
        for name in ["DOCKER", "SUDO", "IMAGE", "ROOTFS", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.dir.path()));
        command.env("HUSK", self.dir.join("husk")).env("HOME", self.dir.path());
        command
    }

    /// Runs a script in there, as its owner.
    fn sh(&self, script: &str) -> Run {
        self.sh_as(self.owner, script)
    }

    fn sh_as(&self, uid: u32, script: &str) -> Run {
        let mut command = self.command(script);
        if uid == 0 { run(&mut command) } else { run(as_user(&mut command, uid)) }
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.dir.join(name)).expect("stat").mode() & 0o7777
    }

    /// The images that image.py makes.
    fn make_images(&self) {
        let make = "mkdir -p outside && touch outside/precious && python3 $S $R . $PWD/outside";
        let mut command = self.command(make);
        command.env("S", format!("{SOURCE}/tests/common/image.py")).env("R", rootfs());
        run(&mut command).ok();
        let owner = format!("{0}:{0}", self.owner);
        run(Command::new("chown").args(["-R", &owner, self.dir.path()])).ok();
    }

    /// The tools of docker.sh that are here.
    fn tools(&self) -> Vec<&'static str> {
        for tool in ["skopeo", "podman"] {
            if !have(tool) {
                self.host.skip_part(&format!("no {tool}"));
            }
        }
        ["skopeo", "podman"].into_iter().filter(|tool| have(tool)).collect()
    }
}

// ------------------------------------------------------------------------------ who can reach it

#[test]
fn nobody_else_reaches_what_is_unpacked() {
    let host = host!();
    let place = Place::new(&host, 0);
    place.sh("rootfs-scripts/busybox.sh r 2>log").ok();
    let special = "cp r/bin/busybox r/bin/busybox-2 && chmod 4755 r/bin/busybox-2";
    place.sh(special).ok();
    let start = "r/bin/busybox-2 true";
    // The control: so anybody could start a set-uid program of an image.
    place.sh("chmod 755 r").ok();
    assert_eq!(place.sh_as(OTHER, start).code, 0);
    place.sh("chmod 700 r").ok();
    assert_eq!(place.sh_as(OTHER, start).code, 126);
    // The container's own users can.
    let run = "husk run --network none -u 4322";
    assert_eq!(place.sh(&format!("{run} r sh -c 'busybox-2 true && id -u'")).ok(), "4322");
    assert_eq!(place.sh(&format!("{run} --read-only r id -u")).ok(), "4322");

    // In a directory of mode 700 they can with --writable, too.
    place.sh("rootfs-scripts/busybox.sh new/dir/r 2>log").ok();
    assert_eq!((place.mode("new"), place.mode("new/dir/r")), (0o700, 0o755));
    assert_eq!(place.sh(&format!("{run} --writable new/dir/r id -u")).ok(), "4322");
    assert_ne!(place.sh_as(OTHER, "ls new/dir/r").code, 0);
}

#[test]
fn which_directories_keep_others_out() {
    let host = host!();
    let place = Place::new(&host, 0);
    let with = |mode: &str, owner: &str, group: &str| {
        let script = format!(
            "rm -rf d && mkdir d && chown {owner}:{group} d && chmod {mode} d &&
            rootfs-scripts/busybox.sh d/r 2>log"
        );
        place.sh(&script).ok();
        place.mode("d/r")
    };
    assert_eq!(with("755", "0", "0"), 0o700);
    assert_eq!(with("751", "0", "0"), 0o700);
    assert_eq!(with("700", "0", "0"), 0o755);
    assert_eq!(with("750", "0", "0"), 0o755); // nobody is in root's group
    assert_eq!(with("750", "0", "4"), 0o700); // but maybe in this one
    assert_eq!(with("740", "0", "4"), 0o755);
    assert_eq!(with("1700", "0", "0"), 0o755);
    assert_eq!(with("700", "4322", "4322"), 0o700); // its owner could enter
}

#[test]
fn rootless() {
    let host = host!();
    let place = Place::new(&host, UID);
    place.sh("rootfs-scripts/busybox.sh r 2>log").ok();
    assert_eq!(place.mode("r"), 0o700);
    assert_ne!(place.sh_as(OTHER, "ls r").code, 0);
    assert_eq!(place.sh("husk run r sh -c 'touch /etc/x && id -u'").ok(), "0");
    assert_eq!(place.sh("husk run --writable r sh -c 'touch /etc/x && id -u'").ok(), "0");
}

/// `make run` as root, and as a user without sudo, who may come after root.
#[test]
fn what_make_run_takes() {
    let host = host!();
    let place = Place::new(&host, 0);
    let pick = "DOCKER=false SUDO= rootfs-scripts/pick.sh 2>log-$(id -u)";
    for _ in 0..2 {
        assert_eq!(place.sh(pick).ok(), "target/rootfs/busybox");
    }
    assert_eq!((place.mode("target/rootfs"), place.mode("target/rootfs/busybox")), (0o700, 0o755));
    place.sh(&format!("chmod 777 . target; chown {UID} . target")).ok();
    let rootfs = place.sh_as(UID, pick).ok();
    assert_eq!(rootfs, format!("target/rootfs-{UID}/busybox"));
    assert_eq!(place.sh_as(UID, &format!("husk run {rootfs} id -u")).ok(), "0");
}

// ---------------------------------------------------------------------------------- docker.sh

/// What the image of image.py prints when it is run as it wants to be.
const SAYS: &str = "it's  $HOME||/var/data|1000|a  b|*";

#[test]
fn images_from_files() {
    let host = host!();
    let place = Place::new(&host, 0);
    place.make_images();
    for tool in place.tools() {
        for file in ["save.tar", "layout", "layout.tar", "many:two"] {
            let script = format!(
                "rm -rf 'r r'; DOCKER={tool} rootfs-scripts/docker.sh {file} 'r r' 2>log >command || cat log; \
                find 'r r/dev' -mindepth 1; ls 'r r/var/old' 2>/dev/null; \
                stat -c '%a %u' 'r r/bin/special' 'r r/var/theirs' 'r r/var/new' 'r r'"
            );
            let found = place.sh(&script).ok();
            assert_eq!(found, "4755 0\n600 1234\n644 0\n700 0", "{tool} {file}");
            let printed = fs::read_to_string(place.dir.join("command")).expect("command");
            assert_eq!(place.sh("eval \"$(cat command)\"").ok(), SAYS, "{tool} {file}: {printed}");
            assert!(!printed.contains("PATH"), "husk's own default: {printed}");
        }
        // What a layer's path leads to is in the image, not on this machine.
        place.sh(&format!("DOCKER={tool} rootfs-scripts/docker.sh evil.tar evil 2>log; true"));
        assert_eq!(place.sh("ls outside; rm -rf evil").ok(), "precious", "{tool}");
        assert_eq!(place.sh("ls -d *.tmp.* 2>/dev/null; true").ok(), "");
    }
}

#[test]
fn images_from_files_without_root() {
    let host = host!();
    let place = Place::new(&host, UID);
    place.make_images();
    for tool in place.tools() {
        for file in ["save.tar", "layout"] {
            let script = format!(
                "rm -rf r; DOCKER={tool} rootfs-scripts/docker.sh {file} r 2>log >command || cat log; \
                find r ! -user {UID}; ls -d *.tmp.* r/var/old 2>/dev/null; husk run r cat /var/theirs"
            );
            assert_eq!(place.sh(&script).ok(), "x", "{tool} {file}");
        }
    }
}

#[test]
fn images_by_name() {
    let host = host!();
    let place = Place::new(&host, 0);
    if !have("podman") {
        host.skip_part("no podman");
        return;
    }
    place.make_images();
    let script = "printf '[storage]\\ndriver = \"vfs\"\\ngraphroot = \"%s\"\\nrunroot = \"%s\"\\n' \
            $PWD/store $PWD/run >storage.conf; export CONTAINERS_STORAGE_CONF=$PWD/storage.conf DOCKER=podman; \
        podman pull -q docker-archive:save.tar >/dev/null 2>log || cat log; \
        rootfs-scripts/docker.sh box r 2>log >command || cat log; \
        podman ps --all --quiet; rm -rf store run; cat r/var/theirs; eval \"$(cat command)\"";
    assert_eq!(place.sh(script).ok(), format!("x{SAYS}"));
}

#[test]
fn what_docker_sh_can_not_unpack() {
    let host = host!();
    let place = Place::new(&host, 0);
    place.make_images();
    let fails = |script: &str, words: &str| {
        let run = place.sh(script);
        assert!(run.code == 1 && run.out.is_empty() && run.err.contains(words), "{words}: {run}");
        assert!(!place.dir.join("r").exists());
    };
    fails("DOCKER=nosuch rootfs-scripts/docker.sh save.tar r", "nosuch is not installed");
    fails("DOCKER=env rootfs-scripts/docker.sh husk r", "husk is no tar");
    fails(
        "tar -cf x.tar log 2>/dev/null husk; rootfs-scripts/docker.sh x.tar r",
        "x.tar is neither",
    );
    // A machine with nothing but a shell's daily tools.
    let tools = "mkdir bin; for t in bash dirname id grep tar; do ln -s $(command -v $t) bin; done; PATH=$PWD/bin";
    fails(&format!("{tools}; rootfs-scripts/docker.sh save.tar r"), "takes skopeo or podman");
    fails(&format!("{tools}; rootfs-scripts/docker.sh box r"), "docker does not answer");
}

// ---------------------------------------------------------------------------------- debian.sh

#[test]
fn debian_without_root() {
    let host = host!();
    for program in ["mmdebstrap", "fakechroot", "fakeroot"] {
        if !have(program) {
            host.skip_part(&format!("no {program}"));
            return;
        }
    }
    let place = Place::new(&host, UID);
    // On the machine itself: a test's own host has no way to a mirror.
    let mut command = Command::new(place.dir.join("rootfs-scripts/debian.sh"));
    command.arg(place.dir.join("r")).env("HOME", place.dir.path()).current_dir(place.dir.path());
    // Takes a minute, where `run` would have lost patience.
    let made = as_user(&mut command, UID).output().expect("debian.sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(place.sh(&format!("find r ! -user {UID}")).ok(), "");
    assert_ne!(place.sh_as(OTHER, "ls r").code, 0);
    let inside = "husk run r sh -c 'dpkg --verify dpkg; perl -e \"print 6 * 7\"; touch /usr/bin/x'";
    assert_eq!(place.sh(inside).ok(), "42");
}

// ------------------------------------------------------------------------------------ pack.sh

/// With `packed`, which prints its arguments and what it was given besides.
fn packed<'a>(host: &'a Host, owner: u32) -> Place<'a> {
    let place = Place::new(host, owner);
    let script = "rootfs-scripts/busybox.sh r 2>log && rootfs-scripts/pack.sh r packed \
        sh -c 'echo \"$#|$0|$1|$A\"; cat /mnt/* 2>/dev/null || :' it\\'s 'a  b' 2>log || cat log";
    place.sh(script).ok();
    place
}

#[test]
fn options_of_what_is_packed() {
    let host = host!();
    let place = packed(&host, 0);
    let says = |options: &str| {
        let mut command = place.command("./packed 2>log || { status=$?; cat log; exit $status; }");
        run(command.env("HUSK_OPTIONS", options))
    };
    assert_eq!(says("").ok(), "1|it's|a  b|");
    place.sh("mkdir 'my files'; echo kept >'my files/f'; touch evil").ok();
    let options = format!(
        "--network none  -v '{}/my files:/mnt' -e 'A=x \"  $(rm evil) * `rm evil`' ",
        place.dir.path()
    );
    let said = says(&options);
    assert_eq!(said.ok(), "1|it's|a  b|x \"  $(rm evil) * `rm evil`\nkept");
    assert!(place.dir.join("evil").exists());
    let open = says("-e 'A");
    assert!(open.code == 125 && open.out.contains("HUSK_OPTIONS"), "{open}");
    // Nobody else reaches a set-uid program in the cache, but the container's users do.
    assert_ne!(place.sh_as(OTHER, "ls .cache/husk/*/rootfs").code, 0);
    assert_eq!(says("-u 4322 --writable").ok(), "1|it's|a  b|");
}

#[test]
fn packed_and_no_home() {
    let host = host!();
    let place = packed(&host, UID);
    let unpack = "unset HOME; export TMPDIR=$PWD/tmp; ./packed 2>&1 | tail -n 1";
    place.sh("mkdir tmp").ok();
    assert_eq!(place.sh(unpack).ok(), "1|it's|a  b|");
    assert_eq!(place.mode(&format!("tmp/husk-{UID}")), 0o700);
    assert_eq!(place.sh(unpack).ok(), "1|it's|a  b|");
    assert_eq!(place.sh(&format!("HOME=/nonexistent; {unpack}")).ok(), "1|it's|a  b|");
    // Who else has made it may have filled it, too.
    let cache = place.dir.join(format!("tmp/husk-{UID}"));
    chown(&cache, Some(OTHER), Some(OTHER)).expect("chown");
    assert!(place.sh(unpack).out.contains("somebody else's"));
    chown(&cache, Some(UID), Some(UID)).expect("chown");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).expect("chmod");
    assert!(place.sh(unpack).out.contains("somebody else's"));
}

#[test]
fn old_ones_of_what_is_packed() {
    let host = host!();
    let place = packed(&host, 0);
    let old = "a".repeat(64);
    // A cache with an old entry, one of last week, one that was not finished, and a stranger.
    let prepare = |cache: &str| {
        let script = format!(
            "mkdir -p {cache}/husk && cd {cache}/husk && mkdir {old} {new} {old}.tmp.x stranger &&
            touch -d '40 days ago' {old} {old}.tmp.x stranger; touch -d '6 days ago' {new}",
            new = "b".repeat(64)
        );
        place.sh(&script).ok();
    };
    let start = |cache: &str| {
        let script =
            format!("XDG_CACHE_HOME=$PWD/{cache} ./packed 2>/dev/null; cd {cache}/husk; echo *");
        place.sh(&script).ok()
    };
    prepare("one");
    let left = start("one");
    assert!(!left.contains("aaa") && left.contains("bbb") && left.contains("stranger"), "{left}");

    // A husk in the foreground that was started from there.
    prepare("two");
    let mut sleeper = place.command(&format!(
        "exec sh -c 'echo ready; read -r line' sh $PWD/two/husk/{old}/rootfs <$PWD/fifo"
    ));
    place.sh("mkfifo fifo").ok();
    let _held =
        fs::File::options().read(true).write(true).open(place.dir.join("fifo")).expect("fifo");
    let mut running = common::start(&mut sleeper);
    running.says("ready");
    let left = start("two");
    assert!(left.contains("aaa") && !left.contains("tmp"), "{left}");
    drop(running);

    // A container in the background, whose files these might be.
    prepare("three");
    let id = place.sh("husk run -d --network none r sleep 1000 2>/dev/null").ok();
    assert!(start("three").contains("aaa"));
    place.sh(&format!("husk stop -t 0 {id}")).ok();
}
