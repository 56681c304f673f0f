"""Each bad notebook is one sentence with file and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from golden import Told
from kb.proof import catalog
from kb.site import cells
from project import Project, code, notebook, runbook, text

PATH = Path("runbooks/area/name.ipynb")


def refused(project: Project, path: Path = PATH) -> str:
    with pytest.raises(catalog.CatalogError) as caught:
        catalog.read(project.root, path)
    return str(caught.value)


def test_a_good_runbook_is_read(project: Project) -> None:
    nb = runbook(
        code("back", "%%rollback x\nkb-restore"),
        parameters='prefix: str = "/opt"  # where to',
        needs=["root"],
        timeout=5,
        uses=["shared.txt", "ci/release.sh"],
        not_restored={"/var/log/**": "logs stay"},
        broken=[{"cell": "back", "message": "x"}],
    )
    for file in ("name/a.unit", "name/ci/prepare.sh", "shared.txt", "ci/release.sh"):
        project.write(f"runbooks/area/{file}", "")
    for file in ("name.unit", "other.txt", "other/a.unit", "area.toml"):  # nobody's, or another's
        project.write(f"runbooks/area/{file}", "")
    project.add(str(PATH), nb)
    found = catalog.read(project.root, PATH)
    assert (found.kind, found.area, found.name) == ("runbooks", "area", "name")
    assert (found.title, found.summary) == ("A small one", "It is made for a test.")
    assert [p.name for p in found.parameters] == ["mode", "prefix"]
    assert found.needs == ["root"]
    assert found.stages == ("plan", "apply", "again", "rollback", "killed", "broken")
    assert found.prepare == Path("runbooks/area/name/ci/prepare.sh")
    assert found.not_restored == {"/var/log/**": "logs stay"}
    files = [str(path.relative_to("runbooks/area")) for path in found.files]
    own = ["name/a.unit", "name/ci/cases.toml", "name/ci/prepare.sh"]
    assert files == ["ci/release.sh", *own, "shared.txt"]
    assert [path.name for path in found.beside] == ["a.unit", "shared.txt"]


def test_what_nothing_declares_is_left_out(project: Project) -> None:
    project.add(str(PATH), runbook())
    project.add("notebooks/area/name.ipynb", notebook())
    found = {nb.kind: nb.stages for nb in catalog.find(project.root)}
    stages = "plan", "apply", "again", "rollback", "killed"
    assert found == {"runbooks": stages, "notebooks": ("run",)}
    nb = catalog.read(project.root, PATH)
    assert (nb.files, nb.prepare, nb.not_restored) == ([], None, {})
    assert (nb.broken, nb.flips) == ([], [])


def test_the_earlier_names_can_be_read(project: Project) -> None:
    nb = runbook(leaves={"/x": "y"}, broken=[{"cell": "title", "says": "x"}])
    project.add(str(PATH), nb)
    found = catalog.read(project.root, PATH)
    assert found.not_restored == {"/x": "y"}
    assert found.broken == [{"cell": "title", "says": "x"}]


def test_a_world_has_a_case_for_each_of_its_claims(project: Project) -> None:
    settles = code("look", "settle('a1-user', x)\nsettle('a1-host', x)")
    path = Path("notebooks/area/name.ipynb")
    project.add(str(path), notebook(settles, parameters='user: str = "x"  # who'))
    project.write(
        "notebooks/area/name/ci/cases.toml",
        "[[flips]]\n"
        'becomes.a1-user = "refuted"\n'
        'becomes.a1-host = "unsettled"\n'
        'parameters.user = "me"\n'
        "setup = '''\n"
        "echo '[[flips]]'\n"
        "'''\n"
        "\n"
        "[[flips]]\n"
        'becomes.a1-user = "outdated"\n'
        'setup = "true"\n',
    )
    found = catalog.read(project.root, path)
    world = {"parameters": {"user": "me"}, "setup": "echo '[[flips]]'\n"}
    assert found.flips == [
        {"claim": "a1-user", "becomes": "refuted", **world},
        {"claim": "a1-host", "becomes": "unsettled", **world},
        {"claim": "a1-user", "becomes": "outdated", "setup": "true"},
    ]
    assert [(setup.line, setup.text) for setup in found.cases.setups] == [
        (6, "echo '[[flips]]'\n"),
        (11, "true"),
    ]
    assert found.stages == ("run", "flip")


FILES = {
    "broken JSON": b'{"cells": [\n  {"id" "x"}]}',
    "empty": b"",
    "not UTF-8": b"\xff\xfe{}",
    "a list": b"[]",
    "no cells": b"{}",
    "an empty list of cells": b'{"cells": []}',
    "a cell that is text": b'{"cells": ["x"]}',
    "a cell without source": b'{"cells": [{"cell_type": "markdown", "id": "a"}]}',
    "a cell without id": b'{"cells": [{"cell_type": "markdown", "source": "# T"}]}',
}


@pytest.mark.parametrize("what", FILES)
def test_a_broken_file(project: Project, what: str, told: Told) -> None:
    path = project.root / PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(FILES[what])
    told(refused(project))


def test_a_file_that_is_not_there(project: Project, told: Told) -> None:
    told(refused(project))


METADATA: dict[str, Any] = {
    "a list": [],
    "empty": {},
    "a mistyped key": {"needs": [], "timout": 5},
    "a number that is text": {"needs": [], "timeout": "5"},
    "a number that is a truth value": {"needs": [], "timeout": True},
    "needs as text": {"needs": "root"},
    "a mistyped need": {"needs": ["rot"]},
    "an unknown need": {"needs": ["xyz"]},
    "a need that is a list": {"needs": [["root"]]},
    "flips": {"needs": [], "flips": []},
    "prepare": {"needs": [], "prepare": "x.sh"},
    "an old name and its new one": {"needs": [], "leaves": {}, "not_restored": {}},
    "uses what is not there": {"needs": [], "uses": ["nothing.sh"]},
    "uses its own": {"needs": [], "uses": ["name/own.sh"]},
    "an empty title": {"needs": [], "title": " "},
    "words of an unknown kind": {"needs": [], "found_by": {"words": []}},
    "words that are numbers": {"needs": [], "found_by": {"tasks": [7]}},
    "a cure that is not there": {"needs": [], "found_by": {"symptoms": {"not found": "gone"}}},
    "uses another area's": {"needs": [], "uses": ["../other/x.sh"]},
}


@pytest.mark.parametrize("what", METADATA)
def test_bad_metadata(project: Project, what: str, told: Told) -> None:
    nb = runbook()
    nb.metadata["kb"] = METADATA[what]
    path = project.root / PATH
    path.parent.mkdir(parents=True)
    nbformat.write(nb, path)
    told(refused(project))


def test_a_notebook_restores_nothing(project: Project, told: Told) -> None:
    path = Path("notebooks/area/name.ipynb")
    project.add(str(path), notebook(not_restored={}))
    told(refused(project, path))


GOOD = '[[broken]]\ncell = "title"\nmessage = "x"\n\n'
CASES: dict[str, str | bytes] = {
    "not TOML": "[[broken]\n",
    "not UTF-8": b"\xff",
    "a mistyped kind": "[[brokn]]\n",
    "a table for a list": "[broken]\n",
    "flips of a runbook": "[[flips]]\n",
    "text for a table": 'broken = ["x"]',
    "no message": GOOD + '[[broken]]\ncell = "title"',
    "no cell": GOOD + '[[broken]]\nmessage = "x"',
    "an empty message": '[[broken]]\ncell = "title"\nmessage = " "',
    "a cell that is a number": "[[broken]]\ncell = 5",
    "an old name and its new one": GOOD + 'says = "x"',
    "a cell that is not there": GOOD.replace("title", "titel"),
    "a mistyped key": GOOD + 'set-up = "x"',
    "a mistyped parameter": GOOD + "parameters.moed = 1",
    "a mistyped parameter of later applies": "[repeated]\nparameters = { moed = 1 }\n",
    "something else of later applies": '[repeated]\nsetup = "true"\n',
    "a list of later applies": "[[repeated]]\n",
}


@pytest.mark.parametrize("what", CASES)
def test_bad_cases(project: Project, what: str, told: Told) -> None:
    project.add(str(PATH), runbook())
    path = project.root / "runbooks/area/name/ci/cases.toml"
    path.parent.mkdir(parents=True)
    text = CASES[what]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    told(refused(project))


FLIPS = {
    "nothing becomes": "",
    "a mistyped claim": 'becomes.a1-usr = "refuted"',
    "a mistyped verdict": 'becomes.a1-user = "refutd"',
}


@pytest.mark.parametrize("what", FLIPS)
def test_bad_flips(project: Project, what: str, told: Told) -> None:
    path = Path("notebooks/area/name.ipynb")
    project.add(str(path), notebook(code("look", "settle('a1-user', x)")))
    project.write("notebooks/area/name/ci/cases.toml", f"[[flips]]\n{FLIPS[what]}")
    told(refused(project, path))


def test_two_cells_with_one_id(project: Project, told: Told) -> None:
    nb = runbook(text("twice", "a"), text("once", "b"))
    path = project.add(str(PATH), nb)
    path.write_text(path.read_text().replace('"once"', '"twice"'))
    told(refused(project))


def test_a_name_that_is_kept_for_the_areas_own_files(project: Project, told: Told) -> None:
    path = Path("runbooks/area/ci.ipynb")
    project.add(str(path), runbook())
    told(refused(project, path))


def test_a_parameter_without_a_help_text(project: Project, told: Told) -> None:
    project.add(str(PATH), runbook(parameters='prefix: str = "/opt"'))
    told(refused(project))


def test_prose_is_no_part_of_the_code(project: Project) -> None:
    def hashed(nb: Any) -> str:
        project.add(str(PATH), nb)
        return catalog.read(project.root, PATH).code_hash

    def one(prose: str = "a", source: str = "true", tag: str = "t", **kb: Any) -> Any:
        return runbook(text("prose", prose), code("step", f"%%apply x\n{source}", tag), **kb)

    first = hashed(one())
    assert hashed(one(prose="b")) == first
    found_by = {"tasks": ["install"], "symptoms": {"not found": "step"}}
    assert hashed(one(title="Short", found_by=found_by)) == first
    executed = one()
    executed.cells[2].execution_count = 4
    executed.cells[-1].outputs = [nbformat.v4.new_output("stream", text="x")]
    assert hashed(executed) == first
    changed = [
        one(source="false"),
        one(tag="u"),
        one(timeout=5),
        one(parameters='a: str = ""  # b'),
    ]
    assert len({first, *(hashed(nb) for nb in changed)}) == 5


@pytest.mark.parametrize(
    ("line", "kind", "title"),
    [
        ("%%preflight Enough room", "preflight", "Enough room"),
        ("%%preflight --rollback  Enough room", "preflight", "Enough room"),
        ("%%preflight --rollbacks Enough room", "preflight", "--rollbacks Enough room"),
        ("%%apply --rollback Unpack", "apply", "--rollback Unpack"),
        ("%%rollback", "rollback", ""),
        ("%%applying Unpack", "python", ""),
    ],
)
def test_the_line_that_a_cell_begins_with(line: str, kind: str, title: str) -> None:
    read = cells.read(notebook(code("a", f"{line}\n  true\n")))[-1]
    assert (read.kind, read.caption) == (kind, title)
    assert read.code == ("  true" if read.is_bash else f"{line}\n  true")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('[runbooks."area/name"]', '[runbooks."area/nome"]', id="no runbook"),
        pytest.param('apply = ["area/name"]', 'apply = ["area/nam"]', id="a name"),
        pytest.param('rollback = ["area/name"]', "rollback = []", id="not rolled back"),
        pytest.param('works = "true"', "", id="no works"),
        pytest.param("[[orders]]", '[checks]\n"area/nam" = []\n[[orders]]', id="a check"),
        pytest.param("apply =", 'reboot = "yes"\napply =', id="a reboot"),
    ],
)
def test_runbooks_that_cannot_be_applied_together(
    project: Project, old: str, new: str, told: Told
) -> None:
    text = (
        'works = "true"\n[runbooks."area/name"]\n[[orders]]\napply = ["area/name"]\n'
        'rollback = ["area/name"]\n'
    )
    project.add(str(PATH), runbook())
    project.add("notebooks/area/name.ipynb", notebook())
    project.write("notebooks/area/name/ci/together.toml", text)
    assert catalog.read(project.root, Path("notebooks/area/name.ipynb")).others
    project.write("notebooks/area/name/ci/together.toml", text.replace(old, new))
    with told.raises(catalog.CatalogError):
        catalog.read(project.root, Path("notebooks/area/name.ipynb"))
