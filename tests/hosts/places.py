"""Projects whose notebooks run in containers of the repository's own image."""

from __future__ import annotations

import subprocess
from pathlib import Path

from project import ROOT, SHARED, Project


def shape(root: Path, cache: Path, hosts_toml: str = "") -> Project:
    """A project that shares the repository's image, and what is known of that image's files."""
    (root / "ci").mkdir(parents=True)
    for name in SHARED:
        (root / name).symlink_to(ROOT / name)
    for path in (ROOT / "ci").iterdir():
        if path.name != "hosts.toml" or not hosts_toml:
            (root / "ci" / path.name).symlink_to(path)
    if hosts_toml:
        (root / "ci/hosts.toml").write_text(hosts_toml)
    cache.mkdir(exist_ok=True)
    (root / "build").mkdir()
    (root / "build/cache").symlink_to(cache)
    for name in ("runbooks", "notebooks"):
        (root / name).mkdir()
    return Project(root)


def containers(notebook: str) -> list[str]:
    """The ids of the containers of this notebook."""
    command = ["docker", "ps", "--all", "--quiet", "--filter", f"label=noble-runbooks={notebook}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
