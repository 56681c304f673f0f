"""ci/fixtures.toml: which fixtures take minutes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from golden import Told
from kb.proof import catalog, fixtures
from kb.proof.tables import TableError
from project import ROOT, Project, notebook

BOOK = "notebooks/a/x.ipynb"


def write(project: Project, table: str) -> None:
    for name in ("one", "two"):
        project.write(f"ci/fixtures/{name}", "#!/bin/sh\nmkdir $1\n")
        (project.root / "ci/fixtures" / name).chmod(0o755)
    project.write("ci/fixtures.toml", table)


def test_the_repositorys_own() -> None:
    assert fixtures.slow(ROOT)["control-plane"] > 60


def test_a_project_without_the_table(project: Project) -> None:
    assert fixtures.slow(project.root) == {}


def test_what_has_to_be_made(project: Project) -> None:
    write(project, "one = 300\n")
    project.add(BOOK, notebook(fixtures=["one", "two"]))
    book = catalog.read(project.root, Path(BOOK))
    slow = fixtures.slow(project.root)
    assert fixtures.missing(book, slow) == {"one": 300.0}
    fixtures.make(project.root, "one")
    assert fixtures.missing(book, slow) == {}


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo first; echo no room >&2; exit 3", "no room"), ("exit 3", "it printed nothing")],
)
def test_what_cannot_be_made(project: Project, script: str, why: str) -> None:
    project.write("ci/fixtures/one", f"#!/bin/sh\n{script}\n")
    (project.root / "ci/fixtures/one").chmod(0o755)
    with pytest.raises(fixtures.FixtureError) as raised:
        fixtures.make(project.root, "one")
    assert str(raised.value) == f"ci/fixtures/one failed: {why}"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 0", None),
        ("echo the processor has AMX; exit 1", "the processor has AMX"),
        ("exit 1", "ci/usable/one says nothing"),
    ],
)
def test_what_is_of_no_use_here(project: Project, script: str, why: str | None) -> None:
    write(project, "")
    project.add(BOOK, notebook(fixtures=["two", "one"]))
    book = catalog.read(project.root, Path(BOOK))
    assert fixtures.unusable(book) is None
    project.write("ci/usable/one", f"#!/bin/sh\n{script}\n")
    (project.root / "ci/usable/one").chmod(0o755)
    assert fixtures.unusable(book) == why


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        ("flags : fpu avx512f amx_bf16 amx_tile amx_int8", 1, "which has AMX"),
        ("flags : fpu avx512f", 0, ""),
    ],
)
def test_where_user_mode_linux_starts(tmp_path: Path, flags: str, status: int, says: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"{flags}\n")
    command = [ROOT / "ci/usable/small-kernel", tmp_path / "cpuinfo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, says in done.stdout) == (status, True)


MISTAKES = {
    "not TOML": "one 300\n",
    "no such fixture": "on = 300\n",
    "a time in words": 'one = "5m"\n',
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistaken_slow_fixture(project: Project, what: str, told: Told) -> None:
    write(project, MISTAKES[what])
    with told.raises(TableError):
        fixtures.slow(project.root)
