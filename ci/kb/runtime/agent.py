"""What runs on a host that CI made: it runs commands there, and forks kernels.

    python -m kb.runtime.agent SOCKET    in a container, which ends when standard input does
    python -m kb.runtime.agent PORT      in a virtual machine

Loading IPython takes longer than a small notebook. A forked kernel has it loaded, and is otherwise
a process of its own. A connection is one command or one kernel: a line of JSON asks for it, further
lines are numbers of signals for it, hanging up kills it. A kernel's own output comes back and, when
all has ended, NUL and a line of JSON that tells how.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

# What every kernel loads when it starts, or with its first cell.
LOADED = (
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "ipykernel.debugger",
    "ipykernel.kernelapp",
    "ipykernel.zmqshell",
    "kb.runtime.magics",
    "psutil",
    "tornado.platform.asyncio",
)
# What the kernel shows there is not a notebook's.
SHOWN = ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue")
# What is in these was made since; that they were written to is what they are for.
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")  # noqa: S108
GRANULARITY = 0.02  # seconds that a time of a file may be behind the clock


def main() -> None:
    """Serve whoever connects."""
    # Nobody steps through a run, and the debugger takes longer to load than all the rest.
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    for name in LOADED:
        with contextlib.suppress(ImportError):  # it has moved: kernels load it, and take longer
            importlib.import_module(name)
    tempfile.gettempdir()  # it tries where it can write, and that is seen
    begun = time.time() - GRANULARITY
    where = sys.argv[1]
    listener = on_port(int(where)) if where.isdigit() else on_path(Path(where))
    shared = None if where.isdigit() else Path(where).parent
    watched: list[Any] = [listener] if shared is None else [listener, sys.stdin]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a supervisor
    gc.freeze()  # what is loaded stays shared with the kernels
    while True:
        ready, _, _ = select.select(watched, [], [])
        if sys.stdin in ready:
            return
        peer, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervise(peer, shared, begun)
        peer.close()


def on_path(place: Path) -> socket.socket:
    """Listen where only the caller can come: the directory is theirs alone."""
    listener = socket.socket(socket.AF_UNIX)
    os.umask(0)  # whoever called may not be the user that the host runs as
    listener.bind(f"{place}.new")
    os.umask(0o022)
    listener.listen()
    Path(f"{place}.new").rename(place)  # who finds it is answered
    return listener


def on_port(port: int) -> socket.socket:
    """Listen on a port, which a machine's network leads nobody to but the caller."""
    listener = socket.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))  # noqa: S104
    listener.listen()
    return listener


def supervise(peer: socket.socket, shared: Path | None, begun: float) -> NoReturn:
    """Do what ``peer`` asks for, pass signals on, and tell how it ended."""
    read = b""
    while b"\n" not in read:
        chunk = peer.recv(1 << 20)
        if not chunk:
            os._exit(0)
        read += chunk
    line, _, signals = read.partition(b"\n")
    request = json.loads(line)
    with tempfile.TemporaryFile(dir=shared) as out, tempfile.TemporaryFile(dir=shared) as err:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            if "command" in request:
                become_command(request, shared, out.fileno(), err.fileno())
            become_kernel(request, peer)
        status = wait_for(child, peer, signals)
        report: dict[str, Any] = {"status": status}
        if "command" in request:
            for name, file in (("out", out), ("err", err)):
                file.seek(0)
                report[name] = file.read().decode(errors="replace")
        else:
            report["residue"] = None if shared is None else residue(shared, begun)
    try:
        peer.sendall(b"\0" + json.dumps(report).encode() + b"\n")
    finally:
        os._exit(0)


def wait_for(child: int, peer: socket.socket, signals: bytes) -> int:
    """Pass on what ``peer`` sends, until ``child`` ends; returns its status."""
    # The child does it, too: whoever is first, the group is there.
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(child, child)
    ended = os.pidfd_open(child)
    watched: list[Any] = [peer, ended]
    while True:
        for number in signals.split():
            os.killpg(child, int(number))
        ready, _, _ = select.select(watched, [], [])
        if ended in ready:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        signals = peer.recv(4096)
        if not signals:
            watched.remove(peer)
            signals = b"9"


def become_command(request: dict[str, Any], shared: Path | None, out: int, err: int) -> NoReturn:
    """Be the ``command`` with ``env`` and ``input``."""
    command = request["command"]
    with tempfile.TemporaryFile(dir=shared) as text:
        text.write(request["input"].encode())
        text.seek(0)
        for ours, theirs in ((text.fileno(), 0), (out, 1), (err, 2)):
            os.dup2(ours, theirs)
    try:
        os.execvpe(command[0], command, {**os.environ, **request["env"]})  # noqa: S606
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def become_kernel(request: dict[str, Any], peer: socket.socket) -> NoReturn:
    """Be the kernel of ``connection``, its files in ``directory``, until told to stop."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(peer.fileno(), 1)
    os.dup2(peer.fileno(), 2)
    peer.close()
    directory = Path(request["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    connection = directory / "kernel.json"
    connection.write_text(json.dumps(request["connection"]))
    os.environ.update(request["env"])
    # A host's kernel leaves nothing on it that a snapshot would see, and cells do not see how.
    private = {"IPYTHONDIR": str(directory / "ipython"), "JUPYTER_RUNTIME_DIR": str(directory)}
    os.environ.update(private)
    from ipykernel.kernelapp import IPKernelApp  # noqa: PLC0415 - see main

    sys.argv = ["ipykernel", "-f", str(connection)]
    os.umask(0)
    app = IPKernelApp.instance()
    app.initialize([*sys.argv[1:], "--HistoryManager.enabled=False", "--quiet"])
    os.umask(0o022)
    for name in private:
        del os.environ[name]
    status = 1
    try:
        app.start()
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def residue(shared: Path, since: float) -> list[str]:
    """The first thing, if any, that is not as it was.

    A process besides this module's own, a queue, a semaphore, shared memory, or a file outside of
    ``shared``, which the other side looks at.
    """
    own = {1, os.getpid(), os.getppid()}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, name, state = status.read_text().replace(")", "(").split("(")
        except OSError:
            continue  # it has just ended
        if int(pid) not in own and state.split()[0] != "Z":
            return [f"process {name}"]
    for table in Path("/proc/sysvipc").iterdir():
        if len(table.read_text().splitlines()) > 1:  # below the names of its columns
            return [f"System V {table.name}"]
    # The times of queues are whole seconds, so whatever is there counts.
    for queue in Path("/dev/mqueue").glob("*"):
        return [f"message queue {queue.name}"]
    skipped = {*SCRATCH, str(shared)}
    try:
        for place in writable():
            if place != str(shared):
                for path, changed in walk(place):
                    if changed > since and path not in skipped:
                        return [path]
    except OSError as error:  # what cannot be looked at was not there before
        return [str(error)]
    return []


def writable() -> list[str]:
    """Where the file systems are mounted that a notebook may write to."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        place, options = mount.split()[4:6]
        if "rw" in options.split(",") and system.split()[0] not in SHOWN:
            found.append(place.encode().decode("unicode_escape"))
    return found


def walk(place: str) -> Iterator[tuple[str, float]]:
    """Each file and directory of one file system, and when it was last changed.

    Whatever is done to a file, or in a directory, sets its change time, and nobody can set that.
    This module looks itself: a notebook may have put another find on the host.
    """
    about = os.lstat(place)
    yield place, about.st_ctime
    waiting = [place] if stat.S_ISDIR(about.st_mode) else []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                inside = entry.stat(follow_symlinks=False)
                yield entry.path, inside.st_ctime
                if stat.S_ISDIR(inside.st_mode) and inside.st_dev == about.st_dev:
                    waiting.append(entry.path)


if __name__ == "__main__":
    main()
