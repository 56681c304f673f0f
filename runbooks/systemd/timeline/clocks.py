"""Compares the kernel's clocks with each other, and the journal's stamps with them."""

from __future__ import annotations

import ctypes
import json
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

READINGS = 200  # of which the one with the narrowest bracket counts
CANARIES = 10  # lines that are sent through the journal
UNSYNCHRONISED = 5  # adjtimex's TIME_ERROR


def offset(clock: Callable[[], int]) -> dict[str, int]:
    """``clock`` minus CLOCK_MONOTONIC, in nanoseconds.

    CLOCK_MONOTONIC is read before and after. The other reading was made somewhere between: the
    offset is good to half of that bracket.
    """
    readings = []
    for _ in range(READINGS):
        before = time.monotonic_ns()
        other = clock()
        after = time.monotonic_ns()
        readings.append((after - before, before, other))
    bracket, before, other = min(readings)
    middle = before + bracket // 2
    return {"at": middle, "offset": other - middle, "half": bracket // 2 + 1}


def measure() -> dict[str, Any]:
    """Both offsets, and what the kernel knows about the time of day."""
    timex = ctypes.create_string_buffer(512)  # a struct timex; nothing is set
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    words = ctypes.sizeof(ctypes.c_long)
    return {
        "realtime": offset(time.time_ns),
        "boottime": offset(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)),
        "synchronised": 0 <= state < UNSYNCHRONISED,
        # after modes (padded), offset and freq comes maxerror, in microseconds
        "max_error_us": int.from_bytes(timex.raw[3 * words : 4 * words], "little"),
    }


def canaries(name: str, count: int = CANARIES) -> list[dict[str, int]]:
    """When lines were sent to the journal, and when it says that it got them, in nanoseconds.

    They go the way of a service's standard error. None comes back from a journal that is not read.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as journal:
        journal.settimeout(10)
        journal.connect("/run/systemd/journal/stdout")
        journal.sendall(f"{name}\n\n6\n0\n0\n0\n0\n".encode())  # identifier, unit, priority, flags
        for _ in range(count):
            journal.sendall(f"canary {time.monotonic_ns()}\n".encode())
            time.sleep(0.02)
    found = []
    for entry in entries(f"--identifier={name}", f"--lines={count}"):
        word, _, sent = entry["MESSAGE"].partition(" ")
        if word == "canary":
            found.append({"sent": int(sent), "stamp": 1000 * int(entry["__MONOTONIC_TIMESTAMP"])})
    return found


def entries(*match: str) -> list[dict[str, Any]]:
    """Entries of this boot's journal, everything that was written before included."""
    subprocess.run(["journalctl", "--sync"], check=True, timeout=60)
    fields = "MESSAGE,_PID,_SYSTEMD_INVOCATION_ID"
    done = subprocess.run(
        [
            "journalctl",
            "--boot",
            "--no-pager",
            "--output=json",
            f"--output-fields={fields}",
            *match,
        ],
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    for entry in found:
        message = entry.get("MESSAGE")
        if isinstance(message, list):  # not text: its bytes
            message = bytes(message).decode(errors="replace")
        entry["MESSAGE"] = message or ""
    return found
