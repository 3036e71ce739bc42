#!/bin/sh
# need.sh COMMAND[:PACKAGE]...: installs what is missing of them, for the Makefile.
set -eu
. "$(dirname "$0")/common.sh"
need "$@"
