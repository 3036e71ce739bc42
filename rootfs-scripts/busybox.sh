#!/bin/sh
# busybox.sh DIR: the smallest useful root file system: one static busybox and a link per command.
# Takes the host's busybox if it is static, else the one in Debian's package busybox-static,
# which is downloaded and unpacked but not installed.

set -eu
. "$(dirname "$0")/common.sh"

[ $# = 1 ] || die "usage: ${0##*/} DIR"

begin "$1"
cd "$tmp"
# Every mount point is here, so that husk has nothing to add.
mkdir bin dev dev/pts dev/shm etc home mnt opt proc root run srv sys tmp usr usr/lib var var/log var/tmp
chmod 700 root
chmod 1777 tmp var/tmp
ln -s bin sbin
ln -s ../bin usr/bin
ln -s ../bin usr/sbin
ln -s ../run var/run

busybox=$(command -v busybox.static || command -v busybox || :)
if [ -n "$busybox" ] && is_static "$busybox"; then
    say "taking this machine's static $busybox"
    cp "$busybox" bin/busybox
else
    command -v apt-get >/dev/null || die "please install a static busybox"
    say "no static busybox here: apt-get download busybox-static (nothing gets installed)"
    mkdir package
    cd package
    if ! apt-get -q -o APT::Sandbox::User=root download busybox-static >&2; then
        say "the package list may be old: ${SUDO:+sudo }apt-get update"
        if [ "$(id -u)" != 0 ] && [ -z "$SUDO" ]; then die "that takes root"; fi
        $SUDO apt-get -q update >&2
        apt-get -q -o APT::Sandbox::User=root download busybox-static >&2
    fi
    dpkg -x ./*.deb .
    find . -name busybox -type f -perm /111 -exec mv {} ../bin/ \;
    cd ..
    rm -rf package
fi
chmod 755 bin/busybox

say "linking $(bin/busybox --list | wc -l) commands to it"
for command in $(bin/busybox --list); do
    [ -e "bin/$command" ] || ln -s busybox "bin/$command"
done

cat >etc/passwd <<END
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/sh
END
cat >etc/group <<END
root:x:0:
tty:x:5:
nogroup:x:65534:
END
# husk lays its own over these three.
echo '127.0.0.1 localhost' >etc/hosts
echo husk >etc/hostname
: >etc/resolv.conf
finish
