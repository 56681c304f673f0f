"""Keeps secrets out of everything that a kernel sends: streams, displays, errors."""

from __future__ import annotations

import base64
import functools
import html.entities
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kb.runtime import parameters
from kb.runtime.parameters import is_secret

MASK = "***"
PROTOCOL = ("execution_state", "status", "name")  # words of the protocol itself: idle, ok, stdout
SHORTEST = 3  # a secret of one or two characters would mask half of every text
SHORTEST_CODED = 8  # and so would a short piece of Base64 or hexadecimal, in pictures too
IN_URL = re.compile(r"\w+://[^\s/@:]*:([^\s/@]+)@")  # a proxy's password
# A setting in a file: its name and the sign between; and its value, in quotes or not.
SETTING = re.compile(r"""(?<![\w.-])([A-Za-z][\w.-]*)["']?[ \t]*[:=][ \t]*""")
SETTING_VALUE = re.compile(r"""(?:(?:Bearer|Basic)[ ])?(?:"[^"\n]*"|'[^'\n]*'|[^\s"',;]+)""")
PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----\n)[^-]*(\n-----END)")
# How bash, Python, Go and JSON write what they do not print as it is.
ESCAPED = {
    "\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r", "\x1b": "[eE]"
}  # fmt: skip


def secrets(values: Mapping[str, Any]) -> list[str]:
    """The secret values among parameters and environment variables, longest first."""
    named = [*values.items(), *os.environ.items()]
    found = {str(value) for name, value in named if is_secret(name) and not isinstance(value, bool)}
    found |= {
        form
        for _, value in named
        for password in IN_URL.findall(str(value))
        for form in (password, urllib.parse.unquote(password))
    }
    lines = {line.strip() for value in found for line in value.splitlines()}  # a key of many lines
    return sorted((s for s in found | lines if len(s) >= SHORTEST), key=len, reverse=True)


def clean(value: Any, hidden: Iterable[str]) -> Any:
    """``value`` with every secret masked, however deep it lies in lists and dictionaries.

    A secret is found as it is, and as shells, programs and file formats write it.
    """
    return _clean(value, _pattern(tuple(hidden)))


def _clean(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(MASK, value)
    if isinstance(value, Mapping):
        return {_clean(key, pattern): _clean(part, pattern) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_clean(part, pattern) for part in value)
    return value


@functools.lru_cache(maxsize=8)
def _pattern(hidden: tuple[str, ...]) -> re.Pattern[str]:
    """Finds every form of every secret; longer ones are tried first."""
    whole = [form for secret in hidden for form in _forms(secret)]
    return re.compile("|".join(sorted(whole, key=len, reverse=True)) or r"(?!)")


def _forms(secret: str) -> list[str]:
    """Patterns for the ways in which a secret is written."""
    content = secret.encode(errors="surrogateescape")
    forms = ["".join(map(_character, secret))]
    if 2 * len(content) >= SHORTEST_CODED:
        forms.append(f"(?i:{content.hex()})")
    # Three bytes are four characters of Base64, so there are three ways to be inside more of it.
    for before in range(3):
        start = -before % 3
        groups = base64.b64encode(content[start : start + (len(content) - start) // 3 * 3]).decode()
        if len(groups) >= SHORTEST_CODED:
            # Long ones are broken into lines; the next characters hold the secret's last bytes.
            coded = r"\s*".join(groups).replace("+", "[+-]").replace("/", "[/_]")
            forms.append(f"{coded}[\\w+/=-]{{0,4}}")
    return forms


def _character(character: str) -> str:
    """A pattern for one character: as it is, or as it is escaped, by whatever is usual."""
    if character.isascii() and character.isalnum():
        return character  # everything writes these as they are, and most secrets are made of them
    number, content = ord(character), character.encode(errors="surrogateescape")
    pair = character.encode("utf-16-be", errors="surrogatepass")
    units = [pair[i : i + 2].hex() for i in range(0, len(pair), 2)]
    ways = [
        re.escape(character),
        "".join(rf"\\+x0*{byte:02x}" for byte in content),
        "".join(rf"\\+0*{byte:03o}" for byte in content),
        "".join(f"%{byte:02x}" for byte in content),
        rf"\\+x0*{number:x}",
        "".join(rf"\\+u{unit}" for unit in units),
        rf"\\+(?:U|u\{{)0*{number:x}\}}?",
        rf"&\#(?:0*{number}|x0*{number:x});",
    ]
    if character in ESCAPED:
        ways.append(rf"\\+{ESCAPED[character]}")
    if name := html.entities.codepoint2name.get(number):
        ways.append(f"&{name};")
    ways += {
        " ": [r"\+"],
        "'": ["&apos;", "''", r"'\\+''", "'\"'\"'"],
        '"': ['""'],
        "\n": ["\r\n"],
    }.get(character, [])
    return rf"(?:\\*(?i:{'|'.join(sorted(ways, key=len, reverse=True))}))"


def mask_named(text: str) -> str:
    """``text`` of a file, with the value masked of each setting whose name is a secret's.

    A plan shows files that nobody has passed as parameters: no list knows what is secret in them.
    """
    text = IN_URL.sub(lambda found: found[0].replace(f":{found[1]}@", f":{MASK}@"), text)
    text = PRIVATE_KEY.sub(rf"\1{MASK}\2", text)
    parts, end = [], 0
    while found := SETTING.search(text, end):
        parts.append(text[end : found.end()])
        end = found.end()
        name = re.sub(r"[.-]", "_", found[1])
        value = SETTING_VALUE.match(text, end)
        if value and (is_secret(name) or name.lower() == "authorization"):
            parts.append(MASK)
            end = value.end()
    return "".join([*parts, text[end:]])


def clean_outputs(cell: Any, hidden: Iterable[str]) -> None:
    """Mask secrets in the outputs that a notebook's cell has stored."""
    for output in cell.get("outputs", []):
        for key in ("text", "data", "metadata", "ename", "evalue", "traceback"):
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
    return {key: part if key in PROTOCOL else clean(part, hidden) for key, part in content.items()}


def hide_parameters(nb: Any) -> dict[str, str]:
    """Take secret values out of the notebook; returns the environment that hands them on.

    What the notebook does not declare may be a secret whose name was mistyped: it is taken out,
    too. Raises :class:`ParameterError` where a name or a value cannot be passed.
    """
    stored = nb.metadata.get("papermill", {}).get("parameters", {})
    injected = [cell for cell in nb.cells if "injected-parameters" in _tags(cell)]
    if not injected:
        return {}
    parameters.check_passed(stored)
    known = _declared(nb)
    found = {
        name: str(value)
        for name, value in stored.items()
        if name not in known or (is_secret(name) and value and not isinstance(value, bool))
    }
    for name, value in found.items():
        if value == MASK:
            raise parameters.ParameterError(
                f"parameter `{name}` is masked in this record of a run: pass it again"
            )
    for cell in injected:
        cell.source = parameters.written(stored, found)
    for name in found:
        stored[name] = MASK
    return {parameters.variable(name): value for name, value in found.items()}


def _declared(nb: Any) -> set[str]:
    for cell in nb.cells:
        if "parameters" in _tags(cell):
            try:
                return {parameter.name for parameter in parameters.declared(cell.source)}
            except parameters.ParameterError:
                return set()  # the kernel says what is wrong with it
    return set()


def _tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))
