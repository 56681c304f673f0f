"""Finds the runbooks and notebooks of a repository, and checks what they say about themselves."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kb.proof.stages import STAGES
from kb.runtime import parameters
from kb.runtime.record import code_hash, source

NEEDS = (
    "root",
    "network",
    "systemd",
    "cgroup2",
    "apparmor",
    "gpu",
    "reboot",
    "kernel-parameters",
)
KINDS = ("runbooks", "notebooks")
MAGIC = re.compile(r"%%(preflight|apply|verify|rollback|observe)[ \t]*(.*)")
SETTLES = re.compile(r"""\bsettle\(\s*(['"])([^'"]+)\1""")
# Keys of the metadata: name to type, and for which kind of file.
KEYS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "needs": (list, "both"),
    "timeout": ((int, float), "both"),
    "cell_timeout": ((int, float), "both"),
    "fixtures": (list, "both"),
    "prepare": (str, "both"),
    "parameters": (dict, "both"),
    "leaves": (dict, "runbooks"),
    "broken": (list, "runbooks"),
    "flips": (list, "notebooks"),
}
CASE_KEYS = {
    "broken": {"cell": True, "says": True, "parameters": False, "setup": False},
    "flips": {"claim": True, "becomes": True, "parameters": False, "setup": False},
}


class CatalogError(Exception):
    """A notebook that cannot be used. One sentence with file and place."""


@dataclass(frozen=True)
class Notebook:
    """A runbook or notebook of the repository at ``root``; ``path`` is relative to it."""

    root: Path
    path: Path
    content: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.path.parts[0]

    @property
    def area(self) -> str:
        return self.path.parts[1]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def cells(self) -> list[dict[str, Any]]:
        cells: list[dict[str, Any]] = self.content["cells"]
        return cells

    @property
    def metadata(self) -> dict[str, Any]:
        kb: dict[str, Any] = self.content["metadata"]["kb"]
        return kb

    @property
    def needs(self) -> list[str]:
        return list(self.metadata["needs"])

    @property
    def leaves(self) -> dict[str, str]:
        """Paths that a rollback does not restore, with the reason."""
        return dict(self.metadata.get("leaves", {}))

    @property
    def broken(self) -> list[dict[str, Any]]:
        """The cases in which a preflight must fail."""
        return list(self.metadata.get("broken", []))

    @property
    def flips(self) -> list[dict[str, Any]]:
        """The cases in which a verdict must become another."""
        return list(self.metadata.get("flips", []))

    @property
    def stages(self) -> tuple[str, ...]:
        """The life stages that this file goes through."""
        return tuple(
            stage.name
            for stage in STAGES
            if stage.of == self.kind and (not stage.cases or getattr(self, stage.cases))
        )

    @cached_property
    def title(self) -> str:
        return source(self.cells[0]).splitlines()[0].removeprefix("# ").strip()

    @cached_property
    def summary(self) -> str:
        """The first paragraph."""
        paragraphs = source(self.cells[0]).split("\n\n")
        return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""

    @cached_property
    def parameters(self) -> list[parameters.Parameter]:
        for cell in self.cells:
            if "parameters" in cell["metadata"].get("tags", []):
                return parameters.declared(source(cell))
        return []

    @cached_property
    def settles(self) -> dict[str, str]:
        """The claims that this notebook settles, each with the id of the cell that does."""
        return {
            claim: cell["id"]
            for cell in self.cells
            if cell["cell_type"] == "code"
            for _, claim in SETTLES.findall(source(cell))
        }

    @cached_property
    def files(self) -> list[Path]:
        """The files beside it that are its own or its area's, relative to the root, sorted."""
        directory = self.path.parent
        names = os.listdir(self.root / directory)  # noqa: PTH208 - Path costs seconds for hundreds
        notebooks = {name.removesuffix(".ipynb") for name in names if name.endswith(".ipynb")}
        others = (notebooks - {self.name}) | {"__pycache__", ""}  # "": hidden files
        own = [name for name in names if name.split(".")[0] not in others]
        return sorted(
            path.relative_to(self.root)
            for name in own
            for path in files_below(self.root / directory / name)
            if path.suffix != ".ipynb"
        )

    @cached_property
    def fixture_files(self) -> list[Path]:
        """What the fixtures it wants are made by, relative to the root, sorted."""
        place = self.root / "ci/fixtures"
        wanted = self.metadata.get("fixtures", [])
        return sorted(
            path.relative_to(self.root)
            for entry in (place.iterdir() if wanted and place.is_dir() else ())
            # NAME, NAME.txt, NAME.src/, and what several of them share
            if entry.suffix in {".py", ".sh"} or entry.name.split(".")[0] in wanted
            for path in files_below(entry)
        )

    @cached_property
    def code_hash(self) -> str:
        """A hash of what execution depends on in the file: code cells and metadata, no prose."""
        return code_hash(self.cells, self.metadata)


def files_below(path: Path) -> Iterator[Path]:
    """The file at ``path``, or the files below it in order, compiled ones left out."""
    if path.is_file():
        yield path
    for below in sorted(path.iterdir()) if path.is_dir() else ():
        if below.name != "__pycache__":
            yield from files_below(below)


def find(root: Path) -> list[Notebook]:
    """Every runbook and notebook below ``root``, sorted by path. Raises :class:`CatalogError`."""
    return [read(root, path) for path in paths(root)]


def paths(root: Path) -> Iterator[Path]:
    """The files that :func:`find` reads, relative to ``root``."""
    for kind in KINDS:
        for path in sorted((root / kind).glob("*/*.ipynb")):
            yield path.relative_to(root)


def read(root: Path, path: Path) -> Notebook:
    """Read one notebook and check its metadata. Raises :class:`CatalogError`."""
    try:
        content = json.loads((root / path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CatalogError(
            f"{path}:{error.lineno}: not a notebook: broken JSON at column {error.colno}"
            f" ({error.msg})"
        ) from None
    except UnicodeDecodeError:
        raise CatalogError(f"{path}: not a notebook: the file is not UTF-8 text") from None
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise CatalogError(f"{path}: not a notebook: it has no list of cells")
    _check_cells(path, content["cells"])
    _check_metadata(path, content)
    notebook = Notebook(root, path, content)
    try:
        notebook.parameters  # noqa: B018 - reading them checks them
    except parameters.ParameterError as error:
        raise CatalogError(f"{path}: {error}") from None
    return notebook


def _check_cells(path: Path, cells: list[Any]) -> None:
    seen: set[str] = set()
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict) or not isinstance(cell.get("source"), str | list):
            raise CatalogError(f"{path}: cell {number} is no cell: it has no `source`")
        identity = cell.get("id")
        if not identity:
            raise CatalogError(f"{path}: cell {number} has no id: save it as notebook format 4.5")
        if identity in seen:
            raise CatalogError(f"{path}: two cells have the id `{identity}`: ids must be unique")
        seen.add(identity)
        cell.setdefault("metadata", {})
    if not cells or cells[0].get("cell_type") != "markdown":
        raise CatalogError(f"{path}: the first cell must be text: `# Title` and one paragraph")


def _check_metadata(path: Path, content: dict[str, Any]) -> None:
    metadata = content.get("metadata", {})
    kb = metadata.get("kb")
    if not isinstance(kb, dict):
        raise CatalogError(f'{path}: no `kb` block in the metadata: add at least {{"needs": []}}')
    where = f"{path}: metadata kb"
    for key, value in kb.items():
        if key not in KEYS:
            raise CatalogError(f"{where}: unknown key `{key}`{_near(key, KEYS)}")
        kind, of = KEYS[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            names = [k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,))]
            raise CatalogError(f"{where}: `{key}` must be of type {' or '.join(names)}")
        if of not in ("both", path.parts[0]):
            raise CatalogError(f"{where}: `{key}` is for {of} only")
    if "needs" not in kb:
        raise CatalogError(f"{where}: `needs` is missing: list what it asks of a host, or []")
    for need in kb["needs"]:
        if need not in NEEDS:
            raise CatalogError(f"{where}: unknown need `{need}`{_near(need, NEEDS)}")
    ids = {cell["id"] for cell in content["cells"]}
    for key, wanted in CASE_KEYS.items():
        for number, case in enumerate(kb.get(key, []), 1):
            place = f"{where}: {key} case {number}"
            if not isinstance(case, dict):
                raise CatalogError(f"{place} must be an object: {json.dumps(case)}")
            for name in case:
                if name not in wanted:
                    raise CatalogError(f"{place}: unknown key `{name}`{_near(name, wanted)}")
            for name, required in wanted.items():
                if required and name not in case:
                    raise CatalogError(f"{place}: `{name}` is missing")
            if "cell" in case and case["cell"] not in ids:
                raise CatalogError(f"{place}: there is no cell `{case['cell']}`")


def _near(word: str, known: Any) -> str:
    near = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.5)
    meant = f"; did you mean `{near[0]}`?" if near else ""
    return f"{meant} (known: {', '.join(known)})"
