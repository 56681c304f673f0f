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
from golden import Told

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
    for script in ("site.sh", "versions.sh", "bench.sh", "carry.sh"):
        shutil.copy(ROOT / "ci" / script, checkout / "ci" / script)
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).symlink_to(str(shutil.which(name)))

    def run(line: str, env: dict[str, str] | None = None, **stand_ins: str):
        for name, body in stand_ins.items():
            (commands / name).unlink(missing_ok=True)
            (commands / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
            (commands / name).chmod(0o755)
        parts = "; ".join(
            f". ci/setup/{part}.sh" for part in ("lib", "engine", "python", "browser", "ansible")
        )
        script = f"{parts}; {line}"
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


BOOTSTRAP = {
    "docker": "[[ $1 != image ]]",
    "debootstrap": "echo I: Retrieving; echo 'E: Failed getting release file'; exit 1",
    "apt-get": "",
    "apt-cache": "",
}
NOT_ROOT = {"id": '[[ "$1" == -un ]] && echo somebody || echo 1000'}
ROOT_HERE = {"id": "echo 0"}
APT = {
    "apt-get": '[[ "$*" != *install* ]] || { echo "E: Unable to locate package x"; exit 100; }',
    "apt-cache": "exit 1",
}
ASKED = "ask() { false; }; "
NO_SYSTEMD = "has_systemd() { false; }; wait_for_engine() { false; }; "
SYSTEMD = "has_systemd() { true; }; wait_for_engine() { answer=no; false; }; "
NO_START = "echo; echo 'failed to start daemon: no space left on device'; echo"
REFUSED = {"docker": client(NO_PERMISSION), "getent": "echo docker:x:999:", **NOT_ROOT}
BROWSER = "is_debian() { false; }; "
CARRIED = "mkdir -p runbooks/area; : >runbooks/area/x.ipynb;"
DIES: dict[str, tuple[str, dict[str, str]]] = {
    "no engine and no root": (
        "ensure_engine make site",
        {"docker": client(NO_ENGINE), **NOT_ROOT, "apt-get": ""},
    ),
    "no engine and no packages": (
        "ensure_engine make site",
        {"docker": client(NO_ENGINE), **ROOT_HERE},
    ),
    "an engine that is not wanted": (
        f"{ASKED}ensure_engine make site",
        {"docker": client(NO_ENGINE), **ROOT_HERE, **APT},
    ),
    "an engine that cannot be installed": (
        "ensure_engine make site",
        {"docker": client(NO_ENGINE), **ROOT_HERE, **APT},
    ),
    "an engine elsewhere": (
        "DOCKER_HOST=tcp://127.0.0.1:1 ensure_engine make site",
        {"docker": client("Cannot connect."), **ROOT_HERE},
    ),
    "an engine that refuses this user": ("ensure_engine make site", REFUSED),
    "a group that is not wanted": (
        f"{ASKED}ensure_engine make site",
        {**REFUSED, "sudo": "exit 1"},
    ),
    "a group that takes nobody": ("ensure_engine make site", {**REFUSED, "sudo": "exit 1"}),
    "an engine that does not start": (
        f"{NO_SYSTEMD}start_engine",
        {**ROOT_HERE, "service": "exit 1", "setsid": NO_START},
    ),
    "an engine that systemd does not start": (
        f"{SYSTEMD}start_engine",
        {**ROOT_HERE, "systemctl": "exit 1", "journalctl": "echo no space left on device"},
    ),
    "an engine that starts and does not answer": (
        f"{SYSTEMD}start_engine",
        {**ROOT_HERE, "systemctl": ""},
    ),
    "a bootstrap without root": ("ci/setup/debian-13.sh", {**NOT_ROOT, **BOOTSTRAP}),
    "a bootstrap that fails": ("ci/setup/debian-13.sh", {**ROOT_HERE, **BOOTSTRAP}),
    "a uv that cannot be brought": ("find_uv", {"python3": ""}),
    "an environment that cannot be made": ("uv=false; make_venv x requirements.txt 3.13", {}),
    "an environment that cannot be filled": (
        "find_uv; make_venv x requirements.txt 3.13",
        {"uv": "[[ $1 != pip ]]"},
    ),
    "packages that cannot be added": (
        "venv_is_whole() { [[ $2 == requirements-site.txt ]]; }; ensure_python",
        {"uv": "[[ $1 == --version ]]", "python3": ""},
    ),
    "a browser that is not wanted": (f"{BROWSER}{ASKED}ensure_browser", {}),
    "a browser that cannot be brought": (f"{BROWSER}ensure_browser", {}),
    "versions that cannot be had": (
        "ci/versions.sh lowest",
        {"uv": "[[ $1 != pip ]]"},
    ),
    "versions that nobody knows": ("ci/versions.sh oldest", {"uv": ""}),
    "an Ansible that cannot be brought": (
        "ensure_ansible",
        {"uv": "[[ $1 == --version ]]", "ssh": "", "sha256sum": "echo x"},
    ),
    "what is no runbook is carried": ("ci/carry.sh runbooks/area/none", {}),
    "a carried Python that is none": (f"{CARRIED} ci/carry.sh runbooks/area/x 312", {}),
    "wheels that cannot be brought": (
        f'{CARRIED} mkdir -p .venv/bin; mv "$(command -v python)" .venv/bin/;'
        " ci/carry.sh runbooks/area/x 3.9",
        {
            "find": "",
            "python": "[[ $2 != pip ]] || { echo ERROR: Ignored; echo ERROR: No such x; exit 1; }",
        },
    ),
    "a bench without Python": ("ci/bench.sh", {"uv": "", "find": "", "python3": "exit 1"}),
}


@pytest.mark.parametrize("what", DIES)
def test_a_machine_that_lacks_something(machine: Run, what: str, told: Told) -> None:
    line, stand_ins = DIES[what]
    told(says(machine(line, **stand_ins)))


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


SITE = {"SERVE": "1", "RUN": "1", "PORT": "0"}
SITES = {
    "a port in words": {"PORT": "http"},
    "a port too high": {"PORT": "65536"},
    "some runs": {"RUN": "some"},
    "served in words": {"SERVE": "no"},
}


@pytest.mark.parametrize("what", SITES)
def test_a_site_asked_for_in_other_words(machine: Run, what: str, told: Told) -> None:
    told(says(machine("ci/site.sh", env=SITE | SITES[what])))


def test_a_taken_port_is_said_before_anything_is_done(
    machine: Run, tmp_path: Path, told: Told
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = says(machine("ci/site.sh", env=SITE | {"PORT": str(port)}))
    told(said.replace(str(port), "8000").replace(str(port + 1), "8001"))
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


def test_two_at_once(machine: Run, first: Callable[..., subprocess.Popen[str]], told: Told) -> None:
    process = first(":", "touch started; sleep 60")
    for serve in ("0", "1"):
        said = says(machine("ci/site.sh", env=SITE | {"SERVE": serve}))
        told(said.replace(f"process {process.pid}", "process 1234"))


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
