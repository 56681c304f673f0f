"""What `make new` makes: green from the start, through all life stages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden import Told
from kb.proof import areas, catalog, lint
from kb.proof.new import NewError, create

ROOT = Path(__file__).parents[2]
INPUTS = ("pyproject.toml", "requirements-host.txt", "README.md", "LICENSE")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of this repository with no notebook and no claim in it."""
    shutil.copytree(ROOT / "ci", tmp_path / "ci", ignore=shutil.ignore_patterns("__pycache__"))
    for name in INPUTS:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_it_lives_through_all_stages(checkout: Path, kind: str) -> None:
    path = create(checkout, f"{kind}/example/hello-world")
    assert catalog.read(checkout, path).title == "Hello world"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", kind, "--on", "debian-13", "-p", "no:cacheprovider", "-q"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stages = {"runbooks": "6 passed", "notebooks": "1 passed"}
    assert stages[kind] in done.stdout


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_nothing_is_amiss_in_it_or_in_its_new_area(checkout: Path, kind: str) -> None:
    path = create(checkout, f"{kind}/some-example/hello-world")
    assert areas.find(checkout)["some-example"].title == "Some example"
    assert list(lint.check(checkout, [path])) == []
    assert list(lint.check_areas(checkout)) == []


def test_a_known_area_keeps_what_is_said_of_it(checkout: Path) -> None:
    first = create(checkout, "runbooks/example/one")
    said = checkout / first.parent / "area.toml"
    said.write_text(said.read_text().replace("Example", "An example"))
    create(checkout, "notebooks/example/two")
    assert areas.find(checkout)["example"].title == "An example"


@pytest.mark.parametrize(
    "name", ["", "install", "go/install", "runbooks/go/Install", "docs/go/x", "runbooks/go/ci"]
)
def test_a_name_of_another_form(checkout: Path, name: str, told: Told) -> None:
    with told.raises(NewError):
        create(checkout, name)


def test_a_name_that_is_taken(checkout: Path, told: Told) -> None:
    create(checkout, "runbooks/go/install")
    with told.raises(NewError):
        create(checkout, "runbooks/go/install.ipynb")
