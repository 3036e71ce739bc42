//! bpf(2): programs that the kernel runs for a cgroup.

use super::new_fd;
use libc::{c_int, c_long};
use nix::errno::Errno;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// An instruction of the kernel's newer BPF machine, the 8 bytes of a struct bpf_insn.
pub type BpfInstruction = u64;

const BPF_PROG_LOAD: c_int = 5;
const BPF_PROG_ATTACH: c_int = 8;
const BPF_PROG_DETACH: c_int = 9;
const BPF_PROG_GET_FD_BY_ID: c_int = 13;
const BPF_PROG_QUERY: c_int = 16;

/// One of the structures in union bpf_attr, as long as `command` takes it.
fn bpf<T>(command: c_int, attributes: &mut T) -> Result<c_long, Errno> {
    let (attributes, size): (*mut T, _) = (attributes, mem::size_of::<T>());
    // SAFETY: the kernel reads and writes `size` bytes, all of them in integers. Those which are
    // addresses our callers answer for.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) })
}

/// bpf(2) BPF_PROG_LOAD: a program of this type (BPF_PROG_TYPE_*), which the kernel has looked
/// through. It stays as long as it is open or attached.
pub fn bpf_prog_load(kind: u32, program: &[BpfInstruction]) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        length: u32,
        instructions: u64,
        license: u64,
    }
    let mut attributes = Attributes {
        kind,
        length: program.len().try_into().map_err(|_| Errno::E2BIG)?,
        instructions: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
    };
    // The program and the string outlive the call, and the kernel only reads them.
    new_fd(bpf(BPF_PROG_LOAD, &mut attributes)?)
}

/// bpf(2) BPF_PROG_ATTACH: from now on the kernel asks this program for all processes of a cgroup
/// and of those below. All that are attached, here and above, have to say yes.
pub fn bpf_prog_attach(cgroup: impl AsFd, program: impl AsFd, hook: u32) -> Result<(), Errno> {
    const ALLOW_MULTI: u32 = 2;
    let (cgroup, program) = (cgroup.as_fd().as_raw_fd(), program.as_fd().as_raw_fd());
    let mut attributes = [cgroup as u32, program as u32, hook, ALLOW_MULTI];
    bpf(BPF_PROG_ATTACH, &mut attributes).map(drop)
}

/// bpf(2) BPF_PROG_DETACH: takes it away from that cgroup.
pub fn bpf_prog_detach(cgroup: impl AsFd, program: impl AsFd, hook: u32) -> Result<(), Errno> {
    let (cgroup, program) = (cgroup.as_fd().as_raw_fd(), program.as_fd().as_raw_fd());
    let mut attributes = [cgroup as u32, program as u32, hook, 0];
    bpf(BPF_PROG_DETACH, &mut attributes).map(drop)
}

/// bpf(2) BPF_PROG_QUERY, BPF_PROG_GET_FD_BY_ID: the programs attached to that very cgroup.
pub fn bpf_progs(cgroup: impl AsFd, hook: u32) -> Result<Vec<OwnedFd>, Errno> {
    #[repr(C)]
    struct Attributes {
        cgroup: u32,
        hook: u32,
        flags: [u32; 2],
        ids: u64,
        count: u32,
        end: u32,
    }
    let mut ids = [0u32; 64]; // the kernel attaches no more than these
    let mut attributes = Attributes {
        cgroup: cgroup.as_fd().as_raw_fd() as u32,
        hook,
        flags: [0, 0],
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        end: 0,
    };
    // The array outlives the call, and the kernel writes no more than `count` of it.
    bpf(BPF_PROG_QUERY, &mut attributes)?;
    let mut programs = vec![];
    for id in &ids[..attributes.count as usize] {
        programs.push(new_fd(bpf(BPF_PROG_GET_FD_BY_ID, &mut [*id, 0, 0])?)?);
    }
    Ok(programs)
}
