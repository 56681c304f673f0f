"""What the notebook systemd/exit-statuses asserts of each of its services, seen to fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PLACE = "notebooks/systemd/exit-statuses"


@pytest.fixture
def faults(program: Callable[[str], ModuleType]) -> Any:
    """The module, as if one service had failed, been recognised, and been cured."""
    module = program(f"{PLACE}/faults.py")
    module.said["no-file"] = [
        "Starting exit-no-file.service...",
        "exit-no-file.service: Unable to locate executable: No such file or directory",
        "exit-no-file.service: Main process exited, code=exited, status=203/EXEC",
        "a line of the program",
    ]
    module.looked["no-file"] = "ls: cannot access 'no-file': No such file or directory"
    module.cured["no-file"] = ""
    module.became["no-file"] = "active (running)"
    return module


def test_a_fault_is_shown_with_its_unit_its_journal_and_its_cure(
    faults: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    faults.show("no-file")
    shown = capsys.readouterr().out
    assert "    ExecStart=/opt/exit-statuses/no-file\n" in shown
    assert "status=203/EXEC" in shown
    assert "(1 more of the program)" in shown
    assert "# install service no-file" in shown
    assert "then: active (running)" in shown


def test_a_word_that_is_not_in_the_journal_fails(faults: Any) -> None:
    faults.said["no-file"] = faults.said["no-file"][:2]
    with pytest.raises(AssertionError, match="no-file: no 'status=203/EXEC' in the journal"):
        faults.show("no-file")


def test_a_look_that_does_not_show_the_fault_fails(faults: Any) -> None:
    faults.looked["no-file"] = "-rwxr-xr-x"
    with pytest.raises(AssertionError, match="no-file: -rwxr-xr-x"):
        faults.show("no-file")


def test_a_service_that_is_not_cured_fails(faults: Any) -> None:
    faults.became["no-file"] = "failed (failed)"
    with pytest.raises(AssertionError, match="no-file: failed"):
        faults.show("no-file")


def test_every_fault_is_shown_has_words_and_has_a_cure(faults: Any) -> None:
    notebook = json.loads(Path(f"{PLACE}.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"]]
    calls = [cell for cell in cells if cell.startswith("faults.show(")]
    assert sorted(re.findall(r'"([a-z-]+)"', "".join(calls))) == sorted(faults.FAULTS)
    for name, fault in faults.FAULTS.items():
        assert fault["says"], name
        assert "cure" in fault or "drop_in" in fault, name
        assert ("look" in fault) == ("shows" in fault), name


def test_a_service_that_failed_is_not_waited_for(
    faults: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"ActiveState": "failed", "Job": ""}
    monkeypatch.setattr(faults, "states", lambda names: dict.fromkeys(names, failed))
    monkeypatch.setattr(faults, "journal", lambda: {"no-file": ["why"]})
    with pytest.raises(RuntimeError, match=r"no-file: .*'failed'.* in its journal: .*why"):
        faults.until(["no-file"], faults.settled("active"))


def test_a_service_with_a_limit_is_started_again_until_it_runs(
    faults: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter(("failed", "activating", "active"))
    started: list[str] = []
    monkeypatch.setattr(
        faults, "states", lambda names: {"child": {"ActiveState": next(seen), "Job": ""}}
    )
    monkeypatch.setattr(faults, "start", started.extend)
    faults.until(["child"], faults.settled("active"), "again")
    assert started == ["child"]
