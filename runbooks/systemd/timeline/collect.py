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

import clocks

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
    except (OSError, subprocess.SubprocessError) as error:
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
    unit = properties(asked.service)
    kept = {
        "service": asked.service,
        "request": request,
        "started": 1000 * int(unit["ExecMainStartTimestampMonotonic"]),
        "measured": [*measured, clocks.measure()],
        "canaries": canaries,
        "journal": clocks.entries(f"_SYSTEMD_INVOCATION_ID={unit['InvocationID']}"),
    }
    asked.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (asked.directory / f"{asked.name}.trace").write_bytes(fetched["data"])
    text = json.dumps(kept, indent=1)
    (asked.directory / f"{asked.name}.json").write_text(text, encoding="utf-8")
    size = len(fetched["data"]) / 1024
    print(f"{len(kept['journal'])} entries of the journal, a trace of {size:.0f} KB")


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
