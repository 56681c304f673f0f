"""The life of a notebook on a host: each stage executed, judged by the host's state, recorded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from filelock import FileLock
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from kb.proof import hosts, records, snapshots
from kb.proof.catalog import Notebook
from kb.proof.claims import settled_in
from kb.proof.hosts import Host, Rebootable, Session
from kb.runtime import border, engine, redact
from kb.runtime.parameters import is_secret

MODES = {"plan": "plan", "apply": "apply", "again": "apply", "rollback": "rollback"}
CHANGED = re.compile(r"^changed: .*", re.MULTILINE)
SHOWN_DIFFERENCES = 20
REBOOTS = 3  # a run that asks for more does not get what it wants from them

Progress = Callable[[str], object]  # one line about what happens now


class StageError(Exception):
    """A stage that did not pass. One sentence."""


class Life:
    """A notebook's stages on one host, sharing one session as long as they follow each other."""

    def __init__(self, host: Host, notebook: Notebook, progress: Progress) -> None:
        self.host = host
        self.notebook = notebook
        self.progress = progress
        self._session: Session | None = None
        self._parameters: dict[str, Any] = {}
        self._before: dict[str, Any] | None = None  # the host's state before anything was applied
        self._applied: dict[str, Any] | None = None  # and after the first apply

    def run(self, stage: str, key: str) -> Path:
        """Execute ``stage``, store its record and return where. Raises :class:`StageError`."""
        steps = {
            "plan": self._plan,
            "apply": self._apply,
            "again": self._again,
            "rollback": self._rollback,
            "broken": self._broken,
            "run": self._run,
            "flip": self._flip,
        }
        nb, record = steps[stage]()
        commit, dirty = records.commit(self.notebook.root)
        nb.metadata["kb_run"] = {
            "schema": records.SCHEMA,
            "notebook": str(self.notebook.path),
            "stage": stage,
            "key": key,
            "commit": commit,
            "dirty": dirty,
            "inputs": records.inputs(self.notebook),
            **record,
        }
        nb.metadata.pop("papermill", None)  # paths of this machine, and a status that can be wrong
        text = nbformat.writes(nb)
        try:
            path = records.store(self.notebook, self.host.name, stage, text + "\n")
        except OSError as error:
            where = records.place(self.notebook, self.host.name, stage)
            relative = where.relative_to(self.notebook.root)
            raise StageError(
                f"the record {relative} could not be written: {error.strerror}"
            ) from None
        if record["error"]:
            cell = record["error"]["cell"]
            where_ = f" (cell `{cell}`)" if cell else ""
            raise StageError(f"{record['error']['message']}{where_}")
        return path

    def close(self) -> None:
        """Give the host back."""
        if self._session is not None:
            self._session.close()
        self._session = self._before = self._applied = None

    # The stages. Each returns the executed notebook and the run's part of its record.

    def _plan(self) -> tuple[Any, dict[str, Any]]:
        session = self._open()
        before = self._before or session.snapshot(None)
        self._before = before
        nb, record = self._execute(session, "plan")
        return nb, _judge(record, before, session.snapshot(before), (), "the plan changed")

    def _apply(self) -> tuple[Any, dict[str, Any]]:
        session = self._open()
        if self._before is None:
            self._before = session.snapshot(None)
        nb, record = self._execute(session, "apply")
        self._applied = session.snapshot(self._before)
        return nb, record

    def _again(self) -> tuple[Any, dict[str, Any]]:
        self._need_applied()
        assert self._applied is not None
        session = self._open()
        nb, record = self._execute(session, "apply")
        after = session.snapshot(self._applied)
        ignored = self.notebook.metadata.get("leaves", {})
        record = _judge(record, self._applied, after, ignored, "a second apply changed")
        said = [line for text in _outputs(nb) for line in CHANGED.findall(text)]
        if said and not record["error"]:
            record["error"] = {"cell": "", "message": f"a second apply said `{said[0]}`"}
            record["result"] = "failed"
        return nb, record

    def _rollback(self) -> tuple[Any, dict[str, Any]]:
        self._need_applied()
        assert self._before is not None
        session = self._open()
        nb, record = self._execute(session, "rollback")
        self._applied = None
        after = session.snapshot(self._before)
        ignored = self.notebook.metadata.get("leaves", {})
        return nb, _judge(record, self._before, after, ignored, "the rollback did not restore")

    def _broken(self) -> tuple[Any, dict[str, Any]]:
        """Each case on a host that nothing has changed: a fresh one after a setup."""
        cases = sorted(self.notebook.metadata["broken"], key=lambda case: "setup" in case)
        told = []
        before: snapshots.Snapshot | None = None
        for case in cases:
            if "setup" in case:
                self.close()
                before = None
            session = self._open()
            self._set_up(session, case)
            before = before or session.snapshot(None)
            nb, record = self._execute(session, "apply", case.get("parameters"))
            told.append(_broken_case(case, record["error"]))
            if not told[-1]["preflight"] and told[-1]["passed"]:  # a step: what it began is undone
                _, back = self._execute(session, "rollback", case.get("parameters"))
                if back["error"]:
                    told[-1] |= {"passed": False, "message": back["error"]["message"]}
            after = session.snapshot(before)
            left = snapshots.differences(before, after, self.notebook.metadata.get("leaves", {}))
            before = after
            if left:
                said = f"it left a change: {'; '.join(left[:5])}"
                if not told[-1]["passed"]:  # it may have left one because of that
                    said = f"{told[-1]['message']}; and {said}"
                told[-1] |= {"passed": False, "message": said}
                self.close()
                before = None
        return nb, _verdict_of_cases(record, told, "broken")

    def _run(self) -> tuple[Any, dict[str, Any]]:
        session = self._open()
        return self._execute(session, None)

    def _flip(self) -> tuple[Any, dict[str, Any]]:
        """Change the world, each time on a fresh host: the verdicts must become others.

        Cases of one and the same changed world share a run.
        """
        worlds: dict[str, list[dict[str, Any]]] = {}
        for case in self.notebook.metadata["flips"]:
            world = json.dumps([case.get("setup"), case.get("parameters")], sort_keys=True)
            worlds.setdefault(world, []).append(case)
        told = []
        for cases in worlds.values():
            self.close()
            session = self._open()
            self._set_up(session, cases[0])
            nb, record = self._execute(session, None, cases[0].get("parameters"))
            verdicts = {settled.claim: settled.verdict for settled in settled_in(nb)}
            for case in cases:
                got = verdicts.get(case["claim"])
                told.append(
                    {
                        "claim": case["claim"],
                        "becomes": case["becomes"],
                        "passed": got == case["becomes"],
                        "message": f"became {got}" if got else _sentence(record["error"]),
                    }
                )
        return nb, _verdict_of_cases(record, told, "flips")

    # What the stages are made of.

    def _open(self) -> Session:
        if self._session is None:
            self.progress("starting the host")
            session = hosts.start(self.host, self.notebook, self._fixtures())
            self._session = session
            self._parameters = dict(self.notebook.metadata.get("parameters", {}))
            self._parameters |= self._prepare(session)
        return self._session

    def _fixtures(self) -> dict[str, Path]:
        """The directories that the notebook wants mounted, made by the scripts in ci/fixtures."""
        found = {}
        for name in self.notebook.metadata.get("fixtures", []):
            script = self.notebook.root / "ci/fixtures" / name
            target = self.notebook.root / "build/fixtures" / name
            if not script.is_file():
                raise StageError(
                    f"there is no ci/fixtures/{name}, which {self.notebook.path} wants"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_suffix(".lock")):
                done = subprocess.run(
                    [str(script), str(target)],
                    env={**os.environ, "PYTHON": sys.executable},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            if done.returncode != 0:
                raise StageError(f"ci/fixtures/{name} failed: {_last(done.stderr or done.stdout)}")
            found[name] = target
        return found

    def _prepare(self, session: Session) -> dict[str, Any]:
        """Run the notebook's own preparation on the host; it may add parameters."""
        script = self.notebook.metadata.get("prepare")
        if not script:
            return {}
        if not session.disposable:
            return {}  # CI's fixtures have no place on a person's machine
        status, output, error = session.command(
            ["bash", "-Eeuo", "pipefail", f"{session.here}/{script}"]
        )
        if status != 0:
            raise StageError(f"{script} failed with status {status}: {_last(error or output)}")
        last = _last(output)
        if not last.startswith("{"):
            return {}
        try:
            added: dict[str, Any] = json.loads(last)
        except ValueError:
            raise StageError(f"{script}: its last line is no JSON object: {last}") from None
        return added

    def _set_up(self, session: Session, case: dict[str, Any]) -> None:
        if "setup" not in case:
            return
        status, output, error = session.command(["bash", "-Eeuo", "pipefail", "-c", case["setup"]])
        if status != 0:
            raise StageError(f"a setup failed with status {status}: {_last(error or output)}")

    def _need_applied(self) -> None:
        if self._applied is None:
            _, record = self._apply()
            if record["error"]:
                raise StageError(f"apply, which comes before, failed: {_sentence(record['error'])}")

    def _execute(
        self, session: Session, mode: str | None, parameters: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        passed = self._parameters | (parameters or {}) | ({"mode": mode} if mode else {})
        nb, outcome = self._execute_once(session, passed)
        reboots = 0
        while (
            (outcome.error or {}).get("wants") == "reboot"
            and isinstance(session, Rebootable)
            and reboots < REBOOTS
        ):
            self.progress("rebooting the host")
            session.reboot()
            reboots += 1
            before = outcome
            nb, outcome = self._execute_once(session, passed)
            outcome.started = before.started
            outcome.duration += before.duration
        return nb, {
            "mode": mode,
            "parameters": {
                name: redact.MASK if is_secret(name) else value for name, value in passed.items()
            },
            "host": session.facts,
            "image": session.image,
            "reboots": reboots,
            "state": None,
            "broken": None,
            **outcome.metadata(),
        }

    def _execute_once(self, session: Session, passed: dict[str, Any]) -> tuple[Any, engine.Outcome]:
        nb = load_notebook_node(str(self.notebook.root / self.notebook.path))
        if passed:
            nb = parameterize_notebook(nb, passed, kernel_name="python3", language="python")
        border.check_injected(nb)
        env = redact.hide_parameters(nb) | {
            "KB_NOTEBOOK": f"{self.notebook.area}/{self.notebook.name}",
            "KB_HERE": session.here,
        }
        outcome = engine.run(
            nb,
            manager=session.kernel(env),
            disposable=session.disposable,
            progress=lambda what, elapsed: self.progress(what),
            why_dead=session.why_dead,
            hidden=redact.secrets(env),
        )
        return nb, outcome


def _judge(
    record: dict[str, Any], before: Any, after: Any, ignored: Any, accusation: str
) -> dict[str, Any]:
    """Add to a record what the host's state says; a difference is a failure."""
    found = snapshots.differences(before, after, ignored)
    record["state"] = {"unchanged": not found, "differences": found[:SHOWN_DIFFERENCES]}
    if found and not record["error"]:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        message = f"{accusation}: {'; '.join(found[:3])}{more}"
        record |= {"error": {"cell": "", "message": message}, "result": "failed"}
    return record


def _broken_case(case: dict[str, Any], error: dict[str, str] | None) -> dict[str, Any]:
    message = _sentence(error)
    hit = error is not None and error["cell"] == case["cell"] and case["says"] in message
    return {
        "cell": case["cell"],
        "says": case["says"],
        "preflight": message.startswith("preflight"),
        "passed": hit,
        "message": message,
    }


def _verdict_of_cases(
    record: dict[str, Any], told: list[dict[str, Any]], name: str
) -> dict[str, Any]:
    failed = [case for case in told if not case["passed"]]
    error = None
    if failed:
        case = failed[0]
        wanted = (
            f"cell `{case['cell']}` should say `{case['says']}`"
            if name == "broken"
            else f"claim `{case['claim']}` should become {case['becomes']}"
        )
        error = {"cell": case.get("cell", ""), "message": f"{wanted}, but: {case['message']}"}
    return {**record, name: told, "error": error, "result": "failed" if error else "passed"}


def _sentence(error: dict[str, str] | None) -> str:
    return error["message"] if error else "nothing failed"


def _outputs(nb: Any) -> Iterator[str]:
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            yield str(output.get("text", ""))


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"
