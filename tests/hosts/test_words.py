"""What is said of hosts that fail, with an engine that is none: no container is started here."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, BuildError, DockerException, NotFound
from golden import Told
from kb.proof.hosts import Host, HostError, containers, images, managed, network, vm
from kb.proof.hosts.containers import Container
from kb.proof.hosts.local import LocalSession

BOX = Host(Path(), "box", "docker", "A box", (), "noble-runbooks/base:debian-13")


def raising(error: Exception) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


def container(tmp_path: Path, **api: Any) -> Container:
    """A container of which only the engine's interface is there."""
    made = Container.__new__(Container)
    made.name, made._id, made.shared = "box", "x", tmp_path
    made._api = types.SimpleNamespace(**api)
    return made


ENDS: dict[str, Any] = {
    "removed": raising(NotFound("x")),
    "no engine": raising(DockerException("the engine has gone")),
    "out of memory": lambda _: {"State": {"OOMKilled": True}},
    "ended": lambda _: {"State": {"Running": False, "ExitCode": 3}},
}


@pytest.mark.parametrize("what", ENDS)
def test_a_container_that_has_ended(what: str, tmp_path: Path, told: Told) -> None:
    told(container(tmp_path, inspect_container=ENDS[what]).why_ended())


def test_a_container_that_is_not_ready(tmp_path: Path, told: Told) -> None:
    runs = container(tmp_path, inspect_container=lambda _: {"State": {"Running": True}})
    with told.raises(HostError):
        runs.connect(-1)


def test_a_file_of_a_container_that_is_not_there(tmp_path: Path, told: Told) -> None:
    with told.raises(HostError):
        container(tmp_path, get_archive=raising(NotFound("no such file"))).read("/vm/state")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """An engine that has nothing; a test gives it what fails."""
    api = types.SimpleNamespace(
        create_host_config=lambda **_: {},
        create_container=raising(APIError("conflict", explanation="no space left on device")),
        remove_container=lambda *_, **__: None,
    )
    found = types.SimpleNamespace(get=raising(images.ImageNotFound("x")))
    made = types.SimpleNamespace(api=api, images=found, networks=types.SimpleNamespace())
    monkeypatch.setattr(images, "engine", lambda: made)
    monkeypatch.setattr(network, "ensure", lambda: network.NAME)
    return made


def test_a_container_that_cannot_be_started(engine: Any, told: Told) -> None:
    with told.raises(HostError):
        Container("box", "x", [], binds={}, label="x", env={})


BUILDS = {
    "a step fails": BuildError("exit status 100", [{"stream": "E: Unable to fetch x\n"}]),
    "the engine fails": APIError("x", explanation="no space left on device"),
}


@pytest.mark.parametrize("what", BUILDS)
def test_an_image_that_cannot_be_built(what: str, engine: Any, told: Told) -> None:
    engine.images.build = raising(BUILDS[what])
    with told.raises(HostError):
        images._built("the image of box", images.io.BytesIO(), "x", {})


def test_a_base_that_cannot_be_bootstrapped(engine: Any, tmp_path: Path, told: Told) -> None:
    script = tmp_path / "ci/setup/debian-13.sh"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    with told.raises(HostError):
        images._base_id(BOX.base, tmp_path)


def test_a_network_that_cannot_be_made(engine: Any, told: Told) -> None:
    engine.networks.get = raising(NotFound("x"))
    engine.networks.create = raising(APIError("x", explanation="all address pools are used"))
    with told.raises(HostError):
        network._network()


def test_a_host_whose_facts_cannot_be_read(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    session = vm.VmSession.__new__(vm.VmSession)
    session.host, session.image = BOX, {"id": "x"}
    monkeypatch.setattr(vm.VmSession, "command", lambda *_: (1, "", "No module named kb\n"))
    with told.raises(HostError):
        session.read_facts()


def test_a_host_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    session = managed.RemoteSession.__new__(vm.VmSession)
    session.host = BOX
    for name, value in (("connect", raising(OSError())), ("why_ended", lambda _: "")):
        monkeypatch.setattr(vm.VmSession, name, value)
    monkeypatch.setattr(vm.VmSession, "console_end", lambda _: "")
    monkeypatch.setattr(vm.VmSession, "hung", "")
    with told.raises(HostError):
        managed.RemoteSession.command(session, ["true"])


def test_a_command_on_this_machine_that_takes_too_long(told: Told) -> None:
    session = LocalSession.__new__(LocalSession)
    session.fixtures = Path("/nowhere")
    with told.raises(HostError):
        session.command(["sleep", "60"], timeout=0.1)


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> vm.VmSession:
    """A guest whose console has said something, and that answers a command with an error."""
    session = vm.VmSession.__new__(vm.VmSession)
    session.host = BOX
    session._container = container(
        tmp_path, inspect_container=lambda _: {"State": {"Running": True}}
    )
    (tmp_path / "console").write_text("[    1.0] systemd[1]: Started.\n")
    monkeypatch.setattr(vm, "START", -1)
    monkeypatch.setattr(vm.VmSession, "command", lambda *_, **__: (1, "", "no such device\n"))
    return session


def test_a_guest_that_hangs(guest: vm.VmSession, tmp_path: Path, told: Told) -> None:
    (tmp_path / "hung").write_text("20\n")
    told(guest.hung)


def test_a_guest_that_cannot_be_resumed(guest: vm.VmSession, told: Told) -> None:
    with told.raises(HostError):
        guest._wait()


def test_a_guest_that_does_not_come_back(guest: vm.VmSession, told: Told) -> None:
    with told.raises(HostError):
        guest.reboot()


def test_a_guest_that_does_not_boot(engine: Any, told: Told) -> None:
    console = containers.io.BytesIO()
    with containers.tarfile.open(fileobj=console, mode="w") as archive:
        entry = containers.tarfile.TarInfo("console")
        entry.size = 13
        archive.addfile(entry, containers.io.BytesIO(b"Kernel panic!"))
    engine.api = types.SimpleNamespace(
        create_host_config=lambda **_: {},
        create_container=lambda *_, **__: {"Id": "x"},
        export=lambda *_, **__: [],
        put_archive=lambda *_: True,
        start=lambda *_: None,
        wait=lambda *_: {"StatusCode": 1},
        get_archive=lambda *_: ([console.getvalue()], {}),
        logs=lambda *_: b"the guest did not boot\n",
        remove_container=lambda *_, **__: None,
    )
    with told.raises(HostError):
        vm._boot(BOX, "image", "qemu", "name")
    engine.api.start = raising(APIError("x", explanation="no space left on device"))
    with told.raises(HostError):
        vm._boot(BOX, "image", "qemu", "name")
