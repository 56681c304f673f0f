"""Which lines of a step ran, as bash itself tells, and which of them no run went through.

CI sets ``KB_TRACE`` on its own hosts, and the prelude of cells turns bash's trace on; where nobody
sets it, nothing is traced.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from kb.proof.statements import statements
from kb.runtime.record import source

TRACE = "/run/kb-trace"  # on a host
# Prints each line of each cell once, HASH NUMBER, and takes the trace away.
TOLD = rf"""
[ -e {TRACE} ] || exit 0
awk '/^cell /{{ cell = $2 }}
    /^\++ cell\.sh:[0-9]+ /{{
        split($2, at, ":")
        if (!seen[cell, at[2]]++) print cell, at[2]
    }}' {TRACE}
rm {TRACE}
"""
# What bash goes through without a trace of it: words that hold others together, patterns of a case.
_SILENT = re.compile(
    r"(then|else|do|\{|\(|;;|[\w-]+ ?\(\)( ?[{(])?|in)?|[^()]*\)|(fi|done|esac|[})])\b.*|[})].*"
)


def digest(script: str) -> str:
    """How a trace names a cell: by what bash was given, all below the line of its magic."""
    return hashlib.sha256(script.encode()).hexdigest()


def ran(told: str, cells: Iterable[dict[str, object]]) -> dict[str, list[int]]:
    """By id of a cell, the lines that ran, from what :data:`TOLD` printed."""
    lines: dict[str, set[int]] = {}
    for line in told.splitlines():
        name, _, number = line.partition(" ")
        if number.isdigit():
            lines.setdefault(name, set()).add(int(number))
    found = {}
    for cell in cells:
        _, _, body = source(cell).partition("\n")
        seen = lines.get(digest(body), set()) | lines.get(digest(f"{body}\n"), set())
        if seen:
            found[str(cell["id"])] = sorted(seen)
    return found


def never(code: str, seen: set[int]) -> Iterator[tuple[int, str]]:
    """The first line, and its number, of each row of lines that are not among those ``seen``.

    A statement of several lines has run if one of them has.
    """
    found = list(statements(code))
    lines = code.splitlines()
    ends = [number for number, _ in found[1:]] + [len(lines) + 1]
    going = False
    for (number, statement), end in zip(found, ends, strict=True):
        if _SILENT.fullmatch(statement):
            continue
        if seen.intersection(range(number, max(end, number + 1))):
            going = False
        elif not going:
            going = True
            yield number, lines[number - 1].strip()
