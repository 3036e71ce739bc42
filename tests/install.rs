//! Getting it and taking it away: make install, uninstall and dist, cargo install and publish, each
//! from a clean clone of this directory as it is.
//!
//! They build for real. So all but the optimizer's work is as it would be, and what cargo has in its
//! cache is taken from there.

mod common;
use common::*;
use nix::unistd::{Gid, Uid, setgid, setuid};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// A clone, and a directory to install to, whose name has a blank.
struct Clone {
    dir: TempDir,
    to: PathBuf,
}

impl Clone {
    /// None without git, or where these are no longer cargo's own surroundings (a virtual machine).
    fn new(host: &Host) -> Option<Clone> {
        let cargo = Path::new(env!("CARGO"));
        if !have("git")
            || !have("make")
            || !cargo.exists()
            || !Path::new(SOURCE).join(".git").exists()
        {
            host.skip_part("nothing to clone with: no git, make, cargo or .git here");
            return None;
        }
        let dir = TempDir::new();
        let (uid, gid) = owner();
        chown(dir.path(), Some(uid), Some(gid)).expect("chown");
        let clone = Clone { to: dir.join("to here"), dir };
        clone
            .sh("mkdir work && cd \"$SOURCE\" &&
                git ls-files -z --cached --others --exclude-standard |
                    tar -c --null --files-from=- --ignore-failed-read | tar -x -C \"$DIR/work\"
                cd \"$DIR/work\" && git init -q && git add -A &&
                git -c user.name=test -c user.email=test@example.org commit -q -m all &&
                cd .. && git clone -q work clone && rm -rf work")
            .ok();
        Some(clone)
    }

    /// A script in the clone, as whoever owns the sources: cargo's cache is theirs.
    fn sh(&self, script: &str) -> Output {
        let mut command = Command::new("sh");
        let clone = self.dir.join("clone");
        let place = if clone.exists() { &clone } else { &*self.dir };
        command.arg("-ec").arg(script).current_dir(place);
        // What an outer make or cargo has told its children is not for these.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let theirs =
                ["CARGO_", "RUSTFLAGS", "RUSTC", "MAKE", "MFLAGS", "HUSK", "SUDO", "GIT_", "IMAGE"];
            if name != "CARGO_HOME" && theirs.iter().any(|start| name.starts_with(start)) {
                command.env_remove(&*name);
            }
        }
        let tools = Path::new(env!("CARGO")).parent().expect("where cargo is").display();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{tools}:{path}"));
        command.env("SOURCE", SOURCE).env("DIR", self.dir.path()).env("TO", &self.to);
        for (setting, value) in [("LTO", "off"), ("OPT_LEVEL", "0"), ("CODEGEN_UNITS", "16")] {
            command.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        let (uid, gid) = owner();
        if uid != 0 {
            command.env("HOME", home(uid));
            let become_owner = move || {
                setgid(Gid::from_raw(gid))?;
                Ok(setuid(Uid::from_raw(uid))?)
            };
            // SAFETY: two system calls.
            unsafe { command.pre_exec(become_owner) };
        }
        // A build takes minutes, where `run` would have lost patience.
        let output = command.output().expect("sh");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn installed(&self, path: &str) -> PathBuf {
        self.to.join("usr/local").join(path)
    }

    /// All files and links that were installed, below PREFIX.
    fn files(&self) -> String {
        self.sh("[ ! -d \"$TO\" ] || cd \"$TO/usr/local\"; find . ! -type d | sort").ok()
    }
}

struct Output {
    ok: bool,
    out: String,
    err: String,
}

impl Output {
    #[track_caller]
    fn ok(self) -> String {
        assert!(self.ok, "this should have worked:\n{}\n{}", self.out, self.err);
        self.out.trim_end().to_string()
    }

    /// Has cargo asked for what can't be had here? (In the words of its own errors.)
    fn offline(&self) -> bool {
        let words = [
            "failed to download",
            "download of",
            "failed to fetch",
            "failed to get",
            "failed to query replaced source",
            "is replaced with",
            "in the offline mode",
        ];
        !self.ok && words.iter().any(|word| self.err.contains(word))
    }
}

fn owner() -> (u32, u32) {
    let meta = fs::metadata(SOURCE).expect("the sources");
    (meta.uid(), meta.gid())
}

fn home(uid: u32) -> String {
    let line = run(Command::new("getent").args(["passwd", &uid.to_string()])).ok();
    line.split(':').nth(5).expect("a home").to_string()
}

/// It is husk, and starts a container.
#[track_caller]
fn works(host: &Host, husk: &Path) {
    let run = run(host.command(husk).args(["run", rootfs(), "echo", "works"]));
    assert_eq!(run.ok(), "works");
}

const SCRIPTS: &str = "./share/husk/rootfs-scripts/busybox.sh
./share/husk/rootfs-scripts/common.sh
./share/husk/rootfs-scripts/debian.sh
./share/husk/rootfs-scripts/docker.sh
./share/husk/rootfs-scripts/pack.sh";

#[test]
#[cfg(not(feature = "oci"))]
fn make_install_uninstall_and_dist() {
    let host = host!();
    let Some(clone) = Clone::new(&host) else { return };
    clone.sh("make install DESTDIR=\"$TO\"").ok();
    assert_eq!(clone.files(), format!("./bin/husk\n{SCRIPTS}"));
    works(&host, &clone.installed("bin/husk"));
    // The scripts need nothing of the sources.
    let scripts = clone.installed("share/husk/rootfs-scripts");
    let dir = TempDir::new();
    copy_busybox(&dir);
    let mut command = host.sh_command(
        "cd $D && PATH=$D:$PATH \"$S\"/busybox.sh r 2>log && \"$S\"/pack.sh r packed echo packed 2>log &&
        HUSK_OPTIONS='--network none' XDG_CACHE_HOME=$D ./packed 2>log",
    );
    command.env("D", dir.path()).env("S", &scripts).env_remove("HUSK");
    assert_eq!(run(&mut command).ok(), "packed");

    // What lies there from before is not what gets installed.
    clone.sh("sed -i 's/^version = .*/version = \"9.8.7\"/' Cargo.toml && make install DESTDIR=\"$TO\"").ok();
    let version = run(Command::new(clone.installed("bin/husk")).arg("--version")).ok();
    assert_eq!(version, "husk 9.8.7");

    let other = clone.installed("share/husk/mine");
    fs::write(&other, "").expect("write");
    clone.sh("make uninstall DESTDIR=\"$TO\"").ok();
    assert_eq!(clone.files(), "./share/husk/mine");
    fs::remove_file(&other).expect("rm");
    clone.sh("make uninstall DESTDIR=\"$TO\"").ok(); // once more, with nothing there
    assert_eq!(clone.sh("find \"$TO\" -name '*husk*'").ok(), "");

    clone.sh("git checkout -q Cargo.toml && make dist && mv target/dist first && make dist").ok();
    clone.sh("cmp first/SHA256SUMS target/dist/SHA256SUMS").ok();
    let files = clone
        .sh("cd first && sha256sum -c --quiet SHA256SUMS && tar -xf *.tar.gz && cd husk-* &&
        sha256sum -c --quiet SHA256SUMS && cmp README.md ../../README.md && find . -type f | sort");
    let mut expected = vec!["./LICENSE", "./README.md", "./SHA256SUMS", "./husk"];
    let scripts: Vec<String> =
        SCRIPTS.lines().map(|line| line.replace("share/husk/", "")).collect();
    expected.extend(scripts.iter().map(|line| &line[..]));
    let files = files.ok();
    let files: Vec<&str> = files.lines().filter(|file| !file.starts_with("./docs/")).collect();
    assert_eq!(files, expected);
    let husk = clone.sh("echo $PWD/first/husk-*/husk").ok();
    works(&host, Path::new(&husk));
    // Static: no program is named that would have to load it.
    let program = fs::read(&husk).expect("husk");
    assert!(!program.windows(11).any(|bytes| bytes == b"/ld-linux-x" || bytes == b"/ld-linux-a"));
}

#[test]
#[cfg(not(feature = "oci"))]
fn cargo_install() {
    let host = host!();
    let Some(clone) = Clone::new(&host) else { return };
    let done = clone.sh("cargo install --path . --root \"$TO/usr/local\"");
    if done.offline() {
        host.skip_part("cargo reaches no registry");
        return;
    }
    assert_eq!(
        (done.ok(), clone.files()),
        (String::new(), "./.crates.toml\n./.crates2.json\n./bin/husk".to_string())
    );
    works(&host, &clone.installed("bin/husk"));
}

#[test]
#[cfg(not(feature = "oci"))]
fn cargo_publish_is_quiet() {
    let host = host!();
    let Some(clone) = Clone::new(&host) else { return };
    let done = clone.sh("cargo publish --dry-run");
    if done.offline() {
        host.skip_part("cargo reaches no registry");
        return;
    }
    let warnings: Vec<&str> = done.err.lines().filter(|line| line.starts_with("warning")).collect();
    assert_eq!(warnings, ["warning: aborting upload due to dry run"], "{}", done.err);
    done.ok();
}

#[test]
#[cfg(feature = "oci")]
fn husk_oci_comes_along() {
    let host = host!();
    let Some(clone) = Clone::new(&host) else { return };
    clone.sh("make oci install DESTDIR=\"$TO\"").ok();
    assert_eq!(clone.files(), format!("./bin/husk\n./bin/husk-oci\n{SCRIPTS}"));
    works(&host, &clone.installed("bin/husk"));
    is_a_runtime(&host, &clone.installed("bin/husk-oci"));
    clone.sh("make uninstall DESTDIR=\"$TO\"").ok();
    assert_eq!(clone.files(), "");

    let done = clone.sh("cargo install --path . --root \"$TO/usr/local\" --features oci");
    if done.offline() {
        host.skip_part("cargo reaches no registry");
        return;
    }
    done.ok();
    works(&host, &clone.installed("bin/husk"));
    is_a_runtime(&host, &clone.installed("bin/husk-oci"));
    // Without husk beside it, it says so.
    fs::remove_file(clone.installed("bin/husk")).expect("rm");
    let alone = run(Command::new(clone.installed("bin/husk-oci")).arg("--version"));
    assert!(alone.code == 1 && alone.err.contains("beside husk"), "{alone}");
}

#[cfg(feature = "oci")]
fn is_a_runtime(host: &Host, husk_oci: &Path) {
    let bundle = TempDir::new();
    let mut command = host.sh_command(
        "cd $BUNDLE && \"$OCI\" spec && sed -i 's/\"terminal\": true/\"terminal\": false/' config.json &&
        sed -i 's/\"sh\"/\"true\"/' config.json && cp -a $R rootfs && \"$OCI\" --root $BUNDLE/state run one",
    );
    command.env("BUNDLE", bundle.path()).env("OCI", husk_oci);
    run(&mut command).ok();
}
