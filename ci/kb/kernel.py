"""The first process of a host that CI made: it forks a kernel, ready loaded, for each run.

    python -m kb.kernel SOCKET

Loading IPython takes longer than a small notebook. A forked kernel has it loaded, and is otherwise
a process of its own. A connection to SOCKET is one kernel: a line of JSON asks for it, further
lines are numbers of signals for it, hanging up kills it; its output comes back and, when it has
ended, NUL and a line of JSON with its status and what it left. The host lives as long as somebody
holds this process's standard input open.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
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
    "kb.magics",
    "psutil",
    "tornado.platform.asyncio",
)
# Each file system of a container that a notebook may write to, but the directory of the caller.
WRITABLE = ("/", "/dev", "/dev/shm")  # noqa: S108 - only looked at
# What is in these was made since; that they were written to is what they are for.
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
GRANULARITY = 0.02  # seconds that a time of a file may be behind the clock
# A host's kernel leaves nothing on it that a snapshot would see, and cells do not see how.
FOR_KERNEL_ONLY = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR")


def main() -> None:
    """Serve until standard input ends."""
    # Nobody steps through a run, and the debugger takes longer to load than all the rest.
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    for name in LOADED:
        importlib.import_module(name)
    tempfile.gettempdir()  # it tries where it can write, and that is seen
    begun = time.time() - GRANULARITY
    listener = socket.socket(socket.AF_UNIX)
    place = Path(sys.argv[1])
    # Sockets are made for everyone: whoever called may not be the user that the host runs as. The
    # directory they lie in is the caller's alone, and each message to a kernel is signed.
    os.umask(0)
    listener.bind(f"{place}.new")
    os.umask(0o022)
    listener.listen()
    Path(f"{place}.new").rename(place)  # who finds it is answered
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a supervisor
    gc.freeze()  # what is loaded stays shared with the kernels
    while True:
        ready, _, _ = select.select([sys.stdin, listener], [], [])
        if sys.stdin in ready:
            return
        peer, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervise(peer, place.parent, begun)
        peer.close()


def supervise(peer: socket.socket, shared: Path, begun: float) -> NoReturn:
    """Fork the kernel that ``peer`` asks for, pass signals on, and tell how it ended."""
    request = peer.makefile("rb", buffering=0).readline()
    if not request:
        os._exit(0)
    kernel = os.fork()
    if kernel == 0:
        become_kernel(json.loads(request), peer)
    os.setpgid(kernel, kernel)  # the kernel does it, too: whoever is first, the group is there
    ended = os.pidfd_open(kernel)
    watched: list[Any] = [peer, ended]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if ended in ready:
            break
        asked = peer.recv(4096).split()
        for number in asked or [b"9"]:
            os.killpg(kernel, int(number))
        if not asked:
            watched.remove(peer)
    _, status = os.waitpid(kernel, 0)
    report = {"status": os.waitstatus_to_exitcode(status), "left": left(shared, begun)}
    try:
        peer.sendall(b"\0" + json.dumps(report).encode() + b"\n")
    finally:
        os._exit(0)


def become_kernel(request: dict[str, Any], peer: socket.socket) -> NoReturn:
    """Be the kernel of ``connection_file`` with ``env`` until told to stop."""
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(peer.fileno(), 1)
    os.dup2(peer.fileno(), 2)
    peer.close()
    os.environ.update(request["env"])
    sys.argv = ["ipykernel", "-f", request["connection_file"]]
    os.umask(0)
    from ipykernel.kernelapp import IPKernelApp  # noqa: PLC0415 - see main

    app = IPKernelApp.instance()
    app.initialize([*sys.argv[1:], "--HistoryManager.enabled=False", "--quiet"])
    os.umask(0o022)
    for name in FOR_KERNEL_ONLY:
        os.environ.pop(name, None)
    status = 1
    try:
        app.start()
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def left(shared: Path, since: float) -> list[str]:
    """A process besides this module's own, or a file outside ``shared`` that changed, if any."""
    own = {1, os.getpid(), os.getppid()}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, name, state = status.read_text().replace(")", "(").split("(")
        except OSError:
            continue  # it has just ended
        if int(pid) not in own and state.split()[0] != "Z":
            return [f"process {name}"]
    # Whatever is done to a file, or in a directory, sets its change time, and nobody can set that.
    scratch = [word for place in (*SCRATCH, str(shared)) for word in ("!", "-path", place)]
    newer = ["-xdev", *scratch, "-newerct", f"@{since:.3f}", "-print", "-quit"]
    found = subprocess.run(
        ["find", *WRITABLE, *newer], stdout=subprocess.PIPE, text=True, check=False
    )
    return found.stdout.splitlines()


if __name__ == "__main__":
    main()
