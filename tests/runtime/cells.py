"""Runs cells as a kernel does, without the seconds that a kernel takes to start."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from IPython.core.interactiveshell import InteractiveShell
from kb.runtime import magics
from project import MODE
from traitlets.config import Config


class Cells:
    """One kernel, as it were."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        self.shell = InteractiveShell(config=config)
        self.capsys = capsys

    def run(self, source: str) -> str:
        """Run a cell and return what it printed; its error is raised."""
        self.capsys.readouterr()
        result = self.shell.run_cell(source)
        error = result.error_before_exec or result.error_in_exec
        if error:
            raise error
        return self.capsys.readouterr().out

    def begin(self, mode: str, parameters: str = "") -> None:
        """The first cells of a runbook in a new kernel."""
        magics.load(self.shell)
        self.run(f"{MODE}\n{parameters}")
        self.run(f"# Parameters\nmode = {mode!r}")


Make = Callable[..., Cells]
