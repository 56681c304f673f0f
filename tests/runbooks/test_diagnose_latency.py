"""What stacks, profiles, cgroups and spans say of a slow service, as they are written."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Two goroutines as Go 1.27 writes them; the first answers a request, the second waits for one.
STACKS = """goroutine 21 [sync.Mutex.Lock, 2 minutes]:
sync.runtime_SemacquireMutex(0xc000014104?, 0x20?, 0x1?)
\t/usr/local/go/src/runtime/sema.go:95 +0x25
sync.(*Mutex).Lock(...)
\t/usr/local/go/src/sync/mutex.go:46
main.(*ledger).add(0xc000014100)
\t/srv/orders/ledger/main.go:55 +0x65
net/http.serverHandler.ServeHTTP({0x1?}, {0x2, 0x3}, 0xc0)
\t/usr/local/go/src/net/http/server.go:3301 +0x8e
created by net/http.(*Server).Serve in goroutine 1
\t/usr/local/go/src/net/http/server.go:3454 +0x485

goroutine 22 [IO wait]:
internal/poll.runtime_pollWait(0x7f, 0x72)
\t/usr/local/go/src/runtime/netpoll.go:351 +0x85
net/http.(*conn).serve(0xc0, {0x1, 0x2})
\t/usr/local/go/src/net/http/server.go:2050 +0x9
"""


@pytest.fixture
def latency(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("runbooks/serving/diagnose-latency/latency.py")


def test_stacks_are_read(latency: ModuleType) -> None:
    busy, idle = latency.goroutines(STACKS)
    assert (busy.serves, idle.serves) == (True, False)
    assert latency.waits(busy) == "lock"
    assert busy.place == "main.(*ledger).add (ledger/main.go:55)"


@pytest.mark.parametrize(
    ("state", "frame", "reason"),
    [
        ("semacquire", "sync.(*Mutex).lockSlow", "lock"),
        ("semacquire", "main.compute", "processor"),  # it waits for the collector
        ("select", "database/sql.(*DB).conn", "pool"),
        ("select", "net/http.(*Transport).roundTrip", "remote"),
        ("IO wait", "net/http.(*body).Read", "client"),
        ("IO wait", "net.(*conn).Read", "remote"),
        ("syscall", "runtime.cgocall", "c"),  # the runtime's own frame
        ("syscall", "github.com/yalue/onnxruntime_go._Cfunc_RunOrtSession", "c"),
        ("syscall", "github.com/ebitengine/purego.SyscallN", "c"),
        ("syscall", "os.(*File).Sync", "disk"),
        ("chan send", "main.record", "goroutine"),
        ("GC assist wait", "main.compute", "processor"),
    ],
)
def test_a_state_and_a_stack_are_a_reason(
    latency: ModuleType, state: str, frame: str, reason: str
) -> None:
    assert latency.waits(latency.Goroutine(state, ((frame, "x.go:1"),))) == reason


def seen(latency: ModuleType, state: str = "running", **more: Any) -> Any:
    frames = (("main.compute", "orders/main.go:7"), ("net/http.serverHandler.ServeHTTP", "x.go:1"))
    one = latency.Goroutine(state, frames)
    given: dict[str, Any] = {"looks": 20, "under_way": [one] * 40, "took": [0.9] * 9, "lasted": 2.0}
    return latency.Seen(**given | more)


def used_up(latency: ModuleType, stopped: int = 19) -> Any:
    quota = latency.Quota(throttled=1.5, stopped=stopped, periods=20, processors=0.2)
    return {"/sys/fs/cgroup/web": quota, "/sys/fs/cgroup": latency.Quota(0, 0, 0, 0)}


def test_who_has_the_processor_is_told(latency: ModuleType) -> None:
    marks = (("runtime.gcBgMarkWorker", "x.go:1"),)
    computes = seen(latency).under_way[0].frames
    account = latency.Account
    # With a tenth of the time on a processor 0.9 s are 0.09 s of work: in time.
    for kind, more in {
        "code": {"counted": account(ran=1, queued=7), "profile": [(9, computes), (3, marks)]},
        "collector": {"counted": account(ran=1), "profile": [(1, computes), (9, marks)]},
        "starved": {"counted": account(ran=1, queued=9), "profile": [(1, computes)]},
        "quota": {"counted": account(quotas=used_up(latency)), "profile": [(1, computes)]},
    }.items():
        assert latency.judge(seen(latency, **more), 0.1).kind == kind
    mild = account(ran=1, quotas=used_up(latency, stopped=2))
    assert latency.judge(seen(latency, counted=mild), 0.1).kind == "code"


def test_who_else_has_it_is_named(latency: ModuleType) -> None:
    counted = latency.Account(ran=0.1, queued=9.9, others={"burn (process 7)": 3.8, "sh": 0.1})
    found = latency.judge(seen(latency, counted=counted, may_use=1, nice=5), 0.1)
    assert "no processor for 99.0%" in found.says
    assert "an answer of 900 ms would take about 9 ms: others have it, burn" in found.says
    assert "(process 7) 1.9 processors" in found.says
    assert "sh" not in found.says.partition("burn")[2]
    assert "than its 5" in found.do
    assert "more than 1 of the" in found.do


def test_its_own_threads_are_nobody_else(
    latency: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency.os, "cpu_count", lambda: 4)
    counted = latency.Account(ran=7.9, queued=60)
    assert latency.judge(seen(latency, counted=counted, may_use=4), 0.2).kind == "code"
    counted = latency.Account(ran=1.9, queued=16)
    found = latency.judge(seen(latency, counted=counted, may_use=1), 0.2)
    assert found.kind == "starved"
    assert "may use 1 of 4 processors, and uses them up" in found.says
    assert found.do.startswith("more than 1 of the 4 processors (taskset")


def test_who_waits_for_one_that_computes_has_no_processor(latency: ModuleType) -> None:
    serves = ("net/http.serverHandler.ServeHTTP", "x.go:1")
    waiting = latency.Goroutine("chan receive", (("main.ask", "m.go:1"), serves))
    for state, frame, kind in (
        ("syscall", "onnx._Cfunc_Run", "starved"),
        ("sleep", "time.Sleep", "goroutine"),
    ):
        worker = latency.Goroutine(state, ((frame, "c.go:1"), ("main.work", "m.go:9")))
        given = {"under_way": [waiting] * 40, "beside": [worker] * 20}
        counted = latency.Account(ran=1, queued=30)
        assert latency.judge(seen(latency, counted=counted, **given), 0.1).kind == kind


def test_what_is_not_the_services_is_told(latency: ModuleType) -> None:
    assert latency.judge(seen(latency, took=[0.01] * 9 + [0.9]), 0.5).kind == "code"
    assert latency.judge(seen(latency, took=[0.01] * 19 + [0.9]), 0.5).kind == "healthy"
    assert latency.judge(seen(latency, connecting=[0.9, 0.9]), 0.5).kind == "connect"
    assert latency.judge(seen(latency, under_way=[]), 0.5).kind == "idle"


@pytest.mark.parametrize(
    ("kind", "queue", "run", "runs"),
    [
        ("delay", 7, 0.1, 10),
        ("saturated", 7, 1, 2),
        ("model", 1, 6, 8),
        # neither alone is half of it
        ("saturated", 3.9, 3.8, 2),
        ("model", 3.8, 3.9, 2),
    ],
)
def test_a_model_servers_histograms_are_told(
    latency: ModuleType, kind: str, queue: float, run: float, runs: int
) -> None:
    counts = {"request": (8 * 10, 10), "queue": (queue * 10, 10), "model": (run * runs, runs)}
    account = latency.Account
    metrics = {
        f"inferd_{name}_duration_seconds_{what}": float(value)
        for name, pair in counts.items()
        for what, value in zip(("sum", "count"), pair, strict=True)
    }
    # A model that is kept from its processor is not slow; who waits for others is not kept from it.
    kept = kind if kind == "delay" else "starved"
    stopped = kind if kind == "delay" else "quota"
    for counted, told in (
        (account(metrics=metrics), kind),
        (account(metrics=metrics, ran=1, queued=20), kind),
        (account(metrics=metrics, ran=1, queued=200), kept),
        (account(metrics=metrics, quotas=used_up(latency)), stopped),
    ):
        assert latency.judge(seen(latency, counted=counted, lasted=3.0), 0.1).kind == told


def test_a_cgroup_of_either_version_is_read(latency: ModuleType, tmp_path: Path) -> None:
    web = tmp_path / "site/web"
    web.mkdir(parents=True)
    (web / "cpu.stat").write_text("usage_usec 9\nnr_throttled 0\nthrottled_usec 0\n")
    (web / "cpu.max").write_text("max 100000\n")
    stat = "usage_usec 9\nnr_periods 9\nnr_throttled 4\nthrottled_usec 1500000\n"
    (web.parent / "cpu.stat").write_text(stat)
    (web.parent / "cpu.max").write_text("20000 100000\n")
    found = latency.quotas("0::/site/web\n", tmp_path)
    assert found == {str(web): (0, 0, 0, 0), str(web.parent): (1.5, 4, 9, 0.2)}
    assert latency.Account(quotas=found).quota[0] == str(web.parent)

    old = tmp_path / "cpu,cpuacct"
    old.mkdir()
    (old / "cpu.stat").write_text("nr_periods 8\nnr_throttled 4\nthrottled_time 2500000000\n")
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert latency.quotas("4:cpu,cpuacct:/docker/71f\n", tmp_path) == {str(old): (2.5, 4, 8, 0)}
    (old / "cpu.cfs_quota_us").write_text("250000\n")
    assert latency.processors(old) == 2.5
    assert latency.quotas("0::/none\n", tmp_path / "none") == {}


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup, of version 1 or 2, that may run for a tenth of a processor."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        above = Path("/sys/fs/cgroup", controllers, path.lstrip("/"))
        made = above / f"quota-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            made.mkdir()
            try:
                if (made / "cpu.max").exists():
                    (made / "cpu.max").write_text("10000 100000")
                    yield made
                    return
                if (made / "cpu.cfs_quota_us").exists():
                    (made / "cpu.cfs_quota_us").write_text("10000")
                    yield made
                    return
            finally:
                made.rmdir()
    pytest.skip("no cgroup with a quota may be made here")


def test_a_quota_that_is_used_up_is_read(latency: ModuleType, group: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        (group / "cgroup.procs").write_text(str(process.pid))
        membership = Path(f"/proc/{process.pid}/cgroup").read_text()
        deadline = time.monotonic() + 60
        place, quota = "", latency.Quota(0, 0, 0, 0)
        while quota.stopped < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
            place, quota = latency.Account(quotas=latency.quotas(membership)).quota
    finally:
        process.kill()
        process.wait()
    assert (Path(place), quota.processors) == (group, 0.1)
    assert quota.stopped >= 3
    assert quota.throttled > 0


def test_what_was_counted_between_two_moments(latency: ModuleType, tmp_path: Path) -> None:
    def account(throttled: float, stopped: int, others: dict[str, float], waited: float) -> Any:
        quotas = {"/web": latency.Quota(throttled, stopped, stopped * 2, 0.5)}
        return latency.Account(quotas=quotas, others=others, pressure=waited)

    later = account(1.5, 9, {"burn": 5.0, "new": 1.0}, 8.0)
    counted = later.since(account(0.5, 4, {"burn": 2.0, "gone": 7.0}, 6.5))
    assert counted.quotas == {"/web": (1.0, 5, 10, 0.5)}
    assert counted.others == {"burn": 3.0, "new": 1.0}
    assert counted.pressure == 1.5
    (tmp_path / "cpu").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n")
    assert latency.pressure(tmp_path / "cpu") == 2.5
    assert latency.pressure(tmp_path / "none") is None
    assert later.since(latency.Account()).pressure is None


def test_addresses_are_written_as_people_do(latency: ModuleType) -> None:
    assert latency.endpoint("0100007F:1F90") == "127.0.0.1:8080"
    assert latency.endpoint("0000000000000000FFFF00000100007F:0050") == "127.0.0.1:80"
    assert latency.endpoint("00000000000000000000000001000000:0050") == "[::1]:80"


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return bytes([number << 3]) + varint(content)
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def test_a_profile_is_read(latency: ModuleType) -> None:
    names = [b"", b"main.compute", b"/srv/orders/main.go"]
    packed = field(2, field(1, varint(1) + varint(300) + varint(1)) + field(2, 5) + field(2, 9))
    alone = field(2, field(1, 300) + field(2, 2))
    places = [field(4, field(1, n) + field(4, field(1, 7) + field(2, n))) for n in (1, 300)]
    function = field(5, field(1, 7) + field(2, 1) + field(4, 2))
    profile = packed + alone + b"".join([*places, function, *(field(6, name) for name in names)])
    one, three = (("main.compute", f"orders/main.go:{line}") for line in (1, 300))
    assert latency.stacks(gzip.compress(profile)) == [(5, (one, three, one)), (2, (three,))]


def test_spans_are_drawn_below_what_they_are_part_of(latency: ModuleType) -> None:
    def written(trace: bytes, key: bytes, parent: bytes, name: bytes, took: int) -> bytes:
        times = b"\x39" + bytes(8) + b"\x41" + took.to_bytes(8, "little")
        return field(2, field(1, trace) + field(2, key) + field(4, parent) + field(5, name) + times)

    spans = written(b"\1", b"\3", b"\2", b"queue", 700_000_000)
    spans += written(b"\2", b"\4", b"", b"other", 5) + written(b"\1", b"\2", b"\7", b"ask", 1 << 30)
    lines = latency.drawn(latency.read_spans(field(1, field(2, spans))))
    assert lines == [
        "trace 01",
        "  ask  1.1 s",
        "    queue  700 ms",
        "trace 02",
        "  other  5e-06 ms",
    ]
