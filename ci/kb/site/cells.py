"""The cells of a notebook as a reader sees them: bash as bash, without the magics around it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from typing import Any

from pygments.lexers.python import PythonLexer
from pygments.lexers.shell import BashLexer
from pygments.token import Token

from kb.site import terminal

_MAGIC = re.compile(r"%%(preflight|apply|verify|rollback|observe)\b[ \t]*(.*)(?:\n|$)")
_Classes = tuple[tuple[Any, str], ...]
_SPARSE: _Classes = (
    (Token.Comment, "c"),
    (Token.Keyword, "k"),
    (Token.Operator.Word, "k"),
)
_CLASSES: _Classes = (
    *_SPARSE,
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "m"),
    (Token.Name.Variable, "nv"),
    (Token.Name.Builtin, "nb"),
    (Token.Name.Function, "nf"),
    (Token.Name.Class, "nf"),
)
_LARGEST = 60_000  # characters of one cell


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
        found = _MAGIC.match(self.source)
        return found[2].strip() if found else ""

    @cached_property
    def code(self) -> str:
        """The code that a reader copies: of a bash cell everything below its magic line."""
        found = _MAGIC.match(self.source)
        return (self.source[found.end() :] if found else self.source).strip("\n")

    @property
    def is_bash(self) -> bool:
        return _MAGIC.match(self.source) is not None


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
    found = _MAGIC.match(source)
    return found[1] if found else "python"


def highlighted(cell: Cell, *, sparse: bool = False) -> str:
    """Returns the cell's code as an HTML block that the theme gives a copy button.

    Colours weigh more than the code itself; `sparse` keeps those of comments and keywords alone.
    """
    code = terminal.plain(terminal.clean(cell.code))[:_LARGEST]
    language = "bash" if cell.is_bash else "python"
    spans = "".join(_spans(code, language, _SPARSE if sparse else _CLASSES))
    return (
        f'<div class="language-{language} highlight"><pre tabindex="0"><code>{spans}</code></pre>'
        "</div>"
    )


def _spans(code: str, language: str, classes: _Classes) -> Iterator[str]:
    """Yields what Pygments' own formatter does, with a span only where there is a colour."""
    tokens = _lexer(language).get_tokens(code)
    for name, same in groupby(tokens, key=lambda token: _name(token[0], classes)):
        text = html.escape("".join(value for _, value in same), quote=False)
        yield f"<span class={name}>{text}</span>" if name else text


@cache
def _name(kind: Any, classes: _Classes) -> str:
    """The class of a token's kind. Kinds of one colour share it, and neighbours then a span."""
    return next((name for parent, name in classes if kind in parent), "")


@cache
def _lexer(language: str) -> Any:
    return BashLexer(stripnl=False) if language == "bash" else PythonLexer(stripnl=False)
