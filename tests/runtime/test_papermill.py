"""What an operator meets: `papermill RUNBOOK OUT -p NAME VALUE`."""

from __future__ import annotations

import base64
import json
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


PWN = "open('pwned', 'w')"
BROKEN_OUT = f'" + str({PWN}) + "'


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({f"x = {PWN}; y": 1}, "`x...` is no name for a parameter: a name is a letter,"),
        ({f"x = 1\n%time {PWN}\ny": 1}, "`x...` is no name for a parameter: a name is a letter,"),
        ({"__builtins__": 1}, "`_...` is no name for a parameter: a name is a letter,"),
        (
            f"go_version: !!binary {base64.b64encode(BROKEN_OUT.encode()).decode()}",
            "parameter `go_version` must be text, a number or a truth value, not bytes: write it",
        ),
        (
            f"go_version: !!omap [{json.dumps(BROKEN_OUT)}: 1]",
            "parameter `go_version` must be text, a number or a truth value, not list: write it",
        ),
        ({"go_version=hunter2": "x"}, "`go_version...` is no name for a parameter: a name is a"),
    ],
)
@pytest.mark.parametrize(
    ("option", "more"), [("-f", ()), ("-y", ("-l", "R")), ("-b", ("--prepare-only",))]
)
def test_what_is_passed_does_not_run_and_is_written_nowhere(
    project: Project, given: dict[str, int] | str, says: str, option: str, more: tuple[str, ...]
) -> None:
    project.add("runbooks/area/name.ipynb", changing())
    text = given if isinstance(given, str) else json.dumps(given)
    (project.root / "given.yml").write_text(text)
    coded = base64.b64encode(text.encode()).decode()
    argument = {"-f": "given.yml", "-y": text, "-b": coded}[option]
    done = project.papermill("runbooks/area/name.ipynb", option, argument, *more)
    said = error(done)
    assert said.startswith(says)
    assert said.endswith("(nothing has been changed)")
    assert not (project.root / "pwned").exists()
    assert not (project.root / "out.ipynb").exists()
    assert "hunter2" not in done.stderr + done.stdout


def test_a_mistyped_secret_is_in_no_record(project: Project) -> None:
    project.add("runbooks/area/name.ipynb", runbook(parameters=SERVICE))
    done = project.papermill("runbooks/area/name.ipynb", "-p", "api_tokn", "hunter2")
    assert error(done).startswith("unknown parameter `api_tokn`; did you mean `api_token`?")
    assert "hunter2" not in (project.root / "out.ipynb").read_text() + done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.ipynb",), "none.ipynb: No such file or directory"),
        (("broken.ipynb",), "the notebook cannot be read: it is not JSON"),
        (("runbooks/area/name.ipynb", "-f", "none.yml"), "none.yml: No such file or directory"),
        (("runbooks/area/name.ipynb", "-y", "a: ["), "the parameters cannot be read: expected the"),
        (("runbooks/area/name.ipynb", "-y", "- a"), "parameters must be names with values, such"),
        (("runbooks/area/name.ipynb", "-y", "a"), "parameters must be names with values, such as"),
        (("runbooks/area/name.ipynb", "-y", "1: 2"), "`1...` is no name for a parameter: a name"),
        (("runbooks/area/name.ipynb", "--cwd", "none"), "none: No such file or directory"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    project: Project, arguments: tuple[str, ...], says: str
) -> None:
    project.add("runbooks/area/name.ipynb", runbook())
    (project.root / "broken.ipynb").write_text("{")
    said = error(project.papermill(*arguments))
    assert said.startswith(says)
    assert said.endswith("(nothing has been changed)")


def test_an_unknown_kernel(project: Project) -> None:
    project.add("runbooks/area/name.ipynb", runbook())
    done = project.papermill("runbooks/area/name.ipynb", "--kernel", "none")
    assert error(done) == "there is no kernel `none` here: leave out --kernel"


def test_a_record_is_as_private_as_it_is_meant(project: Project) -> None:
    project.add("runbooks/area/name.ipynb", runbook(parameters=SERVICE))

    def mode(umask: int, *arguments: str) -> int:
        (project.root / "out.ipynb").unlink(missing_ok=True)
        before = os.umask(umask)
        try:
            done = project.papermill("runbooks/area/name.ipynb", *arguments)
        finally:
            os.umask(before)
        assert done.returncode == 0, done.stderr
        return (project.root / "out.ipynb").stat().st_mode & 0o777

    assert mode(0o022) == 0o644
    assert mode(0o077) == 0o600
    assert mode(0o022, "-p", "api_token", "hunter2") == 0o600


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
            code("traced", '%%observe x\nset -x\ntrue "$odd_token"\nprintf \'%q\' "$odd_token"'),
            code("repr", "import json\nprint(json.dumps(odd_token), repr(odd_token))\nodd_token"),
            code("keys", KEYS),
            code("parts", PARTS),
            code("display", "from IPython.display import HTML\nHTML(f'<b>{api_token}</b>')"),
            code(
                "error", "raise ValueError(f'with {api_token} and ' + os.environ['FOO_PASSWORD'])"
            ),
            parameters=f'{SERVICE}\nssh_key: str = ""  # to log in with\n{ODD}',
        ),
    )
    done = project.papermill(
        path, "-p", "api_token", "of-a-parameter", "-p", "ssh_key", key, "--log-output",
        "-p", "odd_token", "it's \"ödd\" \\here",
        **{"FOO_PASSWORD": "of-the-environment"},
    )  # fmt: skip
    stored = (project.root / "out.ipynb").read_text()
    for said in (stored, done.stdout, done.stderr):
        for secret in ("of-a-parameter", "of-the-environment", "line-of-the-key", "here", "dd\\"):
            assert secret not in said
    assert error(done).startswith("ValueError: with *** and *** (cell `error`)")
    printed = outputs(project.executed())
    assert printed["bash"].startswith("token ***\n***\n")
    assert printed["key"] == "***\n"
    assert printed["print"].startswith("*** ***\n")


ODD = 'odd_token: str = ""  # with a quote, a backslash, and what is no ASCII'
KEYS = """\
from IPython.display import display
display({"application/json": {api_token: 1}, "text/plain": "x"}, raw=True, metadata={api_token: 2})
"""
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
