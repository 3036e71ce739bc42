#!/bin/sh
# pick.sh: prints the directory of the root file system that `make run` takes, made first if need be.
# ROOTFS is taken as it is; IMAGE is unpacked by docker.sh; with neither it is docker's alpine where
# docker has it or can pull it, else busybox.

set -eu
scripts=$(dirname "$0")
. "$scripts/common.sh"

# As root, if we can be: the files keep their owners then. All output but the answer goes to stderr.
get() { $SUDO env DOCKER="${DOCKER:-}" "$scripts/$1" "$2" ${3:+"$3"} >&2; }
is_there() { $SUDO test -d "$1"; }

# What root unpacks, nobody else may reach (see common.sh). A rootless container wants files of its user.
store=target/rootfs
[ "$(id -u)" = 0 ] || [ -n "$SUDO" ] || store=target/rootfs-$(id -u)
if [ -z "${ROOTFS:-}" ]; then
    mkdir -p target
    $SUDO mkdir -p "$store"
    $SUDO chmod 700 "$store"
fi

if [ -n "${IMAGE:-}" ]; then
    rootfs=${ROOTFS:-$store/$(echo "$IMAGE" | tr /:@ ___)}
    is_there "$rootfs" || get docker.sh "$IMAGE" "$rootfs"
elif [ -n "${ROOTFS:-}" ]; then
    rootfs=$ROOTFS
elif is_there "$store/alpine"; then
    rootfs=$store/alpine
elif is_there "$store/busybox"; then
    rootfs=$store/busybox
else
    say "no root file system yet: trying docker's alpine, else busybox"
    rootfs=$store/alpine
    if ! get docker.sh alpine "$rootfs"; then
        rootfs=$store/busybox
        get busybox.sh "$rootfs"
    fi
fi
say "root file system: $rootfs"
echo "$rootfs"
