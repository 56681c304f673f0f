"""What a save function asks of the kernel, and what is left of the old file if it is stopped."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

SAVE = Path(__file__).with_name("save.py")
WRITES = ("write", "pwrite64", "writev")
CALLS = ("openat", *WRITES, "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink")
DEADLINE = 120  # seconds


@dataclass
class Seen:
    """``calls`` are what the second save did, in short. ``killed`` and ``full``: what was left of
    the first one, when the process was killed at a write amid it, and when no write was taken any
    more from there on. ``said`` are its last words then."""

    calls: str
    mode: str
    killed: str
    full: str
    said: str


def strace(
    name: str, place: Path, python_path: str, *options: str
) -> tuple[str, subprocess.CompletedProcess[str]]:
    """Save twice under strace: the calls, and what the process said."""
    with tempfile.NamedTemporaryFile("r") as trace:
        done = subprocess.run(
            [
                *("strace", "-qq", "-y", "-s", "999", "-o", trace.name, *options),
                *(sys.executable, str(SAVE), name, str(place)),
            ],
            env={**os.environ, "PYTHONPATH": python_path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        return trace.read(), done


def short(line: str, place: Path) -> str:
    """A call in a word or two; "" if it changes nothing in the directory."""
    call = line.partition("(")[0]
    if str(place) not in line:
        return ""
    if call == "openat":
        if "O_TRUNC" in line and f'"{place}/last' in line:
            return "truncate the old file"
        return "create another" if "O_CREAT" in line else ""
    if call in WRITES:
        return "write"
    if call in ("fsync", "fdatasync"):
        return f"{call} the directory" if f"<{place}>" in line else call
    return re.sub("at2?$", "", call)


def left(place: Path, first: str) -> str:
    """What stands in the place of the first checkpoint, which had that digest."""
    (file,) = place.glob("last.*")
    content = file.read_bytes()
    same = hashlib.sha256(content).hexdigest() == first
    return "whole" if same else f"lost: {len(content)} bytes of another"


def interrupted(name: str, python_path: str, *options: str) -> tuple[str, str]:
    """What is left of the first, and the last words, when that is done amid the second."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        _, done = strace(name, place, python_path, *options)
        assert done.returncode, "it came to its end"
        saved = re.search(r"^saved 0 (\w+)", done.stdout, re.MULTILINE)
        assert saved, done.stderr
        last = done.stderr.strip().splitlines() or [""]
        return left(place, saved[1]), last[-1]


def look(name: str, python_path: str) -> Seen:
    """Run a function to its end, then twice more, to the middle of the second save."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        text, done = strace(name, place, python_path, f"--trace={','.join(CALLS)}")
        assert not done.returncode, done.stderr
        mode = f"{next(place.glob('last.*')).stat().st_mode & 0o777:o}"
        lines = text.splitlines()
        begin = next(n for n, line in enumerate(lines) if '"saving 1' in line)
        end = next(n for n, line in enumerate(lines) if '"saved 1' in line)
        second = [word for line in lines[begin:end] if (word := short(line, place))]
        runs = [(word, len(list(same))) for word, same in groupby(second)]
        calls = ", ".join(word if n == 1 else f"{word} x{n}" for word, n in runs)
        writes = [n for n in range(begin, end) if short(lines[n], place) == "write"]
    amid = writes[len(writes) // 2]
    call = lines[amid].partition("(")[0]
    when = sum(line.startswith(f"{call}(") for line in lines[: amid + 1])
    inject = f"--inject={call}:{{}}:when={when}{{}}"
    killed, _ = interrupted(name, python_path, inject.format("signal=KILL", ""))
    full, said = interrupted(name, python_path, inject.format("error=ENOSPC", "+"))
    return Seen(calls, mode, killed, full, said)
