"""What an operator meets: `papermill RUNBOOK OUT -p NAME VALUE`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from cells import Make
from project import Project, code, outputs, runbook, statuses, tree

PREFIX = 'prefix: str = "/nowhere"  # where to\ngo_version: str = "1.26.6"  # which one'
SERVICE = 'api_token: str = ""  # of the service'


def wait_for(holds: Callable[[], bool], within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def error(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence that a failed run ends with."""
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert done.stderr.splitlines()[-1] == lines[0]
    return lines[0].removeprefix("Error: ")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    root = tmp_path / "world"
    (root / "etc").mkdir(parents=True)
    (root / "etc/conf").write_text("original\n")
    os.utime(root / "etc/conf", ns=(10**18, 10**18))
    return root


# A step that can be stopped at each of four points, and goes on when told: it waits for a file.
STEPS = """\
%%apply Change the world
# changes: $prefix/etc/conf
# changes: $prefix/lib/tool
at() { touch "$prefix/../at-$1"; while [ -e "$prefix/../stop-$1" ]; do sleep 0.02; done; }
at begin
mkdir -p "$prefix/lib"
at made
if [ ! -e "$prefix/lib/tool" ]; then
  mkdir -p "$prefix/lib/.partial"; echo tool >"$prefix/lib/.partial/tool"
  at half
  rm -rf "$prefix/lib/tool"; mv "$prefix/lib/.partial" "$prefix/lib/tool"
  echo changed: the tool
fi
if ! grep -q new "$prefix/etc/conf"; then
  echo new >"$prefix/etc/conf"
  at written
  echo changed: the settings
fi
"""


def changing() -> nbformat.NotebookNode:
    return runbook(
        code("preflight", '%%preflight It is there\ntest -d "$prefix"'),
        code("change", STEPS),
        code(
            "verify",
            '%%verify It took\ngrep new "$prefix/etc/conf"; test -e "$prefix/lib/tool/tool"',
        ),
        code(
            "back",
            '%%rollback Put everything back\nkb-restore\nrm -rf "$prefix/lib/.partial"'
            '\nrmdir "$prefix/lib" 2>/dev/null || true',
        ),
        parameters=PREFIX,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("-p", "prefixx", "/srv", "-p", "mode", "apply"),
            "unknown parameter `prefixx`; did you mean `prefix`?"
            " Known parameters: mode, prefix, go_version. (nothing has been changed)",
        ),
        (
            ("-p", "go_version", "1.30", "-p", "mode", "apply"),
            "parameter `go_version` must be of type str, not float (1.3): papermill's -p turns"
            " what looks like a number or a truth value into one; pass it as it is with"
            " -r go_version VALUE (nothing has been changed)",
        ),
    ],
)
def test_a_wrong_parameter_stops_it_before_anything_changes(
    project: Project, world: Path, arguments: tuple[str, ...], says: str
) -> None:
    project.add("runbooks/area/name.ipynb", changing())
    before = tree(world)
    done = project.papermill("runbooks/area/name.ipynb", "-p", "prefix", str(world), *arguments)
    assert error(done).startswith(says)
    assert tree(world) == before
    assert not project.state.exists()
    executed = statuses(project.executed())
    assert executed.pop("setup") == executed.pop("parameters") == "passed"
    assert list(executed.values()) == ["failed", "not run", "not run", "not run", "not run"]


def test_the_life_of_a_runbook(project: Project, world: Path) -> None:
    path = "runbooks/area/name.ipynb"
    project.add(path, changing())
    before = tree(world)

    def run(mode: str) -> str:
        done = project.papermill(path, "-p", "prefix", str(world), "-p", "mode", mode)
        assert done.returncode == 0, done.stderr
        return "".join(outputs(project.executed()).values())

    assert "changed: the tool\nchanged: the settings\n" in run("apply")
    assert f"changed: put back {world}/etc/conf" in run("rollback")
    assert tree(world) == before
    assert not project.state.exists()


@pytest.mark.parametrize(
    ("victim", "point"), [("kernel", "half"), ("papermill", "made"), ("bash", "written")]
)
def test_a_kill_in_the_middle_of_apply(
    project: Project, world: Path, make: Make, victim: str, point: str
) -> None:
    path = "runbooks/area/name.ipynb"
    project.add(path, changing())
    arguments = ("-p", "prefix", str(world), "-p", "mode")
    before = tree(world)
    stop = world.parent / f"stop-{point}"
    stop.touch()
    with project.start("papermill", path, "out.ipynb", *arguments, "apply") as process:
        wait_for((world.parent / f"at-{point}").exists)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        [kernel] = [
            pid for pid in children if "ipykernel" in Path(f"/proc/{pid}/cmdline").read_text()
        ]
        script = Path(f"/proc/{kernel}/task/{kernel}/children").read_text().split()
        pids = {"kernel": kernel, "papermill": process.pid, "bash": next(iter(script), "0")}
        os.kill(int(pids[victim]), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        if victim == "papermill":  # nobody is left to end the kernel; here the test is
            os.kill(int(kernel), signal.SIGKILL)
    stop.unlink()
    if victim == "kernel":
        assert "Error: the kernel died (cell `change`)" in said
    if victim == "bash":
        assert 'Error: apply "Change the world" failed: it was ended by SIGKILL' in said
    for mode in ("apply", "rollback"):
        cells = make(mode, PREFIX.replace("/nowhere", str(world)), state=project.state)
        for cell in changing().cells[3:]:
            cells.run(cell.source)
        if mode == "apply":
            assert (world / "lib/tool/tool").exists()
            assert (world / "etc/conf").read_text() == "new\n"
    assert tree(world) == before
    assert not project.state.exists()


def test_no_secret_gets_out(project: Project) -> None:
    key = "-----BEGIN\nline-of-the-key\n-----END"
    path = "runbooks/area/name.ipynb"
    project.add(
        path,
        runbook(
            code("bash", '%%observe x\necho "token $api_token"; echo "$FOO_PASSWORD" >&2; env'),
            code("key", '%%observe x\necho "$ssh_key" | sed -n 2p'),
            code("print", "import os\nprint(api_token, os.environ['FOO_PASSWORD'])\napi_token"),
            code("parts", PARTS),
            code("display", "from IPython.display import HTML\nHTML(f'<b>{api_token}</b>')"),
            code(
                "error", "raise ValueError(f'with {api_token} and ' + os.environ['FOO_PASSWORD'])"
            ),
            parameters=f'{SERVICE}\nssh_key: str = ""  # to log in with',
        ),
    )
    done = project.papermill(
        path, "-p", "api_token", "of-a-parameter", "-p", "ssh_key", key, "--log-output",
        **{"FOO_PASSWORD": "of-the-environment"},
    )  # fmt: skip
    stored = (project.root / "out.ipynb").read_text()
    for said in (stored, done.stdout, done.stderr):
        for secret in ("of-a-parameter", "of-the-environment", "line-of-the-key"):
            assert secret not in said
    assert error(done).startswith("ValueError: with *** and *** (cell `error`)")
    printed = outputs(project.executed())
    assert printed["bash"].startswith("token ***\n***\n")
    assert printed["key"] == "***\n"
    assert printed["print"].startswith("*** ***\n")


PARTS = """\
import sys, time
for half in ("of-a-par", "ameter"):
    print(half, end="", flush=True)
    time.sleep(0.3)
"""


def test_a_run_that_fails_says_which_command(project: Project) -> None:
    project.add(
        "runbooks/area/name.ipynb",
        runbook(
            code("room", "%%preflight Enough room\ntrue\nls /not/there | cat"),
            code("never", "%%apply Change\ntrue"),
        ),
    )
    done = project.papermill("runbooks/area/name.ipynb", "-p", "mode", "apply")
    assert error(done) == (
        'preflight "Enough room" failed: line 2, `ls /not/there | cat`, exited with status 2'
        " (cell `room`); what ran is in out.ipynb"
    )
    executed = project.executed()
    assert list(statuses(executed).values()) == ["passed"] * 3 + ["failed", "not run"]
    assert executed["metadata"]["kb_run"]["result"] == "failed"


def test_an_output_that_cannot_be_written(project: Project) -> None:
    project.add("runbooks/area/name.ipynb", runbook(code("say", "%%observe x\necho hello")))
    (project.root / "out.ipynb").mkdir()
    done = project.papermill("runbooks/area/name.ipynb")
    assert error(done) == "out.ipynb could not be written: Is a directory"


def test_a_notebook_that_is_not_ours_runs_as_ever(project: Project) -> None:
    nb = runbook(code("say", "print('hello')"))
    del nb.metadata["kb"]
    project.add("plain.ipynb", nb)
    done = project.papermill("plain.ipynb")
    assert done.returncode == 0, done.stderr
    assert outputs(project.executed())["say"] == "hello\n"
    assert "kb_run" not in project.executed()["metadata"]
