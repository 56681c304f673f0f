"""What runbooks/systemd/timeline.ipynb reads and computes, on traces and entries made by hand.

That its reader of traces sees what Go's own does is a matter of the table of events, which is
compared with the one in Go's source where CI's toolchains are there.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "runbooks/systemd/timeline"))

import clocks  # noqa: E402
import collect  # noqa: E402
import gotrace  # noqa: E402
import show  # noqa: E402
from align import EARLY, MS, Line, Timeline  # noqa: E402
from draw import picture  # noqa: E402

START = 1_000 * MS  # when the program started, by CLOCK_MONOTONIC
KIND = {name: kind for kind, (name, _) in gotrace.KINDS.items()}


def number(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def batch(time: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return b"\x01" + b"".join(map(number, (1, 7, time, len(data)))) + data


def event(name: str, *values: int) -> bytes:
    return bytes([KIND[name]]) + b"".join(map(number, values))


def string(identity: int, text: str) -> bytes:
    return b"\x05" + number(identity) + number(len(text)) + text.encode()


def trace(version: int = 26) -> bytes:
    """A request of 100 ms from 1200 ms on; in it a collection with two pauses."""
    strings = [string(i, text) for i, text in enumerate(TEXTS, start=1)]
    return b"".join(
        (
            f"go 1.{version} trace".encode().ljust(16, b"\0"),
            batch(0, b"\x04", *strings),
            batch(
                1_100 * MS,
                bytes([gotrace.SYNC, gotrace.FREQUENCY]) + number(10**9),
                event("ClockSnapshot", 0, 1_100 * MS, 5_000, 0),
            ),
            batch(
                1_200 * MS,
                event("UserTaskBegin", 0, 1, 0, 1, 0),
                event("UserLog", 0, 1, 2, 3, 0),
                event("UserLog", 0, 1, 6, 0, 0),
                event("GCBegin", 10 * MS, 0, 0),
                event("STWBegin", 0, 4, 0),
                event("STWEnd", 1 * MS),
                event("STWBegin", 4 * MS, 5, 0),
                event("STWEnd", 1 * MS),
                event("GCEnd", 0, 1),
                event("UserTaskEnd", 84 * MS, 1, 0),
                event("ProcStop", 100 * MS),
            ),
            bytes([gotrace.END]),
        )
    )


TEXTS = ("request", "id", "abc", "GC sweep termination", "GC mark termination", "none")


def entry(mono: float, wall: float, message: str) -> dict[str, str]:
    """An entry of the journal, at milliseconds of either clock."""
    return {
        "__MONOTONIC_TIMESTAMP": str(round(mono * 1000)),
        "__REALTIME_TIMESTAMP": str(round(wall * 1000)),
        "MESSAGE": message,
    }


def said(wall: float, text: str) -> str:
    moment = datetime.datetime.fromtimestamp(wall / 1000, datetime.UTC)
    return f"time={moment.isoformat(timespec='milliseconds')} {text}"


def collected(directory: Path, entries: list[dict[str, str]]) -> Timeline:
    reading = {"at": 0, "offset": 0, "half": 50}
    clocks = {"realtime": reading, "boottime": reading, "synchronised": False, "max_error_us": 9}
    kept = {
        "request": None,
        "started": START - 30 * MS,
        "measured": [clocks],
        "canaries": [],
        "journal": entries,
    }
    (directory / "x.json").write_text(json.dumps(kept), encoding="utf-8")
    (directory / "x.trace").write_bytes(trace())
    return Timeline(directory, "x")


GC = "gc 1 @0.209s 0%: 1.0+4.0+1.0 ms clock, 1+1/1/1+1 ms cpu, 4->4->1 MB, 4 MB goal, 2 P"


def test_a_trace_is_read() -> None:
    read = gotrace.read(trace())
    assert [(s.kind, s.name, s.begin, s.end) for s in read.spans] == [
        ("task", "request", 1_200 * MS, 1_300 * MS),
        ("gc", "", 1_210 * MS, 1_216 * MS),
        ("pause", "GC sweep termination", 1_210 * MS, 1_211 * MS),
        ("pause", "GC mark termination", 1_215 * MS, 1_216 * MS),
    ]
    assert read.spans[0].notes == {"id": "abc", "none": ""}
    assert read.snapshots == [(1_100 * MS, 1_100 * MS, 5_000 * 10**9)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<html>", "no Go execution trace"),
        (trace(21), "its clock is not CLOCK_MONOTONIC"),
        (trace(99), "look at go tool trace"),
        (trace()[:16], "no events"),
        (trace()[:16] + b"\x09", "damaged"),
    ],
)
def test_what_is_no_trace_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(gotrace.TraceError, match=says):
        gotrace.read(data)


# The last is from before the line was written: journald was at work on another since then.
@pytest.mark.parametrize("arrival", [1_217, 1_215.2, 1_202])
def test_the_log_of_collections_finds_the_programs_start(tmp_path: Path, arrival: float) -> None:
    timeline = collected(tmp_path, [entry(arrival, 900_000, GC)])
    assert timeline.start == (START - 30 * MS, (arrival - 215) * MS + EARLY)
    assert timeline.fine_start == (START, START + MS)  # its millisecond is cut off
    row = next(row for row in timeline.rows() if row.source == "gc log")
    assert row.at - row.half <= 1_210 * MS <= row.at + row.half


def test_a_clock_that_is_set_moves_nothing(tmp_path: Path) -> None:
    day = 1_700_000_000_000
    timeline = collected(
        tmp_path,
        [
            entry(1_202, day + 1_202, said(day + 1_201, "begins id=abc")),
            entry(1_299, day + 91_299, said(day + 91_298, "ends id=abc")),  # set by 90 s
        ],
    )
    log = [row for row in timeline.rows() if row.source == "log"]
    assert [(row.at // MS, row.what) for row in log] == [
        (1_201, "begins id=abc"),
        (1_298, "ends id=abc"),
    ]
    told = "\n".join(show.clocks(timeline))
    assert "NOT synchronised" in told
    assert "was SET by +90.000 s between two lines 97.00 ms apart" in told
    assert "its own lines the request took 90.097 s; by CLOCK_MONOTONIC, 97.00 ms" in told


def test_a_line_of_another_zone_is_shown_when_the_journal_had_it(tmp_path: Path) -> None:
    wrong = entry(1_250, 1_700_000_000_000, "2023/11/15 03:13:20 price asked")
    timeline = collected(tmp_path, [wrong])
    local = datetime.datetime(2023, 11, 15, 3, 13, 20).astimezone()
    if abs(local.timestamp() - 1_700_000_000) < 60:
        pytest.skip("this machine is in the zone that the test takes for another")
    assert [row.source for row in timeline.rows() if "price" in row.what] == ["journal"]
    assert "The time of day in 1 lines is of no use" in "\n".join(show.clocks(timeline))


@pytest.mark.parametrize(
    ("text", "digit"),
    [
        ("time=2026-01-02T03:04:05.678Z x", MS),
        ('{"time":"2026-01-02T03:04:05.678901234+01:00"}', 1),
        ("2026/01/02 03:04:05 x", 1_000 * MS),
        ("2026/01/02 03:04:05.678901 x", 1_000),
    ],
)
def test_the_last_digit_of_a_time_says_how_good_it_is(text: str, digit: int) -> None:
    wall = Line(0, 0, text).wall
    assert wall
    assert wall[1] == digit


def test_the_picture_has_every_source(tmp_path: Path) -> None:
    # The other line is seen around the request, and not around its collection.
    entries = [entry(1_217, 900_000, GC), entry(1_290, 900_073, said(900_072, "late"))]
    drawn = picture(collected(tmp_path, entries), "A <request>")
    for name in ("journal", "gc log", "trace: collection", "trace: pause", "trace: task"):
        assert f">{name}</text>" in drawn
    assert "A &lt;request&gt;" in drawn


SOURCES = sorted((ROOT / "build/fixtures/go").glob("*/go/src/internal/trace/tracev2/events.go"))


@pytest.mark.skipif(not SOURCES, reason="CI's Go toolchains are not here")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.parts[-7])
def test_events_have_the_numbers_that_go_gives_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    names = re.findall(r"(?m)^\tEv(\w+)", text[text.index("const (") :])
    wanted = {}
    for name, body in re.findall(r"(?ms)^\tEv(\w+): \{\n(.*?)^\t\},", text):
        arguments = re.search(r"Args:\s*\[\]string\{(.*?)\}", body)
        if "IsTimedEvent" in body and names.index(name) < names.index("EndOfGeneration"):
            wanted[names.index(name)] = (name, arguments[1].count(",") + 1 if arguments else 0)
    assert wanted
    assert wanted.items() <= gotrace.KINDS.items()


def said_by(process: str, at: int) -> dict[str, str]:
    """One of the journal, so many milliseconds after the boot."""
    return {"_SYSTEMD_INVOCATION_ID": process, "__MONOTONIC_TIMESTAMP": str(at * 1_000)}


def test_a_saved_trace_belongs_to_the_process_that_ran_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The trace ends between 1,100 and 1,700 ms.
    found = [said_by("a", 100), said_by("a", 900), said_by("b", 1_000), said_by("b", 1_050)]
    found += [said_by("c", 2_000), said_by("b", 2_100)]
    monkeypatch.setattr(clocks, "entries", lambda *fields: found)
    started, entries = collect.at_that_time("orders", trace())
    assert started == 900 * MS
    assert entries == [found[2], found[3], found[5]]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    collect.keep(tmp_path / "a.trace", b"new")
    assert (tmp_path / "a.trace").read_bytes() == b"new"
    (tmp_path / "b.trace").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match=r"b\.trace cannot be written: Is a directory"):
        collect.keep(tmp_path / "b.trace", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.trace", "b.trace"]
