"""shellcheck over the bash of notebooks and over the shell scripts of the repository."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kb.proof.catalog import MAGIC, Notebook, source

SHELLCHECK = Path(sys.executable).with_name("shellcheck")


def check_cells(notebook: Notebook, directory: Path) -> Iterator[str]:
    """One sentence for each finding in a bash cell, with the line inside the cell."""
    # What the engine gives to every cell, so that shellcheck knows it as assigned.
    known = " ".join(parameter.name for parameter in notebook.parameters)
    prologue = f"set -Eeuo pipefail; declare -x {known} TMPDIR KB_MODE KB_HERE KB_FIXTURES"
    cells = {}
    for cell in notebook.cells:
        text = source(cell)
        if cell["cell_type"] == "code" and MAGIC.match(text):
            # The prologue takes the place of the magic's line: numbers stay those of the cell.
            path = directory / f"{cell['id']}.bash"
            path.write_text(f"{prologue}\n{text.split(chr(10), 1)[-1]}\n", encoding="utf-8")
            cells[str(path)] = cell
    # SC1090, SC1091: a file that a cell sources is on the host, not on this machine.
    options = ["--shell", "bash", "--exclude", "SC1090,SC1091"]
    for finding in _run([*options, *cells]) if cells else ():
        cell = cells[finding["file"]]
        line = source(cell).splitlines()[finding["line"] - 1].strip()
        yield (
            f"{notebook.path}: cell `{cell['id']}`, line {finding['line']}: {finding['message']}"
            f" (SC{finding['code']})\n    {line}"
        )


def check_scripts(root: Path, scripts: list[Path]) -> Iterator[str]:
    """One sentence for each finding in a script; ``scripts`` are relative to ``root``."""
    options = ["--external-sources", "--source-path", "SCRIPTDIR", "--source-path", str(root)]
    for finding in _run([*options, *map(str, scripts)], cwd=root):
        yield (f"{finding['file']}:{finding['line']}: {finding['message']} (SC{finding['code']})")


def _run(arguments: list[str], cwd: Path | None = None) -> list[dict]:
    done = subprocess.run(
        [SHELLCHECK, "--norc", "--format", "json1", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    findings: list[dict] = json.loads(done.stdout)["comments"]
    return findings
