//! linux.seccomp as a program for the kernel's BPF machine, like the walk's own filter, with rules
//! about arguments first.

use super::{fail, list_of};
use crate::filter::{self, Answer, UNKNOWN, bpf, load};
use crate::lockdown::LAST_CALL;
use crate::step::Result;
use libc::{BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_RET, sock_filter};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// The instructions of one comparison.
const COMPARISON: usize = 7;

/// How the kernel names the other ABI that this machine's processes may use.
const COMPAT_ARCH: u32 = if cfg!(target_arch = "x86_64") { 0x4000_0003 } else { 0x4000_0028 };

pub fn filter(profile: &LinuxSeccomp) -> Result<Vec<sock_filter>> {
    check(profile)?;
    let native = |name: &str| Some(syscalls::Sysno::from_str(name).ok()?.id() as u32);
    let mut program = program(profile, native);
    let compat = if cfg!(target_arch = "x86_64") { Arch::ScmpArchX86 } else { Arch::ScmpArchArm };
    if list_of(profile.architectures()).contains(&compat) {
        // Instead of the answer to other ABIs, the same for this one, behind.
        let behind = program.len() - OTHER_ABI - 1;
        program[OTHER_ABI] = bpf(BPF_JMP | BPF_JA, behind as u32, 0, 0);
        let mut other = self::program(profile, compat_number);
        other[OTHER_ABI - 1].k = COMPAT_ARCH;
        program.extend(&other[1..]); // the ABI is loaded already
    }
    Ok(program)
}

/// Where `filter::filter` has its answer to other ABIs, behind the comparison.
const OTHER_ABI: usize = 2;

fn program(profile: &LinuxSeccomp, number: fn(&str) -> Option<u32>) -> Vec<sock_filter> {
    let mut rules: Vec<&LinuxSyscall> = list_of(profile.syscalls()).iter().collect();
    rules.sort_by_key(|rule| list_of(rule.args()).is_empty()); // those about arguments come first
    let mut answers: BTreeMap<u32, Answer> = BTreeMap::new();
    // Above what the profile's author knew there are only newer calls.
    let mut last = LAST_CALL;
    for rule in rules {
        let body = body(rule);
        // Calls that an ABI does not have need no rule.
        for number in rule.names().iter().filter_map(|name| number(name)) {
            answers.entry(number).or_default().extend(&body);
            last = last.max(number);
        }
    }
    let otherwise = answer(profile.default_action(), profile.default_errno_ret());
    for answer in answers.values_mut() {
        answer.push(otherwise);
    }
    filter::filter(answers, otherwise, last, UNKNOWN)
}

#[cfg(target_arch = "x86_64")]
fn compat_number(name: &str) -> Option<u32> {
    Some(syscalls::x86::Sysno::from_str(name).ok()?.id() as u32)
}

#[cfg(not(target_arch = "x86_64"))]
fn compat_number(name: &str) -> Option<u32> {
    Some(syscalls::arm::Sysno::from_str(name).ok()?.id() as u32)
}

fn check(profile: &LinuxSeccomp) -> Result<()> {
    let action = profile.default_action();
    if action == LinuxSeccompAction::ScmpActNotify {
        return fail("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY would stop husk, too");
    }
    check_errno("defaultErrnoRet", action, profile.default_errno_ret())?;
    for rule in list_of(profile.syscalls()) {
        if rule.names().is_empty() {
            return fail("linux.seccomp.syscalls: names: expected one at least");
        }
        check_errno(&rule.names()[0], rule.action(), rule.errno_ret())?;
        if list_of(rule.args()).iter().any(|arg| arg.index() > 5) {
            return fail(format!("linux.seccomp: {}: a call has six arguments", rule.names()[0]));
        }
    }
    Ok(())
}

fn check_errno(what: &str, action: LinuxSeccompAction, errno: Option<u32>) -> Result<()> {
    let Some(errno) = errno else { return Ok(()) };
    let takes_one =
        [LinuxSeccompAction::ScmpActErrno, LinuxSeccompAction::ScmpActTrace].contains(&action);
    if !takes_one {
        return fail(format!("linux.seccomp: {what}: {action} takes no errno"));
    }
    if errno > 0xffff {
        return fail(format!("linux.seccomp: {what}: {errno}: no errno"));
    }
    Ok(())
}

/// What the rule does about one of its calls.
fn body(rule: &LinuxSyscall) -> Vec<sock_filter> {
    let args = list_of(rule.args());
    let indices: BTreeSet<usize> = args.iter().map(LinuxSeccompArg::index).collect();
    // All must hold; but of two for the same argument, as libseccomp has it, any one.
    let is_any = indices.len() < args.len();
    let sets: Vec<&[LinuxSeccompArg]> = if is_any { args.chunks(1).collect() } else { vec![args] };
    let mut body = vec![];
    for set in sets {
        for (n, arg) in set.iter().enumerate() {
            // A failure skips the other arguments and the answer.
            body.extend(compare(arg, (set.len() - n - 1) * COMPARISON + 1));
        }
        body.push(answer(rule.action(), rule.errno_ret()));
    }
    body
}

fn answer(action: LinuxSeccompAction, errno: Option<u32>) -> sock_filter {
    bpf(BPF_RET, action.as_u32(errno), 0, 0)
}

/// Compares 64 bits in two halves, and goes on behind these seven instructions or `fail` further.
fn compare(arg: &LinuxSeccompArg, fail: usize) -> [sock_filter; COMPARISON] {
    use LinuxSeccompOperator as Op;
    let (mask, value, how) = match arg.op() {
        Op::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0), BPF_JEQ),
        Op::ScmpCmpGt | Op::ScmpCmpLe => (u64::MAX, arg.value(), BPF_JGT),
        Op::ScmpCmpGe | Op::ScmpCmpLt => (u64::MAX, arg.value(), BPF_JGE),
        _ => (u64::MAX, arg.value(), BPF_JEQ),
    };
    let is_opposite = matches!(arg.op(), Op::ScmpCmpNe | Op::ScmpCmpLe | Op::ScmpCmpLt);
    let fail = fail as u8;
    // Where to go from an instruction, if the comparison holds, or not.
    let to = |at: u8, holds: bool| {
        let end = COMPARISON as u8 - 1 - at;
        if holds == is_opposite { end + fail } else { end }
    };
    let (offset, high) = (16 + 8 * arg.index() as u32, (value >> 32) as u32);
    [
        load(offset + 4),
        bpf(BPF_ALU | BPF_AND, (mask >> 32) as u32, 0, 0),
        bpf(BPF_JMP | BPF_JGT, high, to(2, how != BPF_JEQ), 0),
        bpf(BPF_JMP | BPF_JEQ, high, 0, to(3, false)),
        load(offset),
        bpf(BPF_ALU | BPF_AND, mask as u32, 0, 0),
        bpf(BPF_JMP | how, value as u32, to(6, true), to(6, false)),
    ]
}
