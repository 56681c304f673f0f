"""What a host makes in the directory that it shares is of no use to anybody on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kb.proof.hosts import scratch

USE = """
import sys
from kb.proof.hosts import scratch
print(scratch.directory(), flush=True)
sys.stdin.read()
"""
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes such files and mounts")


def start(place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USE],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def directory(process: subprocess.Popen[str]) -> Path:
    assert process.stdout
    return Path(process.stdout.readline().strip())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory in the place of /tmp, which everybody may enter."""
    place = tmp_path / "tmp"
    place.mkdir()
    base = Path(tempfile.gettempdir())
    for path in (place, *place.parents):
        if base in path.parents:
            path.chmod(0o755)
    yield place
    for left in place.iterdir():
        subprocess.run(["umount", str(left)], capture_output=True, check=False)


@root_only
def test_a_program_that_a_host_leaves_makes_nobody_root(place: Path) -> None:
    with start(place) as process:
        shared = directory(process)
        program = shared / "become-root"
        shared.chmod(0o777)  # as a host may
        shutil.copy("/usr/bin/id", program)
        program.chmod(0o4755)
        for command in ([program, "-u"], ["ls", shared]):
            with pytest.raises((PermissionError, subprocess.CalledProcessError)):
                subprocess.run(command, user="nobody", capture_output=True, check=True)
        shared.parent.chmod(0o755)  # even so
        done = subprocess.run([program, "-u"], user="nobody", capture_output=True, check=True)
        assert done.stdout != b"0\n"
        device = shared / "null"
        os.mknod(device, 0o20666, os.makedev(1, 3))
        with pytest.raises(PermissionError):
            device.read_bytes()
        assert not scratch.is_private(shared)
        process.communicate()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_goes_when_the_next_begins(place: Path) -> None:
    with start(place) as alive, start(place) as killed:
        kept, left = directory(alive), directory(killed)
        (left / "file").touch()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.exists()
        with start(place) as following:
            assert directory(following).exists()
            assert not left.parent.exists()
            assert kept.exists()
            following.communicate()
        alive.communicate()
    assert list(place.iterdir()) == []


def test_what_others_put_there_is_left_alone(place: Path) -> None:
    mine = place / "mine"
    mine.mkdir(mode=0o700)
    (mine / "lock").touch()
    (place / "kb-hosts-link").symlink_to(mine)
    open_to_all = place / "kb-hosts-open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (open_to_all / "lock").touch()
    with start(place) as process:
        assert directory(process).exists()
        process.communicate()
    assert sorted(path.name for path in place.iterdir()) == [
        "kb-hosts-link",
        "kb-hosts-open",
        "mine",
    ]
    assert (mine / "lock").exists()
