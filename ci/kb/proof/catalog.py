"""Finds the runbooks and notebooks of a repository, and checks what they say about themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kb.proof import cases, tables, together
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
MAGIC = re.compile(
    r"%%(preflight|apply|verify|rollback|observe)\b"
    r"(?:(?<=preflight)[ \t]+--rollback(?=\s|$))?[ \t]*(.*)"
)
SETTLES = re.compile(r"""\bsettle\(\s*(['"])([^'"]+)\1""")
# Keys of the metadata: name to type.
KEYS: dict[str, tables.Kinds] = {
    "identity": str,
    "needs": list,
    "timeout": (int, float),
    "cell_timeout": (int, float),
    "fixtures": list,
    "parameters": dict,
    "uses": list,
    "not_restored": dict,
    "leaves": dict,  # the earlier name of `not_restored`
    "title": str,
    "found_by": dict,
}
# What people type who look for it: what they want to do, and by the words on their screen the id
# of the cell that cures it.
FOUND_BY: dict[str, tables.Kinds] = {"tasks": list, "symptoms": dict}
FOR_RUNBOOKS = ("not_restored", "leaves")
# What stands in NAME/ci, where shellcheck and people find it, and not in the metadata.
MOVED = {"prepare": "prepare.sh", "broken": "cases.toml", "flips": "cases.toml"}
CI = "ci"  # the folder of what never runs on a person's host, of a notebook or of an area


class CatalogError(tables.TableError):
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
    def steps(self) -> list[dict[str, Any]]:
        """The cells that change a host: steps, and the way back."""
        magics = ((cell, MAGIC.match(source(cell))) for cell in self.cells)
        return [cell for cell, magic in magics if magic and magic[1] in ("apply", "rollback")]

    @property
    def metadata(self) -> dict[str, Any]:
        kb: dict[str, Any] = self.content["metadata"]["kb"]
        return kb

    @property
    def needs(self) -> list[str]:
        return list(self.metadata["needs"])

    @property
    def not_restored(self) -> dict[str, Any]:
        """What a rollback leaves on purpose: pattern of paths to reason."""
        return dict(self.metadata.get("not_restored") or self.metadata.get("leaves") or {})

    @property
    def folder(self) -> Path:
        """The folder of its own files, relative to the root; it need not be there."""
        return self.path.with_suffix("")

    @property
    def prepare(self) -> Path | None:
        """The script that makes CI's fresh host into one that people have, if there is one."""
        path = self.folder / CI / "prepare.sh"
        return path if (self.root / path).is_file() else None

    @cached_property
    def cases(self) -> cases.Cases:
        """What must fail and what must flip. Raises :class:`~kb.proof.tables.TableError`."""
        return cases.read(
            self.root,
            self.folder / CI / "cases.toml",
            kind=self.kind,
            cells=[cell["id"] for cell in self.cells],
            claims=self.settles,
            parameters=[parameter.name for parameter in self.parameters],
        )

    @cached_property
    def together(self) -> together.Together | None:
        """The runbooks that its host sees before it runs. Raises TableError."""
        if self.kind != "notebooks":
            return None
        return together.read(self.root, self.folder / CI / "together.toml")

    @property
    def broken(self) -> list[dict[str, Any]]:
        """The cases that make a cell fail: `cell`, `says`, and `parameters` or a `setup`."""
        return self.cases.broken

    @property
    def flips(self) -> list[dict[str, Any]]:
        """The changed worlds: `claim`, what it `becomes`, and `parameters` or a `setup`."""
        return self.cases.flips

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

    @property
    def short_title(self) -> str:
        """What stands in lists; its title, unless that is a sentence."""
        return str(self.metadata.get("title") or self.title)

    @property
    def tasks(self) -> list[str]:
        """What people want who look for it, in their words."""
        return list(self.metadata.get("found_by", {}).get("tasks", []))

    @property
    def symptoms(self) -> dict[str, str]:
        """What is on the screen of people who look for it: words to the cell that cures it."""
        return dict(self.metadata.get("found_by", {}).get("symptoms", {}))

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

    @property
    def uses(self) -> list[Path]:
        """The files of its area that it shares with others, relative to the root."""
        return [self.path.parent / name for name in self.metadata.get("uses", [])]

    @cached_property
    def files(self) -> list[Path]:
        """Its own files and those that it uses, relative to the root, sorted."""
        own = files_below(self.root / self.folder)
        return sorted({*(path.relative_to(self.root) for path in own), *self.uses})

    @property
    def beside(self) -> list[Path]:
        """Those of its files that a person's host needs, too."""
        return [path for path in self.files if not for_ci(path)]

    @cached_property
    def others(self) -> list[Notebook]:
        """The runbooks that its host sees before it runs."""
        return [read(self.root, path) for path in (self.together.paths() if self.together else ())]

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


def for_ci(path: Path) -> bool:
    """Whether a file of an area is one that never runs on a person's host."""
    return CI in path.parts[2:-1]


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
    if path.stem == CI:
        raise CatalogError(f"{path}: choose another name: {path.parent}/{CI} is for CI's own files")
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
    _check_metadata(root, path, content)
    notebook = Notebook(root, path, content)
    try:
        notebook.parameters  # noqa: B018 - reading them checks them
    except parameters.ParameterError as error:
        raise CatalogError(f"{path}: {error}") from None
    try:
        notebook.cases  # noqa: B018 - the same
        notebook.together  # noqa: B018 - the same
    except tables.TableError as error:
        raise CatalogError(str(error)) from None
    return notebook


def _check_cells(path: Path, cells: list[Any]) -> None:
    seen: set[str] = set()
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict) or not isinstance(cell.get("source"), str | list):
            raise CatalogError(f"{path}: cell {number} is not a cell: it has no `source`")
        identity = cell.get("id")
        if not identity:
            raise CatalogError(f"{path}: cell {number} has no id: save it as notebook format 4.5")
        if identity in seen:
            raise CatalogError(f"{path}: two cells have the id `{identity}`: ids must be unique")
        seen.add(identity)
        cell.setdefault("metadata", {})
    if not cells or cells[0].get("cell_type") != "markdown":
        raise CatalogError(f"{path}: the first cell must be text: `# Title` and one paragraph")


def _check_metadata(root: Path, path: Path, content: dict[str, Any]) -> None:
    kb = content.get("metadata", {}).get("kb")
    if not isinstance(kb, dict):
        raise CatalogError(f'{path}: no `kb` block in the metadata: add at least {{"needs": []}}')
    where = f"{path}: metadata kb"
    for key, file in MOVED.items():
        if key in kb:
            place = path.with_suffix("") / CI / file
            raise CatalogError(f"{where}: `{key}` belongs in {place}: move it there")
    try:
        tables.check(where, kb, KEYS)
    except tables.TableError as error:
        raise CatalogError(str(error)) from None
    if path.parts[0] != "runbooks":
        for key in FOR_RUNBOOKS:
            if key in kb:
                raise CatalogError(f"{where}: `{key}` is for runbooks only")
    if "not_restored" in kb and "leaves" in kb:
        raise CatalogError(
            f"{where}: `not_restored` and `leaves` mean the same: keep `not_restored`"
        )
    if "needs" not in kb:
        raise CatalogError(f"{where}: `needs` is missing: list what it asks of a host, or []")
    for need in kb["needs"]:
        if need not in NEEDS:
            raise CatalogError(f"{where}: unknown need `{need}`{tables.near(need, NEEDS)}")
    for name in kb.get("uses", []):
        _check_used(where, root, path, name)
    _check_found_by(f"{where} found_by", kb.get("found_by", {}), content["cells"])
    if not kb.get("title", "title").strip():
        raise CatalogError(f"{where}: `title` is empty: leave it out, or say a short one")


def _check_found_by(where: str, found_by: dict[str, Any], cells: list[Any]) -> None:
    try:
        tables.check(where, found_by, FOUND_BY)
    except tables.TableError as error:
        raise CatalogError(str(error)) from None
    symptoms = found_by.get("symptoms", {})
    for words in (*found_by.get("tasks", []), *symptoms):
        if not isinstance(words, str) or not words.strip():
            raise CatalogError(f"{where}: it holds words that people type, not `{words}`")
    known = [cell["id"] for cell in cells]
    for words, cell in symptoms.items():
        if cell not in known:
            raise CatalogError(
                f"{where}: `{words}` is cured by the cell `{cell}`, which is not there:"
                " name the id of one of its cells"
            )


def _check_used(where: str, root: Path, path: Path, name: Any) -> None:
    area = path.parent
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
        raise CatalogError(f"{where}: `uses` takes names of files below {area}, not `{name}`")
    if path.with_suffix("") in (area / name).parents:
        raise CatalogError(f"{where}: `uses` names `{name}`, which is its own: leave it out")
    if not (root / area / name).is_file():
        raise CatalogError(
            f"{where}: `uses` names `{name}`, and there is no file {area / name}:"
            " correct the name, or leave it out"
        )
