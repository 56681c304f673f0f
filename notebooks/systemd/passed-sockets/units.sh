# The units that the notebook looks at, in /run, so that a boot forgets them. Sourced by its cells.
# shellcheck shell=bash disable=SC2154 # the parameters; $BUILT, $units and $WORK

# put UNIT: writes a unit from standard input.
put() { cat >"$units/passed-$1"; }

# pair NAME PORT [COMMAND]: a socket unit as the post has it, and a service.
pair() {
    put "$1.socket" <<END
[Socket]
ListenStream=$2
Accept=false
BindIPv6Only=both
${3:-}

[Install]
WantedBy=sockets.target
END
    put "$1.service" <<END
[Unit]
StartLimitIntervalSec=0
$unit_lines

[Service]
ExecStart=$WORK/hello $arguments
$service_lines
END
}

make_units() {
    mkdir -p "$units"
    chmod 755 "$WORK" # the services of other accounts are in it
    cp "$BUILT/hello-1" "$WORK/hello"
    cp "$BUILT/plain" "$WORK/plain"
    pair web 8080
    # the same service, listening by itself
    put alone.service <<END
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
ExecStart=$WORK/hello -listen :8081
END
    # a socket without a service
    put lonely.socket <<<$'[Socket]\nListenStream=8082'
    # a process for each connection
    put each.socket <<<$'[Socket]\nListenStream=8083\nAccept=true'
    put each@.service <<<$'[Service]\nStandardInput=socket\nExecStart=/bin/cat'
    # a port that only root may open, for a service that is not root's
    pair low 84
    printf '[Service]\nUser=nobody\n' >>"$units/passed-low.service"
    # a program that knows nothing of systemd, given the socket, and behind systemd's proxy
    pair unchanged 8085
    sed -i "s|^ExecStart=.*|ExecStart=$WORK/plain :8085|" "$units/passed-unchanged.service"
    put proxied.socket <<<$'[Socket]\nListenStream=8086'
    put proxied.service <<END
[Unit]
Requires=passed-plain.service
After=passed-plain.service
[Service]
Type=notify
ExecStart=/usr/lib/systemd/systemd-socket-proxyd --exit-idle-time=2s 127.0.0.1:8087
END
    # It cannot say when it is ready, so somebody has to try.
    put plain.service <<END
[Unit]
StopWhenUnneeded=yes
[Service]
ExecStart=$WORK/plain 127.0.0.1:8087
ExecStartPost=/bin/bash -c 'until (: </dev/tcp/127.0.0.1/8087); do sleep 0.1; done 2>/dev/null'
END
    # in a network of their own, where IPv6 sockets are to take no IPv4
    pair v6bind 8088 "NetworkNamespacePath=/run/netns/passed"
    pair v6default 8089 "NetworkNamespacePath=/run/netns/passed"
    sed -i "s/^BindIPv6Only=.*/BindIPv6Only=$bind/" "$units/passed-v6bind.socket"
    sed -i '/^BindIPv6Only/d' "$units/passed-v6default.socket"
}

# What the unit runs as, 0 if nothing.
process() { systemctl show --value --property MainPID "passed-$1.service"; }

# wait_for SECONDS CONDITION...: until it holds, or that long; what comes after looks itself.
wait_for() {
    local end=$((SECONDS + $1))
    until "${@:2}"; do
        [ "$SECONDS" -lt "$end" ] || return 0
        sleep 0.1
    done
}

runs() { [ "$(process "$1")" != 0 ]; }

is() { [ "$(state "$1")" = "$2" ]; }

# slower_starts NAME...: their next starts take half a second more.
slower_starts() {
    local name
    for name; do
        mkdir -p "$units/passed-$name.service.d"
        printf '[Service]\nExecStartPre=/bin/sleep 0.5\n' >"$units/passed-$name.service.d/slower.conf"
    done
    systemctl daemon-reload
}

state() { systemctl is-active "passed-$1" || true; }

end_units() {
    systemctl --quiet stop 'passed-*.socket' 'passed-*.service' 2>/dev/null || true
    systemctl reset-failed 'passed-*' 2>/dev/null || true
    rm -rf "$units"/passed-* "$units/sockets.target.wants"/passed-*
    ip netns delete passed 2>/dev/null || true
    systemctl daemon-reload
}
