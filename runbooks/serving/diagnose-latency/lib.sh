# What the cells of diagnose-latency.ipynb share. The parameters come from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154
# shellcheck source=SCRIPTDIR/../service.sh
. "$KB_HERE/service.sh"

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
