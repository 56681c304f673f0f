"""Reads notebooks, records and claims from the project, and joins what they tell."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from pymdownx.slugs import slugify

from kb.proof import areas, catalog, claims, hosts, records, rollouts
from kb.proof.records import Run
from kb.proof.tables import TableError
from kb.runtime.record import source
from kb.site import cells
from kb.site.cache import digest
from kb.site.model import (
    ClaimView,
    Fleet,
    HostResult,
    NotebookView,
    Seen,
    SettlingCell,
    Site,
    StageRun,
    Symptom,
    ordered,
)

# Of Markdown, links and strong words: in a list of pages they are plain words.
_LINK = re.compile(r"\[([^\]]+)\]\([^()]*\)")
_STRONG = re.compile(r"\*\*([^*]+)\*\*")
_HEADING = re.compile(r"(?m)^#{2,6} (.+)$")
_SLUG = slugify(case="lower")


def load(root: Path) -> Site:
    """Reads all there is to publish. Raises PluginError: one sentence with file and place."""
    try:
        notebooks = catalog.find(root)
        recorded = claims.load(root)
        claims.check_cited(recorded, notebooks)
        described = areas.find(root)
        listed = hosts.load(root) if (root / "ci/hosts.toml").is_file() else {}
    except (TableError, claims.ClaimsError, hosts.HostError) as error:
        raise PluginError(str(error)) from error
    found = records.load(root)
    rolled_out, damaged = rollouts.load(root)
    by_claim = {claim.id: claim for claim in recorded}
    views = [_view(root, notebook, found, by_claim) for notebook in notebooks]
    return Site(
        notebooks=tuple(views),
        claims=_claims(recorded, list(zip(notebooks, views, strict=True))),
        hosts=listed,
        areas=described,
        rejected={str(path): why for path, why in sorted({**found.rejected, **damaged}.items())},
        fleets=tuple(
            Fleet(rolled_out[name])
            for view in views
            if (name := view.path.removesuffix(".ipynb")) in rolled_out
        ),
    )


def _view(
    root: Path,
    notebook: catalog.Notebook,
    found: records.Records,
    by_claim: Mapping[str, claims.Claim],
) -> NotebookView:
    path = str(notebook.path)

    def stage_runs(of: Mapping[tuple[str, str], Mapping[str, Run]], host: str) -> Any:
        runs = of.get((path, host), {})
        return {
            stage: _stage(run, notebook, older=of is found.older) for stage, run in runs.items()
        }

    ran_on = sorted(host for of, host in found.newest if of == path)
    results = [
        HostResult(
            host, notebook.stages, stage_runs(found.newest, host), stage_runs(found.older, host)
        )
        for host in ran_on
    ]
    results += [
        HostResult(host, notebook.stages, skipped=reason)
        for host, reason in found.skips[path].items()
        if host not in ran_on
    ]
    hosts_in_order = ordered(results)
    return NotebookView(
        path=path,
        kind=notebook.kind,
        area=notebook.area,
        name=notebook.name,
        title=notebook.title,
        short_title=notebook.short_title,
        tasks=tuple(notebook.tasks),
        symptoms=_symptoms(notebook),
        summary=_STRONG.sub(r"\1", _LINK.sub(r"\1", notebook.summary)),
        needs=tuple(notebook.needs),
        parameters=tuple(notebook.parameters),
        cells=tuple(cells.read(notebook.content)),
        hosts=hosts_in_order,
        beside=tuple(map(str, notebook.beside)),
        files=_texts(root, notebook),
        digest=digest(
            path,
            (root / path).read_bytes(),
            *(
                run.digest
                for host in hosts_in_order
                for run in (*host.stages.values(), *host.older.values())
            ),
            *(f"{host.name} {host.skipped}" for host in hosts_in_order),
            *(repr(by_claim[claim]) for claim in notebook.settles),
            # The archive on the page has each of them, with its right to be run.
            *(
                part
                for file in notebook.beside
                for part in (
                    str(file),
                    str(os.access(root / file, os.X_OK)),
                    (root / file).read_bytes(),
                )
            ),
        ),
    )


def _texts(root: Path, notebook: catalog.Notebook) -> dict[str, str]:
    """The files beside a notebook that are text, by path from its directory."""
    found = {}
    for path in notebook.beside:
        content = (root / path).read_bytes()
        try:
            found[str(path.relative_to(notebook.path.parent))] = content.decode("utf-8")
        except ValueError:  # a program; or a file of another directory, which cells do not name
            continue
    return found


def _symptoms(notebook: catalog.Notebook) -> tuple[Symptom, ...]:
    """Each symptom with an anchor of the page: of a heading, or of the next cell of code."""
    anchors: dict[str, str] = {}
    following = ""
    for cell in reversed(notebook.cells):
        heading = _HEADING.search(source(cell)) if cell["cell_type"] == "markdown" else None
        if cell["cell_type"] == "code":
            following = f"cell-{cell['id']}"
        anchors[cell["id"]] = str(_SLUG(heading[1], "-")) if heading else following
    found = [Symptom(words, anchors[cell]) for words, cell in notebook.symptoms.items()]
    return tuple(sorted(found, key=lambda symptom: not symptom.is_english))


def _stage(run: Run, notebook: catalog.Notebook, *, older: bool) -> StageRun:
    fresh = not run.is_stale(notebook)
    # What the steps did; after the reboot they only found it done.
    before = run.metadata.get("before_reboot")
    printed = before if isinstance(before, dict) else {}
    return StageRun(
        name=run.stage,
        record={"kb": "", "commit": None, "dirty": False, "state": None, **run.metadata},
        cells={
            cell.id: replace(cell, outputs=_whole(printed[cell.id]) + cell.outputs)
            if cell.id in printed
            else cell
            for cell in cells.read(run.content)
        },
        fresh=fresh,
        digest=digest(str(fresh), str(run.committed), str(older), run.metadata["seal"]),
        committed=run.committed,
        older=older,
    )


def _whole(outputs: object) -> list[dict[str, Any]]:
    """Outputs as they stand in a record, which nobody vouches for."""
    return [o for o in outputs if isinstance(o, dict)] if isinstance(outputs, list) else []


def _claims(
    recorded: Iterable[claims.Claim],
    notebooks: Iterable[tuple[catalog.Notebook, NotebookView]],
) -> tuple[ClaimView, ...]:
    settled: dict[str, list[SettlingCell]] = defaultdict(list)
    becomes: dict[str, list[str]] = defaultdict(list)
    for notebook, view in notebooks:
        seen = _seen(view)
        for case in notebook.flips:
            becomes[case["claim"]].append(case["becomes"])
        for claim, cell in notebook.settles.items():
            settled[claim].append(SettlingCell(view, cell, tuple(seen[claim])))
    return tuple(
        ClaimView(claim, tuple(settled[claim.id]), tuple(dict.fromkeys(becomes[claim.id])))
        for claim in recorded
    )


def _seen(view: NotebookView) -> dict[str, list[Seen]]:
    """By claim: what the runs of a notebook settled; flips show another world and do not count."""
    seen: dict[str, list[Seen]] = defaultdict(list)
    for host in view.hosts:
        for run in (host.stages.get("run"), host.older.get("run")):
            if run is None:
                continue
            content = {
                "cells": [{"id": cell.id, "outputs": cell.outputs} for cell in run.cells.values()]
            }
            for found in claims.settled_in(content):
                seen[found.claim].append(
                    Seen(host.name, run, found.verdict, found.evidence, tuple(found.saw))
                )
    return seen
