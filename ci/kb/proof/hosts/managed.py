"""What hosts that CI made have in common: all is done there by :mod:`kb.runtime.agent`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import traitlets
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

from kb.proof import snapshots
from kb.proof.hosts import Host, HostError, HostHungError, kernelspec
from kb.runtime.record import write_atomically

PYTHON = "/opt/kb/bin/python"
REPOSITORY = "/srv/noble-runbooks"  # where the host sees the notebooks, read-only
FIXTURES = "/srv/fixtures"
PROVISIONER = "noble-runbooks"  # the entry point of Provisioner, see pyproject.toml
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
KEPT = 4000  # bytes of a kernel's own output that are kept: its last words
ENDED = 137  # status of what ended without telling
SILENCE = 60.0  # seconds after its time is up that a command has no answer yet
GOING = 5.0  # seconds that a host takes to be gone

Connect = Callable[[], socket.socket]

# Hosts of one image are alike: asked once for each image.
_facts_of: dict[str, dict[str, Any]] = {}


class RemoteSession(ABC):
    """A host in use that is reached through its agent. Each kind says how to connect."""

    disposable = True
    hung = ""
    host: Host
    image: dict[str, str]
    here: str
    managers: list[KernelManager]

    @abstractmethod
    def connect(self) -> socket.socket:
        """Open a connection, once the host is ready. Raises :class:`HostError`."""

    @abstractmethod
    def why_ended(self) -> str:
        """One sentence about why the host does not run any more; "" while it does."""

    def console_end(self) -> str:
        """What is to be said of a host that does not answer, after a semicolon; "" if nothing."""
        return ""

    def kill_kernel(self) -> None:
        provisioner = self.managers[-1].provisioner
        assert isinstance(provisioner, Provisioner)
        provisioner.signal(9)

    def why_dead(self) -> str:
        """One sentence about why the last kernel ended."""
        kernel = self.managers[-1].end
        # A host that goes takes its kernel along, and is seen to be gone a little later.
        deadline = time.monotonic() + (0 if kernel.told else GOING)
        while not (ended := self.why_ended()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return ended or f"the kernel died: {kernel.last_words or 'it left no message'}"

    def read_facts(self) -> dict[str, Any]:
        """What the host is."""
        if self.image["id"] not in _facts_of:
            status, output, error = self.command([PYTHON, "-B", "-m", "kb.runtime.facts"])
            if status != 0:
                raise HostError(f"{self.host.name}: its facts cannot be read: {error.strip()}")
            facts = json.loads(output)
            facts.pop("offers")
            _facts_of[self.image["id"]] = facts
        named = {"name": self.host.name, "kind": self.host.kind, "label": self.host.backend.label}
        return named | _facts_of[self.image["id"]]

    def command(
        self,
        argv: Sequence[str],
        env: dict[str, str] | None = None,
        timeout: float = 300,
        text: str = "",
    ) -> tuple[int, str, str]:
        limited = ["/usr/bin/timeout", "--kill-after=5", str(timeout), *argv]
        request = {"command": limited, "env": env or {}, "input": text}
        try:
            with self.connect() as peer:
                peer.settimeout(timeout + SILENCE)  # a host that hangs keeps the connection
                peer.sendall(json.dumps(request).encode() + b"\n")
                _, report = answer(peer)
        except OSError:
            report = {}
        if not report:
            silent = f"{self.host.name} does not answer any more{self.console_end()}"
            why = self.why_ended() or silent
            raise HostHungError(why) if self.hung else HostError(why)
        return report["status"], report["out"], report["err"]

    def _cached_state(
        self, origin: str, take: Callable[[], snapshots.Snapshot]
    ) -> snapshots.Snapshot:
        """The state that hosts of ``origin``, an image's id, begin in: taken from the first one."""
        cache = self.host.root / "build/cache/state" / f"{origin[7:19]}-{snapshots.EDITION}.json"
        if cache.exists():
            known: snapshots.Snapshot = json.loads(cache.read_text())
            return known
        taken = take()
        with contextlib.suppress(OSError):  # a full disk is reported by the record, not the cache
            write_atomically(cache, json.dumps(taken))
        return taken


def answer(peer: socket.socket) -> tuple[bytes, dict[str, Any]]:
    """Read a connection to its end: the last of what came as it was, and the report, if any."""
    said, report = b"", bytearray()
    with peer:
        while not report.endswith(b"\n"):
            try:
                chunk = peer.recv(1 << 20)
            except OSError:
                break  # the host is gone
            if not chunk:
                break
            before, nul, after = (b"", b"", chunk) if report else chunk.partition(b"\0")
            said = (said + before)[-KEPT:]
            report += nul + after
    told = json.loads(report[1:]) if report.endswith(b"\n") else {}
    return said, told


@dataclass
class End:
    """How a kernel ended: filled in once it has."""

    told: bool = False
    """Whether the host has said it."""
    residue: list[str] | None = None
    """What the kernel left on its host; None where the host has not said."""
    last_words: str = ""


class KernelManager(AsyncKernelManager):
    """The manager of a kernel on a host that CI made.

    Args:
        directory: where this side has the kernel's sockets and connection file.
        there: the kernel's directory on the host.
        overrides: what the host's side of the connection has differently.
        connect: opens a connection to the host's :mod:`kb.runtime.agent`.
        env: variables of the kernel.
    """

    def __init__(
        self,
        directory: Path,
        there: str,
        overrides: dict[str, Any],
        connect: Connect,
        env: dict[str, str],
    ) -> None:
        self.end = End()
        config = {
            "there": there,
            "overrides": overrides,
            "connect": connect,
            "env": env,
            "end": self.end,
        }
        spec = KernelSpec(
            display_name="Python 3",
            language="python",
            metadata={"kernel_provisioner": {"provisioner_name": PROVISIONER, "config": config}},
        )
        super().__init__(
            kernel_spec_manager=kernelspec.OneKernel(spec),
            kernel_name=kernelspec.NAME,
            transport="ipc",
            ip=str(directory / "s"),
            connection_file=str(directory / "connection.json"),
            **{f"{channel}_port": 1 + number for number, channel in enumerate(CHANNELS)},
        )


class Provisioner(KernelProvisionerBase):
    """Starts, watches and ends a kernel on the other side of a connection.

    jupyter_client finds it by the entry point :data:`PROVISIONER`. A kernel's spec has the values.
    """

    there = traitlets.Unicode()
    overrides = traitlets.Dict()
    connect = traitlets.Callable()
    env = traitlets.Dict()
    end = traitlets.Instance(End)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._peer: socket.socket | None = None
        self._status: int | None = None
        self._ended = threading.Event()

    @property
    def has_process(self) -> bool:
        return self._peer is not None

    async def pre_launch(self, **kw: Any) -> dict[str, Any]:
        assert isinstance(self.parent, KernelManager)
        self.connection_info = self.parent.get_connection_info()
        kw.pop("extra_arguments", None)
        return {**kw, "env": {}, "cmd": [self.there]}

    async def launch_kernel(self, cmd: list[str], **kw: Any) -> KernelConnectionInfo:
        info: dict[str, Any] = {**self.connection_info, **self.overrides}
        info["key"] = info["key"].decode() if isinstance(info["key"], bytes) else info["key"]
        request = {"directory": cmd[0], "connection": info, "env": self.env}
        self._peer = peer = await asyncio.to_thread(self.connect)
        peer.sendall(json.dumps(request).encode() + b"\n")
        threading.Thread(target=self._watch, args=(peer,), daemon=True).start()
        return self.connection_info

    def _watch(self, peer: socket.socket) -> None:
        said, report = answer(peer)
        lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
        self.end.last_words = next((line for line in reversed(lines) if line), "")
        self.end.told = bool(report)
        self.end.residue = report.get("residue")
        self._status = report.get("status", ENDED)
        self._ended.set()

    async def poll(self) -> int | None:
        return self._status if self._peer is not None else 0

    async def wait(self) -> int | None:
        await self._until_ended()
        self._peer = None
        return self._status

    async def _until_ended(self) -> None:
        deadline = time.monotonic() + 10
        while not self._ended.is_set() and time.monotonic() < deadline:
            await asyncio.sleep(0.005)

    async def send_signal(self, signum: int) -> None:
        self.signal(signum)

    def signal(self, signum: int) -> None:
        """Send it, from whatever thread."""
        if self._peer is not None and not self._ended.is_set():
            try:
                self._peer.sendall(b"%d\n" % signum)
            except OSError:
                return  # it has just ended

    async def kill(self, restart: bool = False) -> None:
        await self.send_signal(9)
        await self._until_ended()  # jupyter_client would look every 100 ms

    async def terminate(self, restart: bool = False) -> None:
        await self.send_signal(15)

    async def cleanup(self, restart: bool = False) -> None:
        return None
