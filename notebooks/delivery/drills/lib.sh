# shellcheck shell=bash
# What the drills share: sourced in the work directory of a drill, whose processes end with it.
#   inferd_at PORT    starts a server there
#   between PORT TO   starts toxiproxy, with a proxy at PORT that leads to TO
#   harm JSON, heal   puts a toxic into that proxy, and takes it out
#   until_ready PORT  waits for the server, a minute at most: the stop condition of each drill
#   ask ...           see ask.py
#   last SIGNAL       sends it to the server that was started last; after KILL it is gone
#   say ...           prints it, and keeps it for what was expected
started=()
trap '[ ${#started[@]} -eq 0 ] || kill -KILL "${started[@]}" 2>/dev/null || true' EXIT
model_file=${model_file:-$MODEL}

inferd_at() {
    HOME=$WORK "$INFERD" -runtime "$RUNTIME" -model "magika=$model_file" -log-level error \
        -listen "127.0.0.1:$1" -listen-grpc "127.0.0.1:$(($1 + 1))" -listen-private "127.0.0.1:$(($1 + 2))" 2>>"$WORK/inferd.log" &
    server=$!
    started+=("$server")
}
until_ready() {
    timeout 60 bash -c "until curl --silent --fail --output /dev/null http://127.0.0.1:$1/v2/health/ready; do sleep 0.1; done" ||
        { echo "stopped: the server on port $1 was not ready within a minute" >&2; return 1; }
}
between() {
    "$TOXIPROXY" -host 127.0.0.1 -port 8474 >"$WORK/toxiproxy.log" 2>&1 &
    started+=($!)
    timeout 60 bash -c 'until curl --silent --fail --output /dev/null http://127.0.0.1:8474/version; do sleep 0.1; done'
    curl --silent --fail --output /dev/null --json "{\"name\": \"way\", \"listen\": \"127.0.0.1:$1\", \"upstream\": \"127.0.0.1:$2\"}" http://127.0.0.1:8474/proxies
}
harm() { curl --silent --fail --output /dev/null --json "$1" http://127.0.0.1:8474/proxies/way/toxics; }
heal() { curl --silent --fail --output /dev/null --request POST http://127.0.0.1:8474/reset; }
infer() { echo "http://127.0.0.1:$1/v2/models/magika/infer"; }
ask() { python3 "$KB_HERE/drills/ask.py" "$@"; }
last() {
    kill "-$1" "$server"
    [ "$1" != KILL ] || { wait "$server" || true; } 2>/dev/null
}
say() { echo "$*" | tee --append "$WORK/said"; }
