"""What the room that proves uses of other libraries: where it is gone, a test says its name."""

from __future__ import annotations

import re
import socket
import threading
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker import APIClient
from jupyter_client.provisioning import KernelProvisionerFactory
from kb.proof.hosts import images, network
from kb.proof.hosts.containers import Container
from kb.proof.hosts.managed import KernelManager, Provisioner
from project import Project, runbook
from xdist.scheduler import LoadScopeScheduling


def test_jupyter_client_finds_the_provisioner(tmp_path: Path) -> None:
    manager = KernelManager(tmp_path, "/there", {"ip": "x"}, socket.socket, {"A": "b"})
    made = KernelProvisionerFactory.instance().create_provisioner_instance(
        "an-id", manager.kernel_spec, parent=manager
    )
    assert isinstance(made, Provisioner)
    assert (made.there, made.overrides, made.env) == ("/there", {"ip": "x"}, {"A": "b"})
    assert made.end is manager.end


def test_dockers_attached_socket_has_its_response(tmp_path: Path) -> None:
    """Closed at once, it does not wait for the garbage collector: `_response`."""
    place = tmp_path / "engine"
    with socket.create_server(str(place), family=socket.AF_UNIX) as engine:

        def answer() -> None:
            with engine.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(
                    b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
                )
                peer.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        with APIClient(base_url=f"unix://{place}", version="1.44") as api:
            attached = api.attach_socket("a-container", {"stdin": 1, "stream": 1})
            attached._response.close()
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.mark.parametrize("has", ["_response", "nothing"])
def test_a_container_is_removed_whatever_its_socket_has(
    has: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, removed = threading.Event(), threading.Event()
    attached: Any = SimpleNamespace(close=closed.set)
    if has == "_response":
        attached = SimpleNamespace(_response=attached)
    api = SimpleNamespace(
        create_host_config=lambda **options: options,
        create_container=lambda **options: {"Id": "a-container"},
        attach_socket=lambda *arguments: attached,
        start=lambda container: None,
        remove_container=lambda container, force: removed.set(),
    )
    monkeypatch.setattr(images, "engine", lambda: SimpleNamespace(api=api))
    monkeypatch.setattr(network, "ensure", lambda: "a-network")
    container = Container("box", "sha256:0", [], binds={}, label="x", env={})
    container.remove()
    assert closed.is_set()
    assert removed.wait(10)
    assert not container.shared.exists()


def test_xdist_gives_a_life_to_one_worker_in_its_order(project: Project) -> None:
    """Nobody has to pass `--dist`; a life's stages have one parent, which is xdist's scope."""
    (project.root / "ci").mkdir()
    (project.root / "ci/hosts.toml").write_text('[local]\nkind = "local"\n')
    books = [f"runbooks/area/{name}.ipynb" for name in "abcdef"]
    for book in books:
        project.add(book, runbook())
    # Without a go-ahead nothing is executed: each stage is skipped, and that is enough to see.
    done = project.run("pytest", "runbooks", "--on", "local", "-n", "3", "-v")
    ran = defaultdict(list)
    for worker, book, stage in re.findall(
        r"(?m)^\[(gw\d)\] .* (\S+\.ipynb)::local::(\w+)", done.stdout
    ):
        ran[book, worker].append(stage)
    assert sorted(book for book, _ in ran) == books, done.stdout + done.stderr
    stages = ("plan", "apply", "again", "rollback", "killed")
    assert set(map(tuple, ran.values())) == {stages}
    assert len({worker for _, worker in ran}) > 1


def test_xdist_splits_by_parent() -> None:
    assert LoadScopeScheduling._split_scope(None, "a.ipynb::host::plan") == "a.ipynb::host"


def test_pytests_reporter_has_stats(pytestconfig: pytest.Config) -> None:
    reporter: Any = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:  # a worker of xdist has none
        assert isinstance(reporter.stats, dict)
