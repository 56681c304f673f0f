"""A small project with something of everything, its site, and a browser that minds its manners."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Manners, launched, served
from corpus import (
    NOTEBOOK,
    RUNBOOK,
    UNTRUSTED,
    Published,
    claim,
    code,
    mime,
    mkdocs,
    png_text,
    prepared,
    settled,
    stream,
    text,
)
from kb.runtime.matrix import MIME as MATRIX
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    sync_playwright,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def empty(tmp_path: Path) -> Published:
    """A project without notebooks."""
    return prepared(tmp_path / "empty")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A project with a site in `site/`. Tests must not change it."""
    project = prepared(tmp_path_factory.mktemp("project") / "whole")
    write_runbook(project)
    write_notebook(project)
    write_untrusted(project)
    write_others(project)
    built = mkdocs(project.root)
    assert built.returncode == 0, built.stderr
    return project


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A project with a runbook and a notebook, for the tests of one module to change."""
    project = prepared(tmp_path_factory.mktemp("pair") / "project")
    write_runbook(project)
    write_notebook(project)
    return project


def write_runbook(project: Published) -> None:
    project.notebook(
        RUNBOOK,
        [
            text("title", "# Install Go\n\nPuts an official release on a host."),
            text(
                "before",
                "## Before you start\n\nSee [the limits](../../" + NOTEBOOK + "#Wo-es-hakt).",
            ),
            code("setup", "%load_ext kb", "setup"),
            text("parameters-text", "## Parameters"),
            code(
                "parameters",
                'mode: str = "plan"  # plan, apply or rollback\n'
                'go_version: str = "1.26.6"  # the release\n'
                "workers: int = 2  # how many\n"
                "ratio: float = 0.5  # of the memory\n"
                "switch: bool = True  # use it\n"
                'mirror_token: str = ""  # for the mirror',
                "parameters",
            ),
            text("preflight-text", "## Preflight"),
            code("preflight-space", "%%preflight Enough room\ndf --output=avail /usr"),
            text("steps", "## Steps"),
            code(
                "download",
                "%%apply Fetch the archive\n# changes: /opt/go  the tree\ncurl -O $url\n",
            ),
            code("verify", "%%verify A login shell finds it\ngo version"),
            text("rollback-text", "## Roll back"),
            code("rollback", "%%rollback Put everything back\nkb-restore"),
        ],
        needs=["root"],
        found_by={
            "tasks": ["install go", "安装 Go"],
            "symptoms": {"go: command not found": "verify", "tar: no room left": "steps"},
        },
    )
    case = '[[broken]]\ncell = "preflight-space"\nmessage = "make room"\n'
    project.write("runbooks/go/install/ci/cases.toml", case)
    project.write("runbooks/go/install/ci/prepare.sh", "true\n")
    project.write("runbooks/go/install/lib.sh", "true\n")
    outputs = {
        "preflight-space": [stream("Avail\n20000\n")],
        "download": [stream("10%\r100%\nchanged: fetched the gopherarchive\n")],
        "verify": [stream("\x1b[32mgo version go1.26.6\x1b[0m\n")],
        "rollback": [stream("restored /opt/go\n")],
    }
    for stage in ("apply", "again"):
        project.ran(RUNBOOK, outputs, stage=stage, parameters={"go_version": "1.26.6"})
    project.ran(RUNBOOK, {"download": [stream("would create /opt/go\n")]}, stage="plan")
    project.ran(RUNBOOK, {"rollback": outputs["rollback"]}, stage="rollback")
    project.ran(
        RUNBOOK,
        {},
        stage="killed",
        seed=7,
        killed=[
            {"cell": "download", "after": after, "then": then, "passed": True, "message": ""}
            for after, then in ((2.25, "apply"), (0.5, "apply"), (1.0, "rollback"))
        ],
    )
    project.ran(
        RUNBOOK,
        {},
        stage="broken",
        broken=[
            {
                "cell": "preflight-space",
                "says": "make room",
                "passed": True,
                "message": "/usr is full: make room",
            }
        ],
    )
    project.ran(
        RUNBOOK,
        outputs,
        stage="apply",
        host="ubuntu-24.04",
        failed=("download", "curl -O $url failed at line 2 with status 6"),
    )
    project.skip(RUNBOOK, "ubuntu-24.04-gpu", "the image cannot be had here")


def write_notebook(project: Published) -> None:
    project.notebook(
        NOTEBOOK,
        [
            text("title", "# Limits of a service\n\nWhat a service may open."),
            text("where", f"## Wo es hakt\n\nAfter the [installation](../../{RUNBOOK}#Preflight)."),
            code("look", "%%observe The limit\nulimit -n"),
            text("chinese", "## 推理服务的内存\n\n我们在服务器上使用深度学习框架进行在线推理。"),
            code("settle-files", 'settle("a1-files", confirmed=same(bash("ulimit -n"), 1024))'),
            code("settle-ring", 'settle("b2-ring", refuted=same(1, 1))'),
            code("plot", "plot()"),
            code("releases", "matrix('Go release', seen)"),
        ],
    )
    project.ran(
        NOTEBOOK,
        {
            "look": [stream("1024 zebrafiles\n")],
            "settle-files": [settled("a1-files", "confirmed", "confirmed if got `1024`")],
            "settle-ring": [settled("b2-ring", "refuted", "refuted if got `epoll`")],
            "plot": [mime("image/png", png_text(width=40, height=30))],
            "releases": [
                mime(
                    MATRIX,
                    {
                        "over": "Go release",
                        "columns": ["1.21", "1.22"],
                        "rows": {"loops": ["old", "new"]},
                    },
                ),
                mime(MATRIX, ["release"]),
                mime(MATRIX, {"over": "display", "columns": ["a"], "rows": {"screen": ["none"]}}),
            ],
        },
    )
    project.ledger(
        "a1",
        claim("a1-files", says="A service may open `1024` files.", truth="1024 is the soft limit."),
        claim(
            "b2-ring",
            source="B §2.1",
            says="The runtime polls through io_uring.",
            verdict="refuted",
            truth="It polls through epoll.",
            instead="Measure `epoll_pwait`.",
        ),
    )


def write_untrusted(project: Published) -> None:
    attack = "<script>window.harmed = 1</script>"
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="50" height="20" onload="window.harmed=1">'
        '<script>window.harmed=1</script><rect width="50" height="20"/>'
        '<image href="http://elsewhere.example/x.png"/></svg>'
    )
    project.notebook(
        UNTRUSTED,
        [
            text("title", "# Untrusted outputs\n\nThey do no harm."),
            code("html", "1"),
            code("drawing", "2"),
            code("script", "3"),
            code("long", "4"),
            code("binary", "5"),
            code("false-verdict", "6"),
            text("after", "## The end\n\nStill here."),
        ],
    )
    html = (
        f"<h1 id='after'>head</h1>{attack}<style>body{{display:none}}</style>"
        "<table class='md-header'><tr><td onclick='window.harmed=1'>cellvalue</td></tr></table>"
        "<img src='http://elsewhere.example/y.png' onerror='window.harmed=1'>"
        "<iframe src='http://elsewhere.example/'></iframe>"
        "<a href='javascript:window.harmed=1'>go</a>"
        "<form action='http://elsewhere.example/'><input name='q'></form></div></section></article>"
    )
    project.ran(
        UNTRUSTED,
        {
            "html": [mime("text/html", html)],
            "drawing": [mime("image/svg+xml", drawing)],
            "script": [mime("application/javascript", "window.harmed = 1")],
            "long": [stream("a line that says nothing new\n" * 700_000)],
            "binary": [
                stream("\x00\x01\x1b]8;;http://elsewhere.example\x07link\x1b]8;;\x07\ud800 end")
            ],
            "false-verdict": [settled(attack, attack, attack)],
        },
    )


def write_others(project: Published) -> None:
    for name in ("never", "stale"):
        project.notebook(
            f"notebooks/systemd/{name}.ipynb",
            [text("title", f"# A notebook {name} run\n\nIt looks."), code("look", "print('new')")],
        )
    project.ran(
        "notebooks/systemd/stale.ipynb",
        {"look": [stream("old\n")]},
        changed={"look": "print('old')"},
    )


@pytest.fixture(scope="session")
def site(project: Published) -> Path:
    """The built site."""
    return project.root / "site"


@pytest.fixture(scope="session")
def url(site: Path) -> Iterator[str]:
    """Where the site is served."""
    with served(site) as address:
        yield address


# Not for the session: playwright keeps an event loop running, and other tests bring their own.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, url: str) -> Iterator[Page]:
    """A page of the browser. The test fails if it logs an error or asks another origin."""
    manners = Manners()
    page = context.new_page()
    manners.watch(page, url)
    yield page
    assert manners == Manners()
