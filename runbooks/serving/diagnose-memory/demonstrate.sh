# What shows the faults in diagnose-memory.ipynb, after lib.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154

orders=$demonstration/memory/orders

# running KIND REQUESTS FAULT [DIRECTORY [VARIABLE=VALUE]]: what is found of a service that has it.
running() {
    local kind=$1 requests=$2 fault=$3 directory=${4:-$TMPDIR/files}
    mkdir -p "$directory"
    echo "== ${fault:-healthy}"
    env ${5:+"$5"} "$orders" -listen 127.0.0.1:8091 -fault "$fault" -dir "$directory" &
    service=$! pprof=http://127.0.0.1:8091/debug/pprof
    # shellcheck disable=SC2064 # this process, and not a later one
    trap "kill $service" EXIT
    answers "$ready_within"
    memory find --service "$service" --pprof "$pprof" --looks 3 --seconds 0 --allowed "$allowed" \
        --exercise "curl --silent --noproxy '*' 'http://127.0.0.1:8091/order?[1-$requests]'" \
        --expect "$kind" | sed -n '/^FOUND\|^DO/p'
    trap - EXIT
    kill "$service"
    wait "$service" 2>/dev/null || true
    rm -f "$directory"/orders-*
}

# ended CAUSE FAULT: what is told of a service that it ends, by its log.
ended() {
    local cause=$1 fault=$2
    echo "== $fault"
    {
        [ "$fault" != address-space ] || ulimit -v 2000000
        # A service that is well is sent SIGKILL, as a supervisor does whose patience has ended.
        timeout --signal=KILL "$([ "$fault" = killed ] && echo 0.1 || echo 60)" \
            "$orders" -listen 127.0.0.1:8092 -fault "$fault" || echo "exit status $?"
    } >"$TMPDIR/said" 2>&1 &
    wait $!
    memory words "$TMPDIR/said" | tee "$TMPDIR/told"
    grep --quiet "$cause" "$TMPDIR/told"
}

# leaked REQUESTS: what heaptrack has seen of so many, with the packages as they were unpacked.
leaked() {
    local tree=$demonstration/heaptrack/debian
    LD_LIBRARY_PATH=$(echo "$tree"/usr/lib/*-linux-gnu)
    export LD_LIBRARY_PATH
    "$tree/usr/bin/heaptrack" --output "$TMPDIR/c" "$orders" -listen 127.0.0.1:8093 -fault c >/dev/null 2>&1 &
    pprof=http://127.0.0.1:8093/debug/pprof answers "$ready_within"
    curl --silent --noproxy '*' --output /dev/null "http://127.0.0.1:8093/order?[1-$1]"
    pkill --full '^/[^ ]*/orders -listen 127.0.0.1:8093' # not its parent, which has these words, too
    wait
    "$tree/usr/bin/heaptrack_print" --print-leaks 1 --print-peaks 0 --print-allocators 0 --print-temporary 0 "$TMPDIR"/c.* |
        sed -n '/^MEMORY LEAKS/,/^$/p'
}
