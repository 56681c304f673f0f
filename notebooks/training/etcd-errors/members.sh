# shellcheck shell=bash
# Three members of etcd, for cells: source it, and they end with the cell. What starts or stops one does so in
# the cell's own shell: not behind a pipe.
#   start N [OPTION...]     member N: 1, 2 or 3
#   stop N                  killed, as by a machine that is lost
#   signal N NAME           a signal to it: STOP, CONT
#   ended N                 waits until it has ended by itself
#   at N COMMAND...         asks that member alone
#   until_ok COMMAND...     tried again until it succeeds, at most two minutes
#   try WHAT COMMAND...     one line on what it says
#   urls N                  where clients and peers reach it
cd "$(mktemp --directory)" || exit
peers="m1=http://127.77.0.1:2380,m2=http://127.77.0.2:2380,m3=http://127.77.0.3:2380"
export ETCDCTL_ENDPOINTS=http://127.77.0.1:2379,http://127.77.0.2:2379,http://127.77.0.3:2379
declare -A process
trap 'kill -KILL "${process[@]}" 2>/dev/null || true' EXIT

start() {
    local at=http://127.77.0.$1
    "$ETCD" --name="m$1" --data-dir="m$1" --listen-client-urls="$at:2379" --advertise-client-urls="$at:2379" \
        --listen-peer-urls="$at:2380" --initial-advertise-peer-urls="$at:2380" --logger=zap --initial-cluster="$peers" \
        --quota-backend-bytes=4000000 "${@:2}" >"m$1.log" 2>&1 &
    process[$1]=$!
}
stop() {
    kill -KILL "${process[$1]}"
    wait "${process[$1]}" 2>/dev/null || true
    unset "process[$1]"
}
signal() { kill "-$2" "${process[$1]}"; }
ended() { wait "${process[$1]}" || true; }
at() { ETCDCTL_ENDPOINTS=http://127.77.0.$1:2379 "${@:2}"; }
until_ok() {
    local deadline=$((SECONDS + 120))
    until "$@" >said 2>&1; do
        ((SECONDS < deadline)) || { echo "not within two minutes: $*: $(tail -n 1 said)" >&2; return 1; }
        sleep 0.1
    done
}
try() { echo "$1: $({ "${@:2}" || true; } 2>&1 | { grep --invert-match '^{' || true; } | paste --serial --delimiters='|')"; }

for member in 1 2 3; do start "$member"; done
for member in 1 2 3; do until_ok at "$member" "$ETCDCTL" endpoint health; done
