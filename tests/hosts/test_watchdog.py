"""The watchdog of a guest, with a process in the guest's place that answers or does not."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import ROOT

Watch = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def guest() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def watch(tmp_path: Path, guest: subprocess.Popen[bytes]) -> Iterator[Watch]:
    """Watches the guest; ``answers`` is the script that asks it."""
    started = []

    def start(answers: str, silent: int = 2, first: int = 2) -> subprocess.Popen[bytes]:
        script = tmp_path / "answers"
        script.write_text(f"#!/bin/bash\n{answers}\n")
        script.chmod(0o755)
        words = [str(guest.pid), str(tmp_path), str(silent), str(first)]
        started.append(
            subprocess.Popen(
                [ROOT / "ci/images/qemu/watchdog", *words],
                env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_who_does_not_answer_is_ended(
    watch: Watch, guest: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    watch("sleep 60")
    assert guest.wait(timeout=20) == -signal.SIGKILL
    assert (tmp_path / "hung").read_text() == "2\n"


def test_who_answers_goes_on(watch: Watch, guest: subprocess.Popen[bytes], tmp_path: Path) -> None:
    watch("sleep 1")
    time.sleep(7)
    assert guest.poll() is None
    assert not (tmp_path / "hung").exists()


@pytest.mark.parametrize(("first", "asked"), [(20, ""), (2, "reboot"), (2, "order")])
def test_who_boots_or_goes_down_or_is_kept_has_longer(
    first: int, asked: str, watch: Watch, guest: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    if asked:
        (tmp_path / asked).touch()
    watch("sleep 60", first=first)
    time.sleep(5)
    assert guest.poll() is None


def test_who_has_answered_once_has_booted(watch: Watch, guest: subprocess.Popen[bytes]) -> None:
    watch("[ ! -e $(dirname $0)/once ] || exec sleep 60; touch $(dirname $0)/once", first=60)
    assert guest.wait(timeout=30) == -signal.SIGKILL


def test_time_in_which_it_could_not_run_does_not_count(
    watch: Watch, guest: subprocess.Popen[bytes]
) -> None:
    watching = watch("sleep 60", silent=3)
    time.sleep(1)
    os.killpg(watching.pid, signal.SIGSTOP)  # the container is paused
    time.sleep(6)
    os.killpg(watching.pid, signal.SIGCONT)
    time.sleep(0.5)
    assert guest.poll() is None
    assert guest.wait(timeout=20) == -signal.SIGKILL


def test_a_guest_that_ends_takes_its_watchdog_along(
    watch: Watch, guest: subprocess.Popen[bytes]
) -> None:
    watching = watch("sleep 60", silent=60)
    guest.kill()
    guest.wait()
    watching.wait(timeout=10)
