#!/bin/bash
# Gives a bare host cosign and a company: a registry on loopback with an image that a build host has signed, and one
# that nobody has. The last line is the parameters that the runbook is then given.
set -Eeuo pipefail
here=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
install --mode=755 "$KB_FIXTURES/signing/debian/usr/bin/cosign" /usr/local/bin/
export PATH=$KB_FIXTURES/cyclonedx/bin:$KB_FIXTURES/signing/debian/usr/bin:$KB_FIXTURES/go/1.27.3/go/bin:$PATH
export COSIGN_PASSWORD=demonstration
at=127.0.0.1:5000
mkdir --mode=700 /srv/build /srv/registry
cat >/srv/registry.yml <<END
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: /srv/registry}}
http: {addr: $at}
END
setsid docker-registry serve /srv/registry.yml </dev/null >/run/registry.out 2>&1 &
timeout 60 bash -c "until curl --silent --fail --output /dev/null http://$at/v2/; do sleep 0.1; done" ||
    { tail --lines=3 /run/registry.out >&2; exit 1; }
HOME=$(mktemp --directory)
export HOME # where the go command keeps a cache
cosign generate-key-pair --output-key-prefix /srv/build/build 2>/dev/null
install --mode=644 /srv/build/build.pub /srv/build.pub
"$here/publish.sh" "$KB_FIXTURES/inferd/bin/inferd" "$at/team/inferd:1" /srv/build/build.key >/dev/null 2>&1
"$here/publish.sh" "$KB_FIXTURES/inferd/bin/inferd-next" "$at/team/inferd:2" "" >/dev/null
cat <<END
{"trusted": "/srv/build.pub", "repositories": "$at/team/", "image": "$at/team/inferd:1", "refused": "$at/team/inferd:2", "demonstration": "$KB_FIXTURES/inferd/bin/inferd", "tools": "$KB_FIXTURES/cyclonedx/bin:$KB_FIXTURES/signing/debian/usr/bin:$KB_FIXTURES/go/1.27.3/go/bin"}
END
