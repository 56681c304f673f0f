# What the tests need beside Python: a few commands, and a browser for the site. Sourced, not run.
# shellcheck shell=bash

# A minimal Debian has none of these commands. g++ brings gcc and the headers of the C library.
ensure_commands() {
    local command
    local -A packages=([curl]=curl [chattr]=e2fsprogs [gcc]=g++ [g++]=g++ [xz]=xz-utils) missing=()
    for command in "${!packages[@]}"; do
        command -v "$command" >/dev/null || missing[${packages[$command]}]=$command
    done
    ((${#missing[@]} == 0)) || apt_install "${missing[*]}, for the tests" "${!missing[@]}"
}

is_debian() { (. /etc/os-release && [[ "$ID" == debian ]]); }

# ensure_browser: sets and exports CHROMIUM; empty means the browser that playwright brings.
ensure_browser() {
    local name
    export CHROMIUM
    for name in chromium google-chrome-stable google-chrome; do
        if CHROMIUM=$(command -v "$name"); then return; fi
    done
    # On Ubuntu the package chromium-browser is a door to snap, which no container and few servers have.
    if is_debian; then
        apt_install "Chromium, for the tests of the site" chromium
        CHROMIUM=$(command -v chromium)
        return
    fi
    CHROMIUM=
    if [[ ! -e build/playwright-browser ]]; then
        ask "This needs Chromium, for the tests of the site. Have playwright download its own?" ||
            die "This needs Chromium, for the tests of the site: install chromium or google-chrome and run make again."
        say "downloading playwright's Chromium"
        # It calls sudo by itself for the libraries.
        .venv/bin/python -m playwright install --with-deps chromium >build/playwright.log 2>&1 ||
            die "playwright could not bring its Chromium: $(tail -n1 build/playwright.log) (all of it: build/playwright.log). Install google-chrome and run make again."
        touch build/playwright-browser
    fi
}
