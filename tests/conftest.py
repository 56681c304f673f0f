"""What the tests of the package and of the hosts share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from golden import Told
from project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    root = tmp_path / "project"
    root.mkdir()
    return Project(root)


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Told:
    """Shows a message to a user: it stands in tests/errors, under this test's name."""
    hidden = {}
    if "tmp_path" in request.fixturenames:
        path = str(request.getfixturevalue("tmp_path"))
        hidden = {f"{path}/project/": "", f"{path}/project": "PROJECT", path: "TMP"}
    hidden[tempfile.gettempdir()] = "TMP"
    return Told(request.module.__name__.rpartition(".")[2], request.node.name, hidden)
