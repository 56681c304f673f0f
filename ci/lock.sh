#!/bin/bash
# Resolves the dependencies anew: requirements*.txt, with hashes and without addresses, so that any
# mirror will do. One file says what the others take, so that no two differ in a version.

. "$(dirname "${BASH_SOURCE[0]}")/setup/lib.sh"
. ci/setup/python.sh

# resolve OLDEST-PYTHON OUTPUT ARGUMENT...
resolve() {
    say "resolving $2"
    "$uv" pip compile --quiet --upgrade --universal --generate-hashes --no-annotate \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
        --python-version "$1" --output-file "$2" "${@:3}"
}

find_uv
resolve 3.9 requirements-uv.txt - <<<uv
resolve 3.11 requirements-host.txt pyproject.toml --group build
resolve 3.11 requirements.txt pyproject.toml --extra ci --extra site --group build --group test \
    --constraint requirements-host.txt
# The first page waits for these alone, so papermill and the kernel are not among them.
"$(find_python)" -c '
import tomllib
asked = tomllib.load(open("pyproject.toml", "rb"))
print(*asked["project"]["optional-dependencies"]["site"], *asked["dependency-groups"]["build"], sep="\n")
' | resolve 3.11 requirements-site.txt - --constraint requirements.txt
resolve 3.12 requirements-bench.txt pyproject.toml --extra ci --extra site --group build --group bench \
    --constraint requirements.txt
# In an environment of its own, which `make fleet` alone makes.
resolve 3.11 requirements-ansible.txt - --constraint requirements.txt <<<'ansible-core>=2.19'
