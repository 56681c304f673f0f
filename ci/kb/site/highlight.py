"""Code in colours: spans of the classes that the theme has colours for."""

from __future__ import annotations

import builtins
import html
import keyword
import re
from collections.abc import Iterator, Set
from functools import cache
from itertools import groupby
from typing import Any

from pygments.lexers.shell import BashLexer
from pygments.token import Token

from kb.runtime import terminal

LARGEST = 60_000  # characters of one cell

# The theme's names for its colours: comment, keyword, string, number, variable, builtin.
_CLASSES = {"c", "k", "s", "m", "nv", "nb"}
_SPARSE = {"c"}
_KINDS = (
    (Token.Comment, "c"),
    (Token.Keyword, "k"),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "m"),
    (Token.Name.Variable, "nv"),
    (Token.Name.Builtin, "nb"),
)
_STRING = (
    r"(?:\b[rbfuRBFU]{1,2})?"
    r"(?:'{3}(?:\\.|[^\\])*?'{3}|\"{3}(?:\\.|[^\\])*?\"{3}"
    r"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\")"
)
_BUILTINS = [name for name in dir(builtins) if name.islower() and name.isalpha()]
_PYTHON = re.compile(
    rf"(?P<c>\#[^\n]*)|(?P<s>{_STRING})|(?P<m>\b\d[\w.]*)"
    rf"|\b(?:(?P<k>{'|'.join(keyword.kwlist)})|(?P<nb>{'|'.join(_BUILTINS)}))\b",
    re.DOTALL,
)


def block(code: str, language: str, *, sparse: bool = False) -> str:
    """Returns code as an HTML block that the theme gives a copy button.

    Args:
        code: what a reader copies.
        language: `bash`, `python`, or `text`, which has no colours.
        sparse: only comments get a colour. Colours weigh more than the code itself.
    """
    safe = terminal.plain(terminal.clean(code))[:LARGEST]
    spans = _COLOURED[language](safe, _SPARSE if sparse else _CLASSES)
    return (
        f'<div class="language-{language} highlight"><pre tabindex="0"><code>{"".join(spans)}\n'
        "</code></pre></div>"
    )


def _text(code: str, classes: Set[str]) -> Iterator[str]:
    yield html.escape(code, quote=False)


def _python(code: str, classes: Set[str]) -> Iterator[str]:
    """Yields Python with spans. Pygments takes ten times as long: a third of a cold build."""
    end = 0
    for found in _PYTHON.finditer(code):
        if found.lastgroup in classes:
            yield html.escape(code[end : found.start()], quote=False)
            yield f"<span class={found.lastgroup}>{html.escape(found[0], quote=False)}</span>"
            end = found.end()
    yield html.escape(code[end:], quote=False)


def _bash(code: str, classes: Set[str]) -> Iterator[str]:
    """Yields bash with spans, one for neighbours of one colour."""
    tokens = _lexer().get_tokens_unprocessed(code)
    for name, same in groupby(tokens, key=lambda token: _name(token[1])):
        text = html.escape("".join(token[2] for token in same), quote=False)
        yield f"<span class={name}>{text}</span>" if name in classes else text


@cache
def _name(kind: Any) -> str:
    """The class of a kind of token; kinds of one colour share it."""
    return next((name for parent, name in _KINDS if kind in parent), "")


@cache
def _lexer() -> Any:
    return BashLexer()


_COLOURED = {"bash": _bash, "python": _python, "text": _text}
