#!/bin/bash
# A host as the source describes it: a toolchain in /usr/local/go that can be written to, and a user
# deploy with a module in its GOPATH. A build cache with the standard library saves minutes.
set -Eeuo pipefail
release=1.27.3
useradd --create-home --shell /bin/bash deploy
mkdir -p /usr/local/go /run/toolchain/upper /run/toolchain/work
mount -t overlay toolchain /usr/local/go \
    -o "lowerdir=$KB_FIXTURES/go/$release/go,upperdir=/run/toolchain/upper,workdir=/run/toolchain/work"
cd /
runuser -u deploy -- env HOME=/home/deploy GOPROXY="file://$KB_FIXTURES/modproxy/modules" GONOSUMDB='*' \
    /usr/local/go/bin/go mod download golang.org/x/mod@v0.17.0
cache=/var/lib/go-build
mkdir -p "$cache" /run/cache/upper /run/cache/work
mount -t overlay cache "$cache" \
    -o "lowerdir=$KB_FIXTURES/go/$release/cache,upperdir=/run/cache/upper,workdir=/run/cache/work"
find "$cache" -type d -exec chown deploy: {} +
