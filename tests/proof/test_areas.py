"""What is said of areas: in their order, and each mistake is one sentence with its file."""

from __future__ import annotations

import pytest
from golden import Told
from kb.proof import areas
from kb.proof.tables import TableError
from project import Project, notebook, runbook

SAID = 'title = "{}"\nsentence = "A sentence."\nowner = "@maintainers"\n'


@pytest.fixture
def area(project: Project) -> Project:
    """A project with one area, of which nothing is said."""
    project.add("notebooks/go/name.ipynb", notebook())
    return project


def test_areas_stand_in_their_order_then_by_title(project: Project) -> None:
    for name, more in (("b", "order = 2"), ("c", "order = 1"), ("d", ""), ("a", "")):
        project.add(f"notebooks/{name}/name.ipynb", notebook())
        project.write(f"notebooks/{name}/area.toml", SAID.format(name.upper()) + more)
    project.write("notebooks/empty/area.toml", SAID.format("Empty"))
    found = areas.find(project.root)
    assert list(found) == ["c", "b", "a", "d"]
    assert found["c"] == areas.Area("c", "C", "A sentence.", "@maintainers", 1)


def test_one_file_speaks_of_both_kinds(area: Project, told: Told) -> None:
    area.add("runbooks/go/name.ipynb", runbook())
    area.write("runbooks/go/area.toml", SAID.format("Go"))
    assert areas.find(area.root)["go"].title == "Go"
    area.write("notebooks/go/area.toml", SAID.format("Go"))
    with pytest.raises(TableError) as caught:
        areas.find(area.root)
    told(caught.value)


def test_an_area_of_which_nothing_is_said(area: Project, told: Told) -> None:
    with pytest.raises(TableError) as caught:
        areas.find(area.root)
    told(caught.value)


MISTAKES = {
    "not TOML": "title",
    "no sentence": 'title = "Go"',
    "an empty title": SAID.format(" "),
    "an order in quotes": SAID.format("Go") + 'order = "1"',
    "a mistyped key": SAID.format("Go") + "ordr = 1",
    "an owner without @": SAID.format("Go").replace("@", ""),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_what_is_said(area: Project, what: str, told: Told) -> None:
    area.write("notebooks/go/area.toml", MISTAKES[what])
    with pytest.raises(TableError) as caught:
        areas.find(area.root)
    told(caught.value)
