"""The papermill command for a notebook as it stands. `assets/kb.js` goes on from there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any


def default(path: str, parameters: Iterable[Any]) -> str:
    """Returns the command with every parameter at its default, and the mode spelt out.

    The record is called as the mode, so that no mode overwrites another's.
    """
    mode = next((str(one.default) for one in parameters if one.name == "mode"), "")
    words = ["papermill", path, f"{mode or 'out'}.ipynb"]
    return shlex.join([*words, *(["-p", "mode", mode] if mode else [])])
