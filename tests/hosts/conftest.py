"""What the tests of the hosts share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from places import shape
from project import Project


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the workers of one test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture
def hosted(tmp_path: Path, shared: Path) -> Project:
    """A project for a test that runs notebooks in containers."""
    return shape(tmp_path / "project", shared / "cache")
