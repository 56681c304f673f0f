"""The built site in a real browser. Console errors and foreign requests fail every test, too."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from browser import served
from corpus import NOTEBOOK, RUNBOOK, UNTRUSTED, Published, mkdocs
from kb.site.cells import read
from papermill import cli as papermill
from playwright.sync_api import Browser, BrowserContext, Page, expect

PAGES = (
    "",
    "symptoms/",
    "run/",
    "hosts/",
    "verdicts/",
    "write/",
    "areas/go/",
    "claims/",
    "claims/b2-ring/",
)
NOTEBOOKS = (
    RUNBOOK,
    NOTEBOOK,
    UNTRUSTED,
    "notebooks/systemd/never.ipynb",
    "notebooks/systemd/stale.ipynb",
)


def page_of(path: str) -> str:
    return path.removesuffix(".ipynb") + "/"


@pytest.mark.parametrize("path", [*PAGES, *map(page_of, NOTEBOOKS)])
def test_pages_load_from_here_alone_and_fit_on_a_phone(page: Page, url: str, path: str) -> None:
    answer = page.goto(url + path)
    assert answer and answer.ok
    page.wait_for_load_state("networkidle")
    page.set_viewport_size({"width": 390, "height": 844})
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390


def search(page: Page, url: str, query: str) -> list[str]:
    """Types a query into the search and returns the addresses of what it finds, best first."""
    page.goto(url)
    page.wait_for_load_state("networkidle")
    page.keyboard.press("/")
    expect(page.locator("input.md-search__input")).to_be_focused()
    page.keyboard.insert_text(query)
    found = page.locator(".kb-found a.md-search-result__link")
    expect(found.first).to_be_attached(timeout=30_000)
    page.wait_for_load_state("networkidle")
    # All at once: the list may still be changing.
    hrefs: list[str] = found.evaluate_all("links => links.map(link => link.href)")
    return hrefs


@pytest.mark.parametrize(
    ("query", "path", "anchor"),
    [
        ("gopherarchive", RUNBOOK, "steps"),
        ("zebrafiles", NOTEBOOK, "wo-es-hakt"),
        ("make room", RUNBOOK, "preflight"),
        ("深度学习", NOTEBOOK, "推理服务的内存"),
        ("服务的内存", NOTEBOOK, "推理服务的内存"),
    ],
)
def test_search_finds_text_and_lands_on_its_section(
    page: Page, url: str, query: str, path: str, anchor: str
) -> None:
    hits = [unquote(hit) for hit in search(page, url, query)]
    assert hits[0] == f"{url}{page_of(path)}#{anchor}", hits
    expect(page.locator(".kb-hit-text mark").first).to_be_visible()  # the words around it
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(f"[id='{anchor}']")).to_be_in_viewport()


def test_whoever_comes_from_a_symptom_is_told_so(page: Page, url: str) -> None:
    assert search(page, url, "sudo: go: command not found")[0].endswith(
        "install/?saw=go%3A+command+not+found#cell-verify"
    )
    page.goto(url + "symptoms/")
    page.get_by_role("link", name="tar: no room left").click()
    note = page.get_by_text("You are here because you saw")
    expect(note).to_be_in_viewport()
    expect(note.locator("q")).to_have_text("tar: no room left")
    expect(page.locator("#steps")).to_be_in_viewport()
    page.goto(f"{url}{page_of(RUNBOOK)}?saw=<img src=x onerror=window.harmed=1>#steps")
    expect(note.locator("q")).to_have_text("<img src=x onerror=window.harmed=1>")
    assert page.evaluate("window.harmed") is None


def test_a_claim_comes_after_pages_with_its_verdict_first(page: Page, url: str) -> None:
    search(page, url, "runtime polls io_uring service")
    rows = page.locator(".kb-found > li")
    expect(page.locator(".kb-found-group")).to_contain_text("all 2")
    kinds = rows.evaluate_all("rows => rows.map(row => row.className.split(' ').at(-1))")
    assert kinds.index("kb-found-group") == kinds.count("md-search-result__item") > 0
    claim = page.locator(".kb-hit-claim").first
    assert claim.inner_text().split("\n") == [
        "refuted",
        "The runtime polls through io_uring.",
        "It polls through epoll.",
    ]


@pytest.mark.parametrize(
    "query",
    [
        "go " * 1700,
        ".*+?^${}()|[]\\ (?:(a+)+)+$",
        "<img src=x onerror=window.harmed=1>",
        "\0 \u2028 %00",
    ],
    ids=["5000 characters", "regular expression", "HTML", "control characters"],
)
def test_no_query_breaks_the_search(page: Page, url: str, query: str) -> None:
    page.goto(url)
    box = page.locator("input.md-search__input")
    box.fill(query)
    said = page.locator(".md-search-result__meta")
    expect(said).to_have_text(re.compile(r"^\d+ pages?$|No page has these words|Type what"))
    assert page.evaluate("window.harmed") is None
    box.fill("gopherarchive")
    expect(page.locator(".kb-found a").first).to_have_attribute("href", re.compile("#steps$"))
    page.keyboard.press("Escape")
    expect(page.locator("#__search")).not_to_be_checked()


def test_the_box_of_the_home_page_is_the_one_of_the_header(page: Page, url: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(url)
    page.locator(".kb-ask input").click()
    page.keyboard.type("install go")
    expect(page.locator("input.md-search__input")).to_have_value("install go")
    expect(page.locator(".kb-found a").first).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.wait_for_url("**/runbooks/go/install/**")


def test_a_search_that_cannot_load_says_so(context: BrowserContext, url: str) -> None:
    page = context.new_page()
    page.route("**/search/**", lambda route: route.abort())
    page.goto(url)
    page.locator("input.md-search__input").fill("go")
    expect(page.locator(".md-search-result__meta")).to_contain_text("check the connection")
    page.unroute("**/search/**")
    page.locator("input.md-search__input").fill("gopherarchive")
    expect(page.locator(".kb-found a").first).to_be_attached()


def command(page: Page) -> str:
    return page.locator("form.kb-command code[aria-live]").inner_text()


def test_the_command_is_built_by_keyboard(page: Page, url: str) -> None:
    page.goto(url + page_of(RUNBOOK))
    assert command(page) == f"papermill {RUNBOOK} plan.ipynb -p mode plan"
    page.get_by_label("mode", exact=True).focus()
    page.keyboard.press("a")  # selects the option that begins with it
    page.keyboard.press("Tab")
    page.keyboard.press("Control+a")
    page.keyboard.type("1.27")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+a")
    page.keyboard.type("4")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert command(page) == (
        f"papermill {RUNBOOK} apply.ipynb -p mode apply -r go_version 1.27 -p workers 4"
        ' -p switch False -r mirror_token "$MIRROR_TOKEN"'
    )


@pytest.mark.parametrize(
    "value",
    ["1.26.5", "1.30", "7", "1e5", ".5", "1_0", " 3 ", "nan", "-inf", "True", "false", "None",
     "null", "a b", "it's", "$(reboot)", "`x`", "\"; rm -rf /", "-p", "", "ä", "\\", "*"],
)  # fmt: skip
def test_papermill_reads_from_the_command_what_was_typed(
    page: Page, url: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.goto(url + page_of(RUNBOOK))
    page.get_by_label("go_version").fill(value)
    words = shlex.split(command(page))
    read: dict[str, object] = {}
    monkeypatch.setattr(papermill, "execute_notebook", lambda **given: read.update(given))
    papermill.papermill(words[1:], standalone_mode=False)
    assert read["parameters"]["go_version"] == value


def test_a_wrong_number_is_named_and_not_passed(page: Page, url: str) -> None:
    page.goto(url + page_of(RUNBOOK))
    page.get_by_label("workers").fill("2.5")
    assert command(page).startswith("# workers:")


def test_fields_are_whole_and_the_command_is_in_sight_while_they_change(
    page: Page, url: str
) -> None:
    page.set_viewport_size({"width": 390, "height": 600})
    page.goto(url + page_of(RUNBOOK))
    field = page.get_by_label("go_version")
    field.fill("AF_UNIX AF_INET AF_INET6")
    assert field.evaluate("field => field.scrollWidth <= field.clientWidth")
    assert field.evaluate("field => getComputedStyle(field).borderTopStyle") == "solid"
    expect(page.locator("form.kb-command code[aria-live]")).to_be_in_viewport()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".kb-state")).to_be_in_viewport()
    expect(page.locator(".kb-state")).to_contain_text("Passed")
    expect(page.locator(".kb-state time")).to_be_visible()


def test_proofs_are_folded_and_an_address_opens_one(page: Page, url: str) -> None:
    page.goto(url + page_of(RUNBOOK))
    expect(page.locator("#cell-download pre").first).to_be_visible()
    expect(page.locator("#cell-verify pre").first).to_be_hidden()
    page.goto(url + page_of(RUNBOOK) + "#cell-verify")
    expect(page.locator("#cell-verify pre").first).to_be_visible()


def test_copying_a_cell_gives_the_bash_alone(
    context: BrowserContext, page: Page, url: str, site: Path
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
    page.goto(url + page_of(RUNBOOK))
    block = page.locator("#cell-download .highlight")
    block.hover()
    block.locator("button").first.click()
    notebook = json.loads((site / page_of(RUNBOOK) / "install.ipynb").read_text(encoding="utf-8"))
    code = next(cell.code for cell in read(notebook) if cell.id == "download")
    assert page.evaluate("navigator.clipboard.readText()").strip() == code


def test_the_ledger_is_filtered_and_opened_by_keyboard(page: Page, url: str) -> None:
    page.goto(url + "claims/")
    expect(page.locator(".kb-count")).to_have_text("2 of 2 claims")
    page.get_by_label("Text").focus()
    page.keyboard.type("epoll")
    expect(page.locator(".kb-count")).to_have_text("1 of 2 claims")
    assert page.url.endswith("?q=epoll")
    page.keyboard.press("Tab")
    page.keyboard.press("r")  # refuted
    assert page.url.endswith("?q=epoll&verdict=refuted")
    row = page.locator(".kb-row")
    assert row.inner_text().split("\n") == [
        "refuted The runtime polls through io_uring.",
        "It polls through epoll.",
    ]
    page.reload()
    expect(page.locator(".kb-count")).to_have_text("1 of 2 claims")
    page.get_by_label("Source").focus()
    for _ in range(2):  # the button, the row
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/claims/b2-ring/")
    page.get_by_role("link", name="Limits of a service, cell settle-ring").press("Enter")
    page.wait_for_url("**/limits/#cell-settle-ring")
    expect(page.locator("#cell-settle-ring .kb-verdict--refuted")).to_be_in_viewport()


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?verdict=confirmed", 1),
        ("?source=B", 1),
        ("?area=go", 2),
        ("?q=IO_Uring", 1),
        ("?q=zzz", 0),
    ],
)
def test_an_address_keeps_a_filter(page: Page, url: str, query: str, left: int) -> None:
    page.goto(url + "claims/" + query)
    expect(page.locator(".kb-count")).to_have_text(f"{left} of 2 claims")
    expect(page.locator(".kb-row:visible")).to_have_count(left)


def test_an_address_of_a_row_leads_to_the_claim(page: Page, url: str) -> None:
    page.goto(url + "claims/#b2-ring")
    page.wait_for_url("**/claims/b2-ring/")


def test_without_scripts_the_ledger_is_a_list_and_the_command_stands(
    chromium: Browser, url: str
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url + "claims/")
    expect(page.locator(".kb-filter")).to_be_hidden()
    page.get_by_role("link", name="Source A §1").click()
    expect(page.locator(".kb-row")).to_have_count(2)
    expect(page.locator("#b2-ring")).to_contain_text("It polls through epoll.")
    page.goto(url + page_of(RUNBOOK))
    assert command(page) == f"papermill {RUNBOOK} plan.ipynb -p mode plan"
    page.goto(url)
    page.locator(".kb-ask input").fill("anything")
    page.keyboard.press("Enter")
    page.wait_for_url("**/symptoms/**")
    page.get_by_role("link", name="go: command not found").click()
    expect(page.locator("#cell-verify")).to_be_in_viewport()
    context.close()


def test_a_site_works_below_a_prefix(chromium: Browser, tmp_path: Path, project: Published) -> None:
    address = "/docs/noble runbooks/"
    below = tmp_path / address.strip("/")
    with served(tmp_path) as url:
        base = url + quote(address.strip("/")) + "/"
        built = mkdocs(project.root, "--site-dir", str(below), SITE_URL=base)
        assert built.returncode == 0, built.stderr
        page = chromium.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        hits = search(page, base, "gopherarchive")
        assert hits[0] == f"{base}{page_of(RUNBOOK)}#steps"
        page.goto(f"{base}claims/b2-ring/")
        review = json.loads(page.locator("script[type='application/ld+json']").inner_text())
        assert review["url"] == f"{base}claims/b2-ring/"
        lost = (below / "404.html").read_text(encoding="utf-8")
        page.route(
            "**/no/such/page",
            lambda route: route.fulfill(status=404, body=lost, content_type="text/html"),
        )
        page.goto(f"{base}no/such/page")
        colour = page.locator(".md-header").evaluate(
            "head => getComputedStyle(head).backgroundColor"
        )
        assert colour != "rgba(0, 0, 0, 0)"  # it has its style
        page.close()
    assert all(one.startswith((base, "data:")) for one in asked), asked


def test_untrusted_outputs_do_no_harm(page: Page, url: str) -> None:
    page.goto(url + page_of(UNTRUSTED))
    page.wait_for_load_state("networkidle")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.get_by_text("cellvalue").click()
    page.get_by_text("go", exact=True).click()
    assert page.evaluate("window.harmed") is None
    expect(page.get_by_text("Still here.")).to_be_visible()
    assert page.locator("#after").count() == 0
    drawing = page.locator("#cell-drawing img")
    drawing.scroll_into_view_if_needed()
    expect(drawing).to_have_js_property("naturalWidth", 50)
    # The file by itself, where a browser would run a script in it.
    page.goto(url + page_of(UNTRUSTED) + str(drawing.get_attribute("src")))
    assert page.evaluate("window.harmed") is None


def test_pictures_are_shown(page: Page, url: str) -> None:
    page.goto(url + page_of(NOTEBOOK))
    picture = page.locator("#cell-plot img")
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("naturalWidth", 40)


def luminance(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system(page: Page, url: str, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(url + page_of(RUNBOOK))
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    text = page.evaluate("getComputedStyle(document.querySelector('.kb-out')).color")
    assert (luminance(background) < 0.3) == (scheme == "dark")
    assert abs(luminance(background) - luminance(text)) > 0.4


def test_on_paper_everything_is_open(page: Page, url: str) -> None:
    page.goto(url + page_of(RUNBOOK))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    closed = page.locator("article details:not([open])")
    expect(closed).to_have_count(0)
    expect(page.locator(".md-header")).to_be_hidden()
