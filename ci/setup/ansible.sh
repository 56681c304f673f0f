# Ansible in an environment of its own, build/ansible, and the ssh that it calls. Sourced, not run.
# shellcheck shell=bash

ensure_ansible() {
    local uv venv=build/ansible list=requirements-ansible.txt
    command -v ssh >/dev/null || apt_install "ssh" openssh-client
    if [[ "$(sha256sum "$list")" == "$(cat "$venv/made-of" 2>/dev/null)" ]]; then return; fi
    find_uv
    say "bringing Ansible"
    if ! "$uv" venv --quiet --clear --python .venv/bin/python "$venv" ||
        ! "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes --requirement "$list"; then
        die "uv could not make $venv (see above): check the network and run make again."
    fi
    sha256sum "$list" >"$venv/made-of"
}
