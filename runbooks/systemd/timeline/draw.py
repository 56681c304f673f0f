"""Draws a timeline as SVG, on a ground of its own so that it is the same on a dark page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from align import MS, Row, Timeline

WIDTH, LEFT, RIGHT, LANE, TOP, FOOT = 960, 112, 18, 30, 30, 34  # pixels
LETTER = 6.1  # pixels, of the labels' letters
Lane = tuple[str, tuple[str, str], str]
# A lane's name, what goes there (source, kind), and its colour: told apart with any eyesight.
LANES: tuple[Lane, ...] = (
    ("client", ("client", ""), "#555555"),
    ("journal", ("journal", ""), "#0072b2"),
    ("service's log", ("log", ""), "#009e73"),
    ("gc log", ("gc log", ""), "#d55e00"),
    ("trace: collection", ("trace", "gc"), "#d55e00"),
    ("trace: pause", ("trace", "pause"), "#a00000"),
    ("trace: task", ("trace", "task"), "#7a4f9a"),
    ("trace: region", ("trace", "region"), "#7a4f9a"),
)


def bundle(directory: str, name: str, identity: str = "") -> dict[str, str]:
    """The picture of what was collected under a name, as a notebook displays it."""
    timeline = Timeline(Path(directory), name, identity)
    title = f"Request {timeline.identity}" if timeline.identity else "What was traced"
    described = f"{title}, as seen in journal, log, garbage collector's log and trace"
    return {"image/svg+xml": picture(timeline, title), "text/plain": described}


def picture(timeline: Timeline, title: str) -> str:
    """The request from its begin to its end; below it the collections, where they fill little."""
    low, high = timeline.window
    margin = (high - low) // 20
    rows = timeline.rows()
    lanes = [lane for lane in LANES if any((r.source, r.kind) == lane[1] for r in rows)]
    panels = [(low - margin, high + margin, title)]
    gcs = [row for row in rows if row.kind == "gc" and row.end and low <= row.at <= high]
    if gcs:
        first, last = gcs[0].at, max(row.end or row.at for row in gcs)
        if last - first < (high - low) // 3:
            wider = max((last - first) // 6, MS // 4)
            panels.append((first - wider, last + wider, "The same, around the collections"))
    height = TOP + len(lanes) * LANE + FOOT
    inner = ["".join(_panel(rows, lanes, low, *panel)) for panel in panels]
    drawn = "\n".join(
        f'<g transform="translate(0 {number * height})">{panel}</g>'
        for number, panel in enumerate(inner)
    )
    size = f'viewBox="0 0 {WIDTH} {height * len(panels)}" width="{WIDTH}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} height="{height * len(panels)}"'
        f' font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{drawn}\n</svg>'
    )


def _panel(
    rows: list[Row], lanes: list[Lane], zero: int, low: int, high: int, title: str
) -> Iterator[str]:
    scale = (WIDTH - LEFT - RIGHT) / (high - low)
    bottom = TOP + len(lanes) * LANE

    def x(at: int) -> float:
        return LEFT + min(max((at - low) * scale, 0), WIDTH - LEFT - RIGHT)

    yield f'<text x="{LEFT}" y="18" font-size="13" fill="#222222">{escape(title)}</text>'
    for row in rows:
        if row.kind == "gc" and row.end and row.end > low and row.at < high:  # through all lanes
            wide = max(x(row.end) - x(row.at), 0.5)
            yield _rect(x(row.at), TOP, wide, bottom - TOP, "#d55e00", 0.12)
    for at in _marks(low - zero, high - zero):
        place = x(at + zero)
        yield f'<path d="M{place:.1f} {TOP}V{bottom + 4}" stroke="#cccccc"/>'
        yield (
            f'<text x="{place:.1f}" y="{bottom + 17}" text-anchor="middle" fill="#444444">'
            f"{at / MS:g} ms</text>"
        )
    for number, (name, goes, colour) in enumerate(lanes):
        y = TOP + number * LANE
        yield f'<path d="M0 {y}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
        yield f'<text x="8" y="{y + 19}" fill="#222222">{escape(name)}</text>'
        there = [r for r in rows if (r.source, r.kind) == goes and r.at <= high]
        there = [row for row in there if (row.end or row.at) >= low]
        marks = [(x(row.at), x(row.end or row.at)) for row in there]
        starts = [*(begin for begin, _ in marks), WIDTH][1:]
        free = float(LEFT)  # from here on nothing is written in this lane
        for row, (begin, end), following in zip(there, marks, starts, strict=True):
            yield from _mark(x(row.at - row.half), begin, end, x(row.at + row.half), y, colour)
            whole = _label(row)
            for label in (whole, whole.split(" ")[0]):
                size = LETTER * len(label) + 8
                if end - begin > size:
                    yield _text(begin + 4, y + 19, label, "#ffffff")
                elif end + size < following and end >= free:
                    yield _text(end + 4, y + 19, label, colour)
                    free = end + size
                elif begin - size > free:
                    yield _text(begin - 4, y + 19, label, colour, "end")
                else:
                    continue
                break
            free = max(free, end)


def _mark(
    early: float, begin: float, end: float, late: float, y: int, colour: str
) -> Iterator[str]:
    """A bar, or a tick where it has no length; a thin line as long as its time is uncertain."""
    wide = max(end - begin - 0.5, 1.5)
    yield _rect(begin - (0.75 if end == begin else 0), y + 8, wide, 14, colour, 0.85)
    if late - early > 2:
        yield f'<path d="M{early:.1f} {y + 26}H{late:.1f}" stroke="{colour}" stroke-width="1.5"/>'


def _text(x: float, y: int, text: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, colour: str, opacity: float) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}"'
        f' fill-opacity="{opacity}"/>'
    )


def _label(row: Row) -> str:
    text = row.what
    if row.source in ("journal", "log") and 'msg="' in text:  # of slog's text
        text = text.split('msg="', 1)[1].split('"', 1)[0]
    elif row.source == "journal" and text.startswith("gc "):
        text = " ".join(text.split()[:2])
    elif row.kind:
        text = text.removeprefix(row.kind).strip().removeprefix("GC ")
        text = "" if row.kind == "gc" else text
    return text if len(text) <= 34 else text[:33] + "…"


def _marks(low: int, high: int) -> Iterator[int]:
    """Round times for the axis, six to twelve of them."""
    step = 10 ** math.floor(math.log10((high - low) / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 10)
    step = max(int(step), 1)
    yield from range(-(-low // step) * step, high + 1, step)
