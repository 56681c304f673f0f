"""Reads what a timeline needs from a Go execution trace, without Go: formats of 1.22 to 1.27.

The format: 16 bytes that name a version, then batches. A batch has a generation, a thread, a time
and a size; in it are events, each a byte for its kind and numbers of seven bits a byte. The first
number is the time since the event before in the batch. Strings and stacks have batches of their
own, and numbers that hold for one generation. Times count from the same moment as CLOCK_MONOTONIC.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

NEWEST = 26  # the format of Go 1.26 and 1.27
# Events that have a time and how many numbers, in the order of their kinds, which begin at 9.
TIMED = {
    "ProcsChange": 3,
    "ProcStart": 3,
    "ProcStop": 1,
    "ProcSteal": 4,
    "ProcStatus": 3,
    "GoCreate": 4,
    "GoCreateSyscall": 2,
    "GoStart": 3,
    "GoDestroy": 1,
    "GoDestroySyscall": 1,
    "GoStop": 3,
    "GoBlock": 3,
    "GoUnblock": 4,
    "GoSyscallBegin": 3,
    "GoSyscallEnd": 1,
    "GoSyscallEndBlocked": 1,
    "GoStatus": 4,
    "STWBegin": 3,
    "STWEnd": 1,
    "GCActive": 2,
    "GCBegin": 3,
    "GCEnd": 2,
    "GCSweepActive": 2,
    "GCSweepBegin": 2,
    "GCSweepEnd": 3,
    "GCMarkAssistActive": 2,
    "GCMarkAssistBegin": 2,
    "GCMarkAssistEnd": 1,
    "HeapAlloc": 2,
    "HeapGoal": 2,
    "GoLabel": 2,
    "UserTaskBegin": 5,
    "UserTaskEnd": 3,
    "UserRegionBegin": 4,
    "UserRegionEnd": 4,
    "UserLog": 5,
    "GoSwitch": 3,
    "GoSwitchDestroy": 3,
    "GoCreateBlocked": 4,
    "GoStatusStack": 5,
}
BATCH, STACKS, STACK, STRINGS, STRING, SAMPLES = 1, 2, 3, 4, 5, 6
FREQUENCY, EXPERIMENTAL, SYNC, SNAPSHOT, END = 8, 49, 50, 51, 52
KINDS = {9 + i: named for i, named in enumerate(TIMED.items())}
KINDS[SNAPSHOT] = ("ClockSnapshot", 4)
# The experiment AllocFree, from its first kind on.
KINDS |= {128 + i: ("", int(count)) for i, count in enumerate("442332332")}
# Who answers a connection: net/http starts one goroutine for each.
SERVES = re.compile(r"net/http\.\(\*(conn\)\.serve|Server\)\.Serve\.)")
Event = tuple[int, str, list[int]]  # time, name, its other numbers


class TraceError(Exception):
    """A file that is no trace, or one that cannot be read. One sentence."""


@dataclass
class Span:
    """Something that took time, by CLOCK_MONOTONIC in nanoseconds; None: outside of the trace."""

    kind: str  # task, region, gc, pause, connection
    name: str
    begin: int | None
    end: int | None
    task: int = 0
    notes: dict[str, str] = field(default_factory=dict)  # what trace.Log said of a task


@dataclass
class Trace:
    """A trace's spans in order, its first and last event, and its clock snapshots."""

    version: str
    step: float  # nanoseconds between two times that differ
    first: int
    last: int
    spans: list[Span]
    snapshots: list[tuple[int, int, int]]  # the trace's clock, CLOCK_MONOTONIC, the time of day


@dataclass
class _Generation:
    frequency: int = 0
    strings: dict[int, str] = field(default_factory=lambda: {0: ""})  # 0: empty, and not there
    stacks: dict[int, list[int]] = field(default_factory=dict)  # the functions' names
    events: list[Event] = field(default_factory=list)


def read(data: bytes) -> Trace:
    """Read a whole trace. Raises :class:`TraceError`."""
    header = re.match(rb"go 1\.(\d+) trace\0", data)
    if not header:
        raise TraceError("this is no Go execution trace: its first bytes are not those of one")
    version = int(header[1])
    if not 22 <= version <= NEWEST:
        raise TraceError(
            f"this trace has the format of Go 1.{version}, and 1.22 to 1.{NEWEST} are read:"
            + (" its clock is not CLOCK_MONOTONIC" if version < 22 else " look at go tool trace")
        )
    try:
        generations = _generations(data)
        return _spans(f"go 1.{version}", generations)
    except (IndexError, KeyError, ZeroDivisionError):
        raise TraceError("this trace is cut off or damaged") from None


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _numbers(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    values = []
    for _ in range(count):
        value, at = _number(data, at)
        values.append(value)
    return values, at


def _generations(data: bytes) -> list[_Generation]:
    generations: dict[int, _Generation] = defaultdict(_Generation)
    at = 16
    while at < len(data):
        kind = data[at]
        at += 1
        if kind == END:
            continue
        if kind not in (BATCH, EXPERIMENTAL):
            raise TraceError(f"this trace is damaged: no batch begins at byte {at - 1}")
        at += kind == EXPERIMENTAL
        (number, _, time, size), at = _numbers(data, at, 4)
        if at + size > len(data):
            break  # a trace that was cut off is good up to there
        if kind == BATCH:
            _batch(data[at : at + size], time, generations[number])
        at += size
    return [generations[number] for number in sorted(generations)]


def _batch(data: bytes, time: int, generation: _Generation) -> None:
    at = 0
    while at < len(data):
        kind = data[at]
        at += 1
        if kind == SAMPLES:
            return
        if kind == STRING:
            (identity, size), at = _numbers(data, at, 2)
            generation.strings[identity] = data[at : at + size].decode(errors="replace")
            at += size
        elif kind == STACK:
            (identity, frames), at = _numbers(data, at, 2)
            values, at = _numbers(data, at, 4 * frames)
            generation.stacks[identity] = values[1::4]
        elif kind == FREQUENCY:
            generation.frequency, at = _number(data, at)
        elif kind not in (STACKS, STRINGS, SYNC):
            name, count = KINDS[kind]
            values, at = _numbers(data, at, count)
            time += values[0]
            generation.events.append((time, name, values[1:]))


class _Spans:
    """Pairs begins with ends."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.open: dict[tuple[str, int, str], list[Span]] = defaultdict(list)

    def begin(self, kind: str, name: str, begin: int | None, task: int = 0) -> None:
        span = Span(kind, name, begin, None, task)
        self.spans.append(span)
        self.open[kind, task, name if kind == "region" else ""].append(span)

    def end(self, kind: str, name: str, end: int, task: int = 0) -> None:
        waiting = self.open[kind, task, name if kind == "region" else ""]
        if waiting:
            waiting.pop().end = end
        else:
            self.spans.append(Span(kind, name, None, end, task))


def _spans(version: str, generations: list[_Generation]) -> Trace:
    found, snapshots, times = _Spans(), [], []
    for generation in generations:
        unit = 10**9 / generation.frequency
        strings = generation.strings
        for time, name, values in sorted(generation.events, key=lambda event: event[0]):
            at = round(time * unit)
            times.append(at)
            if name == "ClockSnapshot":
                snapshots.append((at, values[0], values[1] * 10**9 + values[2]))
            elif name in ("GCBegin", "GCActive"):
                if not any(s.end is None for s in found.open["gc", 0, ""]):
                    found.begin("gc", "", at if name == "GCBegin" else None)
            elif name == "GCEnd":
                found.end("gc", "", at)
            elif name == "STWBegin":
                found.begin("pause", strings[values[0]], at)
            elif name == "STWEnd":
                found.end("pause", "", at)
            elif name == "UserTaskBegin":
                found.begin("task", strings[values[2]], at, values[0])
            elif name == "UserTaskEnd":
                found.end("task", "", at, values[0])
            elif name == "UserRegionBegin":
                found.begin("region", strings[values[1]], at, values[0])
            elif name == "UserRegionEnd":
                found.end("region", strings[values[1]], at, values[0])
            elif name == "UserLog":
                for span in found.open["task", values[0], ""][-1:]:
                    span.notes[strings[values[1]]] = strings[values[2]]
            elif name == "GoCreate" and _serves(generation, values[1]):
                found.spans.append(Span("connection", "", at, at))
    if not times:
        raise TraceError("this trace has no events: the service was not traced long enough")
    spans = sorted(found.spans, key=lambda span: span.begin or span.end or 0)
    return Trace(
        version, 10**9 / generations[0].frequency, min(times), max(times), spans, snapshots
    )


def _serves(generation: _Generation, stack: int) -> bool:
    return any(SERVES.match(name) for name in _functions(generation, stack))


def _functions(generation: _Generation, stack: int) -> Iterator[str]:
    for name in generation.stacks.get(stack, []):
        yield generation.strings.get(name, "")
