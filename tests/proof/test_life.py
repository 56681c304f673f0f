"""Whatever ends a stage is a record: judged in milliseconds on a host that is no host."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from golden import Told
from kb.proof import catalog, claims, hosts, life, records, snapshots
from kb.proof.hosts import Host, HostError, HostHungError
from kb.proof.life import Life, StageError
from kb.runtime.engine import Outcome
from kb.runtime.settle import MIME
from nbformat import v4
from project import CLAIM, Project, code, notebook, runbook

RUNBOOK = "runbooks/a/x.ipynb"
NOTEBOOK = "notebooks/a/x.ipynb"

Does = Callable[[Any, Outcome, "Session"], None]


class Session:
    """A host that consists of one file, which cells may change; kernels are functions."""

    disposable = True
    here = "/srv"
    image: dict[str, str] | None = None

    def __init__(self, does: Does, prepares: tuple[int, str, str] = (0, "", "")) -> None:
        self.facts = {"name": "box", "kind": "docker", "os": "none"}
        self.content = "as it was"
        self.does = does
        self.prepares = prepares
        self.closed = False
        self.listing: Exception | None = None
        self.hung = ""
        self.killed = threading.Event()
        self.env: dict[str, str] = {}
        self.told = ""  # the last text that a command was given

    def kernel(self, env: dict[str, str]) -> Any:
        self.env = env
        return self

    def command(self, argv: Any, *_: Any, text: str = "", **__: Any) -> tuple[int, str, str]:
        self.told = text or self.told
        return self.prepares

    def snapshot(self, known: Any) -> snapshots.Snapshot:
        if self.listing:
            raise self.listing
        return {"files": {"/etc/x": ["-rw-r--r--", "0:0", self.content, "0", "", ""]}}

    def kill_kernel(self) -> None:
        self.killed.set()

    def why_dead(self) -> str:
        return "the kernel died"

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Hosts that will be started, in this order; an exception is raised in place of one."""
    waiting: list[Any] = []

    def start(*_: Any) -> Any:
        given = waiting.pop(0)
        if isinstance(given, BaseException):
            raise given
        return given

    def run(nb: Any, *, manager: Session, outcome: Outcome, progress: Any, **_: Any) -> Outcome:
        manager.killed.clear()
        progress("apply x", 0.0)
        manager.does(nb, outcome, manager)
        return outcome

    monkeypatch.setattr(hosts, "start", start)
    monkeypatch.setattr(life.engine, "run", run)
    yield waiting


def lived(project: Project, path: str = RUNBOOK, **kb: Any) -> Life:
    """The life of a small runbook or notebook on a host that is not there."""
    if path == RUNBOOK:
        cells = code("look", "%%observe x\ntrue"), code("step", "%%apply x\ntrue")
        nb = runbook(*cells, parameters='name: str = ""  # any', **kb)
    else:
        nb = notebook(code("user", 'settle("a1-user", confirmed=same(1, 1))'), **kb)
        project.claims(CLAIM)
    project.add(path, nb)
    recorded = claims.load(project.root)
    host = Host(project.root, "box", "docker", "A box", (), "base")
    found = catalog.read(project.root, Path(path))
    return Life(host, found, lambda line: None, recorded)


def passes(nb: Any, outcome: Outcome, session: Session) -> None:
    outcome.cells = [{"id": "step", "status": "passed", "duration": 0.0}]


def changes(nb: Any, outcome: Outcome, session: Session) -> None:
    session.content = f"{session.content}, changed"


def fails(nb: Any, outcome: Outcome, session: Session) -> None:
    outcome.error = {"cell": "step", "message": "the step failed"}


def says_changed(nb: Any, outcome: Outcome, session: Session) -> None:
    cell = next(cell for cell in nb.cells if cell.id == "step")
    cell.outputs = [v4.new_output("stream", text="changed: a file\n")]


def breaks(error: BaseException) -> Does:
    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        raise error

    return does


def settles(verdict: str, evidence: str = "executed") -> Does:
    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        shown = {"claim": "a1-user", "verdict": verdict, "evidence": evidence, "saw": ["root"]}
        cell = next(cell for cell in nb.cells if cell.id == "user")
        cell.outputs = [v4.new_output("display_data", {MIME: shown})]

    return does


def stored(project: Project, path: str, stage: str) -> records.Run:
    """The record as the site reads it, and no mark of a run under way beside it."""
    found = records.load(project.root)
    assert not found.rejected
    assert not list((project.root / "build/runs").rglob("*.begun.ipynb"))
    return found.newest[path, "box"][stage]


HAPPENS: dict[str, tuple[str, Does]] = {
    "a plan that changes": ("plan", changes),
    "a step that fails": ("apply", fails),
    "a second apply that changes": ("again", changes),
    "a second apply that says so": ("again", says_changed),
    "a second apply after none": ("again", fails),
    "a rollback that does not restore": ("rollback", changes),
    "a host that goes": ("apply", breaks(HostError("the host disappeared"))),
}


@pytest.mark.parametrize("what", HAPPENS)
def test_what_happens_on_the_host(
    what: str, project: Project, sessions: list[Any], told: Told
) -> None:
    stage, does = HAPPENS[what]
    sessions.append(Session(does))
    assert not lived(project).run(stage, "key").passed
    run = stored(project, RUNBOOK, stage)
    assert not run.passed
    told(run.error)


def test_a_defect_of_ours_shows_its_traceback_and_is_a_record(
    project: Project, sessions: list[Any]
) -> None:
    sessions.append(Session(breaks(ZeroDivisionError("by us"))))
    with pytest.raises(ZeroDivisionError):
        lived(project).run("apply", "key")
    assert stored(project, RUNBOOK, "apply").error == "ZeroDivisionError: by us"


STARTS: dict[str, Any] = {
    "it does not boot": HostError("box could not be booted"),
    "its preparation fails": Session(passes, prepares=(3, "", "no room")),
    "its preparation says odd things": Session(passes, prepares=(0, "{port: 1}", "")),
}


@pytest.mark.parametrize("what", STARTS)
def test_a_host_that_cannot_be_made(
    what: str, project: Project, sessions: list[Any], told: Told
) -> None:
    sessions.append(STARTS[what])
    project.write("runbooks/a/x/ci/prepare.sh", "exit 3\n")
    lived(project).run("apply", "key")
    run = stored(project, RUNBOOK, "apply")
    told(run.error)
    assert run.content["cells"][-1]["id"] == "step"  # what was to run


@pytest.mark.parametrize(
    "script", ["#!/bin/sh\necho no network >&2; exit 1\n", ""], ids=["it fails", "there is none"]
)
def test_a_fixture_that_cannot_be_made(script: str, project: Project, told: Told) -> None:
    if script:
        project.write("ci/fixtures/go", script)
        (project.root / "ci/fixtures/go").chmod(0o755)
    lived(project, fixtures=["go"]).run("apply", "key")
    told(stored(project, RUNBOOK, "apply").error)


def test_a_setup_that_fails(project: Project, sessions: list[Any], told: Told) -> None:
    sessions.append(Session(passes, prepares=(4, "", "no such group")))
    lived(project, broken=[{"cell": "step", "setup": "false", "says": "x"}]).run("broken", "key")
    told(stored(project, RUNBOOK, "broken").error)


class Returning(Session):
    """One whose host can be made again what it was, ``times`` times, until it has ended."""

    def __init__(self, does: Does, times: int = 9) -> None:
        super().__init__(does)
        self.times = times
        self.kept: list[str] = []
        self.ran: list[Any] = []

    def command(self, argv: Any, *_: Any, text: str = "", **__: Any) -> tuple[int, str, str]:
        self.ran.append(argv[-1])
        self.content += f", {Path(argv[-1]).name}"
        return 0, "", ""

    def keep(self) -> None:
        self.kept.append(self.content)

    def back(self) -> bool:
        self.times -= 1
        self.content = self.kept[-1] if self.kept else "as it was"
        return self.times >= 0


ANEW = [{"cell": "step", "setup": setup, "says": "failed"} for setup in ("full", "empty")]


def test_each_case_begins_on_the_host_as_it_was_prepared(
    project: Project, sessions: list[Any]
) -> None:
    met = []

    def leaves(nb: Any, outcome: Outcome, session: Session) -> None:
        met.append(session.content)
        changes(nb, outcome, session)
        fails(nb, outcome, session)

    host = Returning(leaves)
    sessions.append(host)
    project.write("runbooks/a/x/ci/prepare.sh", "true\n")
    book = lived(project, broken=[*ANEW, {"cell": "step", "says": "failed"}])
    book.run("broken", "key")
    prepared = "as it was, prepare.sh"
    assert host.kept == [prepared]
    assert [host.ran.count(one) for one in ("full", "empty")] == [1, 1]
    # Each rollback goes on where its case ended.
    assert met[::2] == [prepared, f"{prepared}, full", f"{prepared}, empty"]
    assert not host.closed
    book.close()
    assert host.closed


def test_a_host_that_has_ended_is_not_gone_back_to(project: Project, sessions: list[Any]) -> None:
    first, second = Returning(fails, times=1), Returning(fails)
    sessions += [first, second]
    lived(project, broken=[{"cell": "step", "says": "failed"}, *ANEW]).run("broken", "key")
    assert [[one for one in host.ran if one in ("full", "empty")] for host in (first, second)] == [
        ["full"],
        ["empty"],
    ]
    assert [first.closed, second.closed] == [True, False]
    assert first.kept == second.kept == []  # there was no preparation to keep


def test_a_state_that_cannot_be_taken_after_a_run(project: Project, sessions: list[Any]) -> None:
    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        passes(nb, outcome, session)
        session.listing = snapshots.StateError("the host's state could not be listed")

    sessions.append(Session(does))
    lived(project).run("plan", "key")
    run = stored(project, RUNBOOK, "plan")
    assert run.error == "the host's state could not be listed"
    assert run.metadata["cells"][0]["status"] == "passed"  # what had run is in it


def test_only_the_first_apply_runs_whole(project: Project, sessions: list[Any]) -> None:
    def whole(nb: Any) -> bool:
        injected = next(cell.source for cell in nb.cells if cell.id == life.INJECTED)
        return 'name = "short"' not in injected

    seen: list[bool] = []
    sessions.append(Session(lambda nb, *_: seen.append(whole(nb))))
    case = '[[broken]]\ncell = "step"\nmessage = "x"\n'
    short = '[repeated]\nparameters = { name = "short" }\n'
    whole_again = '[broken.parameters]\nname = "long"\n'
    project.write("runbooks/a/x/ci/cases.toml", f"{short}{case}{case}{whole_again}")
    alive = lived(project)
    for stage in ("plan", "apply", "again", "rollback"):
        assert alive.run(stage, "key").passed
    alive.run("broken", "key")
    assert seen == [True, True, False, True, False, True]
    assert stored(project, RUNBOOK, "again").metadata["parameters"]["name"] == "short"


def test_ctrl_c(project: Project, sessions: list[Any]) -> None:
    sessions.append(Session(breaks(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        lived(project).run("apply", "key")
    assert stored(project, RUNBOOK, "apply").error == "the run was interrupted"


def test_a_kill_leaves_a_mark_that_says_so(project: Project, sessions: list[Any]) -> None:
    """While it runs, what is there says: interrupted, unless its process is alive."""
    seen: list[records.Run] = []

    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        [mark] = (project.root / "build/runs").rglob("*.begun.ipynb")
        seen.append(records.read(mark, project.root))
        assert not records.load(project.root).newest

    sessions.append(Session(does))
    lived(project).run("apply", "key")
    assert seen[0].error == records.INTERRUPTED
    assert records.is_running(seen[0])
    assert stored(project, RUNBOOK, "apply").passed


@pytest.mark.parametrize(
    ("does", "says"),
    [
        (settles("confirmed"), ""),
        (settles("refuted"), "`a1-user` is recorded as confirmed on box, but cell `user`"),
        (passes, "ran on box without settling it"),
    ],
)
def test_a_verdict_is_judged_before_it_is_stored(
    does: Does, says: str, project: Project, sessions: list[Any]
) -> None:
    sessions.append(Session(does))
    lived(project, NOTEBOOK).run("run", "key")
    run = stored(project, NOTEBOOK, "run")
    assert says in run.error
    assert run.passed is (says == "")


def test_a_step_that_always_writes_is_told_which_file(
    project: Project, sessions: list[Any]
) -> None:
    place = "/var/lib/noble-runbooks/area/name"

    class Writing(Session):
        def snapshot(self, known: Any) -> snapshots.Snapshot:
            row = ["-rw-------", "0:0", self.content, "0", "", ""]
            return {"files": {f"{place}/applied/0001.json": row}}

        def command(self, argv: Any, *_: Any, **__: Any) -> tuple[int, str, str]:
            known = argv == ["cat", f"{place}/kept.jsonl"]
            return 0, '{"path": "/etc/a"}\n{"path": "/etc/b"}\n' if known else "", ""

    sessions.append(Writing(changes))
    lived(project).run("again", "key")
    error = stored(project, RUNBOOK, "again").metadata["error"]
    assert error["message"] == (
        "a second apply changed: /etc/b was written again although it was right:"
        " compare first, and leave it"
    )


def test_a_host_that_hung_once_is_begun_again(project: Project, sessions: list[Any]) -> None:
    first = Session(breaks(HostHungError("the guest does not answer")))
    sessions += [first, Session(passes)]
    lived(project).run("apply", "key")
    run = stored(project, RUNBOOK, "apply")
    assert run.passed
    assert first.closed
    assert run.metadata["hung"]["why"] == "the guest does not answer"


def test_a_kernel_that_goes_with_its_hung_host(project: Project, sessions: list[Any]) -> None:
    """The engine knows of a kernel that died; that its host hung, the host knows."""

    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        fails(nb, outcome, session)
        session.hung = "the guest did not answer for 20 s"

    sessions += [Session(does), Session(passes)]
    lived(project).run("apply", "key")
    run = stored(project, RUNBOOK, "apply")
    assert run.passed
    assert run.metadata["hung"]["why"] == "the guest did not answer for 20 s"


def test_a_host_that_hangs_twice_has_failed(project: Project, sessions: list[Any]) -> None:
    hangs = breaks(HostHungError("the guest does not answer; the console ends with: x"))
    sessions += [Session(hangs), Session(hangs)]
    lived(project).run("apply", "key")
    run = stored(project, RUNBOOK, "apply")
    assert run.error == "the guest does not answer; the console ends with: x"
    assert run.metadata["hung"]


def test_a_hang_in_a_rollback_applies_anew(project: Project, sessions: list[Any]) -> None:
    modes: list[str] = []

    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        mode = next(cell.source for cell in nb.cells if cell.id == life.INJECTED)
        modes.append("apply" if re.search(r"mode = .apply.", mode) else "rollback")
        if modes == ["apply", "rollback"]:
            raise HostHungError("the guest does not answer")

    sessions += [Session(does), Session(does)]
    lived(project).run("rollback", "key")
    assert stored(project, RUNBOOK, "rollback").passed
    assert modes == ["apply", "rollback", "apply", "rollback"]


def mode_of(nb: Any) -> str:
    injected = next(cell.source for cell in nb.cells if cell.id == life.INJECTED)
    found = re.search(r"mode = .(\w+).", injected)
    assert found
    return found[1]


def steps(
    *, apply: Callable[[bool], str], rollback: str = "as it was", log: list[str] | None = None
) -> Does:
    """A runbook whose one step takes until it is killed, if it is run alone, as it is for that.

    ``apply`` says what the step makes of the host, given whether it was killed, and ``rollback``
    what that does.
    """

    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        mode = mode_of(nb)
        alone = "look" not in [cell.id for cell in nb.cells]
        killed = alone and session.killed.wait(10)
        session.content = apply(killed) if mode == "apply" else rollback
        if killed:
            outcome.error = {"cell": "step", "message": "the kernel died: it left no message"}
        (log if log is not None else []).append(f"{mode} killed" if killed else mode)
        outcome.cells = [{"id": "step", "status": "passed", "duration": 0.05}]

    return does


def test_killed_in_a_step(project: Project, sessions: list[Any]) -> None:
    """Killed twice it is applied again and rolled back; killed once, it is rolled back at once."""
    ran: list[str] = []
    sessions.append(Session(steps(apply=lambda killed: "half" if killed else "all", log=ran)))
    begun = lived(project)
    begun.run("apply", "key")
    begun.run("rollback", "key")
    begun.run("killed", "key")
    run = stored(project, RUNBOOK, "killed")
    assert run.passed, run.error
    assert ran[2:] == [
        *("apply killed", "apply killed", "apply", "rollback"),
        *("apply killed", "rollback"),
    ]
    kills = run.metadata["killed"]
    assert [(kill["cell"], kill["then"]) for kill in kills] == [
        ("step", "apply"),
        ("step", "apply"),
        ("step", "rollback"),
    ]
    # The same seed draws the same moments.
    sessions.append(Session(steps(apply=lambda killed: "half" if killed else "all")))
    again = lived(project)
    again.seed = run.metadata["seed"]
    again.run("killed", "key")
    assert stored(project, RUNBOOK, "killed").metadata["killed"] == kills


def test_what_a_kill_leaves_is_a_failure(project: Project, sessions: list[Any], told: Told) -> None:
    """The rollback knows nothing of a step that was cut off, and the next stage has a new host."""
    first = Session(passes)

    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        was = session.content
        steps(apply=lambda killed: "half" if killed else "all")(nb, outcome, session)
        if mode_of(nb) == "rollback" and was == "half":
            session.content = was

    first.does = does
    sessions.append(first)
    begun = lived(project)
    begun.run("apply", "key")
    begun.run("rollback", "key")
    begun.run("killed", "key")
    run = stored(project, RUNBOOK, "killed")
    seed, [*_, kill] = run.metadata["seed"], run.metadata["killed"]
    said = run.error.replace(str(seed), "SEED").replace(f"{kill['after']:g}", "0.02")
    told(said)
    assert [kill["passed"] for kill in run.metadata["killed"]] == [True, True, False]
    assert first.closed
    assert run.metadata["host"]["os"] == "none"


@pytest.mark.parametrize("does", [fails, passes], ids=["it fails", "it ends"])
def test_a_step_that_is_not_killed_proves_nothing(
    does: Does, project: Project, sessions: list[Any], told: Told
) -> None:
    ready = Session(steps(apply=lambda killed: "all"))
    sessions.append(ready)
    begun = lived(project)
    begun.seed = 1234
    begun.run("apply", "key")
    begun.run("rollback", "key")
    ready.does = does
    begun.run("killed", "key")
    told(stored(project, RUNBOOK, "killed").error)


def test_a_kill_is_not_tried_where_no_apply_passed(
    project: Project, sessions: list[Any], told: Told
) -> None:
    sessions.append(Session(fails))
    begun = lived(project)
    begun.run("apply", "key")
    begun.run("killed", "key")
    told(stored(project, RUNBOOK, "killed").error)


def test_a_kill_is_not_tried_where_there_is_no_step(
    project: Project, sessions: list[Any], told: Told
) -> None:
    sessions.append(Session(passes))
    begun = lived(project)
    project.add(RUNBOOK, runbook())
    begun.notebook = catalog.read(project.root, Path(RUNBOOK))
    begun.run("apply", "key")
    begun.run("killed", "key")
    told(stored(project, RUNBOOK, "killed").error)


TOGETHER = """\
works = "true"
[runbooks."a/x"]
name = "one"
[runbooks."a/y"]
[[orders]]
apply = ["a/x", "a/y"]
reboot = true
rollback = ["a/x", "a/y"]
[checks]
"a/y" = ["seen"]
"""


def test_runbooks_on_one_host(project: Project, sessions: list[Any]) -> None:
    """Each is applied and rolled back there; the notebook reads what was seen, and judges."""
    ran: list[str] = []

    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        ids = [cell.id for cell in nb.cells]
        if "see" in ids:
            ran.append("the notebook")
            return
        what = mode_of(nb) if "step" in ids else "holds"
        ran.append(f"{what} {session.env['KB_NOTEBOOK']}")
        assert ("slow" in ids) == ran[-1].endswith("a/x")
        if ran[-1] == "holds a/x":
            outcome.error = {"cell": "seen", "message": "it is gone"}
        if ran[-1] == "rollback a/y":
            session.content = "left behind"

    for name in ("x", "y"):
        cells = [code("step", "%%apply x\ntrue"), code("seen", "%%verify x\ntrue")]
        cells.append(code("slow", "%%verify x\ntrue"))
        project.add(f"runbooks/a/{name}.ipynb", runbook(*cells, parameters='name: str = ""  # x'))
    project.add(
        NOTEBOOK, notebook(code("see", "print(results)"), parameters='results: str = ""  # file')
    )
    project.write("notebooks/a/x/ci/together.toml", TOGETHER)
    found = catalog.read(project.root, Path(NOTEBOOK))
    session = Rebooting(does)
    sessions += [session, Session(does)]
    Life(Host(project.root, "box", "vm", "A box", (), "base"), found, lambda line: None).run(
        "run", "key"
    )
    assert stored(project, NOTEBOOK, "run").passed
    assert ran == [
        "apply a/x",
        "apply a/y",
        "holds a/x",
        "holds a/x",  # after the reboot
        "holds a/y",
        "rollback a/x",
        "holds a/y",
        "rollback a/y",
        "the notebook",
    ]
    assert session.env["KB_HERE"] == "/srv/fixtures/runbooks/a"
    assert session.reboots == 1
    assert session.closed  # it was not as before
    inputs = records.inputs(found)
    assert {"runbooks/a/x.ipynb", "runbooks/a/y.ipynb"} < set(inputs)


@pytest.mark.parametrize("lacking", ["a host that reboots", "the cell"])
def test_an_order_that_cannot_be_tried(
    project: Project, sessions: list[Any], lacking: str, told: Told
) -> None:
    for name in ("x", "y"):
        nb = runbook(code("seen", "%%verify x\ntrue"), parameters='name: str = ""  # x')
        project.add(f"runbooks/a/{name}.ipynb", nb)
    project.add(NOTEBOOK, notebook(parameters='results: str = ""  # file'))
    text = TOGETHER if lacking != "the cell" else TOGETHER.replace('["seen"]', '["sen"]')
    project.write("notebooks/a/x/ci/together.toml", text)
    sessions.append(Session(passes))
    found = catalog.read(project.root, Path(NOTEBOOK))
    host = Host(project.root, "box", "vm", "A box", (), "base")
    Life(host, found, lambda line: None).run("run", "key")
    told(stored(project, NOTEBOOK, "run").error)


def test_a_record_that_cannot_be_written_is_said_before_anything_runs(
    project: Project, sessions: list[Any], monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    sessions.append(Session(passes))
    monkeypatch.setattr(records, "write_atomically", full)
    with told.raises(StageError):
        lived(project).run("apply", "key")
    assert sessions  # no host was started


def test_cases_decide_and_not_what_their_last_run_did(
    project: Project, sessions: list[Any], told: Told
) -> None:
    def does(nb: Any, outcome: Outcome, session: Session) -> None:
        injected = next(cell.source for cell in nb.cells if cell.id == life.INJECTED)
        if "full" in injected:
            outcome.error = {"cell": "step", "message": 'preflight "x" stopped: no room'}

    cases = [
        {"cell": "step", "parameters": {"name": "full"}, "says": "no room"},
        {"cell": "step", "parameters": {"name": "empty"}, "says": "no room"},
    ]
    sessions.append(Session(does))
    lived(project, broken=cases).run("broken", "key")
    run = stored(project, RUNBOOK, "broken")
    told(run.error)
    assert [case["passed"] for case in run.metadata["broken"]] == [True, False]
    sessions.append(Session(does))
    lived(project, broken=cases[:1]).run("broken", "key")
    assert stored(project, RUNBOOK, "broken").passed


def test_a_diff_of_two_records_is_in_one_block(project: Project, sessions: list[Any]) -> None:
    """What changes with every run is in the run's own block, so that a diff can be read."""
    texts = []
    for seconds in (1.25, 2.5):

        def does(nb: Any, outcome: Outcome, session: Session, took: float = seconds) -> None:
            outcome.duration = took
            outcome.cells = [{"id": "step", "status": "passed", "duration": took}]

        sessions.append(Session(does))
        path = lived(project).run("apply", "key").path
        content = json.loads(path.read_text())
        assert content["metadata"].pop("kb_run")["duration"] == seconds
        texts.append(content)
    assert texts[0] == texts[1]


class Rebooting(Session):
    """The same, and it can be started anew."""

    reboots = 0

    def reboot(self) -> None:
        self.reboots += 1


def test_what_a_step_did_before_a_reboot_is_in_the_record(
    project: Project, sessions: list[Any]
) -> None:
    def does(nb: Any, outcome: Outcome, session: Any) -> None:
        outcome.error = None if session.reboots else {"message": "to prove it", "wants": "reboot"}
        step = next(cell for cell in nb.cells if cell.id == "step")
        step.outputs = [] if session.reboots else [v4.new_output("stream", text="changed: x\n")]

    sessions.append(Rebooting(does))
    assert lived(project).run("apply", "key").passed
    run = stored(project, RUNBOOK, "apply").metadata
    assert run["reboots"] == 1
    assert [o["text"] for o in run["before_reboot"]["step"]] == ["changed: x\n"]
    assert set(run["before_reboot"]) == {"step"}
