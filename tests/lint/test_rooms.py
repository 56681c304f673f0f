"""The package has three rooms, and imports go one way: runtime, then proof, then site.

The site's also does with its own few packages, so that a first page does not wait for the others.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ci/kb"
ROOMS = ("runtime", "proof", "site")


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports anywhere, lazily too."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] == "kb")


def arrows_up(package: Path) -> list[str]:
    """Imports of a room further up, and modules that are in no room."""
    found = []
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        if inside == Path("__init__.py"):
            allowed = ROOMS[:1]  # what notebooks import is what runs on hosts
        elif inside.parts[0] not in ROOMS:
            found.append(f"{inside}: is in none of the rooms {', '.join(ROOMS)}")
            continue
        else:
            allowed = ROOMS[: ROOMS.index(inside.parts[0]) + 1]
        for name in imported(path):
            room = f"{name}.".split(".")[1]
            if room in ROOMS and room not in allowed:
                found.append(f"{inside}: imports {name}")
    return found


def test_arrows_go_one_way() -> None:
    assert arrows_up(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "source", "says"),
    [
        ("runtime/a.py", "def f():\n    from kb.proof import life", "imports kb.proof.life"),
        ("runtime/a.py", "import kb.site.load", "imports kb.site.load"),
        ("proof/hosts/a.py", "from kb.site.cells import read", "imports kb.site.cells.read"),
        ("__init__.py", "from kb.proof.claims import Claim", "imports kb.proof.claims.Claim"),
        ("a.py", "", "is in none of the rooms runtime, proof, site"),
    ],
)
def test_an_arrow_up_is_found(file: str, source: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert arrows_up(tmp_path) == [f"{file}: {says}"]


def required(name: str) -> set[str]:
    """The packages that a file of requirements names."""
    return set(re.findall(r"^([a-z0-9-]+)==", (ROOT / name).read_text(), re.MULTILINE))


# Imports every module that is given, where the modules that are named first cannot be found.
IMPORT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}")

absent = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Absent())
for name in sys.argv[2:]:
    __import__(name)
"""


def test_the_site_takes_its_own_packages_alone() -> None:
    later = required("requirements.txt") - required("requirements-site.txt")
    of_module = importlib.metadata.packages_distributions()
    absent = [
        module
        for module, packages in of_module.items()
        if {re.sub(r"[-_.]+", "-", name).lower() for name in packages} <= later
    ]
    assert {"nbformat", "papermill", "docker"} <= set(absent)
    modules = [
        ".".join(path.relative_to(ROOT / "ci").with_suffix("").parts)
        for path in sorted(PACKAGE.glob("site/*.py"))
    ]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, ",".join(absent), *modules],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
