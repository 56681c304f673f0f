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
        failed: what it means to a reader that it failed.
        mode: the mode that a runbook is run in.
        cases: the key of the cases that it tries; without cases there is no such stage.
        shows: the kinds of cells that its run says something about.
        rank: of several runs that say something about a cell, the lowest is shown first.
    """

    name: str
    of: str
    label: str
    means: str
    failed: str
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
        "Asking what would change did not run through, or changed something itself. Read every"
        " step before you run one.",
        mode="plan",
        shows=("preflight", "apply", *_READ),
        rank=3,
    ),
    Stage(
        "apply",
        "runbooks",
        "apply",
        "every step and every check passed",
        "The steps stopped there: what comes after that cell has not been shown to work on such a"
        " host. Do not apply it to one that matters before this passes again.",
        mode="apply",
        shows=("preflight", "apply", "verify", *_READ),
        rank=1,
    ),
    Stage(
        "again",
        "runbooks",
        "idempotent",
        "a second `apply` changed nothing",
        "The steps work once; a second apply changed something, or failed. After a run that was"
        " cut off, do not count on a second one to finish it: roll back first.",
        mode="apply",
        shows=("preflight", "apply", "verify", *_READ),
        rank=4,
    ),
    Stage(
        "rollback",
        "runbooks",
        "rollback",
        "the host was as before, file for file, outside a short list that the runbook declares",
        "The way back is not whole: what it leaves behind is listed below. Keep a backup of your"
        " own before you apply.",
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
        "A run that is cut off in the middle of a step may leave the host neither as it was nor"
        " as it should be. Apply it where nothing cuts it off, and look at what is listed below.",
        mode="apply",
    ),
    Stage(
        "broken",
        "runbooks",
        "fails safely",
        "each preflight check, made to fail, failed with its own message and left no change",
        "A check let through what it is there to stop, or left something behind. Look yourself"
        " for what the preflight checks ask.",
        mode="apply",
        cases="broken",
    ),
    Stage(
        "run",
        "notebooks",
        "run",
        "a notebook ran through, and every verdict was the recorded one",
        "The notebook stopped there, or saw something else than what is on record. No verdict of"
        " that cell or of those below it is backed by this run.",
        shows=("preflight", *_READ),
        rank=2,
    ),
    Stage(
        "flip",
        "notebooks",
        "verdict can change",
        "with another world put in place of the real one, the notebook came to another verdict",
        "A verdict stayed the same in a world where it must not. It proves nothing until that is"
        " mended.",
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
