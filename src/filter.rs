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
    // Made from its end, for jumps go forward only: what they lead to is there already.
    let mut reversed = vec![];
    search(&pieces(&answers, &[otherwise], last), &mut reversed);
    // Another ABI numbers its calls differently (int 0x80).
    let head = [load(4), bpf(BPF_JMP | BPF_JEQ, AUDIT_ARCH, 1, 0), other_abi, load(0)];
    head.into_iter().chain(reversed.into_iter().rev()).collect()
}

/// Where a piece of the line of all numbers begins, and what is answered until the next.
type Piece<'a> = (u32, &'a [sock_filter]);

fn pieces<'a>(
    answers: &'a BTreeMap<u32, Answer>,
    otherwise: &'a [sock_filter],
    last: u32,
) -> Vec<Piece<'a>> {
    let mut pieces: Vec<Piece> = vec![];
    let mut next = 0;
    for (call, answer) in answers {
        if next < *call {
            pieces.push((next, otherwise));
        }
        pieces.push((*call, answer));
        next = call + 1;
    }
    if next <= last {
        pieces.push((next, otherwise));
        next = last + 1;
    }
    pieces.push((next, &[UNKNOWN]));
    pieces.dedup_by(|this, before| this.1 == before.1);
    pieces
}

/// Adds a balanced tree of comparisons, at whose leaves the answers are, and returns where it
/// begins. The kernel runs a filter once for every number when it is loaded: a list of comparisons
/// takes it twice as long.
fn search(pieces: &[Piece], reversed: &mut Vec<sock_filter>) -> usize {
    if let [(_, answer)] = pieces {
        return place(answer, reversed);
    }
    let (low, high) = pieces.split_at(pieces.len() / 2);
    let (first_of_high, _) = high[0];
    let no = search(low, reversed);
    let yes = search(high, reversed);
    let (no, yes) = (bring_near(no, reversed), bring_near(yes, reversed));
    let skipped = |to: usize| (reversed.len() - to - 1) as u8;
    reversed.push(bpf(BPF_JMP | BPF_JGE, first_of_high, skipped(yes), skipped(no)));
    reversed.len() - 1
}

/// A jump skips up to 255 instructions. A few of them are left for what comes in between.
const NEAR: usize = 250;

/// Most answers are a single instruction, and there may be one near: a shorter filter is loaded
/// sooner.
fn place(answer: &[sock_filter], reversed: &mut Vec<sock_filter>) -> usize {
    let first = reversed.len().saturating_sub(NEAR);
    if let [single] = answer
        && let Some(at) = reversed[first..].iter().rposition(|one| one == single)
    {
        return first + at;
    }
    reversed.extend(answer.iter().rev());
    reversed.len() - 1
}

/// What is too far for a jump with a condition is reached by one without: it has 32 bits for that.
fn bring_near(to: usize, reversed: &mut Vec<sock_filter>) -> usize {
    let skipped = reversed.len() - to - 1;
    if skipped < NEAR {
        return to;
    }
    reversed.push(bpf(BPF_JMP | BPF_JA, skipped as u32, 0, 0));
    reversed.len() - 1
}
