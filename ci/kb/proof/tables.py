"""Tables that people write, in TOML files and in notebooks' metadata: read, and checked by key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Kinds = type | tuple[type, ...]


class TableError(Exception):
    """A table that cannot be used. One sentence with file and place."""


def read(root: Path, path: Path) -> tuple[str, dict[str, Any]]:
    """The text of the TOML file ``path``, relative to ``root``, and what it holds."""
    try:
        text = (root / path).read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except UnicodeDecodeError:
        raise TableError(f"{path}: not TOML: the file is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}") from None


def check(
    where: str, table: Mapping[str, Any], known: Mapping[str, Kinds], required: Iterable[str] = ()
) -> None:
    """Raise :class:`TableError` for a key that is not known, of another type, or missing."""
    for key, value in table.items():
        if key not in known:
            raise TableError(f"{where}: unknown key `{key}`{near(key, known)}")
        wanted = known[key]
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise TableError(f"{where}: `{key}` must be of type {names}")
    for key in required:
        if key not in table:
            raise TableError(f"{where}: `{key}` is missing")


def near(word: Any, known: Iterable[Any]) -> str:
    """What somebody who wrote ``word`` may have meant, and what there is, to end a sentence."""
    names = [str(name) for name in known]
    found = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    meant = f"; did you mean `{found[0]}`?" if found else ""
    return f"{meant} (known: {', '.join(names)})"
