"""Run bash the way a runbook needs it: from a file, strict, stdin closed, one ordered stream.

``%%bash`` feeds the script on stdin, so the first command that reads stdin swallows the rest of the
cell, and it has neither errexit nor pipefail. Here a script is a file of its own.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STRICT = ("bash", "-Eeuo", "pipefail")
PRELUDE = Path(__file__).with_name("prelude.sh")
KEPT_OUTPUT = 1_000_000  # characters of one script's output that are passed on
LINGERING = 2.0  # seconds that processes which outlive their script are waited for
PR_SET_PDEATHSIG = 1
# What a person's session, and the directory that it is in, must not change: numbers have a point,
# tools speak English, and no module is taken from the working directory.
SAME_EVERYWHERE = {"LC_ALL": "C.UTF-8", "LANGUAGE": "", "PYTHONSAFEPATH": "1"}


@dataclass(frozen=True)
class Failure:
    """Where a script stopped: the line number (from 1) and that line's text."""

    line: int
    text: str


@dataclass(frozen=True)
class Completed:
    """A finished script: exit status, its one stream of output, seconds, and where it failed.

    ``reboot`` is why it wants the host to be started anew (``kb-reboot``), ``refused`` what it was
    ended with (``kb-refuse``), each or "".
    """

    status: int
    output: str
    seconds: float
    failure: Failure | None = None
    script: str = field(default="", repr=False)
    reboot: str = ""
    refused: str = ""

    def __str__(self) -> str:
        return self.output

    def why(self) -> str:
        """One line: what it said with ``kb-refuse``, else which line failed, else its last word."""
        if self.refused:
            return self.refused
        if self.status < 0:
            name = signal.Signals(-self.status).name
            return f"it was ended by {name}"
        if self.failure:
            text = f", `{self.failure.text}`," if self.failure.text else ""
            return f"line {self.failure.line}{text} exited with status {self.status}"
        last = next((li for li in reversed(self.output.splitlines()) if li.strip()), "")
        return f"{last.strip()} (status {self.status})" if last else f"status {self.status}"


class ScriptError(Exception):
    """A script that ended with a status other than 0."""


class ScriptTimeoutError(Exception):
    """A script that was stopped because its time was up."""


def bash(script: str, *, check: bool = True, timeout: float = 300) -> Completed:
    """Run ``script`` and return what it printed.

    With ``check`` a status other than 0 raises :class:`ScriptError`. After ``timeout`` seconds the
    script and its children are killed and :class:`ScriptTimeoutError` is raised.
    """
    done = run(script, timeout=timeout)
    if check and done.status != 0:
        raise ScriptError(f"bash failed: {done.why()}\n{done.output}".rstrip())
    return done


def run(
    script: str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    emit: Callable[[str], object] | None = None,
    scratch: Path | None = None,
    started: Callable[[int], object] | None = None,
    within: Sequence[str] = (),
) -> Completed:
    """Run ``script`` as a file under strict bash.

    ``env`` is added to the environment; ``emit`` gets the output while it comes, whole lines at a
    time; ``scratch`` is the directory to make TMPDIR in; ``started`` gets the process's id, which
    is also its session's; ``within`` is a command that runs bash in a place of its own. Output
    beyond :data:`KEPT_OUTPUT` characters is dropped from the middle.
    """
    with _workspace(scratch) as work:
        file = work / "cell.sh"
        file.write_text(script, encoding="utf-8")
        report = work / "failed"
        reboot = work / "reboot"
        refused = work / "refused"
        temporary = work / "tmp"
        temporary.mkdir()
        before = time.monotonic()
        with _guarded() as guarded:
            process = subprocess.Popen(
                [*within, *STRICT, str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={
                    **os.environ,
                    "TERM": "dumb",
                    "NO_COLOR": "1",
                    **SAME_EVERYWHERE,
                    **(env or {}),
                    "TMPDIR": str(temporary),
                    "BASH_ENV": str(PRELUDE),
                    "KB_FAILED": str(report),
                    "KB_REBOOT": str(reboot),
                    "KB_REFUSED": str(refused),
                    "KB_PYTHON": sys.executable,
                },
                start_new_session=True,  # so that a timeout ends its children, too
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one call, which takes no lock
            )
            try:
                guarded(process.pid)
                if started:
                    started(process.pid)
                output = _follow(process, timeout, emit, _without(file, temporary))
            except BaseException:
                _end(process)
                raise
        seconds = time.monotonic() - before
        _wait_for_others(process.pid)
        no = _said_in(refused)
        failure = _read_failure(report, script) if process.returncode > 0 and not no else None
        status = process.returncode or int(bool(no))
        return Completed(status, output, seconds, failure, script, _said_in(reboot), no)


@contextlib.contextmanager
def _workspace(scratch: Path | None) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="kb-", dir=scratch))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def die_with_parent() -> None:
    """Called in a child: a kernel that is killed must not leave a script behind that goes on."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def _guarded() -> Iterator[Callable[[int], None]]:
    """See to it that what a script has started does not outlive a kernel that is killed.

    The signal of :func:`die_with_parent` reaches bash alone; a download that goes on would write
    where the next run cleans up. The guard is there before the script, is told the script's
    session, and kills that when its pipe ends, which it does with this process, however that does.
    """
    until = 'read -r session && [ "$session" != over ] && { read -r _ || kill -9 "-$session"; }'
    guard = subprocess.Popen(
        ["/bin/sh", "-c", until, "guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def guarded(session: int) -> None:
        assert guard.stdin is not None
        os.write(guard.stdin.fileno(), f"{session}\n".encode())

    try:
        yield guarded
    finally:
        guard.communicate(b"over\n")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _wait_for_others(session: int) -> None:
    """Let what the script left running in its session end: it may still write to TMPDIR.

    A daemon that a step starts goes on; the wait for it is short.
    """
    deadline = time.monotonic() + LINGERING
    while time.monotonic() < deadline and any(
        _session_of(int(path.name)) == session for path in Path("/proc").glob("[0-9]*")
    ):
        time.sleep(0.02)


def _session_of(process: int) -> int:
    try:
        return os.getsid(process)
    except (ProcessLookupError, PermissionError):
        return 0


def _follow(
    process: subprocess.Popen[bytes],
    timeout: float | None,
    emit: Callable[[str], object] | None,
    without: Callable[[str], str],
) -> str:
    """Pass the output on line by line until the script has ended, and return it.

    A background process may keep the pipe open after the script's end (a daemon that a step
    starts): what counts is the script itself, so reading stops shortly after it has exited.
    """
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
    deadline = None if timeout is None else time.monotonic() + timeout
    capped = _Capped(emit, without)
    pending = ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            ready = selector.select(0 if ended else 0.05) if selector.get_map() else []
            chunk = process.stdout.read() if ready else None
            if chunk:
                pending += decoder.decode(chunk)
                whole, newline, pending = pending.rpartition("\n")
                capped.add(whole + newline)
            elif ended:
                break
            elif chunk == b"":  # the script closed its output and goes on
                selector.unregister(process.stdout)
            elif not selector.get_map():
                time.sleep(0.05)
            if deadline is not None and time.monotonic() > deadline:
                capped.add(pending)
                capped.close()
                raise ScriptTimeoutError(f"the script was stopped after {timeout:g} s")
    capped.add(pending + decoder.decode(b"", final=True))
    capped.close()
    process.wait()
    process.stdout.close()
    return capped.text()


def _without(file: Path, temporary: Path) -> Callable[[str], str]:
    """Takes scratch paths out of whole lines: they mean nothing to a reader, and are gone then.

    Bash begins what it says with the script's path: `line 3: x: command not found` is enough. Of
    what the prelude's functions say not even the line: it is none of the cell's.
    """
    ours = re.compile(rf"{re.escape(str(PRELUDE))}: line \d+: ")

    def without(text: str) -> str:
        text = ours.sub("", text).replace(f"{file}: line ", "line ")
        return text.replace(str(temporary), "$TMPDIR")

    return without


class _Capped:
    """Keeps the first and the last half of what is allowed, and says how much is missing."""

    def __init__(self, emit: Callable[[str], object] | None, without: Callable[[str], str]) -> None:
        self.emit = emit or (lambda text: None)
        self.without = without
        self.head = ""
        self.tail = ""
        self.dropped = 0

    def add(self, text: str) -> None:
        text = self.without(text)
        half = KEPT_OUTPUT // 2
        now = text[: half - len(self.head)] if len(self.head) < half else ""
        if now:
            self.head += now
            self.emit(now)
        tail = self.tail + text[len(now) :]
        self.dropped += max(0, len(tail) - half)
        self.tail = tail[-half:]

    def notice(self) -> str:
        return f"\n[... {self.dropped} characters left out ...]\n" if self.dropped else ""

    def close(self) -> None:
        if self.tail:
            self.emit(self.notice() + self.tail)

    def text(self) -> str:
        return self.head + self.notice() + self.tail


def _said_in(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""


def _read_failure(report: Path, script: str) -> Failure | None:
    """The last report that names a command: a subshell that failed is reported as its `)`, too."""
    lines = script.splitlines()
    try:
        numbers = [int(number) for number in report.read_text().split()]
    except (OSError, ValueError):
        return None
    found = [
        Failure(line, lines[line - 1].strip() if 0 < line <= len(lines) else "")
        for line in reversed(numbers)
    ]
    return next((failure for failure in found if not failure.text.startswith(")")), None)
