#!/bin/bash
# bench.sh [--quick]: husk's start times and memory beside other ways to run a command in a root file
# system, as tables in Markdown: between the marks of docs/benchmark.md, or with --quick on stdout.
#
#   HUSK         the binary
#   HUSK_OCI     the appendix's (where `make oci` has put it); without it, it is left out
#   BASE         an older husk to compare with: its full path; without it, it is left out
#   HUSK_ROOTFS  the root file system
#
# It makes a host of its own: network, mount, host name and cgroup namespaces, and a cgroup subtree.
# The machine's own interfaces, rules and mounts stay as they are. Only docker works outside of it.

set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../rootfs-scripts/common.sh
. "$here/../rootfs-scripts/common.sh"

rounds=300 runs=5 points="1 10 100 500" starts=400 repeats=5 steps=200 copies=5 megabytes=200
case "${1:-}" in
    --quick) rounds=30 runs=1 points="1 10 50" starts=100 repeats=2 steps=40 copies=2 megabytes=20 ;;
    '') ;;
    *) die "usage: ${0##*/} [--quick]" ;;
esac

# ------------------------------------------------------------------------------------- our own host

if [ -z "${BENCH_DIR:-}" ]; then
    [ "$(id -u)" = 0 ] || die "needs root: sudo $0"
    host=$(uname -m)-unknown-linux-gnu
    HUSK=$(realpath "${HUSK:-$here/../target/$host/release/husk}")
    [ -x "$HUSK" ] || die "there is no $HUSK yet: type make first"
    HUSK_OCI=${HUSK_OCI:-$here/../target/oci/$host/release/husk}
    need ip:iproute2 iptables python3 cc:build-essential
    for tool in crun bwrap:bubblewrap unshare:util-linux; do
        (need "$tool") || say "going on without ${tool%:*}"
    done
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
    # Copies, as `make install` makes them: what a linker has written lies in the page cache in other
    # pieces, and a start of it takes a tenth longer.
    cp "$HUSK" "$BENCH_DIR/husk"
    [ ! -x "$HUSK_OCI" ] || cp "$HUSK_OCI" "$BENCH_DIR/husk-oci"
    [ ! -x "${BASE:-}" ] || cp "$BASE" "$BENCH_DIR/base"
    export BENCH_DIR HUSK_ROOTFS="$rootfs" image own
    # shellcheck disable=SC2016 # expanded in there
    bash -c 'echo 0 >"$own/cgroup.procs" && exec unshare -mnuC --propagation private "$@"' \
        bench "$BASH" "$0" "$@" >"$BENCH_DIR/report.md"
    if [ -n "${1:-}" ]; then
        cat "$BENCH_DIR/report.md"
        exit
    fi
    page=$here/../docs/benchmark.md
    {
        sed '/^<!-- benchmark: begin -->$/q' "$page"
        cat "$BENCH_DIR/report.md"
        echo
        sed -n '/^<!-- benchmark: end -->$/,$p' "$page"
    } >"$BENCH_DIR/page.md"
    cat "$BENCH_DIR/page.md" >"$page" # in place: it stays its owner's
    cat "$BENCH_DIR/report.md"
    exit
fi

# In our own mount namespace our cgroup takes the place of the whole tree, where crun wants it.
mkdir "$BENCH_DIR/cgroup"
mount --bind "$own" "$BENCH_DIR/cgroup"
umount --recursive --lazy /sys/fs/cgroup
mount --move "$BENCH_DIR/cgroup" /sys/fs/cgroup
echo 0 >/sys/fs/cgroup/runner/cgroup.procs # only a cgroup without processes has children with limits
mkdir /sys/fs/cgroup/bare                  # walk.c's
ip link set lo up
cd "$BENCH_DIR"
# So that husk's sentences of a whole run fit into a socket's queue.
echo 1000 >/proc/sys/net/unix/max_dgram_qlen
ln -s "$(realpath "$HUSK_ROOTFS")" rootfs
cc -O2 -static -o walk.linked "$here/bench/walk.c" || die "cc can't build walk.c"
cp walk.linked walk

# ----------------------------------------------------------------------------------- the contestants

# words NAME COMMAND [ARG]...: sets `words` to what starts the command in NAME's kind of container.
words() {
    local name=$1
    shift
    case $name in
        husk-oci) words=(./husk-oci --root "$BENCH_DIR/state-$name" run --bundle "$(bundle "$@")" NUMBER) ;;
        husk* | base*) words=("./${name%% *}" run) && [ "$name" = "${name%% *}" ] || words+=(--network "${name#*network }") ;
            words+=(rootfs "$@") ;;
        crun | runc | youki) words=("$name" --root "$BENCH_DIR/state-$name" run --bundle "$(bundle "$@")" NUMBER) ;;
        bwrap*) words=(bwrap --unshare-all --bind rootfs / --proc /proc --dev /dev "$@") ;;
        unshare*) words=(unshare -mpnuiCf --mount-proc --root=rootfs "$@") ;;
        docker) words=(docker run --rm "$image" "$@") ;;
        the\ same*) words=(./walk "$(realpath rootfs)") && [ "$name" = "${name%% --*}" ] || words+=(none) ;;
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
        (cd "$dir" && { crun spec || runc spec || ../husk-oci spec; } && python3 - "$@" <<'PYTHON'
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

leave_out() { echo "$*" >>left-out; say "leaving out $*"; }

# in_file FILE NAME WORD...: one more contestant for the scripts that time them.
in_file() { printf '%s\t%s\n' "$2" "$(printf '%q ' "${@:3}")" >>"$1"; }

# What a container says about itself: its PID, its namespaces, and how much of root it has.
# shellcheck disable=SC2016 # expanded in there
probe='echo me $$; for n in cgroup ipc mnt net pid user uts; do echo $n $(readlink /proc/self/ns/$n); done
while read -r key value rest; do case $key in CapEff: | Seccomp:) echo $key $value;; esac; done </proc/self/status
while read -r what dir type rest; do [ $dir != / ] || echo root $type; done </proc/mounts
while read -r name rest; do case $name in eth0:*) echo eth0;; esac; done </proc/net/dev'

# sets_up FILE: what the probe's words mean.
sets_up() {
    python3 - "$1" <<'PYTHON'
import os, sys
text = open(sys.argv[1]).read()
lines = dict(line.split(maxsplit=1) for line in text.splitlines() if " " in line)
kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
new = sum(lines[kind].strip() != os.readlink(f"/proc/self/ns/{kind}") for kind in kinds)
held = bin(int(lines["CapEff:"], 16)).count("1")
own = bin(int(next(l for l in open("/proc/self/status") if l.startswith("CapEff"))[7:], 16)).count("1")
parts = [f"{new} namespaces"]
parts += ["eth0"] if "eth0" in text.splitlines() else []
parts += ["overlay"] if lines.get("root", "").strip() == "overlay" else []
parts += [f"{held} capabilities"] if held < own else []
parts += ["seccomp"] if lines["Seccomp:"].strip() == "2" else []
print(", ".join(parts))
PYTHON
}

# enter NAME: takes it for a contestant if it really runs commands here.
enter() {
    local name=$1 program=${1%% *} reason status=0 memory what=nothing
    case $program in
        husk | fork | the) ;;
        base) [ -e base ] || { leave_out "$name: BASE names no program" && return; } ;;
        husk-oci) [ -e husk-oci ] || { leave_out "$name: it is not built (make oci)" && return; } ;;
        docker) [ -e image ] || { leave_out "docker: it does not answer" && return; } ;;
        *) command -v "$program" >/dev/null || { leave_out "$name: not installed" && return; } ;;
    esac
    # It must run the very command: true succeeds, false fails with 1, and a script tells where it is.
    words "$name" /bin/true
    if ! timeout 20 "${words[@]}" </dev/null >log 2>&1; then
        reason="$name: it can't run /bin/true here: $(head -c 300 log | tr '\n' ' ')"
        [ "$program" != husk ] || die "$reason"
        leave_out "$reason"
        return
    fi
    if [ "$program" != the ]; then
        words "$name" /bin/false
        timeout 20 "${words[@]}" </dev/null >log 2>&1 || status=$?
        [ $status = 1 ] || { leave_out "$name: /bin/false gave status $status" && return; }
    fi
    words "$name" /bin/sh -c "$probe"
    case $program in
        fork) ;;
        the) what="as husk" ;;
        *)
            timeout 20 "${words[@]}" </dev/null >probed 2>log || die "$name: $(cat log)"
            [ "$(sed -n 's/^me //p' probed)" -le 2 ] || die "$name: no PID namespace"
            what=$(sets_up probed)
            ;;
    esac
    words "$name" /bin/true
    memory="its daemon's"
    if [ "$program" != docker ]; then
        memory=$(for _ in 1 2 3; do ./walk -m "${words[@]}"; done | sort -n | sed -n 2p)
        memory=$(awk -v kib="$memory" 'BEGIN { printf "%.1f MiB", kib / 1024 }')
        in_file starts.txt "$name" "${words[@]}"
    fi
    printf '%s\t%s\t%s\n' "$name" "$memory" "$what" >>facts
}

load=$(cut -d' ' -f1 /proc/loadavg)
for name in husk "husk --network none" "husk --network host" base "base --network none" "the same calls in C" \
    "the same calls in C --network none" "bwrap --unshare-all" "unshare -mpnuiCf --mount-proc" crun husk-oci runc \
    youki docker "fork and exec"; do
    enter "$name"
done

# ------------------------------------------------------------------------------------------ starts

shuffled() { python3 "$here/bench/shuffled.py" "$@" || die "could not time them"; }

shuffled $rounds starts.txt starts.json
if grep -q ^docker facts; then
    words docker /bin/true
    in_file docker.txt docker "${words[@]}"
    shuffled 10 docker.txt docker.json
    python3 - <<'PYTHON'
import json
times = json.load(open("starts.json")) | json.load(open("docker.json"))
json.dump(times, open("starts.json", "w"))
PYTHON
fi

# -------------------------------------------------------------------------------------------- exec

./husk run -d --name bench-exec rootfs sleep 100000 >/dev/null
in_file execs.txt "husk exec" ./husk exec bench-exec /bin/true
if [ -e base ]; then
    in_file execs.txt "base exec" ./base exec bench-exec /bin/true
fi
for name in crun husk-oci runc; do
    grep -q "^$name	" facts || continue
    words "$name" sleep 100000
    program=("${words[@]:0:3}")
    # Whatever it leaves running has its output: this must not be what somebody waits for.
    "${program[@]}" run --detach --bundle "$(bundle sleep 100000)" bench-exec </dev/null >log 2>&1 ||
        { leave_out "$name exec: $(cat log)" && continue; }
    in_file execs.txt "$name exec" "${program[@]}" exec bench-exec /bin/true
done
in_file execs.txt "nsenter --all" nsenter --all --target "$(head -n 1 /sys/fs/cgroup/husk/bench-exec/cgroup.procs)" /bin/true
shuffled $rounds execs.txt execs.json
./husk stop -t 0 bench-exec >/dev/null
for name in crun husk-oci runc; do
    words "$name" sleep 100000
    ! grep -q "^$name exec" execs.txt || "${words[@]:0:3}" delete --force bench-exec
done

# -------------------------------------------------------------------------------------- throughput

grep -E '^(husk|husk --network none|base|base --network none|bwrap --unshare-all|crun|husk-oci)	' starts.txt >throughput.txt
python3 "$here/bench/throughput.py" $starts 4 $repeats throughput.txt throughput.json || die "no throughput"

# --------------------------------------------------------------------------------------- copying

# reads NAME COMMAND [ARG]...: one that is to copy `big`, if it can be had here.
reads() {
    command -v "$2" >/dev/null || { leave_out "$1 of a large file: not installed" && return; }
    in_file copying.txt "$@"
}

# The first has no container and nobody between: it is what the others are measured by.
reads "cat" cat big
reads "script -qc cat" script -qec "cat big" /dev/null
for name in husk base; do
    ! grep -q "^$name	" facts || reads "$name" "./$name" run -v "$BENCH_DIR/big:/big:ro" rootfs cat /big
done
if grep -q ^docker facts; then
    reads docker docker run --rm TTY -v "$BENCH_DIR/big:/big:ro" "$image" cat /big
fi
python3 "$here/bench/copying.py" $copies $megabytes copying.txt copying.json || die "could not copy"

# ------------------------------------------------------------------------------------------- scale

available() { awk '/^MemAvailable/ { print $2 }' /proc/meminfo; }
# settle: the kernel takes dead network namespaces apart one by one; wait until no veth is left
# of those who do not live.
settle() {
    for _ in $(seq 300); do
        [ "$(ip -o link show type veth 2>/dev/null | wc -l)" -gt "$1" ] || return 0
        sleep 0.1
    done
}
processes() { xargs -I PID cat /proc/PID/comm </sys/fs/cgroup/runner/cgroup.procs 2>/dev/null | grep -c '^husk$' || :; }

for ((run = 0; run < runs; run++)); do
    alive=0
    names=()
    settle 0
    before=$(available)
    for point in $points; do
        say "run $((run + 1)) of $runs: start of container number $point"
        while [ $alive -lt $((point - 1)) ]; do
            alive=$((alive + 1))
            ./husk run -d --name "bench-$alive" rootfs sleep 100000 >/dev/null
            names+=("bench-$alive")
        done
        settle $alive
        rm -f scale.txt
        in_file scale.txt bridge ./husk run rootfs /bin/true
        in_file scale.txt none ./husk run --network none rootfs /bin/true
        # With a pause, in which the kernel takes the run before apart: that is no part of a start.
        PAUSE=0.05 shuffled 40 scale.txt "scale-$run-$point.json" 2>/dev/null
    done
    echo "$alive $((before - $(available))) $(processes)" >detached
    [ ${#names[@]} = 0 ] || ./husk stop -t 0 "${names[@]}" >/dev/null
done

foreground=20
waiting=()
names=()
for ((i = 0; i < foreground; i++)); do
    ./husk run --name "bench-$i" rootfs sleep 100000 </dev/null >/dev/null &
    waiting+=($!)
    names+=("bench-$i")
done
for _ in $(seq 100); do
    [ "$(grep -c . <(cat /sys/fs/cgroup/husk/*/cgroup.procs))" -lt $foreground ] || break
    sleep 0.1
done
sleep 0.5
for pid in "${waiting[@]}"; do
    awk -v OFS=' ' '/^RssAnon|^VmRSS/ { v[$1] = $2 } END { print v["RssAnon:"], v["VmRSS:"] }' "/proc/$pid/status"
done >waiting
./husk stop -t 0 "${names[@]}" >/dev/null
wait "${waiting[@]}" || : # killed

python3 - $runs "$points" <<'PYTHON'
import json, statistics, sys
runs, points = int(sys.argv[1]), sys.argv[2].split()
def run(number):
    times = {point: json.load(open(f"scale-{number}-{point}.json")) for point in points}
    return {kind: {point: statistics.median(times[point][kind]["elapsed"]) for point in points}
            for kind in ["bridge", "none"]}
alive, kernel, left = map(int, open("detached").read().split())
rows = [list(map(int, line.split())) for line in open("waiting")]
json.dump({"points": points, "runs": [run(number) for number in range(runs)], "left": left / max(alive, 1),
           "kernel": kernel / max(alive, 1), "waiting": [statistics.median(column) for column in zip(*rows)]},
          open("scale.json", "w"))
PYTHON

# ------------------------------------------------------------------------- where husk's own time goes

say "where husk's time goes: $steps runs"
settle 0
python3 "$here/bench/sections.py" $steps "$(realpath rootfs)" sections.json || die "could not look into a start"

version() { "$@" 2>/dev/null | head -n 1 | grep -o '[0-9][0-9.a-z+~-]*[0-9a-z]' | head -n 1; }
versions="husk $(version ./husk --version)"
for name in crun runc youki bwrap unshare docker; do
    ! command -v $name >/dev/null || versions+=", $name $(version $name --version)"
done
python3 "$here/bench/report.py" "$versions" "$load"
