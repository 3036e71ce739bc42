# shellcheck shell=sh
# common.sh: what the scripts beside it share. To be sourced.

umask 022
PATH=$PATH:/usr/sbin:/sbin # where ip, iptables and busybox live, and users rarely look

# The way to become root: none if we are, else sudo where there is one. `SUDO=` forbids it.
[ "$(id -u)" != 0 ] || SUDO=
SUDO=${SUDO-$(command -v sudo || :)}

say() { echo "${0##*/}: $*" >&2; }
die() { say "$@" && exit 1; }

# need COMMAND[:PACKAGE]...: installs the packages of the commands that are missing, with apt-get
# where the system has that; otherwise names them.
need() {
    missing=
    for want; do
        case $want in
        /*) [ -e "${want%:*}" ] || missing="$missing ${want#*:}" ;;
        *) command -v "${want%:*}" >/dev/null || missing="$missing ${want#*:}" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "please install:$missing"
    [ "$(id -u)" = 0 ] || [ -n "$SUDO" ] || die "please have root install:$missing"
    say "${SUDO:+sudo }apt-get install$missing"
    # shellcheck disable=SC2086 # lists of words
    {
        $SUDO apt-get -q -o DPkg::Lock::Timeout=300 update &&
            $SUDO env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
                -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 install $missing
    } >&2 </dev/null || die "could not install:$missing"
}

# begin DIR: makes an empty directory $tmp beside DIR, which finish renames to DIR. Until then
# there is no DIR, and whatever ends the script takes $tmp away.
begin() {
    if [ -e "$1" ] || [ -L "$1" ]; then
        die "$1 exists already: remove it first, or name another directory"
    fi
    mkdir -p -- "$(dirname -- "$1")"
    dir=$(cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
    tmp=$dir.tmp.$$
    trap discard EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir "$tmp"
}

discard() {
    [ $? = 0 ] || say "not finished: removing $tmp"
    [ -d "$tmp" ] || return 0
    [ "$(id -u)" = 0 ] || chmod -R u+rwX "$tmp" # a user can't empty a read-only directory
    rm -rf --one-file-system "$tmp"
}

finish() {
    mv -T "$tmp" "$dir"
    say "$dir is ready: $(du -sh "$dir" 2>/dev/null | cut -f1)"
}

is_static() {
    LC_ALL=C ldd "$1" 2>&1 | grep -q -i -e 'not a .*dynamic' -e 'statically linked'
}
