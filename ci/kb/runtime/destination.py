"""Where the record of an operator's run goes, as papermill's OUTPUT_PATH says.

It may be a file, a link to one, a device, a pipe, standard output, or an address that one of
papermill's handlers writes to. A run that fails leaves its record there like one that passes.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from papermill.iorw import LocalHandler, papermill_io

from kb.runtime.record import write_atomically


class UnwritableError(Exception):
    """A record that cannot be written where it was to be. One sentence."""


class Destination:
    """What papermill calls the output; ``name`` is what the user wrote, relative to ``base``."""

    def __init__(self, name: str | None, base: Path, *, private: bool) -> None:
        self.name = name or ""
        self.private = private
        handler = papermill_io.get_handler(name)
        self.path = base / self.name if isinstance(handler, LocalHandler) else None
        self._write = handler.write

    @property
    def is_file(self) -> bool:
        """Whether it is, or will be, a file: that can be written again after each cell."""
        if self.path is None:
            return False
        try:
            kind = stat.S_IFMT(self.path.stat().st_mode)
        except OSError:
            return True
        return kind in (stat.S_IFREG, stat.S_IFDIR)  # a directory is refused when it is written

    @property
    def place(self) -> str:
        """Where a person finds it after the run; "" if it stays nowhere."""
        if self.path is None:
            return "" if self.name in ("", "-") else self.name
        return str(self.path.absolute()) if self.is_file and self.name else ""

    def try_out(self, text: str, *, remote: bool) -> None:
        """Find out whether it can be written, before anything is done that belongs into it.

        ``remote``: also where that means to write it. Raises :class:`UnwritableError`.
        """
        if self.is_file or (self.path is None and remote and self.name not in ("", "-")):
            self.write(text)
        elif self.path is not None and not os.access(self.path, os.W_OK):
            raise UnwritableError(f"{self.name} could not be written: Permission denied")

    def write(self, text: str) -> None:
        """Write the whole record. Raises :class:`UnwritableError`."""
        try:
            if self.path is not None:
                write_atomically(self.path, text, private=self.private)
            else:
                self._write(text, self.name)
                sys.stdout.flush()
        except Exception as error:  # a handler may be anything
            raise UnwritableError(f"{self.name} could not be written: {_reason(error)}") from None

    def finish(self, text: str) -> str:
        """Write the record at the end of a run; returns where it is, in words.

        Raises :class:`UnwritableError`, which says where it is instead.
        """
        try:
            self.write(text)
        except UnwritableError as error:
            raise UnwritableError(f"{error}; {_kept(text)}") from None
        if self.name == "-":
            return "what ran is on standard output"
        return f"what ran is in {self.name}" if self.is_file and self.name else ""


def _kept(text: str) -> str:
    """Keep a record that cannot be where it belongs; returns where it is, in words."""
    try:
        handle, path = tempfile.mkstemp(prefix="kb-record-", suffix=".ipynb")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        with contextlib.suppress(NameError, OSError):
            Path(path).unlink()
        return f"the record is lost, since {tempfile.gettempdir()} takes none: {_reason(error)}"
    return f"what ran is in {path}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0]
