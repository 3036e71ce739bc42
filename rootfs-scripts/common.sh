# shellcheck shell=sh
# common.sh: what the scripts beside it share. To be sourced.

umask 022
PATH=$PATH:/usr/sbin:/sbin # where ip, iptables and busybox live, and users rarely look

# The way to become root: none if we are, else sudo where there is one. `SUDO=` forbids it.
[ "$(id -u)" != 0 ] || SUDO=
SUDO=${SUDO-$(command -v sudo || :)}

say() { echo "${0##*/}: $*" >&2; }
die() { say "$@" && exit 1; }

# need COMMAND[:PACKAGE]...: installs the packages of the commands (or files, by their whole path) that
# are missing, with apt-get where the system has that; otherwise names them.
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
        # One source of packages that does not answer is no reason to give up.
        $SUDO apt-get -q -o DPkg::Lock::Timeout=300 update || :
        $SUDO env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
            -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 install $missing
    } >&2 </dev/null || die "could not install:$missing"
}

# begin DIR: makes an empty directory $tmp beside DIR, which finish renames to DIR. Until then
# there is no DIR, and whatever ends the script takes $tmp away.
#
# A set-uid program of a root file system is one on this machine, too. So nobody else may reach it:
# $tmp lies in a directory of mode 700, and finish sees to DIR.
begin() {
    if [ -e "$1" ] || [ -L "$1" ]; then
        die "$1 exists already: remove it first, or name another directory"
    fi
    parent=$(dirname -- "$1")
    [ -d "$parent" ] || (umask 077 && mkdir -p -- "$parent")
    parent=$(cd -- "$parent" && pwd -P)
    dir=${parent%/}/$(basename -- "$1")
    closed=$dir.tmp.$$
    tmp=$closed/new
    trap discard EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -m 700 "$closed"
    mkdir "$tmp"
}

discard() {
    [ $? = 0 ] || say "not finished: removing $closed"
    [ -d "$closed" ] || return 0
    [ "$(id -u)" = 0 ] || chmod -R u+rwX "$closed" # a user can't empty a read-only directory
    rm -rf --one-file-system "$closed"
}

# DIR gets mode 700, but where a directory above it keeps others out anyway: a container that has DIR
# itself as its root (--writable) can't show a better mode to its own users.
finish() {
    is_closed "$parent" || chmod 700 "$tmp"
    mv -T "$tmp" "$dir"
    say "$dir is ready: $(du -sh "$dir" 2>/dev/null | cut -f1)"
    is_closed "$parent" ||
        say "its mode is 700, so that nobody else here can start its set-uid programs; what needs 755" \
            "(husk run --writable -u USER) is to be moved into a directory of mode 700 before"
}

# Is this directory, or one above it, closed to all but root and us? (A `+` stands for a list of more
# users; a group with its owner's number is nearly always the owner's alone.)
is_closed() {
    above=$1
    while [ "$above" != / ]; do
        read -r mode _ owner group _ <<END
$(ls -ldn -- "$above")
END
        if [ "$owner" = 0 ] || [ "$owner" = "$(id -u)" ]; then
            case $mode in
            *+) ;;
            d?????[-S]??[-T]*) return 0 ;;
            d????????[-T]*) [ "$owner" != "$group" ] || return 0 ;;
            esac
        fi
        above=$(dirname -- "$above")
    done
    return 1
}

# The words, quoted so that a shell makes the same words of them again.
quote() {
    for word; do
        case $word in
        '' | *[!A-Za-z0-9_./:,@%+=-]*)
            # The x keeps newlines at the end.
            word=$(printf '%sx' "$word" | sed "s/'/'\\\\''/g")
            printf " '%s'" "${word%x}"
            ;;
        *) printf ' %s' "$word" ;;
        esac
    done
}

is_static() {
    LC_ALL=C ldd "$1" 2>&1 | grep -q -i -e 'not a .*dynamic' -e 'statically linked'
}
