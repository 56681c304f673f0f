"""The command that brings notebooks into the committed format: what it takes, and what it loses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from golden import Told
from kb.proof import format as formatting
from kb.runtime import record
from project import Project, code, notebook

BOOK = "notebooks/a/x.ipynb"


@pytest.fixture
def untidy(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook that is not in the committed format."""
    project.add(BOOK, notebook(code("look", "1  ")))
    monkeypatch.chdir(project.root)
    return project.root / BOOK


def formatted(monkeypatch: pytest.MonkeyPatch, *places: str) -> int:
    monkeypatch.setattr(sys, "argv", ["format", *places])
    return formatting.main()


@pytest.mark.parametrize("place", ["notebooks", BOOK])
def test_a_notebook_and_a_directory_of_them(
    untidy: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert formatted(monkeypatch, place) == 0
    assert capsys.readouterr().out == f"{BOOK}: rewritten\n"
    assert '"source": [\n    "1"\n   ]' in untidy.read_text(encoding="utf-8")
    assert formatted(monkeypatch, place) == 0
    assert not capsys.readouterr().out


SPOILED = {
    "nothing": None,
    "not UTF-8": b"\xff",
    "not JSON": b"{",
    "no cells": b"{}",
    "cells that are none": b'{"cells": [1]}',
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_no_notebook(
    project: Project,
    what: str,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project.root)
    content = SPOILED[what]
    if content is not None:
        Path("x.ipynb").write_bytes(content)
    assert formatted(monkeypatch, "x.ipynb") == 1
    told(capsys.readouterr().err)


def test_no_place(
    told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert formatted(monkeypatch) == 2
    told(capsys.readouterr().err)


def test_a_write_that_fails_leaves_the_notebook(
    untidy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    before = untidy.read_bytes()
    monkeypatch.setattr(record.os, "fsync", full)
    assert formatted(monkeypatch, BOOK) == 1
    assert capsys.readouterr().err == f"error: {BOOK}: No space left on device\n"
    assert untidy.read_bytes() == before
    assert [path.name for path in untidy.parent.iterdir()] == [untidy.name]
