"""Each bad notebook is one sentence with file and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from kb.proof import catalog
from project import Project, code, notebook, runbook, text

PATH = Path("runbooks/area/name.ipynb")


def refused(project: Project, path: Path = PATH) -> str:
    with pytest.raises(catalog.CatalogError) as caught:
        catalog.read(project.root, path)
    says = str(caught.value)
    assert says.startswith(f"{path}:")
    assert "\n" not in says
    return says.removeprefix(f"{path}:").strip()


def test_a_good_runbook_is_read(project: Project) -> None:
    nb = runbook(
        code("back", "%%rollback x\nkb-restore"),
        parameters='prefix: str = "/opt"  # where to',
        needs=["root"],
        timeout=5,
        broken=[{"cell": "back", "says": "x"}],
    )
    project.add(str(PATH), nb)
    (project.root / "runbooks/area/name.unit").touch()
    (project.root / "runbooks/area/shared.txt").touch()
    (project.root / "runbooks/area/other.ipynb").touch()
    (project.root / "runbooks/area/other.txt").touch()
    found = catalog.read(project.root, PATH)
    assert (found.kind, found.area, found.name) == ("runbooks", "area", "name")
    assert (found.title, found.summary) == ("A small one", "It is made for a test.")
    assert [p.name for p in found.parameters] == ["mode", "prefix"]
    assert found.needs == ["root"]
    assert found.stages == ("plan", "apply", "again", "rollback", "broken")
    assert [path.name for path in found.files] == ["name.unit", "shared.txt"]


def test_stages_that_nothing_declares_are_left_out(project: Project) -> None:
    project.add(str(PATH), runbook())
    project.add("notebooks/area/name.ipynb", notebook())
    found = {nb.kind: nb.stages for nb in catalog.find(project.root)}
    assert found == {"runbooks": ("plan", "apply", "again", "rollback"), "notebooks": ("run",)}


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
        ({"needs": [], "flips": []}, "metadata kb: `flips` is for notebooks only"),
        ({"needs": [], "broken": ["x"]}, "metadata kb: broken case 1 must be an object"),
        ({"needs": [], "broken": [{"cell": "title"}]}, "metadata kb: broken case 1: `says` is"),
        (
            {"needs": [], "broken": [{"cell": "titel", "says": "x"}]},
            "metadata kb: broken case 1: there is no cell `titel`",
        ),
        (
            {"needs": [], "broken": [{"cell": "title", "says": "x", "set-up": "x"}]},
            "metadata kb: broken case 1: unknown key `set-up`; did you mean `setup`?",
        ),
    ],
)
def test_bad_metadata(project: Project, metadata: Any, says: str) -> None:
    nb = runbook()
    if metadata is None:
        del nb.metadata["kb"]
    else:
        nb.metadata["kb"] = metadata
    project.add(str(PATH), nb)
    assert refused(project).startswith(says)


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


def test_prose_is_no_part_of_the_code(project: Project) -> None:
    def hashed(nb: Any) -> str:
        project.add(str(PATH), nb)
        return catalog.read(project.root, PATH).code_hash

    def one(prose: str = "a", source: str = "true", tag: str = "t", **kb: Any) -> Any:
        return runbook(text("prose", prose), code("step", f"%%apply x\n{source}", tag), **kb)

    first = hashed(one())
    assert hashed(one(prose="b")) == first
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
