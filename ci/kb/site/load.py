"""Reads notebooks, records and claims from the project, and joins what they tell."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

from kb.proof import areas, catalog, claims, records
from kb.proof.tables import TableError
from kb.site import cells
from kb.site.cache import digest
from kb.site.model import ClaimView, HostView, NotebookView, Seen, Settled, Site, Stage, ordered


def load(root: Path) -> Site:
    """Reads all there is to publish. Raises PluginError: one sentence with file and place."""
    try:
        notebooks = catalog.find(root)
        recorded = claims.load(root)
        claims.check_cited(recorded, notebooks)
        described = areas.find(root)
    except (TableError, claims.ClaimsError) as error:
        raise PluginError(str(error)) from error
    by_notebook: dict[str, list[records.Run]] = defaultdict(list)
    for run in records.load_all(root):
        by_notebook[run.notebook].append(run)
    skips = _skips(root)
    by_claim = {claim.id: claim for claim in recorded}
    views = [
        _view(root, notebook, by_notebook[str(notebook.path)], skips[str(notebook.path)], by_claim)
        for notebook in notebooks
    ]
    return Site(
        notebooks=tuple(views),
        claims=_claims(recorded, list(zip(notebooks, views, strict=True))),
        hosts=_hosts(root),
        areas=described,
    )


def _view(
    root: Path,
    notebook: catalog.Notebook,
    its_runs: Iterable[records.Run],
    skips: Mapping[str, str],
    by_claim: Mapping[str, claims.Claim],
) -> NotebookView:
    stages: dict[str, dict[str, Stage]] = defaultdict(dict)
    for run in its_runs:
        stages[run.host][run.stage] = _stage(run, notebook)
    hosts = [HostView(host, notebook.stages, found) for host, found in stages.items()]
    hosts += [
        HostView(host, notebook.stages, skipped=reason)
        for host, reason in skips.items()
        if host not in stages
    ]
    path = str(notebook.path)
    return NotebookView(
        path=path,
        kind=notebook.kind,
        area=notebook.area,
        name=notebook.name,
        title=notebook.title,
        summary=notebook.summary,
        needs=tuple(notebook.needs),
        parameters=tuple(notebook.parameters),
        cells=tuple(cells.read(notebook.content)),
        hosts=ordered(hosts),
        beside=tuple(map(str, notebook.beside)),
        digest=digest(
            path,
            (root / path).read_bytes(),
            *(stage.digest for host in ordered(hosts) for stage in host.stages.values()),
            *(f"{host.name} {host.skipped}" for host in ordered(hosts)),
            *(repr(by_claim[claim]) for claim in notebook.settles),
        ),
    )


def _stage(run: records.Run, notebook: catalog.Notebook) -> Stage:
    fresh = not run.is_stale(notebook)
    return Stage(
        name=run.stage,
        record=run.metadata,
        cells={cell.id: cell for cell in cells.read(run.content)},
        fresh=fresh,
        digest=digest(str(fresh), run.path.read_bytes()),
    )


def _skips(root: Path) -> dict[str, dict[str, str]]:
    """By notebook and host: why it was not run there."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    try:
        for (notebook, host), skip in records.skips(root).items():
            found[notebook][host] = skip["reason"]
    except (ValueError, KeyError, TypeError):
        raise PluginError("build/runs: a *.skipped.json is damaged: remove it, run again") from None
    return found


def _claims(
    recorded: Iterable[claims.Claim],
    notebooks: Iterable[tuple[catalog.Notebook, NotebookView]],
) -> tuple[ClaimView, ...]:
    settled: dict[str, list[Settled]] = defaultdict(list)
    for notebook, view in notebooks:
        seen = _seen(view)
        for claim, cell in notebook.settles.items():
            settled[claim].append(Settled(view, cell, tuple(seen[claim])))
    return tuple(ClaimView(claim, tuple(settled[claim.id])) for claim in recorded)


def _seen(view: NotebookView) -> dict[str, list[Seen]]:
    """By claim: what the runs of a notebook settled; flips show another world and do not count."""
    seen: dict[str, list[Seen]] = defaultdict(list)
    for host in view.hosts:
        stage = host.main
        if stage is None or stage.name == "flip":
            continue
        content = {
            "cells": [{"id": cell.id, "outputs": cell.outputs} for cell in stage.cells.values()]
        }
        for found in claims.settled_in(content):
            seen[found.claim].append(
                Seen(host.name, stage, found.verdict, found.evidence, tuple(found.saw))
            )
    return seen


def _hosts(root: Path) -> dict[str, dict[str, Any]]:
    """`ci/hosts.toml` as it stands; `kb.proof.hosts` checks it."""
    path = root / "ci" / "hosts.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise PluginError(f"ci/hosts.toml: not TOML: {error}") from None
