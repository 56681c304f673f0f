# The words that every scene.sh has. The working directory is the faults' own; `app` in it is the program.
# shellcheck shell=bash

PATH=$PWD:$PATH

until_so() { # COMMAND...: waits for it to succeed, for two minutes at most
    local deadline=$((SECONDS + 120))
    until "$@"; do
        ((SECONDS < deadline)) || { echo "in vain: $*" >&2; return 1; }
        sleep 0.1
    done
}
