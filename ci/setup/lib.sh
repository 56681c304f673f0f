# Shared by the scripts beside it: words to the user, consent, root, packages. Sourced, not run.
# shellcheck shell=bash

set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p build

say() { printf '== %s\n' "$*" >&2; }

# die SENTENCE: what is wrong, where, what to do.
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# ask QUESTION: consent to change this machine. YES=1 or no terminal means yes.
ask() {
    local answer
    if [[ "${YES:-}" == 1 || ! -t 0 || ! -t 2 ]]; then return 0; fi
    read -r -p "$* [Y/n] " answer
    [[ -z "$answer" || "$answer" == [Yy]* ]]
}

is_root() { [[ "$(id -u)" == 0 ]]; }

may_be_root() { is_root || command -v sudo >/dev/null; }

as_root() {
    if is_root; then "$@"; else sudo "$@"; fi
}

# apt_install WHAT PACKAGE...: WHAT finishes the sentence "This needs ...". A package with a question
# mark behind it is left out where the distribution has none of that name.
apt_install() {
    local what=$1 package
    local -a packages=()
    shift
    command -v apt-get >/dev/null ||
        die "This needs $what, and there is no apt-get here to install ${*%\?} with: install it yourself and run make again."
    may_be_root ||
        die "This needs $what, and installing ${*%\?} takes root: run make as root, or install sudo, or have it installed (apt-get install ${*%\?})."
    ask "This needs $what. Install ${*%\?} from the distribution?" ||
        die "This needs $what: install it (apt-get install ${*%\?}) and run make again."
    say "installing ${*%\?}"
    as_root apt-get update -qq
    for package in "$@"; do
        if [[ "$package" != *\? ]] || apt-cache show "${package%\?}" >/dev/null 2>&1; then
            packages+=("${package%\?}")
        fi
    done
    as_root env DEBIAN_FRONTEND=noninteractive ${RUNLEVEL:+RUNLEVEL=$RUNLEVEL} \
        apt-get install -qq --yes --no-install-recommends "${packages[@]}" >build/apt.log 2>&1 ||
        die "apt-get could not install ${packages[*]}: $(grep -m1 '^E:' build/apt.log || tail -n1 build/apt.log) (all of it: build/apt.log)."
}

# locked NAME COMMAND...: one at a time, however many makes run. The lock goes with this process:
# closing it for the command, bash keeps a copy that no child inherits, not even an engine left running.
locked() {
    local name=$1
    shift
    exec 9>"build/$name.lock"
    flock --nonblock 9 || { say "waiting for another make to finish: $name"; flock 9; }
    "$@" 9>&-
    exec 9>&-
}

# The certificates this machine trusts, for tools that bring a list of their own.
if [[ -z "${SSL_CERT_FILE:-}" && -e /etc/ssl/certs/ca-certificates.crt ]]; then
    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
fi
if [[ -n "${SSL_CERT_FILE:-}" ]]; then export PIP_CERT="${PIP_CERT:-$SSL_CERT_FILE}"; fi
