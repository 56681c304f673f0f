"""`make site`: a site before anything has run, which takes up what runs as it comes."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from corpus import Published, claim, code, mkdocs, settled, stream, text
from playwright.sync_api import Browser, expect
from project import wait_for

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "ci"))
import live  # noqa: E402 - ci/ is no package
from serve import Server  # noqa: E402

NOTEBOOK = "notebooks/go/limits.ipynb"
PAGE = "notebooks/go/limits/"
RING = claim("b2-ring", verdict="refuted")
# What takes the place of ci/setup.sh, which brings an engine and runs notebooks.
WAITS = """
trap 'echo >>ended; exit 2' INT
touch started-$1
if [[ $1 == engine ]]; then exit; fi
while true; do sleep 0.1; done
"""
TAKEN_UP = (
    60_000  # milliseconds until a page shows what was recorded: seconds, if nobody else is busy
)
Started = Callable[..., "Live"]


class Live:
    """ci/live.py at work in a project."""

    def __init__(self, project: Published, script: str, **environment: str) -> None:
        self.root = project.root
        project.write("ci/setup.sh", f"#!/bin/bash\n{script}\n")
        (self.root / "ci/setup.sh").chmod(0o755)
        given = {"SERVE": "1", "RUN": "1", "PORT": "0", "STARTED": str(time.time()), **environment}
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "ci/live.py"],
            cwd=self.root,
            env=os.environ | given,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def said(self, pattern: str) -> re.Match[str]:
        """Waits for a line that matches."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found
            assert self.process.poll() is None or self.reader.is_alive(), self.lines
            time.sleep(0.05)
        raise AssertionError(f"no line matches {pattern}: {self.lines}")

    @property
    def url(self) -> str:
        return self.said(r"== (http://127\.0\.0\.1:\d+/)  \(first page after \d+ s; ")[1]

    def get(self, path: str = "") -> tuple[int, str]:
        port = int(self.url.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def end(self, number: int = signal.SIGINT) -> int:
        """Sends a signal to this process alone; returns its status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(timeout=60)
        self.reader.join()
        return status


@pytest.fixture
def small(empty: Published) -> Published:
    """A project in which nothing has run, without a git repository around it."""
    empty.notebook(
        NOTEBOOK,
        [
            text("title", "# Limits\n\nWhat a service may open."),
            code("look", "%%observe The limit\nulimit -n"),
            *(text(f"prose-{number}", f"Line {number}.\n\n" * 20) for number in range(5)),
            code("settle", 'settle("a1-files", confirmed=same(bash("ulimit -n"), 1024))'),
            text("last", "## The end\n\nIt is here."),
        ],
    )
    empty.notebook(
        "notebooks/go/other.ipynb",
        [text("title", "# Another\n\nIt looks."), code("settle", 'settle("b2-ring", refuted=1)')],
    )
    empty.ledger("a1", claim("a1-files"), RING)
    return empty


def result(project: Published, limit: str) -> None:
    """What a run of the notebook leaves."""
    outputs = {
        "look": [stream(f"{limit}\n" * 30)],
        "settle": [settled("a1-files", "confirmed", f"confirmed if got `{limit}`")],
    }
    project.ran(NOTEBOOK, outputs)


@pytest.fixture
def start(small: Published) -> Iterator[Started]:
    """Starts ci/live.py; it is ended after the test."""
    begun: list[Live] = []

    def start(script: str = WAITS, **environment: str) -> Live:
        begun.append(Live(small, script, **environment))
        return begun[-1]

    yield start
    for each in begun:
        if each.process.poll() is None:
            each.end()
        assert each.process.stderr is not None
        each.process.stderr.close()


def test_a_result_comes_to_an_open_page_and_leaves_the_rest_of_it_alone(
    start: Started, small: Published, chromium: Browser
) -> None:
    result(small, "1024")
    site = start()
    page = chromium.new_page(viewport={"width": 1200, "height": 700})
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request", lambda request: request.url.startswith(site.url) or errors.append(request.url)
    )
    page.goto(site.url + PAGE)
    page.evaluate("window.marker = 'not loaded again'")
    page.locator("details.kb-host > summary").click()  # it was open
    page.locator("#the-end").scroll_into_view_if_needed()
    place = page.evaluate("scrollY")
    top = page.locator("#the-end").bounding_box()
    assert place > 0 and top

    small.skip(NOTEBOOK, "ubuntu-24.04", "the image cannot be had here")
    expect(page.get_by_text("the image cannot be had here")).to_be_attached(timeout=TAKEN_UP)
    result(small, "4096")
    expect(page.locator("#cell-look .kb-out").first).to_contain_text("4096", timeout=TAKEN_UP)
    assert "1024" not in page.locator("#cell-look").inner_text()
    expect(page.locator("#cell-settle")).to_contain_text("confirmed if got 4096")
    assert page.evaluate("window.marker") == "not loaded again"
    assert page.locator("details.kb-host").get_attribute("open") is None
    now = page.locator("#the-end").bounding_box()
    assert now and abs(now["y"] - top["y"]) < 2, "what is being read has moved"
    assert not errors
    page.close()


def test_a_better_result_closes_no_box_that_is_open(
    start: Started, small: Published, chromium: Browser
) -> None:
    small.ran(NOTEBOOK, {}, host="ubuntu-24.04", failed=("look", "the limit is not known"))
    site = start(RUN="0")
    page = chromium.new_page()
    page.goto(site.url + PAGE)
    boxes = page.locator("details.kb-host[open]")
    expect(boxes).to_have_count(1)
    expect(boxes).to_contain_text("ubuntu-24.04")
    result(small, "4096")  # the box that a page opens by itself, and the first one
    expect(boxes).to_have_count(2, timeout=TAKEN_UP)
    expect(boxes.first).to_contain_text("debian-13")
    expect(boxes.last).to_contain_text("ubuntu-24.04")
    page.close()


def test_the_ledger_keeps_its_filter_and_a_claim_takes_up_what_was_seen(
    start: Started, small: Published, chromium: Browser
) -> None:
    site = start()
    ledger, claim = chromium.new_page(), chromium.new_page()
    ledger.goto(site.url + "claims/")
    ledger.get_by_label("Text").fill("files")
    expect(ledger.locator(".kb-count")).to_have_text("1 of 2 claims")
    claim.goto(site.url + "claims/a1-files/")
    expect(claim.locator("article")).not_to_contain_text("debian-13")
    result(small, "1024")
    expect(claim.locator("article")).to_contain_text("debian-13", timeout=TAKEN_UP)
    assert ledger.get_by_label("Text").input_value() == "files"
    expect(ledger.locator(".kb-count")).to_have_text("1 of 2 claims")
    ledger.close()
    claim.close()


def test_a_changed_notebook_is_loaded_anew(
    start: Started, small: Published, chromium: Browser
) -> None:
    site = start(RUN="0")
    page = chromium.new_page()
    page.goto(site.url + PAGE)
    small.notebook(NOTEBOOK, [text("title", "# Other limits"), code("look", "print('other')")])
    small.ledger("a1", RING)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Other limits", timeout=TAKEN_UP)
    expect(page.locator("#cell-look button").first).to_be_attached()  # the theme's, to copy it
    page.close()


def test_without_scripts_a_reload_shows_a_result(
    start: Started, small: Published, chromium: Browser
) -> None:
    site = start()
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url + PAGE)
    expect(page.locator(".kb-head")).to_contain_text("Never run")
    result(small, "4096")
    wait_for(lambda: "4096" in site.get(PAGE)[1])
    page.reload()
    expect(page.locator("#cell-look .kb-out").first).to_contain_text("4096")
    expect(page.locator(".kb-head")).not_to_contain_text("Never run")
    context.close()


def test_the_runs_are_ended_cleanly_and_an_open_page_says_so(
    start: Started, small: Published, chromium: Browser
) -> None:
    site = start()
    page = chromium.new_page()
    page.goto(site.url + PAGE)
    wait_for((small.root / "started-run").exists)
    assert site.end() == 130
    assert site.lines[-1] == "== ended: site/ is whole, and shows what has run"
    assert (small.root / "ended").read_text() == "\n", "the runs hear of it once"
    assert (small.root / "site/index.html").exists()
    expect(page.get_by_text("make site has ended: this is what")).to_be_visible(timeout=TAKEN_UP)
    expect(page.locator("#the-end")).to_be_attached()
    page.close()


def test_the_runs_do_not_keep_it_from_ending(start: Started, small: Published) -> None:
    site = start("trap '' INT; touch started-$1; [[ $1 == engine ]] || sleep 60")
    wait_for((small.root / "started-run").exists)
    site.process.send_signal(signal.SIGTERM)
    site.said("ending the runs")
    assert site.end() == 130


def test_a_set_up_that_fails_leaves_the_site(start: Started, small: Published) -> None:
    site = start("touch started-$1; echo 'error: There is no engine.' >&2; exit 1")
    site.said("nothing was run, for the set-up failed")
    assert site.get()[0] == 200
    result(small, "1024")  # of a `make run` elsewhere
    wait_for(lambda: "Never run" not in site.get(PAGE)[1])
    assert site.end() == 1
    assert not (small.root / "started-run").exists()
    order = [line.partition("//")[0].partition(",")[0] for line in site.lines]
    assert order == ["== http:", "error: There is no engine.", "== nothing was run"]


@pytest.mark.parametrize("failed", [0, 2])
def test_it_says_in_the_end_whether_all_passed(start: Started, failed: int) -> None:
    site = start(f"[[ $1 == engine ]] || exit {failed}")
    site.said("not every notebook passed" if failed else "the runs have ended")
    assert site.get()[0] == 200
    assert site.end() == failed


def test_nothing_runs_where_that_is_not_wanted(start: Started, small: Published) -> None:
    site = start(RUN="0")
    assert site.get()[0] == 200
    assert site.end() == 0
    assert not list(small.root.glob("started-*"))


def test_without_a_server_it_builds_runs_and_builds(start: Started, small: Published) -> None:
    result(small, "4096")
    record = next((small.root / "build/runs").rglob("*.ipynb"))
    kept = record.rename(small.root / "kept")
    page = "site/notebooks/go/limits/index.html"
    comes = f"mkdir -p {record.parent}; cp {page} before; mv {kept} {record}; exit 2"
    site = start(f"[[ $1 == engine ]] && exit; {comes}", SERVE="0")
    assert site.wait() == 2
    assert site.lines == [
        "== not every notebook passed: see the table above",
        "== the site is in site/",
    ]
    assert "Never run" in (small.root / "before").read_text()
    assert "4096" in (small.root / page).read_text()


def test_a_site_that_cannot_be_built_leaves_the_one_before(
    start: Started, small: Published
) -> None:
    site = start(RUN="0")
    before = site.get()
    original = (small.root / NOTEBOOK).read_bytes()
    small.write(NOTEBOOK, "{")
    sentence = site.said(r"error: The site could not be built, so the one before stays: (.*)")
    assert NOTEBOOK in sentence[1]
    assert site.get()[1].partition("<script src=")[0] == before[1].partition("<script src=")[0]
    small.write(NOTEBOOK, original)
    result(small, "4096")
    wait_for(lambda: "4096" in site.get(PAGE)[1])
    assert len([line for line in site.lines if line.startswith("error")]) == 1
    assert site.end() == 0


def test_a_first_site_that_cannot_be_built_ends_it(start: Started, small: Published) -> None:
    small.write(NOTEBOOK, "{")
    site = start()
    assert site.wait() == 1
    assert site.lines[0].startswith("error: The site could not be built: ")
    assert not (small.root / "site").exists()


def test_an_earlier_site_is_served_where_none_can_be_built(
    start: Started, small: Published
) -> None:
    small.write("site/index.html", "an earlier one")
    small.write(NOTEBOOK, "{")
    site = start(RUN="0")
    assert site.get()[1].startswith("an earlier one")
    assert site.lines[0].startswith("error: The site could not be built, so the one before stays: ")
    assert site.end() == 1


def test_a_disk_that_fills_leaves_the_site_that_is_served(start: Started, small: Published) -> None:
    site = start(RUN="0")
    assert site.get(PAGE)[0] == 200
    # The kernel refuses to write more; a full disk has another number.
    resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    result(small, "4096")
    sentence = site.said("error: The site could not be built, so the one before stays: (.*)")
    assert "File too large" in sentence[1]
    assert [line for line in site.lines if "Traceback" in line] == []
    assert "Never run" in site.get(PAGE)[1]
    assert (small.root / "site/search/pages/docs.json").stat().st_size > 1000
    assert not (small.root / "build/site.new").exists()
    assert site.end() == 1


def test_a_published_site_asks_for_nothing(small: Published) -> None:
    assert mkdocs(small.root).returncode == 0
    for page in (small.root / "site").rglob("*.html"):
        assert "kb-live" not in page.read_text(encoding="utf-8")


def test_there_is_a_whole_site_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stop = threading.Event()
    missing: list[int] = []

    def look() -> None:
        while not stop.is_set():
            try:
                assert Path("site/index.html").read_text()
            except FileNotFoundError as error:
                missing.append(error.errno or 0)

    for number in range(300):
        live.NEW.mkdir(parents=True)
        (live.NEW / "index.html").write_text(str(number))
        live.swap()
        if number == 0:
            reader = threading.Thread(target=look)
            reader.start()
        assert Path("site/index.html").read_text() == str(number)
        if live.NEW.exists():
            live.NEW.rename(tmp_path / str(number))
    stop.set()
    reader.join()
    assert not missing


def test_a_file_system_that_cannot_exchange_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Libc:
        def renameat2(self, *arguments: object) -> int:
            return -1

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live.ctypes, "CDLL", lambda name: Libc())
    for content in ("old", "new"):
        live.NEW.mkdir(parents=True)
        (live.NEW / "index.html").write_text(content)
        live.swap()
    assert Path("site/index.html").read_text() == "new"
    assert not live.NEW.exists() and not live.OLD.exists()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text("home")
    (tmp_path / "404.html").write_text("no such page")
    (tmp_path / "data.json").write_text("{}")
    with Server(tmp_path, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/", 200, "home<script src="),
        ("/?q=1", 200, "home<script src="),
        ("/data.json", 200, "{}"),
        ("/nothing/", 404, "no such page<script src="),
        ("/../../etc/passwd", 404, "no such page<script src="),
        ("/kb-live/live.js", 200, "/* In a page"),
    ],
)
def test_what_is_served(served: Server, path: str, status: int, body: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=10)
    for method in ("HEAD", "GET"):
        connection.request(method, path)
        answer = connection.getresponse()
        content = answer.read().decode()
        assert (answer.status, answer.headers["Cache-Control"]) == (status, "no-cache")
        assert content.startswith(body) if method == "GET" else not content
    connection.close()


def test_all_that_a_page_asks_for_at_once_has_a_place(tmp_path: Path) -> None:
    with Server(tmp_path, 0) as server, contextlib.ExitStack() as kept:  # which serves nobody yet
        for _ in range(64):
            kept.enter_context(socket.create_connection(server.server_address, timeout=0.9))


def test_a_port_that_was_taken_meanwhile(served: Server, start: Started) -> None:
    site = start(PORT=str(served.server_port))
    assert site.wait() == 1
    assert site.lines == [
        f"error: Port {served.server_port} of 127.0.0.1 is taken: stop what listens there,"
        f" or choose another one (make site PORT={served.server_port + 1})."
    ]
