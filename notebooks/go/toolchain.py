"""Puts the Go releases that a notebook names on PATH, each as ``goRELEASE``.

That is what the Go project's own downloads of further releases are called, so the notebooks'
commands can be copied as they stand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# What a person may have set for their own work, and what would change the defaults looked at here.
OWN_SETTINGS = (
    "CC",
    "CGO_ENABLED",
    "GOARCH",
    "GODEBUG",
    "GOEXPERIMENT",
    "GOOS",
    "GOPATH",
    "GOROOT",
)


def install(releases: list[str], toolchains: str, goflags: str, work: Path) -> str:
    """Make a launcher for each release in ``work``, put them on PATH, say where each is from.

    ``toolchains`` is a directory with RELEASE/go in it, or "". A release that is not there comes
    from $KB_FIXTURES/go, and one that is not there either from the go command on PATH, which
    downloads it. The tree of each is $WORK/go/RELEASE. The environment of this process gets
    defaults of its own under ``work``.

    Raises LookupError, in one sentence, when a release cannot be had.
    """
    found = {release: _goroot(release, toolchains) for release in releases}
    launchers = work / "bin"
    launchers.mkdir()
    (work / "go").mkdir()
    for release, (goroot, _) in found.items():
        (work / "go" / release).symlink_to(goroot)
        launcher = launchers / f"go{release}"
        # No command is looked up on PATH: the notebook also runs it where there is no compiler.
        launcher.write_text(f'#!/bin/sh\nexec "{goroot}/bin/go" "$@"\n')
        launcher.chmod(0o755)
        compiled = Path(os.environ.get("KB_FIXTURES", ""), "go", release, "cache")
        if compiled.is_dir():  # CI has the standard library compiled, so that a run need not do it
            shutil.copytree(compiled, work / "cache", dirs_exist_ok=True)
    for name in OWN_SETTINGS:
        os.environ.pop(name, None)
    os.environ.update(
        PATH=f"{launchers}:{os.environ['PATH']}",
        LAUNCHERS=str(launchers),
        WORK=str(work),
        GOCACHE=str(work / "cache"),
        GOENV="off",
        GOFLAGS=goflags,
        GOPATH=str(work / "gopath"),
        GOPROXY="off",
        GOTOOLCHAIN="local",
        GOWORK="off",
        XDG_CONFIG_HOME=str(work / "config"),  # where the go command counts its own use
    )
    return "\n".join(f"go{release}  {origin}" for release, (_, origin) in found.items())


def _goroot(release: str, toolchains: str) -> tuple[Path, str]:
    """The GOROOT of a release, and in words where it comes from."""
    fixtures = os.environ.get("KB_FIXTURES")
    for directory, origin in (
        (toolchains, f"from {toolchains}"),
        (fixtures and f"{fixtures}/go", "from the releases that CI provides"),
    ):
        if directory and Path(directory, release, "go", "bin", "go").exists():
            return Path(directory, release, "go"), origin
    if not shutil.which("go"):
        raise LookupError(
            f"Go {release} is not here and there is no go command on PATH to download it with: "
            "install Go 1.21 or later (runbooks/go/install.ipynb), or name in the parameter "
            "`toolchains` a directory that holds RELEASE/go."
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
            f"({asked.stderr.strip().splitlines()[-1]}): see that it reaches its module proxy, "
            "or leave that release out of `releases` and `run_releases`."
        )
    return Path(asked.stdout.strip()), "from the go command on PATH (GOTOOLCHAIN)"
