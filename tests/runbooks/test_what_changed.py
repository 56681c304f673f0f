"""Where the list of changes begins, and what of files the notebook does not show."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def changed(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("notebooks/systemd/what-changed/what_changed.py")


def test_it_begins_where_a_file_was_put_there_not_at_its_date(
    changed: ModuleType, tmp_path: Path
) -> None:
    shop = tmp_path / "shop"
    shop.write_text("")
    os.utime(shop, (1e9, 1e9))
    assert changed.beginning(str(shop)) == int(shop.stat().st_ctime) > 1e9


def test_it_begins_at_a_time(changed: ModuleType) -> None:
    assert changed.beginning("2001-09-09 01:46:40 UTC") == 1_000_000_000


@pytest.mark.parametrize(
    ("words", "why"),
    [("/nowhere", "name a file or a time"), ("soonish", "is no time that date knows")],
)
def test_what_is_neither_is_told(
    changed: ModuleType, capsys: pytest.CaptureFixture[str], words: str, why: str
) -> None:
    assert changed.main([words]) == 1
    said = capsys.readouterr().err
    assert why in said and words in said and said.count("\n") == 1


def test_a_file_with_an_old_date_is_in_the_list_with_that_date(
    changed: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "old.conf"
    old.write_text("")
    os.utime(old, (1e9, 1e9))
    monkeypatch.setattr(changed, "PLACES", (str(tmp_path),))
    told = [change.what for change in changed.files(int(old.stat().st_ctime))]
    assert any(what.startswith(f"{old} (dated 2001-09-09") for what in told)


def test_many_files_of_one_place_are_one_line(
    changed: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(changed.FEW + 1):
        (tmp_path / str(number)).write_text("")
    monkeypatch.setattr(changed, "PLACES", (str(tmp_path),))
    (change,) = changed.files(int(tmp_path.stat().st_ctime) - 60)
    assert change.what.endswith(f": {changed.FEW + 2} files and directories")
