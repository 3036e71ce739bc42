#!/bin/sh
# need.sh [-k] COMMAND[:PACKAGE]...: installs what is missing of them, for the Makefile. With -k it
# keeps going without what can't be had.
set -eu
. "$(dirname "$0")/common.sh"

if [ "${1:-}" != -k ]; then
    need "$@"
    exit
fi
shift
(need "$@") && exit
for want; do
    (need "$want") || say "going on without ${want%:*}"
done
