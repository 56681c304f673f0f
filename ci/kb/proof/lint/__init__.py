"""The lint of notebooks: what is checked without executing anything.

``python -m kb.proof.lint [FILE...]`` says of each notebook, or of all of them, what breaks a rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kb.proof import catalog, claims
from kb.proof.catalog import Notebook
from kb.proof.format import canonical
from kb.proof.lint import shell
from kb.proof.lint.rules import AREA_RULES, RULES


def check(root: Path, paths: Iterable[Path]) -> Iterator[str]:
    """What is amiss in the notebooks at ``paths``, relative to ``root``, one sentence each."""
    for path in paths:
        try:
            notebook = catalog.read(root, path)
        except catalog.CatalogError as error:
            yield str(error)
            continue
        yield from check_notebook(notebook)


def check_notebook(notebook: Notebook) -> Iterator[str]:
    """Its form, its style, and the bash in it, in its cases and in its scripts."""
    text = (notebook.root / notebook.path).read_text(encoding="utf-8")
    if text != canonical(text):
        yield f"{notebook.path}: not in the committed format: run `make fmt`"
    for rule in RULES:
        for problem in rule(notebook):
            yield f"{notebook.path}: {problem}"
    yield from shell.check_cells(notebook)
    yield from shell.check_setups(notebook)
    scripts = [path for path in notebook.files if shell.is_shell(notebook.root / path)]
    yield from shell.check_scripts(notebook.root, scripts)


def check_claims(root: Path) -> Iterator[str]:
    """What the recorded claims lack, one sentence each."""
    try:
        yield from claims.unflipped(claims.load(root), catalog.find(root))
    except (catalog.CatalogError, claims.ClaimsError) as error:
        yield str(error)


def check_areas(root: Path) -> Iterator[str]:
    """What is amiss in the areas' folders, one sentence each."""
    try:
        notebooks = catalog.find(root)
    except catalog.CatalogError as error:
        yield str(error)
        return
    for rule in AREA_RULES:
        for area in sorted({notebook.path.parent for notebook in notebooks}):
            inside = [notebook for notebook in notebooks if notebook.path.parent == area]
            yield from rule(root, area, inside)
