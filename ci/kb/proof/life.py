"""The life of a notebook on a host: each stage executed, judged by the host's state, recorded."""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import re
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from kb.proof import branches, claims, fixtures, hosts, plan, records, snapshots, stages
from kb.proof.catalog import MAGIC, Notebook
from kb.proof.fixtures import FixtureError
from kb.proof.hosts import (
    Host,
    HostError,
    HostHungError,
    Rebootable,
    Returning,
    Session,
    managed,
)
from kb.proof.records import Run
from kb.proof.together import Together
from kb.runtime import border, engine, record, redact
from kb.runtime.engine import Outcome
from kb.runtime.record import source

CHANGED = re.compile(r"^changed: .*", re.MULTILINE)
APPLIED = re.compile(r"(/.+)/applied/(\d+)\.json: content")  # where a step's results are
SHOWN_DIFFERENCES = 20
REBOOTS = 3  # a run that asks for more is not cured by one
RUNBOOKS = "runbooks"  # the fixture by which a host sees those that are applied to it
RESULTS = "/run/kb-together.json"
INJECTED = "injected-parameters"  # id and tag of the cell that holds what was passed
# How often an apply is killed, and what is done then. Killed twice, it meets what two of them left.
ROUNDS = ((2, ("apply", "rollback")), (1, ("rollback",)))
TRIES = 5  # of a kill that comes too late, each half as late

Progress = Callable[[str], object]  # one line about what happens now


class StageError(Exception):
    """A stage that did not pass. One sentence."""


@dataclass
class Account:
    """What is known so far of a stage under way. Whatever ends it, this becomes its record."""

    nb: Any
    outcome: Outcome
    details: dict[str, Any]

    def fail(self, message: str, cell: str = "") -> None:
        """It did not pass, and this is why; what was said first stands."""
        if self.outcome.error is None:
            self.outcome.error = {"cell": cell, "message": message}


class _Kill:
    """Ends a kernel ``after`` some seconds of the step of this ``number``."""

    def __init__(self, kill: Callable[[], object], number: int, after: float) -> None:
        self.done = False
        self._kill = kill
        self._before = number
        self._timer = threading.Timer(after, self._now)

    def step_begins(self) -> None:
        """To be called whenever a step begins."""
        if self._before == 0:
            self._timer.start()
        self._before -= 1

    def cancel(self) -> None:
        """It came too late: nothing is killed any more."""
        self._timer.cancel()

    def _now(self) -> None:
        self.done = True
        self._kill()


class Life:
    """A notebook's stages on one host, sharing one session as long as they follow each other.

    ``recorded`` are all claims; those that the notebook settles are what its verdicts are held to.
    ``unusable``: why the host could not be made, where that is known already. ``seed``: what the
    moments of kills are drawn from; by chance where it is None.
    """

    def __init__(
        self,
        host: Host,
        notebook: Notebook,
        progress: Progress,
        recorded: Iterable[claims.Claim] = (),
        unusable: str = "",
        seed: int | None = None,
    ) -> None:
        self.host = host
        self.notebook = notebook
        self.progress = progress
        self.recorded = list(recorded)
        self.unusable = unusable
        self.seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self._session: Session | None = None
        self._left: Session | None = None  # whose host can be made again what it was
        self._facts: dict[str, Any] = {}  # of the last host
        self._here = ""  # where the host has the notebook, if not where its session says
        self._parameters: dict[str, Any] = {}
        self._known: snapshots.Snapshot | None = None  # the first look at a host
        self._before: snapshots.Snapshot | None = None  # before anything was applied
        self._applied: snapshots.Snapshot | None = None  # after the first apply
        self._making = 0.0  # seconds of this stage that fixtures took, which other machines have
        self._account: Account = self._begun()

    def run(self, stage: str, key: str) -> Run:
        """Execute ``stage`` and store its record, whatever ends it.

        Raises :class:`StageError` only where the record cannot be written.
        """
        steps: dict[str, Callable[[], None]] = {
            name: getattr(self, f"_{name}") for name in stages.NAMED
        }
        begun, self._making = time.monotonic(), 0.0
        self._account = self._begun()
        with self._writing(stage):
            unfinished = self._content(stage, key, begun, ended=records.INTERRUPTED)
            mark = records.begin(self.notebook, self.host.name, stage, unfinished)
        try:
            try:
                steps[stage]()
            except HostHungError as hung:
                self._start_over(str(hung), time.monotonic() - begun)
                steps[stage]()
        except (StageError, HostError, snapshots.StateError, FixtureError) as error:
            self._account.fail(str(error))
        except BaseException as error:  # Ctrl-C, and defects of ours: a record, and on it goes
            interrupted = isinstance(error, KeyboardInterrupt)
            self._account.fail(
                "the run was interrupted" if interrupted else f"{type(error).__name__}: {error}"
            )
            self._store(stage, key, begun)
            mark.unlink(missing_ok=True)
            raise
        run = self._store(stage, key, begun)
        mark.unlink(missing_ok=True)
        return run

    def _begun(self) -> Account:
        """The account of a stage of which nothing has run yet."""
        nb = load_notebook_node(str(self.notebook.root / self.notebook.path))
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Account(nb, Outcome(started=now), {})

    def _start_over(self, why: str, seconds: float) -> None:
        """Once more, on a fresh host, since this one hung."""
        self.progress(f"once more, on a fresh host: {why}")
        self.close()
        self._account = self._begun()
        self._account.details["hung"] = {"why": why, "after": round(seconds, 1)}

    def _store(self, stage: str, key: str, begun: float) -> Run:
        with self._writing(stage):
            content = self._content(stage, key, begun)
            return records.store(self.notebook, self.host.name, stage, content)

    @contextlib.contextmanager
    def _writing(self, stage: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = records.place(self.notebook, self.host.name, stage)
            relative = where.relative_to(self.notebook.root)
            raise StageError(
                f"the record {relative} could not be written: {error.strerror}"
            ) from None

    def _content(self, stage: str, key: str, begun: float, *, ended: str = "") -> dict[str, Any]:
        """The record: of the account as it is, or, where ``ended``, of one that is not over."""
        account = self._account
        outcome = account.outcome
        if ended:
            outcome = Outcome(started=outcome.started, error={"cell": "", "message": ended})
        nb = account.nb
        nb.metadata[record.RUN] = record.new(
            notebook=str(self.notebook.path),
            stage=stage,
            mode=stages.NAMED[stage].mode,
            parameters=account.details.get("passed", {}),
            host={
                "name": self.host.name,
                "kind": self.host.kind,
                **self._facts,
            },
            inputs=records.inputs(self.notebook),
            root=self.notebook.root,
            outcome=outcome,
            key=key,
            took=round(time.monotonic() - begun - self._making, 1),
            **{name: value for name, value in account.details.items() if name != "passed"},
        )
        nb.metadata.pop("papermill", None)  # paths of this machine, and a status that can be wrong
        for cell in nb.cells:
            cell.metadata.pop("papermill", None)
        content: dict[str, Any] = json.loads(nbformat.writes(nb))
        return content

    def close(self) -> None:
        """Give the host back."""
        for session in (self._session, self._left):
            if session is not None:
                session.close()
        self._session = self._left = self._before = self._applied = None

    def _leave(self) -> None:
        """What comes next begins on a host that nothing but its preparation has changed."""
        if isinstance(self._session, Returning):
            self._left = self._session
        elif self._session is not None:
            self._session.close()
        self._session = self._before = self._applied = None

    # The stages, named as in the table. What they find goes into the account.

    def _plan(self) -> None:
        session = self._open()
        self._before = before = self._before or self._look(session)
        self._execute(session, "plan")
        self._judge(before, session.snapshot(before), (), "mode plan changed this host")

    def _apply(self) -> None:
        session = self._open()
        if self._before is None:
            self._before = self._look(session)
        self._execute(session, "apply")
        self._applied = session.snapshot(self._before)

    def _again(self) -> None:
        applied = self._need_applied()
        session = self._open()
        self._execute(session, "apply", self.notebook.cases.repeated)
        after = session.snapshot(applied)
        self._judge(
            applied,
            after,
            self.notebook.not_restored,
            "a second apply changed",
            self._written_again,
        )
        said = [line for text in _outputs(self._account.nb) for line in CHANGED.findall(text)]
        if said:
            self._account.fail(f"a second apply said `{said[0]}`")

    def _rollback(self) -> None:
        self._need_applied()
        before = self._before
        assert before is not None
        session = self._open()
        self._execute(session, "rollback")
        self._applied = None
        after = session.snapshot(before)
        self._judge(before, after, self.notebook.not_restored, "the rollback did not restore")
        if self._account.outcome.error:
            self._leave()

    def _killed(self) -> None:
        """Kill an apply in a step, go on from what that left, and look at the host."""
        steps = self._steps()
        chance = random.Random(self.seed)  # noqa: S311 - so that it can be drawn again
        results: list[dict[str, Any]] = []
        if self._applied is not None:
            self._leave()
        session = self._open()
        self._before = before = self._before or self._look(session)
        for times, then in ROUNDS:
            kills: list[dict[str, Any]] = []
            why = ""
            for _ in range(times):
                # A second one may find all done: what the first one cut off was the last step.
                if not why and (kill := self._kill(session, steps, chance, again=bool(kills))):
                    kills.append(kill)
                    why = kill.pop("why", "")
            for mode in () if why else then:
                self._execute(session, mode, self.notebook.cases.repeated)
                if error := self._account.outcome.error:
                    why = f"mode {mode} failed: {error['message']}"
                    break
            if not why:
                after = session.snapshot(before)
                left = snapshots.differences(before, after, self.notebook.not_restored)
                why = f"this was left: {'; '.join(left[:3])}" if left else ""
            said = {"then": then[0], "passed": not why, "message": why}
            results += [kill | said for kill in kills]
            self._account.details |= {"seed": self.seed, "killed": results}
            if why:
                moments = " and ".join(
                    f"{kill['after']:g} s into `{kill['cell']}`" for kill in kills
                )
                self._account.outcome.error = None
                self._account.fail(f"killed {moments} (--seed {self.seed}): {why}")
                self._leave()
                return

    def _steps(self) -> dict[str, float]:
        """The steps that an apply goes through, each with the seconds that the newest one took."""
        newest = records.newest(self.notebook, self.host.name, "apply")
        if newest is None or not newest.passed:
            raise StageError("not tried: no apply has passed here, which tells what steps take")
        took = {row["id"]: row["duration"] for row in newest.metadata["cells"]}
        magics = {cell["id"]: MAGIC.match(source(cell)) for cell in self.notebook.cells}
        steps = [name for name, magic in magics.items() if magic and magic[1] == "apply"]
        if not steps:
            raise StageError("not tried: there is no step, a cell with %%apply")
        return {step: float(took[step]) for step in steps}

    def _kill(
        self, session: Session, steps: dict[str, float], chance: random.Random, *, again: bool
    ) -> dict[str, Any]:
        """Kill an apply at a moment drawn by chance: which it was, and `why` that is a failure.

        What only looks, before and between the steps, is left out: mode plan shows that it does.
        ``again``: on a host that a kill has left, where nothing may be left to do; then {} is
        returned.
        """
        number = chance.randrange(len(steps))
        cell = list(steps)[number]
        after = round(chance.random() * steps[cell], 2)
        for _ in range(TRIES):
            kill = _Kill(session.kill_kernel, number, after)
            try:
                parameters = self.notebook.cases.repeated
                self._execute(session, "apply", parameters, steps=steps, begins=kill.step_begins)
            finally:
                kill.cancel()
            error = self._account.outcome.error
            found = {"cell": cell, "after": after}
            if error and not kill.done:
                return found | {"why": f"a step failed: {error['message']}"}
            if error:
                self.progress(f"killed {after:g} s into {cell}")
                return found
            if again:
                return {}
            self._execute(session, "rollback")
            after = round(after / 2, 2)
        return found | {"why": f"{TRIES} applies ended before they were killed"}

    def _broken(self) -> None:
        """Each case on a host that nothing has changed: a fresh one after a setup."""
        cases = sorted(self.notebook.broken, key=lambda case: "setup" in case)
        results: list[dict[str, Any]] = []
        self._account.details["broken"] = results
        before: snapshots.Snapshot | None = None
        for case in cases:
            if "setup" in case:
                self._leave()
                before = None
            session = self._open()
            self._set_up(session, case)
            before = before or self._look(session)
            parameters = self.notebook.cases.repeated | case.get("parameters", {})
            self._execute(session, "apply", parameters)
            results.append(_broken_case(case, self._account.outcome.error))
            if not results[-1]["preflight"] and results[-1]["passed"]:  # a step: undo what it began
                self._execute(session, "rollback", parameters)
                if back := self._account.outcome.error:
                    results[-1] |= {"passed": False, "message": back["message"]}
            after = session.snapshot(before)
            left = snapshots.differences(before, after, self.notebook.not_restored)
            before = after
            if left:
                said = f"and left on the host: {'; '.join(left[:5])}"
                if not results[-1]["passed"]:  # it may have left that because it failed
                    said = f"{results[-1]['message']}; {said}"
                results[-1] |= {"passed": False, "message": said}
                self._leave()
                before = None
        self._conclude(results, lambda case: f"should say `{case['says']}`")

    def _run(self) -> None:
        known = {claim.id: claim for claim in self.recorded}
        self._account.details["held_to"] = plan.held_to(self.notebook, known, self.host)
        session = self._open()
        if self.notebook.together:
            self._parameters["results"] = self._together(self.notebook.together)
            session = self._open()
        self._execute(session, None)
        if self._account.outcome.error is None and known:
            found = claims.disagreements(
                self.recorded, self.notebook, self._account.nb, self.host.name
            )
            if found:
                self._account.fail("\n".join(found))

    def _flip(self) -> None:
        """Change the world, each time on a fresh host: the verdicts must become others.

        Cases of one and the same changed world share a run.
        """
        worlds: dict[str, list[dict[str, Any]]] = {}
        for case in self.notebook.flips:
            world = json.dumps([case.get("setup"), case.get("parameters")], sort_keys=True)
            worlds.setdefault(world, []).append(case)
        results: list[dict[str, Any]] = []
        self._account.details["flips"] = results
        for cases in worlds.values():
            self._leave()
            session = self._open()
            self._set_up(session, cases[0])
            self._execute(session, None, cases[0].get("parameters"))
            found = claims.settled_in(self._account.nb)
            verdicts = {settled.claim: settled.verdict for settled in found}
            for case in cases:
                got = verdicts.get(case["claim"])
                results.append(
                    {
                        "claim": case["claim"],
                        "becomes": case["becomes"],
                        "passed": got == case["becomes"],
                        "message": f"became {got}" if got else _sentence(self._account.outcome),
                    }
                )
        self._conclude(results, lambda case: f"should become {case['becomes']}")

    # Runbooks that follow each other on one host.

    def _together(self, plan: Together) -> str:
        """Apply them in each order, and roll them back; returns the file that says what was seen.

        After each, the service must do its work, and whatever is applied then must still hold.
        """
        rows: list[dict[str, Any]] = []
        for number, order in enumerate(plan.orders, 1):
            session = self._open()
            before = self._look(session)
            lives = {name: self._beside(name, plan) for name in order.apply}
            applied: list[str] = []
            done = [("apply", name) for name in order.apply]
            done += [("reboot", "")] if order.reboot else []
            done += [("rollback", name) for name in order.rollback]
            for mode, name in done:
                self.progress(f"order {number}: {mode} {name}".rstrip())
                checks = plan.checks.get(name)
                failed = "" if mode == "reboot" else lives[name].on(session, mode, checks)
                if mode == "reboot":
                    self._reboot(session)
                elif not failed and mode == "apply":
                    applied.append(name)
                elif not failed:
                    applied.remove(name)
                status, output, error = session.command(["bash", "-c", plan.works])
                broken = {
                    other: why
                    for other in applied
                    if other != name
                    and (why := lives[other].on(session, "verify", plan.checks.get(other)))
                }
                rows.append(
                    {
                        "order": number,
                        "mode": mode,
                        "runbook": name,
                        "failed": failed,
                        "works": "" if status == 0 else _last(error or output),
                        "broken": broken,
                    }
                )
            left = snapshots.differences(before, session.snapshot(before), self._may_stay(plan))
            rows.append({"order": number, "mode": "end", "left": left[:SHOWN_DIFFERENCES]})
            if left:
                self._leave()
        status, _, error = self._open().command(["tee", RESULTS], text=json.dumps(rows))
        if status != 0:
            raise StageError(f"{RESULTS} could not be written: {_last(error)}")
        return RESULTS

    def _beside(self, name: str, plan: Together) -> Life:
        other = next(one for one in self.notebook.others if f"{one.area}/{one.name}" == name)
        life = Life(self.host, other, self.progress)
        life._parameters = plan.runbooks[name]
        life._here = f"{managed.FIXTURES}/{RUNBOOKS}/{other.area}"
        return life

    def _reboot(self, session: Session) -> None:
        if not isinstance(session, Rebootable):
            raise StageError(f"{self.host.name} cannot be rebooted: take `reboot` out of an order")
        session.reboot()

    def on(self, session: Session, mode: str, checks: list[str] | None) -> str:
        """Run the runbook on another's host, or only verify; why it failed, or "".

        ``checks``: the cells of it that verify here, all of them where it is None.
        """
        magics = {cell["id"]: MAGIC.match(source(cell)) for cell in self.notebook.cells}
        verify = [name for name, found in magics.items() if found and found[1] == "verify"]
        left_out = set(verify).difference(verify if checks is None else checks)
        if checks is not None and (unknown := set(checks).difference(verify)):
            raise StageError(f"`{min(unknown)}` is no %%verify cell of {self.notebook.path}")
        if mode == "verify":
            self._execute(session, "apply", steps=set(verify) - left_out)
        else:
            self._execute(session, mode, steps=magics.keys() - left_out)
        error = self._account.outcome.error
        return f"{error['message']} (cell {error['cell']})" if error else ""

    def _may_stay(self, plan: Together) -> list[str]:
        return [path for other in self.notebook.others for path in other.not_restored]

    # What the stages are made of.

    def _open(self) -> Session:
        if self._session is None:
            if self.unusable:
                raise StageError(self.unusable)
            self._session = self._gone_back() or self._started()
        return self._session

    def _gone_back(self) -> Session | None:
        """The session that was left, its host as it was prepared; None where there is none."""
        if self._left is None:
            return None
        assert isinstance(self._left, Returning)
        self.progress("back to the host as it was")
        if self._left.back():
            session, self._left = self._left, None
            return session
        self._left.close()
        self._left = None
        return None

    def _started(self) -> Session:
        self.progress("starting the host")
        session = hosts.start(self.host, self.notebook, self._fixtures())
        self._session, self._facts = session, session.facts
        self._parameters = dict(self.notebook.metadata.get("parameters", {}))
        self._parameters |= self._prepare(session)
        if self.notebook.prepare and self._begins_anew() and isinstance(session, Returning):
            self.progress("keeping the host as it is prepared")
            session.keep()
        return session

    def _begins_anew(self) -> bool:
        """Whether a case of this notebook wants a host that nothing has changed."""
        cases = self.notebook.cases
        return bool(cases.flips) or any("setup" in case for case in cases.broken)

    def _look(self, session: Session) -> snapshots.Snapshot:
        """What the host is before a stage or a case does something to it.

        What is untouched since the first look is not read again.
        """
        found = session.snapshot(self._known)
        self._known = self._known or found
        return found

    def _fixtures(self) -> dict[str, Path]:
        """The directories that the notebook wants mounted, made by the scripts in ci/fixtures."""
        begun = time.monotonic()
        found = {}
        if self.notebook.others:
            found[RUNBOOKS] = self.notebook.root / RUNBOOKS
        for name in self.notebook.metadata.get("fixtures", []):
            if not (self.notebook.root / "ci/fixtures" / name).is_file():
                raise StageError(
                    f"there is no ci/fixtures/{name}, which {self.notebook.path} wants"
                )
            found[name] = fixtures.make(self.notebook.root, name)
        self._making += time.monotonic() - begun
        return found

    def _prepare(self, session: Session) -> dict[str, Any]:
        """Run the notebook's own preparation on the host; it may add parameters."""
        script = self.notebook.prepare
        if script is None:
            return {}
        if not session.disposable:
            return {}  # CI's fixtures have no place on a person's machine
        there = f"{session.here}/{script.relative_to(self.notebook.path.parent)}"
        status, output, error = session.command(["bash", "-Eeuo", "pipefail", there])
        if status != 0:
            raise StageError(f"{script} failed with status {status}: {_last(error or output)}")
        last = _last(output)
        if not last.startswith("{"):
            return {}
        try:
            added: dict[str, Any] = json.loads(last)
        except ValueError:
            raise StageError(f"{script}: its last line is not a JSON object: {last}") from None
        return added

    def _set_up(self, session: Session, case: dict[str, Any]) -> None:
        if "setup" not in case:
            return
        status, output, error = session.command(["bash", "-Eeuo", "pipefail", "-c", case["setup"]])
        if status != 0:
            raise StageError(f"a setup failed with status {status}: {_last(error or output)}")

    def _need_applied(self) -> snapshots.Snapshot:
        """The host's state after an apply, which is run first if there was none."""
        if self._applied is None:
            self._apply()
            failed = self._account.outcome.error
            details = {"hung": hung} if (hung := self._account.details.get("hung")) else {}
            self._account = self._begun()
            self._account.details |= details
            if failed:
                raise StageError(f"not tried: apply failed first: {failed['message']}")
        assert self._applied is not None
        return self._applied

    def _execute(
        self,
        session: Session,
        mode: str | None,
        parameters: dict[str, Any] | None = None,
        *,
        steps: Container[str] | None = None,
        begins: Callable[[], object] = lambda: None,
    ) -> None:
        """Run the notebook, once more after each reboot that it asks for.

        ``steps``, where given, are the only cells that are run; as each ``begins``, that is called.
        """
        passed = self._parameters | (parameters or {}) | ({"mode": mode} if mode else {})
        account = self._account
        account.details |= {"passed": passed, "image": session.image, "reboots": 0}
        started, duration = account.outcome.started, 0.0
        while True:
            self._execute_once(session, passed, steps, begins)
            duration += account.outcome.duration
            account.outcome.started, account.outcome.duration = started, duration
            wants = (account.outcome.error or {}).get("wants")
            if (
                wants != "reboot"
                or not isinstance(session, Rebootable)
                or account.details["reboots"] == REBOOTS
            ):
                return
            self._keep_steps()
            self.progress("rebooting the host")
            session.reboot()
            account.details["reboots"] += 1

    def _keep_steps(self) -> None:
        """Keep what the steps printed: run once more after a reboot, they find their work done."""
        kept = self._account.details.setdefault("before_reboot", {})
        for cell in self._account.nb.cells:
            magic = MAGIC.match(cell.source)
            if magic and magic[1] == "apply":
                printed = [output for output in cell.outputs if output.output_type != "error"]
                kept.setdefault(cell.id, []).extend(printed)

    def _execute_once(
        self,
        session: Session,
        passed: dict[str, Any],
        steps: Container[str] | None,
        begins: Callable[[], object],
    ) -> None:
        nb = load_notebook_node(str(self.notebook.root / self.notebook.path))
        if passed:
            nb = parameterize_notebook(nb, passed, kernel_name="python3", language="python")
            for cell in nb.cells:
                if INJECTED in cell.metadata.get("tags", []):
                    cell.id = INJECTED  # papermill's is another in every run
        if steps is not None:
            first = next(n for n, cell in enumerate(nb.cells) if MAGIC.match(cell.source))
            nb.cells = nb.cells[:first] + [cell for cell in nb.cells[first:] if cell.id in steps]

        def progress(what: str, elapsed: float) -> None:
            self.progress(what)
            begins()

        env = redact.hide_parameters(nb) | {
            "KB_NOTEBOOK": f"{self.notebook.area}/{self.notebook.name}",
            "KB_HERE": self._here or session.here,
        }
        traced = session.disposable and passed.get("mode") in ("apply", "rollback")
        if traced:
            env["KB_TRACE"] = branches.TRACE
        border.check_injected(nb)
        self._account.nb = nb
        self._account.outcome = Outcome(started=self._account.outcome.started)
        engine.run(
            nb,
            manager=session.kernel(env),
            disposable=session.disposable,
            progress=progress,
            why_dead=session.why_dead,
            hidden=redact.secrets(env),
            outcome=self._account.outcome,
            mode=passed.get("mode"),
        )
        if session.hung:
            raise HostHungError(session.hung)
        if traced:
            self._keep_lines(session)

    def _keep_lines(self, session: Session) -> None:
        """Keep which lines of the steps and of the way back ran, in this run or one before it."""
        try:
            status, told, _ = session.command(["bash", "-c", branches.TOLD])
        except HostError:  # it went, and the account of the run says so
            return
        kept: dict[str, list[int]] = self._account.details.setdefault("ran", {})
        for cell, lines in branches.ran(told, self.notebook.steps).items() if not status else ():
            kept[cell] = sorted({*kept.get(cell, []), *lines})

    def _judge(
        self,
        before: snapshots.Snapshot,
        after: snapshots.Snapshot,
        ignored: Iterable[str],
        accusation: str,
        named: Callable[[str], str] = str,
    ) -> None:
        """Add what the host's state says to the account; a difference is a failure."""
        found = [named(line) for line in snapshots.differences(before, after, ignored)]
        self._account.details["state"] = {
            "unchanged": not found,
            "differences": found[:SHOWN_DIFFERENCES],
        }
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            self._account.fail(f"{accusation}: {'; '.join(found[:3])}{more}")

    def _written_again(self, difference: str) -> str:
        """A file that a step wrote although it was right: what is remembered of it tells."""
        found = APPLIED.fullmatch(difference)
        if found is None:
            return difference
        _, journal, _ = self._open().command(["cat", f"{found[1]}/kept.jsonl"])
        with contextlib.suppress(ValueError, KeyError, IndexError):
            path = json.loads(journal.splitlines()[int(found[2])])["path"]
            return f"{path} was written again although it was right: compare first, and leave it"
        return difference

    def _conclude(
        self, results: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], str]
    ) -> None:
        """Cases decide, not what their last run did: it may have had to fail."""
        self._account.outcome.error = None
        failed = next((case for case in results if not case["passed"]), None)
        if failed:
            cell = failed.get("cell", "")
            which = f"cell `{cell}`" if cell else f"claim `{failed['claim']}`"
            self._account.fail(f"{which} {wanted(failed)}, but: {failed['message']}", cell)


def _broken_case(case: dict[str, Any], error: dict[str, str] | None) -> dict[str, Any]:
    message = error["message"] if error else "nothing failed"
    hit = error is not None and error["cell"] == case["cell"] and case["says"] in message
    return {
        "cell": case["cell"],
        "says": case["says"],
        "preflight": message.startswith("preflight"),
        "passed": hit,
        "message": message,
    }


def _sentence(outcome: Outcome) -> str:
    return outcome.error["message"] if outcome.error else "nothing failed"


def _outputs(nb: Any) -> Iterator[str]:
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            yield str(output.get("text", ""))


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"
