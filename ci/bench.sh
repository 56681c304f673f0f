#!/bin/bash
# Measures against the base stack, in an environment that has both. Prints ratios; judges nothing.

. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"
. ci/setup/python.sh

bring() {
    local python
    if venv_is_whole build/bench requirements-bench.txt; then return; fi
    find_uv
    # As the newest release of the base stack does.
    python=$(find_python 12) || die "The base stack takes Python 3.12 or later, and there is none: install it."
    make_venv build/bench requirements-bench.txt "$python"
}

locked bench bring
for script in ci/bench/*.py; do
    say "$script"
    build/bench/bin/python "$script"
done
