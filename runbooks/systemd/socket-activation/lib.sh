# What several cells of the runbook need. Sourced, with the runbook's parameters in the environment.
# shellcheck shell=bash disable=SC2154 # the parameters

port=${listen##*:}

# The URLs under which the service answers: over IPv4 and IPv6, where only a port was given.
urls() {
    if [ "$listen" = "$port" ]; then
        echo "http://127.0.0.1:$port$path"
        [ -z "$(ip -6 address show to ::1)" ] || echo "http://[::1]:$port$path"
    else
        echo "http://$listen$path"
    fi
}

# write_units DIRECTORY: the two units.
write_units() {
    cat >"$1/$service.socket" <<END
# Made by the runbook systemd/socket-activation.
[Unit]
Description=Socket of $service

[Socket]
ListenStream=$listen
# IPv4 and IPv6 on one socket, whatever net.ipv6.bindv6only says
BindIPv6Only=both

[Install]
WantedBy=sockets.target
END
    {
        cat <<END
# Made by the runbook systemd/socket-activation.
[Unit]
Description=$service, started by $service.socket
# so that a start by hand gets the socket, too
Requires=$service.socket
After=$service.socket
$(carried Unit)

[Service]
Type=$([ "$notify" = true ] && echo notify || echo exec)
ExecStart=$binary${arguments:+ $arguments}
TimeoutStartSec=$ready_within
# not always: a service that ends because nobody asks stays down
Restart=on-failure
END
        if [ -n "$user" ]; then
            echo "User=$user"
        elif [ "$(before "$service.service")" = absent ]; then
            echo DynamicUser=yes
        fi
        carried Service
        [ -z "$service_lines" ] || tr ';' '\n' <<<"$service_lines"
    } >"$1/$service.service"
}

# before UNIT: what it was before the runbook changed it: absent, active, inactive, failed ...
before() {
    if kb-noted "${1##*.}"; then
        return
    elif [ "$(systemctl show --value --property LoadState "$1")" = not-found ]; then
        echo absent
    else
        systemctl is-active "$1" || true
    fi
}

# earlier keep|drop SECTION: the lines of the unit before this runbook's that are carried over, or are not,
# since the runbook sets them itself. In the runbook's own unit they stand between two comments.
earlier() {
    local from
    from=$(systemctl show --value --property FragmentPath "$service.service")
    [ -n "$from" ] || return 0
    awk -v wanted="$1" -v section="[$2]" -v user="$user" '
        NR == 1 { ours = /^# Made by the runbook systemd\/socket-activation/ }
        /^\[/ { here = $0 == section; next }
        !here { next }
        /^# Carried over/ { inside = 1; next }
        /^# Until here/ { inside = 0; next }
        ours && !inside || !more && /^[ \t]*([#;].*)?$/ { next }
        !more {
            key = $0
            sub(/[ \t]*=.*/, "", key)
            dropped = key ~ /^(Type|ExecStart|TimeoutStartSec|Restart)$/ || user != "" && key ~ /^(User|DynamicUser)$/
        }
        { more = /\\$/ }
        dropped == (wanted == "drop")
    ' "$from"
}

# carried SECTION: those that are, as they stand in the unit
carried() {
    local lines
    lines=$(earlier keep "$1")
    [ -z "$lines" ] || printf '# Carried over from the unit before:\n%s\n# Until here.\n' "$lines"
}

# is_newer FILE UNIT PROPERTY: FILE was written after the moment that the unit's property tells
is_newer() {
    local moment
    moment=$(systemctl show --value --property "$3" "$2")
    [ -n "$moment" ] && [ "$(stat --format %Y "$1")" -gt "$(date --date "$moment" +%s)" ]
}

# The program's process; fails if there is none.
process() {
    local pid
    pid=$(systemctl show --value --property MainPID "$service.service")
    [ "$pid" != 0 ] && echo "$pid"
}

# is_older PROCESS: it does not run the program as it is now; the path of one that was replaced ends with (deleted)
is_older() {
    [ "$(ps -ww -o exe= --pid "$1")" != "$(readlink --canonicalize "$binary")" ] ||
        is_newer "$binary" "$service.service" ExecMainStartTimestamp
}
