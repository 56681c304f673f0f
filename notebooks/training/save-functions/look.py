"""What a save function asks of the kernel, and what is left of the old file if it is stopped."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

SAVE = Path(__file__).with_name("save.py")
WRITES = ("write", "pwrite64", "writev")
CALLS = ("openat", *WRITES, "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink")
DEADLINE = 120  # seconds


@dataclass
class Seen:
    """``calls`` are what the second save did, in short. What was left of the first one: when the
    process was ``killed`` at a write amid it; when that write and all later ones were refused, as
    on a ``full`` disk; when only the ``last`` one was. ``said`` are the last words on the full one.
    """

    calls: str
    mode: str
    killed: str
    full: str
    last: str
    said: str


@dataclass
class Run:
    """One second save: its calls, its last words, and what it left in the place of the first."""

    lines: list[str]
    said: str
    left: str
    mode: str


def saver(python_path: str) -> subprocess.Popen[str]:
    """A save.py, which forks for each line that it is told. It ends when this process does."""
    return subprocess.Popen(
        [sys.executable, str(SAVE)],
        env={**os.environ, "PYTHONPATH": python_path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def until(process: subprocess.Popen[str], pattern: str) -> tuple[re.Match[str], str]:
    """The line of that pattern, which the process says at last, and the one before it, if any."""
    assert process.stdout
    said = [""]
    for line in process.stdout:
        if found := re.fullmatch(pattern, line.rstrip("\n")):
            return found, said[-1]
        said.append(line.strip())
    raise RuntimeError("\n".join(said))


def wait_for(number: str, pattern: str) -> None:
    """Until the process of that number has such a line in its status."""
    end = time.monotonic() + DEADLINE
    while not re.search(pattern, Path("/proc", number, "status").read_text(), re.MULTILINE):
        assert time.monotonic() < end, f"{pattern} did not come in {DEADLINE} seconds"
        time.sleep(0.01)


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


def left(place: Path, first: str, status: int) -> tuple[str, str]:
    """What stands in the place of the first checkpoint, which had that digest, and its mode."""
    (file,) = place.glob("last.*")
    content = file.read_bytes()
    same = hashlib.sha256(content).hexdigest() == first
    told = "whole" if same else f"lost: {len(content)} bytes of another"
    return told + ("" if status else ", and no error"), f"{file.stat().st_mode & 0o777:o}"


def save(process: subprocess.Popen[str], name: str, place: Path, *options: str) -> Run:
    """Have two checkpoints saved there, the second one under strace."""
    assert process.stdin
    process.stdin.write(f"{place} {name}\n")
    process.stdin.flush()
    begun, _ = until(process, r"(\d+) (\w{64})")
    number, first = begun.groups()
    wait_for(number, r"^State:\s+T")
    with tempfile.NamedTemporaryFile("r") as trace:
        command = ["strace", "-qq", "-y", "-s", "999", "-o", trace.name, "-p", number, *options]
        with subprocess.Popen(command) as tracer:
            wait_for(number, rf"^TracerPid:\s+{tracer.pid}$")
            os.kill(int(number), signal.SIGCONT)
            ended, said = until(process, r"ended (-?\d+)")
        lines = trace.read().splitlines()
    what, mode = left(place, first, int(ended[1]))
    return Run(lines, said, what, mode)


def look(process: subprocess.Popen[str], name: str) -> Seen:
    """Run a function to its end, then three times more, to a write amid or at the end of it."""
    with tempfile.TemporaryDirectory() as scratch:

        def run(what: str, *options: str) -> tuple[Path, Run]:
            place = Path(scratch, what)
            place.mkdir()
            return place, save(process, name, place, *options)

        place, plain = run("plain", f"--trace={','.join(CALLS)}")
        words = [short(line, place) for line in plain.lines]
        runs = [(word, len(list(same))) for word, same in groupby(filter(None, words))]
        calls = ", ".join(word if n == 1 else f"{word} x{n}" for word, n in runs)
        writes = [n for n, word in enumerate(words) if word == "write"]

        def at(line: int, what: str, further: str = "") -> str:
            """strace's option that has this come to the call of that line."""
            call = plain.lines[line].partition("(")[0]
            when = sum(one.startswith(f"{call}(") for one in plain.lines[: line + 1])
            return f"--inject={call}:{what}:when={when}{further}"

        amid, last = writes[(len(writes) - 1) // 2], writes[-1]
        _, killed = run("killed", at(amid, "signal=KILL"))
        _, full = run("full", at(amid, "error=ENOSPC", "+"))
        _, end = run("end", at(last, "error=ENOSPC", "+"))
    return Seen(calls, plain.mode, killed.left, full.left, end.left, full.said)
