# shellcheck shell=bash
# What the cells of clock-jump.ipynb share: source it.
#   jump TIME          sets the system's clock, such as +1hour; it says so
#   until_so COMMAND   waits until a command succeeds, three minutes at most
#   say NAME VALUE     a line for the reader, and for the check in the next cell

say() { printf '%s: %s\n' "$1" "${*:2}"; }

jump() {
    date --set="$1" >/dev/null
    say "-- the clock jumps" "$1"
}

# Seconds since the machine began, which no jump of the clock changes. bash's SECONDS jump with it.
uptime_seconds() { cut -d . -f 1 /proc/uptime; }

until_so() {
    local end=$(($(uptime_seconds) + 180)) # an emulated processor is slow
    until "$@" >/dev/null 2>&1; do
        if (($(uptime_seconds) > end)); then
            echo "not so within three minutes: $*" >&2
            return 1
        fi
        sleep 0.2
    done
}
