"""The stages of a notebook's life: the one table that running, judging and publishing read.

A new stage is a row here and a method of :class:`kb.proof.life.Life` that is named like it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        name: in records, in the names of pytest's items, and of the method of Life.
        of: whose it is, ``runbooks`` or ``notebooks``.
        label: what readers see.
        means: what it means to a reader that it passed.
        mode: the mode that a runbook is run in.
        cases: the key of the cases that it tries; without cases there is no such stage.
        shows: the kinds of cells that its run says something about.
        rank: of several runs that say something about a cell, the lowest is shown first.
    """

    name: str
    of: str
    label: str
    means: str
    mode: str | None = None
    cases: str = ""
    shows: tuple[str, ...] = ()
    rank: int = 9


_READ = ("observe", "python")
STAGES = (
    Stage(
        "plan",
        "runbooks",
        "plan",
        "mode `plan` ran through, and nothing on the host had changed",
        mode="plan",
        shows=("preflight", "apply", *_READ),
        rank=3,
    ),
    Stage(
        "apply",
        "runbooks",
        "apply",
        "every step and every check passed",
        mode="apply",
        shows=("preflight", "apply", "verify", *_READ),
        rank=1,
    ),
    Stage(
        "again",
        "runbooks",
        "idempotent",
        "a second `apply` changed nothing",
        mode="apply",
        shows=("preflight", "apply", "verify", *_READ),
        rank=4,
    ),
    Stage(
        "rollback",
        "runbooks",
        "rollback",
        "the host was as before, file for file, outside a short list that the runbook declares",
        mode="rollback",
        shows=("preflight", "rollback", *_READ),
        rank=5,
    ),
    Stage(
        "killed",
        "runbooks",
        "survives a kill",
        "`apply` was killed in the middle of a step, at moments drawn by chance; applied again and"
        " rolled back, or rolled back at once, the host was as before",
        mode="apply",
    ),
    Stage(
        "broken",
        "runbooks",
        "fails safely",
        "each preflight check, made to fail, failed with its own message and left no change",
        mode="apply",
        cases="broken",
    ),
    Stage(
        "run",
        "notebooks",
        "run",
        "a notebook ran through, and every verdict was the recorded one",
        shows=("preflight", *_READ),
        rank=2,
    ),
    Stage(
        "flip",
        "notebooks",
        "verdict can change",
        "with another world put in place of the real one, the notebook came to another verdict",
        cases="flips",
    ),
)
NAMED = {stage.name: stage for stage in STAGES}
MAIN = tuple(stage.name for stage in sorted(STAGES, key=lambda stage: stage.rank))
"""All names, the run that a page shows first."""


def telling(kind: str) -> tuple[str, ...]:
    """The stages whose runs say something about a cell of ``kind``, the one to show first."""
    return tuple(name for name in MAIN if kind in NAMED[name].shows)


def label(name: str) -> str:
    """What readers see of a stage; the name itself where it is of another release."""
    return NAMED[name].label if name in NAMED else name
