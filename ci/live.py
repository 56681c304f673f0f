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
POLL = 0.5  # seconds between two looks at them
PAUSE = 3.0  # seconds between two builds, for they take time from the runs
ENDING = 60.0  # seconds that runs have to give their hosts back
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Publish = Callable[[Callable[[], None]], None]  # calls what puts the new site in place


class BuildError(Exception):
    """The site could not be built. What mkdocs says, or one sentence."""


class Interrupted(BaseException):
    """Ctrl-C, or a signal that asks for the same."""


def say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


def fail(text: str) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)


def build(publish: Publish) -> None:
    """Builds a site beside the one that is there; when it is whole, it takes that one's place."""
    mkdocs = Path(sys.executable).with_name("mkdocs")
    try:
        shutil.rmtree(NEW, ignore_errors=True)
        done = subprocess.run(
            [mkdocs, "build", "--quiet", "--strict", "--site-dir", NEW],
            # Material announces its successor on every build; mkdocs.yml is such that it can move.
            env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            process_group=0,  # Ctrl-C is for this process to handle
        )
        if done.returncode:
            raise BuildError(explained(done.stdout))
        publish(swap)
    except OSError as error:
        raise BuildError(f"{error.strerror}: {error.filename}") from None
    finally:
        shutil.rmtree(NEW, ignore_errors=True)


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
    # Two steps, and no signal between them.
    ours = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    SITE.rename(OLD)
    NEW.rename(SITE)
    signal.pthread_sigmask(signal.SIG_SETMASK, ours)
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

    def __init__(self, seen: object, publish: Publish) -> None:
        super().__init__()
        self.seen = seen
        self.publish = publish
        self.problem = ""
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(POLL):
            now = fingerprint()
            if now == self.seen:
                continue
            self.seen = now
            self.build()
            self.stopping.wait(PAUSE)

    def build(self) -> None:
        before, self.problem = self.problem, ""
        try:
            build(self.publish)
        except BuildError as error:
            self.problem = str(error)
            if self.problem != before:
                fail(f"The site could not be built, so the one before stays: {error}")

    def stop(self) -> None:
        self.stopping.set()
        self.join()


def run(*command: str, asks: bool = False) -> int:
    """Runs a step and returns its status. A signal ends it as Ctrl-C would."""
    # What asks on the terminal must be in its foreground, where Ctrl-C reaches it anyway.
    shares = asks and sys.stdin.isatty()
    process = subprocess.Popen(
        command,
        stdin=None if shares else subprocess.DEVNULL,
        process_group=None if shares else 0,
    )
    try:
        return process.wait()
    except Interrupted:
        if not shares:
            say("ending the runs (Ctrl-C again does not wait for them)")
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(ENDING)
        except (subprocess.TimeoutExpired, Interrupted):
            if not shares:
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
        raise


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
    seen = fingerprint()
    try:
        build(lambda put: put())
    except BuildError as error:
        if not SITE.is_dir():
            raise
        fail(f"The site could not be built, so the one before stays: {error}")
    try:
        server = Server(SITE, int(os.environ["PORT"]))
    except OSError as error:
        fail(no_port(error))
        return 1
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seconds = time.time() - float(os.environ["STARTED"])
    address = f"http://127.0.0.1:{server.server_port}/"
    say(f"{address}  (first page after {seconds:.0f} s; Ctrl-C ends it)")
    watch = Watch(seen, server.publish)
    watch.start()
    try:
        status = run_notebooks()
        with suppress(Interrupted):
            while True:
                signal.pause()
        return status or bool(watch.problem)
    finally:
        watch.stop()
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
    raise Interrupted


def main() -> int:
    for number in ENDINGS:
        # nohup means it; a shell that ignores Ctrl-C for what it starts with & would have the runs
        # ignore it, too.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        return serve_and_run() if os.environ["SERVE"] == "1" else build_and_run()
    except BuildError as error:
        fail(f"The site could not be built: {error}")
        return 1
    except Interrupted:
        say("ended: site/ is whole, and shows what has run")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
