"""Executes a notebook and says honestly what happened to each cell.

papermill writes `completed` on cells that never ran after a time-out or a dead kernel, and has no
limit on the whole run. Here a cell has passed when its reply came and said `ok`, and only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
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
from kb.runtime import modes, redact

OUTPUT_LIMIT = 2_000_000  # characters of one output that are stored
DEFAULT_TIMEOUT = 1800.0  # seconds, for a run whose notebook does not say
KERNEL_START = 300  # seconds; an emulated machine on a busy one took more than a minute
DEFAULT_CELL_TIMEOUT = 600.0

LINE_LIMIT = 64_000  # characters that are passed on although their line has not ended

Progress = Callable[[str, float], object]  # what happens now, seconds since the start
Heard = Callable[[str, str], object]  # which stream, and the lines that a cell has printed


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
        self.mode: str | None = None  # of a runbook
        self.heard: Heard = lambda stream, text: None
        self.hidden: Sequence[str] = ()
        self.running: Any = None  # the cell that runs now
        self.unended: dict[str, str] = {}  # by stream, the line that a cell has begun
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
        if title := modes.announced(cell.source, self.mode):
            self.progress(title, before - self.begun)
        row["status"] = "failed"  # until a reply says otherwise
        self.running = cell
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
            self.running = None
            self._tidy(cell)
            self._hear_the_rest()
            self.save()
        return done

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Store what a kernel sends, and pass it on while the cell runs."""
        output = super().process_message(msg, cell, cell_index)
        content = msg["content"]
        if msg["msg_type"] == "stream":
            self._hear(content["name"], content["text"])
        elif msg["msg_type"] in ("display_data", "execute_result"):
            self._hear("stdout", content["data"].get("text/plain", "") + "\n")
        return output

    def _hear(self, stream: str, text: str) -> None:
        """Pass whole lines on: a secret may come in two messages, but never in two lines."""
        whole, newline, rest = (self.unended.get(stream, "") + text).rpartition("\n")
        if len(rest) > LINE_LIMIT:
            whole, newline, rest = whole + newline + rest, "\n", ""
        self.unended[stream] = rest
        if newline:
            self.heard(stream, redact.clean(whole + newline, self.hidden))

    def _hear_the_rest(self) -> None:
        for stream in [stream for stream, rest in self.unended.items() if rest]:
            self._hear(stream, "\n")

    def _tidy(self, cell: Any) -> None:
        _join_streams(cell)
        redact.clean_outputs(cell, self.hidden)  # a secret may have come in two messages
        _cap(cell)

    def save_now(self) -> None:
        """Save while a cell runs, which goes on adding to its own outputs."""
        cell = self.running
        if cell is None:
            return
        outputs = cell.outputs
        cell.outputs = copy.deepcopy(outputs)
        try:
            self._tidy(cell)
            self.save()
        finally:
            cell.outputs = outputs

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
    mode: str | None = None,
    heard: Heard = lambda stream, text: None,
    cell_timeout: float | None = None,
    start_timeout: float = KERNEL_START,
    save_every: float = 0,
) -> Outcome:
    """Execute ``nb`` in place with a kernel that ``manager`` starts, and return the outcome.

    A failing cell, a time-out and a dead kernel are outcomes, not exceptions. ``save`` is called
    after each cell. ``disposable``: the kernel's host is thrown away, so the kernel is not asked to
    leave. ``why_dead`` says what a host knows about a kernel that died. ``hidden`` are secrets that
    no output may keep. ``outcome``, where given, is filled in as the run goes on, so that whoever
    interrupts it knows how far it came. ``mode`` is a runbook's: cells that do not run in it are
    not announced. ``heard`` gets what cells print while they run, whole lines
    at a time. ``cell_timeout`` stands in for the notebook's own. With ``save_every`` seconds,
    ``save`` is called while a cell runs, too.
    """
    limits = nb.metadata.get("kb", {})
    total = float(limits.get("timeout", DEFAULT_TIMEOUT))
    outcome = outcome or Outcome()
    for cell in nb.cells:
        if cell.cell_type == "code":  # of a record that is run again
            cell.update(outputs=[], execution_count=None)
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
        # 0 would be none
        timeout=math.ceil(cell_timeout or limits.get("cell_timeout", DEFAULT_CELL_TIMEOUT)),
        startup_timeout=math.ceil(start_timeout),
        shutdown_kernel="immediate" if disposable else "graceful",
        record_timing=False,
    )
    client.save = lambda: save(outcome)
    client.heard = heard
    client.mode = mode
    client.hidden = hidden
    before = time.monotonic()
    try:
        asyncio.run(_execute(client, manager, total, save_every, cwd=cwd, env=env))
    except (CellExecutionError, CellTimeoutError):
        pass  # the account has it
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except Exception as error:  # whatever breaks a run is reported as its failure
        if outcome.error is None:
            begun = any(cell["status"] != "not run" for cell in outcome.cells)
            what = "the run broke off" if begun else "the run could not start"
            outcome.error = {"cell": "", "message": f"{what}: {error}"}
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
    save_every: float,
    **start: Any,
) -> None:
    """Run the cells, for ``total`` seconds at most, and save every so many."""

    async def expire() -> None:
        await asyncio.sleep(total)
        client.late = True
        await ensure_async(manager.shutdown_kernel(now=True))

    async def save() -> None:
        while save_every:
            await asyncio.sleep(save_every)
            client.save_now()

    timers = asyncio.gather(expire(), save())
    try:
        await client.async_execute(**{key: value for key, value in start.items() if value})
    except DeadKernelError:
        pass  # the account has it
    finally:
        timers.cancel()
        with contextlib.suppress(BaseException):
            await timers


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
