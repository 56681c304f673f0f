# What several cells do alike. Sourced; it reads the runbook's parameters from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154 # the parameters: cgo, glibc, go, ldflags, release, source, stamp, targets, zig

if [ "$targets" = all ]; then
    targets="linux/amd64 linux/arm64 windows/amd64 windows/arm64 darwin/amd64 darwin/arm64"
fi

# Where modules come from and what is compiled already is this user's: all else, a build is not to depend on.
mkdir -p "$TMPDIR/config/go/telemetry"
echo off >"$TMPDIR/config/go/telemetry/mode" # go counts its own use, in the background and below HOME
kept=(GOPROXY GOPRIVATE GONOPROXY GONOSUMDB GOSUMDB GOINSECURE GOVCS GOMODCACHE GOCACHE)
users_settings() {
    local values name
    values=$(cd / && GOENV=${GOENV:-${HOME:-}/.config/go/env} XDG_CONFIG_HOME=$TMPDIR/config GOTOOLCHAIN=local command "$go" env "${kept[@]}")
    for name in "${kept[@]}"; do
        printf '%s=%s\n' "$name" "${values%%$'\n'*}"
        values=${values#*$'\n'}
    done
}

# go ARGUMENT...: the go command of the parameter, and nothing of GOFLAGS, CC, CGO_CFLAGS, GOAMD64 or go env -w.
go() (
    # shellcheck disable=SC2046 # names of variables
    unset $(compgen -e | { grep -E '^(GO[A-Z0-9]+|CGO_[A-Z_]+|CC|CXX|FC|AR|PKG_CONFIG)$' || true; })
    while read -r setting; do export "${setting?}"; done <"$TMPDIR/settings"
    export GOENV=off GOTOOLCHAIN=local GOWORK=off XDG_CONFIG_HOME="$TMPDIR/config" PATH="$TMPDIR/path:$PATH"
    if [ "$1" = list ]; then # what only looks writes nothing down elsewhere, nor asks git
        export GOCACHE="$TMPDIR/list" GOFLAGS=-modcacherw
        export GOPROXY="file://$GOMODCACHE/cache/download,$GOPROXY" GOMODCACHE="$TMPDIR/modules"
        set -- list -buildvcs=false "${@:2}"
    fi
    export "${for_target[@]}" && exec "$go" "$@"
)

# The compiler is called by a name, since its path would be part of every build ID; so it is put on PATH.
for_target=(CGO_ENABLED=0)
mkdir -p "$TMPDIR/path"
if found=$(type -P "$zig"); then ln -sf "$(realpath "$found")" "$TMPDIR/path/zig"; fi
if [ ! -e "$TMPDIR/settings" ]; then users_settings >"$TMPDIR/settings" 2>/dev/null || true; fi

# set_target OS/ARCH: what go builds for from here on.
set_target() {
    local machine
    for_target=(GOOS="${1%/*}" GOARCH="${1#*/}" CGO_ENABLED=0)
    if [[ " $cgo " == *" $1 "* ]]; then
        machine=x86_64
        [ "${1#*/}" = amd64 ] || machine=aarch64
        for_target=(GOOS=linux GOARCH="${1#*/}" CGO_ENABLED=1 CC="zig cc -target $machine-linux-gnu.$glibc")
    fi
}

# settings: the variables that say it, CGO_ENABLED or CC last.
settings() { echo "${for_target[*]}"; }

# name: what go calls the program here; file_of OS/ARCH: the name of its file in a release.
name() (
    for_target=(CGO_ENABLED=0)
    cd "$source" && basename "$(go list -f '{{.Target}}' .)"
)
file_of() {
    local suffix=
    [ "${1%/*}" != windows ] || suffix=.exe
    echo "$(name)_${1/\//_}$suffix"
}

# build DIRECTORY OS/ARCH FILE: the program whose main package is there, with every flag that a release has.
build() {
    set_target "$2"
    (cd "$1" && go build -trimpath -mod=readonly -buildvcs="$stamp" -ldflags="$ldflags" -o "$3" .) ||
        { echo "$1 cannot be built for $2: see the lines above" >&2; exit 1; }
}

# built_with: what the same bytes take, besides the source.
built_with() {
    echo "$(go env GOVERSION): go build -trimpath -mod=readonly -buildvcs=$stamp -ldflags='$ldflags'"
    [ -z "$cgo" ] || echo "zig $("$zig" version): zig cc -target MACHINE-linux-gnu.$glibc, for $cgo"
    if git -C "$source" rev-parse --git-dir >/dev/null 2>&1; then
        echo "commit $(git -C "$source" rev-parse HEAD)"
    fi
}
