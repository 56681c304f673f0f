"""The cases of a notebook, in ``NAME/ci/cases.toml``: what must fail, and what must flip.

[repeated]                          # in a runbook: what an apply passes that is not the first,
parameters.load = ""                # so that it leaves out what takes long and was shown once

[[broken]]                          # in a runbook: a preflight check that fails
cell = "preflight-room"
message = "make room"               # which its message contains
parameters.size = "9T"              # because of these parameters, which go before those above,
setup = '''
mount -t tmpfs none /var/cache      # or because this was done to the host before
'''

[[flips]]                           # in a notebook: a changed world
setup = '''
echo me >/etc/user
'''
becomes.a1-user = "refuted"         # and in it a claim's other verdict
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kb.proof import tables
from kb.proof.tables import TableError
from kb.runtime.settle import VERDICTS

KINDS = {"broken": "runbooks", "flips": "notebooks", "repeated": "runbooks"}
KEYS: dict[str, dict[str, tables.Kinds]] = {
    "broken": {"cell": str, "message": str, "says": str, "parameters": dict, "setup": str},
    "flips": {"becomes": dict, "parameters": dict, "setup": str},
    "repeated": {"parameters": dict},
}
_MULTILINE = re.compile(r"'''.*?'''|\"\"\".*?\"\"\"", re.DOTALL)


@dataclass(frozen=True)
class Setup:
    """The bash of a case, and the ``line`` of the file ``path`` that it begins in."""

    path: Path
    line: int
    text: str


@dataclass(frozen=True)
class Cases:
    """What the file holds, case by case; ``repeated`` are the parameters of later applies."""

    broken: list[dict[str, Any]] = field(default_factory=list)
    flips: list[dict[str, Any]] = field(default_factory=list)
    repeated: dict[str, Any] = field(default_factory=dict)
    setups: list[Setup] = field(default_factory=list)


def read(
    root: Path,
    path: Path,
    *,
    kind: str,
    cells: list[str],
    claims: Mapping[str, str],
    parameters: list[str],
) -> Cases:
    """The cases in the file ``path``, relative to ``root``; none where there is no file.

    ``kind``, ``cells``, ``claims`` and ``parameters`` are what the notebook is and has. A broken
    case has the keys `cell`, `says`, `parameters` and `setup`; a flip `claim`, `becomes`,
    `parameters` and `setup`. Raises :class:`TableError`.
    """
    if not (root / path).is_file():
        return Cases()
    text, table = tables.read(root, path)
    tables.check(str(path), table, dict.fromkeys(KINDS, list) | {"repeated": dict})
    for name in table:
        if kind != KINDS[name]:
            raise TableError(f"{path}: `{name}` is for {KINDS[name]} only")
    repeated = table.pop("repeated", {})
    tables.check(f"{path}: repeated", repeated, KEYS["repeated"])
    _known(f"{path}: repeated", repeated, parameters)
    cases = Cases(repeated=repeated.get("parameters", {}))
    for name, written in table.items():
        lines = _headers(text, name)
        for number, case in enumerate(written, 1):
            line = lines[number - 1] if len(lines) == len(written) else 1
            place = f"{path}:{line}: {name} case {number}"
            if not isinstance(case, dict):
                raise TableError(f"{place} must be a table: begin it with [[{name}]]")
            tables.check(place, case, KEYS[name])
            _known(place, case, parameters)
            if "setup" in case:
                cases.setups.append(Setup(path, _begin(text, line), case["setup"]))
            if name == "broken":
                cases.broken.append(_broken(place, case, cells))
            else:
                cases.flips.extend(_flips(place, case, claims))
    return cases


def _known(place: str, case: Mapping[str, Any], parameters: list[str]) -> None:
    """Raise :class:`TableError` for a parameter that the notebook does not have."""
    for parameter in case.get("parameters", {}):
        if parameter not in parameters:
            near = tables.near(parameter, parameters)
            raise TableError(f"{place}: unknown parameter `{parameter}`{near}")


def _broken(place: str, case: dict[str, Any], cells: list[str]) -> dict[str, Any]:
    if "message" in case and "says" in case:
        raise TableError(f"{place}: `message` and `says` mean the same: keep `message`")
    case = {("says" if key == "message" else key): value for key, value in case.items()}
    for key, written in (("cell", "cell"), ("says", "message")):
        if not case.get(key, "").strip():
            raise TableError(f"{place}: `{written}` is missing")
    if case["cell"] not in cells:
        raise TableError(
            f"{place}: there is no cell `{case['cell']}`{tables.near(case['cell'], cells)}"
        )
    return case


def _flips(
    place: str, world: dict[str, Any], claims: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """A case for each verdict that is another in this world."""
    if not world.get("becomes"):
        raise TableError(f'{place}: `becomes` is missing: write becomes.CLAIM = "refuted"')
    for claim, verdict in world["becomes"].items():
        if claim not in claims:
            raise TableError(f"{place}: no cell settles `{claim}`{tables.near(claim, claims)}")
        if verdict not in VERDICTS:
            near = tables.near(verdict, VERDICTS)
            raise TableError(f"{place}: `{claim}` cannot become `{verdict}`{near}")
        yield {**world, "claim": claim, "becomes": verdict}


def _headers(text: str, name: str) -> list[int]:
    """The lines that the cases begin in."""
    code = _MULTILINE.sub(lambda found: "\n" * found[0].count("\n"), text)
    header = re.compile(rf"\[\[\s*{name}\s*\]\]")
    return [n for n, line in enumerate(code.split("\n"), 1) if header.match(line.strip())]


def _begin(text: str, line: int) -> int:
    """The line in which the setup of the case that begins in ``line`` has its first line."""
    for number, written in enumerate(text.split("\n")[line - 1 :], line):
        if found := re.match(r"\s*setup\s*=\s*(?:'''|\"\"\")?(.*)", written):
            return number if found[1] else number + 1
    return line
