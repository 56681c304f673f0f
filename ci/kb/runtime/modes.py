"""In which mode a cell runs, by its magic: what a run announces, and what the magics do."""

from __future__ import annotations

import re

RUNS_IN = {
    "preflight": ("plan", "apply"),
    "preflight --rollback": ("plan", "apply", "rollback"),
    "observe": ("plan", "apply"),
    "apply": ("apply",),
    "verify": ("apply",),
    "rollback": ("rollback",),
}
_MAGIC = re.compile(r"\s*%%(preflight --rollback\b|\w+)[ \t]*(.*)")


def announced(source: str, mode: str | None) -> str:
    """What is said of a cell when its turn comes; "" of one that does not run in this mode.

    A step that a plan only rehearses is announced as that. What is no runbook has no mode.
    """
    found = _MAGIC.match(source)
    if not found or found[1] not in RUNS_IN:
        return ""
    magic, title = found[1], found[2].strip()
    if mode == "plan" and magic == "apply":
        return f"plan {title}"
    if mode is not None and mode not in RUNS_IN[magic]:
        return ""
    return f"{magic.partition(' ')[0]} {title}"
