#!/bin/bash
# PID 1 of the virtual machine that vm.sh boots. bash, because it reaps orphans while it waits, and
# most other shells don't. The kernel puts words like MODE=run of its command line into the environment.
#
#   ttyS0  the kernel's console, a log file of the host
#   ttyS1  what the user sees and types
#   ttyS2  to the host: the exit status; from the host: the window's size
#   ttyS3  to the host: the log of the tests that ran
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root USER=root LOGNAME=root SHELL=/bin/bash HUSK_VM=1
# shellcheck disable=SC2153
mode=$MODE rows=$ROWS columns=$COLUMNS
unset MODE ROWS COLUMNS

# The mounts that a machine with systemd has, with its options: nsdelegate makes a cgroup namespace a
# border, and a shared / is what containers meet in real life (the kernel's own default is private).
mount --make-rshared /
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
mount -t devtmpfs -o nosuid,mode=755 devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t mqueue -o nosuid,nodev,noexec mqueue /dev/mqueue
mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr

# All in one go: the kernel would load most of them on demand, but then the first user pays the time.
# br_netfilter (which brings the net.bridge sysctls) is never loaded on demand.
modprobe -a overlay veth bridge br_netfilter dummy tun loop \
    nf_tables nft_compat nft_chain_nat xt_MASQUERADE xt_conntrack xt_addrtype xt_comment

hostname husk-vm
ip link set lo up
mkdir -p /home/user
chown 1000:1000 /home/user

# Controllers on for the root's children, as systemd has it. The session gets a leaf: a cgroup with
# processes of its own can't have controllers on for its children. (The root can, and PID 1 stays there.)
read -ra controllers </sys/fs/cgroup/cgroup.controllers
echo "${controllers[@]/#/+}" >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/session
session() (
    echo "$BASHPID" >/sys/fs/cgroup/session/cgroup.procs
    exec setsid "$@"
)

stty -F /dev/ttyS2 raw -echo
stty -F /dev/ttyS3 raw -echo
if [ "$mode" = shell ]; then
    exec 3<>/dev/ttyS1 # the kernel forgets the size of a terminal that nobody has open
    stty -F /dev/ttyS1 sane rows "$rows" columns "$columns"
    while read -r rows columns; do
        stty -F /dev/ttyS1 rows "$rows" columns "$columns"
    done </dev/ttyS2 &
    session --ctty /command <&3 >&3 2>&3 3>&-
    status=$?
else
    # A pipe, not the terminal: programs see what they see in any CI, and a line's end stays one byte.
    stty -F /dev/ttyS1 raw -echo
    mkfifo /run/output
    cat </run/output >/dev/ttyS1 &
    cat=$!
    session /command </dev/null >/run/output 2>&1
    status=$?
    # The last output may still be on its way; a daemon left behind may keep the pipe open for ever.
    for ((i = 0; i < 20; i++)); do
        kill -0 $cat 2>/dev/null || break
        sleep 0.1
    done
fi
echo "exit $status" >/dev/ttyS2
busybox poweroff -f
