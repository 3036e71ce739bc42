//! Installs the filter of linux.seccomp, with its flags. For SCMP_ACT_NOTIFY there is an agent
//! outside, who gets a descriptor that reports the calls to him.

use super::plan::Plan;
use super::{SPEC_VERSION, calls, fail, list_of};
use crate::step::{Result, attempt, error, step};
use libc::{c_ulong, sock_filter};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};
use serde_json::json;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

/// Connects to the agent, if there is anything to report.
pub fn connect(profile: &LinuxSeccomp) -> Result<Option<UnixStream>> {
    let path = profile.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    if path.is_none() && profile.listener_metadata().as_ref().is_some_and(|it| !it.is_empty()) {
        return fail("linux.seccomp.listenerMetadata: expected listenerPath beside it");
    }
    let mut rules = list_of(profile.syscalls()).iter();
    if !rules.any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify) {
        return Ok(None);
    }
    let Some(path) = path else {
        return fail("linux.seccomp.listenerPath: expected for SCMP_ACT_NOTIFY");
    };
    let agent = UnixStream::connect(path);
    step!(agent, "connect {} (linux.seccomp.listenerPath)", path.display()).map(Some)
}

fn flags(profile: &LinuxSeccomp) -> c_ulong {
    let mut flags = 0;
    for flag in list_of(profile.flags()) {
        flags |= match flag {
            // There is no other thread; but for the one below, which must not have the filter.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => {
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            }
        };
    }
    flags
}

pub fn install(plan: &Plan, profile: &LinuxSeccomp, filter: &[sock_filter]) -> Result<()> {
    let mut flags = flags(profile);
    let what = format!("seccomp: {} instructions", filter.len());
    let Some(agent) = &plan.agent else {
        // It means something only where calls are reported.
        flags &= !libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        step!(calls::seccomp(filter, flags), "{what}")?;
        return Ok(());
    };
    let state = process_state(plan, profile);
    let agent = attempt("dup", agent.try_clone())?;
    // The filter is for this thread only: so the other one can still send.
    let sender = thread::Builder::new().spawn(move || send_listener(&agent, &state));
    attempt("a thread for the seccomp agent", sender)?;
    flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let listener = step!(calls::seccomp(filter, flags), "{what}")?;
    let Some(listener) = listener else { return fail("seccomp: no listener") };
    LISTENER.store(listener.into_raw_fd(), Ordering::Release);
    // Any system call might wait for the agent now.
    loop {
        match OUTCOME.load(Ordering::Acquire) {
            WAITING => std::hint::spin_loop(),
            SENT => return Ok(()),
            errno => return Err(error(format!("seccomp agent: {}", Errno::from_raw(errno)))),
        }
    }
}

const WAITING: i32 = -1;
const SENT: i32 = 0;

/// What the two threads tell each other: the descriptor, and how its sending went.
static LISTENER: AtomicI32 = AtomicI32::new(WAITING);
static OUTCOME: AtomicI32 = AtomicI32::new(WAITING);

fn send_listener(agent: &UnixStream, state: &str) {
    let mut fds = [LISTENER.load(Ordering::Acquire)];
    while fds[0] == WAITING {
        thread::sleep(Duration::from_micros(100));
        fds[0] = LISTENER.load(Ordering::Acquire);
    }
    let text = [IoSlice::new(state.as_bytes())];
    let rights = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(agent.as_raw_fd(), &text, &rights, MsgFlags::MSG_NOSIGNAL, None);
    OUTCOME.store(sent.err().map_or(SENT, |errno| errno as i32), Ordering::Release);
}

/// In the words of config-linux.md, "The Container Process State".
fn process_state(plan: &Plan, profile: &LinuxSeccomp) -> String {
    let mut state = plan.home.report(if plan.is_new { "creating" } else { "running" });
    state["pid"] = plan.home.state["pid"].as_i64().unwrap_or(plan.host_pid.into()).into();
    let mut all = json!({
        "ociVersion": SPEC_VERSION,
        "fds": ["seccompFd"],
        "pid": plan.host_pid,
        "state": state,
    });
    if let Some(metadata) = profile.listener_metadata() {
        all["metadata"] = metadata.as_str().into();
    }
    all.to_string()
}
