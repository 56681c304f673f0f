"""Prints what `collect.py` kept: how the clocks differ, whether they agree, and the timeline."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # cells run Python with PYTHONSAFEPATH
import align
import gotrace
from align import MS, US, Timeline

ROWS = 60  # of a timeline that are printed


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("what", choices=("clocks", "agreement", "table"))
    words.add_argument("directory", type=Path)
    words.add_argument("name")
    words.add_argument("--id", default="", help="of the request; empty: the longest")
    asked = words.parse_args()
    try:
        timeline = Timeline(asked.directory, asked.name, asked.id)
    except (gotrace.TraceError, OSError) as error:
        sys.exit(str(error))
    if asked.what == "agreement":
        verdicts = list(agreement(timeline))
        for good, text in verdicts:
            print("agrees:" if good else "DIFFERS:", text)
        wrong = [text for good, text in verdicts if not good]
        if wrong:
            sys.exit(f"the clocks were not brought together: {wrong[0]}")
    else:
        print("\n".join(clocks(timeline) if asked.what == "clocks" else table(timeline)))


def span(nanoseconds: float) -> str:
    """A length of time that a person can read."""
    size = abs(nanoseconds)
    for unit, name, digits in ((10**9, "s", 3), (MS, "ms", 2), (US, "us", 1)):
        if size >= unit:
            return f"{nanoseconds / unit:.{digits}f} {name}"
    return f"{nanoseconds:.0f} ns"


def clocks(timeline: Timeline) -> Iterator[str]:
    """How each clock differs from CLOCK_MONOTONIC, and how well that is known."""
    form = "{:<30} {:>24}  {:<12} {}"
    yield form.format("clock", "less CLOCK_MONOTONIC", "good to", "by")
    for name in ("realtime", "boottime"):
        measured = timeline.kept["measured"]
        for when, reading in (("before", measured[0][name]), ("after", measured[-1][name])):
            offset = f"{reading['offset'] / 10**9:+.7f} s"
            yield form.format(
                f"CLOCK_{name.upper()}",
                offset,
                "± " + span(reading["half"]),
                f"bracketed readings {when}",
            )
    for at, mono, wall in timeline.trace.snapshots[-1:]:
        by = f"{len(timeline.trace.snapshots)} snapshots in the trace"
        yield form.format("the trace's own", span(at - mono), span(timeline.trace.step), by)
        yield form.format(
            "CLOCK_REALTIME", f"{(wall - mono) / 10**9:+.7f} s", "", "the last of them"
        )
    for how, bounds in (("systemd and journal", timeline.start), ("trace", timeline.fine_start)):
        if bounds and timeline.collections:
            middle, half = sum(bounds) // 2, (bounds[1] - bounds[0]) // 2
            by = how if how != "trace" else f"{len(timeline.pairs)} collections in log and trace"
            yield form.format(
                "gc log (the program's start)", f"-{middle / 10**9:.7f} s", "± " + span(half), by
            )
    yield ""
    yield from stamps(timeline)
    yield from time_of_day(timeline)


def stamps(timeline: Timeline) -> Iterator[str]:
    late = sorted(c["stamp"] - c["sent"] for c in timeline.kept["canaries"])
    if late:
        yield (
            f"The journal stamped {len(late)} lines {span(late[0])} to {span(late[-1])} after they"
            f" were written, half of them within {span(late[len(late) // 2])}."
        )


def time_of_day(timeline: Timeline) -> Iterator[str]:
    last = timeline.kept["measured"][-1]
    error = span(last["max_error_us"] * US)
    if last["synchronised"]:
        yield f"The time of day is synchronised; the kernel takes it to be good to {error}."
    else:
        yield (
            "The time of day is NOT synchronised. On this host nothing depends on it here;"
            " do not compare it with other hosts."
        )
    for before, after, change in timeline.steps():
        gap = span(after.stamp - before.stamp)
        yield (
            f"The time of day was SET by {change / 10**9:+.3f} s between two lines {gap} apart:"
            f" {_short(before)} and {_short(after)}. CLOCK_MONOTONIC was not."
        )
    named = [line for line in timeline.named if line.wall]
    if len(named) > 1 and any(timeline.steps()):
        (first, _), (last, _) = (line.wall or (0, 0) for line in (named[0], named[-1]))
        yield (
            f"By the time of day in its own lines the request took {span(last - first)};"
            f" by CLOCK_MONOTONIC, {span(named[-1].stamp - named[0].stamp)}."
        )
    if useless := [line for line in timeline.lines if line.wall and not line.written]:
        yield (
            f"The time of day in {len(useless)} lines is of no use: it was set before the journal"
            " had them, or is of another zone. They are shown when the journal had them."
        )


def _short(line: align.Line) -> str:
    return repr(align.timeless(line.text)[:70])


def agreement(timeline: Timeline) -> Iterator[tuple[bool, str]]:
    """Whether what two clocks say about one thing fits together; each a verdict and a sentence."""
    low, high = timeline.window
    trace = timeline.trace
    yield (
        trace.first <= low and high <= trace.last,
        f"the trace lasts from {span(low - trace.first)} before the request to"
        f" {span(trace.last - high)} after it (raise `seconds` if it does not cover it)",
    )
    if timeline.request and timeline.task and timeline.task.begin and timeline.task.end:
        begins, ends = timeline.task.begin - low, high - timeline.task.end
        yield (
            begins >= 0 and ends >= 0,
            f"the trace's task begins {span(begins)} after the client sent the request, and ends"
            f" {span(ends)} before the client had the answer",
        )
    if trace.snapshots:
        worst = max(abs(at - mono) for at, mono, _ in trace.snapshots)
        yield (
            worst < MS,
            f"the trace's times are CLOCK_MONOTONIC to {span(worst)}, by its snapshots",
        )
    yield from _collections(timeline)
    yield from _lines(timeline)


def _collections(timeline: Timeline) -> Iterator[tuple[bool, str]]:
    low, high = timeline.trace.first, timeline.trace.last
    coarse, fine = timeline.start, timeline.fine_start
    inside = [
        gc
        for _, gc in timeline.collections
        if low <= coarse[0] + gc[1] and coarse[1] + gc[1] + gc[2] <= high
    ]
    if not inside:
        return
    yield (
        2 * len(timeline.pairs) > len(inside),
        f"{len(inside)} collections of the log fall into the trace, {len(timeline.pairs)} are"
        " found there",
    )
    if fine:
        yield (
            coarse[0] <= fine[1] and fine[0] <= coarse[1],
            f"the program's start by the trace is {span(sum(fine) // 2 - coarse[0])} after"
            f" systemd's, and {span(coarse[1] - sum(fine) // 2)} before the latest by the journal",
        )


def _lines(timeline: Timeline) -> Iterator[tuple[bool, str]]:
    low, high = timeline.window
    for line in timeline.named:
        if line.written:
            at, half = line.written
            yield (
                low - half <= at <= high + half,
                f"a line of the log is {span(at - low)} after the request's begin, ± {span(half)};"
                f" the journal has it {span(line.stamp - at)} later",
            )


def table(timeline: Timeline) -> Iterator[str]:
    """The timeline, one thing a line."""
    low, _ = timeline.window
    rows = timeline.rows()
    yield f"{'ms':>11} {'good to':>10} {'lasts':>10}  {'seen in':<8} what"
    for row in rows[:ROWS]:
        lasts = span(row.end - row.at) if row.end is not None else ""
        good = "± " + span(row.half) if row.half else ""
        what = row.what if len(row.what) <= 88 else row.what[:87] + "…"
        yield f"{(row.at - low) / MS:11.3f} {good:>10} {lasts:>10}  {row.source:<8} {what}"
    if len(rows) > ROWS:
        yield f"... and {len(rows) - ROWS} more"


if __name__ == "__main__":
    main()
