"""What a cell calls and does not show: functions and scripts from the files beside a notebook."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath

LARGEST = 6_000  # characters of a file; what is larger is a program to be read by itself

_BASH = re.compile(
    r"(?m)^(?P<about>(?:#(?!!| shellcheck).*\n)*)"
    r"(?P<name>[A-Za-z_][\w-]*)\(\) (?:\{.*\}|\{.*\n(?:.*\n)*?\})[^\S\n]*$"
)
_IMPORT = re.compile(r"(?m)^\s*(?:from (\w+) import|import (\w+)[^\S\n]*(?:#.*)?$)")


@dataclass(frozen=True)
class Helper:
    """A function, or a file as a whole where `name` is the file's."""

    file: str
    name: str
    language: str
    code: str

    @property
    def anchor(self) -> str:
        """Where it is shown in full: under the first cell that calls it."""
        return "does-" + re.sub(r"\W+", "-", f"{PurePath(self.file).name}-{self.name}")


def called(code: str, language: str, files: Mapping[str, str], whole: str) -> list[Helper]:
    """Returns what a cell calls, and what that calls in its turn.

    Args:
        code: the cell's.
        language: `bash` or `python`.
        files: text of each file beside the notebook, by path as a cell names it.
        whole: the code of all cells, where the imports are.
    """
    found: dict[str, Helper] = {}
    for path, text in files.items():
        functions = _functions(path, text)
        if language == "bash" and functions and _sources(code, path):
            _follow(code, functions, _is_command, found)
        elif language == "python" and functions and (taken := _imported(whole, path)):
            _follow(code, functions, taken, found)
        elif len(text) <= LARGEST and _runs(code, path) and not _prints(code, path):
            helper = Helper(path, PurePath(path).name, _language(path, text), text)
            found[helper.anchor] = helper
    return list(found.values())


def _follow(
    code: str,
    functions: Mapping[str, Helper],
    is_called: Callable[[str, str], bool],
    found: dict[str, Helper],
) -> None:
    within = _is_command if is_called is _is_command else _is_name
    for name, helper in functions.items():
        if helper.anchor not in found and is_called(code, name):
            found[helper.anchor] = helper
            _follow(helper.code, functions, within, found)


def _is_command(code: str, name: str) -> bool:
    """Whether bash calls it: a word that stands where a command does."""
    return (
        re.search(
            r"(?m)(?:^|[|&;({!]|\b(?:if|then|else|elif|do|while|until)\b)[^\S\n]*"
            rf"{re.escape(name)}(?![\w.=/-])",
            code,
        )
        is not None
    )


def _is_name(code: str, name: str) -> bool:
    return re.search(rf"(?<![\w.$-]){name}\b", code) is not None


def _runs(code: str, path: str) -> bool:
    """Whether a cell names a file by its path, or by its name once its folder is in the PATH."""
    if re.search(rf"(?<![\w-]){re.escape(path)}(?![\w./-])", code):
        return True
    folder, name = str(PurePath(path).parent), PurePath(path).name
    there = re.search(rf"(?m)^\s*(?:export )?PATH[+=].*{re.escape(folder)}\b", code)
    return there is not None and _is_command(code, name)


def _prints(code: str, path: str) -> bool:
    """Whether the cell's own output shows the file."""
    return re.search(rf"(?m)^\s*cat \S*{re.escape(path)}", code) is not None


def _sources(code: str, path: str) -> bool:
    return re.search(rf"(?m)^\s*(?:\.|source) \S*{re.escape(path)}\b", code) is not None


def _imported(code: str, path: str) -> Callable[[str, str], bool] | None:
    """What tells whether code uses a name of a module, where the notebook imports it."""
    module = PurePath(path).stem
    for found in _IMPORT.finditer(code):
        if module == found[1]:
            return _is_name
        if module == found[2]:
            return lambda code, name: re.search(rf"\b{module}\.{name}\b", code) is not None
    return None


def _language(path: str, text: str) -> str:
    first = text.partition("\n")[0]
    if path.endswith(".py") or "python" in first:
        return "python"
    return "bash" if path.endswith(".sh") or "sh" in first else "text"


@cache
def _functions(path: str, text: str) -> Mapping[str, Helper]:
    """The functions of a file that others take them from, by name."""
    language = _language(path, text)
    if path.endswith(".sh"):
        parts: Iterable[tuple[str, str]] = ((m["name"], m[0]) for m in _BASH.finditer(text))
    elif path.endswith(".py"):
        parts = _python_parts(text)
    else:
        parts = ()
    return {name: Helper(path, name, language, code) for name, code in parts}


def _python_parts(text: str) -> Iterable[tuple[str, str]]:
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            yield node.name, "\n".join(text.splitlines()[first - 1 : node.end_lineno])
