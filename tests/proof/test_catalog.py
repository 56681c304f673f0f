"""Each bad notebook is one sentence with file and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from kb.proof import catalog
from kb.site import cells
from project import Project, code, notebook, runbook, text

PATH = Path("runbooks/area/name.ipynb")


def refused_as(project: Project, path: Path = PATH) -> str:
    with pytest.raises(catalog.CatalogError) as caught:
        catalog.read(project.root, path)
    says = str(caught.value)
    assert "\n" not in says
    return says


def refused(project: Project, path: Path = PATH) -> str:
    says = refused_as(project, path)
    assert says.startswith(f"{path}:")
    return says.removeprefix(f"{path}:").strip()


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


def test_a_notebook_that_takes_the_name_of_the_areas_own_files(project: Project) -> None:
    path = Path("runbooks/area/ci.ipynb")
    project.add(str(path), runbook())
    says = "choose another name: runbooks/area/ci is for CI's own files"
    assert refused(project, path) == says


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"cells": [\n  {"id" "x"}]}', "2: not a notebook: broken JSON at column 9 (Expecting"),
        (b"", "1: not a notebook: broken JSON"),
        (b"\xff\xfe{}", "not a notebook: the file is not UTF-8 text"),
        (b"[]", "not a notebook: it has no list of cells"),
        (b"{}", "not a notebook: it has no list of cells"),
        (b'{"cells": []}', "the first cell must be text"),
        (b'{"cells": ["x"]}', "cell 1 is no cell"),
        (
            b'{"cells": [{"cell_type": "markdown", "id": "a"}]}',
            "cell 1 is no cell: it has no `source`",
        ),
        (b'{"cells": [{"cell_type": "markdown", "source": "# T"}]}', "cell 1 has no id"),
    ],
)
def test_a_broken_file(project: Project, content: bytes, says: str) -> None:
    path = project.root / PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert refused(project).startswith(says)


def test_a_file_that_is_not_there(project: Project) -> None:
    assert refused(project) == "cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (None, 'no `kb` block in the metadata: add at least {"needs": []}'),
        ([], 'no `kb` block in the metadata: add at least {"needs": []}'),
        ({}, "metadata kb: `needs` is missing: list what it asks of a host, or []"),
        ({"needs": [], "timout": 5}, "metadata kb: unknown key `timout`; did you mean `timeout`?"),
        ({"needs": [], "timeout": "5"}, "metadata kb: `timeout` must be of type int or float"),
        ({"needs": [], "timeout": True}, "metadata kb: `timeout` must be of type int or float"),
        ({"needs": "root"}, "metadata kb: `needs` must be of type list"),
        ({"needs": ["rot"]}, "metadata kb: unknown need `rot`; did you mean `root`? (known: root,"),
        ({"needs": ["xyz"]}, "metadata kb: unknown need `xyz` (known: root, network, systemd,"),
        ({"needs": [["root"]]}, "metadata kb: unknown need `['root']`"),
        (
            {"needs": [], "flips": []},
            "metadata kb: `flips` belongs in runbooks/area/name/ci/cases.toml: move it there",
        ),
        (
            {"needs": [], "prepare": "x.sh"},
            "metadata kb: `prepare` belongs in runbooks/area/name/ci/prepare.sh: move it there",
        ),
        (
            {"needs": [], "leaves": {}, "not_restored": {}},
            "metadata kb: `not_restored` and `leaves` mean the same: keep `not_restored`",
        ),
        (
            {"needs": [], "uses": ["nothing.sh"]},
            "metadata kb: `uses` names `nothing.sh`, and there is no file runbooks/area/",
        ),
        (
            {"needs": [], "uses": ["name/own.sh"]},
            "metadata kb: `uses` names `name/own.sh`, which is its own: leave it out",
        ),
        (
            {"needs": [], "uses": ["../other/x.sh"]},
            "metadata kb: `uses` takes names of files below runbooks/area, not `../other/x.sh`",
        ),
    ],
)
def test_bad_metadata(project: Project, metadata: Any, says: str) -> None:
    nb = runbook()
    if metadata is None:
        del nb.metadata["kb"]
    else:
        nb.metadata["kb"] = metadata
    path = project.root / PATH
    path.parent.mkdir(parents=True)
    nbformat.write(nb, path)
    assert refused(project).startswith(says)


def test_a_notebook_restores_everything(project: Project) -> None:
    path = Path("notebooks/area/name.ipynb")
    project.add(str(path), notebook(not_restored={}))
    assert refused(project, path) == "metadata kb: `not_restored` is for runbooks only"


GOOD = '[[broken]]\ncell = "title"\nmessage = "x"\n\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[broken]\n", " not TOML: Expected ']]' at the end of an array declaration (at line 1"),
        (b"\xff", " not TOML: the file is not UTF-8 text"),
        ("[[brokn]]\n", " unknown key `brokn`; did you mean `broken`? (known: broken, flips)"),
        ("[broken]\n", " `broken` must be of type list"),
        ("[[flips]]\n", " `flips` is for notebooks only"),
        ('broken = ["x"]', "1: broken case 1 must be a table: begin it with [[broken]]"),
        (GOOD + '[[broken]]\ncell = "title"', "5: broken case 2: `message` is missing"),
        (GOOD + '[[broken]]\nmessage = "x"', "5: broken case 2: `cell` is missing"),
        ('[[broken]]\ncell = "title"\nmessage = " "', "1: broken case 1: `message` is missing"),
        ("[[broken]]\ncell = 5", "1: broken case 1: `cell` must be of type str"),
        (
            GOOD + 'says = "x"',
            "1: broken case 1: `message` and `says` mean the same: keep `message`",
        ),
        (
            GOOD.replace("title", "titel"),
            "1: broken case 1: there is no cell `titel`; did you mean `title`? (known: title,",
        ),
        (
            GOOD + 'set-up = "x"',
            "1: broken case 1: unknown key `set-up`; did you mean `setup`? (known: cell, message,",
        ),
        (
            GOOD + "parameters.moed = 1",
            "1: broken case 1: unknown parameter `moed`; did you mean `mode`? (known: mode)",
        ),
    ],
)
def test_bad_cases(project: Project, text: str | bytes, says: str) -> None:
    project.add(str(PATH), runbook())
    path = project.root / "runbooks/area/name/ci/cases.toml"
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refused_as(project).startswith(f"runbooks/area/name/ci/cases.toml:{says}")


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("", '`becomes` is missing: write becomes.CLAIM = "refuted"'),
        ('becomes.a1-usr = "refuted"', "no cell settles `a1-usr`; did you mean `a1-user`?"),
        ('becomes.a1-user = "refutd"', "`a1-user` cannot become `refutd`; did you mean `refuted`?"),
    ],
)
def test_bad_flips(project: Project, case: str, says: str) -> None:
    path = Path("notebooks/area/name.ipynb")
    project.add(str(path), notebook(code("look", "settle('a1-user', x)")))
    project.write("notebooks/area/name/ci/cases.toml", f"[[flips]]\n{case}")
    where = "notebooks/area/name/ci/cases.toml:1: flips case 1:"
    assert refused_as(project, path).startswith(f"{where} {says}")


def test_two_cells_with_one_id(project: Project) -> None:
    nb = runbook(text("twice", "a"), text("once", "b"))
    path = project.add(str(PATH), nb)
    path.write_text(path.read_text().replace('"once"', '"twice"'))
    assert refused(project) == "two cells have the id `twice`: ids must be unique"


def test_a_parameter_without_a_help_text(project: Project) -> None:
    project.add(str(PATH), runbook(parameters='prefix: str = "/opt"'))
    assert refused(project) == (
        "line 2 of the parameters cell: `prefix` has no help text: add `# what it is` behind it"
    )


@pytest.mark.parametrize(
    ("kb", "says"),
    [
        ({"title": " "}, "metadata kb: `title` is empty: leave it out, or say a short one"),
        (
            {"found_by": {"words": []}},
            "metadata kb found_by: unknown key `words` (known: tasks, symptoms)",
        ),
        (
            {"found_by": {"tasks": [7]}},
            "metadata kb found_by: it holds words that people type, not `7`",
        ),
        (
            {"found_by": {"symptoms": {"not found": "gone"}}},
            "metadata kb found_by: `not found` is cured by the cell `gone`, which is not there:"
            " name the id of one of its cells",
        ),
    ],
)
def test_words_for_readers(project: Project, kb: dict, says: str) -> None:
    project.add(str(PATH), runbook(**kb))
    assert refused(project) == says


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
