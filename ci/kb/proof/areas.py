"""The areas that notebooks belong to, and what is said of each in its ``area.toml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kb.proof import tables
from kb.proof.catalog import KINDS, paths
from kb.proof.tables import TableError

FILE = "area.toml"
KEYS: dict[str, tables.Kinds] = {"title": str, "sentence": str, "owner": str, "order": int}
OWNER = re.compile(r"@[\w-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Area:
    """An area: what readers see of it, who answers for it, and its place among the others."""

    name: str
    title: str
    sentence: str
    owner: str
    order: int | None = None


def find(root: Path) -> dict[str, Area]:
    """Every area that has a runbook or notebook, in the order of the site.

    Raises :class:`TableError` for one of which nothing, or nothing that can be used, is said.
    """
    found = [read(root, name) for name in sorted({path.parts[1] for path in paths(root)})]
    ordered = sorted(
        found, key=lambda area: (area.order is None, area.order or 0, area.title.lower())
    )
    return {area.name: area for area in ordered}


def read(root: Path, name: str) -> Area:
    """What is said of one area. Raises :class:`TableError`."""
    places = [Path(kind, name, FILE) for kind in KINDS]
    written = [path for path in places if (root / path).is_file()]
    if not written:
        inside = next(path for path in places if any((root / path).parent.glob("*.ipynb")))
        raise TableError(
            f"{inside} is missing: write in it what the area `{name}` is,"
            ' title = "...", sentence = "..." and owner = "@..."'
        )
    if len(written) > 1:
        raise TableError(f"{written[1]}: {written[0]} speaks of the same area: remove one of them")
    path = written[0]
    _, table = tables.read(root, path)
    tables.check(str(path), table, KEYS, ("title", "sentence", "owner"))
    for key in ("title", "sentence"):
        if not table[key].strip():
            raise TableError(f"{path}: `{key}` is empty")
    if not OWNER.fullmatch(table["owner"]):
        raise TableError(f'{path}: `owner` must be a name of the forge, such as "@maintainers"')
    return Area(name, **table)
