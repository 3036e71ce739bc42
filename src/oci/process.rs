//! The child's last steps, to the exec.

use super::plan::Plan;
use super::rights::Kept;
use super::words::{tell, wait_for_word};
use super::{calls, hooks, list_of, log, notify, rights, scheduling, seccomp, stdio};
use crate::paths::c_string;
use crate::paths::{Make, Tree};
use crate::step::{Result, attempt, echo, error, step};
use crate::sys;
use crate::terminal::Inside;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::unistd::{self, AccessFlags};
use oci_spec::runtime::Process;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What a process can only ask for itself, in its own /proc, as long as that is the host's.
pub fn write_labels(process: &Process) -> Result<()> {
    let is_named = |name: &&String| !name.is_empty() && *name != "unconfined";
    if let Some(profile) = process.apparmor_profile().as_ref().filter(is_named) {
        echo(&format!("exec {profile}"), "/proc/self/attr/apparmor/exec")?;
    }
    if let Some(label) = process.selinux_label().as_ref().filter(|name| !name.is_empty()) {
        echo(label, "/proc/self/attr/exec")?;
    }
    Ok(())
}

/// The parent is told when hardly anything but the exec can fail any more.
pub fn enter(plan: &Plan, parent: &UnixStream, mut inside: Option<Inside>) -> Result<Infallible> {
    let process = &plan.process;
    let filter = match plan.linux.seccomp() {
        Some(profile) => Some(seccomp::filter(profile)?),
        None => None,
    };
    // Whoever does not give up all new privileges needs a capability to install a filter.
    let is_bound = process.no_new_privileges() == Some(true);
    let is_late = filter.is_some() && !is_bound;
    let kept = become_process(plan, parent, inside.as_ref())?;
    if !is_late {
        rights::limit_capabilities(process, kept)?;
    }
    let args = c_strings(list_of(process.args()))?;
    let env = environment(process)?;
    let program = find_program(&list_of(process.args())[0], &env)?;
    wait_for_start(plan, parent)?;
    match &inside {
        Some(inside) => inside.lead_session()?,
        None => lead_session(),
    }
    if plan.is_new {
        let env = list_of(process.env()); // the hooks are the container's own programs
        hooks::run(&plan.home, "startContainer", "created", env)?;
    }
    tell(parent, "the command is next")?;
    match &mut inside {
        Some(inside) => inside.connect()?,
        None => allow_signals(),
    }
    if is_bound {
        step!(prctl::set_no_new_privs(), "setpriv --no-new-privs")?;
    }
    if is_late {
        rights::use_all_capabilities()?;
    }
    if let (Some(filter), Some(profile)) = (&filter, plan.linux.seccomp()) {
        notify::install(plan, profile, filter)?; // after all that needs other calls
    }
    if is_late {
        rights::limit_capabilities(process, kept)?;
    }
    let what = format!("exec {}", program.display());
    attempt(what, unistd::execve(&c_string(&program), &args, &env))
}

/// All but the capabilities of the moment.
fn become_process(plan: &Plan, parent: &UnixStream, inside: Option<&Inside>) -> Result<Kept> {
    let process = &plan.process;
    let cwd = process.cwd();
    let workdir = Tree::Own.open_or_make(cwd, Make::Nothing);
    let workdir = attempt(format!("process.cwd {}", cwd.display()), workdir)?;
    if let (false, Some(affinity)) = (plan.is_new, process.exec_cpu_affinity()) {
        let list = affinity.cpu_affinity_final().as_deref();
        scheduling::set_affinity("process.execCPUAffinity.final", list)?;
    }
    scheduling::apply(plan)?;
    rights::set_rlimits(process)?;
    match inside {
        Some(_) => stdio::give_input_to(process.user().uid())?, // which may be the caller's
        None => stdio::give_to(process.user().uid())?,
    }
    // One of the two must be allowed into it: root here, or the process's own user.
    let entered = step!(unistd::fchdir(&workdir), "cd {}", cwd.display());
    let open = inside.map(Inside::open_files).unwrap_or_default();
    close_all_but(plan, &[&[parent.as_fd(), workdir.as_fd()], &open[..]].concat());
    let kept = rights::become_user(process)?;
    if entered.is_err() {
        step!(unistd::fchdir(&workdir), "cd {}", cwd.display())?;
    }
    Ok(kept)
}

/// With --console-socket it is one already.
fn lead_session() {
    let _ = step!(unistd::setsid(), "setsid");
}

/// The command gets all of them.
fn allow_signals() {
    let _ = SigSet::empty().thread_set_mask();
}

fn close_all_but(plan: &Plan, needed: &[BorrowedFd]) {
    let mut kept = needed.to_vec();
    kept.extend(plan.start.as_ref().map(AsFd::as_fd));
    kept.extend(plan.agent.as_ref().map(AsFd::as_fd));
    kept.extend(log::descriptor());
    sys::close_others(plan.closed, &kept);
}

fn wait_for_start(plan: &Plan, parent: &UnixStream) -> Result<()> {
    let Some(start) = &plan.start else { return wait_for_word(parent) };
    tell(parent, "created")?;
    let (caller, _) = attempt("accept", start.accept())?;
    attempt("dup3", calls::dup3(&caller, parent)) // whom an error must reach from now on
}

fn c_strings(list: &[String]) -> Result<Vec<CString>> {
    let mut strings = vec![];
    for text in list {
        strings.push(CString::new(text.as_str()).map_err(error)?);
    }
    Ok(strings)
}

/// In runc's words, from which docker and podman read the exit statuses 126 and 127.
fn find_program(name: &str, env: &[CString]) -> Result<PathBuf> {
    if name.contains('/') {
        return match look(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(errno) => Err(error(format!("exec: {name:?}: {}", in_words(errno)))),
        };
    }
    let path = env.iter().find_map(|pair| pair.to_str().ok()?.strip_prefix("PATH="));
    let mut why = "executable file not found in $PATH".to_string();
    for dir in path.unwrap_or_default().split(':') {
        let file = Path::new(dir).join(name);
        match look(&file) {
            Ok(()) => return Ok(file),
            Err(Errno::EACCES) => why = in_words(Errno::EACCES),
            Err(_) => {}
        }
    }
    Err(error(format!("exec: {name:?}: {why}")))
}

fn look(file: &Path) -> Result<(), Errno> {
    unistd::access(file, AccessFlags::X_OK)?;
    if file.is_dir() { Err(Errno::EACCES) } else { Ok(()) }
}

fn in_words(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

/// The environment; engines leave it to us to look up HOME.
fn environment(process: &Process) -> Result<Vec<CString>> {
    let mut env = c_strings(list_of(process.env()))?;
    if !env.iter().any(|pair| pair.as_bytes().starts_with(b"HOME=")) {
        let home = home_of(process.user().uid()).unwrap_or("/".into());
        env.push(c_string(format!("HOME={home}")));
    }
    Ok(env)
}

fn home_of(uid: u32) -> Option<String> {
    // It may be anything, such as a FIFO.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/etc/passwd");
    let text = io::read_to_string(file.ok()?).ok()?;
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if fields.len() > 5 && fields[2] == uid.to_string() {
            return Some(fields[5].to_string());
        }
    }
    None
}
