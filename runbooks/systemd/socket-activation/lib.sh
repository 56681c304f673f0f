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
    cat >"$1/$name.socket" <<END
# Made by the runbook systemd/socket-activation; its rollback reads the next line.
#before $name.service $(before)
[Unit]
Description=Socket of $name

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
Description=$name, started by $name.socket
# so that a start by hand gets the socket, too
Requires=$name.socket
After=$name.socket

[Service]
Type=$([ "$notify" = true ] && echo notify || echo exec)
ExecStart=$binary${arguments:+ $arguments}
$([ -n "$user" ] && echo "User=$user" || echo "DynamicUser=yes")
TimeoutStartSec=$ready_within
# not always: a service that ends because nobody asks stays down
Restart=on-failure
END
        [ -z "$service_lines" ] || tr ';' '\n' <<<"$service_lines"
    } >"$1/$name.service"
}

# Whether the service ran before the runbook changed it: active, inactive, failed ...
before() {
    local noted
    noted=$(sed -n "s/^#before $name.service //p" "/etc/systemd/system/$name.socket" 2>/dev/null || true)
    echo "${noted:-$(systemctl is-active "$name.service" || true)}"
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
    pid=$(systemctl show --value --property MainPID "$name.service")
    [ "$pid" != 0 ] && echo "$pid"
}
