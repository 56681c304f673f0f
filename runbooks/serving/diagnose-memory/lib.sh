# What the cells of diagnose-memory.ipynb share. The parameters come from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154
# shellcheck source=SCRIPTDIR/../service.sh
. "$KB_HERE/service.sh"

memory() { "$KB_PYTHON" "$KB_HERE/diagnose-memory/memory.py" "$@"; }

# find_it ARGUMENT...: looks as the parameters say, and prints what was found.
find_it() {
    memory find --service "$service" --pprof "$pprof" --allowed "$allowed" --exercise "$exercise" \
        --looks "$looks" --seconds "$seconds" "$@"
}

# set_to: the memory limit that the settings have; nothing if they have none.
set_to() {
    { sed -n 's/^\(Environment=\)\?GOMEMLIMIT=//p' "$settings" 2>/dev/null || true; } | tail -n 1
}

# runs_with: the one that the process was started with.
runs_with() {
    local pid
    pid=$(memory process "$service" 2>/dev/null) || return 0
    { tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null || true; } | sed -n 's/^GOMEMLIMIT=//p'
}

# wanted: MiB for Go. What the settings have is kept: what is outside Go is another in each look.
wanted() {
    local has
    has=$(set_to)
    if [[ $has =~ ^([0-9]+)MiB$ ]]; then
        echo "${BASH_REMATCH[1]}"
    elif [ -n "${FOUND_LIMIT:-}" ]; then
        echo "$FOUND_LIMIT"
    else # this step alone is run
        memory limit --service "$service" --pprof "$pprof" --allowed "$allowed"
    fi
}

# with_limit: the settings as they are, with the limit.
with_limit() {
    case $settings in
        *.conf) printf '# Written by the runbook serving/diagnose-memory.\n[Service]\nEnvironment=GOMEMLIMIT=%sMiB\n' "$1" ;;
        *)
            { grep --invert-match '^GOMEMLIMIT=' "$settings" 2>/dev/null || true; }
            echo "GOMEMLIMIT=$1MiB"
            ;;
    esac
}
