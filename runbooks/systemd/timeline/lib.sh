# shellcheck shell=bash
# What the cells of timeline.ipynb share. The parameters come from the environment.
# shellcheck disable=SC2154

process() { # the service's main process; 0: none
    systemctl show --property MainPID --value "$service"
}

get() { # from the service itself, whatever proxy is set
    curl --noproxy '*' --fail --silent --show-error --max-time 10 "$@"
}

godebug() { # GODEBUG as the running service has it, less what this runbook adds
    tr '\0' '\n' <"/proc/$(process)/environ" | sed -n 's/^GODEBUG=//p' | tr ',' '\n' |
        sed '/^gctrace=/d' | paste --serial --delimiters=,
}

drop_in() { # the lines for the unit; the last GODEBUG counts, so it has the others' settings, too
    local before
    before=$(godebug)
    cat <<END
# Written by the runbook systemd/timeline, whose rollback takes it away.
[Service]
Environment="GODEBUG=${before:+${before//%/%%},}gctrace=1"
StandardError=journal
END
}

logs_collections() { # whether the running service does
    tr '\0' '\n' <"/proc/$(process)/environ" | grep --quiet '^GODEBUG=.*gctrace=1'
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
