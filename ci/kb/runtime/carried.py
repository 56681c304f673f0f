"""What one file that carries a runbook runs: ``NAME.pyz OUTPUT -p mode apply``, as papermill does.

``make carry NAME=runbooks/AREA/NAME`` makes the file, for a host that reaches nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import kb

CARRIED = Path(kb.__file__).parents[1] / "carried"


def main() -> int:
    """Run papermill on the runbook that is carried; with ``show RECORD``, print a record."""
    if sys.argv[1:2] == ["show"]:
        from kb.runtime import reading  # noqa: PLC0415 - papermill takes a second to load

        return reading.main(sys.argv[2:])
    notebook = next(CARRIED.glob("*/*.ipynb"))
    # Before papermill is loaded: by its name it knows that it is the command.
    sys.argv = ["papermill", str(notebook), *sys.argv[1:]]
    from papermill.cli import papermill  # noqa: PLC0415

    papermill()
    return 0
