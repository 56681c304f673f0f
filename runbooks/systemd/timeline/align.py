"""Brings what `collect.py` kept to one clock, CLOCK_MONOTONIC, and says how good each time is."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gotrace

MS = 10**6
US = 10**3
S = 10**9
LATEST = 5 * S  # that the journal gets a line after it was written
GC_LINE = re.compile(r"gc (\d+) @(\d+\.\d+)s(?:.*?%: ([\d.+]+) ms clock)?")
ZONED = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.(\d+))?(?:Z|[+-]\d\d:\d\d)")
LOCAL = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.(\d+))?")  # package log's, local time
SLEW = 5e-4  # the kernel turns a clock by so much at most; what is more was a step
SPREAD = 3 * MS  # of a start, by several collections: the log's last digit, and some waiting
EARLY = 50 * MS  # journald stamps all that it reads with the moment at which it woke up
STEP = 5 * MS  # of the time of day between two entries, beyond the slew


@dataclass(frozen=True)
class Row:
    """Something on the timeline; times are CLOCK_MONOTONIC in nanoseconds, good to ``half``."""

    at: int
    source: str  # client, log, journal, gc log or trace
    what: str
    half: int = 0
    end: int | None = None
    kind: str = ""  # of a trace's span: task, region, gc, pause, connection


@dataclass(frozen=True)
class Line:
    """An entry of the journal: its stamp by both clocks, and the time in its text, if any."""

    stamp: int
    offset: int  # CLOCK_REALTIME minus CLOCK_MONOTONIC, by the entry's own two stamps
    text: str

    @cached_property
    def gc(self) -> tuple[int, int, int] | None:
        """Of a collection: its number, when it began since the program's start, how long it took.

        The line has whole milliseconds, cut off.
        """
        found = GC_LINE.search(self.text)
        if not found:
            return None
        phases = sum(float(part) for part in (found[3] or "0").split("+") if part)
        return int(found[1]), round(float(found[2]) * 10**9), round(phases * MS)

    @cached_property
    def wall(self) -> tuple[int, int] | None:
        """The time of day in the text, and the size of its last digit."""
        found = ZONED.search(self.text) or LOCAL.search(self.text)
        if not found:
            return None
        digits = (found[1] or "")[:9]
        whole = found[0].replace("/", "-").replace(f".{found[1]}", "")
        # Without a zone it is local time, as is the program's.
        moment = datetime.datetime.fromisoformat(whole).astimezone(datetime.UTC)
        return int(moment.timestamp()) * 10**9 + int(digits.ljust(9, "0")), 10 ** (9 - len(digits))

    @property
    def written(self) -> tuple[int, int] | None:
        """When the program wrote it, by the time in its text, and how good that is.

        The entry's own stamps turn the time of day into CLOCK_MONOTONIC: no other moment's offset
        is needed, so a time of day that is wrong, or was set since, does no harm. It was of no use
        if it makes the line younger than its entry, or much older: then it was set in between, or
        is of another zone.
        """
        if self.wall is None:
            return None
        time, digit = self.wall
        at, half = time + digit // 2 - self.offset, digit // 2 + US
        return (at, half) if -half - MS <= self.stamp - at <= LATEST + half else None


def timeless(text: str) -> str:
    """A line without the time of day in it."""
    return ZONED.sub("", LOCAL.sub("", text)).replace("time= ", "").strip()


class Timeline:
    """What was collected under a name, aligned."""

    def __init__(self, directory: Path, name: str, identity: str = "") -> None:
        kept = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
        self.kept: dict[str, Any] = kept
        self.trace = gotrace.read((directory / f"{name}.trace").read_bytes())
        self.request: dict[str, Any] | None = kept["request"]
        self.identity = self.request["id"] if self.request else identity
        if not self.identity and self.task:
            self.identity = next(filter(None, self.task.notes.values()), "")
        lines = [
            Line(
                US * int(entry["__MONOTONIC_TIMESTAMP"]),
                US * (int(entry["__REALTIME_TIMESTAMP"]) - int(entry["__MONOTONIC_TIMESTAMP"])),
                entry["MESSAGE"],
            )
            for entry in kept["journal"]
        ]
        self.lines = sorted(lines, key=lambda line: line.stamp)

    @cached_property
    def task(self) -> gotrace.Span | None:
        """The request in the trace: the task with its id; without an id, the longest one."""
        tasks = [s for s in self.trace.spans if s.kind == "task" and s.begin and s.end]
        if self.identity:
            tasks = [s for s in tasks if self.identity in s.notes.values()]
        return max(tasks, key=lambda span: (span.end or 0) - (span.begin or 0), default=None)

    @cached_property
    def window(self) -> tuple[int, int]:
        """From when to when the request lasted; without one, all of the trace."""
        if self.request:
            return self.request["sent"], self.request["done"]
        if self.task and self.task.begin and self.task.end:
            return self.task.begin, self.task.end
        return self.trace.first, self.trace.last

    @cached_property
    def named(self) -> list[Line]:
        """The lines with the request's id."""
        return [line for line in self.lines if self.identity and self.identity in line.text]

    @cached_property
    def collections(self) -> list[tuple[Line, tuple[int, int, int]]]:
        return [(line, line.gc) for line in self.lines if line.gc]

    @cached_property
    def start(self) -> tuple[int, int]:
        """Between what two moments the program started, by systemd and by the journal's stamps.

        It started after systemd did fork, and no collection ended after its line was there. A
        line that is written while journald is busy with another gets a stamp from before that.
        """
        latest = [line.stamp - began - took for line, (_, began, took) in self.collections]
        return self.kept["started"], min(latest, default=self.trace.last) + EARLY

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Of collections in log and trace: since the program's start, and on CLOCK_MONOTONIC.

        The log numbers them and the trace does not. So each number that the trace's first one can
        have is tried, and the one counts with which most of them give the same start.
        """
        pauses = [
            span.begin
            for span in self.trace.spans
            if span.kind == "pause" and "sweep termination" in span.name and span.begin
        ]
        log = {number: began for _, (number, began, _) in self.collections}
        low, high = self.start
        best: list[tuple[int, int]] = []
        for first in range(min(log, default=0) - len(pauses), max(log, default=0) + 1):
            found = [(log[n], pause) for n, pause in enumerate(pauses, first) if n in log]
            # A thread that had to wait shows a pause late, never early: the earliest start counts.
            earliest = min((pause - began for began, pause in found), default=-1)
            same = [pair for pair in found if pair[1] - pair[0] <= earliest + SPREAD]
            if low <= earliest <= high + MS and len(same) > len(best):
                best = same
        return best

    @cached_property
    def fine_start(self) -> tuple[int, int] | None:
        """The same as `start`, by the collections that are in the trace, too."""
        if not self.pairs:
            return None
        starts = [pause - began for began, pause in self.pairs]
        return min(max(starts) - MS, *starts), min(starts)  # its millisecond is cut off

    def steps(self) -> Iterator[tuple[Line, Line, int]]:
        """Entries between which the time of day was set, and by how much."""
        for before, after in zip(self.lines, self.lines[1:], strict=False):
            change = after.offset - before.offset
            if abs(change) > STEP + SLEW * (after.stamp - before.stamp):
                yield before, after, change

    def rows(self) -> list[Row]:
        """What happened in the request's window, from every source, in order."""
        low, high = self.window
        margin = max(5 * MS, (high - low) // 20)
        found = [*self._client(), *self._journal(), *self._gc_log(), *self._spans()]
        return sorted(
            (r for r in found if (r.end or r.at) >= low - margin and r.at <= high + margin),
            key=lambda row: row.at,
        )

    def _client(self) -> Iterator[Row]:
        if self.request:
            sent, first, done = (self.request[key] for key in ("sent", "first", "done"))
            what = f"{self.request['url']}: status {self.request['status']}"
            yield Row(sent, "client", what, end=done)
            yield Row(first, "client", "the answer begins")

    def _journal(self) -> Iterator[Row]:
        for line in self.lines:
            text = timeless(line.text)
            if line.written and not line.gc:
                yield Row(line.written[0], "log", text, half=line.written[1])
            yield Row(line.stamp, "journal", text, half=US)

    def _gc_log(self) -> Iterator[Row]:
        low, high = self.fine_start or self.start
        for _, (number, began, took) in self.collections:
            # The line's digits are cut off: it may have been up to a millisecond later.
            middle, half = (low + high + MS) // 2 + began, (high - low + MS) // 2
            yield Row(middle, "gc log", f"collection {number}", half=half, end=middle + took)

    def _spans(self) -> Iterator[Row]:
        names = {"gc": "garbage collection", "connection": "a connection is accepted"}
        for span in self.trace.spans:
            at = span.begin or self.trace.first
            what = names.get(span.kind) or f"{span.kind} {span.name}"
            what += "".join(f" {key}={value}" for key, value in span.notes.items())
            yield Row(
                at,
                "trace",
                what,
                half=round(self.trace.step),
                end=None if span.kind == "connection" else span.end or self.trace.last,
                kind=span.kind,
            )
