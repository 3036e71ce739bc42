//! husk: a container runtime to read. A container is a process in a thin shell of kernel settings.
//! This file is that shell, in the order in which `husk run` puts it on: it can be read alone, from
//! the first line to the last. README.md has a chapter for each numbered section. The other files
//! make this one safe and comfortable, and may be skipped; here they are with a line each. The
//! story begins at `run`. Of step.rs: `say` prints a heading of --explain, `say_step` a line of it;
//! `step!` prints its sentence, makes the call, and puts the sentence before an error; `attempt`
//! does that without printing; `echo` is the step that writes to a file.

#![no_main] // C's main() is in start, and calls the one below

mod bridge; //      husk0 and its firewall rules, once per host
mod caller; //      root or an ordinary user?
mod cgroups; //     any cgroup: who is in it, how it ends
mod cli; //         the command line becomes a `Container`
mod commands; //    coming back to a container: exec, stop, kill, ps
mod containers; //  the list of containers: names, locks, marks, sweep
mod devices; //     devices of the host's, and which a cgroup may use
mod environment; // the command's variables
mod etc; //         hosts and resolv.conf
mod filter; //      programs for the kernel's BPF machine, as search trees
mod init; //        PID 1 for commands that do not expect to be it
mod iptables; //    the one program that husk runs for itself
mod lockdown; //    capabilities, and the system calls that are refused
mod mounts; //      docker's mounts, devices and masked paths
mod netlink; //     messages to the kernel's network
mod netns; //       a visit to another network namespace
mod notes; //       what exec and stop have to know, kept by the kernel
#[cfg(feature = "oci")]
mod oci; //         the appendix: containers for docker, podman and Kubernetes
mod paths; //       C strings, and paths that can't lead out
mod ports; //       ports of the host's that lead to a container
mod rlimits; //     limits of a process
mod shield; //      nobody in a container writes to husk's own file
#[path = "sys/start.rs"]
mod start; //       the C library's main()
mod step; //        `step!`: say it, do it, name it when it fails
mod sys; //         system calls that std and nix lack
mod sysctl; //      settings of the container's network
mod talk; //        what parent and child say to each other
mod terminal; //    what 0, 1 and 2 are in there, and the copying; signals
mod users; //       names of users and groups

use bridge::{GATEWAY, NOWHERE, PREFIX};
use caller::is_rootless;
use containers::Cgroup;
use devices::Device;
use mounts::{Detached, Volume};
use netlink::{Netlink, Peer, mac_of};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::{prctl, signal::Signal, stat::Mode, stat::umask};
use nix::{errno::Errno, fcntl::AT_FDCWD, unistd};
use paths::{Make, Tree};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::{net::UnixStream, process::ExitStatusExt};
use std::{convert::Infallible, ffi::CString, io::Write, path::Path, path::PathBuf};
use step::{Error, Result, attempt, echo, error, say, say_step};
use terminal::{Inside, LastWords, Outside, Signals};
use users::User;

/// Picks the command: run is below, the others are in commands.rs.
pub fn main() -> u8 {
    sys::reset_signals(); // else what our caller ignores would be ignored in the container, too
    caller::look();
    #[cfg(feature = "oci")]
    if oci::is_called() {
        return oci::main();
    }
    umask(Mode::from_bits_retain(0o022));
    let outcome = match cli::parse(std::env::args_os().skip(1).collect()) {
        Ok(cli::Command::Print(text)) => step::print(text).map(|()| 0),
        Ok(cli::Command::Run(container)) => run(&container),
        Ok(cli::Command::Exec(container)) => commands::exec(*container),
        Ok(cli::Command::Ps { names_only }) => commands::ps(names_only),
        Ok(cli::Command::Stop(stop)) => commands::stop(&stop),
        Ok(cli::Command::Kill(kill)) => commands::kill(&kill),
        Err(why) => Err(why),
    };
    outcome.unwrap_or_else(|error| error.report())
}

/// What to run, and in what: the command line, as cli.rs has read it.
#[derive(Default)]
pub struct Container {
    name: String,
    hostname: String,
    rootfs: PathBuf,
    writable: bool, // changes go to ROOTFS itself
    read_only: bool,
    volumes: Vec<Volume>,
    devices: Vec<Device>,
    ports: Vec<ports::Port>,       // of the host's, that lead to it
    hosts: Vec<(String, IpAddr)>,  // more lines of /etc/hosts
    limits: Vec<(String, String)>, // files of the cgroup, and what to write to them
    memory: Option<String>,        // what is in memory.max
    storage: Option<String>,       // bytes for its changes
    namespaces: i32,               // see NAMESPACES
    bridge: bool,                  // or an empty network namespace, or the host's network
    network_of: Option<String>,    // another container
    resolv_conf: Vec<String>,      // lines of it
    sysctls: Vec<(String, String)>,
    capabilities: u64,
    user: String, // see users::find; by default root
    ulimits: String,
    env: Vec<CString>,
    workdir: PathBuf,
    command: Vec<CString>,
    init: bool, // PID 1 is husk's
    stop_signal: i32,
    terminal: terminal::Wanted,
}

impl Container {
    fn shares_network(&self) -> bool {
        (self.namespaces & libc::CLONE_NEWNET) == 0
    }
}

/// The parent's story. The numbers are those of the sections below.
fn run(c: &Container) -> Result<u8> {
    cgroups::check_proc()?; // the numbers in /proc must be those of our own processes
    shield::raise_if_needed(c.capabilities, lockdown::kept(), c.init)?; // husk's file is safe
    let (mut inside, outside) = terminal::prepare(&c.terminal)?; // what 0, 1 and 2 will be
    containers::join_network(c.network_of.as_deref())?; // of another one: the child inherits it
    let cgroup = create_cgroup(c)?; // 1
    let cloned = clone(c.namespaces, cgroup.as_ref()); // 2
    let outcome = match cloned {
        Ok((0, parent)) => {
            // The child, in a copy of our memory. "Infallible": it comes back only with an error.
            let Err(why) = become_container(c, &parent, &mut inside); // 2 to 7
            talk::fail(&parent, why) // ends the child
        }
        Ok((pid, child)) => {
            drop(inside); // the child's alone from now on
            let outcome = attend(c, pid, &child, cgroup.as_ref(), outside); // 5 and 8
            outcome.map_err(|why| talk::give_up(pid, &child, why))
        }
        Err(why) => Err(why),
    };
    clean_up(c, cgroup, outcome.is_ok()); // 8
    let (status, last_words) = outcome?;
    last_words.copy()?; // may wait for whoever reads them: the container is gone already
    Ok(status)
}

/// The child's story: step by step it becomes the container.
fn become_container(c: &Container, parent: &UnixStream, inside: &mut Inside) -> Result<Infallible> {
    // Whatever the caller and husk have open stays outside: ROOTFS could lead to it (section 4).
    let mut needed = inside.open_files();
    needed.push(parent.as_fd());
    sys::close_others(3, &needed);
    finish_namespaces(c)?; // 2
    set_hostname(c)?; // 3
    let mut opened = build_root(c, inside)?; // 4
    finish_network(c, parent, &mut opened)?; // 5
    let user = users::find(&c.user)?;
    inside.give_to(user.uid, user.gid)?;
    lock_down(c, &user, parent)?; // 6
    if c.init {
        init::stay_behind(&c.command)?;
    }
    talk::announce_exec(parent)?; // whatever kills it before that has killed no command yet
    execute(c, &user, inside) // 7
}

// ---- 1. cgroup: the budget ----------------------------------------------------------------------

/// Made before the clone, so that the container is born inside and never runs without its limits.
fn create_cgroup(c: &Container) -> Result<Option<Cgroup>> {
    say("1. cgroup: the budget");
    let husk = match containers::husk_dir() {
        Ok(husk) => husk,
        // An ordinary user may have no cgroup: a container that needs none runs without.
        Err(_) if is_rootless() && c.limits.is_empty() && !c.terminal.detach => return Ok(None),
        Err(why) => return Err(why),
    };
    containers::enter(&husk, &c.limits)?; // the working directory, from now on
    let cgroup = Cgroup::create(&c.name)?;
    if let Err(why) = set_limits(c, &cgroup) {
        cgroup.remove();
        return Err(why);
    }
    notes::keep(&cgroup.fd, &c.user, &c.ulimits, c.stop_signal, &c.workdir, &c.env);
    Ok(Some(cgroup))
}

/// A limit is a file, and what is written to it: `echo 64m > memory.max`, cgroups(7).
fn set_limits(c: &Container, cgroup: &Cgroup) -> Result<()> {
    let dir = &cgroup.dir;
    for (file, value) in &c.limits {
        let path = dir.join(file);
        if !path.exists() {
            return Err(error(cgroups::why_missing(dir, file)));
        }
        echo(value, path)?;
    }
    if c.memory.is_some() {
        let _ = echo("0", dir.join("memory.swap.max")); // else the excess is swapped out
    }
    devices::limit(&cgroup.fd, dir, &c.devices)
}

// ---- 2. clone: new namespaces -------------------------------------------------------------------

/// What the child gets of its own: namespaces(7).
pub const NAMESPACES: i32 = libc::CLONE_NEWPID // processes: in there the child is PID 1
    | libc::CLONE_NEWNS // mounts, copies of ours
    | libc::CLONE_NEWNET // interfaces (lo is there, and down), addresses, routes, ports
    | libc::CLONE_NEWUTS // the host name
    | libc::CLONE_NEWIPC; // System V IPC, message queues

/// Starts a child in new namespaces and in its cgroup. Like fork(2) it returns twice: `(0, parent)`
/// in the child and `(pid, child)` in the parent, each with its end of a socket to the other.
pub fn clone(namespaces: i32, cgroup: Option<&Cgroup>) -> Result<(i32, UnixStream)> {
    say("2. clone: new namespaces");
    let (ours, theirs) = attempt("socketpair", UnixStream::pair())?;
    let into = cgroup.map(|cgroup| cgroup.fd.as_fd()); // CLONE_INTO_CGROUP
    let flags = CloneFlags::from_bits_retain(namespaces);
    let pid = step!(sys::clone3(namespaces, into), "clone3 {flags:?}")?;
    if pid > 0 {
        return Ok((pid, ours));
    }
    step::rename_narrator("child");
    Ok((0, theirs)) // `ours` is closed here: so the child reads the end when the parent is gone
}

/// What clone3 could not do. A user namespace has no ids yet, if there is one. And a new cgroup
/// namespace has as its root the cgroup of whoever makes it: only the child is in the container's.
fn finish_namespaces(c: &Container) -> Result<()> {
    if (c.namespaces & libc::CLONE_NEWUSER) != 0 {
        // A file may be closed to one group, and whoever drops that group could open it. So the
        // kernel takes an ordinary user's gid_map only after this, user_namespaces(7).
        echo("deny", "/proc/self/setgroups")?;
        echo(&format!("0 {} 1", caller::uid()), "/proc/self/uid_map")?;
        echo(&format!("0 {} 1", caller::gid()), "/proc/self/gid_map")?;
    }
    let _ = echo("0", "/proc/self/oom_score_adj"); // else -1000 could be inherited
    step!(unshare(CloneFlags::CLONE_NEWCGROUP), "unshare --cgroup")
}

// ---- 3. hostname --------------------------------------------------------------------------------

fn set_hostname(c: &Container) -> Result<()> {
    say("3. hostname");
    step!(unistd::sethostname(&c.hostname), "hostname {}", c.hostname)
}

// ---- 4. root file system ------------------------------------------------------------------------

const NONE: Option<&str> = None;

/// Opened in section 4 for section 5: by then ROOTFS could steer the paths to them.
struct Opened {
    hosts: File,     // /etc/hosts
    sysctl: OwnedFd, // /proc/sys, before it is covered
}

/// What is mounted on the new root is made while the host can be seen, but detached: attached to no
/// path yet. Then pivot_root and umount put the host out of reach, and only then does anything
/// follow the paths of ROOTFS: wherever its symlinks point, they can't lead out any more.
fn build_root(c: &Container, inside: &mut Inside) -> Result<Opened> {
    say("4. root file system");
    // systemd's are shared: they would carry ours over to the host, and pivot_root refuses them.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    step!(mount(NONE, "/", NONE, private, NONE), "mount --make-rprivate /")?;
    let mut mounts = mounts::make_dev(is_rootless())?;
    // 0, 1 and 2 may be the host's /dev/null: opened again through a read-only mount it can be read
    // and written, but fchmod(2) fails.
    inside.reopen_by(mounts.iter().map(|made| &made.mount))?;
    let volumes = mounts::make_volumes(&c.volumes)?;
    mount_root(c)?; // from here on /dev is a tmpfs, which nobody else sees, and "." is ROOTFS
    // Files on it: hostname, resolv.conf and hosts, which section 5 adds a line to.
    let uses_host_network = c.shares_network() && c.network_of.is_none();
    let texts = etc::files(&c.hostname, &c.hosts, &c.resolv_conf, uses_host_network);
    let files = mounts::make_files("/etc", &texts, c.read_only)?;
    let hosts = attempt("/dev/hosts", File::options().append(true).open("/dev/hosts"))?;
    mounts.extend(mounts::make_sys(is_rootless(), c.shares_network())?);
    mounts.extend(mounts::sort(files, volumes));
    // A procfs shows the processes of the PID namespace in which it is made, proc(5). A user may
    // make one only while another can be seen: so it is made before pivot_root, too.
    let proc = mounts::new_mount("proc", "nosuid,nodev,noexec")?;
    let sysctl = sysctl::dir_of(&proc)?;
    mounts.push(Detached { mount: proc, target: "/proc".into() });
    step!(unistd::chdir("/dev/root"), "cd /dev/root")?;
    // Both roots in one place, so the old one needs no directory in the new one: it lies on top,
    // and is taken away with all that is mounted in it.
    step!(unistd::pivot_root(".", "."), "pivot_root . .")?;
    step!(umount2(".", MntFlags::MNT_DETACH), "umount --lazy .")?;
    mounts::place_all(&mounts)?;
    let console = inside.open_pty(&mounts[mounts::DEVPTS].mount)?;
    mounts::place_console(console, &mounts[mounts::DEV].mount)?;
    enter_workdir(c, Make::Dir)?;
    if c.read_only {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
        step!(mount(NONE, "/", NONE, flags, NONE), "mount -o remount,bind,ro,nodev /")?;
    }
    Ok(Opened { hosts, sysctl })
}

/// The root is an overlay of what the container changes (upper) over ROOTFS, which is ".": so its
/// name may hold commas and colons. The upper one is on a tmpfs, mounted over our copy of the
/// host's /dev, which is not needed any more. The overlay keeps hold of it when the path is gone,
/// until the container's last process has ended, in whatever way.
fn mount_root(c: &Container) -> Result<()> {
    step!(unistd::chdir(&c.rootfs), "cd {}", c.rootfs.display())?;
    let size = mounts::storage(c.storage.as_deref().or(c.memory.as_deref()))?;
    let nodev = MsFlags::MS_NODEV;
    step!(
        mount(Some("tmpfs"), "/dev", Some("tmpfs"), nodev, Some(size.as_str())),
        "mount -t tmpfs -o nodev,{size} tmpfs /dev"
    )?;
    for dir in ["/dev/upper", "/dev/work", "/dev/root"] {
        step!(fs::create_dir(dir), "mkdir {dir}")?;
    }
    if c.writable {
        let root = mounts::bind(AT_FDCWD, Path::new("."), libc::MOUNT_ATTR_NODEV, false)?;
        let target = Path::new("/dev/root");
        return step!(mounts::place(&root, Tree::Own, target), "mount --move (it) /dev/root");
    }
    let user = mounts::attributes_option(is_rootless(), "/dev/upper");
    let layers = format!("lowerdir=.,upperdir=/dev/upper,workdir=/dev/work{user}");
    step!(
        mount(Some("overlay"), "/dev/root", Some("overlay"), nodev, Some(layers.as_str())),
        "mount -t overlay -o nodev,{layers} overlay /dev/root"
    )
}

/// Magic links of a procfs, such as /proc/self/fd/7, could lead out (CVE-2024-21626): refused.
pub fn enter_workdir(c: &Container, make: Make) -> Result<()> {
    let shown = c.workdir.display();
    let dir = attempt(format_args!("cd {shown}"), Tree::Own.open_or_make(&c.workdir, make))?;
    step!(unistd::fchdir(dir), "cd {shown}")
}

// ---- 5. network ---------------------------------------------------------------------------------

/// The parent makes the network, while the child is still in sections 2 to 4.
fn make_network(c: &Container, pid: i32) -> Result<Ipv4Addr> {
    let ip = if c.bridge { connect_to_bridge(c, pid)? } else { NOWHERE };
    if !c.shares_network() && !is_rootless() {
        let _visit = netns::enter(pid)?; // until the end of this block (rootless: finish_network)
        configure_network(c, ip, &sysctl::dir()?)?;
    }
    bridge::wait_for_port(ip)?; // frames that are sent before are lost
    Ok(ip)
}

/// The host's side: a veth pair, one end on the bridge, the other, eth0, in the child's network
/// namespace. When that ends, both vanish.
fn connect_to_bridge(c: &Container, pid: i32) -> Result<Ipv4Addr> {
    let bridge = bridge::make_if_missing()?; // husk0's index
    let host = attempt("netlink socket", Netlink::open())?;
    loop {
        // The name leases the address: the kernel refuses a second interface of that name.
        let ip = bridge::address(containers::random());
        let (name, mac) = (bridge::port_name(ip), mac_of(ip));
        let peer = Peer { name: "eth0", mac, pid };
        let is_new = step!(
            host.add_veth(&name, bridge, &peer),
            "ip link add {name} up master husk0 type veth peer eth0 address {mac} netns {pid}"
        )?;
        if is_new {
            bridge::bind_port(&host, bridge, ip, !c.ports.is_empty())?;
            return Ok(ip);
        }
    }
}

/// The container's side, by a socket that is opened in its network namespace.
fn configure_network(c: &Container, ip: Ipv4Addr, sysctl: &OwnedFd) -> Result<()> {
    let own = attempt("netlink socket", Netlink::open())?;
    step!(own.set_up("lo"), "ip link set lo up")?; // the kernel gives it 127.0.0.1
    sysctl::set_network(sysctl, &c.sysctls, is_rootless())?;
    if ip == NOWHERE {
        return Ok(());
    }
    step!(own.set_address("eth0", ip, PREFIX, 0), "ip addr add {ip}/{PREFIX} dev eth0")?;
    step!(own.set_up("eth0"), "ip link set eth0 up")?;
    bridge::meet_gateway(&own)?;
    step!(own.add_default_route(GATEWAY), "ip route add default via {GATEWAY}")?;
    bridge::wait_until_up(&own, "eth0");
    Ok(())
}

/// The child's part, when the parent's word has come.
fn finish_network(c: &Container, parent: &UnixStream, opened: &mut Opened) -> Result<()> {
    say("5. network");
    let ip = talk::wait_for_word(parent)?;
    let names = etc::own_line(&c.hostname, ip);
    step!(writeln!(opened.hosts, "{names}"), "echo {names} >> /etc/hosts")?;
    if is_rootless() && !c.shares_network() {
        configure_network(c, ip, &opened.sysctl)?; // setns(2) is not for an ordinary user's parent
    }
    sysctl::set_others(&opened.sysctl, &c.sysctls)
}

// ---- 6. lock-down -------------------------------------------------------------------------------

/// Now the process becomes as weak as its command may be. The order is not free: the bounding set
/// and the ids need capabilities; the filter needs no_new_privs, and refuses some of these calls.
pub fn lock_down(c: &Container, user: &User, parent: &UnixStream) -> Result<()> {
    say("6. lock-down");
    rlimits::set(&c.ulimits)?;
    let kept = limit_capabilities(c.capabilities)?;
    let (uid, gid, groups) = (user.uid, user.gid, &user.groups);
    if !is_rootless() {
        step!(unistd::setgroups(groups), "setpriv --groups {groups:?}")?;
    }
    step!(unistd::setresgid(gid, gid, gid), "setpriv --regid {gid}")?;
    step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid {uid}")?;
    let effective = if uid.is_root() { kept } else { 0 };
    step!(sys::capset(effective), "capset 0x{effective:x}")?;
    step!(prctl::set_no_new_privs(), "setpriv --no-new-privs")?; // execve can add none any more
    if !c.terminal.detach {
        // So late because a change of ids clears it.
        step!(prctl::set_pdeathsig(Signal::SIGKILL), "setpriv --pdeathsig KILL")?;
        talk::check_parent(parent)?;
    }
    let filter = lockdown::seccomp_filter(kept);
    step!(sys::seccomp(&filter), "seccomp: {} instructions", filter.len())
}

/// No program gets back what was dropped from the bounding set, capabilities(7). Returns what is
/// kept: what husk lacks, it can't give.
fn limit_capabilities(wanted: u64) -> Result<u64> {
    say_step(format_args!("setpriv --bounding-set (of 0x{wanted:x})"));
    let mut kept = 0;
    for number in 0..64 {
        let is_there = match sys::capbset_read(number) {
            Err(Errno::EINVAL) => break, // past the last that this kernel knows
            answer => attempt("prctl PR_CAPBSET_READ", answer)?,
        };
        if (wanted >> number) & 1 == 0 {
            attempt("prctl PR_CAPBSET_DROP", sys::capbset_drop(number))?;
        } else if is_there {
            kept |= 1 << number;
        }
    }
    Ok(kept)
}

// ---- 7. exec ------------------------------------------------------------------------------------

/// The child's last step: the command takes its place, with nothing of husk's but 0, 1 and 2.
pub fn execute(c: &Container, user: &User, inside: &mut Inside) -> Result<Infallible> {
    say("7. exec");
    inside.lead_session()?;
    let name = c.command[0].to_string_lossy();
    say_step(format_args!("exec {name}"));
    inside.connect()?; // from here on husk's own words would be the container's
    let env = environment::with_home(&c.env, &user.home);
    let mut failure = Error { status: 127, why: format!("{name}: not found") };
    for file in environment::candidates(&c.command[0], &env) {
        let Err(errno) = unistd::execve(&file, &c.command, &env);
        if let Some(why) = environment::refusal(&file, errno) {
            failure = Error { status: 126, why: format!("{name}: {why}") };
        }
    }
    Err(failure)
}

// ---- 8. wait, exit status, clean-up -------------------------------------------------------------

/// The parent, while the child becomes the container, and until the container ends.
fn attend(
    c: &Container,
    pid: i32,
    child: &UnixStream,
    cgroup: Option<&Cgroup>,
    outside: Outside,
) -> Result<(u8, LastWords)> {
    let ip = make_network(c, pid)?; // 5
    containers::publish(cgroup, ip, &c.ports)?;
    let signals = terminal::hold_signals()?; // until here they end husk, later it passes them on
    talk::tell(child, ip)?;
    // Not from another container's network: its iptables has no rules of the host's.
    if cgroup.is_some() && c.network_of.is_none() {
        containers::sweep(containers::SOME); // after husks that were killed, as we have the time
    }
    terminal::wait_for_exec(child, &signals)?;
    talk::check_exec(child)?; // or has a step failed?
    if !c.init {
        shield::check(pid, &c.command[0])?;
    }
    if let Some(cgroup) = cgroup {
        cgroup.share(c.terminal.detach)?; // the child is its command now: `husk exec` may enter
    }
    if !c.terminal.detach {
        return wait(pid, outside, signals);
    }
    step::print(&format!("{}\n", c.name))?;
    // With --log it forks: this process ends there, with 0, and the copy comes back at the end.
    outside.keep_log(pid, signals)?;
    Ok((0, LastWords::default()))
}

/// As in a shell, 128+N is an end by signal N.
pub fn wait(pid: i32, outside: Outside, signals: Signals) -> Result<(u8, LastWords)> {
    let last_words = outside.relay(pid, signals)?;
    let status = last_words.reap(pid)?;
    let code = status.code().or(status.signal().map(|number| 128 + number));
    Ok((code.unwrap_or(125) as u8, last_words))
}

/// All else that a container was goes with its last process: what is left is its cgroup, and the
/// rules of its ports.
fn clean_up(c: &Container, cgroup: Option<Cgroup>, has_worked: bool) {
    if !has_worked {
        step::fall_silent(); // the step that failed has the last word
    } else if c.terminal.detach && c.terminal.log.is_none() {
        return; // it goes on without us
    }
    say("8. wait, exit status, clean-up");
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
}
