#!/bin/bash
# usage: rotate.sh ROTATION
# Rotates a token, and then the key that its file is encrypted for, under a client that asks all the time. ROTATION is
# the program with both ends of it; sops and age-keygen are on PATH. Everything is in memory, and goes at the end.
set -Eeuo pipefail
umask 077
rotation=$1
put=$(cd "$(dirname "$0")" && pwd)/secrets-put
work=$(mktemp --directory --tmpdir=/dev/shm)
trap 'rm --recursive "$work"' EXIT
cd "$work"
export HOME=$work # where sops would look for other keys
at=127.0.0.1:8090 once_at=127.0.0.1:8091

a_token() { head --bytes=18 /dev/urandom | base64 | tr +/ -_; }
fingerprint() { printf %s "$1" | sha256sum | cut --characters=-8; }
recipient() { age-keygen -y "$1"; }
encrypt() { # TOKENS TOKEN: what the server takes, separated by spaces, and what the client gives
    printf 'tokens: %s\ntoken: %s\n' "$1" "$2" >plain.yaml
    SOPS_AGE_KEY_FILE=old.key sops encrypt --age "$(recipient old.key)" plain.yaml >app.yaml
    rm plain.yaml
}
deliver() { "$put" app.yaml "${1:-old.key}" "$work/secrets"; }
until_asked() { timeout 120 bash -c "until grep --quiet '$1' asked; do sleep 0.05; done"; }
refused() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@" >said 2>&1; then return 1; fi
    printf '%s\n    %s\n' "$what" "$(sed "s#$work/##g" said)"
}

no_value_in() { # grep finds those that are there
    grep --quiet --fixed-strings --file=values secrets/token
    for place in "$@"; do
        if grep --quiet --text --fixed-strings --file=values "$place" 2>/dev/null; then
            echo "$place has a secret in it" >&2
            return 1
        fi
    done
}

main() {
    children=()
    trap 'kill "${children[@]}"' EXIT
    age-keygen -o old.key 2>/dev/null
    age-keygen -o new.key 2>/dev/null
    old=$(a_token) new=$(a_token)
    printf '%s\n' "$old" "$new" >values
    encrypt "$old" "$old"
    deliver >/dev/null
    "$rotation" serve $at secrets/tokens & children+=($!)
    "$rotation" serve -once $once_at secrets/tokens & children+=($!)
    for port in $at $once_at; do
        timeout 60 bash -c "until curl --silent --output /dev/null http://$port/; do sleep 0.1; done"
    done
    "$rotation" ask http://$at/ secrets/token stop >asked &
    asking=$!
    children+=("$asking")

    echo "The token is $(fingerprint "$old"), by its fingerprint, and becomes $(fingerprint "$new"), while a client asks:"
    until_asked "took $(fingerprint "$old")"
    encrypt "$new $old" "$old" # the server takes both
    deliver
    encrypt "$new $old" "$new" # the client gives the new one
    deliver
    until_asked "took $(fingerprint "$new")"
    encrypt "$new" "$new" # the old one goes
    deliver
    no_value_in app.yaml asked /proc/[0-9]*/cmdline /proc/[0-9]*/environ
    asked_then=$(wc --lines <asked)
    printf %s "$old" >former
    touch stop
    wait "$asking"
    unset 'children[2]'
    sed --quiet '/ times$/s/^/    /p' asked
    [ "$asked_then" -ge 2 ]
    if grep --quiet 'failed\|status' asked; then return 1; fi
    echo "with the former token: $("$rotation" ask http://$at/ former stop | sed --quiet '/ times$/p')"
    echo "a server that read its tokens at its start: $("$rotation" ask http://$once_at/ former stop | sed --quiet '/ times$/p')"

    echo "The key of the file is changed, in two steps:"
    cp app.yaml of-last-year.yaml
    SOPS_AGE_KEY_FILE=old.key sops rotate --in-place --add-age "$(recipient new.key)" app.yaml
    deliver new.key
    echo "    both keys open it"
    SOPS_AGE_KEY_FILE=new.key sops rotate --in-place --rm-age "$(recipient old.key)" app.yaml
    deliver new.key
    refused "the former key" deliver old.key
    "$put" --check of-last-year.yaml old.key "$work/secrets" | sed "s#^#    but #; s#: .*#, a copy of the file from before, it opens#"

    echo "What is refused:"
    SOPS_AGE_KEY_FILE=new.key sops rotate --in-place --add-age "$(recipient old.key)" app.yaml
    sed '/^tokens:/{s/data:A/data:-/; t A; s/data:./data:A/; b; :A; s/data:-/data:B/}' app.yaml >damaged.yaml
    sed '/^token:/d' app.yaml >edited.yaml
    head --bytes=300 app.yaml >cut.yaml
    printf 'tokens: x\n' >plain.yaml
    refused "a damaged value" "$put" damaged.yaml old.key "$work/secrets"
    refused "a line taken out by hand" "$put" edited.yaml old.key "$work/secrets"
    refused "a file that is cut" "$put" cut.yaml old.key "$work/secrets"
    refused "a file that is not encrypted" "$put" plain.yaml old.key "$work/secrets"
    refused "a key that is none" "$put" app.yaml values "$work/secrets"
    chmod 640 old.key
    refused "a key that others can read" "$put" app.yaml old.key "$work/secrets"
    chmod 600 old.key
    mkdir shared
    touch shared/app.pid
    refused "a place that others use" "$put" app.yaml old.key "$work/shared"
    [ -e shared/app.pid ] && [ ! -e shared/token ]
    refused "a place on a disk" "$put" --check app.yaml old.key /srv/secrets
    refused "an owner who is not there" "$put" app.yaml old.key "$work/secrets" nobody-such
}

main | tee told
no_value_in told
echo "No value is in what was printed, in the encrypted file, or in a process's arguments and variables."
