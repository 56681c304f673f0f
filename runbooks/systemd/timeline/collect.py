"""Makes a request under a trace, or asks the flight recorder; keeps what there is about it.

Into the directory come NAME.trace, and NAME.json with the journal's entries, the request's times
and the measured clocks. `show.py` reads them, here or on another machine.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # cells run Python with PYTHONSAFEPATH
import clocks
import gotrace

LEAD = 1.0  # seconds that a trace gets to begin before the request is made
WEB = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # nobody stands between


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("directory", type=Path)
    words.add_argument("name")
    words.add_argument("--service", required=True)
    words.add_argument("--trace", required=True, help="address of the trace, or of the recorder")
    words.add_argument("--request", help="address to ask while it is traced")
    words.add_argument("--timeout", type=float, default=120)
    asked = words.parse_args()
    try:
        collect(asked)
    except (OSError, gotrace.TraceError, subprocess.SubprocessError) as error:
        sys.exit(str(error))


def collect(asked: argparse.Namespace) -> None:
    measured = [clocks.measure()]
    fetched: dict[str, Any] = {}
    tracing = threading.Thread(target=fetch, args=(asked.trace, asked.timeout, fetched))
    tracing.start()
    request = None
    if asked.request:
        time.sleep(LEAD)
        request = ask(asked.request, asked.timeout)
    tracing.join()
    if "error" in fetched:
        raise fetched["error"]
    measured.append(clocks.measure())
    canaries = clocks.canaries(f"timeline-{secrets.token_hex(4)}")
    saved = asked.trace.startswith("file:")
    started, journal = at_that_time(asked.service, fetched["data"]) if saved else now(asked.service)
    kept = {
        "service": asked.service,
        "request": request,
        "started": started,
        "measured": [*measured, clocks.measure()],
        "canaries": canaries,
        "journal": journal,
    }
    asked.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep(asked.directory / f"{asked.name}.trace", fetched["data"])
    keep(asked.directory / f"{asked.name}.json", json.dumps(kept, indent=1).encode())
    size = len(fetched["data"]) / 1024
    print(f"{len(kept['journal'])} entries of the journal, a trace of {size:.0f} KB")


def keep(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error.strerror}") from None


def now(service: str) -> tuple[int, list[dict[str, Any]]]:
    """After when the process that runs now was started (ns), and its entries of the journal."""
    unit = properties(service)
    entries = clocks.entries(f"_SYSTEMD_INVOCATION_ID={unit['InvocationID']}")
    return 1000 * int(unit["ExecMainStartTimestampMonotonic"]), entries


def at_that_time(service: str, trace: bytes) -> tuple[int, list[dict[str, Any]]]:
    """The same of the process that a saved trace is of, which may have ended since.

    It is the last one with an entry before the trace's end. It started after the last entry of
    the process before it.
    """
    last = gotrace.read(trace).last
    found = clocks.entries(f"_SYSTEMD_UNIT={service}.service")
    started, which = 0, ""
    for before, entry in zip([{}, *found], found, strict=False):
        if 1000 * int(entry["__MONOTONIC_TIMESTAMP"]) <= last and invocation(entry) != which:
            started = 1000 * int(before.get("__MONOTONIC_TIMESTAMP", 0))
            which = invocation(entry)
    return started, [entry for entry in found if invocation(entry) == which]


def invocation(entry: dict[str, Any]) -> str:
    return str(entry.get("_SYSTEMD_INVOCATION_ID", ""))


def fetch(url: str, timeout: float, result: dict[str, Any]) -> None:
    try:
        with WEB.open(url, timeout=timeout) as answer:
            result["data"] = answer.read()
    except OSError as error:
        result["error"] = OSError(f"{url}: {error}")


def ask(url: str, timeout: float) -> dict[str, Any]:
    """Make the request; its times are those of CLOCK_MONOTONIC, in nanoseconds."""
    identity = f"timeline-{secrets.token_hex(4)}"
    headers = {
        "X-Request-Id": identity,
        "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
    }
    sent = time.monotonic_ns()
    try:
        asked = urllib.request.Request(url, headers=headers)  # noqa: S310 - a parameter, checked
        answer = WEB.open(asked, timeout=timeout)
    except urllib.error.HTTPError as error:
        answer = error  # an answer, too
    except OSError as error:
        raise OSError(f"{url}: {error}") from None
    first = time.monotonic_ns()
    with answer:
        answer.read()
    done = time.monotonic_ns()
    return {
        "id": identity,
        "url": url,
        "status": answer.status,
        "sent": sent,
        "first": first,
        "done": done,
    }


def properties(service: str) -> dict[str, str]:
    names = "InvocationID,ExecMainStartTimestampMonotonic"
    done = subprocess.run(
        ["systemctl", "show", f"--property={names}", "--", f"{service}.service"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


if __name__ == "__main__":
    main()
