"""Roll-outs of runbooks on people's fleets: what became of each host, in build/fleet.

A roll-out is one file of JSON, ``build/fleet/runbooks/AREA/NAME/STARTED.MODE.json``. It is written
before the first host is reached and after each one, so that it tells what is known however the
roll-out ends. Records themselves lie where all do, see :mod:`kb.proof.records`.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kb.runtime.record import write_atomically

PLACE = Path("build/fleet")
MODES = ("plan", "apply", "rollback")
# What became of a host, and what a reader is told of it.
RESULTS = {
    "passed": "passed",
    "failed": "failed",
    "unreachable": "not reached",
    "lost": "lost on the way",
    "begun": "begun, and not known how it ended",
    "untouched": "untouched",
}
BAD = ("failed", "unreachable", "lost", "begun")
_TIME = "%Y%m%dT%H%M%SZ"


class RolloutError(Exception):
    """A roll-out that cannot be read or written. One sentence."""


@dataclass(frozen=True)
class HostState:
    """What became of one host in one roll-out."""

    result: str = "untouched"
    batch: int = 0  # counted from 1; 0: its turn never came
    said: str = ""  # what it changed, or would; of one that did not pass, why
    record: str = ""  # where its record is, from the project's root
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rollout:
    """A runbook in one mode on many hosts."""

    runbook: str
    mode: str
    inventory: str
    started: str
    parameters: Mapping[str, Any]
    hosts: Mapping[str, HostState]
    ended: bool = False

    @property
    def when(self) -> datetime.datetime:
        return datetime.datetime.strptime(self.started, _TIME).replace(tzinfo=datetime.UTC)

    @property
    def bad(self) -> list[str]:
        """The hosts that are not as they should be, and not as they were."""
        return [name for name, host in self.hosts.items() if host.result in BAD]

    @property
    def untouched(self) -> list[str]:
        return [name for name, host in self.hosts.items() if host.result == "untouched"]

    @property
    def stopped_by(self) -> int:
        """The batch after which nothing more was begun though there were more hosts; 0: none."""
        if not self.ended or not self.untouched:
            return 0
        return max(host.batch for host in self.hosts.values())

    @property
    def outcome(self) -> str:
        """What became of it all, in a few words."""
        if not self.ended:
            return "has not come to its end"
        if self.stopped_by:
            return f"stopped by batch {self.stopped_by}"
        return "failed in part" if self.bad else "passed"


def name_now() -> str:
    """What a roll-out that starts now is called."""
    return datetime.datetime.now(datetime.UTC).strftime(_TIME)


def place(root: Path, runbook: str, mode: str, started: str) -> Path:
    """Where a roll-out is written."""
    return root / PLACE / runbook / f"{started}.{mode}.json"


def write(path: Path, rollout: Rollout) -> None:
    """Write it, whole or not at all. Raises OSError."""
    write_atomically(path, json.dumps(asdict(rollout), indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> Rollout:
    """Raises :class:`RolloutError` for what is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        hosts = {name: HostState(**state) for name, state in content.pop("hosts").items()}
        rollout = Rollout(**content, hosts=hosts)
        rollout.when  # noqa: B018 - raises where there is no date
    except OSError as error:
        raise RolloutError(f"{path}: it cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise RolloutError(f"{path}: it is damaged: remove it") from None
    known = all(
        state.result in RESULTS
        and isinstance(state.batch, int)
        and isinstance(state.said, str)
        and isinstance(state.facts, dict)
        for state in hosts.values()
    )
    if rollout.mode not in MODES or not known:
        raise RolloutError(f"{path}: it is of another release: remove it")
    return rollout


@contextlib.contextmanager
def changing(path: Path) -> Iterator[dict[str, HostState]]:
    """The hosts of a roll-out, to be changed by one process at a time. Raises RolloutError."""
    with _locked(path.with_suffix(".lock")):
        rollout = read(path)
        hosts = dict(rollout.hosts)
        yield hosts
        write(path, replace(rollout, hosts=hosts))


def end(path: Path) -> Rollout:
    """It has come to its end. Raises :class:`RolloutError`."""
    lock = path.with_suffix(".lock")
    with _locked(lock):  # of a roll-out that was interrupted, something may be noted at this moment
        rollout = replace(read(path), ended=True)
        write(path, rollout)
        lock.unlink()
    return rollout


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def load(root: Path) -> tuple[dict[str, list[Rollout]], dict[Path, str]]:
    """By runbook its roll-outs, the newest first; and files that are none, with the reason."""
    found: dict[str, list[Rollout]] = {}
    rejected = {}
    for path in sorted((root / PLACE).glob("runbooks/*/*/*.json"), reverse=True):
        try:
            rollout = read(path)
        except RolloutError as error:
            rejected[path.relative_to(root)] = str(error).partition(": ")[2]
            continue
        found.setdefault(rollout.runbook, []).append(rollout)
    return found, rejected


def stands(history: list[Rollout]) -> dict[str, Rollout]:
    """By host the newest roll-out that tells how it stands: a plan only if there is no other.

    One that left a host untouched says nothing of it, unless none has ever done more.
    """

    def tells(rollout: Rollout, host: str) -> tuple[bool, bool]:
        return rollout.hosts[host].result != "untouched", rollout.mode != "plan"

    names = dict.fromkeys(name for rollout in history for name in rollout.hosts)
    return {
        # max takes the first of equals, which is the newest.
        name: max((r for r in history if name in r.hosts), key=lambda r: tells(r, name))
        for name in names
    }


def differing(facts: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, list[str]]]:
    """What differs between hosts: by fact each of its values with the hosts that have it."""
    found: dict[str, dict[str, list[str]]] = {}
    for host, known in facts.items():
        for fact, value in known.items():
            found.setdefault(fact, {}).setdefault(value, []).append(host)
    return {fact: values for fact, values in found.items() if len(values) > 1}
