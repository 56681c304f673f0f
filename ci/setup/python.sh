# The Python environment .venv, from requirements.txt, or from the part of it that the site takes.
# Sourced, not run.
# shellcheck shell=bash

# is_new_enough PYTHON [MINOR]: Debian 12 has 3.11.
is_new_enough() { "$1" -c "import sys; sys.exit(sys.version_info < (3, ${2:-11}))" 2>/dev/null; }

# find_python [MINOR]: prints the path of an interpreter >= 3.MINOR, of PATH or of pyenv.
find_python() {
    local candidate
    while read -r candidate; do
        if is_new_enough "$candidate" "${1:-}"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done < <(
        printf 'python3.%s\n' 14 13 12
        find "${PYENV_ROOT:-$HOME/.pyenv}/versions" -maxdepth 3 -path '*/bin/python' 2>/dev/null |
            sort --version-sort --reverse
        echo python3
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

# venv_is_whole VENV REQUIREMENTS: there is a stamp for each list that was put into it.
venv_is_whole() {
    is_new_enough "$1/bin/python" && [[ "$(venv_stamp "$1" "$2")" == "$(cat "$1/made-of-$2" 2>/dev/null)" ]]
}

# make_venv VENV REQUIREMENTS PYTHON: with this repository's package in it.
make_venv() {
    say "making $1 with $3"
    "$uv" venv --quiet --clear --python "$3" "$1" ||
        die "uv could not make $1 (see above): install Python 3.11 or later, and run make again."
    if ! "$uv" pip install --quiet --python "$1/bin/python" --require-hashes --requirement "$2" ||
        ! "$uv" pip install --quiet --python "$1/bin/python" --no-deps --no-build-isolation --editable .; then
        die "uv could not fill $1 (see above): check the network and run make again."
    fi
    venv_stamp "$1" "$2" >"$1/made-of-$2"
}

# ensure_python [REQUIREMENTS]: .venv with at least these in it. The list of the site is a part of
# the other one, which is put in beside it: a site that is being built meanwhile goes on.
ensure_python() {
    local python wanted=${1:-requirements.txt}
    if venv_is_whole .venv requirements.txt || venv_is_whole .venv "$wanted"; then return; fi
    # Debian and Ubuntu have one that is new enough, if one asks.
    command -v python3 >/dev/null || apt_install "Python" python3 python3-venv
    find_uv
    if venv_is_whole .venv requirements-site.txt; then
        say "bringing more Python packages"
        "$uv" pip install --quiet --python .venv/bin/python --require-hashes --requirement "$wanted" ||
            die "uv could not fill .venv (see above): check the network and run make again."
        venv_stamp .venv "$wanted" >".venv/made-of-$wanted"
        return
    fi
    # Where there is none, uv tries to bring one.
    python=$(find_python) || python=3.13
    make_venv .venv "$wanted" "$python"
}
