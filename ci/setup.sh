#!/bin/bash
# usage: ci/setup.sh TARGET [engine] [browser] [ansible]
# Brings what make TARGET needs and this machine lacks, then makes TARGET-here.

. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"
. ci/setup/python.sh
. ci/setup/engine.sh
. ci/setup/browser.sh
. ci/setup/ansible.sh

readonly target=$1 needs=" ${*:2} "

needs() { [[ "$needs" == *" $1 "* ]]; }

wants_debian() { [[ "$target" == test || " ${ON:-} " == *" debian-13 "* ]]; }

bring() {
    ensure_python
    if needs engine; then
        ensure_engine make --no-print-directory "$target"
        # Here rather than when the first notebook asks for it: it takes a minute, and says so.
        if wants_debian; then ci/setup/debian-13.sh; fi
    fi
    if needs browser; then
        ensure_commands
        ensure_browser
    fi
    if needs ansible; then ensure_ansible; fi
}

locked set-up bring
exec make --no-print-directory "$target-here"
