#!/bin/bash
# usage: ci/carry.sh runbooks/AREA/NAME [PYTHON-VERSION]
# Makes build/carry/NAME.pyz: one file with this package, its wheels and the runbook with its files, for a
# host that reaches nothing. The wheels are for this machine's Python, or for PYTHON-VERSION (3.12).

. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"

name=${1%.ipynb} version=${2:-}
[[ $name == runbooks/*/* && -f $name.ipynb ]] ||
    die "'$name' is no runbook: say make carry NAME=runbooks/go/install"
area=$(basename "$(dirname "$name")")
site=build/carry/site
rm -rf "$site"
mkdir -p "$site/carried/$area"

say "bringing the wheels"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --target "$site" --require-hashes \
    --only-binary :all: ${version:+--python-version "$version"} --requirement requirements-host.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --target "$site" --upgrade --no-deps \
    --no-build-isolation .
.venv/bin/python -m kb.proof.carry "$name.ipynb" "$site/carried/$area"
# Subprocesses, such as the kernel and kb-restore, find the package by PYTHONPATH.
.venv/bin/shiv --site-packages "$site" --extend-pythonpath --compressed --reproducible \
    --python '/usr/bin/env python3' --entry-point kb.runtime.carried:main \
    --output-file "build/carry/${name##*/}.pyz"
say "build/carry/${name##*/}.pyz: copy it, and run it with OUTPUT -p mode plan"
