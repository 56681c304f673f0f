"""Run records: where they lie, what is in them, and when one is still fresh.

A record is the executed notebook itself; what is known about the run is in its metadata, under
``kb_run``. Records of hosts that CI has are made anew below ``build/runs``; those of hosts that it
has not (a GPU) are committed below ``docs/evidence``.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kb
from kb.proof.catalog import Notebook
from kb.runtime.record import write_atomically

BUILT = Path("build/runs")
COMMITTED = Path("docs/evidence")
SCHEMA = 1
CLOCKS_APART = datetime.timedelta(minutes=5)  # a run from further in the future has no age


@dataclass(frozen=True)
class Run:
    """One record: ``path`` is where it lies, ``content`` the executed notebook."""

    path: Path
    content: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        run: dict[str, Any] = self.content["metadata"]["kb_run"]
        return run

    @property
    def notebook(self) -> str:
        return str(self.metadata["notebook"])

    @property
    def host(self) -> str:
        return str(self.metadata["host"]["name"])

    @property
    def stage(self) -> str:
        return str(self.metadata["stage"])

    @property
    def passed(self) -> bool:
        return bool(self.metadata["result"] == "passed")

    def is_stale(self, notebook: Notebook) -> bool:
        """Whether the notebook's code or a file beside it has changed since this run."""
        return bool(self.metadata["inputs"] != inputs(notebook))

    def is_fresh(self, key: str, limit: datetime.timedelta) -> bool:
        """Whether a run with ``key`` would be a repetition: passed, same inputs, young enough."""
        if not self.passed or self.metadata.get("key") != key:
            return False
        try:
            started = datetime.datetime.fromisoformat(self.metadata["started"])
            age = datetime.datetime.now(datetime.UTC) - started
        except (KeyError, TypeError, ValueError):
            return False
        return -CLOCKS_APART < age < limit


def place(notebook: Notebook, host: str, stage: str) -> Path:
    """Where the record of a run of this repository belongs."""
    return _beside(notebook, host, f"{stage}.ipynb")


def _beside(notebook: Notebook, host: str, suffix: str) -> Path:
    directory = notebook.root / BUILT / host / notebook.path.parent
    return directory / f"{notebook.name}.{suffix}"


def inputs(notebook: Notebook) -> dict[str, str]:
    """What execution depends on in the repository: path to hash (of a notebook without prose)."""
    files = {
        str(path): hashlib.sha256((notebook.root / path).read_bytes()).hexdigest()
        for path in (*notebook.files, *notebook.fixture_files)
    }
    return {str(notebook.path): notebook.code_hash, **files}


def key(notebook: Notebook, stage: str, image: dict[str, str] | None) -> str:
    """What makes two runs the same: inputs, stage, image, and this package's version."""
    parts = [SCHEMA, inputs(notebook), stage, image and image["id"], kb.__version__]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> Run | None:
    """The record at ``path``; None if there is none, or it is not a record that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        run = Run(path, content)
        complete = run.metadata["schema"] == SCHEMA and run.host and run.metadata["inputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if complete else None


def load_all(root: Path) -> list[Run]:
    """Every readable record below ``root``, committed ones first."""
    return list(_load_all(root))


def _load_all(root: Path) -> Iterator[Run]:
    for directory in (COMMITTED, BUILT):
        for path in sorted((root / directory).glob("*/*/*/*.ipynb")):
            run = read(path)
            if run is not None:
                yield run


def store(notebook: Notebook, host: str, stage: str, content: str) -> Path:
    """Write a record, whole or not at all. Raises OSError."""
    path = place(notebook, host, stage)
    write_atomically(path, content)
    _beside(notebook, host, "skipped.json").unlink(missing_ok=True)
    return path


def store_skip(notebook: Notebook, host: str, reason: str) -> None:
    """Remember why ``notebook`` was not run on ``host``; a run's record is not touched."""
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    write_atomically(
        _beside(notebook, host, "skipped.json"), json.dumps({"reason": reason, "when": when})
    )


def skips(root: Path) -> dict[tuple[str, str], dict[str, str]]:
    """(notebook, host) to why and when it was skipped."""
    found = {}
    for path in sorted((root / BUILT).glob("*/*/*/*.skipped.json")):
        parts = path.relative_to(root / BUILT).parts
        name = path.name.removesuffix(".skipped.json")
        notebook = Path(*parts[1:-1], f"{name}.ipynb")
        found[str(notebook), parts[0]] = json.loads(path.read_text(encoding="utf-8"))
    return found


@functools.cache
def commit(root: Path) -> tuple[str | None, bool]:
    """The commit of the repository at ``root``, and whether files differ from it."""
    try:
        head = _git(root, "rev-parse", "HEAD").strip()
        return head, bool(_git(root, "status", "--porcelain").strip())
    except (OSError, subprocess.CalledProcessError):
        return None, False


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
