//! Programs for the kernel's BPF machine, as seccomp(2) takes them: their instructions, and how a
//! call's number is looked up in few steps.

use libc::{BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_LD, BPF_RET, BPF_W};
use libc::{ENOSYS, EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, sock_filter};
use std::collections::BTreeMap;

/// How the kernel names the ABI that husk is compiled for.
pub const AUDIT_ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

pub const ALLOW: sock_filter = bpf(BPF_RET, SECCOMP_RET_ALLOW, 0, 0);
pub const REFUSE: sock_filter = bpf(BPF_RET, SECCOMP_RET_ERRNO | EPERM as u32, 0, 0);
/// Makes programs do without a call, as on an older kernel; EPERM they would take for an answer.
pub const UNKNOWN: sock_filter = bpf(BPF_RET, SECCOMP_RET_ERRNO | ENOSYS as u32, 0, 0);

/// An instruction. A jump compares what was loaded with `k`, and skips `yes` or `no` instructions:
/// never more than fit into a byte.
pub const fn bpf(code: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: yes, jf: no, k }
}

/// Loads 32 bits of what a filter sees, a struct seccomp_data: the call's number at 0, the ABI at
/// 4, and from 16 on the arguments, 64 bits each.
pub const fn load(offset: u32) -> sock_filter {
    bpf(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

/// Instructions that answer a call. The last of them returns.
pub type Answer = Vec<sock_filter>;

/// The filter that gives each call its answer. Calls without one get `otherwise` up to the number
/// `last`, and are unknown beyond.
pub fn filter(
    answers: BTreeMap<u32, Answer>,
    otherwise: sock_filter,
    last: u32,
    other_abi: sock_filter,
) -> Vec<sock_filter> {
    // Another ABI numbers its calls differently (int 0x80).
    let mut filter = vec![load(4), bpf(BPF_JMP | BPF_JEQ, AUDIT_ARCH, 1, 0), other_abi, load(0)];
    search(&pieces(answers, otherwise, last), &mut filter);
    filter
}

/// Cuts the line of all numbers into pieces: where each begins, and what is answered until the
/// next.
fn pieces(answers: BTreeMap<u32, Answer>, otherwise: sock_filter, last: u32) -> Vec<(u32, Answer)> {
    let mut pieces = vec![];
    let mut next = 0;
    for (call, answer) in answers {
        if next < call {
            pieces.push((next, vec![otherwise]));
        }
        pieces.push((call, answer));
        next = call + 1;
    }
    if next <= last {
        pieces.push((next, vec![otherwise]));
        next = last + 1;
    }
    pieces.push((next, vec![UNKNOWN]));
    pieces.dedup_by(|this, before| this.1 == before.1);
    pieces
}

/// Adds a balanced tree of comparisons, at whose leaves the answers are. The kernel runs a filter
/// once for every number when it is loaded: a list of comparisons takes it twice as long.
fn search(pieces: &[(u32, Answer)], filter: &mut Vec<sock_filter>) {
    if let [(_, answer)] = pieces {
        filter.extend(answer);
        return;
    }
    let (low, high) = pieces.split_at(pieces.len() / 2);
    let (first_of_high, _) = high[0];
    let jump = filter.len();
    filter.push(ALLOW); // its place: what it has to skip comes first
    search(low, filter);
    let skipped = filter.len() - jump - 1;
    if let Ok(skipped) = u8::try_from(skipped) {
        filter[jump] = bpf(BPF_JMP | BPF_JGE, first_of_high, skipped, 0);
    } else {
        // Too far for this jump. The one without a condition has 32 bits for it.
        filter[jump] = bpf(BPF_JMP | BPF_JGE, first_of_high, 0, 1);
        filter.insert(jump + 1, bpf(BPF_JMP | BPF_JA, skipped as u32, 0, 0));
    }
    search(high, filter);
}
