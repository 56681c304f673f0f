"""Builds the site from the records that there are, serves it, and runs what is due behind it.

ci/site.sh starts it, with what make was told in the environment: SERVE, RUN, PORT, and the rest for
ci/setup.sh. A record that a run leaves is on the site and in the open pages seconds later.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from serve import Server

SITE = Path("site")
NEW = Path("build/site.new")
OLD = Path("build/site.old")
LOG = Path("build/mkdocs.log")
# What the site is made of: the records, and what people write meanwhile.
SOURCES = ("build/runs", "docs", "runbooks", "notebooks", "mkdocs.yml", "ci/hosts.toml")
TICK = 0.1  # seconds between two looks at whether this process is to end
POLL = 0.5  # seconds between two looks at them
PAUSE = 3.0  # seconds between two builds, for they take time from the runs
ENDING = 60.0  # seconds that runs have to give their hosts back

ended = threading.Event()  # by Ctrl-C, or a signal that asks for the same
ended_twice = threading.Event()  # by somebody who does not want to wait

Publish = Callable[[Callable[[], None]], None]  # calls what puts the new site in place


class BuildError(Exception):
    """The site could not be built. What mkdocs says, or one sentence."""


class StoppedError(Exception):
    """What was under way has been ended, for this process is to end."""


def say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


def fail(text: str) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)


def build(publish: Publish) -> None:
    """Builds a site beside the one that is there; when it is whole, it takes that one's place."""
    mkdocs = Path(sys.executable).with_name("mkdocs")
    try:
        shutil.rmtree(NEW, ignore_errors=True)
        process = subprocess.Popen(
            [mkdocs, "build", "--quiet", "--strict", "--site-dir", NEW],
            # Material announces its successor on every build; mkdocs.yml is such that it can move.
            env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # Ctrl-C is for this process to handle
        )
        output = output_of(process)
        if process.returncode:
            raise BuildError(explained(output))
        publish(swap)
    except OSError as error:
        raise BuildError(f"{error.strerror}: {error.filename}") from None
    finally:
        shutil.rmtree(NEW, ignore_errors=True)


def output_of(process: subprocess.Popen[str]) -> str:
    """Waits for the end of a process that has nothing to clean up."""
    with process:
        while True:
            try:
                return process.communicate(timeout=TICK)[0]
            except subprocess.TimeoutExpired:
                if ended.is_set():
                    process.kill()
                    raise StoppedError from None


def explained(output: str) -> str:
    """What mkdocs finds wrong; of a traceback the last line, for that names what it is."""
    lines = output.strip().splitlines() or ["mkdocs gave no reason"]
    if any(line.startswith("Traceback ") for line in lines):
        with suppress(OSError):  # the disk may be full
            LOG.write_text(output, encoding="utf-8")
        return f"{lines[-1]} (all of it: {LOG})"
    return "\n".join(re.findall(r"(?m)^(?:ERROR|WARNING) +-  (.*)", output) or lines)


def swap() -> None:
    """Puts the new site where the old one is: in one step, where the file system can."""
    if not SITE.exists():
        NEW.rename(SITE)
        return
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    libc = ctypes.CDLL(None)
    if libc.renameat2(here, os.fsencode(NEW), here, os.fsencode(SITE), exchange) == 0:
        return
    shutil.rmtree(OLD, ignore_errors=True)
    SITE.rename(OLD)
    NEW.rename(SITE)
    shutil.rmtree(OLD)


def fingerprint() -> set[tuple[str, int, int]]:
    """The sources as they are now: path, time and size of each file."""
    found = set()
    for path in source_files():
        with suppress(OSError):  # it may have gone since it was listed
            about = path.stat()
            found.add((str(path), about.st_mtime_ns, about.st_size))
    return found


def source_files() -> Iterator[Path]:
    for source in map(Path, SOURCES):
        if source.is_file():
            yield source
        for directory, _, names in os.walk(source):
            yield from (Path(directory, name) for name in names)


class Watch(threading.Thread):
    """Builds the site again when what it is made of changes, one build at a time."""

    def __init__(self, seen: object, publish: Publish, problem: str) -> None:
        super().__init__()
        self.seen = seen
        self.publish = publish
        self.problem = problem

    def run(self) -> None:
        while not ended.wait(POLL):
            now = fingerprint()
            if now != self.seen:
                self.seen = now
                with suppress(StoppedError):
                    self.build()
                ended.wait(PAUSE)

    def build(self) -> None:
        before, self.problem = self.problem, ""
        try:
            build(self.publish)
        except BuildError as error:
            self.problem = str(error)
            if self.problem != before:
                fail(f"The site could not be built, so the one before stays: {error}")


def run(*command: str, asks: bool = False) -> int:
    """Runs a step and returns its status. Where this process is to end, ends the step first."""
    # What asks on the terminal must be in its foreground, where Ctrl-C reaches it anyway.
    shares = asks and sys.stdin.isatty()
    process = subprocess.Popen(
        command,
        stdin=None if shares else subprocess.DEVNULL,
        process_group=None if shares else 0,
    )
    while process.poll() is None:
        if not ended.wait(TICK):
            continue
        if shares:
            process.terminate()
            process.wait()
        else:
            end_group(process)
        raise StoppedError
    return process.returncode


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it has started, as Ctrl-C does; in the end, by force."""
    say("ending the runs (Ctrl-C again does not wait for them)")
    os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + ENDING
    while process.poll() is None:
        if ended_twice.wait(TICK) or time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_notebooks() -> int:
    """Brings the engine and runs what is due. The status is not 0 if any of it failed."""
    if os.environ["RUN"] == "0":
        return 0
    if run("ci/setup.sh", "engine", "engine", asks=True):
        say("nothing was run, for the set-up failed (see above): the site shows what ran before")
        return 1
    status = run("ci/setup.sh", "run", "engine")
    say("not every notebook passed: see the table above" if status else "the runs have ended")
    return status


def build_and_run() -> int:
    """SERVE=0: the site as it is, then as the runs make it."""
    try:
        build(lambda put: put())
    except BuildError as error:
        fail(f"The site could not be built yet: {error}")
    status = run_notebooks()
    build(lambda put: put())
    say("the site is in site/")
    return status


def serve_and_run() -> int:
    """SERVE=1: the site first, the runs behind it."""
    seen, problem = fingerprint(), ""
    try:
        build(lambda put: put())
    except BuildError as error:
        if not SITE.is_dir():
            raise
        problem = str(error)
        fail(f"The site could not be built, so the one before stays: {problem}")
    try:
        server = Server(SITE, int(os.environ["PORT"]))
    except OSError as error:
        fail(no_port(error))
        return 1
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seconds = time.time() - float(os.environ["STARTED"])
    address = f"http://127.0.0.1:{server.server_port}/"
    say(f"{address}  (first page after {seconds:.0f} s; Ctrl-C ends it)")
    watch = Watch(seen, server.publish, problem)
    watch.start()
    try:
        status = run_notebooks()
        ended.wait()
        return status or bool(watch.problem)
    finally:
        ended.set()
        watch.join()
        server.shutdown()
        server.server_close()


def no_port(error: OSError) -> str:
    port = int(os.environ["PORT"])
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of 127.0.0.1 is taken: stop what listens there,"
            f" or choose another one (make site PORT={port + 1})."
        )
    return f"Port {port} of 127.0.0.1 cannot be had ({error.strerror}): choose another one."


def interrupt(number: int, frame: object) -> None:
    (ended_twice if ended.is_set() else ended).set()


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup means it; a shell that ignores Ctrl-C for what it starts with & would have the runs
        # ignore it, too.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        return serve_and_run() if os.environ["SERVE"] == "1" else build_and_run()
    except BuildError as error:
        fail(f"The site could not be built: {error}")
        return 1
    except StoppedError:
        whole = "site/ is whole, and shows what has run"
        say(f"ended: {whole if SITE.is_dir() else 'there is no site yet'}")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
