"""Run records: when one is still fresh, and that one is whole or not there."""

from __future__ import annotations

import datetime
import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kb
import pytest
from kb.proof import catalog, records
from kb.runtime import record
from project import Project, code, runbook, text

PATH = Path("runbooks/area/name.ipynb")
IMAGE = {"name": "x", "id": "sha256:1"}
WEEK = datetime.timedelta(days=7)
USES = ["shared.sh"]


def now(back: datetime.timedelta = datetime.timedelta()) -> str:
    return (datetime.datetime.now(datetime.UTC) - back).strftime("%Y-%m-%dT%H:%M:%SZ")


def made(project: Project, prose: str = "prose", source: str = "true", **kb_: Any) -> Any:
    nb = runbook(text("prose", prose), code("step", f"%%apply x\n{source}"), uses=USES, **kb_)
    project.add(str(PATH), nb)
    return catalog.read(project.root, PATH)


def content(notebook: Any, **more: Any) -> str:
    kb_run = {
        "schema": 1, "notebook": str(PATH), "stage": "apply", "result": "passed",
        "key": records.key(notebook, "apply", IMAGE), "started": now(),
        "host": {"name": "debian-13"}, "inputs": records.inputs(notebook), **more,
    }  # fmt: skip
    return json.dumps({**notebook.content, "metadata": {"kb_run": kb_run}})


def is_fresh(notebook: Any, image: Any = IMAGE, stage: str = "apply") -> bool:
    run = records.read(records.place(notebook, "debian-13", "apply"))
    assert run is not None
    return run.is_fresh(records.key(notebook, stage, image), WEEK)


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
    run = records.read(records.place(edited, "debian-13", "apply"))
    assert run is not None
    assert not run.is_stale(edited)


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
    run = records.read(records.place(edited, "debian-13", "apply"))
    assert run is not None
    assert run.is_stale(edited)


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


def test_another_image_stage_or_version(stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_fresh(stored, image={"name": "x", "id": "sha256:2"})
    assert not is_fresh(stored, image=None)
    assert not is_fresh(stored, stage="again")
    monkeypatch.setattr(kb, "__version__", "9")
    assert not is_fresh(stored)


@pytest.mark.parametrize(
    ("more", "fresh"),
    [
        ({"started": now(datetime.timedelta(days=6, hours=23))}, True),
        ({"started": now(datetime.timedelta(days=7, hours=1))}, False),
        ({"started": now(-datetime.timedelta(days=2))}, False),  # from a clock that was wrong
        ({"started": "yesterday"}, False),
        ({"result": "failed"}, False),
        ({"key": "another"}, False),
    ],
)
def test_age_and_result(stored: Any, more: dict[str, Any], fresh: bool) -> None:
    records.store(stored, "debian-13", "apply", content(stored, **more))
    assert is_fresh(stored) is fresh


@pytest.mark.parametrize("cut", [0, 1, 10, 200, -1])
def test_half_a_record_is_none(project: Project, stored: Any, cut: int) -> None:
    path = records.place(stored, "debian-13", "apply")
    assert len(records.load_all(project.root)) == 1
    path.write_text(path.read_text()[:cut])
    assert records.read(path) is None
    assert records.load_all(project.root) == []


@pytest.mark.parametrize("text", ["[]", "{}", '{"metadata": {"kb_run": {"schema": 2}}}', "null"])
def test_what_is_no_record(project: Project, stored: Any, text: str) -> None:
    path = records.place(stored, "debian-13", "apply")
    path.write_text(text)
    assert records.read(path) is None
    assert records.read(path.with_name("absent")) is None


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
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


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
    [(where, skip)] = records.skips(project.root).items()
    assert where == (str(PATH), "vm")
    assert skip["reason"] == "vm does not offer: gpu"
    datetime.datetime.fromisoformat(skip["when"])
    records.store(stored, "vm", "apply", content(stored))
    assert records.skips(project.root) == {}


def test_the_commit_and_whether_dirty(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    assert records.commit(tmp_path) == (None, False)
    git("init")
    git("commit", "--allow-empty", "-m", "x")
    records.commit.cache_clear()
    head, dirty = records.commit(tmp_path)
    assert head is not None
    assert (len(head), dirty) == (40, False)
    (tmp_path / "new").touch()
    records.commit.cache_clear()
    assert records.commit(tmp_path) == (head, True)
