# A Docker engine that answers. Sourced, not run.
# shellcheck shell=bash

# Debian 13 has the client in a package of its own, Debian 12 and Ubuntu 24.04 in the engine's.
docker_client_package() {
    local version
    version=$(. /etc/os-release && echo "$ID-$VERSION_ID")
    if [[ "$version" == debian-12 || "$version" == ubuntu-24.04 ]]; then echo docker.io; else echo docker-cli; fi
}

# Asks the engine for its version; leaves the client's words in $answer.
engine_answers() {
    answer=$(timeout 30 docker version --format '{{.Server.Version}}' 2>&1)
}

wait_for_engine() {
    local deadline=$((SECONDS + $1))
    while ((SECONDS < deadline)); do
        if engine_answers || [[ "$answer" == *"permission denied"* ]]; then return 0; fi
        sleep 0.5
    done
    return 1
}

has_systemd() { [[ -d /run/systemd/system ]]; }

start_engine() {
    say "starting the Docker engine"
    if has_systemd; then
        as_root systemctl start docker ||
            die "systemd could not start the Docker engine: $(journalctl --unit docker --lines 1 --output cat 2>/dev/null) (all of it: journalctl -u docker)."
        wait_for_engine 60 && return
        die "The Docker engine runs but does not answer within 60 s: $answer"
    fi
    if [[ -x /etc/init.d/docker ]] && as_root service docker start >/dev/null 2>&1 && wait_for_engine 20; then
        return
    fi
    # No init, or one that cannot (a container, a minimal machine): run it by hand, outliving this shell.
    as_root setsid --fork dockerd >build/dockerd.log 2>&1 </dev/null
    wait_for_engine 60 ||
        die "The Docker engine did not start; its log ends: $(grep -v '^$' build/dockerd.log | tail -n1) (all of it: build/dockerd.log)."
}

# Gives this user access to the socket, and starts over with it.
join_docker_group() {
    local advice
    advice="sudo usermod -aG docker $(id -un), log in again, and run make again; or run make as root"
    if [[ -n "${NOBLE_JOINED_DOCKER:-}" ]] || ! may_be_root || ! getent group docker >/dev/null; then
        die "The Docker engine refuses user $(id -un) (${DOCKER_HOST:-/var/run/docker.sock}): $advice."
    fi
    if [[ " $(id -nG "$(id -un)") " != *" docker "* ]]; then
        ask "The Docker engine refuses user $(id -un). Add this user to group docker, which amounts to root?" ||
            die "The Docker engine refuses user $(id -un): $advice."
        as_root usermod --append --groups docker "$(id -un)" ||
            die "The Docker engine refuses user $(id -un), and adding it to group docker failed: $advice."
        say "user $(id -un) is now in group docker"
    fi
    # A running session keeps the groups it began with.
    exec sudo --preserve-env setpriv --reuid "$(id -u)" --regid "$(id -g)" \
        --groups "$(id -G | tr ' ' ,),$(getent group docker | cut -d: -f3)" \
        env "HOME=$HOME" "PATH=$PATH" NOBLE_JOINED_DOCKER=1 "$@"
}

# ensure_engine COMMAND...: COMMAND is what to start over with after a change of groups.
ensure_engine() {
    local socket=${DOCKER_HOST:-/var/run/docker.sock}
    if ! command -v docker >/dev/null && [[ -S "${socket#unix://}" ]]; then
        # The engine is somebody else's and only the client is missing, which some releases have in
        # docker.io alone: RUNLEVEL=1 keeps that from starting a second engine.
        RUNLEVEL=1 apt_install "the Docker client" "$(docker_client_package)"
    fi
    if ! engine_answers; then
        if [[ "$answer" != *"permission denied"* ]]; then
            [[ -z "${DOCKER_HOST:-}" ]] ||
                die "No Docker engine answers at DOCKER_HOST=$DOCKER_HOST: start it there, or unset DOCKER_HOST. The client says: $answer"
            if ! command -v dockerd >/dev/null; then
                # Without apparmor's parser the engine starts no container where the kernel has AppArmor on.
                apt_install "a Docker engine (none answers at $socket)" docker.io docker-cli? apparmor ca-certificates
            fi
            engine_answers || [[ "$answer" == *"permission denied"* ]] || start_engine
        fi
        engine_answers || join_docker_group "$@"
    fi
    # docker-py knows no contexts (rootless, Docker Desktop): tell it what the client knows.
    if [[ -z "${DOCKER_HOST:-}" ]]; then
        DOCKER_HOST=$(docker context inspect --format '{{.Endpoints.docker.Host}}')
        export DOCKER_HOST
    fi
}
