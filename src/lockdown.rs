//! What a command may do, as tables: capabilities, and refused system calls and arguments, of which
//! its filter is made, seccomp(2).

use crate::filter::{ALLOW, Answer, REFUSE, UNKNOWN, bpf, filter, load};
use libc::{
    AF_ALG, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK, BPF_JEQ, BPF_JMP,
    BPF_JSET, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID,
    CLONE_NEWUSER, CLONE_NEWUTS, F_SETLEASE, SYS_acct, SYS_add_key, SYS_bpf, SYS_chroot,
    SYS_clock_adjtime, SYS_clock_settime, SYS_clone, SYS_clone3, SYS_delete_module,
    SYS_fanotify_init, SYS_fcntl, SYS_finit_module, SYS_fsconfig, SYS_fsmount, SYS_fsopen,
    SYS_fspick, SYS_get_mempolicy, SYS_init_module, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_io_uring_setup, SYS_ioctl, SYS_kcmp, SYS_kexec_file_load, SYS_kexec_load, SYS_keyctl,
    SYS_lookup_dcookie, SYS_mbind, SYS_migrate_pages, SYS_mount, SYS_mount_setattr, SYS_move_mount,
    SYS_move_pages, SYS_mseal, SYS_open_by_handle_at, SYS_open_tree, SYS_perf_event_open,
    SYS_personality, SYS_pidfd_getfd, SYS_pivot_root, SYS_process_madvise, SYS_process_vm_readv,
    SYS_process_vm_writev, SYS_quotactl, SYS_quotactl_fd, SYS_reboot, SYS_request_key,
    SYS_set_mempolicy, SYS_set_mempolicy_home_node, SYS_setdomainname, SYS_sethostname, SYS_setns,
    SYS_settimeofday, SYS_socket, SYS_socketpair, SYS_swapoff, SYS_swapon, SYS_syslog, SYS_umount2,
    SYS_unshare, SYS_userfaultfd, SYS_vhangup, TIOCLINUX, TIOCSTI, c_int, c_long, sock_filter,
};
#[cfg(target_arch = "x86_64")]
use libc::{SYS__sysctl, SYS_ioperm, SYS_iopl, SYS_sysfs, SYS_uselib, SYS_ustat};
use std::collections::BTreeMap;

// ---- capabilities -------------------------------------------------------------------------------

/// The pieces of root's power in the order of their numbers, capabilities(7).
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// docker's choice, which is what package managers and servers need; less MKNOD, for a device node
/// of a disk is a door to the host.
pub const KEPT: [&str; 13] = [
    "CHOWN",        // files given to a server's user
    "DAC_OVERRIDE", // root reads and writes everybody's files
    "FOWNER",       // and changes their modes
    "FSETID",       // which may have a set-group-ID bit
    "KILL",         // ends its users' processes
    "SETGID",       // becomes another user, as servers do once they have started
    "SETUID",
    "SETPCAP",          // gives up some of this
    "NET_BIND_SERVICE", // ports below 1024
    "NET_RAW",          // ping
    "SYS_CHROOT",       // sshd and postfix lock themselves in
    "AUDIT_WRITE",      // su and sshd report who logs in
    "SETFCAP",          // packages with capabilities on their files
];

/// The bits of KEPT.
pub fn kept() -> u64 {
    KEPT.into_iter().filter_map(capability).sum()
}

/// No capability has this number.
pub const ALL: u64 = 1 << 63;

/// A capability as people write it, with CAP_ or without, in any case; or ALL.
pub fn capability(text: &str) -> Option<u64> {
    let text = text.to_ascii_uppercase();
    let name = text.strip_prefix("CAP_").unwrap_or(&text);
    if name == "ALL" {
        return Some(ALL);
    }
    let number = CAPABILITIES.iter().position(|known| *known == name)?;
    Some(1 << number)
}

// ---- system calls -------------------------------------------------------------------------------

pub const DAC_READ_SEARCH: u64 = 1 << 2;
pub const NET_ADMIN: u64 = 1 << 12;
pub const SYS_MODULE: u64 = 1 << 16;
pub const SYS_RAWIO: u64 = 1 << 17;
pub const SYS_CHROOT: u64 = 1 << 18;
pub const SYS_PTRACE: u64 = 1 << 19;
pub const SYS_PACCT: u64 = 1 << 20;
pub const SYS_ADMIN: u64 = 1 << 21;
pub const SYS_BOOT: u64 = 1 << 22;
pub const SYS_NICE: u64 = 1 << 23;
pub const SYS_TIME: u64 = 1 << 25;
pub const SYS_TTY_CONFIG: u64 = 1 << 26;
pub const LEASE: u64 = 1 << 28;
pub const SYSLOG: u64 = 1 << 34;
pub const PERFMON: u64 = 1 << 38;
pub const BPF: u64 = 1 << 39;
pub const NOBODY: u64 = 0; // no capability helps

// Their numbers are the same on all processors, but libc has no names for them.
const SYS_LSM_GET_SELF_ATTR: c_long = 459;
const SYS_LSM_SET_SELF_ATTR: c_long = 460;
const SYS_LSM_LIST_MODULES: c_long = 461;
const F_SETDELEG: c_int = 1040;

/// Capabilities, and system calls that answer EPERM to whoever has none of these. Many were a way
/// out once, or change what all containers share.
pub const REFUSED: &[(u64, &[c_long])] = &[
    // Mounts and namespaces: as root of a new user namespace a tenant reaches kernel code that was
    // written for the real root (CVE-2022-0185, CVE-2023-0386).
    (SYS_ADMIN, &[SYS_mount, SYS_umount2, SYS_pivot_root, SYS_unshare, SYS_setns]),
    (SYS_ADMIN, &[SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_move_mount]),
    (SYS_ADMIN, &[SYS_open_tree, SYS_mount_setattr]),
    // Settings of the machine's: quotas, swap, names; a watch over all its files.
    (SYS_ADMIN, &[SYS_quotactl, SYS_quotactl_fd, SYS_swapon, SYS_swapoff]),
    (SYS_ADMIN, &[SYS_sethostname, SYS_setdomainname, SYS_fanotify_init, SYS_lookup_dcookie]),
    // Which security modules the host has, and what they make of this process.
    (SYS_ADMIN, &[SYS_LSM_GET_SELF_ATTR, SYS_LSM_SET_SELF_ATTR, SYS_LSM_LIST_MODULES]),
    // A host's file by its number ("shocker", 2014).
    (DAC_READ_SEARCH, &[SYS_open_by_handle_at]),
    // Code in the kernel, programs in the kernel (CVE-2021-3490), another kernel.
    (SYS_MODULE, &[SYS_init_module, SYS_finit_module, SYS_delete_module]),
    (BPF | SYS_ADMIN, &[SYS_bpf]),
    (NOBODY, &[SYS_kexec_load, SYS_kexec_file_load]),
    (SYS_BOOT, &[SYS_reboot]),
    // A second root directory is the old way out of the first one.
    (SYS_CHROOT, &[SYS_chroot]),
    // Watches the host, and had many bugs (CVE-2023-6931).
    (PERFMON | SYS_ADMIN, &[SYS_perf_event_open]),
    // Everybody's clock; the host's log, with kernel addresses; the caller's terminal; a log of
    // everybody's processes.
    (SYS_TIME, &[SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime]),
    (SYSLOG | SYS_ADMIN, &[SYS_syslog]),
    (SYS_TTY_CONFIG, &[SYS_vhangup]),
    (SYS_PACCT, &[SYS_acct]),
    // Other processes' memory and files.
    (SYS_PTRACE, &[SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_kcmp]),
    (SYS_PTRACE, &[SYS_process_madvise]),
    // Takes memory from others on machines with several memory nodes.
    (SYS_NICE, &[SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy, SYS_move_pages]),
    (SYS_NICE, &[SYS_migrate_pages, SYS_set_mempolicy_home_node]),
    // Keys: those of the host's root (CVE-2016-0728).
    (NOBODY, &[SYS_keyctl, SYS_add_key, SYS_request_key]),
    // Stops the kernel at will: a help for most exploits of races.
    (NOBODY, &[SYS_userfaultfd]),
    // A second way into the kernel, past this filter, with many bugs (CVE-2022-29582).
    (NOBODY, &[SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register]),
    // The hardware itself.
    #[cfg(target_arch = "x86_64")]
    (SYS_RAWIO, &[SYS_iopl, SYS_ioperm]),
    // Only attackers still use them.
    #[cfg(target_arch = "x86_64")]
    (NOBODY, &[SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl]),
];

/// What an argument must not be.
pub enum Bad {
    Equal(c_int),
    AnyBit(c_int),
    OtherThan(&'static [c_int]),
}

/// What programs use between each other, with the network and with the kernel.
const FAMILIES: &[c_int] = &[AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET];

/// Linux, with 32 bits, as version 2.6, with both; and the question which it is.
const PERSONALITIES: &[c_int] = &[0, 0x8, 0x2_0000, 0x2_0008, -1];

const NAMESPACES: c_int = CLONE_NEWCGROUP
    | CLONE_NEWIPC
    | CLONE_NEWNET
    | CLONE_NEWNS
    | CLONE_NEWPID
    | CLONE_NEWUSER
    | CLONE_NEWUTS;

/// The same for one argument: capabilities, the call, which of its arguments, what it must not be.
/// Of each only the low half counts: for the kernel, too, these are integers of 32 bits.
pub const REFUSED_ARGUMENTS: &[(u64, c_long, u32, Bad)] = &[
    (SYS_ADMIN, SYS_clone, 0, Bad::AnyBit(NAMESPACES)), // as unshare
    // Whoever opens that file next, or changes that directory, waits for 45 s.
    (LEASE, SYS_fcntl, 1, Bad::Equal(F_SETLEASE)),
    (LEASE, SYS_fcntl, 1, Bad::Equal(F_SETDELEG)),
    // Memory at address 0, memory that is code as soon as it can be read: a help for exploits.
    (SYS_PTRACE, SYS_personality, 0, Bad::OtherThan(PERSONALITIES)),
    // Typing into the caller's terminal (CVE-2017-5226), the same on a console (CVE-2023-28100).
    (NOBODY, SYS_ioctl, 1, Bad::Equal(TIOCSTI as c_int)),
    (NOBODY, SYS_ioctl, 1, Bad::Equal(TIOCLINUX as c_int)),
    // Past the network namespace, to the hypervisor; into the kernel's cryptography, a way to
    // root (CVE-2026-31431).
    (NOBODY, SYS_socket, 0, Bad::Equal(AF_VSOCK)),
    (NOBODY, SYS_socket, 0, Bad::Equal(AF_ALG)),
    // The kernel loads a module for whoever asks for a family, and the rare ones are looked at
    // rarely (CVE-2021-43267).
    (NET_ADMIN, SYS_socket, 0, Bad::OtherThan(FAMILIES)),
    (NOBODY, SYS_socketpair, 0, Bad::OtherThan(&[AF_UNIX])),
];

/// Above it are only calls newer than these tables, and those of the x32 ABI.
pub const LAST_CALL: u32 = SYS_mseal as u32;

/// The filter for a command that has these capabilities.
pub fn seccomp_filter(capabilities: u64) -> Vec<sock_filter> {
    filter(answers(capabilities), ALLOW, LAST_CALL, REFUSE)
}

/// The calls that are not simply allowed.
fn answers(capabilities: u64) -> BTreeMap<u32, Answer> {
    let lacks = |any_of: u64| capabilities & any_of == 0;
    let mut answers = BTreeMap::new();
    for (any_of, calls) in REFUSED {
        if lacks(*any_of) {
            for call in *calls {
                answers.insert(*call as u32, vec![REFUSE]);
            }
        }
    }
    if lacks(SYS_ADMIN) {
        // Its flags are in memory, out of the filter's sight. libc falls back to clone.
        answers.insert(SYS_clone3 as u32, vec![UNKNOWN]);
    }
    for (any_of, call, argument, bad) in REFUSED_ARGUMENTS {
        if lacks(*any_of) {
            let otherwise = answers.remove(&(*call as u32)).unwrap_or(vec![ALLOW]);
            let checked = [check(*argument, bad), otherwise].concat();
            answers.insert(*call as u32, checked);
        }
    }
    answers
}

/// Refuses a bad argument, or goes on behind.
fn check(argument: u32, bad: &Bad) -> Vec<sock_filter> {
    let mut check = vec![load(16 + 8 * argument)];
    match bad {
        Bad::Equal(value) => check.push(bpf(BPF_JMP | BPF_JEQ, *value as u32, 0, 1)),
        Bad::AnyBit(bits) => check.push(bpf(BPF_JMP | BPF_JSET, *bits as u32, 0, 1)),
        Bad::OtherThan(values) => {
            // A good one jumps over the others and the refusal.
            let mut skipped = values.len() as u8;
            for value in *values {
                check.push(bpf(BPF_JMP | BPF_JEQ, *value as u32, skipped, 0));
                skipped -= 1;
            }
        }
    }
    check.push(REFUSE);
    check
}
