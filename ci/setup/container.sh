# The fall-back for a machine without Python >= 3.12: the same make target, in a container of Debian 13
# that works on this checkout and with this engine. Sourced, not run.
# shellcheck shell=bash disable=SC2154 # $target is set in ci/setup.sh

# A make that was killed leaves its container running, and with it the port and the locks.
remove_orphans() {
    local id owner
    while read -r id owner; do
        if [[ ! -e /proc/$owner ]]; then docker rm --force "$id" >/dev/null; fi
    done < <(docker ps --filter "label=noble-runbooks.checkout=$PWD" \
        --format '{{.ID}} {{.Label "noble-runbooks.owner"}}')
}

# run_in_container [EXTRA-PACKAGE...]: builds the image of the tools if it is absent, and becomes a
# container of it that makes $target.
run_in_container() {
    local base image socket
    local -a run
    say "no Python >= 3.12 on this machine: running make $target in a container of debian-13"
    base=$(docker image inspect --format '{{.Id}}' noble-runbooks/base:debian-13)
    image=noble-runbooks/tools:$(echo "$base $*" | cat - ci/images/tools.Dockerfile | sha256sum | cut -c1-12)
    if ! docker image inspect "$image" >/dev/null 2>&1; then
        say "building the image of the tools"
        docker build --tag "$image" --build-arg "EXTRA=$*" - <ci/images/tools.Dockerfile >build/tools-image.log 2>&1 ||
            die "The image of the tools could not be built: $(grep -E '^E: |rror' build/tools-image.log | tail -n1) (all of it: build/tools-image.log)."
    fi
    remove_orphans
    socket=${DOCKER_HOST#unix://}
    [[ -S "$socket" ]] || die "The tools run in a container here, and that needs the engine's socket: DOCKER_HOST=$DOCKER_HOST is none. Install Python 3.12 or later instead."
    # Paths, process ids and ports must mean the same inside and outside: the tools start containers themselves.
    run=(docker run --rm --init --interactive --network host --pid host
        --label "noble-runbooks.checkout=$PWD" --label "noble-runbooks.owner=$$"
        --volume "$PWD:$PWD" --workdir "$PWD" --volume /tmp:/tmp --volume "$socket:/var/run/docker.sock"
        --env NOBLE_IN_CONTAINER=1 --env HOME="$PWD/build/home" --env YES=1 --env CI
        --env ON --env JOBS --env ARGS --env SERVE --env PORT --env NAME
        --env http_proxy --env https_proxy --env no_proxy --env HTTP_PROXY --env HTTPS_PROXY --env NO_PROXY
        --env GIT_CONFIG_COUNT=1 --env GIT_CONFIG_KEY_0=safe.directory --env "GIT_CONFIG_VALUE_0=*")
    if [[ -t 0 && -t 1 ]]; then run+=(--tty); fi
    if ! is_root; then run+=(--user "$(id -u):$(id -g)" --group-add "$(stat -L -c %g "$socket")"); fi
    if [[ -n "${SSL_CERT_FILE:-}" ]]; then
        run+=(--volume "$(readlink -f "$SSL_CERT_FILE"):/etc/ssl/certs/ca-certificates.crt:ro")
    fi
    mkdir -p build/home
    exec "${run[@]}" "$image" make --no-print-directory "$target"
}
