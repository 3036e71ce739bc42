#!/bin/sh
# soak.sh [STARTS]: that many short starts in a row (70,000 if not said), beside containers that go on
# living. Every start's address is compared with theirs; in the end husk0 must still work, and
# nothing may be left. HUSK is the husk to take. All of it happens in namespaces of its own.

# shellcheck disable=SC2317 # a function that is called by a trap

set -eu

starts=${1:-70000}
at_once=4
living=20

here=$(cd -- "$(dirname -- "$0")" && pwd)
die() {
    echo "soak.sh: $*" >&2
    exit 1
}

# ------------------------------------------------------------------- outside: make a little host

if [ -z "${SOAK_CGROUP:-}" ]; then
    [ "$(id -u)" = 0 ] || die "needs root"
    HUSK=$(realpath -- "${HUSK:?is not set: which husk?}")
    mount=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
    [ -n "$mount" ] || die "no cgroup2 is mounted"
    dir=$(mktemp -d)
    SOAK_CGROUP=$mount/husk-soak-$$
    mkdir "$SOAK_CGROUP" "$SOAK_CGROUP/self"
    export HUSK SOAK_CGROUP SOAK_MOUNT="$mount" SOAK_DIR="$dir"
    clean_up() {
        echo 1 >"$SOAK_CGROUP/cgroup.kill"
        # A killed process takes a moment to die.
        find "$SOAK_CGROUP" -depth -type d | while read -r each; do
            until rmdir "$each" 2>/dev/null; do sleep 0.01; done
        done
        rm -rf "$dir"
    }
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ -z "${HUSK_ROOTFS:-}" ]; then
        HUSK_ROOTFS=$dir/rootfs
        "$here/../rootfs-scripts/busybox.sh" "$HUSK_ROOTFS" >&2
    fi
    export HUSK_ROOTFS
    # The cgroup namespace begins where the process is that makes it.
    # shellcheck disable=SC2016 # the inner shell's variable
    sh -c 'echo 0 >"$SOAK_CGROUP/cgroup.procs"; exec unshare -m -n -C --propagation private "$0" "$@"' \
        "$here/soak.sh" "$starts"
    exit
fi

# ------------------------------------------------------------------------------- inside: the soak

mount --bind "$SOAK_CGROUP" "$SOAK_MOUNT"
echo 0 >"$SOAK_MOUNT/self/cgroup.procs"
ip link set lo up
echo 0 >/proc/sys/net/ipv4/ip_forward # else it is inherited from the machine
rootfs=$HUSK_ROOTFS

start_living() {
    "$HUSK" run -d --name "living$1" "$rootfs" sh -c 'cat /etc/hosts; exec sleep 1000000' \
        2>"$SOAK_DIR/living$1" >/dev/null
    until grep -q '^10\.77\.' "$SOAK_DIR/living$1"; do sleep 0.01; done
}
addresses() {
    cat "$SOAK_DIR"/living* | awk '/^10\.77\./ { print $1 }'
}

for i in $(seq "$living"); do start_living "$i"; done
[ "$(addresses | sort -u | wc -l)" = "$living" ] || die "the living ones' addresses clash"
addresses >"$SOAK_DIR/taken"

began=$(date +%s)
# One line each: the address that a start got.
yes "$rootfs" | head -n "$starts" |
    xargs -P "$at_once" -I '{}' "$HUSK" run '{}' sed -n 's/^\(10\.77\.[0-9.]*\).*/\1/p' /etc/hosts |
    awk -v taken="$SOAK_DIR/taken" -v starts="$starts" '
        BEGIN { while ((getline address < taken) > 0) is_taken[address] = 1 }
        $1 in is_taken { print "clashes with a living container: " $1; bad++ }
        { count[$1]++ }
        NR % 10000 == 0 { print NR " starts"; fflush() }
        END {
            for (address in count) different++
            print NR " of " starts " starts told their address; " different " different ones"
            exit bad > 0 || NR != starts
        }' || die "the soak failed"
echo "in $(($(date +%s) - began)) s"

# --------------------------------------------------------------------------------- and afterwards

"$HUSK" ps >"$SOAK_DIR/ps"
[ "$(wc -l <"$SOAK_DIR/ps")" = $((living + 1)) ] || die "not $living are living: $(cat "$SOAK_DIR/ps")"
awk 'NR > 1 { print $3 }' "$SOAK_DIR/ps" | sort >"$SOAK_DIR/now"
sort "$SOAK_DIR/taken" | cmp - "$SOAK_DIR/now" || die "an address has changed"
other=$(head -n 1 "$SOAK_DIR/taken")
for i in $(seq "$living"); do
    "$HUSK" exec "living$i" ping -c 1 -W 5 10.77.0.1 >/dev/null || die "living$i can't reach husk0"
    "$HUSK" exec "living$i" ping -c 1 -W 5 "$other" >/dev/null || die "living$i can't reach $other"
done
ping -c 1 -W 5 "$other" >/dev/null || die "the host can't reach $other"
"$HUSK" run "$rootfs" ping -c 1 -W 5 10.77.0.1 >/dev/null || die "husk0 does not work any more"

for i in $(seq "$living"); do "$HUSK" stop -t 0 "living$i"; done
sleep 1 # the kernel takes its time to remove the last network namespaces
[ "$(grep -c : /proc/net/dev)" = 2 ] || die "links are left: $(cat /proc/net/dev)"
[ -z "$(find "$SOAK_MOUNT/husk" -mindepth 1 -type d)" ] || die "cgroups are left"
[ "$(iptables -S FORWARD | grep -c husk0)" -le 3 ] || die "too many rules"
echo "the living ones kept their addresses, husk0 works, and nothing is left"
