"""What the tests of the package share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cells import Cells, Make
from kb.runtime import magics
from kb.runtime.preview import Preview
from kb.runtime.undo import UndoJournal


@pytest.fixture
def make(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Make:
    """Makes the kernel of a new run; the one before has ended, unless they run at once."""
    monkeypatch.chdir(tmp_path)  # a checkout may be somebody else's
    monkeypatch.setenv("KB_NOTEBOOK", "area/name")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(sys, "displayhook", sys.displayhook)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def show(self: Preview) -> None:
        print(self)  # as a kernel's reader sees it

    monkeypatch.setattr(Preview, "show", show)

    journals: list[UndoJournal] = []

    class Watched(UndoJournal):
        def __init__(self, root: Path) -> None:
            super().__init__(root)
            journals.append(self)

    monkeypatch.setattr(magics, "UndoJournal", Watched)

    state = tmp_path / "state"

    def made(mode: str, parameters: str = "", at_once: bool = False, state: Path = state) -> Cells:
        while journals and not at_once:  # the kernel before has ended, and its lock with it
            journals.pop().unlock()
        monkeypatch.setenv("NOBLE_RUNBOOKS_STATE", str(state))
        cells = Cells(capsys)
        cells.begin(mode, parameters)
        return cells

    return made
