"""What is noted of a roll-out, what is told of a host without a record, how each one stands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from golden import Told
from kb.proof import fleet, inventory, rollouts, taken
from kb.proof.fleet import FleetError
from kb.proof.inventory import InventoryError
from kb.proof.rollouts import HostState, Rollout, RolloutError
from kb.runtime.record import RUN, SCHEMA
from project import Project, wait_for

WHICH = "runbooks/a/x"
OVER_SSH = "Task failed: Failed to connect to the host via ssh: "
OK: dict[str, Any] = {
    "look": {"rc": 0},
    "made": {"results": [{"rc": 0}]},
    "brought": {"checksum": "0"},
    "ran": {"rc": 1, "stderr": ""},
    "fetched": {"failed": True, "msg": "the remote file does not exist"},
}
# By what happens to a host, what its tasks saw where that is not as above.
SEEN: dict[str, dict[str, Any]] = {
    "nobody answers": {
        "look": {"unreachable": True, "msg": f"{OVER_SSH}ssh: connect to host a port 22: timeout"}
    },
    "no ssh key": {
        "look": {"unreachable": True, "msg": f"{OVER_SSH}root@a: Permission denied (publickey)."}
    },
    "an unknown host key": {
        "look": {"unreachable": True, "msg": f"{OVER_SSH}Host key verification failed."}
    },
    "no Python": {"look": {"rc": 3, "stdout": "refused: there is no python3", "msg": "non-zero"}},
    "no file for its Python": {
        "made": {"failed": True, "results": [{"failed": True, "stderr": "error: no wheels\n"}]}
    },
    "no way to put the file there": {"brought": {"failed": True, "msg": "No space left"}},
    "gone before": {"brought": {"unreachable": True, "msg": "x"}},
    "gone in the middle": {"ran": {"unreachable": True, "msg": "x"}},
    "gone afterwards": {"fetched": {"unreachable": True, "msg": "x"}},
    "refused by the runbook": {"ran": {"rc": 1, "stderr": "x\nError: it is locked\n"}},
    "a record that stays away": {"ran": {"rc": 0}},
}


@pytest.fixture
def begun(project: Project) -> Path:
    """A roll-out whose first batch has begun."""
    rollout = Rollout(WHICH, "apply", "hosts.ini", "20261128T010203Z", {}, {"a": HostState()})
    path = rollouts.place(project.root, WHICH, "apply", rollout.started)
    rollouts.write(path, rollout)
    fleet.begin(path, ["a"])
    return path


@pytest.mark.parametrize("what", SEEN)
def test_a_host_without_a_record(project: Project, begun: Path, what: str, told: Told) -> None:
    state = taken.take(project.root, begun, "a", {**OK, **SEEN[what]})
    assert state == rollouts.read(begun).hosts["a"]
    assert state.batch == 1
    told(f"{rollouts.RESULTS[state.result]}: {state.said}")


def test_the_record_of_another_run(project: Project, begun: Path, told: Told) -> None:
    other = {"schema": SCHEMA, "notebook": f"{WHICH}.ipynb", "stage": "plan"}
    project.write(f"{taken.INCOMING}/a.ipynb", {"metadata": {RUN: other}})
    seen = {**OK, "ran": {"rc": 0}, "fetched": {}}
    told(taken.take(project.root, begun, "a", seen).said)
    assert (project.root / taken.INCOMING / "a.ipynb").exists()


def test_a_command_that_lacks_a_word(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fleet", "hosts.ini"])
    with told.raises(FleetError):
        fleet._options()


@pytest.mark.parametrize("share", ["-5", "101", "half"])
def test_a_share_of_failures_that_is_none(
    share: str, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fleet", "x", "y", "plan", f"--max-fail={share}"])
    with told.raises(FleetError):
        fleet._options()


def test_an_end_before_it_has_begun(
    told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fleet, "prepare", interrupted)
    monkeypatch.setattr(sys, "argv", ["fleet", "x", "y", "plan"])
    assert fleet.main() == 130
    told(capsys.readouterr().err)


def test_no_ansible(project: Project, told: Told) -> None:
    project.write("hosts.ini", "a\n")
    with told.raises(InventoryError):
        inventory.read(project.root, project.root / "hosts.ini")


# Ends a second after it was asked to, as what has to end its workers does.
ANSIBLE = """#!/bin/bash
trap 'sleep 1; touch ended; exit 99' INT
touch began
while :; do sleep 0.1; done
"""
RUN_IT = """
from pathlib import Path
from kb.proof import fleet, rollouts
path = {path!r}
fleet.run(Path.cwd(), rollouts.read(Path(path)), {{"path": path}})
"""


def test_a_roll_out_that_is_interrupted(project: Project) -> None:
    project.write("build/ansible/bin/ansible-playbook", ANSIBLE)
    (project.root / "build/ansible/bin/ansible-playbook").chmod(0o755)
    hosts = {"a": HostState("begun", 1), "b": HostState()}
    rollout = Rollout(WHICH, "apply", "hosts.ini", "20261128T010203Z", {}, hosts)
    path = rollouts.place(project.root, WHICH, "apply", rollout.started)
    rollouts.write(path, rollout)
    command = [sys.executable, "-c", RUN_IT.format(path=str(path))]
    with subprocess.Popen(command, cwd=project.root, start_new_session=True) as process:
        wait_for(lambda: (project.root / "began").exists() or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == 0
    assert (project.root / "ended").exists()  # nobody has killed it before
    done = rollouts.read(path)
    assert done.ended
    assert {name: state.result for name, state in done.hosts.items()} == {
        "a": "begun",
        "b": "untouched",
    }
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_end_waits_for_what_is_being_noted(begun: Path) -> None:
    with ThreadPoolExecutor() as background:
        with rollouts.changing(begun) as states:
            ending = background.submit(rollouts.end, begun)
            time.sleep(0.3)
            states["a"] = HostState("passed", 1)
        done = ending.result()
    assert rollouts.read(begun) == done
    assert (done.ended, done.hosts["a"].result) == (True, "passed")


SPOILED: dict[str, Callable[[dict[str, Any]], object]] = {
    "an unknown mode": lambda content: content.update(mode="no"),
    "an unknown result": lambda content: content["hosts"]["a"].update(result="no"),
    "no date": lambda content: content.update(started="yesterday"),
    "no hosts": lambda content: content.pop("hosts"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_damaged_note(project: Project, begun: Path, what: str, told: Told) -> None:
    content = json.loads(begun.read_text())
    SPOILED[what](content)
    begun.write_text(json.dumps(content))
    with told.raises(RolloutError):
        rollouts.read(begun)
    found, rejected = rollouts.load(project.root)
    assert not found
    assert list(rejected) == [begun.relative_to(project.root)]


def rolled(mode: str, day: int, **results: str) -> Rollout:
    hosts = {
        name: HostState(result, int(result != "untouched")) for name, result in results.items()
    }
    return Rollout(WHICH, mode, "hosts.ini", f"202611{day:02}T000000Z", {}, hosts, ended=True)


def test_how_each_host_stands() -> None:
    planned = rolled("plan", 1, a="passed", b="passed", c="unreachable", d="passed")
    applied = rolled("apply", 2, a="passed", b="failed", c="untouched", d="untouched")
    back = rolled("rollback", 3, b="passed")
    looked = rolled("plan", 4, a="passed")
    stands = rollouts.stands([looked, back, applied, planned])
    assert stands == {"a": applied, "b": back, "c": planned, "d": planned}
    assert (applied.outcome, applied.bad, applied.untouched) == (
        "stopped by batch 1",
        ["b"],
        ["c", "d"],
    )
    assert (planned.outcome, back.outcome) == ("failed in part", "passed")
    assert rollouts.stands([rolled("apply", 5, e="untouched")])["e"].mode == "apply"


def test_what_differs() -> None:
    facts = {"a": {"system": "13", "Python": "3.13"}, "b": {"system": "12", "Python": "3.13"}}
    assert rollouts.differing(facts) == {"system": {"13": ["a"], "12": ["b"]}}
