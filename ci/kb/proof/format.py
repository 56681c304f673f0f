"""The committed format of notebooks: one text for one content, so that a diff shows what changed.

``python -m kb.proof.format DIRECTORY...`` (``make fmt``) rewrites every notebook below in it.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# What editors and nbformat give to a new cell: it says nothing, so no link should name it.
RANDOM = re.compile(r"[0-9a-f]{8}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TITLE_WORDS = 4


def notebooks(directories: list[Path]) -> Iterator[Path]:
    """The notebook files below ``directories``, sorted."""
    for directory in directories:
        for path in sorted(directory.rglob("*.ipynb")):
            if ".ipynb_checkpoints" not in path.parts:
                yield path


def canonical(text: str) -> str:
    """The committed form: no outputs, no execution counts, kebab-case ids, sorted keys.

    Raises :class:`ValueError` if ``text`` is not the JSON of a notebook.
    """
    notebook = json.loads(text)
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise ValueError("it has no list of cells")
    notebook = copy.deepcopy(notebook)
    given = notebook.get("metadata", {})
    notebook["metadata"] = KERNEL | ({"kb": given["kb"]} if "kb" in given else {})
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    taken: set[str] = set()
    for cell in notebook["cells"]:
        _normalise(cell)
        cell["id"] = _identity(cell, taken)
        taken.add(cell["id"])
    node = nbformat.from_dict(notebook)
    return str(nbformat.writes(node)) + "\n"


def _normalise(cell: dict[str, Any]) -> None:
    source = cell.get("source", "")
    text = source if isinstance(source, str) else "".join(source)
    cell["source"] = "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))
    tags = cell.get("metadata", {}).get("tags")
    cell["metadata"] = {"tags": tags} if tags else {}
    cell.pop("attachments", None)
    if cell.get("cell_type") == "code":
        cell["outputs"], cell["execution_count"] = [], None


def _identity(cell: dict[str, Any], taken: set[str]) -> str:
    """The cell's own id if it is a good one, else one made of its tag or of its first words."""
    given = str(cell.get("id", ""))
    if NAME.fullmatch(given) and not RANDOM.fullmatch(given) and given not in taken:
        return given
    tags = cell["metadata"].get("tags", [])
    first = next(iter(cell["source"].splitlines()), "")
    title = re.sub(r"^%%\w+( --rollback)?", "", first)
    words = re.findall(r"[a-z0-9]+", " ".join(tags) or title.lower())
    base = "-".join(words[:TITLE_WORDS]) or "cell"
    if not base[0].isalpha():
        base = f"cell-{base}"
    if cell["cell_type"] == "markdown" and not first.startswith("#"):
        base += "-text"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def main() -> int:
    """Rewrite what differs; the status is 1 if a file could not be read as a notebook."""
    status = 0
    for path in notebooks([Path(argument) for argument in sys.argv[1:]]):
        text = path.read_text(encoding="utf-8")
        try:
            wanted = canonical(text)
        except ValueError as error:
            print(f"{path}: not a notebook: {error}", file=sys.stderr)
            status = 1
            continue
        if text != wanted:
            path.write_text(wanted, encoding="utf-8")
            print(f"{path}: rewritten")
    return status


if __name__ == "__main__":
    sys.exit(main())
