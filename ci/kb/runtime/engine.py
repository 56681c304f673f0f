"""Executes a notebook and says honestly what happened to each cell.

papermill writes `completed` on cells that never ran after a time-out or a dead kernel, and has no
limit on the whole run. Here a cell has passed when its reply came and said `ok`, and only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import math
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

import kb
from kb.runtime import redact

OUTPUT_LIMIT = 2_000_000  # characters of one output that are stored
DEFAULT_TIMEOUT = 1800.0  # seconds, for a run whose notebook does not say
KERNEL_START = 300  # seconds; an emulated machine on a busy one took more than a minute
DEFAULT_CELL_TIMEOUT = 600.0

Progress = Callable[[str, float], object]  # what happens now, seconds since the start


@dataclass
class Outcome:
    """What became of a run.

    ``error`` is None, or the cell's id and one sentence (``cell``, ``message``); where the run is
    to be repeated after a reboot of the host, it also has ``wants``: ``reboot``.
    """

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


class ReplyReadyClient(AsyncKernelClient):
    """A client that knows a kernel is ready by its reply, not by waiting for silence."""

    def start_channels(self, *args: Any, **channels: Any) -> None:
        """Open the channels, but no heartbeat: a kernel's life is seen from its process."""
        super().start_channels(*args, **{**channels, "hb": False})

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        limit = timeout or KERNEL_START
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            request = self.kernel_info()
            if await self._is_idle_after(request):
                return
            if self.parent is not None and not await ensure_async(self.parent.is_alive()):
                raise RuntimeError("the kernel ended before it was ready")
        raise RuntimeError(f"the kernel was not ready after {limit:g} s")

    async def _is_idle_after(self, request: str) -> bool:
        """Whether the answer to ``request`` came on both channels: then IOPub is connected, too."""
        until = time.monotonic() + 0.5
        replied = idle = False
        while time.monotonic() < until and not (replied and idle):
            with contextlib.suppress(Exception):  # Empty: nothing has come yet
                message = await self.get_shell_msg(timeout=0.05) if not replied else None
                if message and message["parent_header"].get("msg_id") == request:
                    replied = True
            with contextlib.suppress(Exception):
                message = await self.get_iopub_msg(timeout=0.05)
                idle = idle or (
                    message["parent_header"].get("msg_id") == request
                    and message["content"].get("execution_state") == "idle"
                )
        return replied and idle


class _Client(NotebookClient):
    """Keeps its own account of the cells, since only a reply with `ok` is a pass."""

    def __init__(self, nb: Any, outcome: Outcome, progress: Progress, **options: Any) -> None:
        super().__init__(nb, **options)
        self.account = outcome
        self.progress = progress
        self.save: Callable[[], object] = lambda: None
        self.hidden: Sequence[str] = ()
        self.begun = time.monotonic()
        self.interrupted = False
        self.late = False  # whether the whole run took too long

    @contextlib.asynccontextmanager
    async def async_setup_kernel(self, **start: Any) -> AsyncIterator[None]:
        """Start the kernel and, however the run ends, end it.

        nbclient's own would take Ctrl-C for itself, and tell it as the death of the kernel.
        """
        manager, loop, run = self.km, asyncio.get_running_loop(), asyncio.current_task()
        assert manager is not None
        assert run is not None

        def interrupt() -> None:
            self.interrupted = True
            run.cancel()

        signals = (signal.SIGINT, signal.SIGTERM)
        with contextlib.suppress(RuntimeError):  # not in a thread: signals are the main thread's
            for number in signals:
                loop.add_signal_handler(number, interrupt)
        try:
            await self.async_start_new_kernel(**start)
            await self.async_start_new_kernel_client()
            yield
        finally:
            if await ensure_async(manager.is_alive()):
                await ensure_async(manager.shutdown_kernel(now=self.shutdown_kernel == "immediate"))
            await ensure_async(manager.cleanup_resources())
            if self.kc is not None:
                self.kc.stop_channels()
            for number in signals:
                loop.remove_signal_handler(number)

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
                self.account.error = {"cell": cell.id, "message": self._sentence(error)}
                if getattr(error, "ename", "") == "RebootNeededError":
                    self.account.error["wants"] = "reboot"
            raise
        finally:
            row["duration"] = round(time.monotonic() - before, 3)
            _join_streams(cell)
            redact.clean_outputs(cell, self.hidden)  # a secret may have come in two messages
            _cap(cell)
            self.save()
        return done

    def _sentence(self, error: BaseException) -> str:
        if self.interrupted:
            return "the run was interrupted"
        if isinstance(error, CellTimeoutError):
            return f"the cell took longer than {self.timeout:g} s and was stopped"
        if isinstance(error, DeadKernelError):
            return "the kernel died"
        if isinstance(error, CellExecutionError):
            name, value = error.ename, error.evalue
            ours = ("StepError", "RebootNeededError", "Rejected", "BorderError")
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
    hidden: Sequence[str] = (),
    outcome: Outcome | None = None,
) -> Outcome:
    """Execute ``nb`` in place with a kernel that ``manager`` starts, and return the outcome.

    A failing cell, a time-out and a dead kernel are outcomes, not exceptions. ``save`` is called
    after each cell. ``disposable``: the kernel's host is thrown away, so the kernel is not asked to
    leave. ``why_dead`` says what a host knows about a kernel that died. ``hidden`` are secrets that
    no output may keep. ``outcome``, where given, is filled in as the run goes on, so that whoever
    interrupts it knows how far it came.
    """
    limits = nb.metadata.get("kb", {})
    total = float(limits.get("timeout", DEFAULT_TIMEOUT))
    outcome = outcome or Outcome()
    outcome.cells = [
        {"id": cell.id, "status": "not run", "duration": 0.0}
        for cell in nb.cells
        if cell.cell_type == "code" and cell.source.strip()
    ]
    outcome.started = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    manager.client_factory = ReplyReadyClient
    client = _Client(
        nb,
        outcome,
        progress,
        km=manager,
        timeout=math.ceil(limits.get("cell_timeout", DEFAULT_CELL_TIMEOUT)),  # 0 would be none
        startup_timeout=KERNEL_START,
        shutdown_kernel="immediate" if disposable else "graceful",
        record_timing=False,
    )
    client.save = lambda: save(outcome)
    client.hidden = hidden
    before = time.monotonic()
    try:
        asyncio.run(_execute(client, manager, total, cwd=cwd, env=env))
    except (CellExecutionError, CellTimeoutError):
        pass  # the account has it
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except Exception as error:  # whatever breaks a run is reported as its failure
        if outcome.error is None:
            outcome.error = {"cell": "", "message": f"the run could not start: {error}"}
    if client.interrupted:  # in a cell nbclient tells it as the death of the kernel
        raise KeyboardInterrupt
    if client.late:
        cell = (outcome.error or {}).get("cell", "")
        outcome.error = {
            "cell": cell,
            "message": f"the whole run took longer than {total:g} s and was stopped",
        }
    elif outcome.error and outcome.error["message"] == "the kernel died":
        outcome.error["message"] = redact.clean(why_dead(), hidden)  # a kernel's last words
    outcome.duration = time.monotonic() - before
    return outcome


async def _execute(
    client: _Client,
    manager: AsyncKernelManager,
    total: float,
    **start: Any,
) -> None:
    """Run the cells, for ``total`` seconds at most."""

    async def expire() -> None:
        await asyncio.sleep(total)
        client.late = True
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


def _title(source: str) -> str:
    """What the progress line says about a cell: the magic and its title."""
    first = source.lstrip().splitlines()[0]
    title = first.removeprefix("%%").replace("preflight --rollback", "preflight", 1)
    return title if first.startswith("%%") else ""


def _join_streams(cell: Any) -> None:
    """Make one output of what came in pieces, in the order it came.

    nbclient's own joining takes minutes for megabytes without a line break.
    """
    joined: list[Any] = []
    for name, pieces in itertools.groupby(cell.get("outputs", []), key=_stream_name):
        together = list(pieces)
        if name:
            together[0]["text"] = "".join(piece["text"] for piece in together)
        joined.extend(together[:1] if name else together)
    cell.outputs = joined


def _stream_name(output: Any) -> str:
    return str(output["name"]) if output["output_type"] == "stream" else ""


def _cap(cell: Any) -> None:
    """Store at most :data:`OUTPUT_LIMIT` characters of a text, so that a record stays readable."""
    for output in cell.get("outputs", []):
        holder, key = (
            (output, "text") if "text" in output else (output.get("data", {}), "text/plain")
        )
        text = holder.get(key)
        if isinstance(text, str) and len(text) > OUTPUT_LIMIT:
            half = OUTPUT_LIMIT // 2
            notice = f"\n[... {len(text) - OUTPUT_LIMIT} characters left out ...]\n"
            holder[key] = text[:half] + notice + text[-half:]
