"""The set-up scripts on machines that lack something, played by stand-ins for their commands."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_ENGINE = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
NO_PERMISSION = "permission denied while trying to connect to the Docker daemon socket"

# What a script may use of the real system: nothing that installs, starts or serves.
COMMANDS = (
    *(
        "awk",
        "bash",
        "cat",
        "cut",
        "dirname",
        "env",
        "flock",
        "grep",
        "head",
        "id",
        "ls",
        "mkdir",
        "mv",
        "rm",
    ),
    *("sed", "sleep", "sort", "tac", "tail", "tar", "timeout", "tr", "true"),
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def machine(tmp_path: Path) -> Run:
    """Runs a line of bash with the set-up's functions, in a checkout and with commands of its own.

    Keyword arguments are stand-ins: a command's name, and the body of the script it becomes.
    """
    checkout, commands = tmp_path / "checkout", tmp_path / "commands"
    shutil.copytree(ROOT / "ci/setup", checkout / "ci/setup")
    shutil.copy(ROOT / "ci/site.sh", checkout / "ci/site.sh")
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).symlink_to(str(shutil.which(name)))

    def run(line: str, env: dict[str, str] | None = None, **stand_ins: str):
        for name, body in stand_ins.items():
            (commands / name).unlink(missing_ok=True)
            (commands / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
            (commands / name).chmod(0o755)
        script = f". ci/setup/lib.sh; . ci/setup/engine.sh; {line}"
        # Nothing of this machine may do: the real commands of set-up are not on PATH.
        return subprocess.run(
            [shutil.which("bash") or "bash", "-c", script],
            cwd=checkout,
            env={"PATH": str(commands), "HOME": str(tmp_path), **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    return run


def says(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a failure."""
    assert done.returncode == 1, done
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def client(answer: str) -> str:
    return f"echo '{answer}' >&2; exit 1"


def test_no_engine_and_no_root_to_install_one(machine: Run) -> None:
    done = machine(
        "ensure_engine make site",
        docker=client(NO_ENGINE),
        id="echo 1000",
        **{"apt-get": "exit 0"},
    )
    sentence = says(done)
    assert "a Docker engine (none answers at /var/run/docker.sock)" in sentence
    assert "run make as root, or install sudo" in sentence
    assert "docker.io" in sentence


def test_no_engine_and_no_packages_to_install_one_from(machine: Run) -> None:
    sentence = says(machine("ensure_engine make site", docker=client(NO_ENGINE), id="echo 0"))
    assert "there is no apt-get here" in sentence


def test_an_engine_that_cannot_be_installed(machine: Run) -> None:
    done = machine(
        "ensure_engine make site",
        docker=client(NO_ENGINE),
        id="echo 0",
        **{
            "apt-get": '[[ "$1" == update ]] || [[ "$*" != *install* ]] ||'
            " { echo 'E: Unable to locate package docker.io'; exit 100; }",
            "apt-cache": "exit 1",
        },
    )
    assert "E: Unable to locate package docker.io" in says(done)
    assert "build/apt.log" in says(done)


def test_an_engine_that_refuses_this_user(machine: Run) -> None:
    done = machine(
        "ensure_engine make site",
        docker=client(NO_PERMISSION),
        id='[[ "$1" == -un ]] && echo somebody || echo 1000',
        getent="echo docker:x:999:",
    )
    sentence = says(done)
    assert "The Docker engine refuses user somebody" in sentence
    assert "usermod -aG docker somebody" in sentence


def test_an_engine_that_does_not_start(machine: Run) -> None:
    done = machine(
        "has_systemd() { false; }; wait_for_engine() { return 1; }; start_engine",
        id="echo 0",
        service="exit 1",
        setsid="echo; echo 'failed to start daemon: no space left on device'; echo",
    )
    sentence = says(done)
    assert (
        "failed to start daemon: no space left on device (all of it: build/dockerd.log)" in sentence
    )


def test_a_named_engine_is_not_replaced_by_one_of_ours(machine: Run) -> None:
    done = machine(
        "ensure_engine make site",
        env={"DOCKER_HOST": "tcp://127.0.0.1:1"},
        docker=client("Cannot connect to the Docker daemon at tcp://127.0.0.1:1."),
        id="echo 0",
    )
    assert "No Docker engine answers at DOCKER_HOST=tcp://127.0.0.1:1" in says(done)


def test_an_engine_that_answers_is_left_alone(machine: Run) -> None:
    done = machine(
        'ensure_engine make site; echo "$DOCKER_HOST"',
        docker='if [[ "$1" == version ]]; then echo 27.0; else echo unix:///run/user/5/d.sock; fi',
    )
    assert (done.returncode, done.stdout) == (0, "unix:///run/user/5/d.sock\n"), done.stderr


def test_the_lock_is_held_and_no_child_inherits_it(machine: Run) -> None:
    done = machine(
        # Bash's own copy of the lock goes when the child becomes another program, not before.
        "started() { sleep 30 & echo $! >pid;"
        " until [[ $(cat /proc/$!/comm) == sleep ]]; do :; done;"
        " flock -n build/x.lock true || echo held; };"
        "locked x started; flock -n build/x.lock true && echo free; kill $(cat pid)"
    )
    assert done.stdout == "held\nfree\n", done.stderr


DEBOOTSTRAP = """
tree=${@: -1}
[[ -z "$(ls -A "$tree")" ]] || { echo "E: not empty: $(ls "$tree")"; exit 1; }
echo first >"$tree/first"
[[ -e ../kill ]] && { rm ../kill; kill -9 "$PPID"; }
echo second >"$tree/second"
"""
# `docker import` counts what it is given; afterwards the image is there.
ENGINE = """
case $1 in
image) [[ -e ../image ]] ;;
import) tar --list --file "${@: -2:1}" | sort | tr '\n' ' ' >../image ;;
esac
"""


def test_an_interrupted_bootstrap_is_done_again(machine: Run, tmp_path: Path) -> None:
    stand_ins = {"docker": ENGINE, "debootstrap": DEBOOTSTRAP, "apt-get": "", "apt-cache": ""}
    (tmp_path / "kill").touch()
    killed = machine("ci/setup/debian-13.sh", id="echo 0", **stand_ins)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "image").exists()

    done = machine("ci/setup/debian-13.sh", id="echo 0", **stand_ins)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "image").read_text() == "./ ./first ./second "
    assert not (tmp_path / "checkout/build/bootstrap").exists()

    (tmp_path / "image").write_text("left alone")
    assert machine("ci/setup/debian-13.sh").returncode == 0
    assert (tmp_path / "image").read_text() == "left alone"


def test_a_bootstrap_that_fails_says_why(machine: Run) -> None:
    done = machine(
        "ci/setup/debian-13.sh",
        id="echo 0",
        docker="[[ $1 != image ]]",
        debootstrap="echo I: Retrieving; echo 'E: Failed getting release file'; exit 1",
        **{"apt-get": "", "apt-cache": ""},
    )
    assert "the debian-13 image: E: Failed getting release file (all of it: build/" in says(done)


SITE = {"SERVE": "1", "RUN": "1", "PORT": "0"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"PORT": "http"}, "PORT=http is not a port: say a number from 1 to 65535."),
        ({"PORT": "65536"}, "PORT=65536 is not a port: say a number from 1 to 65535."),
        ({"RUN": "some"}, "RUN=some is not known: say RUN=0, RUN=1 or RUN=all."),
        ({"SERVE": "no"}, "SERVE=no is not known: say SERVE=0 or SERVE=1."),
    ],
)
def test_the_site_is_asked_for_in_other_words(
    machine: Run, given: dict[str, str], sentence: str
) -> None:
    assert says(machine("ci/site.sh", env=SITE | given)) == f"error: {sentence}"


def test_a_taken_port_is_said_before_anything_is_done(machine: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = machine("ci/site.sh", env=SITE | {"PORT": str(port)})
    assert says(done) == (
        f"error: Port {port} of 127.0.0.1 is taken: stop what listens there,"
        f" or choose another one (make site PORT={port + 1})."
    )
    checkout = tmp_path / "checkout"
    assert {path.name for path in checkout.iterdir()} == {"ci", "build"}
    assert {path.name for path in (checkout / "build").iterdir()} == {"site.lock"}


@pytest.fixture
def first(machine: Run, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a `make site` that does something else where it would bring Python or serve."""
    checkout = tmp_path / "checkout"
    begun: list[subprocess.Popen[str]] = []

    def start(ensure_python: str, python: str = "") -> subprocess.Popen[str]:
        script = f"ensure_python() {{ {ensure_python}; }}"
        (checkout / "ci/setup/python.sh").write_text(script)
        (checkout / ".venv/bin").mkdir(parents=True)
        (checkout / ".venv/bin/python").write_text(f"#!/bin/bash\n{python}\n")
        (checkout / ".venv/bin/python").chmod(0o755)
        process = subprocess.Popen(
            ["ci/site.sh"],
            cwd=checkout,
            env={**os.environ, **SITE},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        deadline = time.monotonic() + 30
        while not (checkout / "started").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        return process

    yield start
    for process in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_two_at_once(machine: Run, first: Callable[..., subprocess.Popen[str]]) -> None:
    process = first(":", "touch started; sleep 60")
    for serve in ("0", "1"):
        assert says(machine("ci/site.sh", env=SITE | {"SERVE": serve})) == (
            "error: make site runs in this checkout already"
            f" (process {process.pid}, http://127.0.0.1:0/): use that one, or end it first."
        )


def test_ended_before_there_is_a_site(first: Callable[..., subprocess.Popen[str]]) -> None:
    process = first("touch started; sleep 60 || die 'It is blamed on the network.'")
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr is not None
    said = process.stderr.read().split("\n")
    assert process.wait() == 128 + signal.SIGINT
    assert said == [
        "",
        "== ended before there was a site: make site goes on where it was",
        "",
    ]


def test_a_member_of_the_group_that_has_not_logged_in_again_is_not_asked(machine: Run) -> None:
    done = machine(
        "join_docker_group make engine",
        docker=client(NO_PERMISSION),
        id="case $* in -u|-G|-g) echo 1000;; -un) echo somebody;; -nG*) echo users docker;; esac",
        getent="echo docker:x:999:somebody",
        sudo='echo "$*"',
    )
    assert "usermod" not in done.stdout
    assert "--groups 1000,999 env" in done.stdout and done.stdout.endswith("make engine\n")


@pytest.mark.parametrize(
    ("typed", "consents"), [("\n", True), ("y\n", True), ("n\n", False), ("nein\n", False)]
)
def test_consent_is_asked_on_a_terminal(tmp_path: Path, typed: str, consents: bool) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    done = subprocess.run(
        ["bash", "-c", f". {ROOT}/ci/setup/lib.sh; ask 'May I?'"],
        cwd=tmp_path,
        env=os.environ | {"YES": ""},
        stdin=theirs,
        stderr=theirs,
        check=False,
        timeout=30,
    )
    os.close(ours)
    os.close(theirs)
    assert (done.returncode == 0) == consents


def test_nobody_is_asked_without_a_terminal(machine: Run) -> None:
    assert machine("ask 'May I?' && echo yes").stdout == "yes\n"
