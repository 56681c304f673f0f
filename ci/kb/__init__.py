"""Noble Runbooks: what a runbook and a notebook need inside their kernel.

>>> from kb import bash, contains, settle
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from kb.runtime.checks import Check, check, contains, fails_with, in_range, lacks, matches, same
from kb.runtime.matrix import matrix
from kb.runtime.settle import settle
from kb.runtime.shell import bash

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = version("noble-runbooks")
__all__ = [
    "Check",
    "bash",
    "check",
    "contains",
    "fails_with",
    "in_range",
    "lacks",
    "matches",
    "matrix",
    "same",
    "settle",
]


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """``%load_ext kb``: the cell magics, the guard on parameters, and the guard on secrets."""
    # The shell's machinery is only there inside a kernel.
    from kb.runtime import magics  # noqa: PLC0415

    magics.load(ipython)
