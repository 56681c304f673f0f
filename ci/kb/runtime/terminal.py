"""Terminal text made safe to publish: colours become HTML, other control sequences go."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

# Whole control strings, so that their payload (a title, a link target) goes with them.
_STRINGS = re.compile(r"\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?")
_SEQUENCES = re.compile(r"\x1b(?:\[(?P<sgr>[0-9;:]*)m|\[[0-?]*[ -/]*[@-~]?|[ -/]*[0-~]?)")
_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
# Control characters, and those that reorder text so that it reads as something it is not.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_STYLES = {1: "bold", 2: "faint", 3: "italic", 4: "underline"}
_ENDS = {22: ("bold", "faint"), 23: ("italic",), 24: ("underline",)}
_EXTENDED = {5: 1, 2: 3}  # how many numbers follow 38;5 and 38;2


def clean(text: str) -> str:
    """Returns text with newlines, tabs and colour sequences as its only control characters."""
    text = text.replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(_overwritten(line) for line in text.split("\n"))
    if "\b" in text:
        text = _rubbed_out(text)
    if "\x1b" in text:
        text = _SEQUENCES.sub(_keep_colour, _STRINGS.sub("", text))
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def plain(text: str) -> str:
    """Returns cleaned text without its colours."""
    return _SGR.sub("", text) if "\x1b" in text else text


def to_html(text: str) -> str:
    """Returns cleaned text as HTML, colours as spans of class `ansi-*`."""
    if "\x1b" not in text:
        return html.escape(text, quote=False)
    parts = []
    classes: tuple[str, ...] = ()
    for chunk, codes in _chunks(text):
        if chunk:
            escaped = html.escape(chunk, quote=False)
            names = " ".join(f"ansi-{name}" for name in classes)
            parts.append(f'<span class="{names}">{escaped}</span>' if names else escaped)
        classes = _after(classes, codes)
    return "".join(parts)


def _overwritten(line: str) -> str:
    """What a terminal shows of a progress line: the text after the last carriage return."""
    return next((part for part in reversed(line.split("\r")) if part), "")


def _keep_colour(found: re.Match[str]) -> str:
    return found[0] if found["sgr"] is not None else ""


def _rubbed_out(text: str) -> str:
    kept: list[str] = []
    for character in text:
        if character != "\b":
            kept.append(character)
        elif kept and kept[-1] != "\n":
            kept.pop()
    return "".join(kept)


def _chunks(text: str) -> Iterator[tuple[str, list[int]]]:
    """Yields each piece of text with the codes that follow it."""
    pieces = _SGR.split(text)
    for index in range(0, len(pieces), 2):
        codes = pieces[index + 1] if index + 1 < len(pieces) else ""
        # A number of more than three digits is no code of any terminal.
        numbers = [int(code) if len(code) < 4 else 0 for code in re.findall(r"\d+", codes)]
        yield pieces[index], numbers or [0]


def _after(classes: tuple[str, ...], codes: list[int]) -> tuple[str, ...]:
    """The classes in force once the codes are obeyed; 256 and RGB colours are left plain."""
    rest = iter(codes)
    kept = list(classes)
    for code in rest:
        if code == 0:
            kept = []
        elif code in _STYLES:
            kept = [*_without(kept, (_STYLES[code],)), _STYLES[code]]
        elif code in _ENDS:
            kept = _without(kept, _ENDS[code])
        elif 30 <= code <= 37 or 90 <= code <= 97:
            kept = [*_without(kept, _COLOURS), _COLOURS[code % 10]]
        elif code in (38, 48):
            for _ in range(_EXTENDED.get(next(rest, 0), 0)):
                next(rest, 0)
            kept = _without(kept, _COLOURS) if code == 38 else kept
        elif code == 39:
            kept = _without(kept, _COLOURS)
    return tuple(kept)


def _without(classes: list[str], names: tuple[str, ...]) -> list[str]:
    return [name for name in classes if name not in names]
