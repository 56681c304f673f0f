#!/bin/bash
# Gives a bare host a Go release, gopls and Delve as a build host would hand them out, and a workspace;
# and of each one that is broken.
set -Eeuo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/../../ci/release.sh"
give_release 1.27.3
cp -r "$KB_FIXTURES/go/1.27.3/cache" /run/go-cache # so that the standard library need not be compiled
chmod -R a+rwX /run/go-cache
echo GOCACHE=/run/go-cache >>"$goroot/go.env"
ln -s "$goroot/bin/go" /usr/local/bin/go

cd /run
mkdir go-tools changed-tools untraced-tools no-tools
ln -s "$KB_FIXTURES"/gotools/bin/{gopls,dlv} go-tools
(cd go-tools && sha256sum gopls dlv >SHA256SUMS)
cp go-tools/SHA256SUMS changed-tools
printf '#!/bin/sh\n' | tee changed-tools/gopls >changed-tools/dlv
printf '#!/bin/sh\n' >untraced-tools/gopls
printf '#!/bin/sh\necho "could not launch process: fork/exec: operation not permitted" >&2\nexit 1\n' >untraced-tools/dlv
chmod +x untraced-tools/*
(cd untraced-tools && sha256sum gopls dlv >SHA256SUMS)

mkdir -p work/app work/lib tilde/app
printf 'module example.com/app\n\ngo 1.21\n' | tee work/app/go.mod >tilde/app/go.mod
printf 'module example.com/lib\n\ngo 1.21\n' >work/lib/go.mod
printf 'go 1.21\n\nuse (\n\t./app\n\t./lib\n)\n' >work/go.work
printf 'go 1.21\n\nuse (\n\t./app\n\t~/lib\n)\n' >tilde/go.work
mkdir garbled
printf 'go 1.21\n\nmodules ./app ./lib\n' >garbled/go.work
