"""Whatever happens to a run, it is said in one sentence, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from golden import Told
from kb.proof import records
from places import containers, shape
from project import Project, code, notebook, runbook, statuses, wait_for

WAIT = "open('/tmp/begun', 'w').close()\nimport time\ntime.sleep(120)"


def begun(book: str) -> bool:
    """Whether the notebook's first cell runs."""
    return any(
        subprocess.run(
            ["docker", "exec", container, "test", "-e", "/tmp/begun"],  # noqa: S108
            capture_output=True,
            check=False,
        ).returncode
        == 0
        for container in containers(book)
    )


@pytest.fixture
def waiting(hosted: Project) -> tuple[Project, str]:
    """A project with a notebook that waits in its first cell; no other has its name."""
    book = f"notebooks/a/n{uuid.uuid4().hex}.ipynb"
    hosted.add(
        book,
        notebook(code("wait", WAIT), code("never", "1"), parameters='x: str = ""  # nothing'),
    )
    return hosted, book


def test_a_kill_of_pytest_leaves_its_record_alone(waiting: tuple[Project, str]) -> None:
    project, book = waiting
    with project.start("pytest", "--on", "debian-13", book) as process:
        wait_for(lambda: begun(book))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: not containers(book), within=15)
    [run] = records.load(project.root).newest[book, "debian-13"].values()
    assert run.error == records.INTERRUPTED


def test_ctrl_c_is_a_record(waiting: tuple[Project, str]) -> None:
    project, book = waiting
    with project.start("pytest", "--on", "debian-13", book, "-n", "1") as process:
        wait_for(lambda: begun(book))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.wait()
    wait_for(lambda: not containers(book), within=15)
    [run] = records.load(project.root).newest[book, "debian-13"].values()
    assert run.error in ("the run was interrupted (cell `wait`)", records.INTERRUPTED)
    assert process.returncode == 2


def test_a_host_that_disappears(waiting: tuple[Project, str]) -> None:
    project, book = waiting
    with project.start("pytest", "--on", "debian-13", book) as process:
        wait_for(lambda: begun(book))
        [container] = containers(book)
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=True)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert (
        f"{book} on debian-13, run: the host disappeared: the container of debian-13 was removed"
        " while it ran (cell `wait`)"
    ) in out
    assert "Traceback" not in out
    record = project.executed(f"build/runs/debian-13/{book.removesuffix('.ipynb')}.run.ipynb")
    assert list(statuses(record).values())[-2:] == ["failed", "not run"]
    assert record["metadata"]["kb_run"]["result"] == "failed"


def test_the_last_words_of_what_failed_are_told(hosted: Project) -> None:
    script = "%%observe Said\nseq 100 120\necho the device is busy >&2\nfalse | cat"
    hosted.add(
        "notebooks/a/said.ipynb",
        notebook(code("said", script), parameters='x: str = ""  # nothing'),
    )
    done = hosted.run("pytest", "--on", "local", "notebooks")
    said = done.stdout.partition("(cell `said`); its last lines:\n")[2].splitlines()
    assert said[:8] == [f"    {n}" for n in range(114, 121)] + ["    the device is busy"]


def test_a_container_takes_no_more_of_the_machine_than_it_may(waiting: tuple[Project, str]) -> None:
    project, book = waiting
    with project.start("pytest", "--on", "debian-13", book) as process:
        wait_for(lambda: begun(book))
        [container] = containers(book)
        asked = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.IpcMode}}"
        command = ["docker", "inspect", "--format", asked, container]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        mounts = subprocess.run(
            ["docker", "exec", container, "cat", "/proc/mounts"],
            capture_output=True,
            text=True,
            check=True,
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert done.stdout.split() == [str(4 << 30), "4096", "private"]
    [shared] = [line for line in mounts.stdout.splitlines() if " /tmp/kb-hosts-" in line]
    assert {"nosuid", "nodev"} <= set(shared.split()[3].split(",")) or os.geteuid() != 0


def stopped(project: Project, *arguments: str, **env: str) -> str:
    """The one line that pytest ends with before it has run anything."""
    done = project.run("pytest", *arguments, **env)
    assert done.returncode == 4
    assert "Traceback" not in done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    return line.removeprefix("ERROR: ")


def test_no_engine(hosted: Project, told: Told) -> None:
    hosted.add("runbooks/a/x.ipynb", runbook())
    told(stopped(hosted, "--on", "debian-13", "runbooks", DOCKER_HOST="unix:///nonexistent"))


def test_no_permission_for_the_engine(tmp_path: Path, told: Told) -> None:
    script = f"""
import os, socket
from kb.proof.hosts import HostError, images
path = {str(tmp_path / "engine.sock")!r}
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
os.chmod(path, 0)
if os.geteuid() == 0:
    os.seteuid(65534)
os.environ["DOCKER_HOST"] = "unix://" + path
try:
    images.engine()
except HostError as error:
    print(error)
"""
    for directory in (tmp_path, *list(tmp_path.parents)[:2]):
        directory.chmod(0o755)  # so that the socket alone is in the way
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    told(done.stdout)


def test_a_base_image_that_cannot_be_pulled(tmp_path: Path, shared: Path, told: Told) -> None:
    base = '[box]\nkind = "docker"\nbase = "127.0.0.1:1/none:1"\n'
    project = shape(tmp_path / "project", shared / "cache", base)
    project.add("notebooks/a/x.ipynb", notebook())
    done = project.run("pytest", "--on", "box", "notebooks")
    assert done.returncode == 1
    [run] = records.load(project.root).newest["notebooks/a/x.ipynb", "box"].values()
    assert "refused" in run.error
    told(re.sub(r"\(.*\)", "(...)", run.error))  # the engine's own words
    assert f"notebooks/a/x.ipynb on box, run: {run.error}" in done.stdout
    assert "run:FAILED  failed" in done.stdout


def test_an_unknown_host(hosted: Project, told: Told) -> None:
    told(stopped(hosted, "--on", "debian-31", "runbooks"))


def test_where_to_run_must_be_said(hosted: Project, told: Told) -> None:
    hosted.add("runbooks/a/x.ipynb", runbook())
    done = hosted.run("pytest", "runbooks")
    assert done.returncode == 2
    [said] = [line for line in done.stdout.splitlines() if line.startswith("say where")]
    told(said)
    assert "plugin.py" not in done.stdout


def test_a_broken_notebook_stops_it_at_once(hosted: Project, told: Told) -> None:
    path = hosted.root / "runbooks/a/x.ipynb"
    path.parent.mkdir()
    path.write_text('{"cells": [\n')
    told(stopped(hosted, "--on", "debian-13", "runbooks"))


def test_a_name_that_no_notebook_has(hosted: Project) -> None:
    hosted.add("notebooks/a/x.ipynb", notebook(code("x", "1")))
    for workers in ((), ("-n", "2")):
        done = hosted.run("pytest", "--on", "local", "notebooks", "-k", "b/x", *workers)
        assert done.returncode == 5
        assert done.stdout.count("nothing was run: -k 'b/x' is in the name of no notebook") == 1


def test_this_machine_is_not_changed_unasked(hosted: Project, told: Told) -> None:
    hosted.add("runbooks/a/x.ipynb", runbook(code("x", "%%apply x\ntouch /kb-changed")))
    done = hosted.run("pytest", "--on", "local", "runbooks", "-rs")
    assert "5 skipped" in done.stdout
    said = {line.partition(": ")[2] for line in done.stdout.splitlines() if "SKIPPED" in line}
    told("".join(said))


def test_a_full_disk_is_said(hosted: Project) -> None:
    """The notebook is looked at on this machine; its record does not fit."""
    runs = hosted.root / "build/runs"
    runs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(runs)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount, and not in every container")
    try:
        hosted.add(
            "notebooks/a/x.ipynb",
            notebook(code("x", "print('x' * 200_000)"), parameters='x: str = ""  # nothing'),
        )
        done = hosted.run("pytest", "--on", "local", "notebooks")
        assert done.returncode == 1
        assert (
            "notebooks/a/x.ipynb on local, run: the record build/runs/local/notebooks/a/x.run.ipynb"
            " could not be written: No space left on device"
        ) in done.stdout
        assert "Traceback" not in done.stdout
        # What was begun and could not be told is a failure, too.
        [run] = records.load(hosted.root).newest["notebooks/a/x.ipynb", "local"].values()
        assert run.error == records.INTERRUPTED
    finally:
        subprocess.run(["umount", str(runs)], check=True)
