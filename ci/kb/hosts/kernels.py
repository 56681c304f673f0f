"""Kernels on a host that CI made, asked for at the socket of :mod:`kb.kernel`."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

KEPT = 4000  # bytes of a kernel's own output that are kept: its last words
ENDED = 137  # status of a kernel whose host did not tell one

Connect = Callable[[], socket.socket]


def manager(directory: Path, connect: Connect, env: dict[str, str]) -> KernelManager:
    """A manager of a kernel whose sockets and files lie in ``directory``, the same on both sides.

    ``connect`` opens a connection to the host's :mod:`kb.kernel`. Raises what it raises, later.
    """
    made = KernelManager(
        transport="ipc",
        ip=str(directory / "s"),
        connection_file=str(directory / "connection.json"),
    )
    private = {"IPYTHONDIR": str(directory / "ipython"), "JUPYTER_RUNTIME_DIR": str(directory)}
    made.provisioner = Provisioner(kernel_id="", kernel_spec=made.kernel_spec, parent=made)
    made.provisioner.attach(connect, env | private)
    return made


class KernelManager(AsyncKernelManager):
    """A kernel manager whose provisioner is given, not looked up by the kernel's name."""

    provisioner: Provisioner

    async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
        self.shutting_down = False
        self.kernel_id = self.kernel_id or "kb"
        self._launch_args = kw.copy()
        kw = await self.provisioner.pre_launch(**kw)
        return kw.pop("cmd"), kw


class Provisioner(KernelProvisionerBase):
    """Starts, watches and ends a kernel on the other side of a connection."""

    left: list[str] | None = None
    """What the kernel left on its host; None until it has ended and the host has told."""
    last_words = ""

    def attach(self, connect: Connect, env: dict[str, str]) -> None:
        self._connect, self._env = connect, env
        self._peer: socket.socket | None = None
        self._status: int | None = None
        self._ended = threading.Event()

    @property
    def has_process(self) -> bool:
        return self._peer is not None

    async def pre_launch(self, **kw: Any) -> dict[str, Any]:
        assert isinstance(self.parent, KernelManager)
        self.parent.write_connection_file()
        Path(self.parent.connection_file).chmod(0o644)
        self.connection_info = self.parent.get_connection_info()
        kw.pop("extra_arguments", None)
        kw["env"] = {}
        return {**kw, "cmd": [self.parent.connection_file]}

    async def launch_kernel(self, cmd: list[str], **kw: Any) -> KernelConnectionInfo:
        request = {"connection_file": cmd[0], "env": self._env}
        self._peer = await asyncio.to_thread(self._connect)
        self._peer.sendall(json.dumps(request).encode() + b"\n")
        threading.Thread(target=self._watch, args=(self._peer,), daemon=True).start()
        return self.connection_info

    def _watch(self, peer: socket.socket) -> None:
        """Read what the kernel itself writes, and at last how it ended."""
        said = b""
        report = b""
        try:
            while not report.endswith(b"\n") and (chunk := peer.recv(65536)):
                before, nul, after = chunk.partition(b"\0") if not report else (b"", b"", chunk)
                said = (said + before)[-KEPT:]
                report += nul + after
        except OSError:
            pass  # the host is gone
        peer.close()
        lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
        self.last_words = next((line for line in reversed(lines) if line), "")
        self._status = ENDED
        if report.endswith(b"\n"):
            told = json.loads(report[1:])
            self._status, self.left = told["status"], told["left"]
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
