#!/bin/bash
# Measures against the base stack, in an environment that has both. Prints ratios; judges nothing.

. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"
. ci/setup/python.sh

bring() {
    if venv_is_whole build/bench requirements-bench.txt; then return; fi
    find_uv
    make_venv build/bench requirements-bench.txt "$PWD/.venv/bin/python"
}

locked bench bring
for script in ci/bench/*.py; do
    say "$script"
    build/bench/bin/python "$script"
done
