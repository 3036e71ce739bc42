//! A Debian root file system, made once and then shared by all tests that want more than busybox.

#![allow(dead_code)] // not every test file uses both

use super::{have, run};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Debian with python3, ping and strace. Why not, where there is none and none can be made.
pub fn debian() -> Result<String, &'static str> {
    cached("debian", |dir| {
        make(dir, &["python3-minimal", "libpython3-stdlib", "iputils-ping", "strace"])
    })
}

/// Debian with what people run in containers.
pub fn servers() -> Result<String, &'static str> {
    cached("servers", |dir| make(dir, &["postgresql", "nginx-light", "redis-server"]))
}

fn make(dir: &Path, packages: &[&str]) -> Result<(), &'static str> {
    if !have("mmdebstrap") {
        return Err("there is no mmdebstrap here, and no Debian made by an earlier run");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs-scripts/debian.sh");
    // Its mounts must reach no test's host. And it takes minutes, where `run` would have lost
    // patience.
    let mut command = Command::new("unshare");
    command.args(["--mount", script]).arg(dir).args(packages);
    let made = command.output().expect("debian.sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// The same as debian, but every file is this user's.
pub fn debian_of(uid: u32) -> Result<String, &'static str> {
    let original = debian()?;
    cached(&format!("debian-of-{uid}"), |dir| {
        let new = dir.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        run(Command::new("cp").arg("-a").arg(&original).arg(&new)).ok();
        run(Command::new("chown").args(["-hR", &format!("{uid}:{uid}")]).arg(&new)).ok();
        fs::rename(&new, dir).expect("mv");
        Ok(())
    })
}

fn cached(
    name: &str,
    make: impl FnOnce(&Path) -> Result<(), &'static str>,
) -> Result<String, &'static str> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let lock = File::create(dir.with_extension("lock")).expect("a lock file in target/tmp");
    lock.lock().expect("flock");
    if !dir.exists() {
        make(&dir)?;
    }
    Ok(dir.into_os_string().into_string().expect("a plain path"))
}
