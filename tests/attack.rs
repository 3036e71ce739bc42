//! Ways out of a container. Each attack fails in husk, as root and rootless; and so that this means
//! something, each has a control: the same attack, unprotected (`unshare` and chroot), works. Where
//! the control fails, on a kernel that lacks what is attacked, the attack counts as skipped.
//!
//! What the attacks do is in attack.c.

mod common;

use common::*;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::{self, sleep};
use std::time::Duration;

// ------------------------------------------------------------------------------------ how they run

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Root,
    User,
}
use Who::{Root, User};

const UID: u32 = 1000;

/// attack.c as a static program. None where there is neither a compiler nor an earlier build.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("attack");
        if have("cc") {
            let new = program.with_extension(std::process::id().to_string());
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attack.c");
            let mut cc = Command::new("cc");
            run(cc.args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(&new).arg(source)).ok();
            fs::rename(new, &program).expect("mv attack");
        }
        program.exists().then_some(program)
    };
    PROGRAM.get_or_init(build).as_deref()
}

/// A husk, and a root file system with nothing in it but the attacks, for this user.
struct Scene<'a> {
    host: &'a Host,
    who: Who,
    dir: TempDir,
    root: String,
}

impl<'a> Scene<'a> {
    fn new(host: &'a Host, who: Who) -> Option<Scene<'a>> {
        let Some(program) = program() else {
            host.skip("no C compiler here, and no attack program from elsewhere");
            return None;
        };
        let dir = husk_for_all();
        let root = dir.join("root");
        for name in ["", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir(root.join(name)).expect("mkdir");
        }
        run(Command::new("cp").args([program, &root.join("attack")])).ok();
        // A shebang line that names whatever reads it.
        fs::write(root.join("script"), "#!/proc/self/exe\n").expect("write");
        fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o755)).expect("chmod");
        let root = root.to_str().expect("a plain path").to_string();
        let scene = Scene { host, who, dir, root };
        if who == User {
            chown(scene.dir.path(), Some(UID), Some(UID)).expect("chown");
            for name in ["", "proc", "sys", "dev", "tmp", "etc", "attack", "script"] {
                chown(format!("{}/{name}", scene.root), Some(UID), Some(UID)).expect("chown");
            }
        }
        Some(scene)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir.path())
    }

    /// A command of this user's on the host.
    fn command(&self, program: &str) -> Command {
        self.host.command(program)
    }

    /// Starts it as this user.
    fn start(&self, command: &mut Command) -> Running {
        start(match self.who {
            Root => command,
            User => as_user(command, UID),
        })
    }

    fn husk(&self, args: &[&str]) -> Command {
        let mut command = self.command(&self.path("husk"));
        command.args(args);
        command
    }

    /// A script that runs husk as `$H`, with this root as `$R`.
    fn sh(&self, script: &str, args: &[&str]) -> Command {
        let mut command = self.command("sh");
        command.args(["-c", script, "sh"]).args(args);
        command.env("H", self.path("husk")).env("R", &self.root);
        command
    }

    /// The attack in a container.
    fn inside(&self, options: &[&str], attack: &[&str]) -> Run {
        let run = [&["run", "--network", "none"], options, &[&self.root, "/attack"]].concat();
        self.start(&mut self.husk(&[&run, attack].concat())).wait()
    }

    /// The attack unprotected: in these new namespaces (by unshare's letters), as root there, with
    /// the mounts that a container has. PID 1 is a shell outside of the root.
    fn control(&self, namespaces: &str, attack: &[&str]) -> Run {
        self.control_by("chroot \"$R\" /attack \"$@\"; true", namespaces, attack)
    }

    fn control_by(&self, script: &str, namespaces: &str, attack: &[&str]) -> Run {
        let script = [CONTROL, script].concat();
        let mut unshare = self.command("unshare");
        unshare.args([if self.who == User { "-rm" } else { "-m" }, "--fork"]);
        unshare.args(namespaces.split_whitespace());
        unshare.args(["sh", "-c", &script, "sh"]).args(attack);
        unshare.env("R", &self.root).env("D", self.dir.path());
        unshare.env("ROOTLESS", if self.who == User { "yes" } else { "" });
        self.start(&mut unshare).wait()
    }

    /// Refused in a container; skipped if the control is refused, too.
    fn refused(&self, namespaces: &str, attack: &[&str]) {
        let inside = self.inside(&[], attack);
        assert!(!worked(&inside), "this must not work in a container: {inside}");
        self.controlled(&self.control(namespaces, attack));
    }

    /// This control must have worked.
    fn controlled(&self, control: &Run) -> bool {
        let works = worked(control);
        if !works {
            let said = control.out.lines().last().unwrap_or_default();
            self.host.skip(&format!("unprotected, too, it is {said}"));
        }
        works
    }
}

/// What a container has mounted, as far as this user may; /proc/interrupts stands for all that is
/// masked. First of all, root can't write to the machine's files any more.
const CONTROL: &str = r#"
    mount --bind "$D" "$D" || exit
    [ "$(id -u)" != 0 ] || [ -n "$ROOTLESS" ] || mount -o remount,bind,ro / || exit
    mount --bind "$R" "$R"
    mount -t proc proc "$R/proc" 2>/dev/null || mount --rbind /proc "$R/proc"
    mount --bind /dev/null "$R/proc/interrupts"
    mount --bind "$R/proc/sys" "$R/proc/sys" && mount -o remount,bind,ro "$R/proc/sys"
    mount --rbind /dev "$R/dev"
    mount --bind "$R/dev/null" "$R/dev/null"
    mount -t sysfs sysfs "$R/sys" 2>/dev/null
    mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup" 2>/dev/null
"#;

const ALL: &str = "-p -u -i -n -C";

fn worked(run: &Run) -> bool {
    match run.out.lines().last().unwrap_or_default() {
        line if line.starts_with("WORKED") => true,
        line if line.starts_with("REFUSED") => false,
        _ => panic!("neither WORKED nor REFUSED: {run}"),
    }
}

// -------------------------------------------------------------------------------------- one by one

const AS_ROOT: &str = "mount_tmpfs mount_proc mount_bind umount_masked umount_read_only \
    remount_proc_sys remount_dev mount_setattr open_tree move_mount fsopen fsmount fspick \
    pivot_root dynamic_debug \
    make_cgroup write_cgroup read_kcore read_timer_list read_kernel_log \
    init_module finit_module delete_module kexec_load kexec_file_load \
    bpf perf_event_open keyctl add_key request_key userfaultfd io_uring fanotify open_by_handle_at \
    swapon swapoff reboot acct adjust_clock set_timezone set_hostname quotactl vsock lease \
    af_alg af_alg_high_bits af_alg_pair rare_families \
    read_implies_exec page_zero process_madvise lsm_list_modules lsm_get_self_attr lsm_set_self_attr \
    delegation \
    unshare clone clone3 setns setns_pidfd setns_any_descriptor \
    tiocsti tiocsti_high_bits tioclinux tioclinux_high_bits";

/// Without what the kernel never lets a user do, in whatever namespaces.
const AS_USER: &str = "mount_tmpfs mount_proc mount_bind umount_masked umount_read_only \
    remount_dev open_tree move_mount fsopen fsmount fspick pivot_root \
    perf_event_open keyctl add_key request_key userfaultfd io_uring set_hostname vsock lease \
    af_alg af_alg_high_bits af_alg_pair rare_families \
    read_implies_exec page_zero process_madvise lsm_list_modules lsm_get_self_attr lsm_set_self_attr \
    delegation \
    unshare clone clone3 setns setns_pidfd setns_any_descriptor \
    tiocsti tiocsti_high_bits tioclinux tioclinux_high_bits";

/// Other ABIs of the same processor, and its ports.
const ON_X86: &str = "int80 int80_unshare x32 x32_unshare";
const ON_X86_AS_ROOT: &str = "iopl ioperm";

fn attacks(who: Who) -> Vec<&'static str> {
    let mut all = vec![if who == Root { AS_ROOT } else { AS_USER }];
    if cfg!(target_arch = "x86_64") {
        all.push(ON_X86);
        all.extend((who == Root).then_some(ON_X86_AS_ROOT));
    }
    all.iter().flat_map(|names| names.split_whitespace()).collect()
}

/// What `attack --each` says of this one.
fn result<'a>(run: &'a Run, attack: &str) -> &'a str {
    let line = run.out.lines().find_map(|line| line.strip_prefix(attack)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("nothing about {attack}: {run}"))
}

fn all_refused(run: &Run, attacks: &[&str]) {
    let works = |attack: &&&str| !result(run, attack).starts_with("REFUSED");
    let working: Vec<_> = attacks.iter().filter(works).collect();
    assert!(working.is_empty(), "these must not work in a container: {working:?}: {run}");
}

/// Attacks that are one call each. Every control has mounts of its own, which it may change.
fn calls(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    let attacks = attacks(who);
    all_refused(&scene.inside(&[], &[&["--each"], &attacks[..]].concat()), &attacks);
    let script = "for attack; do unshare -m chroot \"$R\" /attack --each $attack; done";
    let control = scene.control_by(script, ALL, &attacks);
    for attack in attacks {
        let result = result(&control, attack);
        if !result.starts_with("WORKED") {
            host.skip_part(&format!("{attack}: unprotected, too, it is {result}"));
        }
    }
}

#[test]
fn calls_as_root() {
    calls(&host!(), Root);
}

#[test]
fn calls_as_user() {
    calls(&host!(), User);
}

/// Root may also let in somebody else, who then is nobody in particular.
#[test]
fn calls_as_another_user_inside() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let attacks = [&attacks(Root)[..], &["sysrq", "core_pattern", "set_clock"]].concat();
    let each = [&["--each"], &attacks[..]].concat();
    all_refused(&scene.inside(&["-u", "1000:1000"], &each), &attacks);
}

/// Whoever may restart the machine, which in a container only ends it, may not start another kernel.
#[test]
fn kexec_by_who_may_reboot() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    for attack in ["kexec_load", "kexec_file_load"] {
        let inside = scene.inside(&["--cap-add", "SYS_BOOT"], &[attack]);
        assert!(inside.out.starts_with("REFUSED EPERM"), "{inside}");
    }
}

/// What the refusal of other families and personalities leaves alone, and what capabilities open.
#[test]
fn allowed_arguments() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let run = |options: &[&str], attack| scene.inside(options, &[attack]);
    assert_eq!(run(&[], "common_families").ok(), "WORKED");
    assert_eq!(run(&[], "common_personalities").ok(), "WORKED");
    assert_eq!(run(&["--cap-add", "SYS_PTRACE"], "read_implies_exec").ok(), "WORKED");
    assert_eq!(run(&["--cap-add", "NET_ADMIN"], "rare_families").ok(), "WORKED");
    for refused in ["af_alg", "vsock"] {
        let inside = run(&["--cap-add", "ALL"], refused);
        assert!(inside.out.starts_with("REFUSED EPERM"), "{inside}");
    }
}

/// `husk exec` locks down as `husk run` does.
#[test]
fn calls_by_exec() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let attacks = [&attacks(Root)[..], &["sysrq", "core_pattern", "set_clock"]].concat();
    let run = ["run", "-d", "--name", "target", "--network", "none", &scene.root];
    scene.start(&mut scene.husk(&[&run[..], &["/attack", "sleep", "1000000"]].concat())).wait();
    for user in ["0", "1000:1000"] {
        let exec = ["exec", "-u", user, "target", "/attack", "--each"];
        all_refused(
            &scene.start(&mut scene.husk(&[&exec, &attacks[..]].concat())).wait(),
            &attacks,
        );
    }
    assert_eq!(scene.start(&mut scene.husk(&["stop", "-t", "0", "target"])).wait().code, 0);
}

/// /proc/interrupts of a container is empty. It is masked in the control, too: here it is not.
#[test]
fn read_masked() {
    let host = host!();
    for who in [Root, User] {
        let Some(scene) = Scene::new(&host, who) else { return };
        let attack = ["read_interrupts"];
        assert!(!worked(&scene.inside(&[], &attack)));
        let script = "umount $R/proc/interrupts; chroot $R /attack \"$@\"; true";
        scene.controlled(&scene.control_by(script, ALL, &attack));
    }
}

/// In the machine of our own they really do it; elsewhere they go as far as an open file.
fn changes_machine(host: &Host, attack: &str, value: &str) {
    let Some(scene) = Scene::new(host, Root) else { return };
    let attack: &[&str] = if in_vm() { &[attack, value] } else { &[attack] };
    let inside = scene.inside(&[], attack);
    assert!(!worked(&inside), "{inside}");
    let script = "mount -o remount,bind,rw $R/proc/sys; chroot $R /attack \"$@\"; true";
    scene.controlled(&scene.control_by(script, ALL, attack));
}

/// A setting of this network namespace alone, which the control may change, too.
#[test]
fn sysctl() {
    changes_machine(&host!(), "write_sysctl", "");
}

#[test]
fn sysrq() {
    changes_machine(&host!(), "sysrq", "h");
}

#[test]
fn core_pattern() {
    const FILE: &str = "/proc/sys/kernel/core_pattern";
    let before = fs::read(FILE).expect("core_pattern");
    changes_machine(&host!(), "core_pattern", "|/bin/owned");
    if in_vm() {
        assert_eq!(fs::read_to_string(FILE).expect("core_pattern").trim(), "|/bin/owned");
        fs::write(FILE, before).expect("write core_pattern");
    }
}

#[test]
fn set_clock() {
    let host = host!();
    if !in_vm() {
        skip!(host, "the control would set this machine's clock");
    }
    if let Some(scene) = Scene::new(&host, Root) {
        scene.refused(ALL, &["set_clock"]);
    }
}

// --------------------------------------------------------------------------- the files of the host

/// A file of the host's that this user can read.
fn secret(scene: &Scene) -> String {
    let path = scene.path("secret");
    fs::write(&path, "secret").expect("write");
    path
}

fn files_of_the_host(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    let secret = secret(&scene);
    scene.refused(ALL, &["chroot_breakout", &secret]);
    scene.refused(ALL, &["root_of_init", &secret]);

    // The working directory of whoever starts a container stays outside.
    let attack = ["working_directory", &secret];
    let mut command = scene.husk(&["run", "--network", "none", &scene.root, "/attack"]);
    let inside = scene.start(command.args(attack).current_dir(scene.dir.path())).wait();
    assert!(!worked(&inside), "{inside}");
    let script = "cd /tmp && $R/attack --chroot \"$R\" /attack \"$@\"; true";
    scene.controlled(&scene.control_by(script, ALL, &attack));
}

#[test]
fn files_as_root() {
    files_of_the_host(&host!(), Root);
}

#[test]
fn files_as_user() {
    files_of_the_host(&host!(), User);
}

/// CVE-2024-21626: a working directory that is one of husk's own descriptors, or of its caller's.
fn working_directory_by_descriptor(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    let secret = secret(&scene);
    for process in ["self", "1"] {
        for fd in 0..24 {
            let dir = format!("/proc/{process}/fd/{fd}");
            let script = "exec 8<. 9</; exec $H run --network none -w $1 $R /attack \
                working_directory $2";
            let mut command = scene.sh(script, &[&dir, &secret]);
            let run = scene.start(command.current_dir(scene.dir.path())).wait();
            // Either husk says no, or there is nothing of the host's to be seen from there.
            assert!(run.code == 125 || !worked(&run), "{run}");
        }
    }
    // Unprotected, the descriptor leads out of the new root.
    let script = "exec 9</; cd /proc/self/fd/9; $R/attack --chroot \"$R\" /attack \"$@\"; true";
    scene.controlled(&scene.control_by(script, ALL, &["working_directory", &secret]));
}

#[test]
fn working_directory_by_descriptor_as_root() {
    working_directory_by_descriptor(&host!(), Root);
}

#[test]
fn working_directory_by_descriptor_as_user() {
    working_directory_by_descriptor(&host!(), User);
}

fn leaked_descriptors(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    let script = "exec 3</ 4<&0 9<.; $H run --network none $R /attack leaked_descriptors";
    let inside = scene.start(&mut scene.sh(script, &[])).wait();
    assert!(!worked(&inside), "{inside}");
    let script = "exec 9</; chroot \"$R\" /attack leaked_descriptors; true";
    scene.controlled(&scene.control_by(script, ALL, &[]));
}

#[test]
fn leaked_descriptors_as_root() {
    leaked_descriptors(&host!(), Root);
}

#[test]
fn leaked_descriptors_as_user() {
    leaked_descriptors(&host!(), User);
}

/// Third of CVE-2024-21626's ways: the command itself is a link to what is still open before exec.
fn command_by_descriptor(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    // A program of the host's, beside the root file system.
    let outside = scene.path("outside");
    run(Command::new("cp").args([&format!("{}/attack", scene.root), &outside])).ok();
    for fd in 3..16 {
        let link = |name, to: String| symlink(to, format!("{}/{name}-{fd}", scene.root));
        link("in", format!("/proc/self/fd/{fd}/outside")).expect("ln -s");
        link("up", format!("/proc/self/fd/{fd}/{}{outside}", "../".repeat(30))).expect("ln -s");
    }
    let run_it = |how: &str, command: &str| {
        let script = format!("exec 9<$D; {how} $1 nothing");
        let mut shell = scene.sh(&script, &[command]);
        scene.start(shell.env("D", scene.dir.path())).wait()
    };
    for fd in 3..16 {
        for name in [format!("/in-{fd}"), format!("/up-{fd}")] {
            let run = run_it("$H run --network none $R", &name);
            assert!([126, 127].contains(&run.code), "{name}: {run}");
        }
    }
    if who == Root {
        run_it("$H run -d --name trap --network none $R /attack sleep 600000 2>/dev/null; :", "")
            .ok();
        for fd in 3..16 {
            for name in [format!("/in-{fd}"), format!("/up-{fd}")] {
                let run = run_it("$H exec trap", &name);
                assert!([126, 127].contains(&run.code), "{name}: {run}");
            }
        }
        run_it("$H stop -t 0 trap; :", "").ok();
        // Unprotected, both ways lead to it.
        for name in ["/in-9", "/up-9"] {
            let script =
                "mkdir -p $R/proc; mount -t proc proc $R/proc; exec 9<$D; chroot $R $0 nothing";
            let mut command = host.command("unshare");
            command.args(["-m", "sh", "-c", script, name]);
            command.env("R", &scene.root).env("D", scene.dir.path());
            let control = run(&mut command);
            assert_eq!(control.code, 0, "{name}: {control}");
        }
    }
}

/// `husk exec` opens nothing by the container's own /dev, which is what a tenant has made of it.
#[test]
fn exec_by_another_dev() {
    let host = host!();
    let dir = TempDir::new();
    let root = dir.join("root");
    run(Command::new("cp").arg("-a").arg(rootfs()).arg(&root)).ok();
    let _ = fs::remove_dir_all(root.join("dev"));
    symlink("/made-for-dev", root.join("dev")).expect("ln -s");
    let script = r#"
        $HUSK run -d --name box $D/root sh -c 'rm /dev; mkdir /dev; : >/dev/null; sleep 1000' 2>/dev/null
        until $HUSK exec box test -f /dev/null; do sleep 0.1; done
        # The mode that it has: even a test that fails changes nothing.
        $HUSK exec box chmod 666 /proc/self/fd/0 </dev/null && echo CHANGED
        $HUSK exec box sh -c 'stat -L -c %t:%T /proc/self/fd/0' </dev/null
        $HUSK stop -t 0 box"#;
    let mut command = host.sh_command(script);
    let run = run(command.env("D", dir.path()));
    assert!(run.code == 0 && run.out.ends_with("1:3\n") && !run.out.contains("CHANGED"), "{run}");
    assert!(run.err.contains("Read-only file system"), "{run}");
}

#[test]
fn command_by_descriptor_as_root() {
    command_by_descriptor(&host!(), Root);
}

#[test]
fn command_by_descriptor_as_user() {
    command_by_descriptor(&host!(), User);
}

/// Where a root file system has links in the place of mount points, nothing of the host is reached.
fn symlinked_root(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    let target = scene.path("target");
    fs::create_dir(&target).expect("mkdir");
    for name in ["null", "console", "resolv.conf", "hosts", "pts"] {
        fs::write(format!("{target}/{name}"), "untouched").expect("write");
    }
    if who == User {
        run(Command::new("chown").args(["-R", &format!("{UID}:{UID}"), &target])).ok();
    }
    let up = "../".repeat(20);
    let links = ["proc", "sys", "dev", "etc", "tmp"];
    for name in links {
        let path = format!("{}/{name}", scene.root);
        for to in [target.clone(), format!("{up}{target}"), format!("/proc/1/root{target}")] {
            fs::remove_dir(&path).or_else(|_| fs::remove_file(&path)).expect("rm");
            symlink(&to, &path).expect("ln -s");
            let before = fingerprint(&target);
            scene.inside(&[], &["nothing"]);
            assert_eq!(fingerprint(&target), before, "/{name} -> {to}");
        }
        fs::remove_file(&path).expect("rm");
        fs::create_dir(&path).expect("mkdir");
    }
    for name in ["etc/resolv.conf", "etc/hosts", "etc/hostname", "dev/console", "dev/null"] {
        let path = format!("{}/{name}", scene.root);
        for to in [format!("{target}/hosts"), format!("{up}{target}/missing"), "/dev/..".into()] {
            symlink(&to, &path).expect("ln -s");
            let before = fingerprint(&target);
            scene.inside(&[], &["nothing"]);
            assert_eq!(fingerprint(&target), before, "/{name} -> {to}");
            fs::remove_file(&path).expect("rm");
        }
    }

    // Whoever mounts by path from outside is led astray.
    fs::remove_dir(format!("{}/dev", scene.root)).expect("rmdir");
    symlink(&target, format!("{}/dev", scene.root)).expect("ln -s");
    let script = "mount -t tmpfs tmpfs $R/dev && mountpoint -q $1 && echo WORKED || echo REFUSED";
    scene.controlled(&scene.control_by(script, ALL, &[&target]));
}

#[test]
fn symlinked_root_as_root() {
    symlinked_root(&host!(), Root);
}

#[test]
fn symlinked_root_as_user() {
    symlinked_root(&host!(), User);
}

/// A link that a container makes leads husk itself, which enters as the real root, nowhere.
#[test]
fn working_directory_of_exec() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    for fd in 0..16 {
        let link = format!("{}/app{fd}", scene.root);
        symlink(format!("/proc/self/fd/{fd}/../../made-by-exec"), link).expect("ln -s");
    }
    let run = ["run", "-d", "--name", "target", "--network", "none", &scene.root];
    scene.start(&mut scene.husk(&[&run[..], &["/attack", "sleep", "1000000"]].concat())).wait();
    for fd in 0..16 {
        let exec = ["exec", "-w", &format!("/app{fd}"), "target", "/attack", "nothing"];
        scene.start(scene.husk(&exec).current_dir(scene.dir.path()).stdin(Stdio::null())).wait();
    }
    let names = ["/target", "", "/husk", "/husk/target"].map(|dir| format!("{dir}/made-by-exec"));
    for name in names {
        let made = Path::new(&format!("{}{name}", host.cgroup.display())).exists();
        assert!(!made, "exec made the cgroup {name}");
    }
    assert_eq!(scene.start(&mut scene.husk(&["stop", "-t", "0", "target"])).wait().code, 0);
}

/// Where /proc and /dev are mounted over / itself, what is read in there is the root file system's.
#[test]
fn links_to_the_root() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    for name in ["proc", "dev"] {
        let path = format!("{}/{name}", scene.root);
        fs::remove_dir(&path).expect("rmdir");
        symlink("/", &path).expect("ln -s");
    }
    // A pipe that nobody writes to, in the place of /dev/null.
    run(Command::new("mkfifo").arg(format!("{}/null", scene.root))).ok();
    let args = ["run", "-d", "--network", "none", &scene.root, "/attack", "sleep", "1"];
    let mut detached = scene.start(&mut scene.husk(&args));
    let mut tries = 0..500;
    while detached.child.try_wait().expect("wait").is_none() {
        assert!(tries.next().is_some(), "`run -d` hangs");
        sleep(Duration::from_millis(10));
    }
    host.kill_inits();

    // What the file system says of user namespaces must not keep husk from dropping its groups.
    fs::create_dir(format!("{}/self", scene.root)).expect("mkdir");
    fs::write(format!("{}/self/uid_map", scene.root), "0 1000 1\n").expect("write");
    let script = "exec setpriv --groups 4,6,27 $H run --network none -u 1000 $R /attack sleep 100";
    let running = scene.start(&mut scene.sh(script, &[]));
    until("the container", || !host.inits().is_empty());
    let init = host.inits()[0];
    let status = || fs::read_to_string(format!("/proc/{init}/status")).expect("status");
    until("the command", || status().starts_with("Name:\tattack\n"));
    let groups = status();
    let groups = groups.lines().find_map(|line| line.strip_prefix("Groups:")).expect("Groups");
    assert_eq!(groups.trim(), "", "groups of husk's caller");
    host.kill_inits();
    running.wait();
    scene.start(&mut scene.husk(&["ps"])).wait();
}

// ------------------------------------------------------------------------------------ device nodes

/// A node that is made inside, or came with the root file system, can't be opened.
fn dead_node(host: &Host, kind: &str, major: &str, minor: &str) {
    let Some(scene) = Scene::new(host, Root) else { return };
    let attack = ["mknod_and_read", kind, major, minor];
    let volume = ["--cap-add", "MKNOD", "-v", "/dev/shm:/tmp"];
    for options in [&[][..], &volume[..2], &["--cap-add=MKNOD", "--writable"], &volume] {
        let inside = scene.inside(options, &attack);
        assert!(!worked(&inside), "{inside}");
    }
    let node = format!("{}/node", scene.root);
    run(Command::new("mknod").args(["-m", "666", &node, kind, major, minor])).ok();
    for options in [&[][..], &["--writable"], &["-v", &format!("{}:/tmp", scene.root)]] {
        for path in ["/node", "/tmp/node"] {
            let inside = scene.inside(options, &["read_node", path]);
            assert!(!worked(&inside), "{inside}");
        }
    }
    scene.controlled(&scene.control(ALL, &attack));
}

#[test]
fn device_node() {
    dead_node(&host!(), "c", "1", "5"); // /dev/zero's
}

#[test]
fn raw_disk() {
    let host = host!();
    let disks = fs::read_to_string("/proc/partitions").expect("/proc/partitions");
    match disks.lines().nth(2).map(|disk| disk.split_whitespace().collect::<Vec<_>>()) {
        Some(disk) => dead_node(&host, "b", disk[0], disk[1]),
        None => skip!(host, "no disk here"),
    }
}

/// The same for a node that belongs to the user.
#[test]
fn device_node_as_user() {
    let host = host!();
    let Some(scene) = Scene::new(&host, User) else { return };
    let node = format!("{}/node", scene.root);
    run(Command::new("mknod").args(["-m", "666", &node, "c", "1", "5"])).ok();
    chown(&node, Some(UID), Some(UID)).expect("chown");
    for options in [&[][..], &["--writable"]] {
        let inside = scene.inside(options, &["read_node", "/node"]);
        assert!(!worked(&inside), "{inside}");
    }
    scene.controlled(&scene.control(ALL, &["read_node", "/node"]));
}

/// chmod, chown and touch of a node in /dev, which is the host's own: here, a stand-in for it.
const TOUCH_ALL: &str = "for n in null zero full random urandom tty console ptmx; do
    chmod 600 /dev/$n; chown 5:5 /dev/$n; touch -d '2001-02-03 04:05:06' /dev/$n
    done 2>/dev/null; true";

/// The same through what a container gets from its caller.
const TOUCH_STDIO: &str = "for n in 0 1 2; do
    chmod 600 /proc/self/fd/$n; chown 5:5 /dev/fd/$n; touch -d '2001-02-03 04:05:06' /dev/fd/$n
    done 2>/dev/null; chmod 600 /dev/stdin /dev/stdout /dev/stderr; true";

/// Runs $1 on a host whose /dev is a stand-in, and says how the nodes looked before and after.
const STAND_IN: &str = r#"
    set -e
    mkdir "$D/dev"
    mount -t tmpfs -o dev tmpfs "$D/dev"
    cd "$D/dev"
    touch stand-in
    for node in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0'; do
        set -- $node
        mknod -m 666 $1 c $2 $3
        touch -d '2020-02-02 20:20:20' $1
    done
    mkdir pts shm mqueue
    mount --rbind /dev/pts pts
    ln -s pts/ptmx ptmx
    mount --rbind "$D/dev" /dev
    cd /
    [ -e /dev/stand-in ]
    stat -c '%n %a %u %g %Y' /dev/*
    echo
    eval "$RUN" || :
    stat -c '%n %a %u %g %Y' /dev/*
"#;

fn nodes_of_the_host(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    let root = if who == Root { fresh_rootfs() } else { rootfs_of(UID) };
    let as_who = if who == User { "setpriv --reuid 1000 --regid 1000 --clear-groups" } else { "" };
    let in_husk = format!("{as_who} $H run --network none $R sh -c \"$SCRIPT\"");
    let in_chroot = "mount --rbind /dev $R/dev; mount -t proc proc $R/proc; \
        chroot $R sh -c \"$SCRIPT\"";
    let changed = |run: &str, script: &str, stdio: &str| {
        let mut command = host.command("unshare");
        command.args(["-m", "sh", "-c", STAND_IN]).env("RUN", format!("{run} {stdio}"));
        command.env("SCRIPT", script).env("D", scene.dir.path());
        command.env("H", scene.path("husk")).env("R", root.path());
        let run = common::run(&mut command);
        fs::remove_dir(scene.dir.join("dev")).expect("rmdir");
        let (before, after) = run.out.split_once("\n\n").unwrap_or_else(|| panic!("{run}"));
        assert!(run.code == 0 && before.contains("/dev/null 666 0 0"), "{run}");
        if before.trim() == after.trim() { None } else { Some(format!("{run}")) }
    };
    let ways = [(TOUCH_ALL, ""), (TOUCH_STDIO, "</dev/null >/dev/null 2>/dev/null")];
    let others =
        ["<&- >&- 2>&-", "</dev/zero >/dev/full 2>/dev/urandom"].map(|to| (TOUCH_STDIO, to));
    for (script, stdio) in ways.into_iter().chain(others) {
        assert_eq!(changed(&in_husk, script, stdio), None, "{stdio}");
        if who == Root {
            let run =
                "$H run -d --name x --network none $R sleep 1000 >&2; $H exec x sh -c \"$SCRIPT\"";
            let stop = "; $H stop -t 0 x";
            assert_eq!(changed(run, script, &format!("{stdio}{stop}")), None, "exec {stdio}");
        }
    }
    for (script, stdio) in ways {
        // For a user there is no control: the nodes are root's. Stays that it works for root.
        let works = who == User || changed(in_chroot, script, stdio).is_some();
        assert!(works, "unprotected, nothing changed {stdio}");
    }
}

#[test]
fn nodes_of_the_host_as_root() {
    nodes_of_the_host(&host!(), Root);
}

#[test]
fn nodes_of_the_host_as_user() {
    nodes_of_the_host(&host!(), User);
}

// ----------------------------------------------------------------------------- processes, networks

fn processes_outside(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    let mut attacks = vec!["kill_outside", "pidfd_outside"];
    if who == Root {
        attacks.push("ptrace_outside"); // not even the control may, from another user namespace
    }
    for attack in attacks {
        let mut victim = scene.start(scene.command("sleep").arg("1000"));
        let pid = victim.pid().to_string();
        let inside = scene.inside(&[], &[attack, &pid]);
        assert!(!worked(&inside), "{inside}");
        assert!(matches!(victim.child.try_wait(), Ok(None)), "{attack}");
        scene.controlled(&scene.control("-u -i -n -C", &[attack, &pid]));
        if attack != "ptrace_outside" {
            assert_eq!(victim.wait().code, -(Signal::SIGUSR1 as i32));
        }
    }
}

#[test]
fn processes_outside_as_root() {
    processes_outside(&host!(), Root);
}

#[test]
fn processes_outside_as_user() {
    processes_outside(&host!(), User);
}

/// Listens on an abstract unix socket and on TCP's loopback, in the host's network.
fn listen(host: &Host, name: &str) -> (UnixListener, TcpListener) {
    let network = File::open(format!("/proc/{}/ns/net", host.pid())).expect("open");
    let address = SocketAddr::from_abstract_name(name).expect("a short name");
    let both = move || {
        setns(network.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns");
        let unix = UnixListener::bind_addr(&address).expect("bind");
        (unix, TcpListener::bind("127.0.0.1:0").expect("bind"))
    };
    thread::spawn(both).join().expect("the thread's listeners")
}

fn sockets_of_the_host(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    let (_unix, tcp) = listen(host, "attack");
    let port = tcp.local_addr().expect("an address").port().to_string();
    for attack in [["abstract_socket", "attack"], ["tcp_on_loopback", &port]] {
        scene.refused("-p -u -i -C", &attack);
        if who == Root {
            let inside = scene.inside(&["--network", "bridge"], &attack);
            assert!(!worked(&inside), "{inside}");
        }
    }
}

#[test]
fn sockets_of_the_host_as_root() {
    sockets_of_the_host(&host!(), Root);
}

#[test]
fn sockets_of_the_host_as_user() {
    sockets_of_the_host(&host!(), User);
}

/// CVE-2020-13401: a container must not become the host's router.
#[test]
fn router_advertisement() {
    let host = host!();
    if !Path::new("/proc/sys/net/ipv6").exists() {
        skip!(host, "no IPv6 here");
    }
    let Some(scene) = Scene::new(&host, Root) else { return };
    let routes = || host.sh("ip -6 route; ip -6 addr").ok();
    let run = ["run", "--network", "bridge", &scene.root, "/attack"];
    // Another container keeps husk0 up for as long as the host takes to believe.
    let other = scene.start(&mut scene.husk(&[&run[..], &["sleep", "1000000"]].concat()));
    scene.start(&mut scene.husk(&[&run[..], &["router_advertisement", "eth0"]].concat())).wait();
    sleep(Duration::from_millis(500));
    let after = routes();
    assert!(!after.contains("fd66:") && !after.contains("ra metric"), "{after}");
    host.kill_inits();
    other.wait();

    // Unprotected: another bridge, and another network behind it.
    host.sh("ip link add test0 type bridge && ip link set test0 up").ok();
    let mut unshare = host.command("unshare");
    let script = "read go; ip link set eth0 up; exec $A router_advertisement eth0 >&2";
    unshare.args(["-n", "sh", "-c", script]).env("A", format!("{}/attack", scene.root));
    unshare.stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = unshare.spawn().expect("unshare");
    until("the other network", || {
        let own = fs::read_link("/proc/self/ns/net").ok();
        let bridge = host.sh("readlink /proc/self/ns/net").out;
        let its = fs::read_link(format!("/proc/{}/ns/net", child.id())).ok();
        its != own && its.is_some_and(|its| its.to_string_lossy() != bridge.trim())
    });
    let pid = child.id();
    host.sh(&format!(
        "ip link add test1 up master test0 type veth peer name eth0 netns {pid} &&
         ip link set test1 up"
    ))
    .ok();
    child.stdin.take().expect("a pipe").write_all(b"\n").expect("write");
    child.wait().expect("wait");
    let mut tries = 0..100;
    while !routes().contains("fd66:") && tries.next().is_some() {
        sleep(Duration::from_millis(20));
    }
    let heard = routes().contains("fd66:");
    host.sh("ip link del test0").ok();
    if !heard {
        skip!(host, "unprotected, too, the host does not listen to router advertisements");
    }
}

// --------------------------------------------------------------------------------------- the bridge

/// Bytes, as `attack frame` takes them.
fn hex(parts: &[&[u8]]) -> String {
    parts.concat().iter().map(|byte| format!("{byte:02x}")).collect()
}

const GATEWAY: [u8; 4] = [10, 77, 0, 1];

/// The MAC address that husk gives to an address.
fn mac(ip: [u8; 4]) -> [u8; 6] {
    let [a, b, c, d] = ip;
    [0x02, 0x42, a, b, c, d]
}

/// The Internet checksum, RFC 1071.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let words =
        bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!sum as u16).to_be_bytes()
}

/// A frame with a datagram for port 4242, of IPv4.
fn datagram(to_mac: [u8; 6], from_mac: [u8; 6], from: [u8; 4], to: [u8; 4]) -> String {
    let mut header = [0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&from);
    header[16..].copy_from_slice(&to);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    let udp = [0x10, 0x92, 0x10, 0x92, 0, 9, 0, 0, b'!'];
    hex(&[&to_mac, &from_mac, &[8, 0], &header, &udp])
}

/// The same of IPv6, from and to these last bytes of fd77::/64.
fn datagram_6(to_mac: [u8; 6], from_mac: [u8; 6], from: u8, to: u8) -> String {
    let address = |last: u8| [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let (from, to) = (address(from), address(to));
    let mut udp = [0x10, 0x92, 0x10, 0x92, 0, 9, 0, 0, b'!'];
    let sum = checksum(&[&from, &to, &[0, 0, 0, 9, 0, 0, 0, 17], &udp, &[0]]);
    udp[6..8].copy_from_slice(&sum);
    hex(&[&to_mac, &from_mac, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 9, 17, 64], &from, &to, &udp])
}

/// A container on the bridge that does nothing, its address, and its port on the bridge.
fn on_the_bridge(scene: &Scene, name: &str) -> (Running, [u8; 4], String) {
    let before = scene.host.links();
    let run = ["run", "--name", name, "--network", "bridge", &scene.root];
    let run = [&run[..], &["/attack", "sleep", "1000000"]].concat();
    let running = scene.start(&mut scene.husk(&run));
    until("a port on the bridge", || {
        let links = scene.host.links();
        links.iter().any(|link| link != "husk0" && !before.contains(link))
    });
    let links = scene.host.links();
    let port = links.iter().find(|link| *link != "husk0" && !before.contains(link));
    let port = port.expect("a port").clone();
    let number: u16 = port.trim_start_matches("husk").parse().expect("a number");
    let [c, d] = number.to_be_bytes();
    (running, [10, 77, c, d], port)
}

/// The attack by whoever has NET_RAW in that container.
fn frame(scene: &Scene, name: &str, frame: &[&str]) {
    let args = [&["exec", name, "/attack", "frame", "eth0"], frame].concat();
    let run = scene.start(&mut scene.husk(&args)).wait();
    assert!(worked(&run), "{run}");
}

/// A server on the host that says what comes to port 4242.
fn listener(host: &Host) -> Running {
    let script = "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); s.bind(('::', 4242)); print('ready', flush=True)
while True: print('from', s.recvfrom(9)[1][0], flush=True)";
    let mut server = start(host.command("python3").args(["-c", script]));
    server.says("ready");
    server
}

/// How many datagrams have come, some moments after the last was sent.
fn heard(server: &Running) -> usize {
    sleep(Duration::from_millis(200));
    server.out().matches("from").count()
}

/// The bridge's table takes one entry for a container, whatever addresses that sends from.
#[test]
fn mac_flood() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let (a, ip, port) = on_the_bridge(&scene, "a");
    let flood = datagram(mac(GATEWAY), mac(ip), ip, GATEWAY);
    let entries = || host.sh("bridge fdb show br husk0 | wc -l").ok();
    let entries = || entries().parse::<usize>().expect("a number");
    frame(&scene, "a", &[&flood, "5000"]);
    assert!(entries() < 50, "{} entries", entries());
    // Unprotected: a port that learns.
    host.sh(&format!(
        "bridge link set dev {port} learning on; ip link set {port} type bridge_slave locked off"
    ))
    .ok();
    frame(&scene, "a", &[&flood, "5000"]);
    assert!(entries() > 4000, "{} entries", entries());
    host.kill_inits();
    a.wait();
}

/// What is sent with another container's MAC, and so as it, reaches nobody.
#[test]
fn posing_as_another_container() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let (a, ip, port) = on_the_bridge(&scene, "a");
    let (b, other, _) = on_the_bridge(&scene, "b");
    let server = listener(&host);
    frame(&scene, "a", &[&datagram(mac(GATEWAY), mac(ip), ip, GATEWAY)]);
    assert_eq!(heard(&server), 1, "as itself: {}", server.out());
    let posing = datagram(mac(GATEWAY), mac(other), other, GATEWAY);
    frame(&scene, "a", &[&posing]);
    let unlocked = format!("ip link set {port} type bridge_slave locked off");
    if host.sh(&format!("ip -d link show {port}")).out.contains(" locked ") {
        assert_eq!(heard(&server), 1, "as another one: {}", server.out());
        // Unprotected: without the lock.
        host.sh(&unlocked).ok();
        frame(&scene, "a", &[&posing]);
        assert_eq!(heard(&server), 2, "unlocked: {}", server.out());
    } else {
        host.skip_part("this kernel, or this ip, knows no locked ports");
    }
    drop(server);
    host.kill_inits();
    a.wait();
    b.wait();
}

/// An ARP answer that names another MAC for the gateway is not believed.
#[test]
fn posing_as_the_gateway() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let (a, ip, _) = on_the_bridge(&scene, "a");
    let (b, other, _) = on_the_bridge(&scene, "b");
    let arp = [0, 1, 8, 0, 6, 4, 0, 2];
    let (liar, victim) = (mac(ip), mac(other));
    let lie = hex(&[&victim, &liar, &[8, 6], &arp, &liar, &GATEWAY, &victim, &other]);
    let pid = host.inits().into_iter().find(|pid| {
        let own = host.sh(&format!("nsenter -t {pid} -n ip -4 addr")).ok();
        own.contains(&format!(" {}.{}.{}.{}/", other[0], other[1], other[2], other[3]))
    });
    let pid = pid.expect("the other one");
    let known = || host.sh(&format!("nsenter -t {pid} -n ip neigh show 10.77.0.1")).ok();
    let [_, _, c, d] = other;
    host.sh(&format!("ping -c1 -w5 10.77.{c}.{d}")).ok(); // so they know each other
    sleep(Duration::from_millis(1100)); // younger entries are not changed
    frame(&scene, "a", &[&lie]);
    sleep(Duration::from_millis(100));
    assert!(known().contains("02:42:0a:4d:00:01"), "{}", known());
    // Unprotected: an entry as ARP makes it.
    host.sh(&format!(
        "nsenter -t {pid} -n ip neigh replace 10.77.0.1 lladdr 02:42:0a:4d:00:01 nud stale dev eth0"
    ))
    .ok();
    sleep(Duration::from_millis(1100));
    frame(&scene, "a", &[&lie]);
    sleep(Duration::from_millis(100));
    assert!(!known().contains("02:42:0a:4d:00:01"), "{}", known());
    host.kill_inits();
    a.wait();
    b.wait();
}

/// What is sent to a MAC address of IEEE 802.1's own would be taken in by the port itself, past the
/// bridge and all rules for husk0; and IPv6 past all rules of IPv4.
#[test]
fn past_the_bridge() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    host.sh(
        "ip link add test0 type bridge; ip link set test0 up; ip addr add 192.0.2.1/24 dev test0",
    )
    .ok();
    if has_ipv6 {
        host.sh("ip addr add fd77::1/64 dev test0 nodad").ok();
    }
    let (a, ip, port) = on_the_bridge(&scene, "a");
    let server = listener(&host);
    frame(&scene, "a", &[&datagram(mac(GATEWAY), mac(ip), ip, [192, 0, 2, 1])]);
    assert_eq!(heard(&server), 1, "a good frame: {}", server.out());
    host.sh("iptables -w -A INPUT -i husk0 -j DROP").ok();
    let lldp = [1, 0x80, 0xc2, 0, 0, 0x0e];
    let four = datagram(lldp, mac(ip), ip, [192, 0, 2, 1]);
    for last in 0..16 {
        let mut to = lldp;
        to[5] = last;
        frame(&scene, "a", &[&datagram(to, mac(ip), ip, [192, 0, 2, 1])]);
        frame(&scene, "a", &[&datagram_6(to, mac(ip), 2, 1)]);
    }
    let six = datagram_6(mac(GATEWAY), mac(ip), 2, 1);
    frame(&scene, "a", &[&six]);
    assert_eq!(heard(&server), 1, "past the bridge: {}", server.out());
    // Unprotected: as the kernel makes a port, and husk0.
    host.sh(&format!("ip link set {port} type bridge_slave group_fwd_mask 0")).ok();
    frame(&scene, "a", &[&four]);
    if heard(&server) != 2 {
        host.skip_part(&format!("unprotected, too, IPv4 does not arrive: {}", server.out()));
    }
    let before = heard(&server);
    if has_ipv6 {
        host.sh("echo 0 > /proc/sys/net/ipv6/conf/husk0/disable_ipv6").ok();
        frame(&scene, "a", &[&six]);
        assert_eq!(heard(&server), before + 1, "with IPv6: {}", server.out());
    }
    drop(server);
    host.kill_inits();
    a.wait();
}

/// The kernel's table of neighbours is one for all network namespaces. Whoever fills it keeps
/// neither the gateway from its containers nor these from it.
#[test]
fn neighbours_fill_the_table() {
    let host = host!();
    if !in_vm() {
        skip!(host, "it would disturb the whole machine");
    }
    let Some(scene) = Scene::new(&host, Root) else { return };
    let run = ["run", "--network", "bridge", &scene.root, "/attack", "neighbours", "3000"];
    let mut attacker = scene.start(&mut scene.husk(&run));
    attacker.says("begins");
    sleep(Duration::from_secs(5));
    let table =
        "cat /proc/sys/net/ipv4/neigh/default/gc_thresh3; awk 'NR == 2' /proc/net/stat/arp_cache";
    println!("{}", host.sh(table).out);
    let ping = host.inside(&[], "ping -c20 -i0.1 -W2 10.77.0.1");
    assert!(ping.out.contains(" 0% packet loss"), "a container to its gateway: {ping}");
    let (b, ip, _) = on_the_bridge(&scene, "b");
    let ip = ip.map(|byte| byte.to_string()).join(".");
    let ping = host.sh(&format!("ping -c20 -i0.1 -W2 {ip}"));
    assert!(ping.out.contains(" 0% packet loss"), "the host to a container: {ping}");
    // Unprotected: as ARP would make the host's entry.
    host.sh(&format!("ip neigh del {ip} dev husk0")).ok();
    let ping = host.sh(&format!("ping -c20 -i0.1 -W2 {ip}"));
    if ping.out.contains(" 0% packet loss") {
        host.skip_part("unprotected, too, nothing is lost");
    }
    host.kill_inits();
    attacker.wait();
    b.wait();
}

// ----------------------------------------------------------------------------------- no new rights

/// A set-user-ID program of the root file system gives no rights.
#[test]
fn setuid_file() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let file = format!("{}/setuid", scene.root);
    run(Command::new("cp").args([&format!("{}/attack", scene.root), &file])).ok();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).expect("chmod");
    let run = ["run", "--network", "none", "-u", "1000", &scene.root, "/setuid", "setuid_file"];
    let inside = scene.start(&mut scene.husk(&run)).wait();
    assert!(!worked(&inside), "{inside}");
    let script = "chroot --userspec=1000:1000 \"$R\" /setuid setuid_file; true";
    scene.controlled(&scene.control_by(script, ALL, &[]));
}

/// Types into the caller's terminal, for its shell to read when the container has ended.
fn typing(host: &Host, who: Who) {
    let Some(scene) = Scene::new(host, who) else { return };
    for attack in ["tiocsti", "tiocsti_high_bits"] {
        let typed = |mut command: Command| {
            if who == User {
                as_user(&mut command, UID);
            }
            let (out, _) = host.pty(command).end();
            assert!(out.contains("WORKED") || out.contains("REFUSED"), "{out}");
            out.contains("WORKED")
        };
        let run = ["run", "--network", "none", &scene.root, "/attack", attack];
        assert!(!typed(scene.husk(&run)), "{attack}");
        let mut unshare = scene.command("unshare");
        unshare.args([if who == User { "-rm" } else { "-m" }, "chroot", &scene.root, "/attack"]);
        unshare.arg(attack);
        if !typed(unshare) {
            skip!(host, "unprotected, too, it is refused (see sysctl dev.tty.legacy_tiocsti)");
        }
    }
}

#[test]
fn typing_as_root() {
    typing(&host!(), Root);
}

#[test]
fn typing_as_user() {
    typing(&host!(), User);
}

// ------------------------------------------------------------------------------------- husk itself

/// Keeps a container alive in which this attack lies in wait, and returns once it does.
fn ambush(scene: &Scene, attack: &[&str], word: &str) -> Running {
    let run = ["run", "--name", "trap", "--network", "none", &scene.root, "/attack"];
    let mut running = scene.start(&mut scene.husk(&[&run, attack].concat()));
    if !word.is_empty() {
        running.says(word);
    }
    running
}

/// CVE-2019-5736: whoever enters brings a program file of the host's along.
#[test]
fn overwriting_husk() {
    let host = host!();
    if is_sanitized() {
        skip!(host, "this husk needs libraries, so it can't be a command in there");
    }
    let Some(scene) = Scene::new(&host, Root) else { return };
    // On a tmpfs, too: there, every file answers questions about seals.
    let tmpfs = scene.path("tmpfs");
    fs::create_dir(&tmpfs).expect("mkdir");
    for (place, command) in [("$D", "/proc/self/exe"), ("$D", "/script"), ("$D/tmpfs", "/script")] {
        let script = format!(
            r#"mount -t tmpfs tmpfs $D/tmpfs; cp $D/husk $D/tmpfs/; H={place}/husk
            before=$(md5sum <$H)
            # Not $H: it goes on as long as the container, and what runs can't be written to.
            cp $D/husk $D/runner
            $D/runner run -d --log $D/trap --name trap --network none $R /attack overwrite_visitor \
                $(stat -c '%d %i' $H)
            until grep -q -e caught -e REFUSED $D/trap; do
                $H exec trap {command} --help
            done >/dev/null 2>&1
            while ! grep -q -e WORKED -e REFUSED $D/trap; do sleep 0.1; done
            [ "$(md5sum <$H)" = "$before" ] || echo CHANGED >>$D/trap
            $H stop -t 0 trap; cat $D/trap"#
        );
        let mut command = host.command("unshare");
        command.args(["-m", "sh", "-c", &script]).env("R", &scene.root).env("D", scene.dir.path());
        let run = run(&mut command);
        assert!(run.out.contains("caught"), "nothing to attack: {run}");
        assert!(run.out.contains("REFUSED EROFS") && !run.out.contains("CHANGED"), "{run}");
        host.assert_clean();
    }
    // Unprotected: another copy of the attack program plays the runtime.
    let runtime = scene.path("runtime");
    run(Command::new("cp").args([&format!("{}/attack", scene.root), &runtime])).ok();
    let script = format!(
        "chroot $R /attack overwrite_visitor $(stat -c '%d %i' {runtime}) & sleep 0.1
         {runtime} --chroot $R /proc/self/exe sleep 500 >/dev/null; wait; true"
    );
    let control = scene.control_by(&script, ALL, &[]);
    if scene.controlled(&control) {
        assert!(fs::read(&runtime).expect("read").starts_with(b"owned"), "{control}");
    }
}

/// The same for `run`, whose command can make husk itself PID 1: it does not stay. (It may have ended
/// by itself before anybody looks, so there are several tries.) By a volume, husk is a program like any other.
#[test]
fn overwriting_husk_by_run() {
    let host = host!();
    if is_sanitized() {
        skip!(host, "this husk needs libraries, so it can't be a command in there");
    }
    for who in [Root, User] {
        let Some(scene) = Scene::new(&host, who) else { return };
        let run = |option: &str, command: &str| {
            let script = r#"$H run "$1" --network none $R "$2" --help >/dev/null 2>&1
                echo "status $?""#;
            scene.start(&mut scene.sh(script, &[option, command])).wait().ok()
        };
        for (option, command) in
            [("--rm", "/proc/self/exe"), ("--rm", "/script"), ("-d", "/proc/self/exe")]
        {
            if option == "--rm" || who == Root {
                let is_caught = (0..50).any(|_| run(option, command) == "status 126");
                assert!(is_caught, "{option} {command}");
                host.assert_clean();
            }
        }
        // An ELF file whose interpreter it is has husk mapped: map_files is for these capabilities.
        let is_shielded = |capability: &str| {
            let args = ["run", "--explain", "--network=none", "--cap-add", capability, &scene.root];
            let run = scene.start(&mut scene.husk(&[&args, &["/attack", "nothing"][..]].concat()));
            run.wait().err.contains("exec husk")
        };
        for (capability, expected) in
            [("CHECKPOINT_RESTORE", true), ("SYS_ADMIN", true), ("ALL", true), ("KILL", false)]
        {
            assert_eq!(is_shielded(capability), expected, "{capability}");
        }
        let volume = format!("--volume={}:/husk", scene.path("husk"));
        assert_eq!(run(&volume, "/husk"), "status 0");
    }
}

/// CVE-2016-9962: husk, while it enters, can't be traced or looked into.
#[test]
fn tracing_husk() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let visit = ["exec", "trap", "/attack", "nothing"];
    let trap = ambush(&scene, &["trace_visitor", "!attack"], "ready");
    for _ in 0..60 {
        let run = scene.start(&mut scene.husk(&visit)).wait();
        assert!(run.code == 0, "{run}");
    }
    kill(Pid::from_raw(host.inits()[0]), Signal::SIGUSR1).expect("kill");
    let traced = trap.wait();
    assert!(!worked(&traced), "{traced}");
    assert!(!traced.out.contains("visits 0,"), "nobody was there to be attacked: {traced}");

    // Unprotected: somebody comes in, and takes their time before they become the command.
    let visitor = scene.path("visitor");
    run(Command::new("cp").args([&format!("{}/attack", scene.root), &visitor])).ok();
    let script = format!(
        "chroot $R /attack trace_visitor visitor & sleep 0.2
         {visitor} sleep 300 >/dev/null; kill -USR1 $!; wait; true"
    );
    scene.controlled(&scene.control_by(&script, ALL, &[]));
}

/// Nobody else, inside or on the host, can make a container pass for one that husk looks after.
#[test]
fn taking_the_lock() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    for by_other_user in [false, true] {
        let attack = if by_other_user { "outlive" } else { "take_lock" };
        let trap = ambush(&scene, &[attack], "ready");
        let mut lock = host.command("flock");
        lock.args([&*host.containers()[0].to_string_lossy(), "sleep", "1000"]);
        let other = by_other_user.then(|| start(as_user(&mut lock, UID)));
        sleep(Duration::from_millis(100));
        let procs = host.containers()[0].with_file_name("cgroup.procs");
        let mut reader = host.command("cat");
        let run = start(as_user(reader.arg(procs), UID)).wait();
        assert_ne!(run.code, 0, "who can read it can lock it");
        trap.signal(Signal::SIGKILL);
        trap.wait();
        sleep(Duration::from_millis(100)); // time enough to take a lock that is free
        scene.start(&mut scene.husk(&["ps"])).wait().ok();
        assert!(host.inits().is_empty(), "it has outlived husk ({by_other_user})");
        drop(other);
        for pid in host.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        scene.start(&mut scene.husk(&["ps"])).wait().ok();
    }
}

/// cgroup.kill does nothing to a process whose main thread has ended and whose other threads go on.
#[test]
fn end_of_main_thread() {
    let host = host!();
    let Some(scene) = Scene::new(&host, Root) else { return };
    let trap = ambush(&scene, &["end_of_main_thread"], "ready");
    sleep(Duration::from_millis(100)); // the main thread's end comes after the word
    let list = scene.start(&mut scene.husk(&["ps"])).wait();
    assert!(list.ok().contains("trap "), "hidden from husk ps");
    scene.start(&mut scene.husk(&["stop", "-t0", "trap"])).wait().ok();
    assert!(host.inits().is_empty(), "it has outlived husk stop");
    assert_eq!(trap.wait().code, 137);

    let trap = ambush(&scene, &["end_of_main_thread"], "ready");
    trap.signal(Signal::SIGKILL);
    trap.wait();
    scene.start(&mut scene.husk(&["ps"])).wait().ok();
    assert!(host.inits().is_empty(), "it has outlived husk");
    host.assert_clean();

    // Nor does it outlive the husk of an exec, in a container that goes on.
    let trap = ambush(&scene, &["sleep", "600000"], "");
    let ps = || scene.start(&mut scene.husk(&["ps"])).wait().out;
    until("the container to be its command", || ps().contains("/attack sleep"));
    let before = host.processes();
    let mut visitor =
        scene.start(&mut scene.husk(&["exec", "trap", "/attack", "end_of_main_thread"]));
    visitor.says("ready");
    sleep(Duration::from_millis(100));
    visitor.signal(Signal::SIGKILL);
    visitor.wait();
    scene.start(&mut scene.husk(&["ps"])).wait().ok();
    until("what exec had started to end", || host.processes() == before);
    scene.start(&mut scene.husk(&["stop", "-t0", "trap"])).wait().ok();
    trap.wait();
}

/// `ps` and `exec` read what a container says of itself, but not without end.
#[test]
fn endless_arguments() {
    let host = host!();
    if is_sanitized() {
        skip!(host, "AddressSanitizer needs more address space than this test allows");
    }
    let Some(scene) = Scene::new(&host, Root) else { return };
    let trap = ambush(&scene, &["endless_arguments", "4"], "ready");
    for husk in ["ps", "exec trap /attack nothing"] {
        // A quarter of a gigabyte is far more than husk ever needs.
        let script = format!("ulimit -v 262144; exec $H {husk}");
        let run = scene.start(&mut scene.sh(&script, &[])).wait();
        assert!(run.code == 0 && (run.out.contains("trap ") || worked(&run)), "{run}");
    }
    let pid = host.inits()[0];
    let control = host.sh(&format!("head -c 300M /proc/{pid}/cmdline | wc -c")).ok();
    assert_eq!(control.trim(), (300 << 20).to_string());
    host.kill_inits();
    trap.wait();
}

// ------------------------------------------------------------------------------------------- bombs

/// What would bring a machine down stops at the limit, and the host goes on.
fn bomb(
    host: &Host,
    controller: &str,
    options: &[&str],
    attack: &[&str],
    refused: fn(&Run) -> bool,
) {
    if !in_vm() {
        skip!(host, "the control could bring this machine down");
    }
    if !host.has_controller(controller) {
        skip!(host, "no {controller} controller here");
    }
    let Some(scene) = Scene::new(host, Root) else { return };
    let inside = scene.inside(options, attack);
    assert!(refused(&inside), "{inside}");
    host.assert_clean();
    scene.controlled(&scene.control(ALL, attack));
}

#[test]
fn fork_bomb() {
    let refused = |run: &Run| !worked(run);
    bomb(&host!(), "pids", &["--pids-limit", "64"], &["fork_bomb", "1000"], refused);
}

#[test]
fn memory_bomb() {
    let refused = |run: &Run| run.code == 137;
    bomb(&host!(), "memory", &["-m", "32m"], &["memory_bomb", "256"], refused);
}
