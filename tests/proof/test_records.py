"""Run records: when one is still fresh, and that one is whole or not there."""

from __future__ import annotations

import datetime
import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kb
import pytest
from golden import Told
from kb.proof import catalog, records
from kb.proof.hosts import BACKENDS, Host
from kb.proof.records import RecordError
from kb.runtime import record
from kb.runtime.record import RUN, SCHEMA
from kb.runtime.settle import MIME
from project import Project, code, commit_all, runbook, text

PATH = Path("runbooks/area/name.ipynb")
HOST = Host(Path(), "debian-13", "docker", "Debian", (), "debian:13")
WEEK = datetime.timedelta(days=7)
USES = ["shared.sh"]


def now(back: datetime.timedelta = datetime.timedelta()) -> str:
    return (datetime.datetime.now(datetime.UTC) - back).strftime("%Y-%m-%dT%H:%M:%SZ")


def made(project: Project, prose: str = "prose", source: str = "true", **kb_: Any) -> Any:
    nb = runbook(text("prose", prose), code("step", f"%%apply x\n{source}"), uses=USES, **kb_)
    project.add(str(PATH), nb)
    return catalog.read(project.root, PATH)


def key(notebook: Any, stage: str = "apply", host: Any = HOST, verdicts: Any = ()) -> str:
    return records.key(notebook, stage, host, verdicts)


def content(nb: Any, **more: Any) -> dict[str, Any]:
    kb_run = {
        "schema": SCHEMA, "notebook": str(PATH), "stage": "apply", "result": "passed",
        "error": None, "cells": [], "parameters": {}, "duration": 1.5,
        "key": key(nb), "started": now(),
        "host": {"name": "debian-13"}, "inputs": records.inputs(nb), **more,
    }  # fmt: skip
    return json.loads(json.dumps({**nb.content, "metadata": {RUN: kb_run}}))


def newest(notebook: Any) -> records.Run:
    run = records.newest(notebook, "debian-13", "apply")
    assert run is not None
    return run


def is_fresh(notebook: Any, **more: Any) -> bool:
    return newest(notebook).is_fresh(key(notebook, **more), WEEK)


@pytest.fixture
def project(project: Project) -> Project:
    project.write("runbooks/area/shared.sh", "one")
    return project


@pytest.fixture
def stored(project: Project) -> Any:
    project.write("runbooks/area/name/a.unit", "one")
    project.write("runbooks/area/name/ci/prepare.sh", "true")
    notebook = made(project)
    records.store(notebook, "debian-13", "apply", content(notebook))
    return notebook


def test_an_unchanged_notebook_is_fresh(project: Project, stored: Any) -> None:
    assert is_fresh(made(project))


def test_an_edit_of_prose_changes_nothing(project: Project, stored: Any) -> None:
    edited = made(project, prose="better prose")
    assert is_fresh(edited)
    assert not newest(edited).is_stale(edited)


def edit_code(project: Project) -> Any:
    return made(project, source="false")


def edit_parameters(project: Project) -> Any:
    nb = runbook(text("prose", "prose"), code("step", "%%apply x\ntrue"), uses=USES)
    nb.metadata["kb"]["parameters"] = {"prefix": "/srv"}
    project.add(str(PATH), nb)
    return catalog.read(project.root, PATH)


@pytest.mark.parametrize(
    ("file", "fresh"),
    [
        ("name/a.unit", False),
        ("name/more/new", False),
        ("name/ci/prepare.sh", False),
        ("name/ci/cases.toml", False),
        ("shared.sh", False),
        ("other.sh", True),
        ("other/b.unit", True),
        ("area.toml", True),
    ],
)
def test_an_edit_of_a_file(project: Project, stored: Any, file: str, fresh: bool) -> None:
    project.write(f"runbooks/area/{file}", "# two\n")
    assert is_fresh(made(project)) is fresh


@pytest.mark.parametrize("edit", [edit_code, edit_parameters])
def test_an_edit_that_matters(
    project: Project, stored: Any, edit: Callable[[Project], Any]
) -> None:
    edited = edit(project)
    assert not is_fresh(edited)
    assert newest(edited).is_stale(edited)


@pytest.mark.parametrize(
    ("name", "fresh"),
    [("go", False), ("go.txt", False), ("gcc", True), ("built.sh", False), ("debian.py", False)],
)
def test_what_its_fixtures_are_made_by(name: str, fresh: bool, project: Project) -> None:
    place = project.root / "ci/fixtures"
    place.mkdir(parents=True)
    for there in ("go", "go.txt", "gcc", "built.sh", "debian.py"):
        (place / there).write_text("one")
    notebook = made(project, fixtures=["go"])
    records.store(notebook, "debian-13", "apply", content(notebook))
    (place / name).write_text("two")
    assert is_fresh(made(project, fixtures=["go"])) is fresh


def test_another_stage_host_release_or_verdict(stored: Any) -> None:
    assert not is_fresh(stored, stage="again")
    assert not is_fresh(stored, host=replace(HOST, base="debian:14"))
    assert not is_fresh(stored, host=replace(HOST, kind="vm"))
    assert is_fresh(stored, verdicts=[("a1-x", "confirmed")])  # only a run is held to verdicts
    run = key(stored, stage="run", verdicts=[("a1-x", "confirmed")])
    assert run != key(stored, stage="run", verdicts=[("a1-x", "refuted")])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package, in place of the real one where digests are made."""
    copy = tmp_path / "kb"
    shutil.copytree(Path(kb.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kb, "__file__", str(copy / "__init__.py"))
    records.executes.cache_clear()
    yield copy
    records.executes.cache_clear()


@pytest.mark.parametrize(
    ("module", "docker", "vm"),
    [
        ("runtime/magics.py", True, True),
        ("runtime/engine.py", True, True),
        ("runtime/prelude.sh", True, True),
        ("proof/life.py", True, True),
        ("proof/snapshots.py", True, True),
        ("proof/hosts/vm.py", False, True),
        ("proof/hosts/docker.py", True, False),
        ("runtime/papermill.py", False, False),
        ("proof/plugin.py", False, False),
        ("site/load.py", False, False),
    ],
)
def test_an_edit_of_what_executes_or_judges(
    module: str, docker: bool, vm: bool, package: Path
) -> None:
    before = {kind: records.executes(BACKENDS[kind]) for kind in ("docker", "vm")}
    with (package / module).open("a") as file:
        file.write("\nchanged=1\n")
    records.executes.cache_clear()
    assert (records.executes(BACKENDS["docker"]) != before["docker"]) is docker
    assert (records.executes(BACKENDS["vm"]) != before["vm"]) is vm


def test_an_edit_of_a_comment_in_what_executes(package: Path) -> None:
    before = records.executes(BACKENDS["docker"])
    with (package / "proof/life.py").open("a") as file:
        file.write("\n\n# A better reason.\n")
    records.executes.cache_clear()
    assert records.executes(BACKENDS["docker"]) == before


def test_what_a_host_is_made_by(project: Project) -> None:
    (project.root / "ci/images/machine").mkdir(parents=True)
    (project.root / "ci/images/Dockerfile").write_text("FROM x")
    docker, vm = (records.recipe(project.root, BACKENDS[kind]) for kind in ("docker", "vm"))
    records.recipe.cache_clear()
    (project.root / "ci/images/machine/unit").write_text("x")
    assert records.recipe(project.root, BACKENDS["docker"]) == docker
    assert records.recipe(project.root, BACKENDS["vm"]) != vm
    records.recipe.cache_clear()


@pytest.mark.parametrize(
    ("more", "fresh"),
    [
        ({"started": now(datetime.timedelta(days=6, hours=23))}, True),
        ({"started": now(datetime.timedelta(days=7, hours=1))}, False),
        ({"result": "failed"}, False),
        ({"key": "another"}, False),
    ],
)
def test_age_and_result(stored: Any, more: dict[str, Any], fresh: bool) -> None:
    records.store(stored, "debian-13", "apply", content(stored, **more))
    assert is_fresh(stored) is fresh


def refused(project: Project, path: Path) -> str:
    """Why the only file that lies about is not a record."""
    [(where, why)] = records.load(project.root).rejected.items()
    assert project.root / where == path
    with pytest.raises(RecordError, match=re.escape(why)):
        records.read(path, project.root)
    return why


@pytest.mark.parametrize("cut", [0, 1, 10, 200, -1])
def test_half_a_record(project: Project, stored: Any, cut: int, told: Told) -> None:
    path = records.place(stored, "debian-13", "apply")
    assert len(records.load(project.root).newest) == 1
    path.write_text(path.read_text()[:cut])
    told(refused(project, path))
    assert records.newest(stored, "debian-13", "apply") is None


TEXTS = {
    "a list": "[]",
    "null": "null",
    "nothing": "{}",
    "no run": '{"metadata": {}}',
    "an old schema": '{"metadata": {"kb_run": {"schema": 1}}}',
    "too deep": "[" * 100_000,
}


@pytest.mark.parametrize("what", TEXTS)
def test_what_is_not_a_record(project: Project, stored: Any, what: str, told: Told) -> None:
    path = records.place(stored, "debian-13", "apply")
    path.write_text(TEXTS[what])
    told(refused(project, path))


def test_what_is_not_a_file(project: Project, stored: Any, told: Told) -> None:
    path = records.place(stored, "debian-13", "apply")
    for make in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        path.unlink()
        make()
        told(refused(project, path))


def test_a_file_that_is_too_large(project: Project, stored: Any, told: Told) -> None:
    path = records.place(stored, "debian-13", "apply")
    os.truncate(path, records.LARGEST + 1)
    told(refused(project, path))


CANNOT_BE: dict[str, dict[str, Any]] = {
    "of the future": {"started": "2999-01-01T00:00:00Z"},
    "at no time": {"started": "yesterday"},
    "at a time of no zone": {"started": "2026-11-22T03:04:05"},
    "of another notebook": {"notebook": "runbooks/area/other.ipynb"},
    "of another stage": {"stage": "again"},
    "of an unknown stage": {"stage": "sleep"},
    "of another host": {"host": {"name": "another"}},
    "of a host that is a path": {"host": {"name": "../../x"}},
    "of a notebook elsewhere": {"notebook": "runbooks/../../x.ipynb"},
    "with a result of its own": {"result": "fine"},
    "with a number for text": {"started": 5},
    "with text for a number": {"duration": "long"},
    "with a list for an object": {"parameters": []},
    "with text for cells": {"cells": "all"},
    "with text for an error": {"error": "it failed"},
    "with text for cases": {"broken": "all"},
    "of a machine that is a path": {"host": {"name": "debian-13", "machine": "../x"}},
    "of a host with odd facts": {"host": {"name": "debian-13", "cpu": []}},
    "of a commit that is a number": {"commit": 7},
    "that hung for no reason": {"hung": {}},
    "with text for kills": {"killed": "all"},
    "with a kill at no time": {"killed": [{"cell": "a", "then": "b", "message": ""}]},
    "with text for a state": {"state": "as it was"},
}


@pytest.mark.parametrize("what", CANNOT_BE)
def test_a_record_that_cannot_be(project: Project, stored: Any, what: str, told: Told) -> None:
    records.store(stored, "debian-13", "apply", content(stored, **CANNOT_BE[what]))
    told(refused(project, records.place(stored, "debian-13", "apply")))


ODD: dict[str, Any] = {
    "no cells": None,
    "a cell without text": {"source": 5},
    "odd metadata": {"source": "", "metadata": []},
    "odd tags": {"source": "", "metadata": {"tags": "setup"}},
    "odd outputs": {"source": "", "outputs": "all"},
    "an output with odd data": {"source": "", "outputs": [{"output_type": "x", "data": []}]},
    "a verdict with an odd reason": {
        "source": "",
        "outputs": [{"output_type": "x", "data": {MIME: {"saw": "all"}}}],
    },
}


@pytest.mark.parametrize("what", ODD)
def test_odd_cells(project: Project, stored: Any, what: str, told: Told) -> None:
    record = content(stored)
    cell = {"id": "x", "cell_type": "code"}
    record["cells"] = [cell | ODD[what]] if ODD[what] else None
    records.store(stored, "debian-13", "apply", record)
    told(refused(project, records.place(stored, "debian-13", "apply")))


def test_a_disk_that_fails(stored: Any, monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched, pytest.raises(RecordError) as caught:
        patched.setattr(Path, "read_bytes", fails)
        records.read(records.place(stored, "debian-13", "apply"))
    told(caught.value)


def test_an_edit_by_hand(project: Project, stored: Any, told: Told) -> None:
    path = records.place(stored, "debian-13", "apply")
    path.write_text(path.read_text().replace('"duration": 1.5', '"duration": 2.5'))
    told(refused(project, path))


def test_a_failure_does_not_hide_an_older_pass(project: Project, stored: Any) -> None:
    day = datetime.timedelta(days=1)
    where = (str(PATH), "debian-13")
    records.store(stored, "debian-13", "apply", content(stored, started=now(3 * day)))
    failed = {"result": "failed", "error": {"cell": "", "message": "no"}}
    for back in (2 * day, day):  # a second failure keeps the pass, too
        records.store(stored, "debian-13", "apply", content(stored, started=now(back), **failed))
        found = records.load(project.root)
        assert not found.newest[where]["apply"].passed
        assert found.older[where]["apply"].started.date() == newest(stored).started.date() - (
            3 * day - back
        )
    assert newest(stored).error == "no"
    records.store(stored, "debian-13", "apply", content(stored))
    found = records.load(project.root)
    assert found.newest[where]["apply"].passed
    assert not found.older
    assert len(list((project.root / "build/runs").rglob("*.ipynb"))) == 1


def test_the_newest_counts_committed_or_not(project: Project, stored: Any) -> None:
    built = records.place(stored, "debian-13", "apply")
    committed = project.root / "docs/evidence" / built.relative_to(project.root / "build/runs")
    committed.parent.mkdir(parents=True)
    built.rename(committed)
    assert newest(stored).committed
    old = now(datetime.timedelta(days=9))
    records.store(stored, "debian-13", "apply", content(stored, started=old))
    assert newest(stored).committed
    assert records.load(project.root).newest[str(PATH), "debian-13"]["apply"].committed


def test_a_record_of_one_of_many_machines(project: Project, stored: Any) -> None:
    host = {"name": "web", "machine": "0123456789ab"}
    path = project.root / "docs/evidence/web/0123456789ab/runbooks/area/name.apply.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(records.sealed(content(stored, host=host)))
    assert (str(PATH), "web/0123456789ab") in records.load(project.root).newest


def test_a_run_whose_process_was_killed_is_interrupted(project: Project, stored: Any) -> None:
    where = (str(PATH), "debian-13")
    unfinished = {
        "result": "failed",
        "error": {"cell": "", "message": records.INTERRUPTED},
        "started": now(-datetime.timedelta(seconds=2)),
    }
    mark = records.begin(stored, "debian-13", "apply", content(stored, **unfinished))
    assert records.load(project.root).newest[where]["apply"].passed  # it is under way
    killed = subprocess.Popen(["true"])
    dead = json.loads(mark.read_text())
    dead["metadata"][RUN]["process"] = records._process(killed.pid)
    killed.wait()
    mark.write_text(records.sealed(dead))
    found = records.load(project.root)
    assert found.newest[where]["apply"].error == records.INTERRUPTED
    assert found.older[where]["apply"].passed


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ({}, "none"),
        ({"plan": (True, True)}, "partial"),
        ({"plan": (True, True), "apply": (True, True)}, "passed"),
        ({"plan": (True, False), "apply": (True, True)}, "stale"),
        ({"plan": (True, False), "apply": (False, True)}, "failed"),
        ({"apply": (False, True)}, "failed"),
    ],
)
def test_what_became_of_it(runs: dict[str, tuple[bool, bool]], says: str) -> None:
    assert records.became(("plan", "apply"), runs) == says


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_record_that_cannot_be_written_leaves_the_one_before(
    stored: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = records.place(stored, "debian-13", "apply")
    before = path.read_text()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[call], full)
    with pytest.raises(OSError, match="No space left on device"):
        records.store(stored, "debian-13", "apply", content(stored, result="failed"))
    monkeypatch.undo()
    assert path.read_text() == before
    assert not [entry for entry in path.parent.iterdir() if entry.name.startswith(".")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this container may not mount")
    try:
        record.write_atomically(tmp_path / "a.ipynb", "small")
        with pytest.raises(OSError, match="No space left on device"):
            record.write_atomically(tmp_path / "a.ipynb", "x" * 200_000)
        assert [path.read_text() for path in tmp_path.iterdir()] == ["small"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_skip_is_remembered_until_a_run(project: Project, stored: Any) -> None:
    records.store_skip(stored, "vm", "vm does not offer: gpu")
    assert records.load(project.root).skips == {str(PATH): {"vm": "vm does not offer: gpu"}}
    records.store(stored, "vm", "apply", content(stored, host={"name": "vm"}))
    assert records.load(project.root).skips == {}


def test_a_damaged_note_of_a_skip_is_said(project: Project, stored: Any) -> None:
    records.store_skip(stored, "vm", "vm does not offer: gpu")
    [note] = (project.root / "build/runs").rglob("*.skipped.json")
    note.write_text("{")
    found = records.load(project.root)
    assert found.skips == {}
    assert list(found.rejected.values()) == ["it is damaged: remove it, and run again"]


def test_half_a_character_in_an_output_can_be_stored(project: Project, stored: Any) -> None:
    odd = content(stored)
    odd["cells"][0]["source"] = "\ud800"
    records.store(stored, "debian-13", "apply", odd)
    assert newest(stored).content["cells"][0]["source"] == "\ud800"


def test_the_commit_and_whether_dirty(tmp_path: Path) -> None:
    assert record.commit(tmp_path) == (None, False)
    commit_all(tmp_path)
    record.commit.cache_clear()
    head, dirty = record.commit(tmp_path)
    assert head is not None
    assert (len(head), dirty) == (40, False)
    (tmp_path / "new").touch()
    record.commit.cache_clear()
    assert record.commit(tmp_path) == (head, True)
