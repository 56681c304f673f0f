"""ci/bench/verdicts.py names what came out differently, and not the same verdict seen otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kb.runtime.settle import MIME

SCRIPT = Path(__file__).resolve().parents[2] / "ci/bench/verdicts.py"


def record(runs: Path, verdict: str, saw: str) -> None:
    data = {"claim": "a1-one", "verdict": verdict, "evidence": "executed", "saw": [saw]}
    content = {"cells": [{"id": "cell-1", "outputs": [{"data": {MIME: data}}]}]}
    place = runs / "debian-13/notebooks/area/name.run.ipynb"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(content), encoding="utf-8")


def compared(*runs: Path) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), *map(str, runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_verdict_that_moved_is_named(tmp_path: Path) -> None:
    first, again, slower = (tmp_path / name for name in ("first", "again", "slower"))
    record(first, "confirmed", "12 ms")
    record(again, "confirmed", "15 ms")
    record(slower, "partly", "900 ms")
    assert compared(first, again) == (0, "1 verdicts were reached more than once, 0 moved\n")
    status, said = compared(first, again, slower)
    assert status == 1
    assert "1 moved\na1-one on debian-13:\n" in said
    assert f"  {slower}: partly (it saw 900 ms)\n" in said


def test_one_run_is_nothing_to_compare(tmp_path: Path) -> None:
    assert compared(tmp_path) == (2, "name at least two directories of runs to compare\n")


def test_a_directory_without_runs_is_none_that_agrees(tmp_path: Path) -> None:
    record(tmp_path / "first", "confirmed", "12 ms")
    missing = tmp_path / "frist"
    said = f"{missing} holds no runs: name copies of build/runs\n"
    assert compared(tmp_path / "first", missing) == (2, said)
