"""What is carried to a host that reaches nothing: a runbook with its files, and nothing of CI's."""

from __future__ import annotations

import sys
from pathlib import Path

import papermill.cli
import pytest
from golden import Told
from kb.proof import carry
from kb.runtime import carried
from project import Project, code, runbook


@pytest.fixture
def copied(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    project.add("runbooks/area/name.ipynb", runbook(code("x", "%%apply x\ntrue"), uses=["b.sh"]))
    for name in ("name/lib.sh", "name/deep/a", "name/ci/prepare.sh", "b.sh", "other.sh"):
        file = project.root / "runbooks/area" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(project.root)
    target = project.root / "carried/area"
    monkeypatch.setattr(sys, "argv", ["carry", "runbooks/area/name.ipynb", str(target)])
    assert carry.main() == 0
    return target


def test_a_runbook_takes_its_files_along(copied: Path) -> None:
    found = {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()}
    assert found == {"name.ipynb", "name/lib.sh", "name/deep/a", "b.sh"}


def test_what_is_carried_is_run_as_by_papermill(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = []
    monkeypatch.setattr(papermill.cli, "papermill", lambda: called.append(sys.argv))
    monkeypatch.setattr(carried, "CARRIED", copied.parent)
    monkeypatch.setattr(sys, "argv", ["name.pyz", "plan.ipynb", "-p", "mode", "plan"])
    assert carried.main() == 0
    assert called == [["papermill", f"{copied}/name.ipynb", "plan.ipynb", "-p", "mode", "plan"]]
    monkeypatch.setattr(sys, "argv", ["name.pyz", "show", "nothing.ipynb"])
    assert carried.main() == 1
    assert "nothing.ipynb: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [[], ["runbooks/a/none.ipynb"], ["runbooks/a/none.ipynb", "out"]], ids=len
)
def test_words_that_carry_nothing(
    words: list[str],
    project: Project,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(sys, "argv", ["carry", *words])
    assert carry.main() == 2
    told(capsys.readouterr().err)


def test_a_place_that_cannot_be_carried_to(
    copied: Path, told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    monkeypatch.setattr(sys, "argv", ["carry", "runbooks/area/name.ipynb", "file/x"])
    assert carry.main() == 2
    told(capsys.readouterr().err)
