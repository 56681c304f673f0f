# shellcheck shell=bash
# What the cells of open-files.ipynb share. The parameters come from the environment.
# shellcheck disable=SC2154

of_unit() { # PROPERTY: what systemd says of the service
    systemctl show --property="$1" --value "$service.service"
}

of_process() { # its main process's limits: SOFT HARD
    local pid
    pid=$(of_unit MainPID)
    if [ -e "/proc/$pid" ]; then
        awk '/^Max open files/ {print $4, $5}' "/proc/$pid/limits"
    else # a plan has no process of the host, which answers for prlimit
        prlimit --pid "$pid" --nofile --noheadings --raw --output=SOFT,HARD
    fi
}

descriptors() { # what the main process has open, a line each
    { find "/proc/$(of_unit MainPID)/fd" -type l -printf '%l\n' 2>/dev/null || true; }
}

release() { # of Go, that the running program was built with: go1.27; nothing: none, or one before 1.18
    local pid program
    pid=$(of_unit MainPID)
    program=/proc/$pid/exe
    [ -e "$program" ] || program=$(ps -ww -o exe= --pid "$pid")
    python3 -I - "$program" <<'END'
import re, sys

program = open(sys.argv[1], "rb").read()
built = re.search(rb"\xff Go buildinf:.[\x02\x03].{16}.(go1\.\d+)", program, re.DOTALL)
print(built[1].decode() if built else "")
END
}

raises_itself() { # whether the program makes its soft limit as high as the hard one, as Go does from 1.19 on
    local built
    built=$(release)
    built=${built#go1.}
    [ "${built:-0}" -ge 19 ]
}

wanted() { # SOFT:HARD for the unit; never less than it has
    local soft hard
    read -r soft hard < <(of_process)
    hard=$((hard > limit ? hard : limit))
    if raises_itself; then # then only children start with the soft limit, and above 1024 select() fails
        soft=$(of_unit LimitNOFILESoft)
        soft=$((soft > 1024 ? soft : 1024))
    else
        soft=$((soft > limit ? soft : limit))
    fi
    echo "$soft:$hard"
}

answers() { # SECONDS: the service answers within so long
    local deadline=$((SECONDS + $1))
    until curl --fail --silent --output /dev/null --max-time 5 "$health"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.5
    done
}
