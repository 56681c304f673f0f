# A service that a diagnosis restarts: for cells of diagnose-memory and diagnose-latency, by their lib.sh, which
# has runs_with. The parameters come from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154

# start_again: the service is restarted, as the parameter says.
start_again() {
    if [ -n "$restart" ]; then
        bash -c "$restart"
    else
        systemctl daemon-reload
        systemctl restart "$service.service"
    fi
}

# answers SECONDS [SETTING]: it answers within so long, started with that setting if one is given.
answers() {
    local deadline=$((SECONDS + $1))
    until curl --fail --silent --noproxy '*' --output /dev/null --max-time 5 "$pprof/cmdline" &&
        [ "${2-$(runs_with)}" = "$(runs_with)" ]; do
        ((SECONDS < deadline)) || return 1
        sleep 0.3
    done
}
