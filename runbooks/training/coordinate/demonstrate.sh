#!/bin/bash
# usage: demonstrate.sh PROGRAM DIRECTORY
# What PROGRAM (epoch) says of TLS, of a slow disk, and of members that stand still. DIRECTORY has
# the numbers of three members' processes; what is started here ends with it.
set -Eeuo pipefail
epoch=$1 numbers=$2
cd "$(mktemp --directory)"
own='' before=()
trap 'ended; kill -CONT "$(cat "$numbers/2.pid")" "$(cat "$numbers/3.pid")"; rm -r "$PWD"' EXIT
told() { # WHAT VARIABLE=VALUE...: the last line of a look
    printf '%s:\n    %s\n' "$1" "$(env "${@:2}" "$epoch" look 2>&1 | sed 's/^epoch: //' | tee said | sed -n "${line:-$}p")"
}
ended() { # the one that was started here
    kill -KILL "$own" 2>/dev/null || true
    { wait "$own" || true; } 2>/dev/null
}
# alone URL [OPTION...]: an etcd of one member, at 127.77.0.8
alone() {
    local at=$1
    shift
    rm -rf data
    "${before[@]}" etcd --name=alone --data-dir=data --listen-client-urls="$at" --advertise-client-urls="$at" \
        --listen-peer-urls=http://127.77.0.8:2380 --initial-advertise-peer-urls=http://127.77.0.8:2380 \
        --initial-cluster=alone=http://127.77.0.8:2380 "$@" >log 2>&1 &
    own=$!
    for _ in $(seq 1200); do
        ! grep --quiet 'serving client traffic' log || return 0
        sleep 0.1
    done
    tail -n 3 log >&2
    return 1
}

tls=https://127.77.0.8:2379 plain=http://127.77.0.8:2379
alone "$tls" --auto-tls
told "http:// where it speaks TLS" ETCDCTL_ENDPOINTS=$plain
grep --quiet "say $tls," said
told "a certificate of an unknown CA" ETCDCTL_ENDPOINTS=$tls
grep --quiet 'name the one that has issued it in ETCDCTL_CACERT' said
told "https:// where it does not" ETCDCTL_ENDPOINTS=https://127.77.0.1:2379
grep --quiet 'if it speaks none, say http://127.77.0.1:2379' said
cp data/fixtures/client/{cert,key}.pem .
ended
alone "$tls" --client-cert-auth --trusted-ca-file=cert.pem --cert-file=cert.pem --key-file=key.pem
told "no client's certificate" ETCDCTL_ENDPOINTS=$tls "ETCDCTL_CACERT=$PWD/cert.pem"
grep --quiet 'in ETCDCTL_CERT and ETCDCTL_KEY' said

ended
# Each sync of its log is made to last 20 ms, as on a disk that others use.
before=(strace --follow-forks --kill-on-exit -qq --output=/dev/null --trace=fdatasync --inject=fdatasync:delay_exit=20000)
alone "$plain"
curl --fail --silent --output /dev/null --data '{"key": "YQ=="}' "$plain/v3/kv/put?[1-120]"
told "a slow disk" ETCDCTL_ENDPOINTS=$plain
grep --quiet '^one in a hundred syncs of the log takes long (alone' said

kill -STOP "$(cat "$numbers/2.pid")" "$(cat "$numbers/3.pid")"
line=5 told "two of three stand still" ETCDCTL_ENDPOINTS=http://127.77.0.1:2379
grep --quiet '^1 of 3 members answer, which is no majority' said
