#!/bin/bash
# Gives a host what the cures need, from $KB_FIXTURES: musl as its packages would install it, and what
# Go and Zig have in their caches on a machine where they were used before.
# The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

cp --archive "$KB_FIXTURES/old-glibc/musl/usr/." /usr/
mkdir -p "$HOME/.cache"
cp --recursive "$KB_FIXTURES/go/1.27.3/cache" "$HOME/.cache/go-build"
cp --recursive "$KB_FIXTURES/zig/cache" "$HOME/.cache/zig"
cat <<EOF
{"go": "$KB_FIXTURES/go/1.27.3/go/bin/go", "zig": "$KB_FIXTURES/zig/zig/zig", "sysroot": "$KB_FIXTURES/old-glibc/sysroot", "old_system": "$KB_FIXTURES/old-glibc/system"}
EOF
