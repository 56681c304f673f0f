"""What users are told when something is wrong, kept in tests/errors to be read in one place.

A test shows a message with the fixture ``told``; it is compared with what stands there under the
test's name, in words. ``WRITE_ERRORS=1 make test ARGS=FILE`` takes over what is told now: read
the diff.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

ERRORS = Path(__file__).parent / "errors"
WRITE = bool(os.environ.get("WRITE_ERRORS"))


def title(test: str) -> str:
    """The name of a test in words: ``test_a_bad_claim[no id]`` is "a bad claim: no id"."""
    name, _, case = test.removeprefix("test_").removesuffix("]").partition("[")
    return name.replace("_", " ") + (f": {case}" if case else "")


def read(file: Path) -> dict[str, str]:
    """The messages of a file by their titles."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        if line.startswith("    "):
            found[name].append(line[4:])
        elif line:
            name = line
            assert name not in found, f"{file.name}: {name} is there twice"
            found[name] = []
    return {name: "\n".join(lines) for name, lines in found.items()}


def messages() -> Iterator[tuple[str, str, str]]:
    """File, title and message of all that is kept."""
    for file in sorted(ERRORS.glob("*.txt")):
        for name, message in read(file).items():
            yield file.stem, name, message


class Told:
    """What one test shows. ``hidden`` is what differs from machine to machine, and its name."""

    def __init__(self, module: str, test: str, hidden: Mapping[str, str]) -> None:
        self.file = ERRORS / f"{module.removeprefix('test_')}.txt"
        self.title = title(test)
        self.hidden = hidden
        self.shown: list[str] = []

    @contextlib.contextmanager
    def raises(self, kind: type[BaseException]) -> Iterator[None]:
        """The message of an exception that must come, as ``pytest.raises`` expects it."""
        with pytest.raises(kind) as caught:
            yield
        self(caught.value)

    def __call__(self, message: object) -> None:
        """Compare a message; a second one of the same test has a number."""
        text = str(message).strip()
        for value, name in self.hidden.items():
            text = text.replace(value, name)
        assert "Traceback" not in text
        assert text.count("\n") < 2, "it is one sentence, with what a script printed behind it"
        if text not in self.shown:
            self.shown.append(text)
        number = self.shown.index(text) + 1
        name = self.title if number == 1 else f"{self.title} ({number})"
        if WRITE:
            self._write(name, text)
        kept = read(self.file).get(name)
        assert kept == text, f"{self.file.name} has another message for this (see tests/golden.py)"

    def _write(self, name: str, text: str) -> None:
        with FileLock(ERRORS.parents[1] / "build/errors.lock"):
            kept = read(self.file) | {name: text}
            blocks = [f"{key}\n" + re.sub("^", "    ", kept[key], flags=re.M) for key in kept]
            self.file.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
