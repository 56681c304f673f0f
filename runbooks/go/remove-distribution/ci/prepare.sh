#!/bin/bash
# A host with Debian's Go, as apt has installed it, and with another one as Install Go leaves it.
set -Eeuo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/../../ci/release.sh"
give_release 1.26.6
ln -s go-1.26.6 /usr/local/go
ln -s /usr/local/go/bin/go /usr/local/bin/go

cp "$KB_FIXTURES"/debian-go/archives/*.deb /var/cache/apt/archives
dpkg --force-unsafe-io --install /var/cache/apt/archives/golang-*.deb >/dev/null
