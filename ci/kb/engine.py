"""Executes a notebook and says honestly what happened to each cell.

papermill writes `completed` on cells that never ran after a time-out or a dead kernel, stores secret
parameters in its output, and has no limit on the whole run. This engine is what plain ``papermill``
uses for notebooks of this project where ``kb`` is installed, and what CI uses for every host.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import nbformat
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger

import kb
from kb import parameters, redact
from kb.record import write_atomically

OUTPUT_LIMIT = 2_000_000  # characters of one output that are stored
DEFAULT_TIMEOUT = 1800.0  # seconds, for a run whose notebook does not say
DEFAULT_CELL_TIMEOUT = 600.0

Progress = Callable[[str, float], object]  # what happens now, seconds since the start


@dataclass
class Outcome:
    """What became of a run: ``error`` is None, or the cell's id and one sentence."""

    cells: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None
    started: str = ""
    duration: float = 0.0  # seconds

    def metadata(self) -> dict[str, Any]:
        """The part of the run record that the engine knows."""
        return {
            "result": "failed" if self.error else "passed",
            "error": self.error,
            "started": self.started,
            "duration": round(self.duration, 3),
            "kb": kb.__version__,
            "cells": self.cells,
        }


class QuickClient(AsyncKernelClient):
    """A client that knows a kernel is ready by its reply, not by waiting for silence."""

    async def _async_wait_for_ready(self, timeout: float | None = None) -> None:
        deadline = time.monotonic() + (timeout or 60)
        while time.monotonic() < deadline:
            request = self.kernel_info()
            if await self._is_idle_after(request):
                return
            if self.parent is not None and not await ensure_async(self.parent.is_alive()):
                raise RuntimeError("the kernel ended before it was ready")
        raise RuntimeError(f"the kernel was not ready after {timeout or 60:g} s")

    wait_for_ready = _async_wait_for_ready

    async def _is_idle_after(self, request: str) -> bool:
        """Whether the answer to ``request`` came on both channels: then IOPub is connected, too."""
        until = time.monotonic() + 0.5
        replied = idle = False
        while time.monotonic() < until and not (replied and idle):
            with contextlib.suppress(Exception):  # Empty: nothing has come yet
                message = await self.get_shell_msg(timeout=0.05) if not replied else None
                if message and message["parent_header"].get("msg_id") == request:
                    replied = True
                    self._handle_kernel_info_reply(message)
            with contextlib.suppress(Exception):
                message = await self.get_iopub_msg(timeout=0.05)
                idle = idle or (
                    message["parent_header"].get("msg_id") == request
                    and message["content"].get("execution_state") == "idle"
                )
        return replied and idle


class _Client(NotebookClient):  # type: ignore[misc]
    """Keeps its own account of the cells, since only a reply with `ok` is a pass."""

    def __init__(self, nb: Any, outcome: Outcome, progress: Progress, **options: Any) -> None:
        super().__init__(nb, **options)
        self.account = outcome
        self.progress = progress
        self.save: Callable[[], object] = lambda: None
        self.begun = time.monotonic()

    async def async_execute_cell(self, cell: Any, cell_index: int, *args: Any, **kw: Any) -> Any:
        if cell.cell_type != "code" or not cell.source.strip():
            return cell
        row = next(row for row in self.account.cells if row["id"] == cell.id)
        before = time.monotonic()
        if title := _title(cell.source):
            self.progress(title, before - self.begun)
        row["status"] = "failed"  # until a reply says otherwise
        try:
            done = await super().async_execute_cell(cell, cell_index, *args, **kw)
            row["status"] = "passed"
        except BaseException as error:
            if self.account.error is None:
                self.account.error = {"cell": cell.id, "message": self._sentence(error, cell)}
            raise
        finally:
            row["duration"] = round(time.monotonic() - before, 3)
            _cap(cell)
            self.save()
        return done

    def _sentence(self, error: BaseException, cell: Any) -> str:
        if isinstance(error, CellTimeoutError):
            return f"the cell took longer than {self._get_timeout(cell):g} s and was stopped"
        if isinstance(error, DeadKernelError):
            return "the kernel died"
        if isinstance(error, CellExecutionError):
            name, value = error.ename, error.evalue
            ours = ("StepError", "Rejected")
            return str(value) if name in ours else f"{name}: {value}"
        return f"{type(error).__name__}: {error}"


def run(
    nb: Any,
    *,
    manager: AsyncKernelManager,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    disposable: bool = False,
    progress: Progress = lambda what, elapsed: None,
    save: Callable[[Outcome], object] = lambda outcome: None,
    why_dead: Callable[[], str] = lambda: "the kernel died",
) -> Outcome:
    """Execute ``nb`` in place with a kernel that ``manager`` starts, and return the outcome.

    A failing cell, a time-out and a dead kernel are outcomes, not exceptions. ``save`` is called
    after each cell. ``disposable``: the kernel's host is thrown away, so the kernel is not asked to
    leave. ``why_dead`` says what a host knows about a kernel that died.
    """
    limits = nb.metadata.get("kb", {})
    total = float(limits.get("timeout", DEFAULT_TIMEOUT))
    outcome = Outcome(
        cells=[
            {"id": cell.id, "status": "not run", "duration": 0.0}
            for cell in nb.cells
            if cell.cell_type == "code" and cell.source.strip()
        ],
        started=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    manager.client_factory = QuickClient
    client = _Client(
        nb,
        outcome,
        progress,
        km=manager,
        timeout=int(limits.get("cell_timeout", DEFAULT_CELL_TIMEOUT)),
        startup_timeout=60,
        shutdown_kernel="immediate" if disposable else "graceful",
        record_timing=False,
        coalesce_streams=True,
    )
    client.owns_km = True  # it starts the kernel and it ends it
    client.save = lambda: save(outcome)
    before = time.monotonic()
    try:
        late = asyncio.run(_execute(client, manager, total, cwd=cwd, env=env))
    except (CellExecutionError, CellTimeoutError):
        late = False
    except Exception as error:  # noqa: BLE001 - whatever breaks a run is reported as its failure
        late = False
        if outcome.error is None:
            outcome.error = {"cell": "", "message": f"the run could not start: {error}"}
    if late:
        cell = (outcome.error or {}).get("cell", "")
        outcome.error = {
            "cell": cell,
            "message": f"the whole run took longer than {total:g} s and was stopped",
        }
    elif outcome.error and outcome.error["message"] == "the kernel died":
        outcome.error["message"] = why_dead()
    outcome.duration = time.monotonic() - before
    return outcome


async def _execute(
    client: _Client,
    manager: AsyncKernelManager,
    total: float,
    **start: Any,
) -> bool:
    """Run the cells; True if the whole took longer than ``total`` seconds."""
    late = False

    async def expire() -> None:
        nonlocal late
        await asyncio.sleep(total)
        late = True
        await ensure_async(manager.shutdown_kernel(now=True))

    timer = asyncio.ensure_future(expire())
    try:
        await client.async_execute(**{key: value for key, value in start.items() if value})
    except DeadKernelError:
        pass  # the account has it
    finally:
        timer.cancel()
        with contextlib.suppress(BaseException):
            await timer
    return late


class Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine for notebooks that carry ``kb`` metadata; others run as ever."""

    @classmethod
    def execute_notebook(  # noqa: PLR0913 - papermill's signature
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **options: Any,
    ) -> Any:
        """Execute ``nb`` on this machine. A failure is a one-sentence error of the command line."""
        if "kb" not in nb.metadata:
            return super().execute_notebook(
                nb, kernel_name, output_path, progress_bar, log_output, autosave_cell_every, **options
            )
        environment = hide_secrets(nb)
        source = Path(options.get("input_path") or nb.metadata.papermill.get("input_path") or "")
        environment |= {
            "KB_HERE": str(source.resolve().parent),
            "KB_NOTEBOOK": "/".join(source.resolve().with_suffix("").parts[-2:]),
        }

        def save(outcome: Outcome) -> None:
            nb.metadata["kb_run"] = {
                "schema": 1,
                "notebook": source.name,
                "parameters": dict(nb.metadata.papermill.get("parameters", {})),
                **outcome.metadata(),
            }
            if output_path and "://" not in output_path and output_path != "-":
                write_atomically(Path(output_path), nbformat.writes(nb))

        def progress(what: str, elapsed: float) -> None:
            if progress_bar:
                print(f"[{elapsed:7.1f} s] {what}", file=sys.stderr, flush=True)

        with _log_outputs(nb, log_output) as report:
            outcome = run(
                nb,
                manager=AsyncKernelManager(kernel_name=kernel_name, transport="ipc"),
                env={**os.environ, **environment},
                progress=progress,
                save=lambda outcome: (save(outcome), report()),
            )
        save(outcome)
        if outcome.error:
            where = f" (cell `{outcome.error['cell']}`)" if outcome.error["cell"] else ""
            written = f"; what ran is in {output_path}" if output_path else ""
            raise click.ClickException(f"{outcome.error['message']}{where}{written}")
        return nb


@contextlib.contextmanager
def _log_outputs(nb: Any, wanted: bool) -> Iterator[Callable[[], object]]:
    """With papermill's --log-output: pass on what each finished cell printed."""
    shown: set[str] = set()

    def report() -> None:
        for cell in nb.cells:
            if cell.cell_type == "code" and cell.id not in shown and cell.outputs:
                shown.add(cell.id)
                for output in cell.outputs:
                    logger.info(str(output.get("text", "")).rstrip())

    yield report if wanted else (lambda: None)


def hide_secrets(nb: Any) -> dict[str, str]:
    """Take secret values out of the notebook; returns the environment that hands them to its kernel."""
    stored = nb.metadata.get("papermill", {}).get("parameters", {})
    found = {
        name: str(value) for name, value in stored.items() if parameters.is_secret(name) and value
    }
    for name in found:
        stored[name] = redact.MASK
    for cell in nb.cells:
        if found and "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(_look_up(line, found) for line in cell.source.splitlines())
    return {f"KB_PARAMETER_{name}": value for name, value in found.items()}


def _look_up(line: str, found: dict[str, str]) -> str:
    name = line.partition(" = ")[0]
    return f'{name} = __import__("os").environ["KB_PARAMETER_{name}"]' if name in found else line


def _title(source: str) -> str:
    """What the progress line says about a cell: the magic and its title."""
    first = source.lstrip().splitlines()[0]
    return first.removeprefix("%%") if first.startswith("%%") else ""


def _cap(cell: Any) -> None:
    """Store at most :data:`OUTPUT_LIMIT` characters of each text, so that a record stays readable."""
    for output in cell.get("outputs", []):
        holder, key = (output, "text") if "text" in output else (output.get("data", {}), "text/plain")
        text = holder.get(key)
        if isinstance(text, str) and len(text) > OUTPUT_LIMIT:
            half = OUTPUT_LIMIT // 2
            notice = f"\n[... {len(text) - OUTPUT_LIMIT} characters left out ...]\n"
            holder[key] = text[:half] + notice + text[-half:]


# Plain `papermill NOTEBOOK` names no engine: ours takes the notebooks that are ours.
papermill_engines.register(None, Engine)
