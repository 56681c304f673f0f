# Gives a bare host a Go release as the Install Go runbook would have. Sourced by prepare scripts.
# shellcheck shell=bash

# give_release VERSION: sets goroot, whose programs and settings are the host's own; the rest is shared.
give_release() {
    goroot=/usr/local/go-$1
    mkdir -p "$goroot"
    ln -s "$KB_FIXTURES/go/$1/go"/* "$goroot"
    rm "$goroot/bin" "$goroot/go.env"
    cp -r "$KB_FIXTURES/go/$1/go"/{bin,go.env} "$goroot"
}
