# shellcheck shell=bash
# What the cells of timeline.ipynb share. The parameters come from the environment.
# shellcheck disable=SC2154

process() { # the service's main process; 0: none
    systemctl show --property MainPID --value "$service"
}

get() { # from the service itself, whatever proxy is set
    no_proxy='*' curl --fail --silent --show-error --max-time 10 "$@"
}

started_with() { # the running service's arguments and environment, on one line
    ps eww -o args= --pid "$(process)"
}

godebug() { # GODEBUG as the running service has it, less what this runbook adds
    local line settings=' GODEBUG=([^ ]*)'
    line=$(started_with) || return
    [[ $line =~ $settings ]] || return 0
    tr ',' '\n' <<<"${BASH_REMATCH[1]}" | sed '/^gctrace=/d' | paste --serial --delimiters=,
}

drop_in() { # the lines for the unit; the last GODEBUG counts, so it has the others' settings, too
    local before
    before=$(godebug) || return
    cat <<END
# Written by the runbook systemd/timeline, whose rollback takes it away.
[Service]
Environment="GODEBUG=${before:+${before//%/%%},}gctrace=1"
StandardError=journal
END
}

logs_collections() { # whether the running service does
    local logs=' GODEBUG=[^ ]*gctrace=1'
    [[ $(started_with) =~ $logs ]]
}

ready() { # SECONDS ADDRESS...: it runs, and answers at each within so long
    local deadline=$((SECONDS + $1))
    shift
    until systemctl --quiet is-active "$service" && answers "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.5
    done
}

answers() { # ADDRESS...
    local address
    for address; do
        get --output /dev/null "$address" 2>/dev/null || return
    done
}

asked() { # whether the service is asked for anything: not if a saved trace is all that is read
    [ -n "$url" ] || [[ $flight != file://* ]]
}
