#!/bin/bash
# Gives a host git, what the go command and Zig have compiled on a machine where they were used before,
# and a program in a clean checkout. The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

cp --archive "$KB_FIXTURES/git/git/usr/." /usr/
mkdir -p "$HOME/.cache"
cp --recursive "$KB_FIXTURES/binaries/go" "$HOME/.cache/go-build"
cp --recursive "$KB_FIXTURES/binaries/zig" "$HOME/.cache/zig"
cp --recursive "$(dirname "${BASH_SOURCE[0]}")/example" /srv/hello
cd /srv/hello
export GIT_COMMITTER_DATE=2026-01-01T00:00:00Z
git init --quiet --initial-branch=main
git add .
git -c user.name=me -c user.email=me@example.com commit --quiet --message=hello --date="$GIT_COMMITTER_DATE"

mkdir /srv/release # what an earlier release left
echo "an earlier build" >/srv/release/hello_linux_amd64
(cd /srv/release && sha256sum hello_linux_amd64 >SHA256SUMS)
cat <<EOF
{"source": "/srv/hello", "release": "/srv/release", "go": "$KB_FIXTURES/go/1.27.3/go/bin/go", "zig": "$KB_FIXTURES/zig/zig/zig", "cgo": "linux/amd64 linux/arm64", "elsewhere": "linux/$(dpkg --print-architecture) windows/amd64", "arguments": "--version", "demonstration": true}
EOF
