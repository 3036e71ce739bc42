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
for husk in "${HUSK:-}" "$(dirname "$0")/../target/$host/release/husk" "$(command -v husk || :)"; do
    [ ! -x "$husk" ] || break
done
[ -x "$husk" ] || die "there is no husk yet: type make first"
is_static "$husk" || die "$husk is not static, so it would not run everywhere: type make"

# The words, quoted so that a shell makes the same words of them again.
quote() {
    for word; do
        printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")"
    done
}

command=$([ $# = 0 ] || quote "$1")
[ $# = 0 ] || shift
arguments=$(quote "$@")

begin "$out"
cp "$husk" "$tmp/husk"
say "packing $(du -sh "$rootfs" 2>/dev/null | cut -f1) of $rootfs, a dot for every 10 MiB"
# husk makes its own /dev, and whoever unpacks this may not make nodes.
tar --create --gzip --file "$tmp/tar" --numeric-owner --sort=name --checkpoint=.1024 \
    --anchored --exclude='./dev/*' --transform='s,^\.,rootfs,S' \
    -C "$tmp" husk -C "$(cd "$rootfs" && pwd)" . >&2 || die "can you read all of $rootfs? Else try sudo"
checksum=$(sha256sum "$tmp/tar" | cut -d' ' -f1)

{
    cat <<END
#!/bin/sh
# A container in one file: this script, and a compressed tar of husk and a root file system.
# HUSK_OPTIONS="--network host -v \$PWD:/mnt" and the like are passed on to husk.
set -eu
cache=\${XDG_CACHE_HOME:-\$HOME/.cache}/husk
dir=\$cache/$checksum
END
    cat <<'END'
discard() { chmod -R u+rwX "$@" 2>/dev/null || :; rm -rf "$@"; }
if [ ! -d "$dir" ]; then
    mkdir -p "$cache"
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
    # Whoever is first fills the cache; anyone later fails, or moves theirs into it. Away with that.
    mv "$tmp" "$dir" || [ -d "$dir" ]
    discard "$tmp" "$dir/${tmp##*/}"
    trap - EXIT
fi
END
    cat <<END
[ \$# -gt 0 ] || set --$arguments
exec "\$dir/husk" run \${HUSK_OPTIONS:-} "\$dir/rootfs"$command "\$@"
__TAR__
END
    cat "$tmp/tar"
} >"$tmp/out"
chmod 755 "$tmp/out"
mv -T "$tmp/out" "$dir"
say "$dir is ready: $(du -h "$dir" | cut -f1)"
