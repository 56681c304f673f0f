"""Starts model servers in turns, asks each, and ends it: start.py OUT TURNS NAME=COMMAND...

OUT gets a line of JSON for each start: its name, what it answered to this file, and how long it
took, in milliseconds: until it listened, until the first answer, and its processor's time in all
after a second one; then the memory that is its own, in kB. Or why it ended.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

DEADLINE = 60  # seconds for a server to listen, and for an answer


def ask(connection: http.client.HTTPConnection) -> str:
    connection.request("POST", "/", Path(__file__).read_bytes())
    return connection.getresponse().read().decode().strip()


def own(pid: int) -> int:
    """The memory that a process has for itself alone."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def start(command: list[str]) -> dict[str, object]:
    began = time.monotonic()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as server:
        assert server.stdout and server.stderr
        late = threading.Timer(DEADLINE, server.kill)
        late.start()
        try:
            said = server.stdout.readline().split()
            if not said:
                why = server.stderr.read().strip().splitlines()
                return {"ended": why[0] if why else f"without a word, after {DEADLINE} s at most"}
            ready = time.monotonic() - began
            connection = http.client.HTTPConnection(said[1], timeout=DEADLINE)
            answer = ask(connection)
            first = time.monotonic() - began
            ask(connection)
            memory = own(server.pid)
            server.terminate()
            _, status, used = os.wait4(server.pid, 0)
            server.returncode = os.waitstatus_to_exitcode(status)
        finally:
            late.cancel()
    spent = used.ru_utime + used.ru_stime
    times = {"ready": ready, "first": first, "processor": spent}
    return {"answer": answer, "own": memory} | {name: 1000 * took for name, took in times.items()}


def main() -> None:
    out, turns = Path(sys.argv[1]), int(sys.argv[2])
    commands = dict(argument.split("=", 1) for argument in sys.argv[3:])
    with out.open("w", encoding="utf-8") as file:
        for turn in range(turns):
            for name in sorted(commands, reverse=bool(turn % 2)):
                seen = start(shlex.split(commands[name]))
                file.write(json.dumps({"name": name} | seen) + "\n")


if __name__ == "__main__":
    main()
