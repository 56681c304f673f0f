# The Python environment .venv, from requirements.txt. Sourced, not run.
# shellcheck shell=bash disable=SC2034 # $use_container is read in ci/setup.sh

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; }

# Prints the path of an interpreter >= 3.12, of PATH or of pyenv.
find_python() {
    local candidate
    while read -r candidate; do
        if is_new_enough "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done < <(
        printf 'python3.%s\n' 14 13 12
        echo python3
        find "${PYENV_ROOT:-$HOME/.pyenv}/versions" -maxdepth 3 -path '*/bin/python' 2>/dev/null |
            sort --version-sort --reverse
    )
    return 1
}

# Sets $uv, and brings it if it is absent.
find_uv() {
    local candidate
    for candidate in uv "$PWD/build/tools/bin/uv"; do
        if "$candidate" --version >/dev/null 2>&1; then
            uv=$candidate
            return
        fi
    done
    say "bringing uv"
    # Debian and Ubuntu split ensurepip, which venv needs, into a package of its own.
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        apt_install "Python with venv" python3 python3-venv
    python3 -m venv --clear build/tools
    build/tools/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --only-binary :all: --requirement requirements-uv.txt ||
        die "pip could not bring uv (see above): check the network, or install uv yourself, and run make again."
    uv=$PWD/build/tools/bin/uv
}

# venv_stamp VENV REQUIREMENTS: what VENV must be made of. A copy or a move of the checkout breaks it,
# so the place is part of it.
venv_stamp() {
    sha256sum "$2" pyproject.toml
    echo "$PWD"
    "$1/bin/python" -c 'import sys; print(sys.version)'
}

venv_is_whole() {
    is_new_enough "$1/bin/python" && [[ "$(venv_stamp "$1" "$2")" == "$(cat "$1/made-of" 2>/dev/null)" ]]
}

# make_venv VENV REQUIREMENTS PYTHON: with this repository's package in it.
make_venv() {
    say "making $1 with $3"
    "$uv" venv --quiet --clear --python "$3" "$1"
    if ! "$uv" pip install --quiet --compile-bytecode --python "$1/bin/python" --require-hashes --requirement "$2" ||
        ! "$uv" pip install --quiet --python "$1/bin/python" --no-deps --no-build-isolation --editable .; then
        die "uv could not fill $1 (see above): check the network and run make again."
    fi
    venv_stamp "$1" "$2" >"$1/made-of"
}

# ensure_python: makes .venv, or sets use_container when this machine can have no interpreter for it.
ensure_python() {
    local python
    if venv_is_whole .venv requirements.txt; then return; fi
    # Debian 13 and Ubuntu 24.04 have one that is new enough, if one asks.
    command -v python3 >/dev/null || apt_install "Python" python3 python3-venv
    find_uv
    if ! python=$(find_python); then
        if [[ ! -e build/no-python ]]; then
            say "no Python >= 3.12 here; asking uv for one"
            timeout 600 "$uv" python install --quiet 3.13 2>build/uv-python.log || touch build/no-python
        fi
        if [[ -e build/no-python ]]; then
            use_container=1
            return
        fi
        python=3.13
    fi
    make_venv .venv requirements.txt "$python"
}
