"""A container as a host: as its image made it, and none is left behind, whatever happens."""

from __future__ import annotations

import atexit
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kb.proof import snapshots
from kb.proof.catalog import Notebook
from kb.proof.hosts import Host, HostError, containers, images, network
from kb.proof.hosts.containers import Container
from kb.proof.hosts.managed import FIXTURES, PYTHON, REPOSITORY, KernelManager, RemoteSession

START = 60  # seconds until a container answers

# The container that the last session of this process left as it had found it, and what it is.
_spare: list[tuple[Any, Container]] = []


class DockerSession(RemoteSession):
    """A container that is as its image made it.

    It is a new one, or one that its last session left as it had found it: no file changed, also
    none of those shared with this machine, no process, no shared memory, no queue, no semaphore.
    """

    def __init__(self, host: Host, notebook: Notebook, fixtures: dict[str, Path]) -> None:
        self.host = host
        self.image = images.ensure(host)
        self.here = f"{REPOSITORY}/{notebook.path.parent}"
        self.managers = []
        binds, env = containers.proxy_and_ca()
        binds[str(notebook.root / notebook.path.parent)] = self.here
        binds |= {str(path): f"{FIXTURES}/{name}" for name, path in fixtures.items()}
        self._kind = (host, self.image["id"], binds)
        self._container: Container | None = _spare_of(self._kind)
        if self._container is None:
            self._container = Container(
                host.name,
                self.image["id"],
                # -B: a kernel leaves no compiled files on its host, where a snapshot would see them
                [PYTHON, "-B", "-m", "kb.runtime.agent", "{shared}/kernels"],
                binds=binds,
                label=str(notebook.path),
                env=env,
                **({"mem_limit": host.memory} if host.memory else {}),
                **(containers.gpus() if host.gpus else {}),
            )
        try:
            self.facts = self.read_facts()
        except HostError:
            self.close()
            raise

    @staticmethod
    def ensure_image(host: Host, tell: Callable[[str], object]) -> dict[str, str]:
        image = images.ensure(host, tell)
        network.close(image["id"], tell)
        return image

    @property
    def container(self) -> Container:
        assert self._container is not None, "the session is closed"
        return self._container

    def connect(self) -> socket.socket:
        return self.container.connect(START)

    def why_ended(self) -> str:
        return self.container.why_ended()

    def kernel(self, env: dict[str, str]) -> KernelManager:
        directory = self.container.kernel_directory()
        manager = KernelManager(directory, str(directory), {}, self.connect, env)
        self.managers.append(manager)
        return manager

    def snapshot(self, known: snapshots.Snapshot | None) -> snapshots.Snapshot:
        # What came with the image is read once for all its containers.
        known = known or self._cached_state(self.image["id"], lambda: snapshots.take(self.command))
        return snapshots.take(self.command, known)

    def close(self) -> None:
        if self._container is None:
            return
        container, self._container = self._container, None
        untouched = self.managers and self.managers[-1].end.residue == []
        if untouched and container.clear():
            remove_spare()
            _spare.append((self._kind, container))
        else:
            container.remove()


@atexit.register
def remove_spare() -> None:
    """Remove the container that waits for another session of this process."""
    while _spare:
        _spare.pop()[1].remove()


def _spare_of(kind: Any) -> Container | None:
    """The spare container, if it is of this kind and still runs."""
    if _spare and _spare[0][0] == kind and not _spare[0][1].why_ended():
        return _spare.pop()[1]
    remove_spare()
    return None
