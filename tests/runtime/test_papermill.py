"""What an operator meets: `papermill RUNBOOK OUT -p NAME VALUE`."""

from __future__ import annotations

import base64
import importlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from cells import Make
from golden import Told
from project import Project, code, outputs, runbook, statuses, tree, wait_for

PREFIX = 'prefix: str = "/nowhere"  # where to\ngo_version: str = "1.26.6"  # which one'
SERVICE = 'api_token: str = ""  # of the service'


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


WRONG = {
    "a mistyped name": ("-p", "prefixx", "/srv"),
    "a number for text": ("-p", "go_version", "1.30"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_parameter_stops_it_before_anything_changes(
    project: Project, world: Path, what: str, told: Told
) -> None:
    project.add("runbooks/area/name.ipynb", changing())
    before = tree(world)
    passed = ("-p", "prefix", str(world), "-p", "mode", "apply", *WRONG[what])
    told(error(project.papermill("runbooks/area/name.ipynb", *passed)))
    assert tree(world) == before
    assert not project.state.exists()
    executed = statuses(project.executed())
    assert executed.pop("setup") == executed.pop("parameters") == "passed"
    assert list(executed.values()) == ["failed", "not run", "not run", "not run", "not run"]


PWN = "open('pwned', 'w')"
CODED = base64.b64encode(f'" + str({PWN}) + "'.encode()).decode()
GIVEN: dict[str, dict[str, Any] | str] = {
    "a statement in a name": {f"x = {PWN}; y": 1},
    "a line break in a name": {f"x = 1\n%time {PWN}\ny": 1},
    "a name of Python's": {"__builtins__": 1},
    "bytes": f"go_version: !!binary {CODED}",
    "pairs": f"go_version: !!omap [{json.dumps(PWN)}: 1]",
    "a secret in a name": {"go_version=hunter2": "x"},
}
OPTIONS = {"-f": (), "-y": ("-l", "python"), "-b": ("--report-mode",)}


@pytest.mark.parametrize("what", GIVEN)
@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_passed_does_not_run_and_is_written_nowhere(
    project: Project, what: str, option: str, told: Told
) -> None:
    project.add("runbooks/area/name.ipynb", changing())
    given = GIVEN[what]
    text = given if isinstance(given, str) else json.dumps(given)
    (project.root / "given.yml").write_text(text)
    coded = base64.b64encode(text.encode()).decode()
    argument = {"-f": "given.yml", "-y": text, "-b": coded}[option]
    done = project.papermill("runbooks/area/name.ipynb", option, argument, *OPTIONS[option])
    told(error(done))
    assert not (project.root / "pwned").exists()
    assert not (project.root / "out.ipynb").exists()
    assert "hunter2" not in done.stderr + done.stdout


def test_a_mistyped_secret_is_in_no_record(project: Project, told: Told) -> None:
    project.add("runbooks/area/name.ipynb", runbook(parameters=SERVICE))
    done = project.papermill("runbooks/area/name.ipynb", "-p", "api_tokn", "hunter2")
    told(error(done))
    assert "hunter2" not in (project.root / "out.ipynb").read_text() + done.stderr


RUNBOOK = "runbooks/area/name.ipynb"
UNREADABLE = {
    "no such notebook": ("none.ipynb",),
    "not JSON": ("broken.ipynb",),
    "no such parameters": (RUNBOOK, "-f", "none.yml"),
    "not YAML": (RUNBOOK, "-y", "a: ["),
    "a list": (RUNBOOK, "-y", "- a"),
    "text": (RUNBOOK, "-y", "a"),
    "a number for a name": (RUNBOOK, "-y", "1: 2"),
    "no such directory": (RUNBOOK, "--cwd", "none"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read(project: Project, what: str, told: Told) -> None:
    project.add(RUNBOOK, runbook())
    (project.root / "broken.ipynb").write_text("{")
    told(f"Error: {error(project.papermill(*UNREADABLE[what]))}")


NOT_FOR_OURS = {
    "a kernel": ("--kernel", "none"),
    "a language": ("--language", "R"),
    "an engine": ("--engine", "nbclient"),
    "an unknown engine": ("--engine", "none"),
    "preparing alone": ("--prepare-only",),
}


@pytest.mark.parametrize("what", NOT_FOR_OURS)
def test_an_option_that_is_not_for_our_notebooks(project: Project, what: str, told: Told) -> None:
    project.add(RUNBOOK, runbook(parameters=SERVICE))
    done = project.papermill(RUNBOOK, *NOT_FOR_OURS[what], "-p", "api_token", "hunter2")
    told(error(done))
    assert not (project.root / "out.ipynb").exists()
    assert "hunter2" not in done.stderr + done.stdout


SPEAKING = """\
import sys, time
from IPython.display import display
print("out with", api_token)
print("err with", api_token, file=sys.stderr)
display({"text/plain": f"shown with {api_token}"}, raw=True)
while True:
    time.sleep(0.1)
"""


def test_the_options_that_say_what_runs(project: Project, told: Told) -> None:
    """What a cell says comes while it runs, masked; it is stopped when its time is up."""
    path = "runbooks/area/name.ipynb"
    project.add(path, runbook(code("speak", SPEAKING), parameters=SERVICE))
    options = ("--log-output", "--stdout-file", "said", "--stderr-file", "wrong")
    options += ("--execution-timeout", "20", "--autosave-cell-every", "1", "--start-timeout", "90")
    token = ("-p", "api_token", "hunter2")
    with project.start("papermill", path, "out.ipynb", *options, *token) as process:
        said = project.root / "said"
        wait_for(lambda: said.exists() and "shown with" in said.read_text())
        assert process.stderr is not None
        assert "out with ***\n" in [process.stderr.readline() for _ in range(5)]
        wait_for(lambda: "shown with" in (project.root / "out.ipynb").read_text(), within=10)
        saved = project.executed()
        told(saved["metadata"]["kb_run"]["error"]["message"])
        assert process.poll() is None
        _, rest = process.communicate(timeout=60)
    assert "Error: the cell took longer than 20 s and was stopped (cell `speak`)" in rest
    assert said.read_text() == "out with ***\nshown with ***\n"
    assert (project.root / "wrong").read_text() == "err with ***\n"
    assert "hunter2" not in rest + (project.root / "out.ipynb").read_text()


def test_a_terminal_that_wants_to_hear_nothing(project: Project) -> None:
    project.add("runbooks/area/name.ipynb", runbook(code("say", "%%observe x\necho hello")))
    options = ("--no-progress-bar", "--log-level", "ERROR", "--log-output", "--report-mode")
    done = project.papermill("runbooks/area/name.ipynb", *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    executed = project.executed()
    assert outputs(executed)["say"] == "hello\n"
    assert executed["cells"][1]["metadata"]["jupyter"] == {"source_hidden": True}


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
        record = f"{mode}.ipynb"
        options = ("-p", "prefix", str(world), "-p", "mode", mode)
        done = project.run("papermill", path, record, *options)
        assert done.returncode == 0, done.stderr
        return "".join(outputs(project.executed(record)).values())

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
        children = Path(f"/proc/{kernel}/task/{kernel}/children").read_text().split()
        [script] = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "bash\n"]
        pids = {"kernel": kernel, "papermill": process.pid, "bash": script}
        os.kill(int(pids[victim]), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        if victim == "papermill":  # nobody is left to end the kernel; here the test is
            os.kill(int(kernel), signal.SIGKILL)
    stop.unlink()
    assert project.executed()["metadata"]["kb_run"]["result"] == "failed"
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


def test_a_run_that_fails_says_which_command(project: Project, told: Told) -> None:
    project.add(
        "runbooks/area/name.ipynb",
        runbook(
            code("room", "%%preflight Enough room\ntrue\nls /not/there | cat"),
            code("never", "%%apply Change\ntrue"),
        ),
    )
    done = project.papermill("runbooks/area/name.ipynb", "-p", "mode", "apply")
    told(error(done))
    executed = project.executed()
    assert list(statuses(executed).values()) == ["passed"] * 3 + ["failed", "not run"]
    assert executed["metadata"]["kb_run"]["result"] == "failed"


FAILING = '%%apply Change\n# changes: $prefix/etc/conf\necho new >"$prefix/etc/conf"\nfalse'


def test_a_record_that_cannot_be_written_stops_it_before_anything_changes(
    project: Project, world: Path, told: Told
) -> None:
    project.add("runbooks/area/name.ipynb", runbook(code("x", FAILING), parameters=PREFIX))
    (project.root / "out.ipynb").mkdir()
    apply = ("-p", "mode", "apply", "-p", "prefix", str(world))
    told(error(project.papermill("runbooks/area/name.ipynb", *apply)))
    done = project.run("papermill", "runbooks/area/name.ipynb", "abs://nowhere/x.ipynb", *apply)
    said = error(done)
    assert said.startswith("abs://nowhere/x.ipynb could not be written: ")
    assert said.endswith("(nothing has been changed)")
    assert (world / "etc/conf").read_text() == "original\n"


def test_a_failed_run_leaves_its_record_where_a_passed_one_would(
    project: Project, world: Path
) -> None:
    path = "runbooks/area/name.ipynb"
    project.add(path, runbook(code("x", FAILING), parameters=PREFIX))
    apply = ("-p", "mode", "apply", "-p", "prefix", str(world))

    def failed(*command: str) -> tuple[str, str]:
        done = project.run("papermill", *command, *apply)
        said = error(done)
        assert said.startswith('apply "Change" failed: line 3, `false`, exited with status 1')
        return said.rpartition("; ")[2], done.stdout

    where, written = failed(path, "-")
    assert where == "what ran is on standard output"
    assert json.loads(written)["metadata"]["kb_run"]["result"] == "failed"

    where, _ = failed(path, "out.ipynb", "--no-request-save-on-cell-execute")
    assert where == "what ran is in out.ipynb"
    assert project.executed()["metadata"]["kb_run"]["result"] == "failed"

    (project.root / "elsewhere").mkdir()
    where, _ = failed(path, "there.ipynb", "--cwd", "elsewhere")
    assert where == "what ran is in there.ipynb"
    assert statuses(project.executed("there.ipynb"))["x"] == "failed"


def test_a_record_that_is_lost_at_the_end_is_kept_elsewhere(project: Project, told: Told) -> None:
    """Its address took it, if at all, before: in mode plan that is not tried."""
    project.add("runbooks/area/name.ipynb", runbook(code("say", "%%observe x\necho hello")))
    temporary = project.root / "tmp"
    temporary.mkdir()
    command = ("papermill", "runbooks/area/name.ipynb", "abs://nowhere/x.ipynb")
    said = error(project.run(*command, TMPDIR=str(temporary)))
    [kept] = temporary.glob("*.ipynb")
    why, _, where = said.rpartition("; ")
    assert where == f"what ran is in {kept}"
    told(re.sub("written: .*", "written: ...", why))  # a library's words
    assert kept.stat().st_mode & 0o777 == 0o600
    assert outputs(json.loads(kept.read_text()))["say"] == "hello\n"


def test_an_output_that_is_no_plain_file(project: Project) -> None:
    path = "runbooks/area/name.ipynb"
    project.add(path, runbook(code("say", "%%observe x\necho hello")))
    os.mkfifo(project.root / "pipe")
    (project.root / "link.ipynb").symlink_to("target.ipynb")
    with subprocess.Popen(["cat", project.root / "pipe"], stdout=subprocess.PIPE) as reader:
        assert project.run("papermill", path, "pipe").returncode == 0
        written, _ = reader.communicate(timeout=30)
    assert outputs(json.loads(written))["say"] == "hello\n"
    assert (project.root / "pipe").is_fifo()
    for _ in range(2):
        assert project.run("papermill", path, "link.ipynb").returncode == 0
        assert (project.root / "link.ipynb").is_symlink()
        assert outputs(project.executed("target.ipynb"))["say"] == "hello\n"
        (project.root / "target.ipynb").chmod(0o640)
    assert (project.root / "target.ipynb").stat().st_mode & 0o777 == 0o640


def test_a_pipe_that_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os, "access", lambda *_: False)  # to root it would be open
    importlib.import_module("papermill")  # first: it loads our entry points
    destination = importlib.import_module("kb.runtime.destination")
    with told.raises(destination.UnwritableError):
        destination.Destination("pipe", tmp_path, private=False).try_out("", remote=False)


def test_a_program_gets_the_notebook_back(project: Project) -> None:
    project.add("runbooks/area/name.ipynb", runbook(code("say", "%%observe x\necho hello")))
    call = "papermill.execute_notebook('runbooks/area/name.ipynb', None, progress_bar=False)"
    done = project.run("python", "-c", f"import papermill\nprint({call}.cells[-1].outputs)")
    assert "hello" in done.stdout, done.stderr


def test_a_rollback_wherever_the_notebook_lies(project: Project, world: Path) -> None:
    path = "books/area/mini.ipynb"
    nb = changing()
    nb.metadata["kb"]["identity"] = "runbooks/area/mini"
    notebook_file = project.add(path, nb)
    project.write("copy/of/it.ipynb", notebook_file.read_text())
    (project.root / "elsewhere").mkdir()
    before = tree(world)
    prefix = ("-p", "prefix", str(world), "-p", "mode")
    for command in (
        (path, "rollback.ipynb", "--cwd", "elsewhere"),
        ("apply.ipynb", "rollback.ipynb"),
        ("-", "rollback.ipynb"),
        ("copy/of/it.ipynb", "rollback.ipynb"),
    ):
        applied = project.run("papermill", path, "apply.ipynb", *prefix, "apply")
        assert applied.returncode == 0, applied.stderr
        assert tree(world) != before
        with project.start("papermill", *command, *prefix, "rollback", given=path) as process:
            _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert tree(world) == before


def test_files_that_a_notebook_needs_beside_it(project: Project, told: Told) -> None:
    """They are beside it, wherever it is told to work; a copy without them is refused."""
    cell = '%%observe x\n. "$KB_HERE/name/lib.sh"'
    nb = runbook(code("use", cell), identity="runbooks/area/name")
    project.add("runbooks/area/name.ipynb", nb)
    project.add("copy.ipynb", nb)
    project.write("runbooks/area/name/lib.sh", "echo from the library")
    (project.root / "elsewhere").mkdir()
    done = project.papermill("runbooks/area/name.ipynb", "--cwd", "elsewhere")
    assert done.returncode == 0, done.stderr
    assert outputs(project.executed())["use"] == "from the library\n"
    told(error(project.papermill("copy.ipynb")))


def test_what_lies_around_is_neither_run_nor_left(project: Project, world: Path) -> None:
    project.add("runbooks/area/name.ipynb", changing())
    away = project.root / "away"
    away.mkdir()
    (project.root / "home").mkdir()
    for name in ("json", "hashlib", "IPython", "yaml"):
        (away / f"{name}.py").write_text(f"open('{project.root}/pwned', 'w')\n1 / 0\n")
    home = {"HOME": str(project.root / "home")}
    for mode in ("plan", "apply", "rollback"):
        options = ("--cwd", "away", "-p", "prefix", str(world), "-p", "mode", mode)
        done = project.run(
            "papermill", "runbooks/area/name.ipynb", f"{mode}.ipynb", *options, **home
        )
        assert done.returncode == 0, done.stderr
    assert not (project.root / "pwned").exists()
    assert list((project.root / "home").iterdir()) == []


def test_a_notebook_that_is_not_ours_runs_as_ever(project: Project) -> None:
    nb = runbook(code("say", "print('hello')"))
    del nb.metadata["kb"]
    project.add("plain.ipynb", nb)
    done = project.papermill("plain.ipynb")
    assert done.returncode == 0, done.stderr
    assert outputs(project.executed())["say"] == "hello\n"
    assert "kb_run" not in project.executed()["metadata"]
