"""What is repeated when: what has to run, what may stand on its record, and in which order."""

from __future__ import annotations

import datetime
import json
import random
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kb.proof import records
from kb.proof.catalog import Notebook
from kb.proof.claims import Claim, expected
from kb.proof.hosts import Host
from kb.runtime.record import code_hash

# Why a life is repeated, the most urgent first. Of these, MUST has no limit of time.
REASONS = {
    "asked for": "everything was asked for",
    "never run": "a stage has no record",
    "changed": "the notebook, its files or its claims have changed since it ran",
    "differs": "it differs from --changed-since, though its run is of what is there",
    "failed": "its newest run failed",
    "stale": "what executes it, or its host, has changed",
    "old": "its run is older than --max-age",
    "sample": "drawn at random",
    "fresh": "",
}
MUST = ("asked for", "never run", "changed")
SAMPLE = 0.1  # of what is fresh, where there is a budget
UNKNOWN = 60.0  # seconds that a life is taken to last that has never run
_SHARD = re.compile(r"(\d+)/(\d+)")
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)([smh])")
_DAYS = re.compile(r"\d+(?:\.\d+)?")


class PlanError(Exception):
    """An option that cannot be followed. One sentence."""


@dataclass(frozen=True)
class Decision:
    """Why a notebook's life on a host is repeated; ``fresh``: it is not."""

    reason: str
    seconds: float = UNKNOWN  # what it took the last time
    age: float = 0.0  # seconds, of its oldest run

    @property
    def must(self) -> bool:
        return self.reason in MUST


Plan = dict[str, Decision]  # by "NOTEBOOK on HOST"


def make(
    notebooks: Iterable[Notebook],
    hosts: Iterable[Host],
    claims: Iterable[Claim],
    *,
    limit: datetime.timedelta,
    rerun: bool,
    changed_since: str | None,
    sampled: bool,
) -> Plan:
    """Decide for each notebook on each host that offers what it needs.

    Args:
        limit: the age from which a run is repeated though nothing changed.
        rerun: repeat everything.
        changed_since: a revision; a notebook that differs from it is repeated, whatever its record
            says. None: records alone tell.
        sampled: also repeat a tenth of what is fresh.
    """
    known = {claim.id: claim for claim in claims}
    books = list(notebooks)
    changed = set() if changed_since is None else _changed(books, changed_since)
    plan: Plan = {}
    for host in hosts:
        for notebook in books:
            if not host.lacks(notebook):
                plan[name(notebook, host)] = _decide(
                    notebook, host, known, limit, rerun, notebook.path in changed
                )
    if sampled:
        fresh = sorted(life for life, decision in plan.items() if decision.reason == "fresh")
        # Not for security; another tenth each time.
        drawn = random.sample(fresh, round(len(fresh) * SAMPLE))
        plan |= {life: Decision("sample", plan[life].seconds, plan[life].age) for life in drawn}
    return plan


def name(notebook: Notebook, host: Host) -> str:
    """What a life is called."""
    return f"{notebook.path} on {host.name}"


def urgency(decision: Decision) -> tuple[int, float]:
    """To sort by: what has to run first, then by reason; in these the longest, or the oldest."""
    if decision.must:
        return 0, -decision.seconds
    first = decision.seconds if decision.reason == "differs" else decision.age
    return list(REASONS).index(decision.reason), -first


def held_to(notebook: Notebook, known: Mapping[str, Claim], host: Host) -> list[tuple[str, ...]]:
    """What is recorded of the claims that ``notebook`` settles: what its verdicts must be."""
    return [
        (claim, *expected(known[claim], host.name), known[claim].evidence or "")
        for claim in notebook.settles
        if claim in known
    ]


def key(notebook: Notebook, stage: str, host: Host, known: Mapping[str, Claim]) -> str:
    """What makes two runs of a stage the same."""
    return records.key(notebook, stage, host, held_to(notebook, known, host))


def _decide(
    notebook: Notebook,
    host: Host,
    known: Mapping[str, Claim],
    limit: datetime.timedelta,
    rerun: bool,
    differs: bool,
) -> Decision:
    runs = {stage: records.newest(notebook, host.name, stage) for stage in notebook.stages}
    there = {stage: run for stage, run in runs.items() if run}
    seconds = sum(float(run.metadata.get("took") or 0) for run in there.values()) or UNKNOWN
    age = max((run.age.total_seconds() for run in there.values()), default=0.0)

    keys = {stage: key(notebook, stage, host, known) for stage in there}
    judged = there.get("run")
    holds = {
        "asked for": rerun,
        "never run": len(there) < len(runs),
        "changed": any(run.is_stale(notebook) for run in there.values())
        or (judged and judged.metadata.get("held_to") != _plain(held_to(notebook, known, host))),
        "differs": differs,
        "failed": not all(run.passed for run in there.values()),
        "stale": any(run.metadata.get("key") != keys[stage] for stage, run in there.items()),
        "old": any(run.age >= limit for run in there.values()),
    }
    return Decision(next((reason for reason in holds if holds[reason]), "fresh"), seconds, age)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _changed(notebooks: Iterable[Notebook], revision: str) -> set[Path]:
    """The notebooks of which something that they are executed with differs from ``revision``."""
    found = set()
    differing: set[str] | None = None
    for notebook in notebooks:
        root = notebook.root
        if differing is None:
            told = _git(root, "diff", "--name-only", "--no-renames", revision, "--")
            new = _git(root, "ls-files", "--others", "--exclude-standard")
            if told is None or new is None:
                raise PlanError(
                    f"--changed-since {revision}: git knows no such revision here: name a commit,"
                    " a tag or a branch"
                )
            differing = {*told.splitlines(), *new.splitlines()}
        beside = {
            name
            for path in (*notebook.files, *notebook.fixture_files)
            for name in _names(root, path)
        }
        if beside & differing or (
            str(notebook.path) in differing and _code_at(notebook, revision) != notebook.code_hash
        ):
            found.add(notebook.path)
    return found


def _names(root: Path, path: Path) -> set[str]:
    """What git may call the file: a fixture's sources can be a link to a folder elsewhere."""
    real = (root / path).resolve()
    inside = real.is_relative_to(root.resolve())
    return {str(path), *([str(real.relative_to(root.resolve()))] if inside else [])}


def _code_at(notebook: Notebook, revision: str) -> str | None:
    """The hash of a notebook's code in ``revision``; None where it was not there or was another."""
    text = _git(notebook.root, "show", f"{revision}:{notebook.path}")
    try:
        content = json.loads(text or "")
        cells = content["cells"]
        for cell in cells:
            cell.setdefault("metadata", {})
        return code_hash(cells, content["metadata"]["kb"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def yesterday(root: Path) -> str | None:
    """The newest commit that is older than a day; None where history does not reach that far."""
    found = _git(root, "rev-list", "-1", "--before=1 day ago", "HEAD")
    return (found or "").strip() or None


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def budget(text: str) -> float:
    """Seconds from ``40m``, ``90s`` or ``1.5h``. Raises :class:`PlanError`."""
    found = _BUDGET.fullmatch(text.strip())
    if not found:
        raise PlanError(f"--budget {text}: it must be a number with s, m or h, such as 40m")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def age(text: str) -> datetime.timedelta:
    """The limit from a number of days. Raises :class:`PlanError`."""
    try:
        if _DAYS.fullmatch(text.strip()):
            return datetime.timedelta(days=float(text))
    except OverflowError:
        pass  # millions of years
    raise PlanError(f"--max-age {text}: it must be a number of days, such as 7, 0.5 or 0")


def shard(plan: Plan, text: str) -> set[str]:
    """The lives that the ``2/5``-th machine runs, each the longest one left to the idlest machine.

    All machines come to the same shares, since these hang on nothing but what the records that
    they share say runs took. Raises :class:`PlanError`.
    """
    found = _SHARD.fullmatch(text.strip())
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count:
        raise PlanError(f"--shard {text}: it must be K/N with K from 1 to N, such as 2/5")
    busy = [0.0] * count
    mine = set()
    for life in sorted(plan, key=lambda life: (-plan[life].seconds, life)):
        idlest = busy.index(min(busy))
        busy[idlest] += plan[life].seconds
        if idlest == number - 1:
            mine.add(life)
    return mine


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan for the workers of a parallel run."""
    return {life: asdict(decision) for life, decision in plan.items()}


def from_json(content: Mapping[str, Any]) -> Plan:
    """The plan that :func:`as_json` told."""
    return {life: Decision(**fields) for life, fields in content.items()}
