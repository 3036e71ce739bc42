#!/bin/sh
# pack.sh ROOTFS OUT [COMMAND [ARG]...]: a container in one file. OUT is a shell script followed by a
# compressed tar of husk and ROOTFS. Where it is started, it unpacks itself once, and runs COMMAND with
# the arguments it is given, or ARGs if there are none (docker's ENTRYPOINT and CMD). Without COMMAND
# its arguments are the command. HUSK names the husk to take.

set -eu
. "$(dirname "$0")/common.sh"

[ $# -ge 2 ] || die "usage: ${0##*/} ROOTFS OUT [COMMAND [ARG]...]"
rootfs=$1 out=$2
shift 2
[ -d "$rootfs" ] || die "$rootfs is not a directory"

host=$(uname -m)-unknown-linux-gnu
here=$(dirname "$0")
# In the sources, in what `make dist` made, and where `make install` put it.
for husk in "${HUSK:-}" "$here/../target/$host/release/husk" "$here/../husk" "$here/../../../bin/husk" \
    "$(command -v husk || :)"; do
    [ ! -x "$husk" ] || break
done
[ -x "$husk" ] || die "there is no husk yet: type make first"
is_static "$husk" || die "$husk is not static, so it would not run everywhere: type make"

command=$([ $# = 0 ] || quote "$1")
[ $# = 0 ] || shift
arguments=$(quote "$@")

mkdir -p -- "$(dirname -- "$out")"
begin "$out"
cp "$husk" "$tmp/husk"
say "packing $(du -sh "$rootfs" 2>/dev/null | cut -f1) of $rootfs, a dot for every 10 MiB"
# husk makes its own /dev, and whoever unpacks this may not make nodes.
tar --create --gzip --file "$tmp/tar" --numeric-owner --sort=name --checkpoint=.1024 \
    --anchored --exclude='./dev/*' --transform='s,^\.,rootfs,S' \
    -C "$tmp" husk -C "$(cd "$rootfs" && pwd)" . >&2 || die "can you read all of $rootfs? Else try sudo"
checksum=$(sha256sum "$tmp/tar" | cut -d' ' -f1)

{
    cat <<'END'
#!/bin/sh
# A container in one file: this script, and a compressed tar of husk and a root file system.
# HUSK_OPTIONS="--network host -v '/my files:/mnt'" and the like are passed on to husk: words, and
# quotes where there are blanks in one; $ and the like mean nothing.
set -eu
die() { echo "$0: $*" >&2 && exit 125; }
discard() { chmod -R u+rwX "$@" 2>/dev/null || :; rm -rf "$@"; }

# It is unpacked below the cache directory of whoever starts it. Where there is no such directory, as
# for many a service, one in /tmp will do, if it is ours and nobody else may write to it.
home=${HOME:-$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6)}
cache=${XDG_CACHE_HOME:-${home:-/nonexistent}/.cache}/husk
if ! { mkdir -p "$cache" && [ -w "$cache" ]; } 2>/dev/null; then
    cache=${TMPDIR:-/tmp}/husk-$(id -u)
    [ -d "$cache" ] || mkdir -m 700 "$cache" || die "set XDG_CACHE_HOME to a directory to unpack to"
    read -r mode _ owner _ <<LS
$(ls -ldn "$cache")
LS
    case $mode-$owner in
    "drwx------"*"-$(id -u)") ;;
    *) die "$cache is somebody else's: set XDG_CACHE_HOME to a directory to unpack to" ;;
    esac
fi
END
    echo "dir=\$cache/$checksum"
    cat <<'END'
if [ ! -d "$dir" ]; then
    # What a kill or a power cut left behind, a day later.
    find "$cache" -maxdepth 1 -name '*.tmp.*' -mtime +0 | while read -r old; do discard "$old"; done
    tmp=$(mktemp -d "$dir.tmp.XXXXXX")
    trap 'discard "$tmp"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    echo "unpacking to $dir (once)" >&2
    # read takes no byte more than its line, so tar begins right behind the mark.
    errors=$({ while read -r line && [ "$line" != __TAR__ ]; do :; done &&
        tar -xzpf - -C "$tmp"; } 2>&1 <"$0") || { echo "$errors" | head -n 3 >&2 && exit 125; }
    # Nobody else can enter $tmp. So all of the container's users may see its root.
    chmod 755 "$tmp/rootfs"
    # Whoever is first fills the cache; anyone later fails, or moves theirs into it. Away with that.
    mv "$tmp" "$dir" || [ -d "$dir" ]
    discard "$tmp" "$dir/${tmp##*/}"
    trap - EXIT
    # What nobody has started for a month goes: other versions of this file, for example. But not if a
    # husk in the foreground names it, or as long as there are containers: they may need it.
    if [ "$("$dir/husk" ps 2>/dev/null | wc -l)" -le 1 ]; then
        find "$cache" -maxdepth 1 -type d -mtime +30 | grep -E '/[0-9a-f]{64}$' | while read -r old; do
            echo "$old/" | grep -q -s -F -f - /proc/[0-9]*/cmdline || discard "$old"
        done
    fi
fi
touch "$dir" 2>/dev/null || : # used today

words=$(printf '%s\n' "${HUSK_OPTIONS:-}" | xargs -r -n 1 printf '%s\n' 2>/dev/null) ||
    die "HUSK_OPTIONS: expected words, each quote with its match: $HUSK_OPTIONS"
options=
[ -z "$words" ] || options=$(printf '%s\n' "$words" | sed "s/'/'\\\\''/g; s/.*/'&'/" | tr '\n' ' ')
END
    cat <<END
[ \$# -gt 0 ] || set --$arguments
set -- "\$dir/rootfs"$command "\$@"
eval "set -- \$options \"\\\$@\""
exec "\$dir/husk" run "\$@"
__TAR__
END
    cat "$tmp/tar"
} >"$tmp/out"
chmod 755 "$tmp/out"
mv -T "$tmp/out" "$dir"
say "$dir is ready: $(du -h "$dir" | cut -f1)"
