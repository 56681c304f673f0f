"""What the search can find, and where a hit leads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from corpus import NOTEBOOK, RUNBOOK, Published, mkdocs
from kb.site import search
from kb.site.render import HERE
from playwright.sync_api import Page

# As the registry serves them: the library is used as it is, and its licence stands beside it.
MINISEARCH = {
    "index.js": "0393b3ba253b809d5e55707c7b0875ef9b518a296a006c6739b28876e154edb3",
    "LICENSE.txt": "70d37354d6395629fb99edb28cb37a5d356ffa24a48cd02a5def5b83a300a899",
}


def read(site: Path, kind: str, name: str) -> Any:
    return json.loads((site / "search" / kind / f"{name}.json").read_text(encoding="utf-8"))


def entries(site: Path, url: str, kind: str = "pages") -> dict[str, str]:
    """The text of one page's sections, by anchor."""
    about = read(site, kind, "docs")
    number, page = next((n, page) for n, page in enumerate(about["pages"]) if page["url"] == url)
    anchors = [anchor for of, anchor, _, typed in about["docs"] if of == number and not typed]
    texts = read(site, kind, page["text"])
    assert len(set(anchors)) == len(anchors) == len(texts)
    return dict(zip(anchors, texts, strict=True))


def whole(site: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in site.glob("search/*/*.json"))


def page_of(path: str) -> str:
    return path.removesuffix(".ipynb") + "/"


def test_a_section_holds_its_prose_commands_and_outputs(site: Path) -> None:
    found = entries(site, page_of(RUNBOOK))
    assert set(found) >= {"", "before-you-start", "parameters", "preflight", "steps", "roll-back"}
    assert "official release" in found[""]
    assert "curl -O $url" in found["steps"]
    assert "gopherarchive" in found["steps"]
    assert "how many" in found["parameters"]
    assert "/usr is full: make room" in found["preflight"]


def test_every_line_of_a_page_is_there_once(site: Path) -> None:
    found = entries(site, page_of(RUNBOOK))
    lines = [line for text in found.values() for line in text.split("\n") if line]
    assert len(set(lines)) == len(lines)
    assert not any("%load_ext" in line or "%%" in line for line in lines)


def test_long_outputs_do_not_fill_the_index(site: Path) -> None:
    found = entries(site, "notebooks/serving/untrusted/")
    assert sum(len(text) for text in found.values()) < 20_000
    assert "cellvalue" in "".join(found.values())


def test_a_claim_is_in_an_index_of_its_own_with_what_is_true_and_no_evidence(site: Path) -> None:
    ring = next(page for page in read(site, "claims", "docs")["pages"] if "b2-ring" in page["url"])
    assert (ring["verdict"], ring["title"]) == ("refuted", "The runtime polls through io_uring.")
    assert entries(site, "claims/b2-ring/", "claims")[""].startswith("It polls through epoll.")
    assert "refuted if" not in whole(site)  # what a cell saw
    listed = [page["url"] for page in read(site, "pages", "docs")["pages"]]
    assert not any(url.startswith("claims/b2") for url in listed)
    assert "polls through io_uring" not in "".join(entries(site, page_of(NOTEBOOK)).values())


def test_words_of_what_is_pasted() -> None:
    def found(text: str) -> set[str]:
        return set(search.words(text))

    assert found("-buildvcs=false") == {"buildvcs=false", "buildvcs", "false"}
    assert found("ProtectSystem=strict") >= {"protectsystem=strict", "protectsystem", "system"}
    assert found("status=226/NAMESPACE") >= {"226", "namespace"}
    assert found("~/go/bin:$PATH") >= {"go/bin", "path"}
    assert found("version `GLIBC_2.34' not found") >= {"glibc_2.34", "glibc_2", "glibc", "34"}
    assert found("vm.max_map_count") >= {"max_map_count", "map", "vm.max_map_count"}
    assert list(search.words("推理服务 Go")) == ["推理", "理服", "服务", "go"]
    assert max(map(len, search.words("x" * 39 + ".y" * 50))) == 39  # no word is a whole log
    assert list(search.words("a .*+?^${}()|[]\\ <b>")) == []


def test_the_browser_has_the_same_words(page: Page, url: str, site: Path) -> None:
    text = (
        "-buildvcs=false ~/go/bin 226/NAMESPACE GLIBC_2.34 `vm.max_map_count` ProtectSystem=strict"
        " HTTPServer x509: Zürich 如何安装 Go、服 カタカナ https://a.example/b?c=d&e " + "z.y" * 30
    )
    (engine,) = site.glob("assets/search-*/engine.js")
    page.goto(url)
    script = "([path, text]) => import(path).then((engine) => engine.words(text))"
    there = page.evaluate(script, [url + str(engine.relative_to(site)), text])
    assert sorted(there) == sorted(search.words(text))


def test_the_index_is_as_the_library_would_have_made_it(page: Page, url: str, site: Path) -> None:
    """MiniSearch makes one of the same documents, and gives the same documents the same scores."""
    about = read(site, "pages", "docs")
    documents = []
    for number, (of, _, shown, typed) in enumerate(about["docs"]):
        at = about["pages"][of]
        place = number - at["first"]
        texts = read(site, "pages", at["text"])
        fields = {"found": shown} if typed else {"heading": shown, "text": texts[place]}
        title = at["title"] if place == 0 else ""
        blank = dict.fromkeys(search.FIELDS, "")
        documents.append({**blank, "id": number, "title": title, **fields})
    (engine,) = site.glob("assets/search-*/engine.js")
    page.goto(url)
    differing = page.evaluate(
        """async ([path, library, base, documents]) => {
            const { Index, words } = await import(path);
            const { default: MiniSearch } = await import(library);
            const fields = ["title", "found", "heading", "text"];
            const made = new MiniSearch({ fields, tokenize: words, processTerm: (term) => term });
            made.addAll(documents);
            const index = new Index(new URL(base));
            const differing = [];
            for (const word of ["go", "gopherarchive", "make", "内存", "release", "curl"]) {
                const options = { fields, tokenize: (term) => [term] };
                const piece = word < "a" || word > "{" ? "x" : word[0];
                const read = (await index.engine(piece)).search(word, options);
                const own = made.search(word, options);
                const pairs = (found) => found.map(({ id, score }) => [id, score.toFixed(6)]);
                const [here, there] = [read, own].map((found) => `${pairs(found).sort()}`);
                if (!own.length || here !== there) differing.push([word, here, there]);
            }
            return differing;
        }""",
        [
            url + str(engine.relative_to(site)),
            url + str(engine.parent.relative_to(site)) + "/minisearch-7.2.0/index.js",
            url + "search/pages/",
            documents,
        ],
    )
    assert differing == []


def test_the_library_is_as_it_is_published() -> None:
    place = HERE / "assets/search/minisearch-7.2.0"
    assert {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()
    } == MINISEARCH


def test_chinese_sections_have_anchors_of_their_own(site: Path) -> None:
    assert "推理服务的内存" in entries(site, page_of(NOTEBOOK))


def test_text_before_the_first_heading_belongs_to_the_page() -> None:
    found = search.sections("Title", "<p>before</p><h1 id='t'>Title</h1><p>after</p>", {})
    assert [(one["anchor"], one["text"]) for one in found] == [("", "before\nafter")]


def test_a_page_written_by_hand_is_indexed_too(site: Path) -> None:
    assert "what-the-marks-on-a-page-mean" in entries(site, "run/")
    assert not (site / "search/search_index.json").exists()


def test_a_build_that_changes_nothing_counts_no_words(pair: Published) -> None:
    assert mkdocs(pair.root).returncode == 0
    before = whole(pair.root / "site")
    kept = {path.name for path in (pair.root / "build/cache/site/pages").iterdir()}
    assert mkdocs(pair.root).returncode == 0
    assert whole(pair.root / "site") == before
    assert {path.name for path in (pair.root / "build/cache/site/pages").iterdir()} == kept
