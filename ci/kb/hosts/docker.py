"""A container as a host: none is left behind, whatever happens."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.errors import DockerException, NotFound
from docker.types import DeviceRequest
from docker.utils.socket import STDERR, STDOUT, frames_iter
from jupyter_client.manager import AsyncKernelManager

from kb.catalog import Notebook
from kb.hosts import Host, HostError, images, kernels

PYTHON = "/opt/kb/bin/python"
LABEL = "noble-runbooks"
REPOSITORY = "/srv/noble-runbooks"  # where the container sees the notebooks, read-only
FIXTURES = "/srv/fixtures"
CERTIFICATES = "/srv/ca-certificates.crt"
START = 60  # seconds until the container's first process answers

# Containers of one image on one engine are alike: asked once for each image.
_facts_of: dict[str, dict[str, Any]] = {}
# The container that the last session of this process left as it had found it.
_spare: list[Container] = []


class Container:
    """A container. It lives as long as this process holds its standard input open.

    Its first process, :mod:`kb.kernel`, ends with that input. When this process ends, however it
    ends, the engine closes the input, and then removes the container.
    """

    def __init__(self, host: Host, image: str, binds: dict[str, str], label: str) -> None:
        self.kind = (host, image, binds)
        self.shared = Path(tempfile.mkdtemp(prefix="kb-"))  # the same path on both sides
        self._api = images.engine().api
        self._id = ""
        self._input: Any = None
        try:
            self._start(host, image, binds, label)
        except BaseException:
            self.remove()
            raise

    def _start(self, host: Host, image: str, binds: dict[str, str], label: str) -> None:
        mounts: dict[str, Mapping[str, str]] = {
            source: {"bind": target, "mode": "ro"} for source, target in binds.items()
        }
        mounts[str(self.shared)] = {"bind": str(self.shared), "mode": "rw"}
        env = images.proxies() | {"KB_FIXTURES": FIXTURES, "LANG": "C.UTF-8"}
        if CERTIFICATES in binds.values():
            variables = (*images.BUNDLES, "PIP_CERT", "GIT_SSL_CAINFO")
            env |= dict.fromkeys(variables, CERTIFICATES)
        gpus = [DeviceRequest(count=-1, capabilities=[["gpu"]])] if host.gpus else None
        container = self._api.create_container(
            image=image,
            # -B: a kernel leaves no compiled files on its host, where a snapshot would see them
            command=[PYTHON, "-B", "-m", "kb.kernel", str(self._kernels)],
            stdin_open=True,
            working_dir="/root",
            hostname=host.name,
            environment=env,
            labels={LABEL: label},
            host_config=self._api.create_host_config(
                binds=mounts, init=True, auto_remove=True, device_requests=gpus
            ),
        )
        self._id = container["Id"]
        self._input = self._api.attach_socket(self._id, {"stdin": 1, "stream": 1})
        self._api.start(self._id)

    @property
    def _kernels(self) -> Path:
        return self.shared / "kernels"

    def connect(self) -> socket.socket:
        """Open a connection to the container's first process, once that is ready."""
        deadline = time.monotonic() + START
        while not self._kernels.exists():
            if time.monotonic() > deadline or self.why_ended():
                raise HostError(self.why_ended() or f"it was not ready after {START} s")
            time.sleep(0.01)
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(self._kernels))
        return peer

    def launch(self, argv: Sequence[str], env: dict[str, str]) -> tuple[str, Any]:
        """Start a process; returns its id and the socket that carries its output until it ends."""
        started = self._api.exec_create(self._id, list(argv), environment=env, workdir="/root")
        stream: Any = self._api.exec_start(started["Id"], socket=True)
        os.set_blocking(stream.fileno(), True)  # the client's own time-out is for requests
        return started["Id"], stream

    def exit_code(self, process: str) -> int:
        """The status of a launched process that has ended."""
        code = self._api.exec_inspect(process)["ExitCode"]
        return kernels.ENDED if code is None else int(code)

    def why_ended(self) -> str:
        """One sentence about why it does not run any more; "" while it does."""
        name = self.kind[0].name
        try:
            state = self._api.inspect_container(self._id)["State"]
        except NotFound:
            return f"the host disappeared: the container of {name} was removed while it ran"
        except DockerException as error:
            return f"the host disappeared: {_why(error)}"
        if state.get("OOMKilled"):
            return "the kernel died: the container ran out of memory"
        if not state.get("Running"):
            return f"the host disappeared: the container ended with status {state.get('ExitCode')}"
        return ""

    def clear(self) -> None:
        """Remove what a session's kernels had in the shared directory."""
        for entry in self.shared.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry != self._kernels:
                entry.unlink()

    def remove(self) -> None:
        """Remove it in the background: nobody waits, and a lost engine does it by itself."""
        if self._input is not None:
            _hang_up(self._input)
            self._input = None
        if self._id:
            threading.Thread(target=self._remove, args=(self._id,)).start()
            self._id = ""
        shutil.rmtree(self.shared, ignore_errors=True)

    def _remove(self, container: str) -> None:
        with contextlib.suppress(DockerException):  # it is being removed already
            self._api.remove_container(container, force=True)


@atexit.register
def remove_spare() -> None:
    """Remove the container that waits for another session of this process."""
    while _spare:
        _spare.pop().remove()


class DockerSession:
    """A container that is as its image made it.

    It is a new one, or one that its last session left as it had found it: no file changed, no
    process, no shared memory.
    """

    disposable = True

    def __init__(self, host: Host, notebook: Notebook, fixtures: dict[str, Path]) -> None:
        self.host = host
        self.image = images.ensure(host)
        self.here = f"{REPOSITORY}/{notebook.path.parent}"
        self._kernels: list[kernels.Provisioner] = []
        binds = {str(notebook.root / notebook.path.parent): self.here}
        binds |= {str(path): f"{FIXTURES}/{name}" for name, path in fixtures.items()}
        if bundle := images.ca_bundle():
            binds[str(bundle.resolve())] = CERTIFICATES
        self._container: Container | None = None
        try:
            self._container = _spare_of((host, self.image["id"], binds)) or Container(
                host, self.image["id"], binds, str(notebook.path)
            )
            self.facts = self._facts()
        except DockerException as error:
            self.close()
            raise HostError(
                f"{host.name}: the container could not be started: {_why(error)}"
            ) from None
        except BaseException:
            self.close()
            raise

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

    @property
    def container(self) -> Container:
        assert self._container is not None, "the session is closed"
        return self._container

    def kernel(self, env: dict[str, str]) -> AsyncKernelManager:
        directory = Path(tempfile.mkdtemp(prefix="k", dir=self.container.shared))
        manager = kernels.manager(directory, self.container.connect, env)
        self._kernels.append(manager.provisioner)
        return manager

    def command(
        self, argv: Sequence[str], env: dict[str, str] | None = None, timeout: float = 300
    ) -> tuple[int, str, str]:
        limited = ["timeout", "--kill-after=5", str(timeout), *argv]
        try:
            process, stream = self.container.launch(limited, env or {})
            printed = {STDOUT: bytearray(), STDERR: bytearray()}
            for channel, chunk in frames_iter(stream, tty=False):
                printed[channel] += chunk
            _hang_up(stream)
            status = self.container.exit_code(process)
        except DockerException as error:
            raise HostError(f"{self.host.name} has disappeared: {_why(error)}") from None
        out, err = (printed[channel].decode(errors="replace") for channel in (STDOUT, STDERR))
        return status, out, err

    def snapshot(self, known: dict[str, Any] | None) -> dict[str, Any]:
        shared = self.container.shared
        taken = shared / "state.json"  # a file: megabytes take seconds through the engine
        arguments = [str(taken)]
        if known is not None:
            earlier = shared / "known.json"
            earlier.write_text(json.dumps(known))
            arguments.append(str(earlier))
        status, _, error = self.command([PYTHON, "-B", "-m", "kb.state", *arguments])
        if status != 0:
            raise HostError(f"{self.host.name}: its state cannot be read: {error.strip()}")
        state: dict[str, Any] = json.loads(taken.read_text())
        return state

    def why_dead(self) -> str:
        said = self._kernels[-1].last_words if self._kernels else ""
        return self.container.why_ended() or f"the kernel died: {said or 'it left no message'}"

    def close(self) -> None:
        if self._container is None:
            return
        container, self._container = self._container, None
        if self._kernels and self._kernels[-1].left == []:
            container.clear()
            remove_spare()
            _spare.append(container)
        else:
            container.remove()


def _spare_of(kind: tuple[Host, str, dict[str, str]]) -> Container | None:
    """The spare container, if it is of this kind and still runs."""
    if _spare and _spare[0].kind == kind and not _spare[0].why_ended():
        return _spare.pop()
    remove_spare()
    return None


def _hang_up(stream: Any) -> None:
    """Close a stream of the engine's, which the library leaves to the garbage collector."""
    stream._response.close()


def _why(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)
