"""ci/evidence/gpu.sh, where there is no card, and with commands that stand in for what it calls."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "ci/evidence/gpu.sh"
PROGRAMS = ("all-cards", "ptx-only", "other-card")
SANDBOX = "notebooks/systemd/cuda-in-a-sandbox"
PAPERMILL = f"""
import os, shutil, sys
open(sys.argv[2], "w").write(sys.argv[-1])
if os.path.exists("{SANDBOX}/probe") and not os.path.exists("ci"):
    print(os.getcwd() + ", strace " + shutil.which("strace"))
sys.exit(1)
"""


def call(path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *map(str, arguments)],
        env=os.environ
        | {"PATH": f"{path}:{os.environ['PATH']}", "STAGE": str(path.parent / "srv")},
        capture_output=True,
        text=True,
        check=False,
    )


def command(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("systemd", "user", "listed"),
    [
        (0, 0, ""),
        (1, 0, ", but not here: it needs systemd, which does not answer"),
        (0, 1000, ", but not here: it needs root"),
    ],
)
def test_without_a_card_it_says_so_and_makes_no_record(
    tmp_path: Path, systemd: int, user: int, listed: str
) -> None:
    """Its status is one of its own, and the programs say it, too; what it would run is listed."""
    command(tmp_path / "bin/nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    command(tmp_path / "bin/systemctl", f"exit {systemd}")
    command(tmp_path / "bin/id", f"echo {user}")
    for name in PROGRAMS:
        command(tmp_path / f"kit/programs/{name}", "echo 'memory: 35, insufficient'; exit 1")
    done = call(tmp_path / "bin", "run", tmp_path / "kit", tmp_path / "out")
    assert (done.returncode, done.stdout) == (3, "")
    first, *says = done.stderr.splitlines()
    assert first.startswith("there is no NVIDIA GPU here: no notebook was run.")
    assert says == [
        "memory: 35, insufficient",
        f"status 1: {tmp_path}/kit/programs/all-cards",
        "with a card, these are run:",
        "  notebooks/cuda/runtime-driver-matrix",
        "  runbooks/cuda/check-host",
        f"  {SANDBOX}{listed}",
    ]
    told = (tmp_path / "out/machine.txt").read_text()
    assert "NVIDIA-SMI has failed\nnvidia-smi: status 9" in told
    assert 'NAME="' in told
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "machine.txt",
        "programs.txt",
    ]


@pytest.mark.parametrize("systemd", [0, 1])
def test_each_program_and_notebook_runs_whatever_became_of_the_one_before(
    tmp_path: Path, systemd: int
) -> None:
    """The commands stand in for a card's, so nothing of this is a record."""
    command(tmp_path / "bin/nvidia-smi", "echo 'GPU 0: none, a test'")
    command(tmp_path / "bin/systemctl", f"exit {systemd}")
    command(tmp_path / "bin/id", "echo 0")
    command(
        tmp_path / "bin/ldconfig", "echo '  libcuda.so.1 (libc6,x86-64) => /drivers/libcuda.so.1'"
    )
    for name in PROGRAMS:
        command(tmp_path / f"kit/programs/{name}", f"echo {name} ran; exit 3")
    site = tmp_path / "site"
    site.mkdir()
    (site / "papermill.py").write_text(PAPERMILL)
    command(tmp_path / "kit/strace/strace", "echo traced")
    (tmp_path / "srv").mkdir()
    with tarfile.open(tmp_path / "kit/site.tar.gz", "w:gz") as archive:
        archive.add(site, ".")
    done = call(tmp_path / "bin", "run", tmp_path / "kit", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    sandbox = tmp_path / "out/cuda-in-a-sandbox.ipynb"
    if systemd:
        says = f"not run here, it needs systemd, which does not answer: {SANDBOX}"
        assert says in done.stdout.splitlines()
        assert not sandbox.exists()
    else:
        assert sandbox.read_text() == "/drivers/libcuda.so.1"
        where = re.search(r"^(\S+/srv/tmp\.\w+), strace (.+)$", done.stdout, re.MULTILINE)
        assert where, "a unit with a /tmp of its own finds what it runs"
        assert where[2] in (shutil.which("strace"), f"{where[1]}/strace/strace")
    assert not list((tmp_path / "srv").iterdir())
    told = (tmp_path / "out/programs.txt").read_text()
    for name in PROGRAMS:
        assert f"{name} ran\nstatus 3: " in told
        assert f"/{name}: {name} ran\n  cause   these words are not known here\n" in told
    assert (tmp_path / "out/runtime-driver-matrix.ipynb").read_text() == "/drivers"
    subjects = (tmp_path / "out/check-host.ipynb").read_text().split()
    assert subjects == [f"{tmp_path}/kit/programs/{name}" for name in PROGRAMS]
    assert not (tmp_path / "out/.site").exists()


@pytest.mark.parametrize("arguments", [(), ("run",), ("run", "kit"), ("pack",), ("unpack", "kit")])
def test_how_it_is_called(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = call(tmp_path, *arguments)
    assert done.returncode == 2
    assert "ci/evidence/gpu.sh run KIT OUT" in done.stderr
