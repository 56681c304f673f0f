"""usage: train.py FAULT LOG     makes twenty steps, a line of LOG for each, and then that

none        goes on
stopped     stops itself, as a debugger or a Ctrl-Z does
loop        computes without end, and makes no step
loader      waits for a process that is to give it data, and does not
peer        waits for another machine, which has taken the connection and says nothing
lock        waits for a lock that it has itself
memory      asks for more memory than it may have (RLIMIT_AS)
killed      is killed by somebody
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path


def steps(log: Path, numbers: Iterator[int]) -> None:
    with log.open("a") as file:
        for step in numbers:
            print(
                json.dumps({"step": step, "time": time.time(), "loss": 4 / (1 + step)}), file=file
            )
            file.flush()
            time.sleep(0.02)


def loop() -> None:
    while True:
        pass


def loader() -> None:
    with subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.read(1)


def peer() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    socket.create_connection(server.getsockname()).recv(1)


def lock() -> None:
    held = threading.Lock()
    held.acquire()
    held.acquire()


def memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    bytearray(2 << 30)


FAULTS: dict[str, Callable[[], object]] = {
    "none": lambda: None,
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "loop": loop,
    "loader": loader,
    "peer": peer,
    "lock": lock,
    "memory": memory,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def main(fault: str, log: str) -> None:
    steps(Path(log), iter(range(1, 21)))
    FAULTS[fault]()
    steps(Path(log), count(21))


if __name__ == "__main__":
    main(*sys.argv[1:])
