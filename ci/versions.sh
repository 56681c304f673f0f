#!/bin/bash
# usage: ci/versions.sh [lowest] [newest]
# Runs the tests of what runs and what proves with the lowest versions that pyproject.toml allows, on
# the oldest Python, and with the newest that there are: a border to a library that moved shows here,
# before somebody's host does.

. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"
. ci/setup/python.sh

# tests_with WHICH PYTHON RESOLUTION
tests_with() {
    local venv=$PWD/build/versions/$1
    local -a arguments
    read -r -a arguments <<<"${ARGS:-}"
    say "the $1 versions, with Python $2"
    "$uv" venv --quiet --clear --python "$2" "$venv"
    "$uv" pip install --quiet --python "$venv/bin/python" --resolution "$3" --group test --editable '.[ci,site]' ||
        die "uv could not install the $1 versions (see above): check the network, or mend the bounds in pyproject.toml."
    "$uv" pip freeze --quiet --python "$venv/bin/python" --exclude-editable >"$venv/versions.txt"
    say "they are in build/versions/$1/versions.txt"
    "$venv/bin/pytest" tests/runtime tests/proof tests/site/test_site_borders.py \
        -n "${JOBS:-2}" --dist loadfile "${arguments[@]}"
}

oldest_python() { sed -n 's/^requires-python = ">=\(.*\)"/\1/p' pyproject.toml; }

find_uv
status=0
for which; do
    case $which in
    lowest) tests_with lowest "$(oldest_python)" lowest-direct || status=1 ;;
    newest) tests_with newest "$(find_python)" highest || status=1 ;;
    *) die "ci/versions.sh knows lowest and newest, not $which." ;;
    esac
done
exit "$status"
