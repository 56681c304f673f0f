# What several cells of the runbook need. Sourced, with the runbook's parameters in the environment.
# shellcheck shell=bash disable=SC2154 # the parameters

store=/usr/local/lib/$service
units=/etc/systemd/system
sockets=("$service.socket" "$service-grpc.socket")
mark='# Made by the runbook serving/deploy.'

# ours UNIT: it is this runbook's
ours() { grep --quiet --no-messages --line-regexp "$mark" "$units/$1"; }

# command PLACE: how the server is started, with its files in that directory
command_of() {
    echo "$1/inferd -runtime $1/libonnxruntime.so -model $model_name=$1/model.onnx -provider $provider" \
        "-listen-private $listen_private${arguments:+ $arguments}"
}

# sandbox: the directives that the trial and the service share. It writes nothing, so it has no place to
# write to, but for kernels that CUDA has compiled.
sandbox() {
    cat <<'END'
# A user that exists only while it runs; nothing can be written to, and no home be seen.
DynamicUser=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
END
    if [ "$provider" = cuda ]; then
        cat <<END
# No devices but null, zero, random and the like, and those of NVIDIA's driver.
PrivateDevices=no
DevicePolicy=closed
DeviceAllow=char-nvidia* rw
CacheDirectory=$service
Environment=CUDA_CACHE_PATH=%C/$service
END
    else
        cat <<'END'
# No devices but null, zero, random and the like.
PrivateDevices=yes
DevicePolicy=closed
END
    fi
    cat <<END
# The kernel's settings are not its own. /proc stays whole (no ProcSubset=pid): ONNX Runtime reads
# /proc/cpuinfo, and Go the length of its listen queue.
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
# No privileges, and none to be gained. A port below 1024 is opened by systemd.
CapabilityBoundingSet=
PrivateUsers=yes
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
RemoveIPC=yes
UMask=0077
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
# ONNX Runtime makes no code while it runs, and needs no more than other services do.
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
MemoryDenyWriteExecute=yes
# The model, the runtime's arenas and the bodies of requests. Go's collector hurries at half of it,
# since what ONNX Runtime allocates is none of Go's.
MemoryMax=$memory
MemorySwapMax=0
Environment=GOMEMLIMIT=$(($(numfmt --from=iec "$memory") / 2))B
TasksMax=256
# Each connection is an open file. Go makes its soft limit as high as this by itself.
LimitNOFILE=$open_files
END
}

# write_units DIRECTORY: the three units
write_units() {
    local name
    for name in rest grpc; do
        cat >"$1/$service$([ "$name" = rest ] || echo "-$name").socket" <<END
$mark
[Unit]
Description=$name socket of $service

[Socket]
ListenStream=$([ "$name" = rest ] && echo "$listen" || echo "$listen_grpc")
# the name by which inferd knows it
FileDescriptorName=$name
Service=$service.service

[Install]
WantedBy=sockets.target
END
    done
    cat >"$1/$service.service" <<END
$mark
[Unit]
Description=The model $model_name
# so that a start by hand gets the sockets, too
Requires=${sockets[*]}
After=${sockets[*]}

[Service]
# ready once every model has been loaded and tried; systemctl reload loads them anew
Type=notify-reload
Sockets=${sockets[*]}
ExecStart=$(command_of "$store")
TimeoutStartSec=$ready_within
# longer than inferd waits for what is under way
TimeoutStopSec=60
Restart=on-failure
RestartSec=1
$(sandbox)
END
}

# serving: the files and the units that were last seen to serve, by name
serving() { cat "$store/serving" 2>/dev/null || true; }

# reload: the model anew; fails, and says why, if the one before had to stay
reload() { curl --silent --show-error --fail-with-body --request POST "http://$listen_private/reload"; }

# sum FILE: the part of its checksum that is in its name; stored KIND FILE: puts it into the store, and its
# name there into REPLY
sum() { sha256sum <"$1" | cut --characters=-12; }
stored() {
    REPLY=$1-$(sum "$2")
    ! cmp --quiet "$2" "$store/$REPLY" || return 0
    install --mode="$([ "$1" = inferd ] && echo 755 || echo 644)" "$2" "$store/.new"
    sync "$store/.new"
    mv "$store/.new" "$store/$REPLY"
    echo "changed: $store/$REPLY is $2"
}

# links NAME...: what the service finds from now on
links() {
    local name
    for name; do
        [[ $name != units-* && "$(readlink "$store/${name%-*}")" != "$name" ]] || continue
        ln --symbolic --force --no-target-directory "$name" "$store/.link"
        mv --no-target-directory "$store/.link" "$store/${name%-*}"
    done
}

# put INFERD RUNTIME MODEL UNITS: these are served from now on; fails if they are not
put() {
    local name verb=start now
    now=$(serving)
    links "$@"
    for name; do
        [[ " $now " != *" $name "* ]] || continue
        if [[ $name != model.onnx-* ]]; then
            verb=restart
        elif [ "$verb" = start ]; then
            verb=reload
        fi
    done
    if [ "$verb" = reload ] && systemctl --quiet is-active "$service.service"; then
        reload || return 1
    else
        systemctl reset-failed "$service.service" 2>/dev/null || true
        systemctl "${verb/reload/restart}" "$service.service" || return 1
    fi
    [ "$now" != "$*" ] || return 0
    echo "$*" >"$store/.serving"
    mv "$store/.serving" "$store/serving"
    echo "changed: $service serves $3 with $1 ($verb)"
}

# replace INFERD RUNTIME MODEL UNITS: puts them; if they do not serve, those that did are put back, and it fails
replace() {
    local before
    read -r -a before <<<"$(serving)"
    ! put "$@" || return 0
    said
    [ "${#before[@]}" = 4 ] || return 1
    put "${before[@]:0:3}" "$4" || true
    echo "$1 with $3 did not serve: see the lines above; ${before[0]} with ${before[2]} is in place again" >&2
    return 1
}

# brought_back: the links and the word of what is served, as they lie in $TMPDIR: to the second, or they would
# be taken for somebody's edits
brought_back() {
    local name
    for name in inferd model.onnx serving; do
        cp --archive "$TMPDIR/$name" "$store/.link"
        mv --no-target-directory "$store/.link" "$store/$name"
    done
}

# release: what the server that answers is called
release() { curl --silent "$(url)/v2" | sed -E 's/.*"version":"([^"]*)".*/\1/'; }

# turn reload|restart NAME...: puts them; what is there already is reloaded or restarted
turn() {
    if [ "${*:2}" = "$(serving)" ]; then
        systemctl "$1" "$service.service"
        echo "the same again ($1)"
    else
        put "${@:2}"
    fi
}

# sockets_are_old: one is closed, or was opened before its unit was written
sockets_are_old() {
    local unit opened
    for unit in "${sockets[@]}"; do
        systemctl --quiet is-active "$unit" || return 0
        opened=$(systemctl show --value --property ActiveEnterTimestamp "$unit")
        [ "$(stat --format=%Y "$units/$unit")" -le "$(date --date "$opened" +%s)" ] || return 0
    done
    return 1
}

# tried: what the server's own check says in a transient unit with the service's sandbox
tried() {
    local lines
    mkdir "$TMPDIR/it"
    install --mode=755 "$binary" "$TMPDIR/it/inferd"
    install --mode=644 "$runtime" "$TMPDIR/it/libonnxruntime.so"
    install --mode=644 "$model" "$TMPDIR/it/model.onnx"
    mapfile -t lines < <(sandbox | sed -E '/^(#|CacheDirectory=)/d')
    # env, since systemd-run looks for the program itself, and it is not there outside of the unit
    # shellcheck disable=SC2046 # the flags are words
    systemd-run --wait --pipe --collect "${lines[@]/#/--property=}" --property=RuntimeMaxSec="$ready_within" \
        --property=TemporaryFileSystem=/mnt --property=BindReadOnlyPaths="$TMPDIR/it:/mnt/it" \
        -- /usr/bin/env $(command_of /mnt/it) -check 2>&1 || true
}

# said: the service's last words
said() { journalctl --quiet --no-pager --output cat --lines 8 --unit "$service.service" | cut --characters=-300; }

# url: where a client of this host asks
url() {
    local address=${listen/#0.0.0.0/127.0.0.1}
    echo "http://${address/#\[::\]/[::1]}"
}

# listeners ADDRESS: the units that listen there, or where it would be in their way, each with its process
listeners() {
    local address users pid unit
    ss -Hltnp "sport = :${1##*:}" | while read -r _ _ _ address _ users; do
        case ${address%:*} in # somebody's own address is no obstacle to another one
            '*' | 0.0.0.0 | '[::]' | "${1%:*}") ;;
            *) [[ $1 == 0.0.0.0:* || $1 == '[::]':* ]] || continue ;;
        esac
        while read -r pid; do
            unit=$(systemctl whoami "$pid")
            if [ "$pid" = 1 ]; then # systemd holds it: for which socket?
                unit=$(systemctl --no-legend --plain list-sockets | awk -v port=":${1##*:}" '$1 ~ port "$" {print $2}' | awk 'NR <= 1')
            fi
            echo "$unit $pid"
        done < <({ grep -o 'pid=[0-9]*' <<<"$users" || true; } | cut -c 5-)
    done
}
