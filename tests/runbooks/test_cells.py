"""Cells of runbooks where a host is not as the one that CI gives them."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import nbformat
import pytest
from kb.runtime import shell

RUNBOOKS = Path(__file__).parents[2] / "runbooks"


def cell(path: str, identity: str) -> str:
    """The bash of a cell."""
    [found] = [c for c in nbformat.read(RUNBOOKS / path, as_version=4).cells if c.id == identity]
    return str(found.source.partition("\n")[2])


@pytest.mark.parametrize("ended", [False, True])
def test_a_process_that_ends_while_it_is_looked_at(tmp_path: Path, ended: bool) -> None:
    for pid, maps in (("10", 5), ("11", 7)):
        process = tmp_path / pid
        for directory in ("fd", "fdinfo"):
            (process / directory).mkdir(parents=True)
        (process / "maps").write_text("x\n" * maps)
        (process / "fd/3").symlink_to("anon_inode:inotify")
        (process / "fdinfo/3").write_text("inotify wd:1\n" * maps)
        (process / "comm").write_text("editor\n")
    if ended:
        for file in ("comm", "fdinfo/3"):
            (tmp_path / "11" / file).unlink()

    def run(identity: str) -> str:
        done = shell.run(cell("go/kernel-limits.ipynb", identity).replace("/proc", str(tmp_path)))
        assert done.status == 0, done
        return done.output

    name = "it has ended" if ended else "editor"
    assert run("map-holders") == f"7 maps: {name} (11)\n5 maps: editor (10)\n"
    owner = tmp_path.owner()
    total = "5 watches, 1" if ended else "12 watches, 2"
    assert run("watch-holders") == f"{total} instances: {owner} editor\n"


def test_a_program_that_needs_no_c_library(tmp_path: Path) -> None:
    """Nothing is newer than the target, and that is no failure."""
    program = tmp_path / "program"
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, 0, 0, 64, 0, 0, 64, 0, 0)
    program.write_bytes(b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + header)
    why = RUNBOOKS / "go/cgo-portable/why.sh"
    command = ["bash", str(why), str(program), str(tmp_path), "true", "2.31"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
