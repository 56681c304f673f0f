#!/bin/bash
# usage: ci/carry.sh runbooks/AREA/NAME [PYTHON-VERSION]
# Makes build/carry/NAME.pyz: one file with this package, its wheels and the runbook with its files, for a
# host that reaches nothing. The wheels are for this machine's Python, or for PYTHON-VERSION (3.12), and
# then it is NAME-3.12.pyz. Made of the same, it stays as it is.

. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"

runbook=${1%.ipynb} version=${2:-}
[[ $runbook == runbooks/*/* && -f $runbook.ipynb ]] ||
    die "'$runbook' is no runbook: say make carry NAME=runbooks/go/install"
[[ $version =~ ^(3\.[0-9]+)?$ ]] || die "'$version' is no version of Python: say make carry NAME=$runbook ARGS=3.12"
area=${runbook%/*} area=${area##*/}
site=build/carry/site
file=build/carry/${runbook##*/}${version:+-$version}.pyz

# What goes into the file; where the package's version comes from is part of it (setup.py).
made_of() {
    find -L ci/kb setup.py pyproject.toml requirements-host.txt "$site/carried" \
        -type f ! -name '*.pyc' -exec sha256sum {} + | sort
    git rev-parse HEAD 2>/dev/null || true
    .venv/bin/python --version
}

make_file() {
    rm -rf "$site"
    mkdir -p "$site/carried/$area"
    .venv/bin/python -m kb.proof.carry "$runbook.ipynb" "$site/carried/$area"
    if [[ -e $file && "$(made_of)" == "$(cat "$file.made-of" 2>/dev/null)" ]]; then return; fi
    made_of >build/carry/made-of
    say "bringing the wheels"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --target "$site" --require-hashes \
        --only-binary :all: ${version:+--python-version "$version"} --requirement requirements-host.txt >build/carry/pip.log 2>&1 ||
        die "pip could not bring the wheels: $(grep ^ERROR: build/carry/pip.log | tail -n1) (all of it: build/carry/pip.log)."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --target "$site" --upgrade --no-deps \
        --no-build-isolation .
    # Subprocesses, such as the kernel and kb-restore, find the package by PYTHONPATH.
    .venv/bin/shiv --site-packages "$site" --extend-pythonpath --compressed --reproducible \
        --python '/usr/bin/env python3' --entry-point kb.runtime.carried:main --output-file "$file"
    mv build/carry/made-of "$file.made-of"
}

locked carry make_file
say "$file: copy it, and run it with OUTPUT -p mode plan"
