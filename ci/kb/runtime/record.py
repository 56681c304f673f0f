"""The record of a run: what is in it, and how it is written. CI's runs and an operator's are alike.

A record is the executed notebook itself; what is known about its run is in its metadata, under
:data:`RUN`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.runtime import redact
from kb.runtime.parameters import is_secret

if TYPE_CHECKING:  # whoever only reads records needs no kernel
    from kb.runtime.engine import Outcome

RUN = "kb_run"
SCHEMA = 2
_MACHINE_ID = Path("/etc/machine-id")


def new(
    *,
    notebook: str,
    stage: str,
    mode: str | None,
    parameters: Mapping[str, Any],
    host: Mapping[str, Any],
    inputs: Mapping[str, str],
    root: Path,
    outcome: Outcome,
    **more: Any,
) -> dict[str, Any]:
    """What is known about a run.

    Args:
        notebook: its path in the repository, or its file's name where that is not known.
        stage: what was run, see :mod:`kb.proof.stages`; of an operator's run the mode, or ``run``.
        mode: the mode of a runbook.
        parameters: what was passed; secrets are masked here.
        host: its facts, with ``name`` and ``kind``.
        inputs: what went in, path to hash.
        root: a directory of the checkout that the notebook is from.
        outcome: what became of it.
        more: what only one of the callers knows.
    """
    head, dirty = commit(root)
    return {
        "schema": SCHEMA,
        "notebook": notebook,
        "stage": stage,
        "mode": mode,
        "parameters": {
            name: redact.MASK if is_secret(name) else value for name, value in parameters.items()
        },
        "host": dict(host),
        "commit": head,
        "dirty": dirty,
        "inputs": dict(inputs),
        **outcome.metadata(),
        **more,
    }


def machine() -> str:
    """A name for this machine that stays and tells nothing about it; "" where it has no id."""
    try:
        identity = _MACHINE_ID.read_text().strip()
    except OSError:
        return ""
    return hashlib.sha256(f"noble-runbooks {identity}".encode()).hexdigest()[:12]


def code_hash(cells: list[dict[str, Any]], metadata: Mapping[str, Any]) -> str:
    """A hash of what a run depends on in a notebook: code cells and ``metadata``, no prose.

    A cell that papermill injected is not the notebook's.
    """
    code = [
        [cell["id"], source(cell), cell["metadata"].get("tags", [])]
        for cell in cells
        if cell["cell_type"] == "code"
        and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    text = json.dumps([code, metadata], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def source(cell: Mapping[str, Any]) -> str:
    """A cell's text, which a file holds as one string or as lines."""
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


@functools.cache
def commit(directory: Path) -> tuple[str | None, bool]:
    """The commit of the checkout that ``directory`` is in, and whether its files differ from it."""
    try:
        head = _git(directory, "rev-parse", "HEAD").strip()
        return head, bool(_git(directory, "status", "--porcelain").strip())
    except (OSError, subprocess.CalledProcessError):
        return None, False


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` by way of a file beside it and a rename.

    Raises OSError (disk full, no permission) with ``path`` as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
