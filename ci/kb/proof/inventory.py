"""Reads an inventory by Ansible's own command, and refuses what would only come to light later."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kb.proof import hosts

ANSIBLE = Path("build/ansible/bin")
CONFIG = Path("ci/ansible/ansible.cfg")
_HOST = re.compile(r"\w[\w.-]*")
_YAML = (".yml", ".yaml", ".json")
_TRIED = re.compile(r"inventory with '(\w+)' plugin: (?:[\w ]+: )?(.*?)\.?$", re.MULTILINE)


class InventoryError(Exception):
    """An inventory that cannot be used. One sentence."""


def read(root: Path, inventory: Path) -> dict[str, list[str]]:
    """By group the hosts of an inventory, in its order; `all` has each of them.

    Raises :class:`InventoryError` for one that Ansible cannot read, or that has a machine twice.
    """
    if not inventory.exists():
        raise InventoryError(f"INVENTORY={inventory}: there is no such file")
    _refuse_repeated(inventory)
    command = [str(ANSIBLE / "ansible-inventory"), "--inventory", str(inventory), "--list"]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment(root), capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise InventoryError(
            f"{command[0]}: {error.strerror}: say make fleet, which brings it"
        ) from None
    if done.returncode != 0:
        # It tries one reader after the other; the last that can be meant knows best.
        tried = dict(_TRIED.findall(done.stderr))
        reader = "yaml" if inventory.suffix in _YAML else "ini"
        said = tried.get(reader) or (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise InventoryError(f"{inventory}: Ansible cannot read it: {said}")
    content = json.loads(done.stdout)
    variables = content.get("_meta", {}).get("hostvars", {})

    def below(group: str) -> Iterator[str]:
        about = content.get(group, {})
        yield from about.get("hosts", [])
        for child in about.get("children", []):
            yield from below(child)

    groups = {
        name: list(dict.fromkeys(below(name))) for name in ("all", *content) if name != "_meta"
    }
    if not groups["all"]:
        raise InventoryError(f"{inventory}: there is no host in it")
    _check_hosts(root, inventory, groups["all"], variables)
    return groups


def _refuse_repeated(inventory: Path) -> None:
    """Ansible takes the last of two lines for one host, without a word."""
    if not inventory.is_file() or inventory.suffix in _YAML:
        return  # of a key that is there twice in these, ansible.cfg makes an error
    if os.access(inventory, os.X_OK):
        return  # a program that prints one
    seen: dict[str, int] = {}
    section = ""
    for number, line in enumerate(inventory.read_text(errors="replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith(("#", ";")):
            continue
        if words[0].startswith("["):
            seen, section = {}, words[0]
        elif not section.endswith((":vars]", ":children]")):
            if first := seen.get(words[0]):
                raise InventoryError(
                    f"{inventory}:{number}: {words[0]} is there twice, first in line {first}:"
                    " remove one"
                )
            seen[words[0]] = number


def _check_hosts(
    root: Path, inventory: Path, names: list[str], variables: Mapping[str, Mapping[str, Any]]
) -> None:
    taken = hosts.load(root)
    places: dict[tuple[str, str], str] = {}
    for name in names:
        about = variables.get(name, {})
        if not _HOST.fullmatch(name):
            raise InventoryError(
                f"{inventory}: {name}: call it by letters, digits, dots and hyphens, and say its"
                " address with ansible_host"
            )
        if name in taken:
            raise InventoryError(
                f"{inventory}: {name} is a host of ci/hosts.toml, whose records these would be"
                " taken for: give it another name, and its address with ansible_host"
            )
        place = (str(about.get("ansible_host", name)), str(about.get("ansible_port", 22)))
        if place in places:
            raise InventoryError(
                f"{inventory}: {places[place]} and {name} are the same machine ({place[0]}, port"
                f" {place[1]}), which would be changed twice at once: remove one"
            )
        places[place] = name
        key = about.get("ansible_ssh_private_key_file", about.get("ansible_private_key_file"))
        if key and "{{" not in str(key) and not Path(str(key)).expanduser().is_file():
            raise InventoryError(
                f"{inventory}: there is no ssh key {key}, which {name} is to be reached with: make"
                " it (ssh-keygen), or name the right one in ansible_ssh_private_key_file"
            )


def environment(root: Path) -> dict[str, str]:
    """What Ansible's commands are given."""
    return {"ANSIBLE_CONFIG": str(root / CONFIG), **os.environ}
