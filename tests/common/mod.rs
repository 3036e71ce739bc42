//! A little host for every test, so that tests run side by side and never touch the machine.
//!
//! `host!()` makes a network namespace (lo up, forwarding off), a mount namespace, host name and
//! cgroup tree of its own, and a process that holds them. Whatever the test starts, it starts in
//! there. When the `Host` is dropped it checks that nothing is left, then takes it all away.
#![allow(dead_code, unused_macros, unused_imports)] // every test file uses another part of this

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, mkdtemp, setgroups, setresgid, setresuid, setsid};
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant};

/// Far beyond what a loaded machine, or an emulated one, needs: only a hang reaches it. (Where the
/// kernel has many hosts and containers to take apart, its rcu_barrier has been seen to take a minute,
/// and each process that needs the network configuration waits for it.)
pub const LIMIT: Duration = Duration::from_secs(180);

pub fn limit() -> Duration {
    if in_vm() { 2 * LIMIT } else { LIMIT }
}

/// How much longer things take on this machine than on most: an emulated one is slow.
pub fn slowness() -> u32 {
    if in_vm() { 20 } else { 1 }
}

/// The test's own host, named after the test function for the log of what ran.
macro_rules! host {
    () => {{
        fn here() {}
        $crate::common::Host::new(
            std::any::type_name_of_val(&here)
                .trim_end_matches("::here")
                .trim_end_matches("::{{closure}}"),
        )
    }};
}
pub(crate) use host;

/// Ends the test here, and says why in the log.
macro_rules! skip {
    ($host:expr, $($reason:tt)+) => {{
        $host.skip(&format!($($reason)+));
        return;
    }};
}
pub(crate) use skip;

/// Is it the build of `make asan`, which needs libraries, and terabytes of address space?
pub fn is_sanitized() -> bool {
    husk().iter().any(|part| part == "asan")
}

/// The binary under test.
pub fn husk() -> PathBuf {
    std::env::var_os("HUSK").unwrap_or_else(|| env!("CARGO_BIN_EXE_husk").into()).into()
}

/// A directory with a copy of husk in it, for other users: a clone below /root is closed to them.
pub fn husk_for_all() -> TempDir {
    let dir = TempDir::new();
    // By another program: one that this process had open for writing could not be run (ETXTBSY) while
    // a child of any other test still has that descriptor.
    run(Command::new("cp").arg(husk()).arg(dir.join("husk"))).ok();
    dir
}

/// Is this the virtual machine, where a test may do what would hurt a real one?
pub fn in_vm() -> bool {
    std::env::var_os("HUSK_VM").is_some()
}

/// For a first start under strace. To change this takes a lock, at the first try, or else the call
/// begins anew: traced, it may do so for minutes, as long as other tests take their bridges away.
pub const FORWARD: &str = "echo 1 > /proc/sys/net/ipv4/ip_forward";

/// Is there such a program?
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

/// Waits for something that happens by itself, such as the end of a network namespace.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit(), "waited {:?} in vain: {what}", limit());
        sleep(Duration::from_millis(3));
    }
}

/// What this process has used, in clock ticks and in KiB.
pub fn usage(pid: i32) -> (u64, u64) {
    let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("a process");
    let stat = file("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split(' ').collect();
    let ticks = |n: usize| fields[n].parse::<u64>().expect("ticks");
    let status = file("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    let memory = line.split_whitespace().nth(1).expect("a number");
    (ticks(12) + ticks(13), memory.parse().expect("KiB"))
}

/// husk waits: it takes no time, and no more memory than before.
#[track_caller]
pub fn assert_waits(husk: i32) {
    let (before, memory_before) = usage(husk);
    sleep(Duration::from_secs(2));
    let (after, memory) = usage(husk);
    let most = 5 * u64::from(slowness());
    assert!(after - before <= most, "{} ticks in two seconds", after - before);
    assert!(memory < 4096 && memory <= memory_before + 64, "{memory_before}, then {memory} KiB");
}

// ------------------------------------------------------------------------------- root file systems

/// A directory that goes away with its owner.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        let dir = mkdtemp(&std::env::temp_dir().join("husk-test-XXXXXX")).expect("mkdtemp");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        TempDir(dir)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("a temporary directory with a plain name")
    }
}

impl Deref for TempDir {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let gone = fs::remove_dir_all(&self.0);
        assert!(gone.is_ok() || panicking(), "rm -r {}: {gone:?}", self.0.display());
    }
}

/// The busybox root file system that all tests share and none changes.
pub fn rootfs() -> &'static str {
    static ROOTFS: OnceLock<String> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        if let Ok(dir) = std::env::var("HUSK_ROOTFS") {
            return dir;
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox");
        // The test programs of one `cargo test` run one after the other, but two of those may not.
        let lock = File::create(dir.with_extension("lock")).expect("a lock file in target/tmp");
        lock.lock().expect("flock");
        if !dir.exists() {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs-scripts/busybox.sh");
            let run = run(Command::new(script).arg(&dir));
            assert!(run.code == 0, "{run}");
            // Tests run as other users, too.
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        dir.into_os_string().into_string().expect("a plain path")
    })
}

/// For busybox.sh in a host of a test's own, which no package can be downloaded to: a directory of
/// PATH gets a static busybox.
pub fn copy_busybox(dir: &Path) {
    let busybox = Path::new(rootfs()).join("bin/busybox");
    fs::copy(busybox, dir.join("busybox.static")).expect("cp");
}

/// A copy of it that one test may change, or fill with traps.
pub fn fresh_rootfs() -> TempDir {
    let dir = TempDir::new();
    run(Command::new("cp").args(["-a", &format!("{}/.", rootfs()), dir.path()])).ok();
    dir
}

/// A copy whose every file belongs to `uid`.
pub fn rootfs_of(uid: u32) -> TempDir {
    let dir = fresh_rootfs();
    run(Command::new("chown").args(["-hR", &format!("{uid}:{uid}"), dir.path()])).ok();
    dir
}

/// One digest over names, modes, owners, times, links and contents of everything below `dir`.
pub fn fingerprint(dir: &str) -> String {
    let script = r#"cd "$1" && { find . | sort | xargs stat -c '%n %f %u %g %Y %s %N' &&
        find . -type f | sort | xargs md5sum; } | md5sum"#;
    run(Command::new("sh").args(["-c", script, "sh", dir])).ok()
}

// ------------------------------------------------------------------------------- running a command

/// What a command did.
pub struct Run {
    /// Its exit status, or -N if signal N killed it.
    pub code: i32,
    pub out: String,
    pub err: String,
    command: String,
}

impl Run {
    /// It worked, and had nothing to complain of: its output, without the last newline.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0 && self.err.is_empty(), "this should have worked: {self}");
        self.out.trim_end_matches('\n').to_string()
    }

    /// husk refused: this status, nothing on stdout, exactly one line on stderr that has the words.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) {
        let one_line = self.err.starts_with("husk: ") && self.err.lines().count() == 1;
        let all = words.iter().all(|word| self.err.contains(word));
        assert!(
            self.code == code && self.out.is_empty() && one_line && all,
            "expected status {code} and one line `husk: ...` with {words:?}: {self}"
        );
    }
}

impl Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Run { code, out, err, command } = self;
        write!(f, "{command}\nstatus {code}\n--- stdout\n{out}\n--- stderr\n{err}\n---")
    }
}

/// A command under way. Its output goes to memory, so nothing waits for a pipe to be closed.
pub struct Running {
    pub child: Child,
    out: File,
    err: File,
    command: String,
}

pub fn start(command: &mut Command) -> Running {
    start_with(command, "")
}

/// Starts a command with this text as its standard input.
pub fn start_with(command: &mut Command, stdin: &str) -> Running {
    let memory = || File::from(memfd_create(c"output", MFdFlags::MFD_CLOEXEC).expect("memfd"));
    // A memfd's offset has no lock: without O_APPEND two writers can overwrite each other's lines.
    let append = |file: &File| fcntl(file, FcntlArg::F_SETFL(OFlag::O_APPEND)).expect("O_APPEND");
    let (input, out, err) = (memory(), memory(), memory());
    input.write_all_at(stdin.as_bytes(), 0).expect("write");
    append(&out);
    append(&err);
    let both = |file: &File| Stdio::from(file.try_clone().expect("dup"));
    command.stdin(if stdin.is_empty() { Stdio::null() } else { input.into() });
    command.stdout(both(&out)).stderr(both(&err));
    let text = format!("{command:?}");
    let child = command.spawn().unwrap_or_else(|e| panic!("{text}: {e}"));
    Running { child, out, err, command: text }
}

pub fn run(command: &mut Command) -> Run {
    start(command).wait()
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("kill");
    }

    pub fn out(&self) -> String {
        text_of(&self.out)
    }

    pub fn err(&self) -> String {
        text_of(&self.err)
    }

    /// Waits until this has appeared on stdout.
    #[track_caller]
    pub fn says(&mut self, word: &str) {
        until(&format!("`{word}` from {}", self.command), || {
            let ended = self.child.try_wait().expect("wait").is_some();
            let said = self.out().contains(word);
            assert!(said || !ended, "{} ended: {}{}", self.command, self.out(), self.err());
            said
        });
    }

    pub fn wait(mut self) -> Run {
        let status = wait(&mut self.child, &self.command);
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
        Run { code, out: self.out(), err: self.err(), command: std::mem::take(&mut self.command) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Reads from the start, without moving the file offset that the writer shares with us.
fn text_of(file: &File) -> String {
    let mut bytes = vec![0; file.metadata().expect("fstat").len() as usize];
    let n = file.read_at(&mut bytes, 0).expect("pread");
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

fn pidfd(pid: u32) -> OwnedFd {
    // SAFETY: pidfd_open returns a new descriptor that nobody else owns, or -1.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(fd >= 0, "pidfd_open {pid}: {}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

fn wait(child: &mut Child, what: &str) -> ExitStatus {
    if let Ok(Some(status)) = child.try_wait() {
        return status;
    }
    let fd = pidfd(child.id());
    let timeout = PollTimeout::try_from(limit()).expect("some minutes");
    let ended = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout);
    if ended != Ok(1) {
        tell_of_family(child.id());
        let _ = child.kill();
        let _ = child.wait();
        panic!("still running after {:?}: {what}", limit());
    }
    child.wait().expect("wait")
}

/// Of a process that should have ended and of its descendants: what they are, and where they wait.
fn tell_of_family(pid: u32) {
    let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = file("status");
    let lines =
        status.lines().filter(|l| ["State", "PPid", "Sig", "Shd"].iter().any(|w| l.starts_with(w)));
    println!("{pid}: {} {:?}", file("cmdline").replace('\0', " "), lines.collect::<Vec<_>>());
    println!("in {} {}\n{}", file("wchan"), file("syscall"), file("stack"));
    for child in file(&format!("task/{pid}/children")).split_whitespace() {
        tell_of_family(child.parse().expect("a number"));
    }
}

/// Runs the command as an ordinary user without any group. Call it last: it gives up all rights.
pub fn as_user(command: &mut Command, uid: u32) -> &mut Command {
    let change = move || {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        setgroups(&[])?;
        setresgid(group, group, group)?;
        Ok(setresuid(user, user, user)?)
    };
    // SAFETY: three system calls, nothing else.
    unsafe { command.pre_exec(change) }
}

// ---------------------------------------------------------------------------------------- the host

pub struct Host {
    name: String,
    /// Keeps the namespaces alive. It is a `cat` on a pipe of ours: if we are killed, it ends too.
    holder: Child,
    namespaces: OwnedFd,
    /// The host's whole cgroup tree, by its real path; inside it is the mount point of cgroup2.
    pub cgroup: PathBuf,
    mounts: String,
    skipped: AtomicBool,
}

const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNET
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);

impl Host {
    /// A host for a test of this name, or without a name for one more in the same test.
    pub fn new(name: &str) -> Host {
        assert!(
            Uid::effective().is_root(),
            "the tests need root: they make namespaces and cgroups"
        );
        let top = cgroup2();
        let cgroup = own_cgroup(&top);
        let (from, to) = (cgroup.clone(), top);
        let enter = move || {
            fs::write(from.join("cgroup.procs"), "0")?; // the cgroup namespace begins here
            unshare(NAMESPACES)?;
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )?;
            mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            // Only a cgroup without processes may give controllers to its children.
            fs::write(to.join("test/cgroup.procs"), "0")?;
            // A new network namespace inherits this from the machine, where docker turned it on.
            fs::write("/proc/sys/net/ipv4/ip_forward", "0")
        };
        let mut cat = Command::new("cat");
        // SAFETY: the child has no other threads, and glibc keeps malloc usable in it.
        unsafe { cat.stdin(Stdio::piped()).stdout(Stdio::null()).pre_exec(enter) };
        let holder = cat.spawn().unwrap_or_else(|e| panic!("the host of {name}: {e}"));
        let namespaces = pidfd(holder.id());
        let (name, skipped) = (name.to_string(), AtomicBool::new(false));
        let mut host = Host { name, holder, namespaces, cgroup, mounts: String::new(), skipped };
        host.sh("ip link set lo up").ok();
        host.mounts = host.read_mounts();
        host
    }

    /// A process of this host, which other namespaces can be named by (`ip link ... netns PID`).
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command that runs on this host, in `/`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.command_in("test", program)
    }

    /// The same in another cgroup of this host.
    pub fn command_in(&self, cgroup: &str, program: impl AsRef<OsStr>) -> Command {
        let procs = self.cgroup.join(cgroup).join("cgroup.procs");
        let namespaces = self.namespaces.try_clone().expect("dup");
        let enter = move || {
            fs::write(&procs, "0")?;
            Ok(setns(&namespaces, NAMESPACES)?)
        };
        let mut command = Command::new(program);
        // SAFETY: as in `new`.
        unsafe { command.pre_exec(enter) };
        command
    }

    pub fn husk_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(husk());
        command.args(args);
        command
    }

    pub fn husk(&self, args: &[&str]) -> Run {
        run(&mut self.husk_command(args))
    }

    /// `husk run OPTIONS ROOTFS sh -c SCRIPT` on the shared root file system.
    pub fn inside(&self, options: &[&str], script: &str) -> Run {
        self.husk(&[&["run"], options, &[rootfs(), "sh", "-c", script]].concat())
    }

    /// A container that stays until it is killed; its script has run, and then it said `ready`.
    pub fn stays(&self, options: &[&str], script: &str) -> Running {
        let script = format!("{script}; echo ready; sleep 1000 & wait");
        let args = [&["run"], options, &[rootfs(), "sh", "-c", &script]].concat();
        let mut running = start(&mut self.husk_command(&args));
        running.says("ready\n");
        running
    }

    /// SIGKILL for every container's PID 1, from outside.
    pub fn kill_inits(&self) {
        for pid in self.inits() {
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
        }
    }

    /// A shell script on this host, which finds husk as `$HUSK` and the shared root as `$R`.
    pub fn sh(&self, script: &str) -> Run {
        run(&mut self.sh_command(script))
    }

    pub fn sh_command(&self, script: &str) -> Command {
        let mut command = self.command("sh");
        command.args(["-c", script]).env("HUSK", husk());
        if script.contains("$R") {
            command.env("R", rootfs());
        }
        command
    }

    /// Starts a command on a terminal of its own.
    pub fn pty(&self, mut command: Command) -> Pty {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("openpty");
        // Else whoever holds it would keep the window open.
        fcntl(&pair.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("FD_CLOEXEC");
        let slave = || Stdio::from(pair.slave.try_clone().expect("dup"));
        command.stdin(slave()).stdout(slave()).stderr(slave()).env("TERM", "vt100");
        let own_terminal = || {
            setsid()?;
            // SAFETY: this ioctl takes an integer.
            match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: two system calls.
        unsafe { command.pre_exec(own_terminal) };
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Pty { master: pair.master.into(), child, seen: String::new(), all: String::new() }
    }

    /// Has this host's kernel the controller, so that husk could hand it down?
    pub fn has_controller(&self, name: &str) -> bool {
        let all =
            fs::read_to_string(self.cgroup.join("cgroup.controllers")).expect("cgroup.controllers");
        all.split_whitespace().any(|each| each == name)
    }

    /// The cgroup directories of husk's containers.
    pub fn containers(&self) -> Vec<PathBuf> {
        subdirs(&self.cgroup.join("husk"))
    }

    /// The network links, without lo and those that a test made itself (and named `test...`).
    pub fn links(&self) -> Vec<String> {
        // It may complain of a peer whose network namespace is just going away.
        let list = self.sh("ip -o link").out;
        let names = list.lines().filter_map(|line| line.split(": ").nth(1));
        let names = names.map(|name| name.split('@').next().unwrap_or(name).to_string());
        names.filter(|name| name != "lo" && !name.starts_with("test")).collect()
    }

    /// Every process on this host, the holder not counted.
    pub fn processes(&self) -> Vec<i32> {
        let all = tree(&self.cgroup).into_iter();
        let all = all.filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
        let all: String = all.collect();
        let pids = all.lines().filter_map(|pid| pid.parse().ok());
        pids.filter(|&pid| pid != self.pid() as i32).collect()
    }

    /// The processes that are PID 1 of a container, as this host numbers them.
    pub fn inits(&self) -> Vec<i32> {
        let first = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or("");
            let ids: Vec<_> = ids.split_whitespace().collect();
            ids.len() == 2 && ids[1] == "1"
        };
        self.processes().into_iter().filter(first).collect()
    }

    fn read_mounts(&self) -> String {
        fs::read_to_string(format!("/proc/{}/mountinfo", self.pid())).expect("mountinfo")
    }

    /// What husk must never leave: containers' cgroups, links, mounts, processes.
    pub fn left_over(&self) -> Option<String> {
        let (processes, containers) = (self.processes(), self.containers());
        let links: Vec<_> = self.links().into_iter().filter(|name| name != "husk0").collect();
        // By their numbers: a path changes where somebody renames a directory of the machine's.
        let number = |line: &str| line.split(' ').next().map(str::to_string);
        let before: Vec<_> = self.mounts.lines().map(number).collect();
        let after = self.read_mounts();
        let mounts: Vec<_> = after.lines().filter(|line| !before.contains(&number(line))).collect();
        let clean =
            processes.is_empty() && containers.is_empty() && links.is_empty() && mounts.is_empty();
        (!clean).then(|| {
            format!("processes {processes:?}, cgroups {containers:?}, links {links:?}, {mounts:?}")
        })
    }

    /// Fails unless all is gone, at the latest after a few seconds: the kernel takes its time to
    /// remove a dead container's network namespace, and with it the veth pair.
    #[track_caller]
    pub fn assert_clean(&self) {
        let start = Instant::now();
        while let Some(left) = self.left_over() {
            assert!(start.elapsed() < Duration::from_secs(10), "left over: {left}");
            sleep(Duration::from_millis(10));
        }
    }

    /// For the log: the test runs, but a part of it can't on this kernel.
    pub fn skip_part(&self, reason: &str) {
        println!("skipped in part: {reason}");
        log(&format!("SKIP {}: {reason}\n", self.name));
    }

    pub fn skip(&self, reason: &str) {
        println!("skipped: {reason}");
        self.skipped.store(true, Ordering::Relaxed);
        log(&format!("SKIP {}: {reason}\n", self.name));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !self.name.is_empty() && !self.skipped.load(Ordering::Relaxed) {
            log(&format!("RAN {}\n", self.name));
        }
        let left =
            if panicking() { Ok(()) } else { std::panic::catch_unwind(|| self.assert_clean()) };
        remove_cgroups(&self.cgroup);
        let _ = self.holder.wait();
        if let Err(panic) = left {
            std::panic::resume_unwind(panic);
        }
    }
}

/// One write for a line: tests in other threads and processes append to the same file.
fn log(line: &str) {
    if let Some(path) = std::env::var_os("HUSK_TEST_LOG") {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("HUSK_TEST_LOG");
    }
}

/// Where cgroup2 is mounted. On "hybrid" machines that is not /sys/fs/cgroup itself.
pub fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("a cgroup2 mount");
    line.split(' ').nth(4).expect("a mount point").into()
}

/// Ends whatever still runs in there, and removes the whole tree.
fn remove_cgroups(top: &Path) {
    let _ = fs::write(top.join("cgroup.kill"), "1");
    let start = Instant::now();
    for dir in tree(top).iter().rev() {
        while let Err(e) = fs::remove_dir(dir)
            && e.kind() != ErrorKind::NotFound
            && start.elapsed() < limit()
        {
            sleep(Duration::from_millis(2));
        }
    }
}

/// Makes a new cgroup for one host, with every controller that can be had.
fn own_cgroup(top: &Path) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    for controller in ["+cpu", "+memory", "+pids"] {
        let _ = fs::write(top.join("cgroup.subtree_control"), controller);
    }
    // A run that was killed could not clear up: its pid is in the name.
    for dir in subdirs(top) {
        let name = dir.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let pid = name.strip_prefix("husk-test-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove_cgroups(&dir);
        }
    }
    loop {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = top.join(format!("husk-test-{}-{n}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => {
                fs::create_dir(dir.join("test")).expect("mkdir");
                return dir;
            }
            Err(e) => assert!(e.kind() == ErrorKind::AlreadyExists, "mkdir {}: {e}", dir.display()),
        }
    }
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// The directory and all below it, parents first.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![dir.to_path_buf()];
    let mut next = 0;
    while next < all.len() {
        all.extend(subdirs(&all[next]));
        next += 1;
    }
    all
}

// ------------------------------------------------------------------------------------ the terminal

/// A command on a terminal, and we are the person in front of it.
pub struct Pty {
    master: File,
    pub child: Child,
    seen: String,
    all: String,
}

impl Pty {
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("write to the terminal");
    }

    /// The same, as far as it takes it at once. False if it takes nothing.
    pub fn send_some(&mut self, text: &str) -> bool {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, 100u16) != Ok(1) {
            return false;
        }
        let flags = OFlag::O_NONBLOCK;
        fcntl(&self.master, FcntlArg::F_SETFL(flags)).expect("O_NONBLOCK");
        let written = self.master.write(text.as_bytes());
        fcntl(&self.master, FcntlArg::F_SETFL(OFlag::empty())).expect("O_NONBLOCK");
        written.is_ok()
    }

    /// Is this text there by now, or a little later?
    pub fn sees(&mut self, text: &str) -> bool {
        self.seen.contains(text) || (self.read() && self.seen.contains(text))
    }

    /// The window is closed.
    pub fn hang_up(&mut self) {
        self.master = File::open("/dev/null").expect("/dev/null");
    }

    /// Waits for this text; what came before it is returned, what comes after is kept for later.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_string();
                self.seen.drain(..at + text.len());
                return before;
            }
            let alive = start.elapsed() < limit() && self.read();
            assert!(alive, "no {text:?} on the terminal, but all in all:\n{}", self.all);
        }
    }

    /// Reads what there is, or waits a little for it. False at the end.
    fn read(&mut self) -> bool {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, 100u16) == Ok(0) {
            return true;
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(n) if n > 0 => {
                let text = String::from_utf8_lossy(&buffer[..n]);
                self.seen.push_str(&text);
                self.all.push_str(&text);
                true
            }
            _ => false, // EIO: nobody has the terminal open any more
        }
    }

    /// Sends a line and returns what was printed until the marker that ends it.
    #[track_caller]
    pub fn line(&mut self, text: &str, prompt: &str) -> String {
        self.send(&format!("{text}\n"));
        self.expect(prompt)
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads one winsize.
        let done = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(done, 0, "TIOCSWINSZ: {}", io::Error::last_os_error());
    }

    /// The rest of the output, and the exit status (or -N if signal N killed it).
    pub fn end(mut self) -> (String, i32) {
        let start = Instant::now();
        // What it printed last may come after the look at whether it has ended.
        let (mut ended, mut before) = (false, usize::MAX);
        while self.read() && !(ended && self.all.len() == before) {
            assert!(start.elapsed() < limit(), "still on the terminal:\n{}", self.all);
            (ended, before) = (self.child.try_wait().expect("wait").is_some(), self.all.len());
        }
        let status = wait(&mut self.child, "the command on the terminal");
        (
            std::mem::take(&mut self.all),
            status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
        )
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
