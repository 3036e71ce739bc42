//! The list of containers is the directory husk/ among the cgroups: their names, the locks that
//! tell who is looked after, the marks of those that need nobody, and the sweep of what killed
//! husks have left behind.

use crate::cgroups::{self, cgroups_below, is_populated, wait_while};
use crate::ports::{self, Port};
use crate::step::{Result, attempt, cat, echo, error, say_step, step};
use crate::sys;
use nix::sched::{CloneFlags, setns};
use nix::unistd;
use std::fs::{self, DirBuilder, File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

// ---- husk/ --------------------------------------------------------------------------------------

/// Where containers live: husk/ in the topmost cgroup of version 2 that the caller owns. For root
/// that is the mount itself; a user has one where systemd delegates it, cgroups(7).
pub fn husk_dir() -> Result<PathBuf> {
    let groups = cat("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mount = cgroups::mount_point(Path::new(own))?;
    let own = mount.join(own);
    let uid = unistd::geteuid().as_raw();
    let mut topmost = None;
    for dir in own.ancestors().take_while(|dir| dir.starts_with(&mount)) {
        // Below what is root's there may be a user's, where root has come by sudo.
        if fs::metadata(dir).is_ok_and(|meta| meta.uid() == uid) {
            topmost = Some(dir.join("husk"));
        }
    }
    let hint = "expected a cgroup of your own: systemd-run --user --scope -p Delegate=yes husk ...";
    topmost.ok_or_else(|| error(hint))
}

/// Makes husk/ the working directory, if need be after its making. `limits` are the container's
/// files and values.
pub fn enter(husk: &Path, limits: &[(String, String)]) -> Result<()> {
    if !husk.exists() || !limits.is_empty() {
        // Not for others: whoever can open cgroup.procs can lock its bytes.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        step!(builder.create(husk), "mkdir -p -m 700 {}", husk.display())?;
        enable_controllers(husk, limits);
    }
    step!(unistd::chdir(husk), "cd {}", husk.display())
}

/// Controllers are handed down from level to level, by cgroups without processes of their own (or
/// the root): where husk itself is in the way, it moves to `.self`, beside the containers. Failure
/// is no error: whoever asked for a limit is told that its file is missing.
fn enable_controllers(husk: &Path, limits: &[(String, String)]) {
    let top = husk.parent().unwrap_or(husk);
    let own = unistd::getpid().to_string();
    let members = cat(top.join("cgroup.procs")).unwrap_or_default();
    if members.lines().any(|pid| pid == own) {
        let _ = fs::create_dir(husk.join(".self"));
        let _ = echo("0", husk.join(".self/cgroup.procs"));
    }
    let asked = limits.iter().filter_map(|(file, _)| file.split('.').next());
    for controller in ["cpu", "memory", "pids"].into_iter().chain(asked) {
        for dir in [top, husk] {
            let _ = echo(&format!("+{controller}"), dir.join("cgroup.subtree_control"));
        }
    }
}

// ---- locks and marks ----------------------------------------------------------------------------

/// How the name of an exec's cgroup ends. It begins with a random number.
const EXEC: &str = "husk-exec";

/// A container whose command runs has a mark: one of these bits of its directory, or more.
const MARKS: u32 = 0o7000;
/// It ends with its husk.
const IN_THE_FOREGROUND: u32 = 0o4755;
/// It goes on when its husk has ended.
const DETACHED: u32 = 0o1755;
/// The same of one that ports of the host's lead to: when it has ended, no start may wait long
/// before it takes them back.
const DETACHED_WITH_PORTS: u32 = 0o3755;

fn is_marked(meta: &fs::Metadata) -> bool {
    meta.mode() & DETACHED == DETACHED
}

/// A quiet one has nothing in it but its processes, so only an empty directory may be left of it.
/// Each directory has two links, its name and its ".", and one for each in it, as an exec's.
fn is_quiet(meta: &fs::Metadata) -> bool {
    meta.mode() & 0o7777 == DETACHED && meta.nlink() == 2
}

/// The mark of a container that ports of the host's lead to, an attribute that says which.
const PUBLISHED: &str = "trusted.husk.ports";

pub fn published(dir: &Path) -> Vec<Port> {
    let Ok(dir) = File::open(dir) else { return vec![] };
    let text = sys::fgetxattr(dir, PUBLISHED).unwrap_or_default();
    ports::parse_all(&String::from_utf8_lossy(&text))
}

/// Makes ports of the host's lead to the container's address, as long as it lives. The mark is
/// there before the first rule is: so whoever removes the directory removes the rules, too.
pub fn publish(cgroup: Option<&Cgroup>, ip: Ipv4Addr, ports: &[Port]) -> Result<()> {
    let (Some(cgroup), [_, ..]) = (cgroup, ports) else { return Ok(()) };
    let dir = &cgroup.dir;
    let husk = attempt("open the husk cgroup", File::open("."))?;
    step!(husk.lock(), "flock .")?;
    for other in sweep(usize::MAX) {
        ports::check(ports, &name_of(&other), &published(&other))?;
    }
    let text = ports::show(ports);
    step!(
        sys::fsetxattr(&cgroup.fd, PUBLISHED, text.as_bytes()),
        "setfattr -n trusted.husk.ports -v {text} {}",
        dir.display()
    )?;
    ports::publish(&name_of(dir), ip, ports)
}

/// Removes a container, and what leads to it first: then a husk that is killed here has left it to
/// be found.
fn remove(dir: &Path) {
    if !published(dir).is_empty() {
        ports::withdraw(&name_of(dir));
    }
    cgroups::remove(dir);
}

pub fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into()
}

/// The file whose bytes are locked, fcntl(2): not the container's directory, which the container
/// could lock itself.
fn open_locks() -> Result<File> {
    let file = File::options().read(true).write(true).open("cgroup.procs");
    attempt("open cgroup.procs", file)
}

/// Locks the byte whose number is a hash of the name (FNV-1a), as long as `locks` is open: for
/// reading whoever looks after a container, for writing whoever makes or removes it. husk works in
/// husk/, so `dir` is always `./NAME`. The error is the kind of lock that is in the way.
fn set_lock(locks: &File, kind: i32, dir: &Path) -> Result<(), i32> {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in dir.as_os_str().as_encoded_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    sys::lock_byte(locks, kind, (hash >> 1) as i64) // an offset is signed
}

/// A container's directory, and the lock on its name.
pub struct Cgroup {
    pub dir: PathBuf,
    pub fd: File,
    lock: File,
}

impl Cgroup {
    /// The lock comes before the directory: so nobody ever sees one without the other. It is for
    /// writing until the command runs, see `share`.
    pub fn create(name: &str) -> Result<Cgroup> {
        Cgroup::make(Path::new(".").join(name))
    }

    /// One for an exec, below the container's. It stays locked for writing: nobody enters it.
    pub fn create_for_exec(container: &Path) -> Result<Cgroup> {
        Cgroup::make(container.join(format!("{:08x}.{EXEC}", random())))
    }

    fn make(dir: PathBuf) -> Result<Cgroup> {
        let name = name_of(&dir);
        let is_running = || error(format!("{name}: a container of that name is running"));
        let lock = open_locks()?;
        say_step(format_args!("fcntl F_OFD_SETLK ({name})"));
        while let Err(other) = set_lock(&lock, libc::F_WRLCK, &dir) {
            if other == libc::F_RDLCK {
                return Err(is_running());
            }
            thread::sleep(Duration::from_millis(1));
        }
        if dir.exists() && is_kept(&lock, &dir) {
            return Err(is_running());
        }
        step!(fs::create_dir(&dir), "mkdir {}", dir.display())?;
        match File::open(&dir) {
            Ok(fd) => Ok(Cgroup { dir, fd, lock }),
            Err(why) => {
                let _ = fs::remove_dir(&dir);
                attempt(dir.display(), Err(why))
            }
        }
    }

    /// Until its execve(2) the child is husk. Only after that `husk exec` may enter, which waits
    /// for a lock for reading; and a detached container needs no husk any more, which its mark
    /// says.
    pub fn share(&self, is_detached: bool) -> Result<()> {
        let mode = match is_detached {
            false => IN_THE_FOREGROUND,
            true if sys::fgetxattr(&self.fd, PUBLISHED).is_ok() => DETACHED_WITH_PORTS,
            true => DETACHED,
        };
        let sentence = format!("chmod {mode:o} {}", self.dir.display());
        if is_detached {
            say_step(&sentence); // else the command has the word already
        }
        attempt(sentence, fs::set_permissions(&self.dir, Permissions::from_mode(mode)))?;
        let _ = set_lock(&self.lock, libc::F_RDLCK, &self.dir);
        Ok(())
    }

    /// Nobody enters any more.
    pub fn close(&self) {
        let _ = set_lock(&self.lock, libc::F_WRLCK, &self.dir);
    }

    /// Kills what is left in it, if anything is, and removes it.
    pub fn remove(self) {
        self.close();
        remove(&self.dir);
    }

    /// The end of an exec: what its command has left running in the background goes on. By
    /// descriptors: from inside the container the host's paths lead nowhere.
    pub fn leave(self, container: &File) {
        let name = self.dir.file_name().unwrap_or_default();
        let flag = unistd::UnlinkatFlags::RemoveDir;
        if unistd::unlinkat(container, name, flag).is_err() {
            let _ = self.fd.set_permissions(Permissions::from_mode(DETACHED));
        }
    }
}

// ---- who is alive -------------------------------------------------------------------------------

/// How many quiet detached containers a start looks at: where there are hundreds, an empty
/// directory can wait.
pub const SOME: usize = 16;

/// Clears away what killed husks have left behind, and returns the containers that are left, of
/// which it looks at `most` of the detached ones.
pub fn sweep(mut most: usize) -> Vec<PathBuf> {
    if Path::new(".self").exists() {
        let _ = step!(fs::remove_dir(".self"), "rmdir .self");
    }
    let Ok(locks) = open_locks() else { return vec![] };
    let mut dirs = cgroups_below(Path::new("."));
    dirs.retain(|dir| !dir.as_os_str().as_encoded_bytes().starts_with(b"./.")); // no container's
    let first = random() as usize % dirs.len().max(1); // so that each gets its turn
    dirs.rotate_left(first);
    let mut kept = vec![];
    for dir in dirs {
        let can_wait = fs::metadata(&dir).is_ok_and(|meta| is_quiet(&meta));
        if can_wait && most == 0 {
            kept.push(dir);
            continue;
        }
        most -= usize::from(can_wait);
        if is_kept(&locks, &dir) {
            kept.push(dir);
        }
    }
    kept
}

/// The living containers, for the commands that come back to them.
pub fn living() -> Result<Vec<PathBuf>> {
    let husk = husk_dir()?;
    if unistd::chdir(&husk).is_err() {
        return Ok(vec![]); // no container was ever started
    }
    Ok(sweep(usize::MAX))
}

/// Is it alive? What is locked is, and what is marked until it is empty. All else is removed.
fn is_kept(locks: &File, dir: &Path) -> bool {
    // In it, and locked just the same, are those of each `husk exec`.
    for exec in cgroups_below(dir) {
        if exec.extension() == Some(EXEC.as_ref()) {
            is_kept(locks, &exec);
        }
    }
    if set_lock(locks, libc::F_WRLCK, dir).is_err() {
        return true;
    }
    // Only now: a husk marks its container before it lets go of the lock.
    let is_detached = fs::metadata(dir).is_ok_and(|meta| is_marked(&meta));
    if !is_detached || !is_populated(dir) {
        remove(dir);
        return false;
    }
    let _ = set_lock(locks, libc::F_UNLCK, dir); // nobody has to wait for the end of this sweep
    true
}

/// The container of that name, or the only one whose generated name begins like that. A name that
/// somebody has given stands for itself alone: "db" is not "db-copy" when db has ended.
pub fn find(living: &[PathBuf], wanted: &str) -> Result<PathBuf> {
    let mut similar = vec![];
    for dir in living {
        let name = name_of(dir);
        if name == wanted {
            return Ok(dir.clone());
        }
        if is_generated(&name) && name.starts_with(wanted) && !wanted.is_empty() {
            similar.push(dir);
        }
    }
    match similar[..] {
        [dir] => Ok(dir.clone()),
        [] => Err(error(format!("{wanted}: no such container"))),
        _ => Err(error(format!("{wanted}: several containers begin like that"))),
    }
}

/// A name for a container that was given none. It begins with a letter: a host name of digits alone
/// would be taken for an address.
pub fn generate_name() -> String {
    format!("{:08x}", random() | 0xa000_0000)
}

/// Has it that form? (Whoever gives a name of that form means it.)
fn is_generated(name: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.len() == 8 && name.bytes().all(is_hex) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Enters the network of a living container, if there is one whose it is to be.
pub fn join_network(of: Option<&str>) -> Result<()> {
    let Some(name) = of else { return Ok(()) };
    let dir = find(&living()?, name)?;
    let _lock = wait_until_shared(&dir)?;
    let Some(first) = cgroups::first_process(&dir) else {
        return Err(error(format!("{name}: not running")));
    };
    let pid = first.pid;
    step!(setns(&first.pidfd, CloneFlags::CLONE_NEWNET), "nsenter --target {pid} --net")
}

/// Waits until the container's first process is its command, and keeps others from ending it while
/// it is entered: as long as the lock, which is returned, is open.
pub fn wait_until_shared(dir: &Path) -> Result<File> {
    let lock = open_locks()?;
    while set_lock(&lock, libc::F_RDLCK, dir).is_err() {
        thread::sleep(Duration::from_millis(1));
    }
    // The kernel also unlocks it for a husk that is killed in its start. Then that first process is
    // still husk's, with all that husk may do.
    if fs::metadata(dir).is_ok_and(|meta| meta.mode() & MARKS != 0) {
        return Ok(lock);
    }
    Err(error(format!("{}: not running", name_of(dir))))
}

/// Waits for the end of a container that was told to end. A foreground container is removed by its
/// own husk, which has the lock: wait for that. A detached one is removed here.
/// False: it is still there.
pub fn wait_for_end(own: &Path, dir: &Path) -> bool {
    let is_there = || own.join("cgroup.procs").exists();
    let is_left = || open_locks().is_ok_and(|locks| is_kept(&locks, dir));
    wait_while(Instant::now() + Duration::from_secs(10), || is_there() && is_left())
}

/// The standard library's one source of randomness: the keys of its hash maps.
pub fn random() -> u32 {
    RandomState::new().hash_one(()) as u32
}
