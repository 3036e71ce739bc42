#!/bin/bash
# docker.sh IMAGE DIR: unpacks a docker image into DIR, a root file system for husk.
# DOCKER=podman takes podman; it is also taken where docker does not answer.
#
# docker hands out a container's files, not an image's: so this makes a container that never runs,
# exports it and removes it again.

set -euo pipefail # bash, for pipefail: tar accepts an archive that stops short at the wrong place
. "$(dirname "$0")/common.sh"

[ $# = 2 ] || die "usage: ${0##*/} IMAGE DIR"
image=$1

if [ -n "${DOCKER:-}" ]; then
    command -v "$DOCKER" >/dev/null || die "$DOCKER is not installed"
elif docker version >/dev/null 2>&1; then
    DOCKER=docker
elif command -v podman >/dev/null; then
    DOCKER=podman
else
    die "docker does not answer (is it installed, does its daemon run, may you use it?), and there is no podman"
fi

begin "$2"
container=husk-export-$$ # a name known beforehand, so that no moment of interruption leaves it behind
trap 'discard; "$DOCKER" rm -f -v "$container" >/dev/null 2>&1 || :' EXIT

say "$DOCKER create $image (pulls it where it is missing)"
# Some images name no command, and create insists on one. It is never run.
"$DOCKER" create --name "$container" "$image" /bin/sh >/dev/null

options=(--extract --directory "$tmp" --preserve-permissions --numeric-owner)
# husk makes its own /dev, and a user may not make nodes.
options+=(--anchored --exclude='dev/*')
if [ "$(id -u)" = 0 ]; then
    # File capabilities, such as those of ping.
    options+=(--xattrs --xattrs-include=security.capability)
else
    say "not root: every file will belong to $(id -un)"
fi
say "$DOCKER export | tar --extract"
"$DOCKER" export "$container" | dd bs=1M iflag=fullblock status=progress | tar "${options[@]}"
finish
