"""Draws latency by offered load as SVG, on a ground of its own: the same on a dark page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 760, 340, 64, 96, 34, 46  # pixels
LINES = (("p50", "#0072b2"), ("p90", "#009e73"), ("p99", "#d55e00"))  # told apart with any eyesight
LATE = "#a00000"


def bundle(directory: str) -> dict[str, str]:
    """The picture of what was measured, as a notebook displays it."""
    curve = json.loads(Path(directory, "curve.json").read_text(encoding="utf-8"))
    points = [point for point in curve["points"] if point["offered"] > 0]
    said = ", ".join(f"{1000 * p['p99']:.0f} ms at {p['offered']:.0f}/s" for p in points)
    return {"image/svg+xml": _picture(points, curve), "text/plain": f"p99 by offered load: {said}"}


def _picture(points: list[dict[str, float]], curve: dict[str, Any]) -> str:
    drawn = "\n".join(_parts(points, curve))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{drawn}\n</svg>'
    )


def _parts(points: list[dict[str, float]], curve: dict[str, Any]) -> Iterator[str]:
    limit = curve["limit"]
    values = [point[name] for point in points for name, _ in LINES] + [limit]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    most = max(point["offered"] for point in points) * 1.02
    bottom, right = HEIGHT - FOOT, WIDTH - RIGHT

    def x(rate: float) -> float:
        return LEFT + (right - LEFT) * rate / most

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * (math.log10(value) - low) / max(high - low, 1)

    yield _text(
        LEFT, 20, f"Latency by offered load, batches {curve['setting']}", "#222222", size=13
    )
    for power in range(low, high + 1):
        yield f'<path d="M{LEFT} {y(10.0**power):.1f}H{right}" stroke="#dddddd"/>'
        yield _text(LEFT - 6, y(10.0**power) + 4, f"{10.0 ** (power + 3):g} ms", "#444444", "end")
    step = _step(most)
    for rate in range(0, int(most) + 1, step):
        yield f'<path d="M{x(rate):.1f} {bottom}v4" stroke="#888888"/>'
        yield _text(x(rate), bottom + 17, f"{rate}", "#444444", "middle")
    yield _text((LEFT + right) / 2, HEIGHT - 10, "requests a second", "#444444", "middle")
    yield f'<path d="M{LEFT} {y(limit):.1f}H{right}" stroke="{LATE}" stroke-dasharray="5 4"/>'
    yield _text(LEFT + 4, y(limit) - 5, f"objective: p99 within {1000 * limit:g} ms", LATE)
    ends: list[float] = []
    for name, colour in LINES:
        line = " ".join(f"{x(p['offered']):.1f},{y(p[name]):.1f}" for p in points)
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for point in points:
            late = name == "p99" and (point["p99"] > limit or point["good"] < 1)
            yield (
                f'<circle cx="{x(point["offered"]):.1f}" cy="{y(point[name]):.1f}" r="3.5"'
                f' fill="{LATE if late else colour}"/>'
            )
        at = y(points[-1][name])
        while any(abs(at - other) < 12 for other in ends):
            at += 3  # no label on another
        ends.append(at)
        yield _text(right + 8, at + 4, name, colour)


def _step(most: float) -> int:
    """A round number of which there are four to ten."""
    size = 10 ** math.floor(math.log10(max(most, 10)))
    return max(1, next(int(size / part) for part in (10, 5, 2, 1) if most / (size / part) <= 10))


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}"'
        f' font-size="{size}">{text}</text>'
    )
