#!/bin/bash
# Gives a bare host a Go release, and a company: mirrors behind a CA of their own, on loopback.
# The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/../../ci/release.sh"
give_release 1.26.6
ln -s go-1.26.6 /usr/local/go

state=/run/modproxy
setsid "$KB_FIXTURES/modproxy/modproxy" -state "$state" -modules "$KB_FIXTURES/modproxy/modules" \
    -make corp.example/auth@v1.0.0 \
    mirror=127.0.0.1:8443,tls=1.3 hang=127.0.0.1:8444,hang stranger=127.0.0.1:8445,stranger \
    tamper=127.0.0.1:8446,tls=1.3,tamper </dev/null >/run/modproxy.out 2>&1 &

deadline=$((SECONDS + 10))
until [ -s "$state/sumdb.key" ]; do
    if ((SECONDS >= deadline)); then
        echo "the mirror on 127.0.0.1:8443 does not answer: $(tail -n 1 /run/modproxy.out)" >&2
        exit 1
    fi
    sleep 0.1
done
cat <<END
{"mirror": "https://localhost:8443", "sumdb": "$(cat "$state/sumdb.key")", "ca_file": "$state/ca.crt", "try_private": "corp.example/auth@v1.0.0", "private": "corp.example,*.corp.example"}
END
