#!/bin/bash
# debian.sh DIR [PACKAGE...]: a minimal Debian (or Ubuntu, on Ubuntu) with PACKAGEs, by mmdebstrap:
# the host's own release from the host's own mirror; Debian stable on any other system.

set -euo pipefail # bash, for pipefail
. "$(dirname "$0")/common.sh"

[ $# -ge 1 ] || die "usage: ${0##*/} DIR [PACKAGE...]"
need mmdebstrap
# Without root, mmdebstrap becomes a root of many users by newuidmap, or seems to be one by fakechroot.
if [ "$(id -u)" != 0 ] && ! grep -q -s -e "^$(id -un 2>/dev/null):" -e "^$(id -u):" /etc/subuid; then
    for fake in fakechroot fakeroot; do
        command -v "$fake" >/dev/null ||
            die "without root it takes a line for you in /etc/subuid and in /etc/subgid, and newuidmap" \
                "(package uidmap); or else the packages fakechroot and fakeroot"
    done
fi
begin "$1"
shift

# shellcheck source=/dev/null
. /etc/os-release
suite=stable sources=
if [ -e /etc/debian_version ] && [ -n "${VERSION_CODENAME:-}" ]; then
    suite=$VERSION_CODENAME
    for file in "/etc/apt/sources.list.d/$ID.sources" /etc/apt/sources.list; do
        [ -n "$sources" ] || [ ! -s "$file" ] || sources=$file
    done
fi

packages=$(IFS=, && echo "$*")
options=(--variant=minbase ${packages:+--include="$packages"})
say "mmdebstrap $suite from ${sources:-its default mirror}${packages:+ with $packages} (this takes a while)"
if [ "$(id -u)" = 0 ]; then
    mmdebstrap --mode=root "${options[@]}" "$suite" "$tmp" ${sources:+"$sources"} >&2
else
    say "not root: every file will belong to $(id -un 2>/dev/null), as a rootless container wants it"
    # husk makes its own /dev, and a user may not make nodes.
    mmdebstrap --format=tar "${options[@]}" "$suite" - ${sources:+"$sources"} |
        tar --extract --directory "$tmp" --preserve-permissions --anchored --exclude='./dev/*'
fi
finish
