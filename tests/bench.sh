#!/bin/bash
# bench.sh [--quick]: husk's start times and memory beside other ways to run a command in a root file
# system, as a table in Markdown on stdout. HUSK names the binary, HUSK_ROOTFS the root file system.
#
# It makes a host of its own: network, mount, host name and cgroup namespaces, and a cgroup subtree.
# The machine's own interfaces, rules and mounts stay as they are. Only docker works outside of it.

set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../rootfs-scripts/common.sh
. "$here/../rootfs-scripts/common.sh"

rounds=40 runs=5 points="1 10 100 500" steps=200
case "${1:-}" in
    --quick) rounds=8 runs=3 points="1 10 50 100" steps=40 ;;
    '') ;;
    *) die "usage: ${0##*/} [--quick]" ;;
esac

# ------------------------------------------------------------------------------------- our own host

if [ -z "${BENCH_DIR:-}" ]; then
    [ "$(id -u)" = 0 ] || die "needs root: sudo $0"
    host=$(uname -m)-unknown-linux-gnu
    HUSK=$(realpath "${HUSK:-$here/../target/$host/release/husk}")
    [ -x "$HUSK" ] || die "there is no $HUSK yet: type make first"
    need hyperfine crun bwrap:bubblewrap unshare:util-linux ip:iproute2 iptables python3 cc:build-essential
    rootfs=${HUSK_ROOTFS:-$here/../target/rootfs/busybox}
    [ -d "$rootfs" ] || "$here/../rootfs-scripts/busybox.sh" "$rootfs"
    top=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
    [ -n "$top" ] || die "no cgroup2 is mounted"

    BENCH_DIR=$(mktemp -d)
    own=$top/husk-bench-$$
    image=husk-bench-$$
    # shellcheck disable=SC2317 # the trap calls it
    clean_up() {
        cd /
        # Everything that was started here, were it still alive.
        [ ! -e "$own/cgroup.kill" ] || echo 1 >"$own/cgroup.kill"
        for _ in $(seq 100); do
            [ -d "$own" ] || break
            find "$own" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
        done
        ! grep -qs docker "$BENCH_DIR/image" || docker rmi "$image" >/dev/null
        rm -rf --one-file-system "$BENCH_DIR"
    }
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -p "$own/runner"

    # docker's daemon is outside; for what it starts this cgroup and these namespaces mean nothing.
    if docker version >/dev/null 2>&1; then
        echo docker >"$BENCH_DIR/image"
        tar -C "$rootfs" -c . | docker import - "$image" >/dev/null
    fi
    export BENCH_DIR HUSK HUSK_ROOTFS="$rootfs" image own
    # shellcheck disable=SC2016 # expanded in there
    bash -c 'echo 0 >"$own/cgroup.procs" && exec unshare -mnuC --propagation private "$@"' \
        bench "$BASH" "$0" "$@"
    exit
fi

# In our own mount namespace our cgroup takes the place of the whole tree, where crun wants it.
mkdir "$BENCH_DIR/cgroup"
mount --bind "$own" "$BENCH_DIR/cgroup"
umount --recursive --lazy /sys/fs/cgroup
mount --move "$BENCH_DIR/cgroup" /sys/fs/cgroup
echo 0 >/sys/fs/cgroup/runner/cgroup.procs # only a cgroup without processes has children with limits
ip link set lo up
cd "$BENCH_DIR"
# So that husk's sentences of a whole run fit into a socket's queue.
echo 1000 >/proc/sys/net/unix/max_dgram_qlen
ln -s "$HUSK" husk
ln -s "$(realpath "$HUSK_ROOTFS")" rootfs

# --------------------------------------------------------------------------------- the helper in C

# `helper rss COMMAND` prints the most memory, in KiB, that the command or a process that it waited
# for has had resident. (A process begins with the peak of the one that forks it, so that one must
# be small.) `helper walk ROOTFS` goes husk's way by the bare system calls, without looking left or
# right, and tells when each section began: what the kernel itself takes.
cat >helper.c <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DO(call) ({ long r_ = (long)(call); if (r_ < 0) { perror(#call); _exit(125); } r_; })

static struct { int n; struct { char who, section; struct timespec at; } mark[40]; } *seen;

static void section(char who, char number) {
    int n = __atomic_fetch_add(&seen->n, 1, __ATOMIC_SEQ_CST);
    seen->mark[n].who = who, seen->mark[n].section = number;
    clock_gettime(CLOCK_REALTIME, &seen->mark[n].at);
}

static struct { struct nlmsghdr h; char body[1000]; } m;
static void *put(const void *data, int size) {
    void *at = (char *)&m + m.h.nlmsg_len;
    if (size) memcpy(at, data, size);
    m.h.nlmsg_len += NLMSG_ALIGN(size);
    return at;
}
static void begin(int type, int flags, const void *body, int size) {
    memset(&m, 0, sizeof m);
    m.h = (struct nlmsghdr){.nlmsg_len = 16, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};
    put(body, size);
}
static struct rtattr *attribute(int type, const void *data, int size) {
    struct rtattr *a = put(&(struct rtattr){4 + size, type}, 4);
    put(data, size);
    return a;
}
static void end(struct rtattr *a) { a->rta_len = (char *)&m + m.h.nlmsg_len - (char *)a; }
static int talk(int fd) {
    static union { struct nlmsghdr h; char bytes[8192]; } answer;
    DO(send(fd, &m, m.h.nlmsg_len, 0));
    DO(recv(fd, &answer, sizeof answer, 0));
    if (answer.h.nlmsg_type != NLMSG_ERROR) return ((struct ifinfomsg *)NLMSG_DATA(&answer))->ifi_index;
    errno = -((struct nlmsgerr *)NLMSG_DATA(&answer))->error;
    return errno ? -1 : 0;
}
static int find(int fd, const char *name) {
    begin(RTM_GETLINK, 0, &(struct ifinfomsg){0}, sizeof(struct ifinfomsg));
    attribute(IFLA_IFNAME, name, strlen(name) + 1);
    return DO(talk(fd));
}
static void up(int fd, int index) {
    begin(RTM_NEWLINK, NLM_F_ACK, &(struct ifinfomsg){.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP},
        sizeof(struct ifinfomsg));
    DO(talk(fd));
}

static void network_outside(int child, int number) {
    int fd = DO(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), bridge = find(fd, "husk0");
    int pid = getpid();
    char name[IFNAMSIZ];
    DO(unshare(CLONE_NEWNET));
    DO(send(child, "", 1, 0));
    snprintf(name, sizeof name, "bare%d", number);
    begin(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        &(struct ifinfomsg){.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, sizeof(struct ifinfomsg));
    attribute(IFLA_IFNAME, name, strlen(name) + 1);
    attribute(IFLA_MASTER, &bridge, 4);
    struct rtattr *link = attribute(IFLA_LINKINFO, 0, 0);
    attribute(IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = attribute(IFLA_INFO_DATA, 0, 0), *peer = attribute(1, 0, 0);
    put(&(struct ifinfomsg){0}, sizeof(struct ifinfomsg));
    attribute(IFLA_IFNAME, "eth0", 5);
    attribute(IFLA_NET_NS_PID, &pid, 4);
    end(peer), end(data), end(link);
    DO(talk(fd));
    close(fd);
}

static void network_inside(int number) {
    int fd = DO(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), eth0 = find(fd, "eth0");
    unsigned address = htonl(0x0a4d0000 + number), gateway = htonl(0x0a4d0001);
    int make = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    up(fd, 1);
    begin(RTM_NEWADDR, make, &(struct ifaddrmsg){AF_INET, 16, 0, 0, eth0}, sizeof(struct ifaddrmsg));
    attribute(IFA_LOCAL, &address, 4);
    DO(talk(fd));
    up(fd, eth0);
    begin(RTM_NEWROUTE, make, &(struct rtmsg){.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_BOOT, .rtm_type = RTN_UNICAST}, sizeof(struct rtmsg));
    attribute(RTA_GATEWAY, &gateway, 4);
    DO(talk(fd));
    close(fd);
}

static void bind_on(const char *from, const char *to, int flags) {
    DO(mount(from, to, 0, MS_BIND, 0));
    if (flags) DO(mount(0, to, 0, MS_BIND | MS_REMOUNT | flags, 0));
}

static void root_file_system(const char *rootfs, int parent, int pidfd) {
    const int none = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    char path[99], go;
    DO(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
    DO(chdir(rootfs));
    DO(mount("scratch", rootfs, "tmpfs", MS_NODEV, "mode=755"));
    int scratch = DO(open(rootfs, O_PATH | O_CLOEXEC));
    const char *dirs[] = {"upper", "work", "root", "empty"};
    for (int i = 0; i < 4; i++) DO(mkdirat(scratch, dirs[i], 0755));
    // The upper layer's path leads to the tmpfs, which hides ROOTFS; "." is still ROOTFS.
    char *root, *layers;
    DO(asprintf(&root, "%s/root", rootfs));
    DO(asprintf(&layers, "lowerdir=.,upperdir=%s/upper,workdir=%s/work", rootfs, rootfs));
    DO(mount("overlay", root, "overlay", MS_NODEV, layers));
    DO(chdir(root));
    const char *files[] = {"hostname", "resolv.conf", "hosts"};
    for (int i = 0; i < 3; i++) {
        int fd = DO(openat(scratch, files[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
        DO(write(fd, "husk\n", 5));
        close(fd);
        char *from;
        DO(asprintf(&from, "%s/%s", rootfs, files[i]));
        snprintf(path, sizeof path, "etc/%s", files[i]);
        bind_on(from, path, 0);
    }
    DO(mount("proc", "proc", "proc", none, 0));
    DO(mount("tmpfs", "dev", "tmpfs", none, "mode=755"));
    const char *nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
    for (int i = 0; i < 6; i++) {
        char from[20];
        snprintf(from, sizeof from, "/dev/%s", nodes[i]);
        close(DO(open(from + 1, O_CREAT | O_WRONLY | O_CLOEXEC, 0644)));
        bind_on(from, from + 1, MS_RDONLY | MS_NOSUID | MS_NOEXEC);
    }
    const char *more[] = {"dev/pts", "dev/shm", "dev/mqueue"};
    for (int i = 0; i < 3; i++) DO(mkdir(more[i], 0755));
    DO(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=666,mode=620"));
    DO(mount("shm", "dev/shm", "tmpfs", none, "mode=1777"));
    DO(mount("mqueue", "dev/mqueue", "mqueue", none, 0));
    DO(recv(parent, &go, 1, 0));
    DO(setns(pidfd, CLONE_NEWNET));
    DO(mount("sysfs", "sys", "sysfs", none | MS_RDONLY, 0));
    DO(mount("cgroup", "sys/fs/cgroup", "cgroup2", none | MS_RDONLY, 0));
    const char *links[] = {"/proc/self/fd", "dev/fd", "/proc/self/fd/0", "dev/stdin", "/proc/self/fd/1",
        "dev/stdout", "/proc/self/fd/2", "dev/stderr", "pts/ptmx", "dev/ptmx"};
    for (int i = 0; i < 10; i += 2) DO(symlink(links[i], links[i + 1]));
    const char *masked[] = {"proc/interrupts", "proc/kcore", "proc/keys", "proc/timer_list"};
    for (int i = 0; i < 4; i++)
        if (!access(masked[i], F_OK)) bind_on("/dev/null", masked[i], MS_RDONLY | MS_NOSUID | MS_NOEXEC);
    const char *shown[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys"};
    for (int i = 0; i < 4; i++) bind_on(shown[i], shown[i], none | MS_RDONLY);
    DO(syscall(SYS_pivot_root, ".", "."));
    DO(umount2(".", MNT_DETACH));
}

static void lock_down(void) {
    const unsigned long long keep = 0xa00425fb;
    for (int i = 0; i < 41; i++)
        if (!(keep >> i & 1)) prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    unsigned head[] = {0x20080522, 0}, sets[] = {keep, keep, 0, 0, 0, 0};
    DO(syscall(SYS_capset, head, sets));
    DO(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    DO(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    // As many comparisons as husk has: the kernel tries the filter on each number of a system call.
    struct sock_filter f[161] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
    for (int i = 0; i < 79; i++) {
        f[1 + 2 * i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1000 + i, 0, 1);
        f[2 + 2 * i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    f[159] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    DO(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &(struct sock_fprog){160, f}));
}

static int walk(char **argv) {
    const char *rootfs = argv[2];
    const unsigned flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC;
    int pidfd = DO(syscall(SYS_pidfd_open, getpid(), 0));
    seen = mmap(0, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int number = 2 + getpid() % 60000, status, both[2];
    char cgroup[60], go;
    section('p', '1');
    snprintf(cgroup, sizeof cgroup, "/sys/fs/cgroup/bare/%d", number);
    mkdir("/sys/fs/cgroup/bare", 0700);
    DO(mkdir(cgroup, 0700));
    struct { unsigned long long flags, pidfd, ctid, ptid, signal, s[5], cgroup; } clone = {
        .flags = flags | 0x200000000ull, .signal = SIGCHLD, .cgroup = DO(open(cgroup, O_RDONLY | O_CLOEXEC))};
    section('p', '2');
    DO(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, both));
    int pid = DO(syscall(SYS_clone3, &clone, sizeof clone));
    if (!pid) {
        close(both[0]);
        DO(unshare(CLONE_NEWCGROUP));
        section('c', '4');
        DO(sethostname("husk", 4));
        section('c', '5');
        root_file_system(rootfs, both[1], pidfd);
        DO(recv(both[1], &go, 1, 0));
        section('c', '7');
        lock_down();
        section('c', '8');
        execl("/bin/true", "true", (char *)0);
        _exit(127);
    }
    section('p', '3');
    network_outside(both[0], number);
    section('p', '6');
    network_inside(number);
    section('p', 'g');
    DO(send(both[0], "", 1, 0));
    DO(waitpid(pid, &status, 0));
    DO(rmdir(cgroup));
    for (int i = 0; i < seen->n; i++)
        printf("%c %c %ld%09ld\n", seen->mark[i].who, seen->mark[i].section,
            seen->mark[i].at.tv_sec, seen->mark[i].at.tv_nsec);
    return status ? 1 : 0;
}

int main(int argc, char **argv) {
    if (argc > 2 && !strcmp(argv[1], "walk")) return walk(argv);
    struct rusage used;
    int status;
    pid_t pid = vfork();
    if (!pid) {
        dup2(open("/dev/null", O_RDWR), 1);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    DO(wait4(pid, &status, 0, &used));
    printf("%ld\n", used.ru_maxrss);
    return status ? 1 : 0;
}
C
cc -O2 -static -w -o helper helper.c || die "cc can't build the helper"

# ----------------------------------------------------------------------------------- the contestants

# words NAME COMMAND [ARG]...: sets `words` to what starts the command in NAME's kind of container.
words() {
    local name=$1
    shift
    case $name in
        husk*) words=(./husk run) && [ "$name" = husk ] || words+=(--network "${name#*network }") ;
            words+=(rootfs "$@") ;;
        crun | runc | youki) words=("$name" --root "$BENCH_DIR/state-$name" run --bundle "$(bundle "$@")" bench) ;;
        bwrap*) words=(bwrap --unshare-all --bind rootfs / --proc /proc --dev /dev "$@") ;;
        unshare*) words=(unshare -mpnuiCf --mount-proc --root=rootfs "$@") ;;
        docker) words=(docker run --rm "$image" "$@") ;;
        fork*) words=("./rootfs$1" "${@:2}") ;;
    esac
}

# A bundle for the runtimes of the OCI kind: runc's own default, less what a machine without
# CAP_SYS_RESOURCE refuses (rlimits, and the device rules, which are a BPF program).
bundle() {
    local dir
    dir=$BENCH_DIR/bundle-$(cksum <<<"$*" | cut -d' ' -f1)
    if [ ! -d "$dir" ]; then
        mkdir "$dir"
        (cd "$dir" && { crun spec || runc spec; } && python3 - "$@" <<'PYTHON'
import json, os, sys
config = json.load(open("config.json"))
config["process"].update(args=sys.argv[1:], terminal=False)
config["process"].pop("rlimits", None)
config["linux"].pop("resources", None)
config["root"]["path"] = os.path.realpath("../rootfs")
json.dump(config, open("config.json", "w"))
PYTHON
        ) >&2
    fi
    echo "$dir"
}

# What a container says about itself: its PID, its namespaces, and how much of root it has.
# shellcheck disable=SC2016 # expanded in there
probe='echo me $$; for n in cgroup ipc mnt net pid user uts; do echo $n $(readlink /proc/self/ns/$n); done
while read -r key value rest; do case $key in CapEff: | Seccomp:) echo $key $value;; esac; done </proc/self/status
while read -r what dir type rest; do [ $dir != / ] || echo root $type; done </proc/mounts
while read -r name rest; do case $name in eth0:*) echo eth0;; esac; done </proc/net/dev'

all=(husk "husk --network none" "husk --network host" crun runc youki "bwrap --unshare-all"
    "unshare -mpnuiCf --mount-proc" docker "fork and exec")
contestants=()
for name in "${all[@]}"; do
    program=${name%% *}
    case $program in
        husk | fork) ;;
        docker) [ -e image ] || { say "leaving out docker: it does not answer" && continue; } ;;
        *) command -v "$program" >/dev/null || { say "leaving out $program: not installed" && continue; } ;;
    esac
    # It must run the very command: true succeeds, false fails with 1, and a script tells where it is.
    words "$name" /bin/true
    if ! timeout 20 "${words[@]}" </dev/null >log 2>&1; then
        reason="$name can't run /bin/true here: $(head -c 300 log | tr '\n' ' ')"
        [ "$program" != husk ] || die "$reason"
        say "leaving it out: $reason"
        continue
    fi
    words "$name" /bin/false
    status=0
    timeout 20 "${words[@]}" </dev/null >log 2>&1 || status=$?
    [ $status = 1 ] || { say "leaving out $name: /bin/false gave status $status" && continue; }
    words "$name" /bin/sh -c "$probe"
    if [ "$program" != fork ]; then
        timeout 20 "${words[@]}" </dev/null >"probe-${#contestants[@]}" 2>log || die "$name: $(cat log)"
        [ "$(sed -n 's/^me //p' "probe-${#contestants[@]}")" -le 2 ] || die "$name: no PID namespace"
    fi
    contestants+=("$name")
done

# ----------------------------------------------------------------------------------------- start time

load=$(cut -d' ' -f1 /proc/loadavg)
for ((round = 0; round < rounds; round++)); do
    [ $((round % 10)) != 0 ] || say "start times: round $((round + 1)) of $rounds"
    arguments=()
    for ((i = 0; i < ${#contestants[@]}; i++)); do
        # Each round begins with another one, so that nobody always follows the same neighbour.
        name=${contestants[(i + round) % ${#contestants[@]}]}
        [ "$name" != docker ] || continue
        words "$name" /bin/true
        arguments+=(--command-name "$name" "$(printf '%q ' "${words[@]}")")
    done
    timeout 300 hyperfine --shell=none --warmup 1 --runs $runs --style none --export-json "times-$round.json" \
        "${arguments[@]}" >log 2>&1 || die "hyperfine: $(cat log)"
done
if printf '%s\n' "${contestants[@]}" | grep -qx docker; then
    words docker /bin/true
    timeout 300 hyperfine --shell=none --warmup 1 --runs $((2 * runs)) --style none --export-json times-docker.json \
        --command-name docker "$(printf '%q ' "${words[@]}")" >log 2>&1 || die "hyperfine: $(cat log)"
fi
for i in "${!contestants[@]}"; do
    words "${contestants[i]}" /bin/true
    # docker's memory is its daemon's.
    [ "${contestants[i]}" = docker ] || for _ in 1 2 3; do ./helper rss "${words[@]}" >>"rss-$i"; done
    echo "${contestants[i]}" >>names
done

version() { "$@" 2>/dev/null | head -n 1 | grep -o '[0-9][0-9.a-z+~-]*[0-9a-z]' | head -n 1; }
versions="husk $(version ./husk --version)"
for name in crun runc youki bwrap unshare docker hyperfine; do
    ! command -v $name >/dev/null || versions+=", $name $(version $name --version)"
done

python3 - "$load" "$versions" <<'PYTHON'
import datetime, glob, json, os, platform, statistics, sys

names = open("names").read().splitlines()
times = {name: [] for name in names}
for file in glob.glob("times-*.json"):
    for result in json.load(open(file))["results"]:
        times[result["command"]] += result["times"]

def sets_up(i):
    if not os.path.exists(f"probe-{i}"):
        return "nothing"
    lines = dict(line.split(maxsplit=1) for line in open(f"probe-{i}") if " " in line)
    kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
    new = sum(lines[kind].strip() != os.readlink(f"/proc/self/ns/{kind}") for kind in kinds)
    held = bin(int(lines["CapEff:"], 16)).count("1")
    own = bin(int(next(l for l in open("/proc/self/status") if l.startswith("CapEff"))[7:], 16)).count("1")
    parts = [f"{new} namespaces"]
    parts += ["eth0"] if "eth0\n" in open(f"probe-{i}").read() else []
    parts += ["overlay"] if lines.get("root", "").strip() == "overlay" else []
    parts += [f"{held} capabilities"] if held < own else []
    parts += ["seccomp"] if lines["Seccomp:"].strip() == "2" else []
    return ", ".join(parts)

cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
memory = int(open("/proc/meminfo").readline().split()[1]) / 2**20
virtual = " virtual" if "hypervisor" in open("/proc/cpuinfo").read() else ""
print(f"{datetime.date.today()}, a{virtual} machine with {os.cpu_count()} cores of {cpu}, {memory:.0f} GiB,")
print(f"Linux {platform.release()}, load at the start {sys.argv[1]}; {sys.argv[2]}.\n")
husk = statistics.median(times["husk"])
print("| `/bin/true` in the same root file system | median | min | × husk | peak memory | sets up |")
print("| --- | ---: | ---: | ---: | ---: | --- |")
for i, name in enumerate(names):
    middle, least = statistics.median(times[name]), min(times[name])
    peak = f"{statistics.median(map(int, open(f'rss-{i}'))) / 1024:.1f} MiB" if os.path.exists(f"rss-{i}") else "its daemon's"
    print(f"| {name} | {middle * 1e3:.2f} ms | {least * 1e3:.2f} ms | {middle / husk:.2f} | {peak} | {sets_up(i)} |")
missing = sorted({"crun", "runc", "youki", "bwrap", "unshare", "docker"} - {name.split()[0] for name in names})
if missing:
    print(f"\nNot installed here, or not able to run the command: {', '.join(missing)}.")
middle = {name.split(" -m")[0]: statistics.median(times[name]) for name in names}
print("\nhusk takes", end=" ")
ratios = [f"{middle['husk'] / middle[other]:.2f} × {other}" for other in ["crun", "bwrap --unshare-all", "runc"] if other in middle]
ratios += [f"and with `--network none` {middle['husk --network none'] / middle['unshare']:.2f} × unshare"] if "unshare" in middle else []
print(", ".join(ratios) + ".")
PYTHON

# --------------------------------------------------------------------------------------------- scale

available() { awk '/^MemAvailable/ { print $2 }' /proc/meminfo; }
# settle: the kernel takes dead network namespaces apart one by one; wait until no veth is left
# of those who do not live.
settle() {
    for _ in $(seq 300); do
        [ "$(ip -o link show type veth 2>/dev/null | wc -l)" -gt "$1" ] || return 0
        sleep 0.1
    done
}

alive=0
names=()
settle 0
before=$(available)
for point in $points; do
    say "start latency of container number $point"
    while [ $alive -lt $((point - 1)) ]; do
        alive=$((alive + 1))
        ./husk run -d --name "bench-$alive" rootfs sleep 100000 >/dev/null
        names+=("bench-$alive")
    done
    settle $alive
    # With a pause, in which the kernel takes the run before apart: that is no part of a start.
    timeout 300 hyperfine --shell=none --warmup 1 --runs $((8 * runs)) --prepare "sleep 0.05" \
        --style none --export-json "scale-$point.json" \
        --command-name bridge "./husk run rootfs /bin/true" \
        --command-name none "./husk run --network none rootfs /bin/true" >log 2>&1 ||
        die "hyperfine: $(cat log)"
done
detached=$((before - $(available)))
processes() { xargs -I PID cat /proc/PID/comm </sys/fs/cgroup/runner/cgroup.procs 2>/dev/null | grep -c '^husk$' || :; }
left=$(processes)
[ ${#names[@]} = 0 ] || ./husk stop -t 0 "${names[@]}" >/dev/null

foreground=20
waiting=()
for ((i = 0; i < foreground; i++)); do
    ./husk run --name "bench-$i" rootfs sleep 100000 </dev/null >/dev/null &
    waiting+=($!)
done
for _ in $(seq 100); do
    [ "$(grep -c . <(cat /sys/fs/cgroup/husk/*/cgroup.procs))" -lt $foreground ] || break
    sleep 0.1
done
sleep 0.5
for pid in "${waiting[@]}"; do
    awk -v OFS=' ' '/^RssAnon|^VmRSS/ { v[$1] = $2 } END { print v["RssAnon:"], v["VmRSS:"] }' "/proc/$pid/status"
done >waiting
names=()
for ((i = 0; i < foreground; i++)); do names+=("bench-$i"); done
./husk stop -t 0 "${names[@]}" >/dev/null
wait "${waiting[@]}" || : # killed

python3 - "$points" "$detached" "$alive" "$left" <<'PYTHON'
import json, statistics, sys
points, detached, alive, left = sys.argv[1].split(), *map(int, sys.argv[2:])
print("\n| `husk run` of the ... container alive, 50 ms after another has ended | median | × the 1st | with `--network none` | × the 1st |")
print("| ---: | ---: | ---: | ---: | ---: |")
first = None
for point in points:
    now = [statistics.median(r["times"]) for r in json.load(open(f"scale-{point}.json"))["results"]]
    first = first or now
    print(f"| {int(point):,}. | {now[0] * 1e3:.2f} ms | {now[0] / first[0]:.2f} "
          f"| {now[1] * 1e3:.2f} ms | {now[1] / first[1]:.2f} |")
anonymous, resident = (statistics.median(column) for column in
    zip(*[map(int, line.split()) for line in open("waiting")]))
print("\n| a living container | husk processes | RssAnon of each | Rss of each |")
print("| --- | ---: | ---: | ---: |")
print(f"| in the foreground | 1 | {anonymous:.0f} KiB | {resident:.0f} KiB |")
print(f"| detached | {left / max(alive, 1):.0f} | - | - |")
print(f"\nThe kernel and `sleep` itself take {detached / max(alive, 1):.0f} KiB per container (change of MemAvailable).")
PYTHON

# ------------------------------------------------------------------------- where husk's own time goes

# husk's --explain writes a line just before each step. Into a socket that has the kernel note when
# each line was sent, and by whom, while nobody reads: that costs a microsecond or two per line.
say "where husk's time goes: $steps runs"
settle 0
python3 - $steps "$(realpath rootfs)" <<'PYTHON'
import os, re, socket, statistics, struct, sys, time
rounds, rootfs = int(sys.argv[1]), sys.argv[2]
SO_TIMESTAMPNS = 35
KEYS = ["start", "1", "2", "3", "4", "5", "6", "7", "8", "end"]

def spawn(command, out, err):
    start = time.time_ns()
    actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
    status = os.waitpid(os.posix_spawn(command[0], command, os.environ, file_actions=actions), 0)[1]
    if status:
        sys.exit(f"{command}: status {status}")
    return start, time.time_ns()

def husk(null):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    start, end = spawn(["./husk", "run", "--explain", "rootfs", "/bin/true"], null, theirs.fileno())
    theirs.close()
    ours.setblocking(False)
    lines, parent = [], None
    while True:
        try:
            text, notes, _, _ = ours.recvmsg(8192, 512)
        except BlockingIOError:
            break
        if not text:
            break
        notes = {kind: data for _, kind, data in notes}
        seconds, nanoseconds = struct.unpack("qq", notes[SO_TIMESTAMPNS])
        pid = struct.unpack("iii", notes[socket.SCM_CREDENTIALS])[0]
        parent = parent or pid
        lines.append(("p" if pid == parent else "c", text.decode().strip(), seconds * 10**9 + nanoseconds))
    begun = {"start": start, "end": end}
    slow, last = {}, {}
    gone = next((at for who, text, at in lines if who == "c" and text.startswith("8. ")), end)
    for who, text, at in lines:
        title = re.match(r"(\d)\. ", text)
        waited = who == "p" and at > gone  # for the container's end
        if who in last and not waited and not re.match(r"\d\. ", last[who][0]):
            name = re.sub(r"\b[0-9a-f]{8}\b|husk\d+|fd/\d+|\b\d{3,}\b|10\.77\.\d+\.\d+", "N", last[who][0])
            slow[name] = slow.get(name, 0) + at - last[who][1]
        last[who] = (text, at)
        if title and (who, title[1]) not in (("c", "2"),):
            begun.setdefault(title[1], at)
        if text.endswith("sendto (the child may go on)"):
            begun["g"] = at
    return begun, slow

def bare(null):
    reader, writer = os.pipe()
    start, end = spawn(["./helper", "walk", rootfs], writer, 2)
    os.close(writer)
    begun = {"start": start, "end": end}
    with os.fdopen(reader) as lines:
        for line in lines:
            _, section, at = line.split()
            begun[section] = int(at)
    return begun

def took(runs):
    # The parent: start, 1, 2, 3, 6; the child: from 2 on 4, 5, 7, 8. Each lasts until the next begins.
    pairs = [("start", "1"), ("1", "2"), ("2", "4"), ("3", "6"), ("4", "5"), ("5", "7"), ("6", "g"), ("7", "8"), ("8", "end"), ("start", "end")]
    return {a + b: statistics.median((r[b] - r[a]) / 1e3 for r in runs if a in r and b in r) for a, b in pairs}

null = os.open("/dev/null", os.O_RDWR)
ours, theirs, slow = [], [], {}
husk(null)
for _ in range(rounds):
    begun, steps = husk(null)
    ours.append(begun)
    for name, time_taken in steps.items():
        slow.setdefault(name, []).append(time_taken / 1e3)
    theirs.append(bare(null))
a, b = took(ours), took(theirs)
rows = [("start1", "0. its own start, the command line"), ("12", "1. cgroup"),
    ("24", "2. clone, until the child runs"), ("36", "3. network, the host's side (while 4 and 5 go on)"),
    ("45", "4. hostname"), ("57", "5. root file system, and waiting for 3 and 6"),
    ("6g", "6. network, the container's side (while 5 goes on)"),
    ("78", "7. lock-down"), ("8end", "8. exec, /bin/true, its end, clean-up"), ("startend", "all")]
print("\n| where the time goes, medians | husk | bare system calls |")
print("| --- | ---: | ---: |")
for key, title in rows:
    print(f"| {title} | {a[key]:.0f} µs | {b[key]:.0f} µs |")
print("\nThe longest steps of husk, by the lines of `--explain` (a step lasts until the same process's next):\n")
print("| step | median |")
print("| --- | ---: |")
longest = sorted(((statistics.median(v), k) for k, v in slow.items() if len(v) > rounds / 2), reverse=True)
for time_taken, name in longest[:10]:
    print(f"| `{name.replace('|', '/')[:100]}` | {time_taken:.0f} µs |")
PYTHON
