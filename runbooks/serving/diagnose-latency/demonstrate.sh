# What shows the faults in diagnose-latency.ipynb, after lib.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154

orders=$demonstration/latency/orders
served=http://127.0.0.1:8091
slow_one=http://127.0.0.1:8095/order # what others ask: it sleeps

# begun ADDRESS COMMAND...: starts it, and waits until that answers; its number is in $last.
begun() {
    "${@:2}" &
    last=$!
    started+=("$last")
    until curl --silent --noproxy '*' --output /dev/null "$1"; do
        kill -0 "$last"
        sleep 0.1
    done
}

# ended: what was begun ends.
ended() {
    kill "${started[@]}" 2>/dev/null || true
    wait "${started[@]}" 2>/dev/null || true
    started=()
}
started=()

# told KIND ADDRESS OPTION...: what is found of the process in $last.
told() {
    latency find --service "$last" --pprof "$2" --seconds 2 --slow "${late:-400}" --share 50 --expect "$1" "${@:3}" |
        sed -n '/^FOUND\|^DO/p'
}

# slow KIND FAULT: what is found of a service that has it, which goes on.
slow() {
    echo "== ${2:-healthy}"
    [[ $2 != upstream && $2 != lock ]] || begun "$slow_one" "$orders" -listen 127.0.0.1:8095 -fault sleep
    begun "$served/debug/pprof/cmdline" "$orders" -listen "${served#*//}" -fault "$2" -needs "$slow_one" -dir "$TMPDIR"
    [ "$2" != disk ] || slow_disk "$last"
    told "$1" "$served/debug/pprof" --url "$served/order"
}

# blocked FUNCTION: which lines of an execution trace, and of the mutex profile, name it.
blocked() {
    local profile HOME=$TMPDIR # where Go's tools would leave their counters
    for ((asked = 0; asked < 4; asked++)); do
        curl --silent --noproxy '*' --output /dev/null "$served/order?[1-2]" &
        started+=("$!")
    done
    curl --silent --noproxy '*' --output "$TMPDIR/trace" "$served/debug/pprof/trace?seconds=3"
    curl --silent --noproxy '*' --output "$TMPDIR/mutex" "$served/debug/pprof/mutex"
    "$demonstration/latency/trace" -pprof=sync "$TMPDIR/trace" >"$TMPDIR/sync"
    for profile in sync mutex; do
        "$demonstration/latency/pprof" -top -cum "$TMPDIR/$profile" 2>/dev/null >"$TMPDIR/$profile.top"
        echo "$profile: $(grep --fixed-strings "$1" "$TMPDIR/$profile.top")"
    done
}

# slow_disk PID: from now on each fsync of it takes 600 ms longer.
slow_disk() {
    strace --follow-forks --quiet=all --output /dev/null --trace=fsync \
        --inject=fsync:delay_enter=600000 --attach "$1" &
    started+=("$!")
    until [ "$(sed -n 's/^TracerPid:\t//p' "/proc/$1/status")" != 0 ]; do sleep 0.1; done
}

asked=http://127.0.0.1:8092/v2/models/magika

# serving COMMAND...: inferd runs, begun by these words, which may set its variables and have its options follow.
serving() {
    begun "$asked" env HOME="$TMPDIR" "$@" -runtime "$demonstration/onnx/runtime/libonnxruntime.so" \
        -model "magika=$demonstration/onnx/magika/model.onnx" -log-level warn \
        -listen 127.0.0.1:8092 -listen-grpc 127.0.0.1:8093 -listen-private 127.0.0.1:8094
    printf '{"inputs": [{"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": [%s 32]}]}' \
        "$(printf '32, %.0s' {1..2047})" >"$TMPDIR/question.json"
}

# told_of_model KIND OPTION...: what is found of it.
told_of_model() {
    told "$1" http://127.0.0.1:8094/debug/pprof --metrics http://127.0.0.1:8094/metrics \
        --url "$asked/infer" --body "$TMPDIR/question.json" "${@:2}"
}

# model KIND OPTION...: what is found of inferd, and one of the traces that it sends meanwhile.
model() {
    echo "== inferd ${*:2}"
    begun http://127.0.0.1:8096 "$KB_PYTHON" "$KB_HERE/diagnose-latency/latency.py" spans 8096 >"$TMPDIR/spans"
    serving OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:8096 OTEL_BSP_SCHEDULE_DELAY=200 \
        "$demonstration/inferd/bin/inferd" "${@:2}"
    told_of_model "$1"
    until [ -s "$TMPDIR/spans" ]; do sleep 0.1; done
    sed -n '1s/.*/one of its traces:/p; 2,4p' "$TMPDIR/spans"
}

# neighbour: inferd runs with a low priority, and a loop beside it on its one processor.
neighbour() {
    local processor
    processor=$(sed -n 's/^Cpus_allowed_list:\t\([0-9]*\).*/\1/p' "/proc/$BASHPID/status")
    serving taskset --cpu-list "$processor" nice --adjustment=16 \
        "$demonstration/inferd/bin/inferd" -timeout 5m
    taskset --cpu-list "$processor" bash -c 'while :; do :; done' &
    loop=$!
    started+=("$loop")
}

# calm: the loop ends, and all is well, within two minutes: the machine may have other work, too.
calm() {
    local deadline=$((SECONDS + 120))
    kill "$loop"
    until late=1000 told_of_model healthy --clients 2 >"$TMPDIR/told" 2>&1; do
        ((SECONDS < deadline)) || { cat "$TMPDIR/told" && return 1; }
    done
    cat "$TMPDIR/told"
}

# by_hand: how long the threads of the process in $last ran, and waited for a processor, since they began.
by_hand() {
    cat "/proc/$last/task/"*/schedstat |
        awk '{ran += $1; waited += $2} END {printf "ran %.2f s, waited %.2f s\n", ran / 1e9, waited / 1e9}'
}
