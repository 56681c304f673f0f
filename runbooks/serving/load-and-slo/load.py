"""Loads a copy of the server, on a loopback port of its own: nothing else is ever asked anything.

usage: load.py stall       the same stall, as a closed and as an open loop report it
       load.py settings    which setting of the batches is best
       load.py curve       latency by offered load, up to where the objective is missed

The parameters of the runbook come from the environment. What was measured goes to $LOAD_RESULTS.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
STALL = 1.2  # seconds
STALLED_FOR = 5  # seconds of load around it
FEW, MANY = 2, 16  # clients of a closed loop
STARTED_WITHIN = 60  # seconds
ATTEMPTS = 3  # a busy machine can spoil one
MISSED = 2  # rates beyond the knee that are tried, for the picture
RATES = 12  # at most so many are tried
LOWEST = 0.4  # of what a closed loop reached: the first rate
STEP = 1.25  # from one rate to the next
NEAR = 0.9  # of the best throughput is as good
ENOUGH = 0.99  # of the requests of a short measurement have to be good


def parameter(name: str) -> str:
    return os.environ[name]


def seconds() -> int:
    return int(parameter("seconds"))


@dataclass(frozen=True)
class Report:
    """What a tool says of a measurement. Times are in seconds."""

    requests: int
    rate: float  # answered with 200, a second
    p50: float
    p90: float
    p99: float
    longest: float
    good: float = 1.0  # the share that was answered with 200
    offered: float = 0.0


class Server:
    """A copy of the server."""

    def __init__(self, process: subprocess.Popen[bytes], rest: int, private: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{rest}/v2/models/model/infer"
        self.private = f"http://127.0.0.1:{private}/metrics"

    def counts(self, name: str) -> dict[str, float]:
        """The series of a metric, by their labels."""
        with urllib.request.urlopen(self.private, timeout=STARTED_WITHIN) as answer:  # noqa: S310
            text = answer.read().decode()
        rows = re.findall(rf"^{name}(\S*) (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in rows}

    def total(self, name: str) -> float:
        """The sum of a metric's series; the name is without inferd_."""
        return sum(self.counts(f"inferd_{name}").values())

    def stall(self) -> None:
        """Once it has answered some requests, it stands still for a moment, as in a long pause."""
        before = self.total("requests_total")
        deadline = time.monotonic() + STARTED_WITHIN
        while self.total("requests_total") < before + 10:
            if time.monotonic() > deadline:
                return  # the report shows that there was no stall
            time.sleep(0.1)
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(STALL)
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def server(rows: str = "16", delay: str = "0ms") -> Iterator[Server]:
    rest, grpc, private = _ports(3)
    command = [
        *(parameter("binary"), "-runtime", parameter("runtime")),
        *("-model", f"model={parameter('model')}", "-log-level", "error"),
        *("-listen", f"127.0.0.1:{rest}", "-listen-grpc", f"127.0.0.1:{grpc}"),
        *("-listen-private", f"127.0.0.1:{private}", "-batch-rows", rows, "-batch-delay", delay),
    ]
    # ONNX Runtime writes a data base of its own into the home directory.
    process = subprocess.Popen(command, env={**os.environ, "HOME": parameter("LOAD_RESULTS")})
    try:
        _wait(process, f"http://127.0.0.1:{rest}/v2/health/ready")
        yield Server(process, rest, private)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STARTED_WITHIN)
        process.kill()
        process.wait()


def _ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(
                "the copy of the server has ended, see above: correct binary, runtime or model"
            )
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return
        time.sleep(0.1)
    sys.exit(f"the copy of the server is not ready after {STARTED_WITHIN} s")


def vegeta(to: Server, options: list[str], length: int) -> Report:
    """Vegeta's own report."""
    target = f"POST {to.url}\nContent-Type: application/json\n@{parameter('question')}\n"
    attack = subprocess.run(
        [parameter("vegeta"), "attack", "-max-body", "0", "-duration", f"{length}s", *options],
        input=target.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    report = subprocess.run(
        [parameter("vegeta"), "report", "-type", "json"],
        input=attack.stdout,
        stdout=subprocess.PIPE,
        check=True,
    )
    said = json.loads(report.stdout)
    times = {key: value / 1e9 for key, value in said["latencies"].items()}
    return Report(
        *(said["requests"], said["throughput"], times["50th"], times["90th"], times["99th"]),
        *(times["max"], said["success"], said["rate"]),
    )


def closed(to: Server, clients: int, length: int) -> Report:
    """Each client asks again when it has been answered."""
    return vegeta(
        to, ["-rate", "0", "-workers", f"{clients}", "-max-workers", f"{clients}"], length
    )


def constant(to: Server, rate: float, length: int) -> Report:
    """So many requests a second, whatever became of those before."""
    return vegeta(to, ["-rate", f"{max(1, round(rate))}/1s"], length)


def wrk(to: Server, length: int) -> tuple[Report, int]:
    """Wrk's own report, and how many samples its percentiles are made of."""
    script = str(Path(__file__).with_name("post.lua"))
    options = ["-t1", f"-c{FEW}", f"-d{length}s", "--timeout", "30s", "-s", script]
    done = subprocess.run(
        [parameter("wrk"), *options, to.url],
        env={**os.environ, "QUESTION": parameter("question")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    times = [said[key] / 1e6 for key in ("p50", "p90", "p99", "max")]
    rate = said["requests"] / said["microseconds"] * 1e6
    return Report(said["requests"], rate, *times), said["samples"]


def stall() -> None:
    """The same server, the same stall: what each way of asking makes of it."""
    for attempt in range(ATTEMPTS):
        with server() as to:
            rows = [
                (
                    f"closed loop: vegeta -rate 0, {FEW} workers",
                    *_stalled(to, partial(closed, to, FEW, STALLED_FOR)),
                )
            ]
            rate = max(rows[0][1].rate / 2, 10)
            rows += [
                (
                    f"open loop: vegeta -rate {rate:.0f}",
                    *_stalled(to, partial(constant, to, rate, STALLED_FOR)),
                )
            ]
            guessed = None
            if parameter("wrk"):
                guessed, own = _stalled(to, partial(wrk, to, STALLED_FOR))
                rows += [(f"closed loop: wrk -c {FEW}", guessed[0], own)]
        print(f"{'':<38} requests   p50     p90     p99     longest  the server's own p99")
        for name, report, own in rows:
            times = "  ".join(_ms(t) for t in (report.p50, report.p90, report.p99, report.longest))
            print(f"{name:<38} {report.requests:>7} {times}  {_ms(own)}")
        if guessed:
            report, samples = guessed
            print(f"wrk's percentiles are of {samples} samples, from {report.requests} requests")
        hides, shows = rows[0][1], rows[1][1]
        if hides.longest > STALL / 2 and shows.p90 > 2 * hides.p90 and shows.p90 > STALL / 5:
            return
        print(f"(attempt {attempt + 1}: something else disturbed it; once more)")
    sys.exit("the loops do not differ: is the machine busy, or a request slower than the stall?")


def _stalled(to: Server, load: Callable[[], T]) -> tuple[T, float]:
    """What the load's tool reports, and the p99 of the server's own histogram meanwhile."""
    name = "inferd_request_duration_seconds_bucket"
    before = to.counts(name)
    stalling = threading.Thread(target=to.stall)
    stalling.start()
    report = load()
    stalling.join()
    after = {labels: value - before.get(labels, 0) for labels, value in to.counts(name).items()}
    return report, _quantile(after, 0.99)


def _quantile(buckets: dict[str, float], quantile: float) -> float:
    """The upper bound of the bucket that the quantile lies in."""
    bounds: dict[float, float] = {}
    for labels, count in buckets.items():
        found = re.search(r'le="([^"]+)"', labels)
        assert found
        bound = float(found[1])
        bounds[bound] = bounds.get(bound, 0) + count
    total = max(bounds.values())
    return next(bound for bound, count in sorted(bounds.items()) if count >= quantile * total)


def settings() -> None:
    """The highest throughput; of those near it, the one that is quickest for a lone client."""
    print("rows:delay   lone client      16 clients           rows in a batch")
    measured = []
    for setting in parameter("settings").split():
        rows, delay = setting.split(":")
        with server(rows, delay) as to:
            lone = closed(to, 1, seconds())
            rows_before, runs_before = to.total("batch_rows_sum"), to.total("batch_rows_count")
            many = closed(to, MANY, seconds())
            ran = to.total("batch_rows_sum") - rows_before
            sizes = ran / (to.total("batch_rows_count") - runs_before)
        times = f"p50 {_ms(lone.p50)}  {many.rate:>6.0f}/s  p99 {_ms(many.p99)}"
        print(f"{setting:<11} {times}   {sizes:>5.1f}")
        wait = float(re.sub("ms$", "", delay)) / 1000
        if lone.p50 < wait:
            sys.exit(
                f"a lone client was answered before the delay of {delay}: the setting has no effect"
            )
        measured.append((setting, many.rate, lone.p50))
    best = max(rate for _, rate, _ in measured)
    good = [row for row in measured if row[1] >= NEAR * best]
    chosen = min(good, key=lambda row: row[2])[0]
    _keep("setting", chosen)
    print(f"chosen: {chosen}, of {len(good)} near {best:.0f}/s the quickest for a lone client")


def curve() -> None:
    """Rates from low to high; the knee lies between the last that was kept and the next."""
    setting = _kept("setting", "16:0ms")
    limit = float(parameter("threshold"))
    with server(*setting.split(":")) as to:
        most = closed(to, MANY, seconds()).rate
        print(f"setting {setting}; {MANY} clients of a closed loop get {most:.0f} answers a second")
        print("offered   answered   p50     p90     p99     answered with 200")
        points: list[Report] = []
        rate, missed = LOWEST * most, 0
        while missed < MISSED and len(points) < RATES and rate >= 1:
            for _ in range(ATTEMPTS):
                point = constant(to, rate, seconds())
                if kept := _is_kept(point, limit):
                    break
            points.append(point)
            times = "  ".join(_ms(t) for t in (point.p50, point.p90, point.p99))
            rates = f"{point.offered:>5.0f}/s  {point.rate:>6.0f}/s"
            line = f"{rates}  {times}  {100 * point.good:>5.1f} %"
            print(line if kept else f"{line}   missed")
            if kept:
                missed = 0
            elif not any(_is_kept(one, limit) for one in points):
                rate /= 2 * STEP  # not even this: lower ones
                missed = 0
            else:
                missed += 1
            rate *= STEP
    points.sort(key=lambda point: point.offered)
    results = {"limit": limit, "setting": setting, "points": [asdict(point) for point in points]}
    _keep("curve", results)
    borne = max((p.offered for p in points if _is_kept(p, limit)), default=0.0)
    beyond = [p.offered for p in points if p.offered > borne]
    if not borne:
        print(f"no rate has its p99 within {1000 * limit:g} ms: is this machine busy?")
    elif not beyond:
        print(f"every rate is within the objective, up to {borne:.0f}/s: load with another machine")
    else:
        print(f"the knee: {borne:.0f}/s are borne, {beyond[0]:.0f}/s are not")
    if any(not _is_kept(point, limit) for point in points if point.offered < borne):
        print("(a lower rate was missed: other work disturbed it; measure again in a quiet hour)")


def _is_kept(point: Report, limit: float) -> bool:
    return point.p99 <= limit and point.good >= ENOUGH


def _ms(value: float) -> str:
    return f"{1000 * value:>6.0f}" if value >= 0.01 else f"{1000 * value:>6.1f}"


def _keep(name: str, value: Any) -> None:
    Path(parameter("LOAD_RESULTS"), f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


def _kept(name: str, otherwise: str) -> str:
    place = Path(parameter("LOAD_RESULTS"), f"{name}.json")
    return str(json.loads(place.read_text(encoding="utf-8"))) if place.exists() else otherwise


if __name__ == "__main__":
    {"stall": stall, "settings": settings, "curve": curve}[sys.argv[1]]()
