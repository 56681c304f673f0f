#!/bin/bash
# The site: served from the records that there are, within a minute on a bare machine, and built
# again as the notebooks run. Python's packages are all that the first page takes.

readonly STARTED=$EPOCHSECONDS
export STARTED
. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"
. ci/setup/python.sh

# Something that listens and does not answer has the port, too.
port_is_taken() {
    local status=0
    # shellcheck disable=SC2016 # the inner bash expands it
    timeout 2 bash -c ': <"/dev/tcp/127.0.0.1/$1"' bash "$PORT" 2>/dev/null || status=$?
    ((status == 0 || status == 124))
}

check_port() {
    if [[ ! "$PORT" =~ ^[0-9]{1,5}$ ]] || ((10#$PORT > 65535)); then
        die "PORT=$PORT is not a port: say a number from 1 to 65535."
    fi
    if port_is_taken; then
        die "Port $PORT of 127.0.0.1 is taken: stop what listens there, or choose another one (make site PORT=$((PORT + 1)))."
    fi
}

# The lock is this process's, which becomes the server; what that starts does not inherit it.
only_one() {
    local where=http://127.0.0.1:$PORT/
    if [[ "$SERVE" == 0 ]]; then where="it serves nothing"; fi
    exec 8>>build/site.lock
    flock --nonblock 8 ||
        die "make site runs in this checkout already ($(cat build/site.lock)): use that one, or end it first."
    echo "process $$, $where" >build/site.lock
}

trap 'echo >&2; say "ended before there was a site: make site goes on where it was"; exit 130' INT
[[ "$SERVE" == [01] ]] || die "SERVE=$SERVE is not known: say SERVE=0 or SERVE=1."
[[ "$RUN" == [01] || "$RUN" == all ]] || die "RUN=$RUN is not known: say RUN=0, RUN=1 or RUN=all."
only_one
if [[ "$SERVE" == 1 ]]; then check_port; fi
locked set-up ensure_python requirements-site.txt
exec .venv/bin/python ci/live.py
