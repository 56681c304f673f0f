"""The version moves with the tags, and a build without history has one, too."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import kb
from packaging.version import Version
from project import ROOT, git


def version(checkout: Path) -> str:
    shutil.copy(ROOT / "setup.py", checkout)
    return str(runpy.run_path(str(checkout / "setup.py"))["version"]())


def test_it_is_the_tag_and_how_far_this_is_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "--message", "one")
    assert version(tmp_path) == "0"
    git(tmp_path, "tag", "v2026.48")
    git(tmp_path, "tag", "venerable")
    assert version(tmp_path) == "2026.48"
    git(tmp_path, "commit", "--allow-empty", "--message", "two")
    later = version(tmp_path)
    assert later.startswith("2026.48.post1+g")
    assert Version("2026.48") < Version(later) < Version("2026.49")


def test_an_archive_takes_no_version_from_what_it_lies_in(tmp_path: Path) -> None:
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "--message", "one")
    git(tmp_path, "tag", "v2026.48")
    (tmp_path / "archive").mkdir()
    assert version(tmp_path / "archive") == "0"


def test_the_package_tells_it() -> None:
    assert Version(kb.__version__)
