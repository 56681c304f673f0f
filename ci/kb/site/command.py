"""The papermill command for a notebook as it stands. `assets/kb.js` goes on from there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any


def default(path: str, parameters: Iterable[Any]) -> str:
    """Returns the command with every parameter at its default, and the mode spelt out."""
    words = ["papermill", path, "out.ipynb"]
    for parameter in parameters:
        if parameter.name == "mode":
            words += ["-p", "mode", str(parameter.default)]
    return shlex.join(words)
