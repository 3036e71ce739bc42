#!/bin/sh
# debian.sh DIR [PACKAGE...]: a minimal Debian (or Ubuntu, on Ubuntu) with PACKAGEs, by mmdebstrap:
# the host's own release from the host's own mirror; Debian stable on any other system.

set -eu
. "$(dirname "$0")/common.sh"

[ $# -ge 1 ] || die "usage: ${0##*/} DIR [PACKAGE...]"
if [ "$(id -u)" != 0 ]; then
    [ -n "$SUDO" ] || die "needs root: a Debian's files have many owners"
    say "needs root: sudo $0 $*"
    exec "$SUDO" "$0" "$@"
fi
need mmdebstrap
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
say "mmdebstrap $suite from ${sources:-its default mirror}${packages:+ with $packages} (this takes a while)"
mmdebstrap --mode=root --variant=minbase ${packages:+--include="$packages"} \
    "$suite" "$tmp" ${sources:+"$sources"} >&2
finish
