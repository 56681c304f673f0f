#!/bin/bash
# Gives a host without a way to go.dev a mirror on loopback, made of the archives in $KB_FIXTURES/go.
# The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

answers() { # URL; python3, because a bare host has no curl
    python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' "$1" 2>/dev/null
}

# As if a run with toolchain=path had installed it: a newer version for modules that ask for it.
ln -s "$KB_FIXTURES/go/1.27.3/go/bin/go" /usr/local/bin/go1.27.3

if answers https://go.dev/dl/; then
    echo '{}'
    exit
fi

root=/run/go-mirror # as a static mirror has it: the archives and their sums, one beside the other
mkdir -p "$root"
ln -sf "$KB_FIXTURES"/go/*/go*.tar.gz "$KB_FIXTURES"/go/*/go*.tar.gz.sha256 "$root"
setsid python3 -m http.server --bind 127.0.0.1 --directory "$root" 8099 \
    </dev/null >"$root.log" 2>&1 &

deadline=$((SECONDS + 10))
until answers http://127.0.0.1:8099/; do
    if ((SECONDS >= deadline)); then
        echo "the mirror on 127.0.0.1:8099 does not answer: $(tail -n 1 "$root.log")" >&2
        exit 1
    fi
    sleep 0.1
done
echo '{"mirror": "http://127.0.0.1:8099"}'
