# shellcheck shell=bash
# What the cells of apparmor.ipynb share. The parameters come from the environment.
# shellcheck disable=SC2154
file=/etc/apparmor.d/$service

place() { # DIRECTORY: as the kernel will name it; a user that systemd makes up has its data in private
    local place
    place=$(readlink --canonicalize-missing "$1")
    if [[ $place =~ ^(/var/(lib|cache|log))/(private/)?([^/]+/?.*)$ ]]; then
        place="${BASH_REMATCH[1]}/{,private/}${BASH_REMATCH[4]}"
    fi
    echo "$place"
}

own_mounts() { # whether the service has a mount namespace of its own
    local pid
    pid=$(systemctl show --property MainPID --value "$service")
    [ "$pid" != 0 ] && [ "$(ps -o mntns= --pid "$pid")" != "$(ps -o mntns= --pid 1)" ]
}

profile() { # complain|enforce: the profile for these parameters
    local flags=() without=()
    [ "$1" = enforce ] || flags+=("$1")
    # In such a namespace the kernel knows what lies outside, such as the socket for readiness, by half a path.
    ! own_mounts || flags+=(attach_disconnected)
    [ "${#flags[@]}" -eq 0 ] || flags=("flags=($(IFS=, && echo "${flags[*]}")) ")
    if [ "$port" -eq 0 ] || [ "$port" -gt 1023 ]; then
        without+=(-e '/^  # TCP\./s/ Below.*//' -e '/capability net_bind_service/d')
    fi
    [ "$client" = true ] || without+=(-e '/# Name resolution/,/^$/d')
    sed "${without[@]}" -e "s|@SERVICE@|$service|; s|@BINARY@|$binary|; s|@FLAGS@|${flags[*]}|" \
        -e "s|@CONFIG@|$(place "$config")|; s|@STATE@|$(place "$state")|; s|@LOGS@|$(place "$logs")|" "$KB_HERE/apparmor/profile"
}

put() { # complain|enforce: the file and the kernel have that profile
    local before
    before=$(sed -n "s/^$service (\(.*\))$/\1/p" "/sys/kernel/security/apparmor/profiles")
    profile "$1" >"$TMPDIR/profile"
    if ! cmp --quiet "$TMPDIR/profile" "$file"; then
        local new=/etc/apparmor.d/.$service.new # hidden: not read at boot
        if ! { install --mode=644 "$TMPDIR/profile" "$new" && sync "$new"; }; then
            rm -f "$new"
            echo "$file cannot be written, see above, and is as it was: make room, and run this again" >&2
            exit 1
        fi
        mv "$new" "$file"
        echo "changed: wrote $file, in $1 mode"
    fi
    apparmor_parser --replace --skip-cache "$file"
    [ "$before" = "$1" ] || echo "changed: loaded the profile $service, in $1 mode"
}

label() { # what the service's main process is confined by
    local pid
    pid=$(systemctl show --property MainPID --value "$service")
    { ps -ww -o label= --pid "$pid" || true; } | sed 's/ *$//'
}

ready() { # SECONDS: the service runs and answers within so long, or has not failed for good before
    # shellcheck disable=SC2016 # the other shell expands it
    timeout "$1" bash -c 'until systemctl --quiet is-active "$service" &&
        curl --fail --silent --output /dev/null --max-time 2 "$health"; do
        ! systemctl --quiet is-failed "$service" || exit 1
        sleep 0.5
    done'
}

now() { # a place in the journal
    journalctl --quiet --lines=0 --show-cursor | sed -n 's/^-- cursor: //p'
}

logged() { # ALLOWED|DENIED SINCE: the lines about the service, less what the kernel only asked itself
    journalctl --sync
    journalctl --quiet --no-pager "$2" _TRANSPORT=kernel + _TRANSPORT=audit |
        sed -n "/apparmor=\"$1\" .*profile=\"$service\"/{/info=\"optional: no audit\"/!p}"
}

audited() { # ALLOWED|DENIED SINCE: each thing once, without the times and numbers of processes
    logged "$1" "$2" | sed -E 's/.*(apparmor=)/\1/; s/ (pid|fsuid|ouid|protocol)=[0-9]+//g' |
        sed -E 's/ (class|comm|requested_mask)="[^"]*"//g' | sort --unique
}

proposed() { # SINCE: the rules that aa-logprof makes of what was allowed; it works on a copy
    if ! command -v aa-logprof >/dev/null; then
        echo "(apt-get install apparmor-utils, and rules made from it are shown here)"
        return
    fi
    mkdir -p "$TMPDIR/copy"
    cp "$file" "$TMPDIR/copy"
    ln -sfn /etc/apparmor.d/{abi,abstractions,tunables,local} "$TMPDIR/copy"
    logged ALLOWED "$1" >"$TMPDIR/log"
    timeout 200 aa-logprof --allow-all --dir "$TMPDIR/copy" --file "$TMPDIR/log" 2>&1 |
        sed -n 's/^Adding \(.*\) to profile .*/aa-logprof --allow-all adds: \1/p'
}
