# What the cells of diagnose-latency.ipynb share. The parameters come from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154

latency() { "$KB_PYTHON" "$KB_HERE/diagnose-latency/latency.py" "$@"; }

# delay: the last -batch-delay of what comes in; nothing if there is none.
delay() { sed -n 's/.*-batch-delay[ =]\([^ "]*\).*/\1/p' | tail -n 1; }

# set_to: the one that the settings have.
set_to() { { cat "$settings" 2>/dev/null || true; } | delay; }

# runs_with: the one that the process was started with.
runs_with() {
    local pid
    pid=$(latency process "$service" 2>/dev/null) || return 0
    { tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true; } | delay
}

# start_again: the service is restarted, as the parameter says.
start_again() {
    if [ -n "$restart" ]; then
        bash -c "$restart"
    else
        systemctl daemon-reload
        systemctl restart "$service.service"
    fi
}

# answers SECONDS [DELAY]: it answers within so long, started with that if it is given.
answers() {
    local deadline=$((SECONDS + $1))
    until curl --fail --silent --noproxy '*' --output /dev/null --max-time 5 "$pprof/cmdline" &&
        [ "${2-$(runs_with)}" = "$(runs_with)" ]; do
        ((SECONDS < deadline)) || return 1
        sleep 0.3
    done
}
