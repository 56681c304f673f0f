# What several cells do alike. Sourced; it reads the runbook's parameters from the environment.
# shellcheck shell=bash
# shellcheck disable=SC2154 # the parameters: card, driver, pyelftools
export PYTHONDONTWRITEBYTECODE=1 # nothing is left beside what is read

# The directory that has pyelftools: the one that is named, this Python's, or the system's.
reader() {
    local python found
    if [ -n "$pyelftools" ]; then
        [ -f "$pyelftools/elftools/__init__.py" ] && echo "$pyelftools"
        return
    fi
    for python in "$KB_PYTHON" python3; do
        found=$("$python" -c 'import elftools, pathlib; print(pathlib.Path(elftools.__file__).parents[1])' 2>/dev/null) &&
            echo "$found" && return
    done
    return 1
}

# cuda-needs as it lies beside this runbook, for the card and the driver of the parameters.
needs() {
    PYTHONPATH="$KB_HERE/check-host:$(reader)" "$KB_PYTHON" -m cuda_needs \
        ${card:+--card "$card"} ${driver:+--driver "$driver"} "$@"
}

# pack FILE: cuda-needs and its reader as one file. The same sources give the same bytes.
pack() {
    local tree=$TMPDIR/tree
    mkdir -p "$tree"
    cp -r "$KB_HERE/check-host/cuda_needs" "$(reader)/elftools" "$tree/"
    find "$tree" -name __pycache__ -prune -exec rm -r {} +
    echo 'import sys; from cuda_needs.__main__ import main; sys.exit(main())' >"$tree/__main__.py"
    find "$tree" -exec touch --date=1980-01-02 {} +
    "$KB_PYTHON" -m zipapp --python '/usr/bin/env python3' --output "$1" "$tree"
}

# put FILE MODE TARGET: TARGET is as FILE, by a rename of TARGET.new.
put() {
    local new=$3.new
    if cmp --quiet "$1" "$3"; then
        echo "$3 is as it should be"
        return
    fi
    mkdir -p "$(dirname "$3")"
    install --mode="$2" "$1" "$new"
    sync "$new"
    mv "$new" "$3"
    echo "changed: wrote $3"
}
