//! Who called husk: the first root, or somebody who needs a user namespace. It is found out at the
//! start, for later /proc may be what ROOTFS says it is.

use nix::unistd::{Gid, Uid, getegid, geteuid};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// The first user namespace, by its number on every Linux (PROC_USER_INIT_INO).
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

/// Settings, each with the value that keeps ordinary users from having user namespaces.
const SETTINGS: [(&str, &str); 3] = [
    ("user.max_user_namespaces", "0"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
];

static ROOTLESS: LazyLock<bool> = LazyLock::new(|| {
    if !geteuid().is_root() {
        return true;
    }
    let own = fs::read_link("/proc/self/ns/user");
    own.is_ok_and(|own| own != Path::new(FIRST_USER_NAMESPACE))
});

static OBSTACLE: LazyLock<Option<String>> = LazyLock::new(|| {
    if !is_rootless() {
        return None;
    }
    for (name, bad) in SETTINGS {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        let value = fs::read_to_string(file).unwrap_or_default();
        if value.trim() == bad {
            return Some(format!("{name}={bad}"));
        }
    }
    None
});

/// User and group, as they are outside.
static IDS: LazyLock<(Uid, Gid)> = LazyLock::new(|| (geteuid(), getegid()));

pub fn look() {
    LazyLock::force(&IDS);
    LazyLock::force(&OBSTACLE);
}

pub fn uid() -> Uid {
    IDS.0
}

pub fn gid() -> Gid {
    IDS.1
}

/// Is husk an ordinary user's, or in a user namespace already? Then its containers are rootless.
pub fn is_rootless() -> bool {
    *ROOTLESS
}

/// The setting that keeps an ordinary user from having user namespaces.
pub fn obstacle() -> Option<&'static str> {
    OBSTACLE.as_deref()
}
