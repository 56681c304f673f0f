# What several cells do alike. Sourced; it reads the runbook's parameters from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154 # the parameters: go, output, source, sysroot, target_glibc

package=${source:-$KB_HERE/cgo-portable}

# The go command, with the settings of this user. It counts its own use, in the background and below
# the home directory: not here.
mkdir -p "$TMPDIR/go/telemetry"
echo off >"$TMPDIR/go/telemetry/mode"
go() {
    GOENV="${GOENV:-${HOME:-}/.config/go/env}" XDG_CONFIG_HOME="$TMPDIR" command "$go" "$@"
}

# The name that go gives to the program.
name() { basename "$(cd "$package" && go list -f '{{.Target}}' .)"; }

# chosen CURE: whether it is one of the cures that were asked for.
chosen() { [[ " $cures " == *" $1 "* ]]; }

# build CURE [ARGUMENT...]: go build into $output/CURE. A program that comes out as before is left
# alone; another one takes its place by a rename, with the seconds that its build took beside it.
build() {
    local cure=$1 target began tenths program
    shift
    program=$(name)
    target=$output/$cure/$program
    began=${EPOCHREALTIME/./}
    (cd "$package" && go build -o "$TMPDIR/$program" "$@" .) || {
        echo "$package cannot be built ($cure): see the lines above" >&2
        exit 1
    }
    tenths=$(((${EPOCHREALTIME/./} - began) / 100000))
    if cmp --quiet "$TMPDIR/$program" "$target"; then
        echo "$target is there already, and would be built the same"
        return
    fi
    mkdir -p "$output/$cure"
    cp "$TMPDIR/$program" "$output/$cure/.$program.new"
    echo "$((tenths / 10)).$((tenths % 10))" >"$output/$cure/.seconds.new"
    mv "$output/$cure/.seconds.new" "$output/$cure/seconds"
    mv "$output/$cure/.$program.new" "$target"
    echo "changed: built $target"
}

# glibc_of ROOT: the version of the C library under a root directory.
glibc_of() {
    local library
    library=$(find "$1/lib" "$1/usr/lib" "$1/lib64" -follow -name libc.so.6 -print -quit 2>/dev/null)
    [ -n "$library" ] || return
    { grep -aoE 'GNU C Library .* version 2\.[0-9]+' "$library" || true; } | grep -oE '2\.[0-9]+$'
}

# needs FILE: the newest version of glibc that a program asks for; nothing when it asks for none.
needs() {
    readelf --wide --version-info "$1" 2>/dev/null |
        { grep -oE 'GLIBC_2\.[0-9.]+' || true; } | sort --version-sort --unique | tail -n 1 | cut -d _ -f 2
}

# newer A B: whether version A is newer than B.
newer() {
    [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort --version-sort | tail -n 1)" = "$1" ]
}
