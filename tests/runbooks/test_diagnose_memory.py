"""What the words of a service and a kernel mean, and what a cgroup of either version says."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

# As they stand in a log; the kernel's and systemd's from Debian 13. Which cause is told.
WORDS = {
    "kernel: Memory cgroup out of memory: Killed process 812 (orders) total-vm:1909228kB,"
    " anon-rss:523456kB, file-rss:4608kB": "its cgroup was at its limit",
    "kernel: Out of memory: Killed process 812 (orders) total-vm:1909228kB": "the host had no",
    "orders.service: Failed with result 'oom-kill'.": "killed it for memory",
    "    Reason:       OOMKilled\n    Exit Code:    137": "killed it for memory",
    "runtime: cannot allocate memory\nfatal error: runtime: cannot allocate memory": "refused",
    "fatal error: runtime: out of memory": "refused memory to Go",
    "runtime/cgo: pthread_create failed: Resource temporarily unavailable": "more threads",
    "runtime: failed to create new OS thread (have 5 already; errno=11)": "more threads",
    "worker: signal: killed": "sent SIGKILL",
    "orders.service: Main process exited, code=killed, status=9/KILL": "sent SIGKILL",
    "orders.service: Main process exited, code=killed, status=9/KILL\n"
    "kernel: Memory cgroup out of memory: Killed process 812 (orders)": "its cgroup was at",
}


@pytest.fixture
def memory(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("runbooks/serving/diagnose-memory/memory.py")


@pytest.mark.parametrize("words", WORDS)
def test_words_have_their_cause(memory: ModuleType, words: str) -> None:
    said, cause, do = memory.told(words)
    assert said in words
    assert WORDS[words] in cause
    assert do


def test_a_log_without_such_words_tells_nothing(memory: ModuleType) -> None:
    assert memory.told("http: Server closed\nkilled 3 idle connections") is None


def written(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_text(content)


def test_a_limit_above_a_cgroup_counts(memory: ModuleType, tmp_path: Path) -> None:
    stat = "anon 700\nfile 300\nshmem 100\n"
    unit = {"memory.current": "1000\n", "memory.max": "max\n", "memory.stat": stat}
    written(tmp_path, {"cgroup.controllers": "memory\n"})
    written(tmp_path / "web.slice", {"memory.max": "4096\n", "memory.stat": stat})
    written(tmp_path / "web.slice/a.service", unit | {"memory.events": "high 0\noom_kill 2\n"})
    found = memory.group("0::/web.slice/a.service\n", tmp_path)
    assert found == memory.Group(used=1000, allowed=4096, files=200, kills=2)
    # In a container the path is the host's, and only its own is mounted.
    (tmp_path / "memory.stat").write_text(stat)
    assert memory.group("0::/docker/71f\n", tmp_path).allowed == math.inf


def test_the_first_version_of_cgroups_is_read(memory: ModuleType, tmp_path: Path) -> None:
    stat = "cache 1\ntotal_cache 300\ntotal_shmem 100\nhierarchical_memory_limit {}\n"
    files = {"memory.usage_in_bytes": "1000\n", "memory.oom_control": "under_oom 0\noom_kill 1\n"}
    written(tmp_path / "memory", files | {"memory.stat": stat.format(4096)})
    found = memory.group("9:cpu:/x\n4:memory:/docker/71f\n0::/x\n", tmp_path)
    assert found == memory.Group(used=1000, allowed=4096, files=200, kills=1)
    written(tmp_path / "memory", {"memory.stat": stat.format(9223372036854771712)})
    assert memory.group("4:memory:/\n", tmp_path).allowed == math.inf


def test_what_goes_up_and_down_does_not_grow(memory: ModuleType) -> None:
    assert memory.grows([100, 130, 160, 190], 50)
    assert not memory.grows([100, 190, 160, 230], 50)
    assert not memory.grows([100, 110, 120, 130], 50)
    assert not memory.grows([100], 50)


def test_what_go_gives_back_meanwhile_is_not_taken_for_growth(memory: ModuleType) -> None:
    assert memory.surely_grows([(0, 1), (9, 10), (18, 19)], 10)
    assert not memory.surely_grows([(0, 40), (9, 10), (18, 19)], 10)
    assert not memory.surely_grows([(0, 1), (9, 20), (18, 19)], 10)


def test_what_go_never_touched_is_nothing_of_c(memory: ModuleType) -> None:
    empty = {"Sys": 0, "HeapReleased": 0}
    look = memory.Look({}, {}, empty, 0, 0, 300, (240, 310), {}, memory.Group())
    assert look.outside == (0, 10)
