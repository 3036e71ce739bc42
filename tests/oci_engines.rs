//! The appendix under real engines: a containerd as a kubelet calls it, a dockerd and podman, each
//! with directories and namespaces of its own. tests/engines/ has what they are asked for, and
//! prints each operation by name. `make test-oci` runs it; ENGINES_RUNTIME=/usr/sbin/runc puts runc
//! to the same test.
#![cfg(feature = "oci")]

mod bundle;
mod common;
use common::*;
use std::path::PathBuf;

/// Debian's, whatever else is on the PATH: python3-grpcio belongs to it.
const PYTHON: &str = "/usr/bin/python3";
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engines");

/// Runs the script on the test's host, where it may mount what it likes.
fn engine(host: &Host, script: &[&str], needed: &[&str]) {
    if let Some(missing) = needed.iter().find(|program| !have(program)) {
        return host.skip(&format!("no {missing}"));
    }
    if !["cpu", "memory", "pids"].iter().all(|name| host.has_controller(name)) {
        host.skip_part("that limits hold: cgroup 2 has not all the controllers here");
    }
    let dir = TempDir::new();
    let runtime = std::env::var_os("ENGINES_RUNTIME").map_or_else(bundle::program, PathBuf::from);
    let mut command = host.command("unshare");
    command.args(["--mount", "--propagation", "private", PYTHON]);
    command.arg(format!("{SCRIPTS}/{}", script[0])).args(&script[1..]);
    command.arg(runtime).args([dir.path(), rootfs()]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    // Its output is not captured: the operations, by name, are what there is to see.
    let status = command.status().expect("unshare");
    assert!(status.success(), "see the operations that begin with FAIL");
}

#[test]
fn cri() {
    let host = host!();
    engine(&host, &["cri.py"], &["containerd", "ctr"]);
}

#[test]
fn docker() {
    let host = host!();
    engine(&host, &["cli.py", "docker"], &["dockerd", "docker", "containerd"]);
}

#[test]
fn podman() {
    let host = host!();
    engine(&host, &["cli.py", "podman"], &["podman", "conmon"]);
}
