"""A misshapen record costs its own page, whatever is odd about it: the rest is published."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corpus import Published
from kb.proof import records
from kb.site import ledger, load
from kb.site.body import BodyBuilder
from kb.site.render import Templates

ROUNDS = int(os.environ.get("MUTATIONS", "150"))  # of each seed; the long round has thousands
ODD: list[Any] = [
    None, True, 0, -1, 1e308, "", "x", "\ud800", "<script>", [], {}, [1], {"a": 1}, [[]], [None],
    {"": None}, "9" * 5000, float("nan"), ["x", 1], {"name": {}},
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something could be odd."""
    if at:
        yield at
    inside: Any = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for key, below in inside:
        yield from places(below, (*at, key))


def mutated(content: Any, chance: random.Random) -> None:
    """Make one thing in a record odd."""
    *way, last = chance.choice(list(places(content)))
    inside = content
    for key in way:
        inside = inside[key]
    what = chance.random()
    if what < 0.15 and isinstance(inside, dict):
        del inside[last]
    elif what < 0.2 and isinstance(inside, list):
        inside.append(copy.deepcopy(chance.choice(ODD)))
    else:
        inside[last] = copy.deepcopy(chance.choice(ODD))


def publish(root: Path, templates: Templates) -> None:
    """Everything that a build makes of records, without MkDocs around it."""
    site = load.load(root)
    claims = {view.claim.id: view for view in site.claims}
    ledger.as_json(site)
    for view in site.notebooks:
        BodyBuilder(view, claims, templates, lambda _, suffix: f"x{suffix}", str).build()
        assert view.status
    listed = {"hosts": site.host_summaries(), "standing": site.standing()}
    templates.render("hosts.html", link=str, rejected=site.rejected, **listed)
    templates.render("recent.html", link=str, runs=site.recent(8))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_misshapen_record_ends_no_build(seed: int, pair: Published, tmp_path: Path) -> None:
    chance = random.Random(seed)  # noqa: S311 - not for security
    targets = sorted((pair.root / "build/runs").rglob("*.ipynb"))
    titles = {"go": "Go", "systemd": "systemd", "serving": "Serving"}
    templates = Templates(tmp_path, titles, None, {})
    publish(pair.root, templates)
    for _ in range(ROUNDS):
        target = chance.choice(targets)
        before = target.read_text()
        content = json.loads(before)
        mutated(content, chance)
        try:
            text = records.sealed(content)  # somebody who knows how seals are made
        except (KeyError, TypeError, AssertionError):
            text = json.dumps(content)
        target.write_text(text)
        publish(pair.root, templates)
        target.write_text(before)
