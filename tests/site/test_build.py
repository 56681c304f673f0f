"""The built site: what stands on its pages, and what a build says when something is wrong."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import yaml
from corpus import (
    NOTEBOOK,
    RUNBOOK,
    UNTRUSTED,
    Published,
    claim,
    code,
    mkdocs,
    settled,
    stream,
    text,
)
from golden import Told
from jinja2 import FileSystemLoader
from kb.site import plugin
from kb.site.plugin import VisibleFiles

ROOT = Path(__file__).parents[2]
A = "notebooks/go/a.ipynb"


def html(root: Path, path: str) -> str:
    """The page of a notebook, the quotes back that it was published without."""
    page = root / "site" / path.removesuffix(".ipynb") / "index.html"
    return re.sub(
        r"<[a-z][^>]*>",
        lambda tag: re.sub(r"""(\s[\w-]+)=([^\s"'>]+)""", r'\1="\2"', tag[0]),
        page.read_text(encoding="utf-8"),
    )


def cell(page: str, identity: str) -> str:
    """The block of one cell, its tags left in."""
    return page.split(f'id="cell-{identity}"')[1].split("</section>", maxsplit=1)[0]


def words(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def test_every_notebook_has_a_page_and_a_download(project: Published, site: Path) -> None:
    notebooks = [
        path.relative_to(project.root)
        for kind in ("runbooks", "notebooks")
        for path in (project.root / kind).glob("*/*.ipynb")
    ]
    assert len(notebooks) == 5
    for path in notebooks:
        assert f'href="{path.name}"' in html(project.root, str(path))
        assert (site / path.with_suffix("") / path.name).is_file()


def test_what_a_person_needs_is_published_and_nothing_of_ci(site: Path) -> None:
    folder = site / "runbooks/go/install"
    assert (folder / "lib.sh").is_file()
    assert not (folder / "ci").exists()


def test_an_area_is_called_what_its_file_says(project: Published) -> None:
    page = words(html(project.root, "areas/go"))
    assert "GO" in page and "All on go." in page and "Maintained by @maintainers." in page
    assert '<h3><a href="areas/go/">GO</a></h3>' in html(project.root, "")


def test_the_head_says_result_time_host_and_versions(project: Published) -> None:
    page = html(project.root, RUNBOOK)
    head = words(page.split('class="kb-head"')[1].split('id="before-you-start"')[0])
    assert "Passed on debian-13 22 Nov 2026, 03:04 UTC" in head
    assert "plan passed" in head and "fails safely passed" in head
    kills = "2.2 s into download and 0.5 s into download , then applied again and rolled back;"
    assert f"{kills} 1.0 s into download , then rolled back at once ( --seed 7 )" in head
    assert "Debian GNU/Linux 13 (trixie), kernel 6.12.48, container" in head
    assert "glibc 2.41, Python 3.13.5, kb 0.1.0" in head
    assert "go_version=1.26.6" in head
    assert "Needs root" in head
    assert '<time datetime="2026-11-22T03:04:05Z">' in page


def test_a_page_leads_to_the_form_where_the_repository_is_known(
    project: Published, empty: Published
) -> None:
    assert "Not so on your host?" not in html(project.root, RUNBOOK)
    config = empty.root / "mkdocs.yml"
    config.write_text(f"{config.read_text()}\nrepo_url: https://example.org/us/books/\n")
    empty.notebook(RUNBOOK, [text("title", "# Install Go\n\nIt does.")])
    assert mkdocs(empty.root).returncode == 0
    [link] = re.findall(r'href="([^"]*issues[^"]*)"', html(empty.root, RUNBOOK))
    address, _, query = unescape(link).partition("?")
    assert address == "https://example.org/us/books/issues/new"
    asked = dict(parse_qsl(query))
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / asked.pop("template")).read_text())
    assert asked.pop("path") == RUNBOOK
    assert {"path", "record"} <= {part.get("id") for part in form["body"]}
    assert not asked


def test_other_hosts_are_on_the_page_with_what_went_wrong(project: Published) -> None:
    page = html(project.root, RUNBOOK)
    assert page.index("<strong>debian-13</strong>") < page.index("<strong>ubuntu-24.04</strong>")
    head = words(page.split('class="kb-head"')[1].split('id="before-you-start"')[0])
    assert "Failed on ubuntu-24.04" in head
    assert "Apply failed curl -O $url failed at line 2 with status 6 Cell download" in head
    assert "Not run here: plan, idempotent, rollback, survives a kill, fails safely." in head
    assert "Skipped on ubuntu-24.04-gpu : the image cannot be had here" in head


def test_bash_cells_are_bash(project: Published) -> None:
    page = html(project.root, RUNBOOK)
    download = cell(page, "download")
    assert 'class="kb-kind">apply</span> Fetch the archive' in download
    assert "%%apply" not in page and "load_ext" not in page
    copied = words(download.split("<code>")[1].split("</code>")[0])
    assert copied == "# changes: /opt/go the tree curl -O $url"


def test_a_cell_shows_the_run_that_tells_most_of_it(project: Published) -> None:
    page = html(project.root, RUNBOOK)
    first, others = cell(page, "download").split("Other runs:")
    assert "apply on debian-13" in first and "gopherarchive" in first and "10%" not in first
    assert "plan on debian-13" in others and "would create /opt/go" in others
    assert "apply on ubuntu-24.04" in others
    assert "rollback on debian-13" in cell(page, "rollback")
    assert "When this check fails" in cell(page, "preflight-space")
    assert "/usr is full: make room" in cell(page, "preflight-space")


def test_a_step_shows_what_it_did_before_a_reboot(empty: Published) -> None:
    cells = [text("title", "# A\n\nB."), code("step", "%%apply It is raised\nraise")]
    empty.notebook("runbooks/go/a.ipynb", cells)
    printed = {"step": [stream("changed: raised\n")]}
    empty.ran("runbooks/go/a.ipynb", {}, stage="apply", before_reboot=printed)
    assert mkdocs(empty.root).returncode == 0
    step = words(cell(html(empty.root, "runbooks/go/a.ipynb"), "step"))
    assert "changed: raised" in step and "no output" not in step


def test_a_failed_page_says_at_its_top_what_failed_and_what_that_means(empty: Published) -> None:
    cells = [text("title", "# A\n\nB."), text("answer", "## What to do\n\nThis.")]
    empty.notebook("runbooks/go/a.ipynb", [*cells, code("step", "%%apply It is raised\nraise")])
    empty.ran("runbooks/go/a.ipynb", {}, stage="apply", failed=("step", "no room"))
    assert mkdocs(empty.root).returncode == 0
    top = words(html(empty.root, "runbooks/go/a.ipynb").split("What to do")[-2].split("<h1")[-1])
    assert "Failed on debian-13 22 Nov 2026" in top
    assert "Apply failed on debian-13, in cell step : no room" in top
    # The minifier takes away a space between two elements that it does not take for words.
    box = html(empty.root, "runbooks/go/a.ipynb").split('class="kb-head"')[1]
    assert "Apply failed</strong> <span>no room</span> <a" in box
    assert "What that means The steps stopped there" in top


def test_the_answer_of_a_notebook_has_the_verdicts_on_record(empty: Published) -> None:
    small(empty)
    answer = "## In short\n\n- [It is `so`](#a1-x): yes.\n- See [how](../../docs/run.md)."
    cells = [text("title", "# A\n\nB."), text("answer", answer), *empty.cells[A][1:]]
    empty.notebook(A, cells)
    empty.ledger("a1", claim("a1-x", verdict="refuted"))
    assert mkdocs(empty.root).returncode == 0
    page = html(empty.root, A)
    [point] = re.findall(r"<li>(.*?): yes", page)
    assert words(point) == "refuted It is so"
    assert 'href="#cell-look"' in point and 'href="../../../run/"' in page


def test_what_a_source_is_can_be_looked_up_where_it_is_first_met(empty: Published) -> None:
    about = text("title", "# A\n\nA post (source A §1) says it. Source A is wrong.")
    empty.notebook(A, [about, text("more", "## More\n\nWhat source A says.")])
    assert mkdocs(empty.root).returncode == 0
    links = re.findall(r'<a href="([^"]*the-sources)">(.*?)</a>', html(empty.root, A))
    assert links == [("../../../verdicts/#the-sources", "source A")]


def test_what_a_cell_calls_is_folded_out_once(empty: Published) -> None:
    source = '. "$KB_HERE/a/lib.sh"\nput x'
    cells = [code("first", f"%%apply One\n{source}"), code("second", f"%%apply Two\n{source}")]
    empty.notebook("runbooks/go/a.ipynb", [text("title", "# A\n\nB."), *cells])
    empty.write("runbooks/go/a/lib.sh", "put() {\n    mv here there\n}\n")
    assert mkdocs(empty.root).returncode == 0
    page = html(empty.root, "runbooks/go/a.ipynb")
    assert "mv here there" in cell(page, "first").split("What <code>put</code> does")[1]
    assert 'href="#does-lib-sh-put"' in cell(page, "second")
    assert "mv here there" not in cell(page, "second")
    empty.write("runbooks/go/a/lib.sh", "put() {\n    cp here there\n}\n")
    assert mkdocs(empty.root).returncode == 0
    assert "cp here there" in html(empty.root, "runbooks/go/a.ipynb")


def test_cells_that_did_not_run_say_so(project: Published) -> None:
    verify = words(cell(html(project.root, RUNBOOK), "verify"))
    assert "apply on ubuntu-24.04 Not run: the run stopped before it came to this cell." in verify


def test_a_failure_is_not_hidden_behind_an_older_pass(empty: Published) -> None:
    small(empty)
    path = "notebooks/go/a.ipynb"
    passed = empty.ran(path, {"look": [stream("as it was")]}, started="2026-11-20T00:00:00Z")
    passed.rename(passed.with_name("a.run.passed.ipynb"))
    empty.ran(path, {}, failed=("", "the host disappeared"), started="2026-11-21T00:00:00Z")
    assert mkdocs(empty.root).returncode == 0
    page = html(empty.root, path)
    head = words(page.split('class="kb-head"')[1])
    assert "Failed on debian-13 21 Nov 2026" in head
    assert "Run failed the host disappeared It passed on 20 Nov 2026" in head
    first, others = words(cell(page, "look")).split("Other runs:")
    assert "as it was" not in first
    assert others.startswith(" run, older run of 2026-11-20 on debian-13")
    assert "as it was" in others
    for listing, row in (
        ("index.html", "A Failed debian-13"),
        ("areas/go/index.html", "A B. Failed"),
    ):
        said = words((empty.root / "site" / listing).read_text(encoding="utf-8"))
        assert row in said


def test_what_is_committed_is_said(empty: Published) -> None:
    small(empty)
    made = empty.ran("notebooks/go/a.ipynb", {})
    committed = empty.root / "docs/evidence" / made.relative_to(empty.root / "build/runs")
    committed.parent.mkdir(parents=True)
    made.rename(committed)
    assert mkdocs(empty.root).returncode == 0
    page = html(empty.root, "notebooks/go/a.ipynb")
    assert "Passed" in page and "committed with the repository" in page
    hosts = words((empty.root / "site/hosts/index.html").read_text(encoding="utf-8"))
    assert "debian-13 Passed 22 Nov 2026 committed" in hosts


def test_a_bad_record_costs_its_own_page(empty: Published, told: Told) -> None:
    """The build goes on, and says which file and why."""
    small(empty)
    made = empty.ran("notebooks/go/a.ipynb", {})
    made.write_text(made.read_text().replace('"passed"', '"failed"', 1))
    done = mkdocs(empty.root)
    assert done.returncode == 0, done.stderr
    path = made.relative_to(empty.root)
    [said] = [line for line in done.stderr.splitlines() if "is left out" in line]
    told(said)
    assert "Never run" in html(empty.root, "notebooks/go/a.ipynb")
    hosts = words((empty.root / "site/hosts/index.html").read_text(encoding="utf-8"))
    assert f"{path} : it was changed after its run" in hosts


def test_a_page_without_a_run_says_so(project: Published) -> None:
    page = html(project.root, "notebooks/systemd/never.ipynb")
    assert "Never run" in page and "tried on no host" in page


def test_lines_of_a_step_that_no_run_went_through_are_named(empty: Published) -> None:
    path = "runbooks/go/a.ipynb"
    step = "%%apply One\n# changes: /x\nif a; then\n    b\nelse\n    c\nfi"
    cells = [text("title", "# A\n\nB."), code("one", step), code("back", "%%rollback R\nd")]
    empty.notebook(path, cells)
    said = "No run on record went through"

    def shown(ran: object, **others: str) -> str:
        empty.ran(path, {}, stage="apply", ran=ran, changed=others or None)
        assert mkdocs(empty.root).returncode == 0
        return words(cell(html(empty.root, path), "one"))

    assert f"{said} line 5, c ." in shown({"one": [2, 3]})
    assert said not in shown(None)  # it was not traced
    assert said not in shown({"one": ["x", True, {}]})  # nobody vouches for what a record holds
    assert said not in shown({"one": [2, 3]}, one=step.replace("c", "d"))  # of other code
    empty.ran(path, {}, stage="again", host="debian-13-vm", ran={"one": [2, 5]})
    assert said not in shown({"one": [2, 3]})  # another host did


def test_a_stale_page_shows_what_ran_as_it_was(project: Published) -> None:
    page = html(project.root, "notebooks/systemd/stale.ipynb")
    assert "Stale" in page
    look = words(cell(page, "look"))
    now, then = look.split("The code has changed since. This is what ran:")
    assert "&#x27;new&#x27;" in now or "'new'" in now
    assert "'old'" in then and "old" in then


def test_what_releases_did_is_on_one_page_of_the_area(project: Published, site: Path) -> None:
    row = "<td>old<td><mark>new</mark>"
    assert row in html(project.root, NOTEBOOK).replace("</td>", "")
    page = html(project.root, "areas/go/releases").replace("</td>", "")
    assert row in page
    assert "screen" in html(project.root, NOTEBOOK) and "screen" not in page
    assert 'href="../../../notebooks/go/limits/#cell-releases"' in page
    assert 'href="releases/"' in html(project.root, "areas/go")
    assert not (site / "areas/serving/releases").exists()


def test_verdicts_lead_to_their_claim(project: Published) -> None:
    block = cell(html(project.root, NOTEBOOK), "settle-files")
    assert 'kb-verdict--confirmed">confirmed' in block
    assert 'href="../../../claims/a1-files/"' in block
    assert "confirmed if got <code>1024</code>" in block
    assert 'href="../../a1-files/"' in html(project.root, "claims/chapter/a1")
    shown = html(project.root, "claims/a1-files")
    assert 'href="../../notebooks/go/limits/#cell-settle-files"' in shown


def test_links_between_notebooks_lead_to_pages(project: Published) -> None:
    assert 'href="../../../notebooks/go/limits/#wo-es-hakt"' in html(project.root, RUNBOOK)
    assert 'href="../../../runbooks/go/install/#preflight"' in html(project.root, NOTEBOOK)


def test_a_verdict_from_an_output_cannot_invent_claims(project: Published) -> None:
    block = cell(html(project.root, UNTRUSTED), "false-verdict")
    assert "unsettled" in block and "<script" not in block


def test_the_ledger_as_json_holds_all_of_it(site: Path) -> None:
    ledger = json.loads((site / "claims/ledger.json").read_text(encoding="utf-8"))
    ring = next(entry for entry in ledger["claims"] if entry["id"] == "b2-ring")
    assert ring["verdict"] == "refuted"
    assert ring["settled_by"] == [
        {
            "notebook": NOTEBOOK,
            "cell": "settle-ring",
            "url": "notebooks/go/limits/#cell-settle-ring",
        }
    ]
    assert ring["seen"][0] == {
        "host": "debian-13",
        "verdict": "refuted",
        "evidence": "executed",
        "when": "2026-11-22T03:04:05Z",
        "run": "passed",
        "older": False,
        "fresh": True,
        "saw": ["refuted if got `epoll`"],
    }


def test_a_claim_carries_its_review_for_machines(site: Path) -> None:
    page = (site / "claims/b2-ring/index.html").read_text(encoding="utf-8")
    script = page.split('<script type="application/ld+json">')[1].split("</script>")[0]
    review = json.loads(script)
    assert review["@type"] == "ClaimReview"
    assert review["claimReviewed"] == "The runtime polls through io_uring."
    assert review["reviewRating"]["alternateName"] == "Refuted"
    assert review["reviewRating"]["ratingValue"] == 1
    assert review["datePublished"] == "2026-11-22T03:04:05Z"


def test_pages_are_light(site: Path) -> None:
    for page in site.glob("*books/*/*/index.html"):
        assert page.stat().st_size <= 100_000
        assert len(gzip.compress(page.read_bytes())) <= 30_000
        assert "base64," not in page.read_text(encoding="utf-8")


def test_the_build_executes_nothing(empty: Published) -> None:
    touched = empty.root / "touched"
    write = f"open({str(touched)!r}, 'w').close()"
    empty.notebook("notebooks/go/a.ipynb", [text("title", "# A\n\nB."), code("write", write)])
    assert mkdocs(empty.root).returncode == 0
    assert not touched.exists()
    assert (empty.root / "site/notebooks/go/a/index.html").is_file()


def small(project: Published) -> None:
    """Two notebooks with a run each, one of which settles a claim."""
    project.notebook(
        "notebooks/go/a.ipynb",
        [text("title", "# A\n\nB."), code("look", 'settle("a1-x", confirmed=same(1, 1))')],
    )
    project.notebook("notebooks/go/b.ipynb", [text("title", "# B\n\nC."), code("look", "1")])
    project.ran("notebooks/go/a.ipynb", {"look": [settled("a1-x", "confirmed", "1")]})
    project.ran("notebooks/go/b.ipynb", {"look": [stream("seen\n")]})
    project.ledger("a1", claim("a1-x"))


def built(project: Published) -> dict[str, bytes]:
    """Every file of a fresh build; the sitemap has the day in it."""
    done = mkdocs(project.root)
    assert done.returncode == 0, done.stderr
    site = project.root / "site"
    files = [path for path in site.rglob("*") if path.is_file() and "sitemap" not in path.name]
    return {str(path.relative_to(site)): path.read_bytes() for path in files}


def test_a_build_from_the_cache_is_the_same(empty: Published) -> None:
    small(empty)
    first = built(empty)
    assert built(empty) == first
    shutil.rmtree(empty.root / "build/cache")
    assert built(empty) == first


def test_what_changed_is_built_again(empty: Published) -> None:
    small(empty)
    built(empty)
    empty.ran("notebooks/go/b.ipynb", {"look": [stream("seen again\n")]})
    empty.ledger("a1", claim("a1-x", says="Now it says more."))
    again = built(empty)
    assert b"seen again" in again["notebooks/go/b/index.html"]
    assert b"Now it says more." in again["notebooks/go/a/index.html"]
    assert b"Now it says more." in again["claims/chapter/a1/index.html"]


def test_the_cache_knows_every_file_of_the_package_that_has_a_part_in_a_page() -> None:
    """Each room is imported: an edit of the parameters' or the claims' reader changes pages."""
    show = (
        "import sys, kb.site.plugin;"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'kb'))"
    )
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    imported = {Path(name) for name in done.stdout.split()}
    assert any(path.name == "parameters.py" for path in imported)
    assert imported <= set(plugin.sources())


def test_a_cache_that_was_cut_off_is_not_taken_for_whole(empty: Published) -> None:
    small(empty)
    first = built(empty)
    for path in (empty.root / "build/cache/site").rglob("*"):
        if path.is_file() and path.parent.name != "templates":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert built(empty) == first


def test_a_run_that_contradicts_the_record_is_a_warning_on_the_page(empty: Published) -> None:
    small(empty)
    empty.ledger("a1", claim("a1-x", verdict="refuted"))
    files = built(empty)
    assert b"On record it is refuted: this run saw otherwise." in files["notebooks/go/a/index.html"]
    assert b"debian-13 saw it confirmed" in files["claims/a1-x/index.html"]


def test_what_is_unsettled_shows_no_evidence(empty: Published) -> None:
    small(empty)
    empty.ran("notebooks/go/a.ipynb", {"look": [settled("a1-x", "unsettled", "1")]})
    unsettled = claim("a1-x", verdict="unsettled", would_settle="A host.")
    del unsettled["evidence"]
    empty.ledger("a1", unsettled)
    files = built(empty)
    page = files["claims/a1-x/index.html"]
    assert b"Unsettled" in page and b"Evidence" not in page and b"executed" not in page
    [entry] = json.loads(files["claims/ledger.json"])["claims"]
    assert "evidence" not in entry and "evidence" not in entry["seen"][0]


def test_a_claims_page_says_whether_its_verdict_can_change(empty: Published) -> None:
    small(empty)
    empty.ledger("a1", claim("a1-x", no_flip="Nothing else exists."))
    files = built(empty)
    assert b"shows another verdict: Nothing else exists." in files["claims/a1-x/index.html"]
    [entry] = json.loads(files["claims/ledger.json"])["claims"]
    assert entry["no_flip"] == "Nothing else exists."
    empty.ledger("a1", claim("a1-x"))
    empty.write("notebooks/go/a/ci/cases.toml", '[[flips]]\nbecomes.a1-x = "refuted"\n')
    assert b"it says refuted." in built(empty)["claims/a1-x/index.html"]


def test_the_address_of_a_claim_leads_to_the_one_that_it_is_part_of_now(empty: Published) -> None:
    small(empty)
    empty.ledger("a1", claim("a1-x", says="It is `so`.", formerly=["a1-old", "a1-older"]))
    files = built(empty)
    for former in ("a1-old", "a1-older"):
        page = files[f"claims/{former}/index.html"]
        assert b'content="0; url=../a1-x/"' in page
        assert b'<a href="../a1-x/">It is <code>so</code>.</a>' in page
    [entry] = json.loads(files["claims/ledger.json"])["claims"]
    assert entry["id"] == "a1-x" and entry["formerly"] == ["a1-old", "a1-older"]


def test_a_damaged_record_is_no_run(empty: Published) -> None:
    small(empty)
    path = empty.root / "build/runs/debian-13/notebooks/go/b.run.ipynb"
    path.write_text(path.read_text(encoding="utf-8")[:300], encoding="utf-8")
    assert b"Never run" in built(empty)["notebooks/go/b/index.html"]


def test_a_picture_attached_to_prose_is_a_file(empty: Published) -> None:
    picture = {"plot.png": {"image/png": "iVBORw0KGgo="}}
    cell_with = {**text("title", "# A\n\nB ![plot](attachment:plot.png)"), "attachments": picture}
    empty.notebook("notebooks/go/a.ipynb", [cell_with])
    files = built(empty)
    found = re.search(
        rb"""src=["]?\.\./\.\./\.\./(assets/outputs/\w+\.png)""", files["notebooks/go/a/index.html"]
    )
    assert found and files[found[1].decode()] == b"\x89PNG\r\n\x1a\n"


WRONG: dict[str, object] = {
    "notebooks/go/c.ipynb": "{",
    "docs/claims/a1.yml": "- id: [\n",
    "docs/claims/b1.yml": [claim("b1-y")],
    "docs/more.md": "# More\n\n<!-- kb:weather -->\n",
    "ci/hosts.toml": "debian",
    "runbooks/go/area.toml": "",
}


@pytest.mark.parametrize("path", WRONG)
def test_a_bad_file_stops_the_build(empty: Published, path: str, told: Told) -> None:
    small(empty)
    empty.write(path, WRONG[path])
    told(stopped(empty))


def stopped(project: Published) -> str:
    """The last thing that a build says which fails."""
    done = mkdocs(project.root)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return errors[-1].removeprefix("ERROR").strip(" -")


def test_a_list_of_pages_has_plain_words(empty: Published) -> None:
    empty.notebook("notebooks/go/a.ipynb", [text("title", "# A\n\nIt **breaks** [it](#a) all.")])
    assert mkdocs(empty.root).returncode == 0
    assert "It breaks it all." in html(empty.root, "areas/go")


@pytest.mark.parametrize(
    ("prose", "sentence"),
    [
        ("See [it](missing.ipynb).", "missing.ipynb"),
        ("See [it](b.ipynb#nowhere).", "does not contain an anchor '#nowhere'"),
    ],
)
def test_a_broken_link_stops_the_build_every_time(
    empty: Published, prose: str, sentence: str
) -> None:
    small(empty)
    empty.notebook("notebooks/go/c.ipynb", [text("title", f"# C\n\n{prose}")])
    for _ in range(2):  # the second time from the cache
        done = mkdocs(empty.root)
        assert done.returncode == 1
        assert sentence in done.stderr


def test_prose_that_swallows_a_cell_is_an_error(empty: Published, told: Told) -> None:
    empty.notebook(
        "notebooks/go/a.ipynb",
        [text("title", "# A\n\nB."), text("open", "<div>never closed"), code("look", "1")],
    )
    told(stopped(empty))


def test_of_a_theme_only_hidden_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("main.html", "assets/a.css", ".icons/x.svg", "assets/.b/c.js", "assets/.d"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    listed = VisibleFiles(tmp_path).list_templates()
    everything = FileSystemLoader(tmp_path).list_templates()
    shown = {name for name in everything if not name.startswith(".") and "/." not in name}
    assert shown <= set(listed) < set(everything)
