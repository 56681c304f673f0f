"""What runbooks/delivery/secrets must never do, and no run sees of itself: record a value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PREPARE = ROOT / "runbooks/delivery/secrets/ci/prepare.sh"
MARK = re.compile(r"kb-secret-[A-Za-z0-9+/]{20}")  # each value that CI's host has, and no source


def leaking(records: list[Path]) -> list[str]:
    return [record.name for record in records if MARK.search(record.read_text(encoding="utf-8"))]


def test_no_record_has_a_value(tmp_path: Path) -> None:
    assert "kb-secret-%s" in PREPARE.read_text(encoding="utf-8"), "CI's values lost their mark"
    planted = tmp_path / "planted.ipynb"
    planted.write_text('"token: kb-secret-abcdEFGH0123+/abcdEFGH"', encoding="utf-8")
    assert leaking([planted]) == ["planted.ipynb"]

    places = [ROOT / "docs/evidence", ROOT / "build/runs"]
    records = [record for place in places for record in place.rglob("*secrets*.ipynb")]
    if not records:
        pytest.skip("no run of runbooks/delivery/secrets is here")
    assert leaking(records) == []
