"""This repository's own pages, as published: what a reader meets first, and their weight."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import served
from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
RUNBOOKS = sorted(path.relative_to(ROOT) for path in ROOT.glob("runbooks/*/*.ipynb"))
SCREENS = {"desktop": (1440, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("own") / "site"
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return site


@pytest.fixture(scope="module")
def address(own: Path) -> Iterator[str]:
    with served(own) as url:
        yield url


@pytest.mark.parametrize("screen", SCREENS)
def test_a_runbook_shows_what_to_do_within_a_screen_and_a_half(
    chromium: Browser, address: str, screen: str
) -> None:
    width, height = SCREENS[screen]
    page = chromium.new_page(viewport={"width": width, "height": height})
    late, wide = {}, []
    assert RUNBOOKS
    for path in RUNBOOKS:
        page.goto(f"{address}{path.with_suffix('')}/")
        command = page.locator("h2#what-to-do ~ .highlight code").first
        box = command.bounding_box()
        assert box, path
        if box["y"] + box["height"] > 1.5 * height:
            late[path] = round((box["y"] + box["height"]) / height, 2)
        if command.evaluate("code => code.scrollWidth > code.clientWidth"):
            wide.append(path)
    page.close()
    assert not late, f"screens down to the first command: {late}"
    assert not wide, f"the first command is cut at the edge: {wide}"


def test_a_notebook_begins_with_its_answer(own: Path) -> None:
    for path in sorted(ROOT.glob("notebooks/*/*.ipynb")):
        page = (own / path.relative_to(ROOT).with_suffix("") / "index.html").read_text("utf-8")
        assert page.index("id=in-short") < page.index("kb-head") < page.index("id=before-you-start")


def test_the_pages_are_light(own: Path) -> None:
    heavy = {}
    for path in own.glob("*books/*/*/index.html"):
        raw = path.read_bytes()
        if len(raw) > 100_000 or len(gzip.compress(raw)) > 25_000:
            heavy[str(path.parent.relative_to(own))] = (len(raw), len(gzip.compress(raw)))
    assert not heavy
