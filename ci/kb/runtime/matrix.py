"""``matrix``: what was seen on each of several releases, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIME = "application/vnd.noble-runbooks.matrix+json"
NOTHING = "-"


def matrix(over: str, seen: Mapping[str, Mapping[str, Any]]) -> None:
    """Show what was seen as a table: a column for each release, a row for each property.

    Args:
        over: what the columns are, for example ``Go release``.
        seen: for each column, in its order, the value of each row. A row that a column lacks
            shows ``-`` there.

    Raises:
        TypeError: there is no column, or a column is no mapping.
    """
    if not seen or not all(isinstance(column, Mapping) for column in seen.values()):
        raise TypeError('matrix(over, seen) needs a mapping for each column: {"1.22": {"row": 1}}')
    columns = list(seen)
    names = dict.fromkeys(name for column in seen.values() for name in column)
    rows = {name: [str(seen[column].get(name, NOTHING)) for column in columns] for name in names}
    from IPython.display import display  # noqa: PLC0415 - CI's side reads MIME where no kernel is

    display(
        {
            MIME: {"over": over, "columns": columns, "rows": rows},
            "text/plain": _text([over, *columns], [[name, *rows[name]] for name in names]),
        },
        raw=True,
    )


def _text(head: list[str], body: list[list[str]]) -> str:
    """Aligned columns, for whoever reads the notebook without the site."""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *body)
    )
