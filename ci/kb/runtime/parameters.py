"""The parameters cell of a notebook: what it declares, and whether what was passed fits.

papermill only warns about a parameter that it does not know, and it reads ``-p go_version 1.30``
as the number 1.3. On a production host both must stop the run before anything changes.
"""

from __future__ import annotations

import ast
import difflib
import io
import keyword
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
MODES = ("plan", "apply", "rollback")
INJECTED = "# Parameters"  # how papermill begins the cell that it injects
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# `token` and `api_token`, `PGPASSWORD`, `GITHUB_PAT`; not `PWD`, `keyring`, `token_count`.
SECRET = re.compile(
    r"(?:(?:^|_)(?:token|secret|credential|key|pat|pass)|_pwd|password|passwd|passphrase|apikey)s?$",
    re.IGNORECASE,
)


class ParameterError(Exception):
    """A parameter that is unknown, of the wrong type, or badly declared. One sentence."""


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell: ``name: type = default  # help``."""

    name: str
    type: str
    default: Any
    help: str
    line: int


def is_secret(name: str) -> bool:
    """Whether a parameter or environment variable of this name holds a secret."""
    return bool(SECRET.search(name))


def check_passed(values: Mapping[Any, Any]) -> None:
    """Raise :class:`ParameterError` for a name or a value that could be more than that.

    papermill writes ``NAME = VALUE`` into a cell and escapes no name, and of the values text alone.
    Both may come from somebody else's file.
    """
    if not isinstance(values, Mapping):
        raise ParameterError("parameters must be names with values, such as `mode: plan`")
    for name, value in values.items():
        whole = NAME.fullmatch(name) if isinstance(name, str) else None
        if whole is None or keyword.iskeyword(name):
            raise ParameterError(
                f"`{_beginning(name)}` is not a name for a parameter: a name is a letter,"
                " then letters, digits and _, and is not a word of Python"
            )
        if not _plain(value):
            raise ParameterError(
                f"parameter `{name}` must be text, a number or a truth value,"
                f" not {type(value).__name__}: write it in quotes"
            )


def _beginning(name: Any) -> str:
    """What may be shown of something that is no name; it may be ``api_token=`` and the token."""
    start = NAME.match(str(name))
    return f"{start[0]}..." if start and start[0] != name else str(name)[:1] + "..."


def _plain(value: Any) -> bool:
    """Whether ``value`` is of the kinds that JSON has, all the way down."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if type(part) is list:
            waiting += part
        elif type(part) is dict:
            waiting += [*part, *part.values()]
            if not all(type(key) is str for key in part):
                return False
        elif part is not None and type(part) not in (str, int, float, bool):
            return False
    return True


def declared(source: str) -> list[Parameter]:
    """Read a parameters cell. Raises :class:`ParameterError` with the line that is wrong."""
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(f"line {error.lineno} of the parameters cell is not Python") from None
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: list[Parameter] = []
    for node in body:
        new = _parameter(node, comments.get(node.end_lineno or node.lineno, ""))
        if new.name in {parameter.name for parameter in found}:
            raise ParameterError(
                f"line {new.line} of the parameters cell: `{new.name}` appears twice: remove one"
            )
        found.append(new)
    return found


def _parameter(node: ast.stmt, help_text: str) -> Parameter:
    wrong = f"line {node.lineno} of the parameters cell"
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value):
        raise ParameterError(f"{wrong} must read `name: type = default  # help`")
    name, kind = node.target.id, ast.unparse(node.annotation)
    if kind not in TYPES:
        raise ParameterError(f"{wrong}: the type of `{name}` must be one of {', '.join(TYPES)}")
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError):
        raise ParameterError(f"{wrong}: the default of `{name}` must be a plain value") from None
    if not _fits(kind, default):
        raise ParameterError(f"{wrong}: the default of `{name}` is not of type {kind}")
    if not help_text:
        raise ParameterError(f"{wrong}: `{name}` has no help text: add `# what it is` behind it")
    return Parameter(name, kind, default, help_text, node.lineno)


EXAMPLES = {"bool": "True or False", "int": "a whole number", "float": "a number"}


def check(known: list[Parameter], passed: dict[str, Any]) -> None:
    """Raise :class:`ParameterError` for the first passed value that the notebook cannot take."""
    by_name = {parameter.name: parameter for parameter in known}
    for name, value in passed.items():
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.5)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise ParameterError(
                f"unknown parameter `{name}`{meant or '.'} Known parameters: {', '.join(by_name)}."
            )
        parameter = by_name[name]
        if not _fits(parameter.type, value):
            raise ParameterError(_wrong_type(parameter, value))
        if name == "mode" and value not in MODES:
            near = difflib.get_close_matches(value, MODES, n=1, cutoff=0.4)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise ParameterError(f"mode `{value}` is not one of {', '.join(MODES)}{meant}")


def _fits(kind: str, value: Any) -> bool:
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, TYPES[kind])


def _wrong_type(parameter: Parameter, value: Any) -> str:
    shown = "***" if is_secret(parameter.name) else repr(value)
    sentence = (
        f"parameter `{parameter.name}` must be of type {parameter.type},"
        f" not {type(value).__name__} ({shown})"
    )
    if parameter.type == "str":
        return (
            f"{sentence}: papermill's -p turns what looks like a number or a truth value into one;"
            f" pass it as it is with -r {parameter.name} VALUE"
        )
    # papermill's -r passes text, whatever it looks like.
    return f"{sentence}: pass {EXAMPLES[parameter.type]} with -p {parameter.name} VALUE"


def written(values: Mapping[str, Any], held_back: Mapping[str, str]) -> str:
    """The cell that hands ``values`` to a notebook; the environment has what is ``held_back``.

    Raises :class:`ParameterError`.
    """
    check_passed(values)
    lines = [
        f"{name} = {_look_up(name) if name in held_back else _literal(value)}"
        for name, value in values.items()
    ]
    return "\n".join([INJECTED, *lines])


def variable(name: str) -> str:
    """The environment variable that holds a parameter which the notebook must not."""
    return f"KB_PARAMETER_{name}"


def _look_up(name: str) -> str:
    return f'__import__("os").environ["{variable(name)}"]'


def _literal(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, str):  # as papermill writes it
        escaped = value.encode("unicode_escape").decode().replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)


def passed(source: str) -> dict[str, Any]:
    """The values of an injected cell; "" for one that it looks up in the environment.

    Raises :class:`ParameterError`: the cell does more than that.
    """
    values = {}
    try:
        for node in ast.parse(source).body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values[name] = _read(name, value)
                case _:
                    raise ValueError
        check_passed(values)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ParameterError(
            "the cell of the passed parameters holds more than names and values:"
            " remove it, and pass them again"
        ) from None
    return values


def _read(name: str, value: ast.expr) -> Any:
    text = ast.unparse(value)
    if text == ast.unparse(ast.parse(_look_up(name), mode="eval").body):
        return ""
    if text in ("float('nan')", "float('inf')", "float('-inf')"):
        return float(text[7:-2])
    return ast.literal_eval(value)


def as_environment(values: dict[str, Any]) -> dict[str, str]:
    """How a bash cell sees parameters: text as it is, truth values as true and false."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
    }
