"""Hosts: somewhere that a notebook can run. ``ci/hosts.toml`` lists them, BACKENDS their kinds."""

from __future__ import annotations

import difflib
import importlib
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from kb.proof import snapshots
from kb.proof.catalog import NEEDS, Notebook
from kb.runtime import facts

if TYPE_CHECKING:  # it takes a while to load, and to find runs fresh takes no kernel
    from jupyter_client.manager import AsyncKernelManager

KEYS = ("kind", "title", "offers", "base", "gpus", "memory")
MEMORY = re.compile(r"[1-9][0-9]*[mg]")


class HostError(Exception):
    """A host that cannot be used. One sentence: what is wrong and what to do."""


class EngineError(HostError):
    """No container engine answers, so no host can be made."""


class HostHungError(HostError):
    """A host that runs and does not answer any more: what was begun there may be begun again."""


@dataclass(frozen=True)
class Backend:
    """A kind of host: what is to be known of it before a session of it is started."""

    session: str
    """Its class, ``module:name``. Each brings a library, which is loaded where it is used."""
    label: str
    """What a reader calls it. Records carry it."""
    cost: int
    """A notebook is left to the hosts that cost least, of those that offer all it needs."""
    modules: tuple[str, ...]
    """The modules of this package that it consists of: an edit of one makes its runs stale."""
    recipe: tuple[str, ...] = ()
    """What its hosts are made by, in the repository: an edit makes their runs stale, too."""
    target: str = ""
    """The stage of ``ci/images/Dockerfile`` that it is made from; "" for what has no image."""
    this_machine: bool = False
    """Whether it is the machine that we run on: what it offers is found by looking, and a runbook
    needs a go-ahead."""

    def load(self) -> Any:
        """The class of its sessions."""
        module, _, name = self.session.partition(":")
        return getattr(importlib.import_module(module), name)


IMAGE = ("ci/images/Dockerfile", "requirements-host.txt")
BACKENDS = {
    "docker": Backend(
        "kb.proof.hosts.docker:DockerSession",
        label="container",
        cost=1,
        modules=("managed.py", "containers.py", "network.py", "docker.py"),
        recipe=IMAGE,
        target="container",
    ),
    "vm": Backend(
        "kb.proof.hosts.vm:VmSession",
        label="virtual machine",
        cost=2,
        modules=("managed.py", "containers.py", "network.py", "vm.py"),
        recipe=(*IMAGE, "ci/images/machine", "ci/images/qemu"),
        target="machine",
    ),
    "local": Backend(
        "kb.proof.hosts.local:LocalSession",
        label="machine itself",
        cost=1,
        modules=("local.py",),
        this_machine=True,
    ),
}


@dataclass(frozen=True)
class Host:
    """One entry of ``ci/hosts.toml``."""

    root: Path
    name: str
    kind: str
    title: str
    offers: tuple[str, ...]
    base: str = ""
    gpus: str = ""
    memory: str = ""  # most that its container may take, in the place of what each may

    @property
    def backend(self) -> Backend:
        return BACKENDS[self.kind]

    def lacks(self, notebook: Notebook) -> str | None:
        """Why ``notebook`` cannot run here, or None."""
        missing = [need for need in notebook.needs if need not in self.offers]
        return f"{self.name} does not offer: {', '.join(missing)}" if missing else None


class Session(Protocol):
    """A host in use: as its image made it when it starts, given back when it is closed."""

    facts: dict[str, Any]
    here: str  # the directory on the host that holds the notebook and the files beside it
    disposable: bool  # whether closing throws the whole host away

    @property
    def hung(self) -> str:
        """Why the host was ended, if it was because it hung: one sentence; "" otherwise.

        A kernel that ran on it has died then; a command raises :class:`HostHungError`.
        """

    @property
    def image(self) -> dict[str, str] | None:
        """Name and id of the image it was made from."""

    @staticmethod
    def ensure_image(host: Host, tell: Callable[[str], object]) -> dict[str, str] | None:
        """Name and id of the image of ``host``, made if it must be; None where there is none."""

    def kernel(self, env: dict[str, str]) -> AsyncKernelManager:
        """A manager for a new kernel on this host."""

    def command(
        self,
        argv: Sequence[str],
        env: dict[str, str] | None = None,
        timeout: float = 300,
        text: str = "",
    ) -> tuple[int, str, str]:
        """Run a command on the host, ``text`` its input; its status, output and errors."""

    def snapshot(self, known: snapshots.Snapshot | None) -> snapshots.Snapshot:
        """What the host is now; files untouched since ``known`` are not read again."""

    def kill_kernel(self) -> None:
        """End the last kernel as ``kill -9`` of its process group does."""

    def why_dead(self) -> str:
        """One sentence about why a kernel ended."""

    def close(self) -> None:
        """Give the host back. May be called twice."""


@runtime_checkable
class Rebootable(Protocol):
    """A session whose host can be started anew."""

    def reboot(self) -> None:
        """Start the host anew, with all that is on its disk, and wait until it answers.

        Raises :class:`HostError`.
        """


@runtime_checkable
class Returning(Protocol):
    """A session whose host can be made again what it was."""

    def keep(self) -> None:
        """Keep the host as it is now, its memory included. Raises :class:`HostError`."""

    def back(self) -> bool:
        """Make the host again what it was when it was kept, or else when the session began.

        False where it has ended, so that a new one is needed. Raises :class:`HostError`.
        """


def load(root: Path) -> dict[str, Host]:
    """Read ``ci/hosts.toml``. Raises :class:`HostError` with the place of what is wrong."""
    path = root / "ci/hosts.toml"
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HostError(f"{path} is missing: run from the repository's root") from None
    except tomllib.TOMLDecodeError as error:
        raise HostError(f"ci/hosts.toml: not TOML: {error}") from None
    hosts = {}
    for name, entry in entries.items():
        where = f"ci/hosts.toml: [{name}]"
        if not isinstance(entry, dict):
            raise HostError(f"{where}: must be a table: write `[{name}]` and its keys below")
        for key in entry:
            if key not in KEYS:
                raise HostError(f"{where}: unknown key `{key}` (known: {', '.join(KEYS)})")
        backend = BACKENDS.get(str(entry.get("kind")))
        if backend is None:
            raise HostError(f"{where}: `kind` must be one of {', '.join(BACKENDS)}")
        if backend.target and not entry.get("base"):
            raise HostError(f"{where}: `base` is missing: name the image that it is made from")
        if "memory" in entry and not MEMORY.fullmatch(str(entry["memory"])):
            raise HostError(f"{where}: `memory` must be text such as 512m or 8g")
        for need in entry.get("offers", []):
            if need not in NEEDS:
                raise HostError(f"{where}: unknown offer `{need}` (known: {', '.join(NEEDS)})")
        found = facts.offers() if backend.this_machine else ()
        hosts[name] = Host(
            root,
            name,
            entry["kind"],
            entry.get("title", name),
            (*entry.get("offers", ()), *found),
            entry.get("base", ""),
            entry.get("gpus", ""),
            entry.get("memory", ""),
        )
    return hosts


def pick(hosts: dict[str, Host], name: str) -> Host:
    """The host of this name. Raises :class:`HostError` naming the nearest."""
    if name not in hosts:
        near = difflib.get_close_matches(name, hosts, n=1)
        meant = f"; did you mean `{near[0]}`?" if near else ""
        raise HostError(f"there is no host `{name}`{meant} (ci/hosts.toml has {', '.join(hosts)})")
    return hosts[name]


def cheaper(host: Host, able: Iterable[Host]) -> bool:
    """Whether a notebook is left to another host, which is ``able`` to run it and costs less."""
    return any(other.backend.cost < host.backend.cost for other in able)


def ensure_image(
    host: Host, tell: Callable[[str], object] = lambda line: None
) -> dict[str, str] | None:
    """The image that a run on ``host`` uses, made if it must be; None where there is none.

    ``tell`` gets a line before something that takes minutes. Raises :class:`HostError`.
    """
    image: dict[str, str] | None = host.backend.load().ensure_image(host, tell)
    return image


def start(host: Host, notebook: Notebook, fixtures: dict[str, Path]) -> Session:
    """A session of ``host`` for ``notebook``. Raises :class:`HostError`."""
    session: Session = host.backend.load()(host, notebook, fixtures)
    return session
