"""The notebook that a page offers: valid, harmless, the code that is in the repository, and shown
by Jupyter's own renderer as by the page."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from corpus import NOTEBOOK, RUNBOOK, UNTRUSTED, Published, mkdocs
from kb.proof import catalog
from project import Project, code, outputs, runbook

OFFERED = (RUNBOOK, NOTEBOOK, UNTRUSTED, "notebooks/systemd/never.ipynb")
ANSI = re.compile(r"\x1b\[[\d;]*m")
JUPYTER = "site_name: J\nplugins: [{mkdocs-jupyter: {cache: false, mathjax_version: 2}}]\n"


def offered(site: Path, path: str) -> dict[str, Any]:
    folder = site / path.removesuffix(".ipynb")
    found: dict[str, Any] = json.loads((folder / Path(path).name).read_text(encoding="utf-8"))
    return found


def words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def lines(cell: dict[str, Any]) -> list[str]:
    """What the outputs of a cell say in letters, without colours."""
    said = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        text = words(data["text/html"]) if "text/html" in data else data.get("text/plain", "")
        said += [output.get("text", ""), output.get("evalue", ""), text]
    found = ANSI.sub("", "\n".join(said)).splitlines()
    return [" ".join(line.split()) for line in found if line.strip()]


@pytest.mark.parametrize("path", OFFERED)
def test_it_is_valid_and_runs_as_the_one_in_the_repository(
    project: Published, site: Path, path: str
) -> None:
    notebook = offered(site, path)
    nbformat.validate(notebook)
    original = json.loads((project.root / path).read_text(encoding="utf-8"))
    assert [c["source"] for c in notebook["cells"]] == [c["source"] for c in original["cells"]]
    hashes = [
        catalog.code_hash(one["cells"], one["metadata"]["kb"]) for one in (notebook, original)
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("path", OFFERED)
def test_it_holds_what_the_page_shows(site: Path, path: str) -> None:
    page = (site / path.removesuffix(".ipynb") / "index.html").read_text(encoding="utf-8")
    shown = words(page)
    for cell in offered(site, path)["cells"]:
        for line in lines(cell):
            if not line.startswith("[") and "Picture drawn" not in line:
                assert line in shown, cell["id"]


def test_it_says_whose_outputs_these_are(site: Path) -> None:
    notebook = offered(site, RUNBOOK)
    assert notebook["metadata"]["kb_published"] == {
        "path": RUNBOOK,
        "status": "passed",
        "host": "debian-13",
        "when": "2026-11-22T03:04:05+00:00",
    }
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    assert cells["download"]["metadata"]["kb_shown"] == {
        "stage": "apply",
        "host": "debian-13",
        "status": "passed",
        "fails_with": [],
    }
    assert lines(cells["download"]) == ["100%", "changed: fetched the gopherarchive"]
    failing = cells["preflight-space"]["metadata"]["kb_shown"]["fails_with"]
    assert failing == ["/usr is full: make room"]
    assert "outputs" not in cells["title"]
    assert lines(offered(site, "notebooks/systemd/never.ipynb")["cells"][1]) == []


def test_a_picture_is_in_it(site: Path) -> None:
    [plot] = [cell for cell in offered(site, NOTEBOOK)["cells"] if cell["id"] == "plot"]
    picture = base64.b64decode(plot["outputs"][0]["data"]["image/png"])
    assert picture in {path.read_bytes() for path in (site / "assets/outputs").glob("*.png")}


def test_nothing_in_it_does_harm(site: Path) -> None:
    notebook = offered(site, UNTRUSTED)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert len(json.dumps(outputs)) < 100_000
    said = json.dumps([output["data"] for output in outputs if "data" in output])
    assert "cellvalue" in said and "<svg" in said
    for bad in ("harmed", "<script", "onerror", "elsewhere.example/y", "javascript:"):
        assert bad not in said
    assert "\\u001b" not in json.dumps(outputs)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="mkdocs-jupyter 0.27 takes 3.12 or later")
def test_jupyters_own_renderer_shows_it_as_the_page_does(site: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text(JUPYTER)
    for path in OFFERED:
        text = json.dumps(offered(site, path))
        (tmp_path / "docs" / Path(path).name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet"],
        cwd=tmp_path,
        env={"PATH": "", "HOME": str(tmp_path), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path in OFFERED:
        shown = words((tmp_path / "site" / Path(path).stem / "index.html").read_text("utf-8"))
        for cell in offered(site, path)["cells"]:
            for line in lines(cell):
                assert line in shown or "Picture drawn" in line, (path, cell["id"])


CALLING = """%%preflight All that it calls is there
. "$KB_HERE/name/lib.sh"
shared=$(bash "$KB_HERE/shared.sh")
greet "$("$KB_HERE/name/deep/who")" "$shared"
"""


def test_what_a_page_offers_of_a_runbook_with_files_runs_alone(
    empty: Published, tmp_path: Path
) -> None:
    """Unpacked in an empty directory, a plan finds what its cells call, and nothing of CI's."""
    path = "runbooks/go/name.ipynb"
    nb = runbook(code("preflight", CALLING), uses=["shared.sh"], identity="runbooks/go/name")
    empty.notebook(path, nb.cells, **nb.metadata["kb"])
    empty.write("runbooks/go/name/lib.sh", 'greet() {\n    echo "hello $*"\n}\n')
    empty.write("runbooks/go/name/deep/who", "#!/bin/bash\necho world\n")
    (empty.root / "runbooks/go/name/deep/who").chmod(0o755)
    empty.write("runbooks/go/shared.sh", "echo again\n")
    empty.write("runbooks/go/name/ci/prepare.sh", "true\n")
    offered = empty.root / "site/runbooks/go/name/name.tar.gz"

    def built() -> bytes:
        done = mkdocs(empty.root)
        assert done.returncode == 0, done.stderr
        page = (offered.parent / "index.html").read_text(encoding="utf-8")
        assert re.search(r"href=.?name\.tar\.gz", page) and re.search(r"href=.?name\.ipynb", page)
        return offered.read_bytes()

    first = built()
    host = Project(tmp_path / "host")
    host.root.mkdir()
    with tarfile.open(offered) as archive:
        archive.extractall(host.root, filter="data")
    found = {str(file.relative_to(host.root)) for file in host.root.rglob("*") if file.is_file()}
    below = ("deep/who", "lib.sh")
    assert found == {path, "runbooks/go/shared.sh", *(f"runbooks/go/name/{name}" for name in below)}
    done = host.papermill(path, "-p", "mode", "plan")
    assert done.returncode == 0, done.stderr
    assert "hello world again" in outputs(host.executed())["preflight"]
    # The same files make the same bytes, whenever they were written; a right to be run is one more.
    for file in (empty.root / "runbooks").rglob("*"):
        os.utime(file, (1, 1))
    shutil.rmtree(empty.root / "build/cache")
    assert built() == first
    (empty.root / "runbooks/go/shared.sh").chmod(0o755)
    assert built() != first
