"""Drawings from outputs: what is published of them draws, at once, and asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Manners, served
from corpus import code, mime, mkdocs, prepared, text
from kb.site import svg
from playwright.sync_api import Browser

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:h="http://www.w3.org/1999/xhtml">{}</svg>'
ALL = "<rect width='500' height='500' fill='red' {}/>"
ELSEWHERE = [
    "<style>a{}<g/>@import url(http://e/x.css);</style>",
    "<style>a{}<g/><![CDATA[@import 'http://e/x.css';]]></style>",
    "<style><![CDATA[a{}</style><style>@import 'http://e/x.css';]]></style>",
    "<style>a{}<!-- x -->@im<!-- y -->port 'http://e/x.css';</style>",
    "<style>@font-face{font-family:e;src:url(http://e/)}</style>",
    "<style>@media all{rect{fill:url(http://e/)}}</style>",
    "<style>rect{cursor:image-set('http://e/' 1x)}</style>",
    "<style>rect{fill:\\75rl(http://e/)}</style>",
    "<style>rect{--e:url(http://e/);fill:var(--e)}</style>",
    "<style>rect{background:src('http://e/')}</style>",
    "<style>rect{a{fill:url(http://e/)}}</style>",
    "<style>x:is(url(http://e/)){fill:red}</style>",
    "<h:style>@import 'http://e/x.css';</h:style>",
    "<h:image href='http://e/'/>",
    "<rect style=\"cursor:image-set('http://e/' 1x)\"/>",
    "<rect style='fill:u\\72l(http://e/)'/>",
    "<rect fill='url( \"http://e/#g\" )'/>",
    "<rect mask='u\\72l(http://e/#g)'/>",
    "<rect style='fill:url(http://e/'/>",
    "<g xml:base='http://e/'><rect fill='url(#g)'/></g>",
    "<image href='http://e/'/>",
    "<use href='http://e/#a'/>",
]


def nested(link: str, define: str = "<g id='{name}'>{inside}</g>", depth: int = 20) -> str:
    """A drawing in which each level has the one below twice."""
    levels = ["<rect id='n0' width='500' height='500'/>"]
    for level in range(1, depth):
        inside = link.format(target=f"n{level - 1}") * 2
        levels.append(define.format(name=f"n{level}", inside=inside))
    return SVG.format(f"<defs>{''.join(levels)}</defs>{link.format(target=f'n{depth - 1}')}")


CLIPPED = ALL.format("clip-path='url(#{target})'"), "<clipPath id='{name}'>{inside}</clipPath>"
FADED = "<use href='#{target}' opacity='.9'/>"
REFUSED = {
    "text": "no drawing",
    "no namespace": "<svg>without a namespace</svg>",
    "entities": SVG.replace("<svg", '<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg', 1).format("&a;"),
    "a tower": SVG.format("<g>" * 50_000 + "</g>" * 50_000),
    "a book": " " * (svg.LARGEST + 1),
    "uses": nested("<use href='#{target}'/>"),
    "symbols": nested("<use href='#{target}'/>", "<symbol id='{name}'>{inside}</symbol>"),
    "patterns": nested("<rect fill='url(#{target})'/>", "<pattern id='{name}'>{inside}</pattern>"),
    "masks": nested("<rect style=\"mask:url('#{target}')\"/>", "<mask id='{name}'>{inside}</mask>"),
    "clips": nested(*CLIPPED, depth=14),
    "faded uses": nested(FADED, depth=14),
    "escaped names": nested("<rect fill='url(#%6E{target})'/>").replace("#%6En", "#%6E"),
    "a circle": SVG.format("<g id='a'><use href='#a'/></g>"),
    "a crowd": SVG.format("<rect/>" * (svg.MOST + 1)),
    "rules": SVG.format(f"<style>{'g g rect{fill:red}' * 20_000}</style>{'<rect/>' * 30_000}"),
}
BLUR = "<filter id='f'><feGaussianBlur stdDeviation='500'/></filter>"
# What may be published, and takes as long as anything may.
HEAVY = {
    "blurs": SVG.format(BLUR + ALL.format("filter='url(#f)'") * 90).replace("500'", "20000'"),
    "uses": nested("<use href='#{target}'/>", depth=14),
    "clips": nested(*CLIPPED, depth=12),
    "faded uses": nested(FADED, depth=11),
    "faded groups": SVG.format("<g opacity='.5'>" * 900 + ALL.format("") + "</g>" * 900),
    "faded by a sheet": SVG.format(
        f"<style>g{{opacity:.5}}</style>{'<g>' * 900}{ALL.format('')}{'</g>' * 900}"
    ),
    "long selectors": SVG.format(
        f"<style>{'g g g g g g b rect{fill:red}' * 900}</style>"
        + f"{'<g>' * 200}{'<rect/>' * 4000}{'</g>' * 200}"
    ),
    "dashes": SVG.format("<path d='M0 0L500 500' stroke='red' stroke-dasharray='.0001'/>" * 5000),
    "marks": SVG.format("<path id='m'/>" + "<use href='#m' clip-path='url(#c)'/>" * 20_000),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_drawing_that_harms_is_refused(what: str) -> None:
    assert svg.clean(REFUSED[what]) is None


@pytest.mark.parametrize("inside", ELSEWHERE)
def test_a_drawing_names_nothing_elsewhere(inside: str) -> None:
    kept = svg.clean(SVG.format(inside))
    assert kept is not None
    assert b"http://e" not in kept


@pytest.mark.parametrize("what", HEAVY)
def test_a_drawing_may_be_large(what: str) -> None:
    assert svg.clean(HEAVY[what]) is not None


def test_a_drawing_keeps_its_style() -> None:
    kept = svg.clean(
        SVG.format(
            "<style type='text/css'>*{stroke-linejoin: round} .a > b{fill:rgb(1, 2, 3)}</style>"
            "<g transform='translate(1, 2) rotate(3)' style='fill: url(#g); stroke: #fff'>"
            "<text font-family=\"'DejaVu Sans', serif\">f(x) = (y)</text>"
            "<rect clip-path='url(#c)' fill='hsl(1 2% 3%)'/></g>"
        )
    )
    assert kept is not None
    for part in (
        "*{stroke-linejoin: round}",
        ".a &gt; b{fill:rgb(1, 2, 3)}",
        "translate(1, 2) rotate(3)",
        "fill: url(#g);stroke: #fff",
        "'DejaVu Sans', serif",
        "f(x) = (y)",
        'clip-path="url(#c)"',
        "hsl(1 2% 3%)",
    ):
        assert part in kept.decode()


# In a browser.


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A site with a page that has all of them, and where it is served."""
    project = prepared(tmp_path_factory.mktemp("drawings"))
    sources = [*map(SVG.format, ELSEWHERE), *REFUSED.values(), *HEAVY.values()]
    cells = [code(f"drawing-{number}", "draw()") for number in range(len(sources))]
    project.notebook("notebooks/a/x.ipynb", [text("title", "# Drawings\n\nAll."), *cells])
    outputs = {
        cell["id"]: [mime("image/svg+xml", source)]
        for cell, source in zip(cells, sources, strict=True)
    }
    project.ran("notebooks/a/x.ipynb", outputs)
    built = mkdocs(project.root)
    assert built.returncode == 0, built.stderr
    with served(project.root / "site") as url:
        yield project.root / "site", url


SOON = 30_000.0  # milliseconds, on a machine that is busy; what hangs takes minutes


def opened(chromium: Browser, url: str, address: str) -> list[str]:
    """Opens an address until all of it is drawn; what it asked of others."""
    manners = Manners()
    with chromium.new_context() as context, context.new_page() as page:
        page.set_default_timeout(SOON)
        manners.watch(page, url)
        page.goto(url + address)
        for image in page.locator("img").all():
            image.scroll_into_view_if_needed()
        page.screenshot()
    return manners.elsewhere


def test_a_page_of_drawings_is_there_soon(chromium: Browser, drawings: tuple[Path, str]) -> None:
    assert opened(chromium, drawings[1], "notebooks/a/x/") == []


def test_a_drawing_that_is_opened_by_itself(chromium: Browser, drawings: tuple[Path, str]) -> None:
    site, url = drawings
    files = sorted(site.rglob("assets/outputs/*.svg"))
    assert len(files) > len(HEAVY)
    for file in files:
        assert opened(chromium, url, str(file.relative_to(site))) == [], file.read_text()[:500]


def test_a_drawing_that_nobody_cleaned(chromium: Browser, tmp_path: Path) -> None:
    """What the browser does otherwise, so that the tests above can fail."""
    (tmp_path / "x.svg").write_text(SVG.format("<image href='http://e.example/'/>"))
    with served(tmp_path) as url:
        assert opened(chromium, url, "x.svg") == ["http://e.example/"]
