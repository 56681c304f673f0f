"""Reads a record on a host: ``kb-show out.ipynb`` prints what ran, what changed, what failed.

A record is a notebook, and a host has nothing that shows one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kb.runtime import modes, preview, record, terminal

TOLD = re.compile(r"^(changed|saved|left|left alone|note): .*", re.MULTILINE)
NOT_RUN = re.compile(r"^\(not run in mode \w+\)\n?", re.MULTILINE)
LAST = 15  # lines that a failed cell printed last
NAMED = 3  # changes that the last lines of a run name


def closing(nb: Mapping[str, Any], mode: str | None, where: str) -> Iterator[str]:
    """The last lines of a run of a runbook: what changed, what was saved, where its record is."""
    failed = nb["metadata"].get(record.RUN, {}).get("error")
    if mode == "plan":
        yield "plan: it came to no end, see below" if failed else f"plan: {totals(nb)}"
    elif mode is not None:
        changed = _told(nb, "changed")
        more = f"; and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        yield f"changed: {'; '.join(changed[:NAMED]) or 'nothing'}{more}"
    if mode is not None:
        saved = _told(nb, "saved")
        yield f"saved of a person's edits: {'; '.join(saved) or 'nothing'}"
    if where:
        yield f"record: {where}  (kb-show prints it)"


def totals(nb: Mapping[str, Any]) -> str:
    """What a plan would change, in one line."""
    plans = [plan for plan in _plans(nb) if plan["kind"] == "apply"]
    return preview.totals(plans)


def text_of(cell: Mapping[str, Any]) -> str:
    """All that a cell has printed and shown, for a terminal."""
    parts = []
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            parts.append(_joined(output["text"]))
        elif output["output_type"] == "error":
            parts.append(f"Error: {output['evalue']}\n")
        else:
            parts.append(_joined(output.get("data", {}).get("text/plain", "")) + "\n")
    return terminal.plain(terminal.clean("".join(parts)))


def show(nb: Mapping[str, Any], name: str | None) -> Iterator[str]:
    """The lines that are printed of a record, or of its cell ``name``.

    Raises :class:`ValueError` for a record or a cell that there is not.
    """
    run = nb.get("metadata", {}).get(record.RUN)
    if not isinstance(run, Mapping):
        raise ValueError("this notebook has not been run: give what papermill wrote")
    rows = {row["id"]: row for row in run["cells"]}
    cells = [cell for cell in nb["cells"] if cell.get("id") in rows]
    if name is not None:
        cell = next((cell for cell in cells if cell["id"] == name), None)
        if cell is None:
            raise ValueError(f"there is no cell `{name}`; there are {', '.join(rows)}")
        yield from record.source(cell).rstrip("\n").split("\n")
        yield f"--- {rows[name]['status']} in {rows[name]['duration']:.1f} s"
        yield from text_of(cell).splitlines()
        return
    yield from _head(run)
    failed = (run.get("error") or {}).get("cell")
    for cell in cells:
        row = rows[cell["id"]]
        title = modes.announced(record.source(cell), run.get("mode"))
        if row["status"] == "not run" or (not title and cell["id"] != failed):
            continue
        mark = "FAILED" if row["status"] == "failed" else f"{row['duration']:.1f} s"
        yield f"{mark:>8}  {title or cell['id']}  [{cell['id']}]"
        if row["status"] == "failed":
            lines = text_of(cell).splitlines()[-LAST:]
        elif plans := list(_plans({"cells": [cell]})):
            lines = "\n".join(text for plan in plans for _, text in plan["lines"]).splitlines()
        else:
            lines = [found[0] for found in TOLD.finditer(text_of(cell))]
        yield from (f"          {line}" for line in lines)
    yield ""
    yield from closing(nb, run.get("mode"), "")
    if run.get("error"):
        yield f"failed: {run['error']['message']}"
    yield "--cell NAME prints a cell with all that it said"


def _head(run: Mapping[str, Any]) -> Iterator[str]:
    host = run.get("host", {})
    mode = f", mode {run['mode']}" if run.get("mode") else ""
    yield f"{run['notebook'].removesuffix('.ipynb')}{mode}: {run['result']}"
    yield (
        f"on {host.get('hostname') or host.get('name', '')}"
        f" at {run['started']}, for {run['duration']:.0f} s"
    )
    passed = {name: value for name, value in run.get("parameters", {}).items() if name != "mode"}
    if passed:
        yield "with " + ", ".join(f"{name}={value}" for name, value in passed.items())
    yield ""


def _plans(nb: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for cell in nb["cells"]:
        for output in cell.get("outputs", []):
            if plan := output.get("data", {}).get(preview.MIME):
                yield plan


def _told(nb: Mapping[str, Any], word: str) -> list[str]:
    """What the cells said with this word before it."""
    return [
        found[0].partition(": ")[2]
        for cell in nb["cells"]
        for found in TOLD.finditer(text_of(cell))
        if found[1] == word
    ]


def _joined(text: Any) -> str:
    return "".join(text) if isinstance(text, list) else str(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """``kb-show RECORD [--cell NAME]``."""
    parser = argparse.ArgumentParser("kb-show", description="Print the record of a run as text.")
    parser.add_argument("record", type=Path, help="what papermill wrote")
    parser.add_argument("--cell", metavar="NAME", help="this cell, with all that it said")
    chosen = parser.parse_args(arguments)
    try:
        nb = json.loads(chosen.record.read_text(encoding="utf-8"))
        for line in show(nb, chosen.cell):
            print(line)
    except OSError as error:
        print(f"Error: {chosen.record}: {error.strerror}", file=sys.stderr)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        known = type(error) is ValueError
        said = str(error) if known else "it is not the record of a run: give what papermill wrote"
        print(f"Error: {chosen.record}: {said}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
