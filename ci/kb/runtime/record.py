"""The record of a run: what is in it, and how it is written. CI's runs and an operator's are alike.

A record is the executed notebook itself; what is known about its run is in its metadata, under
:data:`RUN`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.runtime import redact
from kb.runtime.parameters import is_secret

if TYPE_CHECKING:  # whoever only reads records needs no kernel
    from kb.runtime.engine import Outcome

RUN = "kb_run"
FOR_READERS = ("title", "found_by")  # of the `kb` metadata: what no run depends on
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


def identity(kb: Mapping[str, Any], file: Path) -> Path:
    """Which notebook this is: ``runbooks/AREA/NAME``, wherever its ``file`` lies.

    It is in the notebook's ``kb`` metadata; of one that does not say it, the place tells.
    """
    return Path(str(kb.get("identity") or Path(*file.with_suffix("").parts[-3:])))


def inputs_of(nb: Mapping[str, Any], file: Path) -> dict[str, str]:
    """What a notebook's run depends on beside its host: its code and its files, path to hash.

    Paths are the repository's. What only CI uses is left out: it is not on a person's host.
    """
    kb = nb["metadata"]["kb"]
    which = identity(kb, file)
    folder = file.with_suffix("")
    own = (
        path
        for path in folder.rglob("*")
        if path.is_file() and not {"ci", "__pycache__"} & set(path.relative_to(folder).parts[:-1])
    )
    used = (file.parent / name for name in kb.get("uses", []))
    found = {f"{which}.ipynb": code_hash(nb["cells"], kb)}
    for path in sorted({*own, *(path for path in used if path.is_file())}):
        inside = which.parent / path.relative_to(file.parent)
        if folder in path.parents:
            inside = which / path.relative_to(folder)
        found[str(inside)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def machine() -> str:
    """A name for this machine that stays and tells nothing about it; "" where it has no id."""
    try:
        identity = _MACHINE_ID.read_text().strip()
    except OSError:
        return ""
    return hashlib.sha256(f"noble-runbooks {identity}".encode()).hexdigest()[:12]


def code_hash(cells: list[dict[str, Any]], metadata: Mapping[str, Any]) -> str:
    """A hash of what a run depends on in a notebook: code cells and ``metadata``, no prose.

    What of the metadata is for readers alone does not count. A cell that papermill injected is not
    the notebook's.
    """
    code = [
        [cell["id"], source(cell), cell["metadata"].get("tags", [])]
        for cell in cells
        if cell["cell_type"] == "code"
        and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    counts = {key: value for key, value in metadata.items() if key not in FOR_READERS}
    text = json.dumps([code, counts], sort_keys=True)
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


def write_atomically(path: Path, text: str, *, private: bool = False) -> None:
    """Write ``text`` to ``path`` by way of a file beside it and a rename.

    A link is followed to its file; what is no file (a device, a pipe) is written to as it is. The
    mode of a new file is what the umask gives, that of an older one stays; ``private``: nobody
    else may read it.

    Raises OSError (disk full, no permission) with ``path`` as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if private else 0o666
    before = _mode(path)
    if before is not None and not stat.S_ISREG(before):
        path.write_text(text, encoding="utf-8")
        return
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if before is not None:
                os.fchmod(handle, stat.S_IMODE(before) & (mode | 0o111))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _mode(path: Path) -> int | None:
    """What ``path``, or what it leads to, is; None: nothing yet.

    The kernel refuses a link that somebody else has put into a directory such as /tmp.
    """
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
