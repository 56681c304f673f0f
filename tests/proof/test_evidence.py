"""Committed records: taken over from runs here, or brought in from another machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from golden import Told
from kb.proof import catalog, evidence, records
from kb.proof.evidence import EvidenceError
from kb.runtime.record import RUN
from project import Project, code, commit_all, notebook, runbook

BOOK = "runbooks/a/x.ipynb"


@pytest.fixture
def ran(project: Project) -> Project:
    """A committed runbook, which an operator's papermill has executed."""
    project.add(BOOK, runbook(code("look", "%%observe Look\ncat /etc/os-release")))
    project.write("runbooks/a/x/helper.sh", "true\n")
    commit_all(project.root)
    done = project.papermill(BOOK)
    assert done.returncode == 0, done.stderr
    return project


def test_what_papermill_wrote_is_a_record_like_ci_s(ran: Project) -> None:
    run = ran.executed()["metadata"][RUN]
    assert (run["notebook"], run["stage"], run["mode"]) == (BOOK, "plan", "plan")
    assert run["host"]["kind"] == "local"
    assert len(run["commit"]) == 40
    assert run["inputs"].keys() == {BOOK, "runbooks/a/x/helper.sh"}
    place = evidence.add(ran.root, ran.root / "out.ipynb", "web-1")
    machine = run["host"]["machine"]
    base = f"docs/evidence/web-1/{machine}" if machine else "docs/evidence/web-1"
    assert str(place.relative_to(ran.root)) == f"{base}/runbooks/a/x.plan.ipynb"
    found = records.load(ran.root)
    assert not found.rejected
    [[(path, host), by_stage]] = found.newest.items()
    assert (path, host) == (BOOK, f"web-1/{machine}".rstrip("/"))
    book = catalog.read(ran.root, Path(BOOK))
    assert not by_stage["plan"].is_stale(book)
    assert "input_path" not in place.read_text()  # a path of that machine
    ran.write("runbooks/a/x/helper.sh", "false\n")
    assert by_stage["plan"].is_stale(catalog.read(ran.root, Path(BOOK)))


def test_who_it_is_does_not_depend_on_where_its_file_lies(ran: Project, tmp_path: Path) -> None:
    nb = json.loads((ran.root / BOOK).read_text())
    nb["metadata"]["kb"]["identity"] = "runbooks/a/x"
    elsewhere = tmp_path / "some/where/else.ipynb"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text(json.dumps(nb))
    shutil.copytree(ran.root / "runbooks/a/x", elsewhere.with_suffix(""))
    done = ran.papermill(str(elsewhere))
    assert done.returncode == 0, done.stderr
    run = ran.executed()["metadata"][RUN]
    assert run["notebook"] == BOOK
    assert run["inputs"].keys() == {BOOK, "runbooks/a/x/helper.sh"}


EDITS: dict[str, Any] = {
    "an empty run": lambda run: run.clear(),
    "an old schema": lambda run: run.update(schema=1),
    "an unknown notebook": lambda run: run.update(notebook="runbooks/a/y.ipynb"),
    "an unknown stage": lambda run: run.update(stage="no"),
    "no stage": lambda run: run.pop("stage"),
    "a stage that is a path": lambda run: run.update(stage="../up"),
    "a machine that is a path": lambda run: run["host"].update(machine="../../../../up"),
    "a host that is none": lambda run: run.update(host="web"),
    "of the future": lambda run: run.update(started="2999-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("what", EDITS)
def test_what_cannot_be_brought_in(ran: Project, what: str, told: Told) -> None:
    content = ran.executed()
    EDITS[what](content["metadata"][RUN])
    (ran.root / "out.ipynb").write_text(json.dumps(content))
    with told.raises(EvidenceError):
        evidence.add(ran.root, ran.root / "out.ipynb", "web")
    assert not list((ran.root / "docs").rglob("*.ipynb"))
    assert not (ran.root.parent / "up").exists()


def test_a_host_that_is_a_path(ran: Project, told: Told) -> None:
    with told.raises(EvidenceError):
        evidence.add(ran.root, ran.root / "out.ipynb", "../web")


def test_a_file_that_is_none(project: Project, told: Told) -> None:
    for text in ("{", "[]", '{"metadata": {}}'):
        (project.root / "out.ipynb").write_text(text)
        with told.raises(EvidenceError):
            evidence.add(project.root, project.root / "out.ipynb", "web")
    with told.raises(EvidenceError):
        evidence.add(project.root, project.root / "none.ipynb", "web")


@pytest.fixture
def built(project: Project) -> Project:
    """A committed notebook that has been run on a host of CI's."""
    project.add("notebooks/a/n.ipynb", notebook(code("look", "1")))
    commit_all(project.root)
    store(project)
    return project


def store(project: Project, **more: Any) -> None:
    book = catalog.read(project.root, Path("notebooks/a/n.ipynb"))
    content = json.loads(json.dumps(book.content))
    # In two halves: no file here names a registry.
    mirror = "proxy.go" + "lang.org"
    content["cells"][-1]["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": f"from {mirror}, of course"}
    ]
    content["metadata"][RUN] = {
        "schema": 2, "notebook": "notebooks/a/n.ipynb", "stage": "run", "result": "passed",
        "error": None, "cells": [], "parameters": {}, "duration": 1.0, "dirty": False,
        "started": "2026-11-22T03:04:05Z", "host": {"name": "box"}, "commit": "0" * 40,
        "inputs": records.inputs(book), **more,
    }  # fmt: skip
    records.store(book, "box", "run", content)


def test_runs_are_taken_over_without_a_registry_s_name(built: Project) -> None:
    gone = built.root / "docs/evidence/box/notebooks/a/gone.run.ipynb"
    gone.parent.mkdir(parents=True)
    gone.touch()
    assert evidence.keep(built.root, ["box"]) == ["notebooks/a/n.ipynb on box: passed"]
    [kept] = (built.root / "docs/evidence").rglob("*.ipynb")
    assert "from a-mirror.example, of course" in kept.read_text()
    assert records.read(kept, built.root).committed


def test_a_newer_committed_record_stays(built: Project) -> None:
    evidence.keep(built.root, ["box"])
    [kept] = (built.root / "docs/evidence").rglob("*.ipynb")
    newer = kept.read_text()
    store(built, started="2026-11-21T03:04:05Z")
    assert evidence.keep(built.root, ["box"]) == [
        "notebooks/a/n.ipynb on box: left, the committed record is newer"
    ]
    assert kept.read_text() == newer
    store(built, started="2026-11-23T03:04:05Z")
    assert evidence.keep(built.root, ["box"]) == ["notebooks/a/n.ipynb on box: passed"]
    assert kept.read_text() != newer


@pytest.mark.parametrize("more", [{"dirty": True}, {"commit": None}], ids=["dirty", "no commit"])
def test_runs_that_are_not_of_a_commit(built: Project, more: dict[str, Any], told: Told) -> None:
    store(built, **more)
    with told.raises(EvidenceError):
        evidence.keep(built.root, ["box"])


def test_half_a_life(built: Project, told: Told) -> None:
    flip = {"claim": "a1-x", "becomes": "refuted", "setup": "true"}
    cell = code("look", 'settle("a1-x", confirmed=same(1, 1))')
    built.add("notebooks/a/n.ipynb", notebook(cell, flips=[flip]))
    with told.raises(EvidenceError):
        evidence.keep(built.root, ["box"])


def test_a_host_without_runs(built: Project, told: Told) -> None:
    with told.raises(EvidenceError):
        evidence.keep(built.root, ["elsewhere"])
