"""The cell magics that a runbook is written in, and the guard on its parameters.

``%load_ext kb`` registers them. The next cell is the parameters cell; a cell after it that
papermill injected is checked against it before it runs.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import string
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

from IPython.core.error import InputRejected
from IPython.core.interactiveshell import ExecutionInfo, InteractiveShell

from kb.runtime import asserts, border, parameters, redact, shell
from kb.runtime.paths import TRUST, PathError, declared, locate, shown
from kb.runtime.planning import Planner
from kb.runtime.undo import (
    NOTES,
    UndoError,
    UndoJournal,
    applied_by_others,
    examine,
    state_root,
)

CHANGES = "# changes:"
IN_ROLLBACK = "--rollback"  # before the title of a preflight: it runs in a rollback, too
SERVICE = "service"  # the parameter by which the uses of a runbook on one host are told apart


class _OneLine:
    """An error whose traceback, in the notebook and on the terminal, is its own sentence."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Rejected(_OneLine, InputRejected):
    """A parameters cell, or what was passed for it, that cannot be used."""


class StepError(_OneLine, Exception):
    """A cell of a runbook that failed."""


class RebootNeededError(StepError):
    """A cell that cannot go on before the host has been started anew."""


def load(ipython: InteractiveShell) -> None:
    """Register the magics and the guard with a running kernel."""
    guard = ParameterGuard()
    runbook = Runbook(ipython, guard)
    for magic in (
        runbook.preflight,
        runbook.apply,
        runbook.verify,
        runbook.rollback,
        runbook.observe,
    ):
        ipython.register_magic_function(magic, "cell", magic.__name__)  # type: ignore[arg-type]
    ipython.events.register("pre_run_cell", guard.before_cell)
    ipython.ast_transformers.append(guard)  # type: ignore[arg-type] # wants only a visit()
    ipython.ast_transformers.append(asserts.Told())
    kernel = getattr(ipython, "kernel", None)
    if kernel is not None:
        border.check_senders(ipython)
        redact.guard_session(kernel.session, lambda: redact.secrets(guard.values(ipython.user_ns)))


class ParameterGuard:
    """Reads the parameters cell as it comes by; rejects an injected cell that does not fit."""

    def __init__(self) -> None:
        self.known: list[parameters.Parameter] | None = None
        self.source = ""

    def before_cell(self, info: ExecutionInfo) -> None:
        self.source = info.raw_cell or ""

    def visit(self, tree: ast.Module) -> ast.Module:
        """IPython calls this with every cell; raising stops the cell before it runs."""
        if self.source.startswith("%load_ext"):
            return tree
        try:
            if self.known is None:
                self.known = parameters.declared(self.source)
            elif self.source.startswith(parameters.INJECTED):
                parameters.check(self.known, parameters.passed(self.source))
        except parameters.ParameterError as error:
            raise Rejected(f"{error} (nothing has been changed)") from None
        return tree

    def values(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """The parameters as they are now."""
        known = self.known or []
        return {p.name: namespace.get(p.name, p.default) for p in known}


class Runbook:
    """``%%preflight``, ``%%apply``, ``%%verify``, ``%%rollback`` and ``%%observe``."""

    def __init__(self, ipython: InteractiveShell, guard: ParameterGuard) -> None:
        self.shell = ipython
        self.guard = guard
        self._journal: UndoJournal | None = None
        self._rolled_back = False  # whether a cell of this run has put everything back
        self._planner: Planner | None = None

    def preflight(self, title: str, body: str) -> None:
        """Modes plan and apply: fails early, changes nothing, says what to do.

        What an apply needs must not stand in the way of a rollback: there only those run that say
        so, with ``%%preflight --rollback TITLE``.
        """
        mode = self._mode()
        first, _, rest = title.strip().partition(" ")
        in_rollback = first == IN_ROLLBACK
        title = rest.strip() if in_rollback else title.strip()
        if title.startswith("-"):
            raise StepError(
                f"`%%preflight {title}`: its one option is {IN_ROLLBACK}, before the title"
            )
        if mode == "rollback" and not in_rollback:
            _not_in(mode)
        else:
            self._run("preflight", title, body)

    def observe(self, title: str, body: str) -> None:
        """Only looks; in a runbook not while it is rolled back, where no look may be in the way."""
        if self._values().get("mode") == "rollback":
            _not_in("rollback")
        else:
            self._run("observe", title, body)

    def apply(self, title: str, body: str) -> None:
        """Mode apply: one idempotent step. Mode plan: what it would change."""
        mode = self._mode()
        paths = changes(body, self._values())
        if mode == "plan":
            for path, _ in paths:
                try:
                    examine(path)
                except (PathError, OSError) as error:
                    raise StepError(f"{error} (nothing has been changed)") from None
            journal = self._journal_to_look_at()
            env = self._environment("apply", journal.root)
            self._plan().step(title.strip(), body, env, paths, journal.is_edited).show()
        elif mode == "apply":
            journal = self._locked()
            try:
                with journal.step(path for path, _ in paths) as saved:
                    for line in saved:
                        print(line)
                    self._run("apply", title, body)
            except (UndoError, OSError) as error:
                raise StepError(f'apply "{title.strip()}" failed: {error}') from None
        else:
            _not_in(mode)

    def verify(self, title: str, body: str) -> None:
        """Mode apply: proves that the step took."""
        mode = self._mode()
        if mode == "apply":
            self._run("verify", title, body)
        else:
            _not_in(mode)

    def rollback(self, title: str, body: str) -> None:
        """Mode rollback: undoes the steps, newest first. Mode plan: what that would do now."""
        mode = self._mode()
        if mode == "plan":
            plan, journal = self._plan(), self._journal_to_look_at()
            print(f"All steps: {plan.totals()}.")
            if journal.is_empty() and not (journal.root / NOTES).exists():
                print("A rollback would find nothing to put back: this has not been applied here.")
            else:
                print("A rollback of what has been applied here:")
                env = self._environment("rollback", journal.root)
                plan.rollback(title.strip(), body, env).show()
            plan.close()
        elif mode == "rollback":
            self._refuse_another()
            journal = self._locked()
            self._run("rollback", title, body)
            if journal.is_empty():
                journal.forget()
                self._journal = None
                self._rolled_back = True
        else:
            _not_in(mode)

    def _journal_to_look_at(self) -> UndoJournal:
        """What has been applied; of a runbook that is not known by name, nothing."""
        try:
            return UndoJournal(self._state())
        except StepError:
            return UndoJournal(state_root() / "unknown" / "unknown")

    def _plan(self) -> Planner:
        if self._planner is None:
            self._planner = Planner(state_root())
        return self._planner

    def _refuse_another(self) -> None:
        """A rollback that has nothing to roll back, where something else has been applied."""
        if self._journal is not None or self._rolled_back:
            return
        journal = UndoJournal(self._state())
        if journal.root.exists():
            return
        instead = ""
        if others := journal.others():
            instead = (
                f"this runbook has not been applied to {self._values().get(SERVICE)} here;"
                f" it has been to {', '.join(others)}: pass that as {SERVICE}"
            )
        elif theirs := applied_by_others(journal):
            instead = f"{journal.label()} {theirs}"
        elif applied := journal.everything():
            instead = (
                f"{journal.label()} has not been applied here, so there is nothing to roll back;"
                f" applied are {', '.join(applied)}: roll back one of those with its own notebook"
            )
        if instead:
            raise StepError(f"{instead} (nothing has been changed)")

    def _mode(self) -> str:
        mode = self._values().get("mode")
        if mode not in parameters.MODES:
            raise StepError(
                "this notebook has no usable parameter `mode`: its parameters cell must say"
                ' mode: str = "plan"  # plan, apply or rollback'
            )
        return str(mode)

    def _values(self) -> dict[str, Any]:
        return self.guard.values(self.shell.user_ns)

    def _locked(self) -> UndoJournal:
        """This runbook's journal, locked; what a killed run left running is ended first."""
        if self._journal is None:
            journal = UndoJournal(self._state())
            try:
                journal.lock()
            except (UndoError, OSError) as error:
                raise StepError(f"{error} (nothing has been changed)") from None
            _end_leftovers(journal.root / "running")
            self._journal = journal
        return self._journal

    def _state(self) -> Path:
        name = os.environ.get("KB_NOTEBOOK")
        if not name and (opened := os.environ.get("JPY_SESSION_NAME")):  # an editor's own kernel
            name = "/".join(Path(opened).with_suffix("").parts[-2:])
        if not name:
            raise StepError(
                "cannot tell which runbook this is: run it with papermill,"
                " or set KB_NOTEBOOK=AREA/NAME"
            )
        if service := self._values().get(SERVICE):
            name += f"@{urllib.parse.quote(str(service), safe='')}"
        return state_root() / name

    def _notes(self) -> Path:
        """Where the notes are, which a check may read before anything is locked."""
        try:
            return self._state() / NOTES
        except StepError:  # so nothing can have been applied
            return Path(os.devnull)

    def _environment(self, mode: str, state: Path | None) -> dict[str, str]:
        """What a cell finds in its environment: the parameters, and what the helpers need."""
        return {
            **parameters.as_environment(self._values()),
            "KB_MODE": mode,
            "KB_HERE": os.environ.get("KB_HERE") or str(Path.cwd()),
            "KB_STATE": str(state or ""),
            "KB_NOTES": str(self._notes()),
        }

    def _run(self, kind: str, title: str, body: str) -> None:
        if self._values().get("mode") in ("apply", "rollback"):
            _refuse_exposed(Path.cwd())
        scratch = started = None
        if self._journal is not None:
            scratch = self._journal.root  # not in /tmp: a kill there would leave it behind
            running = self._journal.root / "running"

            def started(session: int) -> None:
                running.write_text(json.dumps(_session(session)), encoding="utf-8")

        mode = str(self._values().get("mode", ""))
        done = shell.run(
            body,
            env=self._environment(mode, self._journal.root if self._journal else None),
            emit=_write,
            scratch=scratch,
            started=started,
        )
        if self._journal is not None:
            (self._journal.root / "running").unlink(missing_ok=True)
        secrets = redact.secrets(self._values())
        if done.reboot:
            raise RebootNeededError(
                f'{kind} "{title.strip()}" needs a reboot: {redact.clean(done.reboot, secrets)}'
                " (reboot this host, then run the same command again: it goes on from there)"
            )
        if done.status != 0:
            stopped = "failed" if done.failure or done.status < 0 else "stopped"
            why = redact.clean(done.why(), secrets)
            raise StepError(f'{kind} "{title.strip()}" {stopped}: {why}')


def changes(body: str, values: dict[str, Any]) -> list[tuple[Path, str]]:
    """The ``# changes: PATH  what`` lines of an apply cell, parameters expanded."""
    found = []
    for line in body.splitlines():
        if line.startswith(CHANGES):
            path, _, what = line.removeprefix(CHANGES).strip().partition(" ")
            try:
                expanded = string.Template(path).substitute(parameters.as_environment(values))
            except (KeyError, ValueError):
                raise StepError(f"`{line}` uses something that is not a parameter") from None
            if not expanded.startswith("/"):
                raise StepError(f"`{line}` gives {expanded!r}, which is not an absolute path")
            found.append((declared(expanded), what.strip()))
    return found


def _refuse_exposed(directory: Path) -> None:
    """Commands read files of the directory that they run in: a go.mod chooses what `go` runs."""
    if exposed := locate(directory / "x").exposed:
        raise StepError(
            f"it was started in {shown(directory)}, and others may put files there ({exposed}):"
            " change to a directory of your own, such as your home, or set"
            f" {TRUST}={exposed.partition(', ')[0]} if you trust them (nothing has been changed)"
        )


def _not_in(mode: str) -> None:
    print(f"(not run in mode {mode})")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _session(leader: int) -> dict[str, Any]:
    """How a step's processes are known later: their session, its leader's start, this boot."""
    process = _process(leader)
    return {
        "session": leader,
        "start": process[2] if process else 0,
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }


def _process(pid: int) -> tuple[str, int, int] | None:
    """State, session and start (ticks since boot) of a process; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[3]), int(fields[19])


def _end_leftovers(running: Path) -> None:
    """End what is left of a step whose kernel was killed, so that it cannot work against the next.

    Only processes of the recorded session on this boot count. If its leader's number belongs to a
    younger process now, so does the session's, and nothing of the step is left.
    """
    try:
        recorded = json.loads(running.read_text(encoding="utf-8"))
        leader, start = int(recorded["session"]), int(recorded["start"])
    except (OSError, ValueError, KeyError):
        return
    now = _process(leader)
    if recorded["boot"] == _session(leader)["boot"] and (now is None or now[2] == start):
        deadline = time.monotonic() + 10
        while (members := _members(leader)) and time.monotonic() < deadline:
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
    running.unlink(missing_ok=True)


def _members(session: int) -> list[int]:
    """The processes of a session; one that ended and that nobody has waited for is none."""
    pids = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    known = ((pid, _process(pid)) for pid in pids)
    return [pid for pid, about in known if about and about[0] != "Z" and about[1] == session]
