# shellcheck shell=bash
# What the cells of container-gpu.ipynb share. The parameters come from the environment.
# shellcheck disable=SC2154

generate() { # a description of this host's devices on standard output
    local from=()
    [ -z "$csv" ] || from=(--mode csv --csv.file "$csv")
    nvidia-ctk cdi generate --vendor "${kind%%/*}" --class "${kind##*/}" "${from[@]}"
}

described() { # the description that waits for the step, in /run/container-gpu/spec
    mkdir -p /run/container-gpu
    generate >/run/container-gpu/spec.new && mv /run/container-gpu/spec.new /run/container-gpu/spec
}

refreshed() { # whether NVIDIA's own service keeps a description, in the place that is read last
    grep --quiet --no-messages --fixed-strings "kind: $kind" /run/cdi/*.yaml
}

engine() { # the one to try it with
    if [ -n "$engine" ]; then
        type -P "$engine" >/dev/null && echo "$engine"
    else
        basename "$(type -P podman || type -P docker)"
    fi
}

nodes() { # PID: character devices in the /dev of a process that not every container has, as MAJOR:MINOR PATH
    find "/proc/$1/root/dev" -xdev -type c -printf '%P\n' 2>/dev/null | while read -r path; do
        local number
        number=$(stat --format='%Hr:%Lr' "/proc/$1/root/dev/$path")
        case $number in 1:[35789] | 5:[012] | 136:*) continue ;; esac
        echo "$number /dev/$path"
    done
}

scopes() { # the units of the containers that run: the groups that systemd has made for Docker and Podman
    find /sys/fs/cgroup -type d \( -name 'docker-*.scope' -o -name 'libpod-*.scope' \) ! -name 'libpod-conmon-*'
}

at_risk() { # for each container's device: whether systemd knows of it, and so leaves it there
    local scope pid number path allowed
    while read -r scope; do
        pid=$(find "$scope" -name cgroup.procs -exec head --quiet --lines=1 {} + | head --lines=1)
        [ -n "$pid" ] || continue
        allowed=$(systemctl show --property=DeviceAllow --value "${scope##*/}")
        nodes "$pid" | while read -r number path; do
            if grep --quiet --word-regexp --fixed-strings -e "/dev/char/$number" -e "$path" <<<"$allowed"; then
                echo "keeps ${scope##*/} $path"
            else
                echo "RISK  ${scope##*/} $path"
            fi
        done
    done < <(scopes)
}
