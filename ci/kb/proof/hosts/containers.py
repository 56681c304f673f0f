"""Containers that end with this process, whatever happens to it."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import stat
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from docker.errors import DockerException, NotFound
from docker.types import DeviceRequest

from kb.proof.hosts import HostError, images, managed, network, scratch

LABEL = "noble-runbooks"
CERTIFICATES = "/srv/ca-certificates.crt"
SOCKET = "kernels"  # in the shared directory: where a host is asked for kernels and commands
# What a notebook that goes astray may take of the machine. A host of ci/hosts.toml may have more.
LIMITS = {"mem_limit": "4g", "pids_limit": 4096}


class Container:
    """A container. It lives as long as this process holds its standard input open.

    Its first process ends with that input. When this process ends, however it ends, the engine
    closes the input, and then removes the container.

    Args:
        name: the host's name, for the container and for messages.
        image: the image's id.
        command: what to run; ``{shared}`` stands for the directory :attr:`shared`.
        binds: directories and files of this machine, and where the container has them read-only.
        label: what it is for.
        env: variables.
        options: of ``create_host_config``, besides :data:`LIMITS`.

    Raises:
        HostError: it cannot be started.
    """

    def __init__(
        self,
        name: str,
        image: str,
        command: list[str],
        *,
        binds: Mapping[str, str],
        label: str,
        env: Mapping[str, str],
        **options: Any,
    ) -> None:
        self.name = name
        self.shared = scratch.directory()  # the same path on both sides
        self._kernels: set[str] = set()
        self._api = images.engine().api
        self._id = ""
        self._input: Any = None
        mounts: dict[str, Mapping[str, str]] = {
            source: {"bind": target, "mode": "ro"} for source, target in binds.items()
        }
        mounts[str(self.shared)] = {"bind": str(self.shared), "mode": "rw"}
        try:
            container = self._api.create_container(
                image=image,
                command=[word.replace("{shared}", str(self.shared)) for word in command],
                stdin_open=True,
                working_dir="/root",
                hostname=name,
                environment=dict(env),
                labels={LABEL: label},
                host_config=self._api.create_host_config(
                    binds=mounts,
                    init=True,
                    auto_remove=True,
                    ipc_mode="private",
                    network_mode=network.ensure(),
                    **{**LIMITS, **options},
                ),
            )
            self._id = container["Id"]
            self._input = self._api.attach_socket(self._id, {"stdin": 1, "stream": 1})
            self._api.start(self._id)
        except DockerException as error:
            self.remove()
            raise HostError(f"{name}: the container could not be started: {_why(error)}") from None
        except BaseException:
            self.remove()
            raise

    def connect(self, within: float) -> socket.socket:
        """Open a connection to :data:`SOCKET` in :attr:`shared`.

        It is waited for, at most ``within`` seconds. Raises :class:`HostError`.
        """
        place = self.shared / SOCKET
        deadline = time.monotonic() + within
        while not place.exists():
            if ended := self.why_ended():
                raise HostError(ended)
            if time.monotonic() > deadline:
                raise HostError(f"{self.name} was not ready after {within:g} s")
            time.sleep(0.01)
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.connect(str(place))
        except OSError:
            peer.close()
            raise
        return peer

    def read(self, path: str) -> bytes:
        """The content of a file in the container. Raises :class:`HostError`."""
        try:
            chunks, _ = self._api.get_archive(self._id, path)
            return only_file_of_tar(chunks)
        except DockerException as error:
            raise HostError(f"{self.name}: {path} cannot be read: {_why(error)}") from None

    def execute(self, command: list[str]) -> str:
        """Run ``command`` beside what runs in the container; why it failed, or ""."""
        try:
            made = self._api.exec_create(self._id, command)["Id"]
            said = self._api.exec_start(made).decode(errors="replace").strip()
            status = self._api.exec_inspect(made)["ExitCode"]
        except DockerException as error:
            return _why(error)
        return "" if status == 0 else said or f"status {status}"

    def why_ended(self) -> str:
        """One sentence about why it does not run any more; "" while it does."""
        try:
            state = self._api.inspect_container(self._id)["State"]
        except NotFound:
            return f"the host disappeared: the container of {self.name} was removed while it ran"
        except DockerException as error:
            return f"the host disappeared: {_why(error)}"
        if state.get("OOMKilled"):
            return "the kernel died: the container ran out of memory"
        if not state.get("Running"):
            return f"the host disappeared: the container ended with status {state.get('ExitCode')}"
        return ""

    def kernel_directory(self) -> Path:
        """A new directory in :attr:`shared` for a kernel's files."""
        directory = Path(tempfile.mkdtemp(prefix="k", dir=self.shared))
        self._kernels.add(directory.name)
        return directory

    def clear(self) -> bool:
        """Remove what kernels had in the shared directory; False if there was more, or it changed.

        Seen from outside, so that no notebook has a say in it.
        """
        for name in self._kernels:
            shutil.rmtree(self.shared / name, ignore_errors=True)
        self._kernels.clear()
        left = [(entry.name, stat.S_IFMT(entry.lstat().st_mode)) for entry in self.shared.iterdir()]
        return scratch.is_private(self.shared) and left == [(SOCKET, stat.S_IFSOCK)]

    def remove(self) -> None:
        """Remove it in the background: nobody waits, and a lost engine does it by itself."""
        if self._input is not None:
            # The engine's library leaves the response to the garbage collector.
            getattr(self._input, "_response", self._input).close()
            self._input = None
        if self._id:
            threading.Thread(target=self._remove, args=(self._id,)).start()
            self._id = ""
        shutil.rmtree(self.shared, ignore_errors=True)

    def _remove(self, container: str) -> None:
        with contextlib.suppress(DockerException):  # it is being removed already
            self._api.remove_container(container, force=True)


def only_file_of_tar(chunks: Iterable[bytes]) -> bytes:
    """The content of the one file of the archive that the engine gives for a file."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        member = archive.next()
        file = archive.extractfile(member) if member else None
        return file.read() if file else b""


def proxy_and_ca() -> tuple[dict[str, str], dict[str, str]]:
    """What a user behind a TLS proxy gives each host: binds and variables."""
    binds: dict[str, str] = {}
    env = images.proxies() | {"KB_FIXTURES": managed.FIXTURES, "LANG": "C.UTF-8"}
    if bundle := images.ca_bundle():
        binds[str(bundle.resolve())] = CERTIFICATES
        variables = (*images.BUNDLES, "PIP_CERT", "GIT_SSL_CAINFO")
        env |= dict.fromkeys(variables, CERTIFICATES)
    return binds, env


def gpus() -> dict[str, Any]:
    """Options of a container that has all GPUs."""
    return {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]}


def _why(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)
