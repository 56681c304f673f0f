#!/bin/bash
# Executes the notebooks, builds the site, and serves it unless SERVE=0. A notebook that fails does
# not keep the site from being built, for the site is where the failure is shown; the exit status
# says it in the end.

. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"

serves() { [[ "${SERVE:-1}" != 0 ]]; }

# shellcheck disable=SC2329 # locked calls it
build() {
    say "building the site"
    rm -rf build/site.new
    # Material announces its successor on every build; mkdocs.yml is kept such that it could move.
    NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict --site-dir build/site.new
    # Only a whole site takes the place of the one before.
    rm -rf build/site.old
    if [[ -e site ]]; then mv site build/site.old; fi
    mv build/site.new site
    rm -rf build/site.old
    say "the site is in site/"
}

if serves; then .venv/bin/python ci/serve.py --check site "$PORT"; fi
status=0
make --no-print-directory run-here || status=$?
locked site build
if ((status)); then say "not every notebook passed: see the table above"; fi
if serves; then .venv/bin/python ci/serve.py site "$PORT"; fi
exit "$status"
