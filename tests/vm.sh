#!/bin/sh
# vm.sh: a virtual machine to break things in. Debian's cloud kernel with cgroup v2 alone, this
# machine's own tools copied onto a new disk image, no way out to a network, there in seconds, and
# gone when it ends. Root is needed only to install what is missing.
#
#   vm.sh run COMMAND [ARG]...   runs COMMAND in there as root: its output on stdout, its exit status
#   vm.sh shell                  a shell in there: leave it with `exit`, or with ^] x if it hangs
#   vm.sh test [ARG]...          the tests of `cargo test` in there, ARGs going to each test program
#
# VM_TOOLS has more tools to take along, each as COMMAND:PACKAGE; VM_CARGO more options for cargo test.
# HUSK is the husk to take; VM_MEMORY the machine's memory; VM_TIMEOUT the seconds after which `run`
# and `test` give up; HUSK_TEST_LOG gets the tests' log as it does without a machine.

# shellcheck disable=SC2317 # functions that are called by a trap, or by their name's end

set -eu
cd -- "$(dirname -- "$0")/.."
. rootfs-scripts/common.sh

# What there is to use in the machine, each as COMMAND:PACKAGE. What a package depends on comes along.
tools='bash:bash sh:dash ls:coreutils grep:grep sed:sed awk:mawk find:findutils diff:diffutils tar:tar
    gzip:gzip less:less clear:ncurses-bin ps:procps mount:mount unshare:util-linux capsh:libcap2-bin
    getent:libc-bin ip:iproute2 iptables:iptables ping:iputils-ping strace:strace python3:python3'
tools="$tools ${VM_TOOLS:-}"

# Files that belong to no package. Missing ones are left out.
extra_files='/etc/alternatives /etc/ld.so.cache /etc/resolv.conf'

main() {
    action=${1:-}
    case $action-$# in
    run-1) die "run: COMMAND is missing" ;;
    run-* | shell-1 | test-*) shift ;;
    *) sed -n 's/^#   vm.sh/usage: vm.sh/p' "$0" >&2 && exit 2 ;;
    esac
    [ "$action" != shell ] || { [ -t 0 ] && [ -t 1 ]; } || die "shell: needs a terminal"
    [ "$(uname -m)" = x86_64 ] || die "knows x86_64 machines only"
    host=${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
    husk=$(realpath -m -- "${HUSK:-target/$host/release/husk}")
    [ -x "$husk" ] || die "there is no $husk yet: type make first"

    vm=$PWD/target/vm
    mkdir -p "$vm"
    dir=$(mktemp -d "$vm/run.XXXXXX")
    qemu='' terminal=$(stty -g 2>/dev/null || :)
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    get_all
    "prepare_$action" "$@" >"$dir/command"
    make_disk
    boot
}

clean_up() {
    [ -z "$qemu" ] || kill "$qemu" 2>/dev/null || :
    [ -z "$terminal" ] || stty "$terminal" || :
    rm -rf "$dir"
}

# --------------------------------------------------------------------------- what is to run in there

# Each prints a script for the shell in there, which is root in this same directory.

prepare_run() {
    quote "$@"
}

prepare_shell() {
    cat <<'END'
echo "
Whatever you break in this machine, it is not yours. You are root, husk is on the PATH, and there is
a root file system in target/rootfs/busybox. 'exit' ends the machine, and nothing of it is kept.
"
LANG=C.UTF-8 bash || : # the last command's status is nobody's business
END
}

prepare_test() {
    say "cargo test --no-run"
    # shellcheck disable=SC2086 # options
    cargo test --no-run ${VM_CARGO:-} --target "$host" \
        --message-format=json-render-diagnostics >"$dir/cargo"
    # A JSON object a line. What is built by a test profile is a test program; other executables are
    # what is tested, and the tests look for that under the path it has here.
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$dir/cargo" >"$dir/programs"
    tests=$(sed -n 's/.*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1/p' "$dir/cargo" | sort)
    [ -n "$tests" ] || die "cargo test made no test programs"
    cat <<END
failed=
while read -r program <&3; do
    printf '\n     Running %s\n' "\$program"
    "\$program" $(quote "$@") 3<&- || failed="\$failed \${program##*/}"
done 3<<'LIST'
$tests
LIST
[ -z "\$failed" ] || { printf '\nfailed in the virtual machine:%s\n' "\$failed"; exit 101; }
END
}

# The words, quoted so that a shell makes the same words of them again.
quote() {
    for word; do
        printf '%s ' "$(printf '%s\n' "$word" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/")"
    done
}

# ------------------------------------------------------------------------------- what it is made of

get_all() {
    # shellcheck disable=SC2086 # a list
    need qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs $tools
    exec 9>"$vm/lock" # for two at once
    flock 9
    [ -d "$vm/busybox" ] || rootfs-scripts/busybox.sh "$vm/busybox"
    busybox=$vm/busybox/bin/busybox
    [ -d "$vm/kernel" ] || get_kernel
    exec 9>&-
}

get_kernel() {
    command -v apt-get >/dev/null || die "needs apt-get, for Debian's package linux-image-cloud-amd64"
    rm -rf "$vm/kernel.tmp"
    mkdir "$vm/kernel.tmp"
    if ! download_kernel; then
        say "the package list may be old: ${SUDO:+sudo }apt-get update"
        $SUDO apt-get -q update >&2
        download_kernel || die "no linux-image-cloud-amd64 to be had (it is Debian's)"
    fi
    dpkg -x "$vm"/kernel.tmp/*.deb "$vm/kernel.tmp"
    rm "$vm"/kernel.tmp/*.deb
    # modprobe's tables: a package's installation makes them, and this was none.
    "$busybox" depmod -b "$vm/kernel.tmp" "$(ls "$vm/kernel.tmp/lib/modules")"
    mv "$vm/kernel.tmp" "$vm/kernel"
}

download_kernel() (
    # The package of that name is empty: it depends on the newest one with a kernel in it.
    newest=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: //p')
    [ -n "$newest" ] || return 1
    say "apt-get download $newest (nothing gets installed)"
    cd "$vm/kernel.tmp"
    apt-get -q -o APT::Sandbox::User=root download "$newest" >&2
)

make_disk() {
    root=$dir/root
    mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/usr/local/bin"
    # shellcheck disable=SC2086 # lists
    {
        # Links into /usr on most systems; what follows is extracted through them.
        printf '%s\n' /bin /sbin /lib /lib64
        printf '%s\n' $tools | sed 's/.*://' | dependencies | xargs dpkg-query -L 2>/dev/null |
            grep '^/' | grep -v -E '^/usr/share/(doc|man|info|locale|lintian)/'
        # Commands such as iptables, which are in no package's list.
        find /usr/bin /usr/sbin -lname '/etc/alternatives/*'
        find $extra_files 2>/dev/null || :
        # This directory as it is, but of what was made from it only what runs.
        find "$PWD" \( -path "$PWD/target" -o -name .git \) -prune -o -print
        find "$PWD"/target/rootfs "$PWD"/target/tmp "$PWD"/target/*/tmp 2>/dev/null || :
        echo "$husk"
        if [ "$action" = test ]; then
            cat "$dir/programs"
            # They want the C library that they were linked with.
            xargs -d '\n' ldd <"$dir/programs" 2>/dev/null | grep -o '/[^ :]*\.so[^ :]*'
        fi
    } | # What an ordinary user may not read is left out.
        tar -c -C / --no-recursion --ignore-failed-read --files-from=- 2>/dev/null | tar -x -C "$root"

    cp -R "$vm/kernel/lib/modules" "$root/lib/"
    cp "$busybox" "$root/bin/"
    "$busybox" --list-full | while read -r path; do
        # What no package brought. The kernel itself calls /sbin/modprobe.
        name=${path##*/}
        [ -e "$root/usr/bin/$name" ] || [ -e "$root/usr/sbin/$name" ] ||
            ln -sf /bin/busybox "$root/$path"
    done
    if [ ! -d "$root$PWD/target/rootfs/busybox" ]; then
        mkdir -p "$root$PWD/target/rootfs"
        cp -a "$vm/busybox" "$root$PWD/target/rootfs/"
    fi
    # In there nothing is set-uid, and there are other users.
    chmod 755 "$root$PWD/target/rootfs" "$root$PWD/target/rootfs/busybox"

    # The packaged one asks PAM, and a machine's settings for that lead far.
    ln -sf /bin/busybox "$root/bin/su"
    ln -s "$husk" "$root/usr/local/bin/husk"
    (
        cd "$root"
        mkdir -p dev proc sys run root tmp var/tmp
        chmod 1777 tmp var/tmp
        printf '%s\n' root:x:0:0::/root:/bin/bash user:x:1000:1000::/home/user:/bin/bash \
            nobody:x:65534:65534::/:/bin/sh >etc/passwd
        printf '%s\n' root:x:0: tty:x:5: user:x:1000: nogroup:x:65534: >etc/group
        printf '%s:*:1::::::\n' root user nobody >etc/shadow
        printf '127.0.0.1 localhost husk-vm\n::1 localhost\n' >etc/hosts
        echo husk-vm >etc/hostname
    )
    cp tests/vm-init.sh "$root/init"
    {
        printf '#!/bin/sh\ncd %s\n' "$(quote "$PWD")"
        printf 'export HUSK=%s HUSK_ROOTFS=%s\n' "$(quote "$husk")" "$(quote "$PWD/target/rootfs/busybox")"
        [ -z "${HUSK_TEST_LOG:-}" ] || echo 'export HUSK_TEST_LOG=/dev/ttyS3'
        cat "$dir/command"
    } >"$root/command"
    chmod 755 "$root/init" "$root/command"

    # A user namespace in which whoever runs this is root: so that in there, too, root owns the files.
    as_root=
    [ "$(id -u)" = 0 ] || as_root='unshare -r'
    truncate -s 8G "$dir/disk"
    $as_root mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$dir/disk"
    rm -rf "$root"
}

# The packages named on stdin and all that they depend on, as far as it is installed here.
dependencies() {
    xargs apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts \
        --no-breaks --no-replaces --no-enhances | grep '^[a-z0-9]' | sort -u
}

# --------------------------------------------------------------------------------------- running it

boot() {
    # fd 3 is the terminal, 4 brings the window's size into the machine, 5 holds the output open.
    mkfifo "$dir/output" "$dir/control.in"
    : >"$dir/control.out"
    exec 3<&0 4<>"$dir/control.in" 5<>"$dir/output"
    # The cloud kernel has NVMe and ext4 built in and needs no initramfs, so that the root directory
    # is a real one: the kernel can't pivot_root away from an initramfs.
    kernel_line='root=/dev/nvme0n1 rootfstype=ext4 rw init=/init console=ttyS0 quiet'
    # An oops ends the machine at once. In there nobody needs protection from a processor's flaws, and
    # the emulated time stamp counter is good, but Linux can't know that.
    kernel_line="$kernel_line oops=panic panic=-1 mitigations=off tsc=reliable MODE=$action TERM=${TERM:-dumb}"
    if [ "$action" = shell ]; then
        limit=0
        size=$(stty size)
        kernel_line="$kernel_line ROWS=${size% *} COLUMNS=${size#* }"
        set -- -chardev stdio,id=user,mux=on,signal=off -mon chardev=user -echr 0x1d
    else
        limit=${VM_TIMEOUT:-3600}
        # qemu makes its stdout non-blocking, for everybody else who has it, too: hence the cat.
        cat "$dir/output" 5>&- &
        cat=$!
        exec 3</dev/null
        set -- -chardev "file,id=user,path=$dir/output"
    fi
    # No kvm: where machines are virtual themselves, a guest of a guest may hang. multi: a thread for
    # each processor.
    timeout --foreground -k 5 "$limit" qemu-system-x86_64 -accel tcg,thread=multi -cpu max,la57=off \
        -smp 2 -m "${VM_MEMORY:-3G}" -nodefaults -display none -no-reboot \
        -kernel "$vm"/kernel/boot/vmlinuz-* -append "$kernel_line" \
        -drive "if=none,id=disk,format=raw,cache=unsafe,file=$dir/disk" -device nvme,drive=disk,serial=1 \
        -chardev "file,id=kernel,path=$dir/kernel.log" -serial chardev:kernel \
        "$@" -serial chardev:user \
        -chardev "pipe,id=control,path=$dir/control" -serial chardev:control \
        -chardev "file,id=log,path=${HUSK_TEST_LOG:-/dev/null},append=on" -serial chardev:log \
        <&3 3<&- 4<&- 5>&- &
    qemu=$!
    [ "$action" != shell ] || trap 'stty size <&3 >&4' WINCH
    # A signal that is trapped ends wait, too.
    while kill -0 "$qemu" 2>/dev/null; do
        ended=0
        wait "$qemu" || ended=$?
    done
    qemu=
    exec 5>&-
    [ "$action" = shell ] || wait "$cat"

    if status=$(sed -n 's/^exit \([0-9][0-9]*\)$/\1/p' "$dir/control.out") && [ -n "$status" ]; then
        exit "$status"
    elif [ "$ended" = 124 ]; then
        die "no end after $limit seconds (VM_TIMEOUT): the machine was stopped"
    fi
    say "the machine is gone (qemu's status: $ended), its command had not ended"
    [ ! -s "$dir/kernel.log" ] || { say "the kernel's last words:" && tail -n 50 "$dir/kernel.log" >&2; }
    exit 1
}

main "$@"
