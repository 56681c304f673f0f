"""jobstate, the program of the notebook training/observe, where a container cannot show it.

The kernel's files are made up, with what they say in such a case.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "notebooks/training/observe/jobstate.py"
spec = importlib.util.spec_from_file_location("jobstate", PROGRAM)
assert spec
assert spec.loader
jobstate: Any = importlib.util.module_from_spec(spec)
sys.modules["jobstate"] = jobstate
spec.loader.exec_module(jobstate)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its files of process 7 and of this one, and of their cgroup, /job."""
    for pid in (7, os.getpid()):
        task = tmp_path / f"proc/{pid}/task/{pid}"
        task.mkdir(parents=True)
        (tmp_path / f"proc/{pid}/cgroup").write_text("0::/job\n")
        for stat in (task, tmp_path / f"proc/{pid}"):
            (stat / "stat").write_text(f"{pid} (a job) S {' '.join(['0'] * 40)}\n")
    group = tmp_path / "cgroup/job"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("500000000\n")
    (group / "memory.max").write_text("1000000000\n")
    (group / "memory.events").write_text("oom 0\noom_kill 0\noom_group_kill 0\n")
    (group / "memory.pressure").write_text("some avg10=0.00\nfull avg10=0.00 avg60=0.00\n")
    monkeypatch.setattr(jobstate, "PROC", tmp_path / "proc")
    monkeypatch.setattr(jobstate, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(jobstate, "WINDOW", 0.1)
    return tmp_path


@pytest.mark.parametrize(
    ("kills", "says"),
    [
        (1, "killed by the kernel, out of memory (its limit is 1000 MB)"),
        (0, "killed by signal 9, and not for want of memory in its cgroup"),
    ],
)
def test_who_has_killed_a_job_is_told(
    kernel: Path, capfd: pytest.CaptureFixture[str], kills: int, says: str
) -> None:
    events = kernel / "cgroup/job/memory.events"
    command = f"echo 'oom_kill {kills}' >{events}; kill -KILL $$"
    assert jobstate.run(["sh", "-c", command]) == 137
    assert says in capfd.readouterr().err


def test_a_job_that_is_short_of_memory_is_told_from_one_that_waits(kernel: Path) -> None:
    assert jobstate.state(7, None)[0] == "waits"
    (kernel / "cgroup/job/memory.current").write_text("990000000\n")
    assert jobstate.state(7, None)[0] == "waits"
    (kernel / "cgroup/job/memory.pressure").write_text("some avg10=90\nfull avg10=81.20 avg60=9\n")
    word, sentence = jobstate.state(7, None)
    assert word == "short of memory"
    assert "it has 990 MB of 1000 MB, and stood still for want of more 81 % of the time" in sentence


def test_a_job_that_waits_for_a_disk_is_told(kernel: Path) -> None:
    task = kernel / "proc/7/task/7"
    (task / "stat").write_text((task / "stat").read_text().replace(") S", ") D"))
    (task / "wchan").write_text("rpc_wait_bit_killable")
    word, sentence = jobstate.state(7, None)
    assert word == "waits for a disk"
    assert "it waits for a network file system (threads: 1)" in sentence


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ("oom-kill", "a.service was killed by the kernel, out of memory (MemoryMax=64M)"),
        ("success", "a.service has ended with status 0"),
        ("exit-code", "a.service has ended: exit-code (status 0): see journalctl"),
    ],
)
def test_why_a_service_has_ended_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, says: str
) -> None:
    systemctl = tmp_path / "systemctl"
    shown = f"LoadState=loaded\nMainPID=0\nControlGroup=\nResult={result}\n"
    shown += "ExecMainStatus=0\nMemoryMax=64M\n"
    systemctl.write_text(f"#!/bin/sh\ncat <<'END'\n{shown}END\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    word, sentence = jobstate.look("a.service", None)
    assert word == "ended"
    assert sentence.startswith(says)


@pytest.mark.parametrize("end", ["", '{"step": 9', "\0" * 1_000_000, '{"st' + "\0" * 1_000_000])
def test_a_log_that_ends_in_a_part_of_a_record_or_in_zeros_is_read(
    tmp_path: Path, end: str
) -> None:
    log = tmp_path / "log"
    now = time.time()
    steps = [{"step": step, "time": now - 100 + 10 * step} for step in range(4)]
    log.write_text("".join(json.dumps(step) + "\n" for step in steps) + end)
    found = jobstate.read_log(log)
    assert (found.step, found.usual) == (3, 10)
    assert found.late is True
    steps.append({"step": 4, "time": now - 40})
    log.write_text("".join(json.dumps(step) + "\n" for step in steps))
    assert jobstate.read_log(log).late is False


def test_a_log_of_something_else_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("loss 0.7\n[1, 2]\n")
    with pytest.raises(jobstate.JobError, match=r"has no line of JSON with a step"):
        jobstate.read_log(log)


def test_what_ends_jobstate_run_reaches_the_job() -> None:
    """A supervisor ends what it has started: a job that saves then must be told."""
    job = "trap 'echo saved; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    command = [sys.executable, str(PROGRAM), "run", "sh", "-c", job]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.wait(60) == 3
        assert process.stdout.read() == "saved\n"
