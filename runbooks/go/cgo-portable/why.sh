#!/bin/bash
# why.sh BINARY PACKAGE_DIR GO OLDEST: each versioned symbol of BINARY that is newer than OLDEST, the
# version it asks for, and which package's C code calls it from where.
set -euo pipefail
binary=$1 package=$2 go=$3 oldest=$4
cd "$package"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the C code of each package calls: SYMBOL PACKAGE: FUNCTION
XDG_CONFIG_HOME=${TMPDIR:-/tmp} GOENV=${GOENV:-${HOME:-}/.config/go/env} CGO_ENABLED=1 "$go" list -deps -export -f '{{if .CgoFiles}}{{.ImportPath}} {{.Export}}{{end}}' . |
    while read -r package archive; do
        { objdump -dr "$archive" 2>/dev/null || true; } |
            awk -v package="$package" '
                /^[0-9a-f]+ <.*>:$/ { caller = substr($2, 2, length($2) - 3) }
                /R_[A-Z0-9_]+[ \t]/ { sub(/[-+]0x[0-9a-f]+$/, "", $NF); print $NF, package ": " caller }'
    done | sort -u >"$work/calls"

readelf --wide --dyn-syms "$binary" >"$work/symbols"
{ grep -o '[^ ]*@GLIBC_2[.0-9]*' "$work/symbols" || true; } | sort -u |
    while IFS=@ read -r symbol version; do
        newest=$(printf '%s\n' "$oldest" "${version#GLIBC_}" | sort --version-sort | tail -n 1)
        [ "$newest" != "$oldest" ] || continue
        grep "^$symbol " "$work/calls" >"$work/found" || echo "$symbol the C compiler's start file" >"$work/found"
        while read -r _ where; do
            printf '%-11s %-25s %s\n' "$version" "$symbol" "$where"
        done <"$work/found"
    done | sort --version-sort --reverse
