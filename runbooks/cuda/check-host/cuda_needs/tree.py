"""Finding files below a root directory that is not this system's: links lead inside it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

# Where a loader looks when nothing else names a directory.
DEFAULT = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
TRIPLETS = {"x64": "x86_64-linux-gnu", "AArch64": "aarch64-linux-gnu"}
CACHED = {"x64": "x86-64", "AArch64": "AArch64"}  # how ldconfig calls a machine
LINKS = 40  # that a path may lead through, as in the kernel


def inside(root: str, path: str) -> str:
    """Where ``path`` of the system below ``root`` lies here, with its links followed inside."""
    if root == "/":
        return os.path.realpath(path)
    done, left, links = "", [part for part in path.split("/") if part], 0
    while left:
        part = left.pop(0)
        if part == "..":
            done = os.path.dirname(done)  # noqa: PTH120 - `done` is text that is being built
        elif part != ".":
            here = f"{root}{done}/{part}"
            if os.path.islink(here) and links < LINKS:  # noqa: PTH114
                target, links = os.readlink(here), links + 1  # noqa: PTH115
                done = "" if target.startswith("/") else done
                left = [piece for piece in target.split("/") if piece] + left
            else:
                done = f"{done}/{part}"
    return root + done


def directories(machine: str) -> list[str]:
    """The loader's default directories, the machine's own first."""
    triplet = TRIPLETS.get(machine)
    own = [f"{path}/{triplet}" for path in DEFAULT[:2]] if triplet else []
    return [*own, *DEFAULT]


def cache(root: str, machine: str) -> dict[str, str]:
    """What the loader's cache says, as ldconfig reads it: for each soname a path."""
    file = Path(inside(root, "/etc/ld.so.cache"))
    if not file.is_file():
        return {}
    try:
        done = subprocess.run(
            ["ldconfig", "-p", "-C", str(file)],
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError:
        return {}  # a system without ldconfig: the directories are all there is
    kind = CACHED.get(machine, "")
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"\s+(\S+) \(([^)]*)\) => (/.*)", line)
        if match and kind in match[2]:
            found.setdefault(match[1], match[3])
    return found


def find(root: str, machine: str, soname: str, cached: dict[str, str]) -> str:
    """Where the loader of this system finds a library; empty if nowhere."""
    for path in [cached.get(soname, ""), *(f"{d}/{soname}" for d in directories(machine))]:
        here = inside(root, path) if path else ""
        if here and Path(here).is_file():
            return here
    return ""
