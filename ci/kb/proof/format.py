"""The committed format of notebooks: one text for one content, so that a diff shows what changed.

``python -m kb.proof.format PATH...`` (``make fmt``) rewrites these notebooks, or all below a
directory, in it.
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

from kb.runtime.record import write_atomically

KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# What editors and nbformat give to a new cell: it says nothing, so no link should name it.
RANDOM = re.compile(r"[0-9a-f]{8}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TITLE_WORDS = 4


def notebooks(places: list[Path]) -> Iterator[Path]:
    """The notebook files in ``places``: what is named, and what lies below a directory, sorted."""
    for place in places:
        if not place.is_dir():
            yield place
            continue
        for path in sorted(place.rglob("*.ipynb")):
            if ".ipynb_checkpoints" not in path.parts:
                yield path


def canonical(text: str) -> str:
    """The committed form: no outputs, no execution counts, kebab-case ids, sorted keys.

    Raises :class:`ValueError` if ``text`` is not the JSON of a notebook.
    """
    notebook = json.loads(text)
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
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
    if not sys.argv[1:]:
        print("error: name notebooks, or directories that hold some", file=sys.stderr)
        return 2
    status = 0
    for path in notebooks([Path(argument) for argument in sys.argv[1:]]):
        try:
            text = path.read_text(encoding="utf-8")
            wanted = canonical(text)
            if text != wanted:
                write_atomically(path, wanted)  # it may be the only copy of an evening's work
                print(f"{path}: rewritten")
        except OSError as error:
            print(f"error: {path}: {error.strerror}", file=sys.stderr)
            status = 1
        except ValueError as error:
            print(f"error: {path}: not a notebook: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
