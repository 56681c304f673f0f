"""The cells of a notebook as a reader sees them: bash as bash, without the magics around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kb.proof.catalog import MAGIC


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook file.

    `kind` is the magic's name for a bash cell, else `markdown`, `setup`, `parameters`, `injected`
    or `python`.
    """

    id: str
    kind: str
    source: str
    outputs: list[dict[str, Any]] = field(default_factory=list)
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)

    @cached_property
    def caption(self) -> str:
        """The title on the magic line."""
        found = MAGIC.match(self.source)
        return found[2].strip() if found else ""

    @cached_property
    def code(self) -> str:
        """The code that a reader copies: of a bash cell everything below its magic line."""
        found = MAGIC.match(self.source)
        return (self.source[found.end() :] if found else self.source).strip("\n")

    @property
    def is_bash(self) -> bool:
        return MAGIC.match(self.source) is not None

    @property
    def language(self) -> str:
        return "bash" if self.is_bash else "python"


def read(notebook: dict[str, Any]) -> list[Cell]:
    """Reads the cells of a notebook in format 4."""
    return [_cell(raw) for raw in notebook.get("cells", [])]


def _cell(raw: dict[str, Any]) -> Cell:
    source = raw.get("source", "")
    source = "".join(source) if isinstance(source, list) else source
    return Cell(
        id=str(raw.get("id", "")),
        kind=_kind(raw, source),
        source=source,
        outputs=raw.get("outputs") or [],
        attachments=raw.get("attachments") or {},
    )


def _kind(raw: dict[str, Any], source: str) -> str:
    if raw.get("cell_type") != "code":
        return "markdown" if raw.get("cell_type") == "markdown" else "raw"
    tags = raw.get("metadata", {}).get("tags", [])
    for tag, kind in (
        ("setup", "setup"),
        ("parameters", "parameters"),
        ("injected-parameters", "injected"),
    ):
        if tag in tags:
            return kind
    found = MAGIC.match(source)
    return found[1] if found else "python"
