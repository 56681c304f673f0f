"""Keeps secrets out of everything that a kernel sends: streams, displays, errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kb.runtime.parameters import is_secret

MASK = "***"
PROTOCOL = ("execution_state", "status", "name")  # words of the protocol itself: idle, ok, stdout
SHORTEST = 3  # a secret of one or two characters would mask half of every text


def secrets(values: Mapping[str, Any]) -> list[str]:
    """The secret values among parameters and environment variables, longest first."""
    named = [*values.items(), *os.environ.items()]
    found = {str(value) for name, value in named if is_secret(name)}
    lines = {line.strip() for value in found for line in value.splitlines()}  # a key of many lines
    return sorted((s for s in found | lines if len(s) >= SHORTEST), key=len, reverse=True)


def clean(value: Any, hidden: Iterable[str]) -> Any:
    """``value`` with every secret masked, however deep it lies in lists and dictionaries."""
    if isinstance(value, str):
        for secret in hidden:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        return {key: clean(part, hidden) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(clean(part, hidden) for part in value)
    return value


def clean_outputs(cell: Any, hidden: Iterable[str]) -> None:
    """Mask secrets in the outputs that a notebook's cell has stored."""
    for output in cell.get("outputs", []):
        for key in ("text", "data", "ename", "evalue", "traceback"):
            if key in output:
                output[key] = type(output[key])(clean(output[key], hidden))


def guard_session(session: Any, hidden: Callable[[], list[str]]) -> None:
    """Mask secrets in all that a kernel's session sends from now on."""
    send = session.send

    def masked(stream: Any, msg_or_type: Any, content: Any = None, *rest: Any, **kw: Any) -> Any:
        found = hidden()
        if found:
            content = _cleaned(content, found)
            if isinstance(msg_or_type, dict):
                msg_or_type = {**msg_or_type, "content": _cleaned(msg_or_type["content"], found)}
        return send(stream, msg_or_type, content, *rest, **kw)

    session.send = masked


def _cleaned(content: Any, hidden: list[str]) -> Any:
    """A message's content, masked; a secret that is a word of the protocol must not break it."""
    if not isinstance(content, dict):
        return content
    return clean(content, hidden) | {key: content[key] for key in PROTOCOL if key in content}


def hide_parameters(nb: Any) -> dict[str, str]:
    """Take secret values out of the notebook; returns the environment that hands them on."""
    stored = nb.metadata.get("papermill", {}).get("parameters", {})
    found = {name: str(value) for name, value in stored.items() if is_secret(name) and value}
    for name in found:
        stored[name] = MASK
    for cell in nb.cells:
        if found and "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(_look_up(line, found) for line in cell.source.splitlines())
    return {f"KB_PARAMETER_{name}": value for name, value in found.items()}


def _look_up(line: str, found: dict[str, str]) -> str:
    name = line.partition(" = ")[0]
    return f'{name} = __import__("os").environ["KB_PARAMETER_{name}"]' if name in found else line
