//! Which devices the processes of a cgroup may use: rules, and the program that is made of them,
//! which the kernel asks whenever one is opened or made. Cgroup 1 had a controller for it; in
//! cgroup 2 whoever makes the container brings the program.

use crate::step::{Result, attempt, error, step};
use crate::sys::bpf::{BpfInstruction, bpf_prog_attach, bpf_prog_detach, bpf_prog_load, bpf_progs};
use nix::errno::Errno;
use nix::sys::stat::{major, minor};
use std::fs::{self, Metadata};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What may be done with a device, as the kernel numbers it.
pub const MKNOD: u32 = 1;
pub const READ: u32 = 2;
pub const WRITE: u32 = 4;
pub const ALL: u32 = MKNOD | READ | WRITE;

#[derive(Clone, Copy)]
pub enum Kind {
    Any,
    Block,
    Char,
}

/// Allows or refuses some of the three above, for all devices that it fits. Of several rules for
/// the same device and letter the last one counts; what no rule allows is refused.
#[derive(Clone, Copy)]
pub struct Rule {
    pub allow: bool,
    pub kind: Kind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u32,
}

/// The letters r, w and m, each at most once.
pub fn access(letters: &str) -> Option<u32> {
    let mut access = 0;
    for letter in letters.chars() {
        let bit = match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return None,
        };
        if access & bit != 0 {
            return None;
        }
        access |= bit;
    }
    (access != 0).then_some(access)
}

// ---- devices of the host's ----------------------------------------------------------------------

/// A device of the host's that a container gets, and what it may do with it.
pub struct Device {
    pub source: PathBuf,
    pub target: PathBuf,
    kind: Kind,
    pub number: u64,
    access: u32,
}

/// The node at a path of the host's, or all that are in that directory and below.
pub fn find(source: &Path, target: &Path, access: u32) -> Result<Vec<Device>> {
    let shown = format!("--device {}", source.display());
    let meta = attempt(&shown, fs::metadata(source))?;
    let mut devices = vec![];
    if meta.is_dir() {
        attempt(&shown, search(&mut devices, source, target, access))?;
    } else {
        devices.extend(device(source, target, access, &meta));
    }
    if devices.is_empty() {
        return Err(error(format!("{shown}: expected a device, or a directory with some")));
    }
    Ok(devices)
}

fn device(source: &Path, target: &Path, access: u32, meta: &Metadata) -> Option<Device> {
    let kind = match meta.file_type() {
        kind if kind.is_block_device() => Kind::Block,
        kind if kind.is_char_device() => Kind::Char,
        _ => return None,
    };
    let (source, target) = (source.into(), target.into());
    Some(Device { source, target, kind, number: meta.rdev(), access })
}

/// Follows no symlinks: in /dev they are second names.
fn search(
    devices: &mut Vec<Device>,
    source: &Path,
    target: &Path,
    access: u32,
) -> Result<(), std::io::Error> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (source, target) = (entry.path(), target.join(entry.file_name()));
        let meta = entry.metadata()?;
        if meta.is_dir() {
            search(devices, &source, &target, access)?;
        }
        devices.extend(device(&source, &target, access, &meta));
    }
    Ok(())
}

impl Device {
    fn rule(&self, allow: bool, access: u32) -> Rule {
        let number = |part: u64| Some(part as u32); // they have 12 and 20 bits
        let (major, minor) = (number(major(self.number)), number(minor(self.number)));
        Rule { allow, kind: self.kind, major, minor, access }
    }
}

/// Refuses to a cgroup, which is open as `cgroup`, what the letters of these devices leave out. All
/// others are left to the mounts, which are nodev.
pub fn limit(cgroup: impl AsFd, dir: &Path, devices: &[Device]) -> Result<()> {
    if devices.iter().all(|device| device.access == ALL) {
        return Ok(());
    }
    let (kind, major, minor) = (Kind::Any, None, None);
    let mut rules = vec![Rule { allow: true, kind, major, minor, access: ALL }];
    rules.extend(devices.iter().map(|device| device.rule(false, ALL)));
    rules.extend(devices.iter().map(|device| device.rule(true, device.access)));
    let program = device_program(&rules);
    step!(
        attach(cgroup.as_fd(), &program),
        "bpftool cgroup attach {} cgroup_device (it)",
        dir.display()
    )
}

// ---- the program --------------------------------------------------------------------------------

// The parts of an instruction's code, from linux/bpf.h.
const LOAD_WORD: u8 = 0x61; // from memory
const SET: u8 = 0xb4; // ALU, 32 bits: to a number
const COPY: u8 = 0xbc; // from another register
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_IF_ANY_BIT: u8 = 0x46; // JMP32: of a number
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

// The registers: what is returned, the context that the kernel gives, and what it says.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// One register, a number of instructions to skip, and a number.
fn one(code: u8, register: u8, skip: i16, number: u32) -> BpfInstruction {
    two(code, register, 0, skip, number)
}

/// Lays out a struct bpf_insn.
fn two(code: u8, to: u8, from: u8, offset: i16, number: u32) -> BpfInstruction {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = number.to_ne_bytes();
    BpfInstruction::from_ne_bytes([code, from << 4 | to, low, high, a, b, c, d])
}

/// The program for these rules. It looks at the last one first, and forgets what that one allows:
/// when nothing is wanted any more, all is allowed.
pub fn device_program(rules: &[Rule]) -> Vec<BpfInstruction> {
    // struct bpf_cgroup_dev_ctx: the kind in the low half and what is wanted in the high half of
    // one word, then major and minor number.
    let mut program = vec![
        two(LOAD_WORD, KIND, CONTEXT, 0, 0),
        two(COPY, WANTED, KIND, 0, 0),
        one(AND, KIND, 0, 0xffff),
        one(SHIFT_RIGHT, WANTED, 0, 16),
        two(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        two(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        one(SET, ANSWER, 0, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(block(rule));
    }
    program.push(one(JUMP_IF_ANY_BIT, WANTED, 1, ALL));
    program.push(one(SET, ANSWER, 0, 1));
    program.push(one(EXIT, 0, 0, 0));
    program
}

fn block(rule: &Rule) -> Vec<BpfInstruction> {
    let verdict = if rule.allow { allow(rule.access) } else { refuse(rule.access) };
    let kind = match rule.kind {
        Kind::Any => None,
        Kind::Block => Some(1),
        Kind::Char => Some(2),
    };
    let mut block = vec![];
    // From the last comparison to the first, for each has to know how much it skips.
    for (register, wanted) in [(MINOR, rule.minor), (MAJOR, rule.major), (KIND, kind)] {
        if let Some(number) = wanted {
            let skip = (block.len() + verdict.len()) as i16; // at most 6
            block.insert(0, one(JUMP_UNLESS_EQUAL, register, skip, number));
        }
    }
    block.extend(verdict);
    block
}

fn allow(access: u32) -> Vec<BpfInstruction> {
    vec![
        one(AND, WANTED, 0, !access),
        one(JUMP_IF_ANY_BIT, WANTED, 2, ALL),
        one(SET, ANSWER, 0, 1),
        one(EXIT, 0, 0, 0),
    ]
}

fn refuse(access: u32) -> Vec<BpfInstruction> {
    vec![
        one(JUMP_IF_ANY_BIT, WANTED, 1, access),
        one(JUMP, 0, 1, 0),
        one(EXIT, 0, 0, 0), // the answer is still no
    ]
}

/// Puts the program in place of those that are attached to this cgroup, of which it is an open
/// directory. Both hold for a moment, so nothing is possible that neither allows.
pub fn attach(cgroup: BorrowedFd, program: &[BpfInstruction]) -> Result<(), Errno> {
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const BPF_CGROUP_DEVICE: u32 = 6;
    let program = bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, program)?;
    let before = bpf_progs(cgroup, BPF_CGROUP_DEVICE)?;
    bpf_prog_attach(cgroup, &program, BPF_CGROUP_DEVICE)?;
    for old in before {
        bpf_prog_detach(cgroup, old, BPF_CGROUP_DEVICE)?;
    }
    Ok(())
}
