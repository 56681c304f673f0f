"""A container as a host: a fresh one for each session, and none left behind whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException, NotFound
from docker.types import DeviceRequest
from docker.utils.socket import STDERR, STDOUT, frames_iter
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

from kb.catalog import Notebook
from kb.hosts import Host, HostError, images

PYTHON = "/opt/kb/bin/python"
LABEL = "noble-runbooks"
REPOSITORY = "/srv/noble-runbooks"  # where the container sees the notebooks, read-only
FIXTURES = "/srv/fixtures"
CERTIFICATES = "/srv/ca-certificates.crt"

# Containers of one image on one engine are alike: asked once for each image.
_facts_of: dict[str, dict[str, Any]] = {}


class DockerSession:
    """One container. It lives as long as this process holds its standard input open.

    Its first process only reads that input; when this process ends, however it ends, the engine
    closes it, the container's first process ends, and the engine removes the container.
    """

    disposable = True

    def __init__(self, host: Host, notebook: Notebook, fixtures: dict[str, Path]) -> None:
        self.host = host
        self.image = images.ensure(host)
        self.here = f"{REPOSITORY}/{notebook.path.parent}"
        self.shared = Path(tempfile.mkdtemp(prefix="kb-"))  # sockets; the same path on both sides
        self._api = images.engine().api
        self._id = ""
        self._input: Any = None
        self._ended = ""
        try:
            self._start(notebook, fixtures)
            self.facts = self._facts()
        except DockerException as error:
            self.close()
            raise HostError(
                f"{host.name}: the container could not be started: {_why(error)}"
            ) from None
        except BaseException:
            self.close()
            raise

    def _start(self, notebook: Notebook, fixtures: dict[str, Path]) -> None:
        binds: dict[str, Mapping[str, str]] = {
            str(self.shared): {"bind": str(self.shared), "mode": "rw"},
            str(notebook.root / notebook.path.parent): {"bind": self.here, "mode": "ro"},
        }
        for name, path in fixtures.items():
            binds[str(path)] = {"bind": f"{FIXTURES}/{name}", "mode": "ro"}
        self._env = images.proxies() | {"KB_FIXTURES": FIXTURES, "LANG": "C.UTF-8"}
        if bundle := images.ca_bundle():
            binds[str(bundle.resolve())] = {"bind": CERTIFICATES, "mode": "ro"}
            self._env |= dict.fromkeys(
                (*images.BUNDLES, "PIP_CERT", "GIT_SSL_CAINFO"), CERTIFICATES
            )
        gpus = [DeviceRequest(count=-1, capabilities=[["gpu"]])] if self.host.gpus else None
        container = self._api.create_container(
            image=self.image["id"],
            command=["cat"],
            stdin_open=True,
            hostname=self.host.name,
            environment=self._env,
            labels={LABEL: str(notebook.path)},
            host_config=self._api.create_host_config(
                binds=binds, init=True, auto_remove=True, device_requests=gpus
            ),
        )
        self._id = container["Id"]
        self._input = self._api.attach_socket(self._id, {"stdin": 1, "stream": 1})
        self._api.start(self._id)

    def _facts(self) -> dict[str, Any]:
        if known := _facts_of.get(self.image["id"]):
            return known
        status, output, error = self.command([PYTHON, "-m", "kb.facts"])
        if status != 0:
            raise HostError(f"{self.host.name}: its facts cannot be read: {error.strip()}")
        facts = {"name": self.host.name, "kind": self.host.kind, **json.loads(output)}
        facts.pop("offers")
        _facts_of[self.image["id"]] = facts
        return facts

    def kernel(self, env: dict[str, str]) -> AsyncKernelManager:
        directory = Path(tempfile.mkdtemp(prefix="k", dir=self.shared))
        manager = _Manager(
            transport="ipc",
            ip=str(directory / "s"),
            connection_file=str(directory / "connection.json"),
        )
        command = [PYTHON, "-m", "kb.kernel", "-f", manager.connection_file]
        private = {
            "PYTHONDONTWRITEBYTECODE": "1",
            "IPYTHONDIR": str(directory / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(directory),
        }
        manager.provisioner = _Provisioner(
            kernel_id="", kernel_spec=manager.kernel_spec, parent=manager
        )
        manager.provisioner.attach(self, command, env | private)
        return manager

    def command(
        self, argv: Sequence[str], env: dict[str, str] | None = None, timeout: float = 300
    ) -> tuple[int, str, str]:
        limited = ["timeout", "--kill-after=5", str(timeout), *argv]
        try:
            process, stream = self.launch(limited, env or {})
            printed = {STDOUT: bytearray(), STDERR: bytearray()}
            for channel, chunk in frames_iter(stream, tty=False):
                printed[channel] += chunk
            _hang_up(stream)
        except DockerException as error:
            raise HostError(f"{self.host.name} has disappeared: {_why(error)}") from None
        out, err = (printed[channel].decode(errors="replace") for channel in (STDOUT, STDERR))
        return self.exit_code(process), out, err

    def launch(self, argv: Sequence[str], env: dict[str, str]) -> tuple[str, Any]:
        """Start a process; returns its id and the socket that carries its output until it ends."""
        started = self._api.exec_create(self._id, list(argv), environment=env, workdir="/root")
        stream: Any = self._api.exec_start(started["Id"], socket=True)
        os.set_blocking(stream.fileno(), True)  # the client's own time-out is for requests
        return started["Id"], stream

    def exit_code(self, process: str) -> int:
        """The status of a launched process that has ended."""
        try:
            code = self._api.exec_inspect(process)["ExitCode"]
        except DockerException:
            return 137
        return 137 if code is None else int(code)

    def snapshot(self, known: dict[str, Any] | None) -> dict[str, Any]:
        taken = self.shared / "state.json"  # a file: megabytes take seconds through the engine
        arguments = [str(taken)]
        if known is not None:
            earlier = self.shared / "known.json"
            earlier.write_text(json.dumps(known))
            arguments.append(str(earlier))
        status, _, error = self.command(
            [PYTHON, "-m", "kb.state", *arguments], env={"PYTHONDONTWRITEBYTECODE": "1"}
        )
        if status != 0:
            raise HostError(f"{self.host.name}: its state cannot be read: {error.strip()}")
        state: dict[str, Any] = json.loads(taken.read_text())
        return state

    def why_dead(self) -> str:
        try:
            state = self._api.inspect_container(self._id)["State"]
        except NotFound:
            return (
                f"the host disappeared: the container of {self.host.name} was removed while it ran"
            )
        except DockerException as error:
            return f"the host disappeared: {_why(error)}"
        if state.get("OOMKilled"):
            return "the kernel died: the container ran out of memory"
        if not state.get("Running"):
            return f"the host disappeared: the container ended with status {state.get('ExitCode')}"
        return f"the kernel died: {self._ended or 'it left no message'}"

    def note_end(self, text: str) -> None:
        """Remember the last words of a kernel."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        self._ended = lines[-1] if lines else ""

    def close(self) -> None:
        if self._input is not None:
            _hang_up(self._input)
            self._input = None
        if self._id:
            gone, self._id = self._id, ""
            # In the background: nobody waits for it, and a lost engine removes it by itself.
            thread = threading.Thread(target=self._remove, args=(gone,))
            thread.start()
        shutil.rmtree(self.shared, ignore_errors=True)

    def _remove(self, container: str) -> None:
        try:
            self._api.remove_container(container, force=True)
        except (APIError, DockerException):
            return  # it is being removed already


class _Manager(AsyncKernelManager):
    """A kernel manager whose provisioner is given, not looked up by the kernel's name."""

    async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
        self.shutting_down = False
        self.kernel_id = self.kernel_id or "kb"
        self._launch_args = kw.copy()
        assert self.provisioner is not None
        kw = await self.provisioner.pre_launch(**kw)
        return kw.pop("cmd"), kw


class _Provisioner(KernelProvisionerBase):
    """Starts, watches and ends a kernel inside a container."""

    session: DockerSession
    process: str = ""

    def attach(self, session: DockerSession, command: list[str], env: dict[str, str]) -> None:
        self.session, self.command, self.kernel_env = session, command, env
        self._done = threading.Event()

    @property
    def has_process(self) -> bool:
        return bool(self.process)

    async def pre_launch(self, **kw: Any) -> dict[str, Any]:
        assert isinstance(self.parent, AsyncKernelManager)
        self.parent.write_connection_file()
        Path(self.parent.connection_file).chmod(0o644)
        self.connection_info = self.parent.get_connection_info()
        kw.pop("extra_arguments", None)
        kw["env"] = {}
        return {**kw, "cmd": self.command}

    async def launch_kernel(self, cmd: list[str], **kw: Any) -> KernelConnectionInfo:
        self.process, stream = self.session.launch(cmd, self.kernel_env)
        threading.Thread(target=self._watch, args=(stream,), daemon=True).start()
        return self.connection_info

    def _watch(self, stream: Any) -> None:
        last = b""
        try:
            while chunk := os.read(stream.fileno(), 65536):
                last = (last + chunk)[-4000:]
        except OSError:
            pass
        _hang_up(stream)
        self.session.note_end(last.decode(errors="replace"))
        self._done.set()

    async def poll(self) -> int | None:
        if not self.process:
            return 0
        return self.session.exit_code(self.process) if self._done.is_set() else None

    async def wait(self) -> int | None:
        deadline = time.monotonic() + 10
        while not self._done.is_set() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        code = self.session.exit_code(self.process)
        self.process = ""
        return code

    async def send_signal(self, signum: int) -> None:
        await asyncio.to_thread(
            self.session.command,
            ["pkill", f"-{signum}", "-f", str(Path(self.command[-1]).parent)],
        )

    async def kill(self, restart: bool = False) -> None:
        await self.send_signal(9)

    async def terminate(self, restart: bool = False) -> None:
        await self.send_signal(15)

    async def cleanup(self, restart: bool = False) -> None:
        return None


def _hang_up(stream: Any) -> None:
    """Close a stream of the engine's, which the library leaves to the garbage collector."""
    stream._response.close()


def _why(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)
