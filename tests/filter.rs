//! The filter that is made of the tables in lockdown.rs, run by a machine that is made here: for
//! every call, and arguments at the edges, it says what the tables say.

#[path = "../src/filter.rs"]
mod filter;
#[path = "../src/lockdown.rs"]
mod lockdown;

use filter::{ALLOW, AUDIT_ARCH, Answer, REFUSE, bpf, load};

use libc::{BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_LD, BPF_RET, BPF_W};
use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SYS_clone3, SYS_unshare, c_int, sock_filter};
use lockdown::{
    ALL, BPF, Bad, CAPABILITIES, DAC_READ_SEARCH, LAST_CALL, LEASE, NET_ADMIN, NOBODY, PERFMON,
    REFUSED, REFUSED_ARGUMENTS, SYS_ADMIN, SYS_BOOT, SYS_CHROOT, SYS_MODULE, SYS_NICE, SYS_PACCT,
    SYS_PTRACE, SYS_RAWIO, SYS_TIME, SYS_TTY_CONFIG, SYSLOG, capability, kept, seccomp_filter,
};
use std::collections::BTreeMap;

/// What the kernel shows to a filter, struct seccomp_data.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    abi: u32,
    args: [u64; 6],
}

const ALLOWED: u32 = SECCOMP_RET_ALLOW;
const REFUSED_AS: u32 = SECCOMP_RET_ERRNO | libc::EPERM as u32;
const UNKNOWN_AS: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

const X32: u32 = 0x4000_0000;
const I386: u32 = 0x4000_0003;

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let argument = |offset: u32| self.args[offset as usize / 8];
        match offset {
            0 => self.number,
            4 => self.abi,
            16..64 if offset & 7 == 0 => argument(offset - 16) as u32,
            16..64 if offset & 7 == 4 => (argument(offset - 16) >> 32) as u32,
            _ => panic!("there is nothing at {offset}"),
        }
    }
}

/// Runs the program as the kernel does: its answer, and how many instructions it took.
fn execute(filter: &[sock_filter], call: &Call) -> (u32, usize) {
    let (mut loaded, mut at) = (0, 0);
    for steps in 1.. {
        let sock_filter { code, jt, jf, k } = filter[at];
        let code = u32::from(code);
        at += 1;
        if code == BPF_LD | BPF_W | BPF_ABS {
            loaded = call.word(k);
            continue;
        }
        if code == BPF_RET {
            return (k, steps);
        }
        if code == BPF_JMP | BPF_JA {
            at += k as usize;
            continue;
        }
        let holds = match code ^ BPF_JMP {
            BPF_JEQ => loaded == k,
            BPF_JGE => loaded >= k,
            BPF_JGT => loaded > k,
            BPF_JSET => loaded & k != 0,
            _ => panic!("no such instruction: {code:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
    unreachable!()
}

/// What the tables say, read from the top.
fn expected(capabilities: u64, call: &Call) -> u32 {
    let lacks = |any_of: u64| capabilities & any_of == 0;
    if call.abi != AUDIT_ARCH {
        return REFUSED_AS;
    }
    if call.number > LAST_CALL {
        return UNKNOWN_AS;
    }
    for (any_of, number, argument, bad) in REFUSED_ARGUMENTS {
        let value = call.args[*argument as usize] as c_int;
        let is_bad = match bad {
            Bad::Equal(bad) => value == *bad,
            Bad::AnyBit(bits) => value & bits != 0,
            Bad::OtherThan(values) => !values.contains(&value),
        };
        if call.number == *number as u32 && is_bad && lacks(*any_of) {
            return REFUSED_AS;
        }
    }
    if call.number == SYS_clone3 as u32 && lacks(SYS_ADMIN) {
        return UNKNOWN_AS;
    }
    for (any_of, calls) in REFUSED {
        if calls.contains(&call.number.into()) && lacks(*any_of) {
            return REFUSED_AS;
        }
    }
    ALLOWED
}

fn bits(names: &[&str]) -> u64 {
    names.iter().map(|name| capability(name).expect("a capability's name")).sum()
}

/// None, docker's, all; and those of some numbers each alone, and all but each.
fn sets_of_capabilities(numbers: impl Iterator<Item = u32>) -> Vec<u64> {
    let all = bits(&CAPABILITIES);
    let mut sets = vec![0, kept(), all];
    for number in numbers {
        sets.extend([1 << number, all & !(1 << number)]);
    }
    sets
}

/// Values about which a comparison may be wrong: of 32 bits, and with something above those.
fn values_at_the_edges() -> Vec<u64> {
    let mut edges = vec![0, u64::MAX];
    for bit in 0..32 {
        edges.extend([1 << bit, (1 << bit) - 1, !(1 << bit)]);
    }
    for (_, _, _, bad) in REFUSED_ARGUMENTS {
        match bad {
            Bad::Equal(value) => edges.push(*value as u32 as u64),
            Bad::OtherThan(values) => edges.extend(values.iter().map(|value| *value as u32 as u64)),
            Bad::AnyBit(bits) => edges.extend([*bits as u32 as u64, !bits as u32 as u64]),
        }
    }
    let mut values = vec![];
    for edge in edges {
        for near in [edge.wrapping_sub(1), edge, edge.wrapping_add(1)] {
            values.extend([near, near as u32 as u64, near | 1 << 32, near | 0xffff_ffff << 32]);
        }
    }
    values.sort();
    values.dedup();
    values
}

#[test]
fn every_call() {
    let mut numbers: Vec<u32> = (0..2000).collect();
    numbers.extend(X32..X32 + 2000);
    numbers.extend([X32 - 1, i32::MAX as u32, i32::MIN as u32, u32::MAX - 1, u32::MAX]);
    let mut abis = vec![AUDIT_ARCH, 0, u32::MAX, I386];
    abis.extend((0..32).map(|bit| AUDIT_ARCH ^ 1 << bit));
    for capabilities in sets_of_capabilities(0..CAPABILITIES.len() as u32) {
        let filter = seccomp_filter(capabilities);
        for &number in &numbers {
            for &abi in &abis {
                let call = Call { number, abi, args: [0; 6] };
                let (answer, steps) = execute(&filter, &call);
                assert_eq!(answer, expected(capabilities, &call), "{capabilities:#x}: {call:?}");
                assert!(steps <= 24, "{call:?} takes {steps} steps: is the tree balanced?");
            }
        }
    }
}

#[test]
fn every_argument() {
    let mut calls: Vec<u32> = REFUSED_ARGUMENTS.iter().map(|rule| rule.1 as u32).collect();
    calls.extend([SYS_clone3 as u32, SYS_unshare as u32, libc::SYS_read as u32]);
    calls.sort();
    calls.dedup();
    let values = values_at_the_edges();
    let rules = REFUSED_ARGUMENTS.iter().filter(|rule| rule.0 != NOBODY);
    for capabilities in sets_of_capabilities(rules.map(|rule| rule.0.trailing_zeros())) {
        let filter = seccomp_filter(capabilities);
        for &number in &calls {
            for (place, &value) in (0..6).flat_map(|place| values.iter().map(move |v| (place, v))) {
                let mut call = Call { number, abi: AUDIT_ARCH, args: [0; 6] };
                call.args[place] = value;
                let (answer, _) = execute(&filter, &call);
                assert_eq!(answer, expected(capabilities, &call), "{capabilities:#x}: {call:x?}");
            }
        }
    }
}

/// Where what is to be jumped over is longer than a byte can say.
#[test]
fn a_long_filter() {
    let answer = |call: u32| {
        let mut answer = vec![load(16); 20];
        answer.push(bpf(BPF_RET, call, 0, 0));
        answer
    };
    let odd: BTreeMap<u32, Answer> = (0..150).map(|n| (2 * n + 1, answer(2 * n + 1))).collect();
    for last in [0, 299, 300, 500] {
        let filter = filter::filter(odd.clone(), ALLOW, last, REFUSE);
        assert!(filter.len() > 3000);
        for number in 0..1000 {
            let call = Call { number, abi: AUDIT_ARCH, args: [0; 6] };
            let expected = match number {
                0..300 if number % 2 == 1 => number,
                0..300 => ALLOWED,
                _ if number <= last => ALLOWED,
                _ => UNKNOWN_AS,
            };
            assert_eq!(execute(&filter, &call).0, expected, "{number}, last {last}");
        }
    }
}

/// As people write them.
#[test]
fn capabilities_by_name() {
    assert_eq!(capability("CHOWN"), Some(1));
    assert_eq!(capability("cap_checkpoint_restore"), Some(1 << 40));
    assert_eq!(capability("Net_Raw"), Some(1 << 13));
    assert_eq!(capability("all"), Some(ALL));
    for wrong in ["", "CAP_", "CAP_CAP_CHOWN", "chown ", "NET", "MKNOD,CHOWN", "63"] {
        assert_eq!(capability(wrong), None, "{wrong:?}");
    }
    assert_eq!(kept(), 0xa004_25fb & !(1 << 27));
    assert_eq!(bits(&CAPABILITIES), (1 << 41) - 1);
    let named = [
        (DAC_READ_SEARCH, "DAC_READ_SEARCH"),
        (NET_ADMIN, "NET_ADMIN"),
        (SYS_MODULE, "SYS_MODULE"),
        (SYS_RAWIO, "SYS_RAWIO"),
        (SYS_CHROOT, "SYS_CHROOT"),
        (SYS_PTRACE, "SYS_PTRACE"),
        (SYS_PACCT, "SYS_PACCT"),
        (SYS_ADMIN, "SYS_ADMIN"),
        (SYS_BOOT, "SYS_BOOT"),
        (SYS_NICE, "SYS_NICE"),
        (SYS_TIME, "SYS_TIME"),
        (SYS_TTY_CONFIG, "SYS_TTY_CONFIG"),
        (LEASE, "LEASE"),
        (SYSLOG, "SYSLOG"),
        (PERFMON, "PERFMON"),
        (BPF, "BPF"),
    ];
    for (bit, name) in named {
        assert_eq!(capability(name), Some(bit), "{name}");
    }
}
