#!/bin/bash
# docker.sh IMAGE DIR: unpacks a docker image into DIR, a root file system for husk, and prints the
# husk command that runs it as the image wants to be run: its command, environment, user and workdir.
#
# IMAGE is a name, or a file made by `docker save`, or an OCI layout (a directory, or a tar of one);
# where there are several images in it, FILE:NAME is one of them. DOCKER=docker, podman or skopeo says
# what to take: else docker for names, or podman where docker does not answer; skopeo or podman for
# files.

set -euo pipefail # bash, for pipefail: tar accepts an archive that stops short at the wrong place
. "$(dirname "$0")/common.sh"

main() {
    [ $# = 2 ] || die "usage: ${0##*/} IMAGE DIR"
    DOCKER=${DOCKER:-}
    [ -z "$DOCKER" ] || command -v "$DOCKER" >/dev/null || die "$DOCKER is not installed"
    path=${1%%:*}
    if [ -f "$path" ] || [ -e "$path/oci-layout" ]; then
        unpack_file "$1" "$2"
    else
        unpack_name "$1" "$2"
    fi
    finish
    say "the image's own command is:"
    show_command "$2"
}

# ----------------------------------------------------------------------------------- from an engine

# docker hands out a container's files, not an image's: so this makes a container that never runs,
# exports it and removes it again.
unpack_name() {
    if [ -n "$DOCKER" ]; then
        [ "$DOCKER" != skopeo ] || die "$1 is not a file: skopeo is taken for files only"
    elif docker version >/dev/null 2>&1; then
        DOCKER=docker
    elif command -v podman >/dev/null; then
        DOCKER=podman
    else
        die "docker does not answer (is it installed, does its daemon run, may you use it?)," \
            "and there is no podman"
    fi
    begin "$2"
    container=husk-export-$$ # a name known beforehand, so that no interruption leaves it behind
    trap 'discard; "$DOCKER" rm -f -v "$container" >/dev/null 2>&1 || :' EXIT
    say "$DOCKER create $1 (pulls it where it is missing)"
    # Some images name no command, and create insists on one. It is never run.
    "$DOCKER" create --name "$container" "$1" /bin/sh >/dev/null
    say "$DOCKER export | tar --extract"
    "$DOCKER" export "$container" | dd bs=1M iflag=fullblock status=progress | extract
    image=$("$DOCKER" inspect --format '{{.Image}}' "$container")
    "$DOCKER" image inspect --format "$SETTINGS" "$image" >"$closed/settings"
}

extract() {
    options=(--extract --directory "$tmp" --preserve-permissions --numeric-owner)
    # husk makes its own /dev, and a user may not make nodes.
    options+=(--anchored --exclude='dev/*' --exclude='./dev/*')
    if [ "$(id -u)" = 0 ]; then
        # File capabilities, such as those of ping.
        options+=(--xattrs --xattrs-include=security.capability)
    else
        say "not root: every file will belong to $(id -un 2>/dev/null)"
    fi
    tar "${options[@]}"
}

# -------------------------------------------------------------------------------------- from a file

# An image is a pile of layers, each of which may take away what is in those below. Who can unpack
# that, and safely, are podman and skopeo: into a storage of their own, which we make and take away.
unpack_file() {
    if [ -d "$path" ]; then
        source=oci:$1
    else
        contents=$(tar --list --file "$path") || die "$path is no tar: expected one by docker save"
        case $'\n'$contents$'\n' in
        *$'\n'manifest.json$'\n'*) source=docker-archive:$1 ;;
        *$'\n'oci-layout$'\n'* | *$'\n'./oci-layout$'\n'*) source=oci-archive:$1 ;;
        *) die "$path is neither a tar of docker save nor one of an OCI layout" \
            "(a tar of docker export is unpacked by tar -x)" ;;
        esac
    fi
    if [ -z "$DOCKER" ] || [ "$DOCKER" = docker ]; then
        DOCKER=$(command -v skopeo || command -v podman) ||
            die "to unpack $path takes skopeo or podman: please install one of them" \
                "(or \`docker load\` it, where docker is, and give its name)"
    fi
    begin "$2"
    storage=$closed/storage
    options=(--root "$storage" --runroot "$closed/run" --tmpdir "$closed/run" --storage-driver vfs)
    options+=(--events-backend none)
    destination="containers-storage:[vfs@$storage+$closed/run"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        say "not root: every file will belong to $(id -un 2>/dev/null)"
        # A namespace with one user, and what says that this is all there will be.
        as_root=(unshare --map-root-user env _CONTAINERS_USERNS_CONFIGURED=done)
        options+=(--storage-opt vfs.ignore_chown_errors=true)
        destination+=:vfs.ignore_chown_errors=true
    fi
    say "${DOCKER##*/} $source"
    if [ "${DOCKER##*/}" = skopeo ]; then
        "${as_root[@]}" "$DOCKER" --insecure-policy copy --quiet "$source" "${destination}]husk" >&2
        "${as_root[@]}" "$DOCKER" inspect --config --format "$SETTINGS" "${destination}]husk"
    else
        image=$("${as_root[@]}" "$DOCKER" "${options[@]}" pull --quiet "$source")
        "${as_root[@]}" "$DOCKER" "${options[@]}" image inspect --format "$SETTINGS" "$image"
    fi >"$closed/settings"
    # The one image's uppermost layer is a directory with all that is in it.
    layer=$(sed 's/.*"layer":"\([0-9a-f]*\)".*/\1/' "$storage/vfs-images/images.json")
    rmdir "$tmp"
    mv -T "$storage/vfs/dir/$layer" "$tmp"
    rm -rf "${tmp:?}"/dev/*
}

# ------------------------------------------------------------------------------------- its settings

# A template of Go's, as all three take it: a letter, a value and a NUL for each setting.
SETTINGS='{{with .Config}}{{range .Env}}{{printf "e%s\x00" .}}{{end}}
{{- if .User}}{{printf "u%s\x00" .User}}{{end}}
{{- if .WorkingDir}}{{printf "w%s\x00" .WorkingDir}}{{end}}
{{- range .Entrypoint}}{{printf "c%s\x00" .}}{{end}}
{{- range .Cmd}}{{printf "c%s\x00" .}}{{end}}{{end}}'

show_command() {
    options=() command=()
    mapfile -d '' -t settings <"$closed/settings"
    for setting in "${settings[@]}"; do
        value=${setting:1}
        case $setting in
        ePATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin) ;; # husk's own default
        e*) options+=(-e "$value") ;;
        u*) options+=(-u "$value") ;;
        w*) [ "$value" = / ] || options+=(-w "/${value#/}") ;;
        c*) command+=("$value") ;;
        esac
    done
    echo "husk run$(quote "${options[@]}" "$1" "${command[@]}")"
}

main "$@"
