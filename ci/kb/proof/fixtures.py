"""Fixtures: made by the scripts in ``ci/fixtures``; which take minutes, by ``ci/fixtures.toml``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from kb.proof import tables
from kb.proof.catalog import Notebook

SLOW = Path("ci/fixtures.toml")


class FixtureError(Exception):
    """A fixture that could not be made. One sentence."""


def slow(root: Path) -> dict[str, float]:
    """Seconds by fixture; empty without the table. Raises :class:`~kb.proof.tables.TableError`."""
    if not (root / SLOW).exists():
        return {}
    _, table = tables.read(root, SLOW)
    known = {path.name for path in (root / "ci/fixtures").iterdir() if path.is_file()}
    tables.check(str(SLOW), table, dict.fromkeys(sorted(known), (int, float)))
    return {name: float(seconds) for name, seconds in table.items()}


def missing(notebook: Notebook, slow: Mapping[str, float]) -> dict[str, float]:
    """Seconds by each slow fixture that ``notebook`` wants and that is not there yet."""
    built = notebook.root / "build/fixtures"
    return {
        name: slow[name]
        for name in notebook.metadata.get("fixtures", [])
        if name in slow and not (built / name).exists()
    }


def unusable(notebook: Notebook) -> str | None:
    """Why a fixture that ``notebook`` wants is of no use on this machine, by ``ci/usable/NAME``.

    That is a program which ends with 1 and one sentence where it is so: what the machine is made of
    and what no host on it can change. No run hangs on it, so no record does.
    """
    for name in notebook.metadata.get("fixtures", []):
        usable = notebook.root / "ci/usable" / name
        if usable.exists():
            done = subprocess.run([usable], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return (done.stdout or done.stderr).strip() or f"ci/usable/{name} says nothing"
    return None


def make(root: Path, name: str) -> Path:
    """The directory that ``ci/fixtures/NAME`` fills; one process at a time asks it to.

    Raises :class:`FixtureError`.
    """
    target = root / "build/fixtures" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        done = subprocess.run(
            [root / "ci/fixtures" / name, target],
            env={**os.environ, "PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"]
        raise FixtureError(f"ci/fixtures/{name} failed: {said[-1].strip()}")
    return target
