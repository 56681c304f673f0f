"""Finds the Go releases that a notebook names, and gives its work an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def link(releases: list[str], toolchains: str, work: Path) -> str:
    """Make $WORK/go/RELEASE a link to each release's tree, and say where it is from.

    ``toolchains`` is a directory with RELEASE/go in it; if it is "", or lacks a release, that one
    comes from $KB_FIXTURES/go, else the go command on PATH downloads it.

    Raises LookupError, in one sentence, when a release cannot be had.
    """
    (work / "go").mkdir()
    fixtures = os.environ.get("KB_FIXTURES", "")
    lines = []
    for release in releases:
        places = [Path(place, release, "go") for place in (toolchains, f"{fixtures}/go") if place]
        goroot = next((place for place in places if (place / "bin/go").exists()), None)
        (work / "go" / release).symlink_to(goroot or _downloaded(release))
        lines.append(f"Go {release}  from {goroot.parent if goroot else 'the go command on PATH'}")
        compiled = Path(fixtures, "go", release, "cache")
        if compiled.is_dir():  # CI has the standard library compiled, so that a run need not do it
            shutil.copytree(compiled, work / "cache", dirs_exist_ok=True)
    for name in ("GOARCH", "GODEBUG", "GOEXPERIMENT", "GOOS", "GOROOT"):
        os.environ.pop(name, None)
    os.environ.update(
        WORK=str(work),
        CGO_ENABLED="0",
        GOCACHE=str(work / "cache"),
        GOENV="off",
        GOFLAGS="",
        GOPATH=str(work / "gopath"),
        GOPROXY="off",
        GOTOOLCHAIN="local",
        GOWORK="off",
        XDG_CONFIG_HOME=str(work / "config"),  # where the go command counts its own use
    )
    return "\n".join(lines)


def _downloaded(release: str) -> Path:
    if not shutil.which("go"):
        raise LookupError(
            f"Go {release} is not here, and there is no go command on PATH to download it: install "
            "one (runbooks/go/install.ipynb), or name in the parameter `toolchains` a directory "
            "that holds RELEASE/go."
        )
    asked = subprocess.run(
        ["go", "env", "GOROOT"],
        env={**os.environ, "GOTOOLCHAIN": f"go{release}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        raise LookupError(
            f"the go command on PATH cannot download Go {release} "
            f"({asked.stderr.strip().splitlines()[-1]}): see that it reaches its module proxy, or "
            "leave that release out of the parameters."
        )
    return Path(asked.stdout.strip())
