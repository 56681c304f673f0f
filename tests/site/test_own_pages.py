"""This repository's own pages, as published: what a reader meets first, and their weight."""

from __future__ import annotations

import gzip
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import served
from kb.proof import catalog
from playwright.sync_api import Browser, Page

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


def test_home_names_a_symptom_once(own: Path) -> None:
    home = (own / "index.html").read_text("utf-8")
    shown = re.findall(r"\?saw=([^#]+)#", home)
    assert shown and len(shown) == len(set(shown))


def test_the_pages_are_light(own: Path) -> None:
    heavy = {}
    for path in own.glob("*books/*/*/index.html"):
        raw = path.read_bytes()
        if len(raw) > 100_000 or len(gzip.compress(raw)) > 25_000:
            heavy[str(path.parent.relative_to(own))] = (len(raw), len(gzip.compress(raw)))
    assert not heavy


# Pages, best first, for each query: what the search box shows, without the typing.
ASK = """async ([engine, base, queries]) => {
    const { Index } = await import(engine);
    const index = new Index(new URL(base));
    const found = [];
    for (const query of queries) {
        const { ranked } = await index.refine(await index.search(query));
        found.push(ranked.slice(0, 10).map((page) => page.url));
    }
    return found;
}"""


def score(page: Page, address: str, own: Path, wanted: list[tuple[str, set[str]]]) -> list[int]:
    """The rank of the page that each query is to find; 11 if it is not among the first ten."""
    (engine,) = own.glob("assets/search-*/engine.js")
    queries = [query for query, _ in wanted]
    given = [address + str(engine.relative_to(own)), f"{address}search/pages/", queries]
    ranks = []
    for (_, pages), found in zip(wanted, page.evaluate(ASK, given), strict=True):
        ranks.append(next((at for at, url in enumerate(found, 1) if url in pages), 11))
    first, three = (sum(rank <= best for rank in ranks) / len(ranks) for best in (1, 3))
    print(f"{len(ranks)} queries: first {first:.0%}, in the first three {three:.0%}")
    return ranks


@pytest.fixture
def browser_page(chromium: Browser, address: str) -> Iterator[Page]:
    page = chromium.new_page()
    page.goto(address)
    yield page
    page.close()


def test_every_notebook_is_found_by_what_people_type(
    browser_page: Page, address: str, own: Path
) -> None:
    wanted = [
        (words, {f"{notebook.path.with_suffix('')}/"})
        for notebook in catalog.find(ROOT)
        for words in (*notebook.tasks, *notebook.symptoms)
    ]
    ranks = score(browser_page, address, own, wanted)
    # Several pages may cure one symptom.
    late = [query for (query, _), rank in zip(wanted, ranks, strict=True) if rank > 3]
    assert not late


def test_queries_that_are_in_no_notebook_find_their_page(
    browser_page: Page, address: str, own: Path
) -> None:
    lines = Path(__file__).with_name("queries.tsv").read_text(encoding="utf-8").splitlines()
    wanted = [(query, set(urls.split("|"))) for query, urls in (line.split("\t") for line in lines)]
    ranks = score(browser_page, address, own, wanted)
    assert [query for (query, _), rank in zip(wanted, ranks, strict=True) if rank > 3] == []
    assert ranks.count(1) / len(ranks) >= 0.85


def test_what_two_pages_know_leads_to_the_one_that_cures_it(
    browser_page: Page, address: str, own: Path
) -> None:
    wanted = {
        "version GLIBC_2.38 not found": "runbooks/go/cgo-portable/",
        "CUDA driver is a stub library": "runbooks/cuda/repair-abi/",
    }
    ranks = score(browser_page, address, own, [(query, {url}) for query, url in wanted.items()])
    assert dict(zip(wanted, ranks, strict=True)) == dict.fromkeys(wanted, 1)


# Milliseconds from a key to the first result that it brings, or to its copy beside the box.
WAIT = """(searching) => {
    const times = (window.times = []);
    let list = document.querySelector(".kb-found");
    let begun;
    let box = document.querySelector("input.md-search__input");
    if (!searching) {
        box = document.createElement("input");
        list = document.createElement("ol");
        document.querySelector("article").prepend(box, list);
        const copy = () => (list.innerHTML = "<li>" + box.value);
        box.addEventListener("input", () => setTimeout(copy));
        box.focus();
    }
    box.addEventListener("input", () => (begun = performance.now()), true);
    new MutationObserver(() => {
        if (begun && list.childElementCount) times.push(performance.now() - begun);
        begun = undefined;
    }).observe(list, { childList: true });
}"""


def test_the_first_result_comes_within_100_ms_on_a_slow_phone(
    chromium: Browser, address: str
) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.evaluate(WAIT, False)
    page.keyboard.type("install go on ubuntu", delay=250)
    copied = statistics.median(page.evaluate("window.times"))
    if copied > 50:
        pytest.skip(f"a box that only copies a key takes {copied:.0f} ms on this machine")
    page.evaluate(WAIT, True)
    page.locator(".kb-ask input").click()
    page.wait_for_load_state("networkidle")
    medians: list[float] = []
    while len(medians) < 3 and min(medians, default=100) >= 100:  # a neighbour only adds to it
        page.keyboard.type("install go on ubuntu", delay=250)
        page.wait_for_timeout(500)
        times = page.evaluate("window.times.splice(0)")
        print(f"from a key to its first result: {[round(time) for time in times]} ms")
        assert len(times) >= 10
        medians.append(statistics.median(times))
        page.keyboard.press("Control+A")
        page.keyboard.press("Backspace")
        page.wait_for_timeout(500)
        page.evaluate("window.times.splice(0)")
    context.close()
    assert min(medians) < 100


def test_no_page_is_wider_than_a_phone(chromium: Browser, address: str) -> None:
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    wide = []
    for notebook in catalog.find(ROOT):
        page.goto(f"{address}{notebook.path.with_suffix('')}/")
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            wide.append(str(notebook.path))
    page.close()
    assert wide == []


def test_the_index_comes_in_pieces(chromium: Browser, address: str) -> None:
    page = chromium.new_page()
    sizes: list[int] = []
    page.on(
        "response",
        # As the site's host sends them.
        lambda answer: (
            sizes.append(len(gzip.compress(answer.body()))) if "/search/" in answer.url else None
        ),
    )
    page.goto(address)
    page.wait_for_load_state("networkidle")
    assert sizes == []  # whoever does not search loads nothing
    page.locator("input.md-search__input").click()
    page.keyboard.type("GOMEMLIMIT")
    page.locator(".kb-hit-claim").first.wait_for()
    page.close()
    assert len(sizes) > 3 and max(sizes) < 80_000
    print(f"{len(sizes)} pieces, {sum(sizes) // 1000} kB, the largest {max(sizes) // 1000} kB")
