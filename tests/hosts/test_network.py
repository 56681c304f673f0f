"""Hosts reach the world, and nothing that this machine serves."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kb.proof import catalog, hosts
from kb.proof.hosts import images, network
from project import Project, notebook

CONNECT = "timeout 20 bash -c '</dev/tcp/{}/{}'"
# The host of the distribution's own mirror, as the image has it.
WORLD = "grep --recursive --only-matching --no-filename --max-count 1 'http[s]*://[^/ ]*' /etc/apt"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may put rules on networks")
BOOK = Path("notebooks/a/network.ipynb")  # no other test's: they run side by side


@pytest.fixture
def served() -> Iterator[int]:
    """The port of something that this machine serves on all of its addresses."""
    with socket.create_server(("", 0)) as listener:
        yield listener.getsockname()[1]


@root_only
@pytest.mark.parametrize("name", ["debian-13", "debian-13-vm"])
def test_a_host_reaches_the_world_and_not_this_machine(
    hosted: Project, served: int, name: str
) -> None:
    hosted.add(str(BOOK), notebook(parameters='x: str = ""  # nothing'))
    host = hosts.load(hosted.root)[name]
    said: list[str] = []
    assert hosts.ensure_image(host, said.append)
    assert not [line for line in said if "reach" in line]
    session = hosts.start(host, catalog.read(hosted.root, BOOK), {})
    try:
        _, mirror, _ = session.command(["sh", "-c", WORLD])
        world = mirror.splitlines()[0].rpartition("/")[2]
        status, _, error = session.command(["sh", "-c", CONNECT.format(world, 80)])
        assert status == 0, error
        own = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True)
        places = {*network.addresses(), *(ip for ip in own.stdout.split() if ":" not in ip)}
        assert len(places) > 1
        for place in places:
            assert session.command(["sh", "-c", CONNECT.format(place, served)])[0] != 0, place
        status, _, error = session.command(["sh", "-c", CONNECT.format("169.254.169.254", 80)])
        assert status != 0  # a cloud's word to its machine
        assert name != "debian-13" or "refused" in error  # at once, and by the rule
    finally:
        session.close()


def test_where_no_rule_may_be_put_the_run_says_so(
    hosted: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_as_root", lambda *command, text="": False)
    monkeypatch.setattr(network, "_reaches_us", lambda image: True)
    said: list[str] = []
    hosts.ensure_image(hosts.load(hosted.root)["debian-13"], said.append)
    assert said[-1].startswith("containers and guests reach what this machine serves on all of its")


@root_only
def test_without_the_rule_it_would_be_reached(hosted: Project) -> None:
    image = images.ensure(hosts.load(hosted.root)["debian-13"])["id"]
    network.close(image, str)
    assert not network._reaches_us(image)
    rule = ["iptables", "--delete", "INPUT", "--in-interface", network.BRIDGE]
    subprocess.run([*rule, "--jump", network.CHAIN], capture_output=True, check=True)
    try:
        assert network._reaches_us(image)
    finally:
        network.close(image, str)
