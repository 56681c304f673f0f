"""A virtual machine as a host: systemd, cgroups, AppArmor and kernel parameters of its own.

QEMU runs in a container, so a machine needs nothing but the engine. A guest boots once for each
state of its image; sessions resume it from there, each with a disk that is thrown away. A session
may keep a later state, too, and go back to it as often as it likes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import DockerException, NotFound

from kb.proof import snapshots
from kb.proof.catalog import Notebook
from kb.proof.hosts import Host, HostError, HostHungError, containers, images, network
from kb.proof.hosts.containers import Container
from kb.proof.hosts.managed import FIXTURES, REPOSITORY, KernelManager, RemoteSession
from kb.runtime.terminal import clean, plain

LOAD = 60.0  # seconds until a guest's memory is read
SILENT = 20  # seconds in which a guest could have answered, and did not: it hangs
BOOT = 120  # the same while it boots again
START = 300  # seconds until a guest is ready
PORTS = {"shell": 5001, "iopub": 5002, "stdin": 5003, "control": 5004, "hb": 5005}
KVM = "/dev/kvm"
PANIC = "Kernel panic"  # registers follow it
SHOWN = 5  # lines of a console
STATE = "/state"  # what the image holds: in its container, and in the booted guest's /vm
BOOTED = "noble-runbooks.booted"  # label: the accelerator, and what the boot took


class VmSession(RemoteSession):
    """A guest that has just booted, or has gone back to what it was then, or was kept as later."""

    def __init__(self, host: Host, notebook: Notebook, fixtures: dict[str, Path]) -> None:
        self.host = host
        self.image = images.ensure(host)
        self._untouched = self._kept = False
        self.here = f"{REPOSITORY}/{notebook.path.parent}"
        self.managers = []
        machine = booted(host, self.image["id"])
        binds, self._env = containers.proxy_and_ca()
        binds[str(notebook.root / notebook.path.parent)] = self.here
        binds |= {str(path): f"{FIXTURES}/{name}" for name, path in fixtures.items()}
        self._container = Container(
            host.name,
            machine,
            ["resume", "{shared}", str(SILENT), str(BOOT)],
            binds=binds,
            label=str(notebook.path),
            env={},
            **_devices(),
        )
        try:
            self._wait()
            # Every session resumes the same memory and disk.
            self._first = self._cached_state(machine, self._read_all)
            self.facts = {**self.read_facts(), "accelerator": accelerator(machine)}
            self._untouched = True
        except BaseException:
            self.close()
            raise

    @staticmethod
    def ensure_image(host: Host, tell: Callable[[str], object]) -> dict[str, str]:
        image = images.ensure(host, tell)
        network.close(image["id"], tell)
        booted(host, image["id"], tell)
        return image

    def _wait(self) -> None:
        """Until the guest has its files, and knows what time it is."""
        deadline = time.monotonic() + START
        mount = "mountpoint --quiet /srv || mount -t virtiofs -o ro srv /srv"
        while True:
            settle = f"date --set @{time.time():.3f} && {{ {mount}; }}"
            try:
                status, _, error = self.command(["sh", "-c", settle])
            except HostError as silent:
                if self.why_ended():
                    raise
                error = str(silent)
            else:
                if status == 0:
                    return
            # What has just been plugged in may not be there yet.
            if time.monotonic() > deadline:
                raise HostError(
                    f"{self.host.name}: the guest could not be resumed: {error.strip()}"
                )
            time.sleep(0.1)

    def keep(self) -> None:
        self._order("keep", "kept")
        self._kept = True

    def back(self) -> bool:
        if self.why_ended():
            return False
        self._order("back", "put back")
        self._untouched = not self._kept
        return True

    def _order(self, what: str, done: str) -> None:
        """Have the script that runs the guest do it, and wait for the guest."""
        if why := self._container.execute(["order", what, str(self._container.shared)]):
            if hung := self.hung:
                raise HostHungError(hung)
            raise HostError(f"{self.host.name}: the guest could not be {done}: {why}")
        self._wait()

    def reboot(self) -> None:
        boot = ["cat", "/proc/sys/kernel/random/boot_id"]
        earlier = self.command(boot)
        # QEMU ends when the guest resets itself, after a panic too; this says that it is meant to.
        (self._container.shared / "reboot").touch()
        self.command(["systemctl", "reboot"])
        deadline = time.monotonic() + START
        while True:
            # Until it has gone down, it may still answer.
            with contextlib.suppress(HostError):
                if self.command(boot, timeout=10) != earlier:
                    break
            if ended := self.why_ended():
                raise HostError(ended)
            if time.monotonic() > deadline:
                raise HostError(f"{self.host.name} did not come back within {START} s of a reboot")
            time.sleep(0.5)
        self._wait()

    def connect(self) -> socket.socket:
        try:
            return self._container.connect(LOAD)
        except HostError:
            if hung := self.hung:
                raise HostHungError(hung) from None
            raise

    @property
    def hung(self) -> str:  # type: ignore[override]
        silent = self._container.shared / "hung"
        if not silent.exists():
            return ""
        seconds = silent.read_text().strip()
        return (
            f"{self.host.name} hung: it ran, and did not answer for {seconds} s{self.console_end()}"
        )

    def command(
        self, argv: Any, env: dict[str, str] | None = None, timeout: float = 300, text: str = ""
    ) -> tuple[int, str, str]:
        self._untouched = False
        return super().command(argv, {**self._env, **(env or {})}, timeout, text)

    def snapshot(self, known: snapshots.Snapshot | None) -> snapshots.Snapshot:
        if self._untouched:
            return self._first
        return snapshots.take(self.command, known or self._first)

    def _read_all(self) -> snapshots.Snapshot:
        # Emulated, it would take minutes to read all that came with the image.
        listing, hashes = (
            self._container.read(f"/vm{STATE}/{name}").decode(errors="replace")
            for name in ("listing", "hashes")
        )
        known = snapshots.read(listing, lambda paths: hashes)
        return snapshots.take(self.command, known, of_image=True)

    def why_ended(self) -> str:
        if hung := self.hung:
            return hung
        if not (ended := self._container.why_ended()):
            return ""
        return ended + self.console_end()

    def console_end(self) -> str:
        console = self._container.shared / "console"
        return _end_of(console.read_text(errors="replace") if console.exists() else "")

    def kernel(self, env: dict[str, str]) -> KernelManager:
        self._untouched = False
        overrides: dict[str, Any] = {f"{name}_port": port for name, port in PORTS.items()}
        overrides |= {"transport": "tcp", "ip": "0.0.0.0"}  # noqa: S104 - its network is its own
        directory = Path(tempfile.mkdtemp(prefix="k", dir=self._container.shared))
        for number in range(1, 1 + len(PORTS)):
            # Links: jupyter_client removes the sockets of a kernel that has ended.
            (directory / f"s-{number}").symlink_to(self._container.shared / f"s-{number}")
        there = f"/run/kb/{directory.name}"
        manager = KernelManager(directory, there, overrides, self.connect, {**self._env, **env})
        self.managers.append(manager)
        return manager

    def close(self) -> None:
        self._container.remove()


def booted(host: Host, image: str, tell: Callable[[str], object] = lambda line: None) -> str:
    """The id of an image with a guest that has booted from ``image``, made if there is none.

    Raises :class:`HostError`.
    """
    qemu = images.ensure_qemu(host.root)
    name = f"{images.REPOSITORY}/{host.name}-booted:{image[7:19]}-{qemu[7:19]}"
    found = images.find(name)
    if found is None:
        with images.locked(host):
            found = images.find(name)
            if found is None:
                tell(f"booting {host.name} (a minute, once)")
                found = _boot(host, image, qemu, name)
    return found


def _boot(host: Host, image: str, qemu: str, name: str) -> str:
    api = images.engine().api
    made = []
    try:
        # What the image holds is read by a container of it, which is not emulated.
        listing = f"({snapshots.LISTING}) >listing; ({snapshots.ALL_HASHES}) >hashes"
        look = f"mkdir {STATE}; cd {STATE}; {listing}"
        made.append(tree := api.create_container(image, ["bash", "-c", look])["Id"])
        options = api.create_host_config(init=True, **_devices())
        made.append(
            boot := api.create_container(
                qemu,
                ["make", host.name],
                host_config=options,
                labels={containers.LABEL: f"the boot of {host.name}"},
            )["Id"]
        )
        api.put_archive(boot, "/tree", api.export(tree, chunk_size=1 << 22))
        api.start(tree)
        api.wait(tree)
        chunks, _ = api.get_archive(tree, STATE)
        api.put_archive(boot, "/vm", b"".join(chunks))
        api.start(boot)
        status = api.wait(boot)["StatusCode"]
        said = api.logs(boot).decode(errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "it said nothing")
        if status != 0:
            raise HostError(
                f"{host.name} could not be booted: {last}{_end_of(_console(api, boot))}"
            )
        repository, _, tag = name.partition(":")
        label = json.dumps(last)
        return str(api.commit(boot, repository, tag, changes=f"LABEL {BOOTED}={label}")["Id"])
    except DockerException as error:
        raise HostError(f"{host.name} could not be booted: {error}") from None
    finally:
        for container in made:
            api.remove_container(container, force=True, v=True)


def accelerator(machine: str) -> str:
    """What a booted guest runs on: ``kvm`` or ``tcg``."""
    labels = images.engine().images.get(machine).labels
    return str(labels[BOOTED]).partition(" ")[0]


def _console(api: APIClient, boot: str) -> str:
    """What a guest that did not boot said."""
    try:
        chunks, _ = api.get_archive(boot, "/vm/console")
    except NotFound:
        return ""
    return containers.only_file_of_tar(chunks).decode(errors="replace")


def _end_of(console: str) -> str:
    """What a guest's kernel and systemd said at last: why it panicked, or the last lines."""
    lines = [line.strip() for line in plain(clean(console)).splitlines() if line.strip()]
    panics = [line[line.index(PANIC) :] for line in lines if PANIC in line]
    shown = " / ".join(panics or lines[-SHOWN:])
    return f"; the guest's console ends with: {shown}" if shown else ""


def _devices() -> dict[str, Any]:
    return {"devices": [f"{KVM}:{KVM}:rwm"]} if Path(KVM).exists() else {}
