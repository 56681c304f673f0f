"""Fixtures that take minutes to make, by ``ci/fixtures.toml``: how long, and which are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from kb.proof import tables
from kb.proof.catalog import Notebook

SLOW = Path("ci/fixtures.toml")


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


def make(root: Path, name: str) -> None:
    """Make a fixture. Where that fails, the run that wants it tries once more, and says why."""
    built = root / "build/fixtures"
    built.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [root / "ci/fixtures" / name, built / name],
        env={**os.environ, "PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
