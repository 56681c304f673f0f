"""The network of hosts: the world, but nothing that this machine serves.

What a machine serves on all of its addresses is meant for its neighbours, if for anybody. A
notebook would be one of them: through the engine's bridge it reaches the machine itself.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from docker.errors import APIError, ContainerError, NotFound
from docker.models.networks import Network

from kb.proof.hosts import HostError, images

NAME = "noble-runbooks"
BRIDGE = "kb-hosts"
CHAIN = "KB-HOSTS"
# What leads there: the way to this machine, and to what a cloud tells its machines in secret.
JUMPS = (("INPUT",), ("DOCKER-USER", "--destination", "169.254.0.0/16"))
RESOLVERS = Path("/etc/resolv.conf")


@functools.cache
def ensure() -> str:
    """The name of the engine's network for hosts, made if there is none. Raises HostError."""
    _network()
    return NAME


def close(image: str, tell: Callable[[str], object]) -> None:
    """Keep hosts from what this machine serves; where that is not allowed, say so.

    ``image`` is one whose containers can try.
    """
    ensure()
    if not _closed() and _reaches_us(image):
        tell(
            "containers and guests reach what this machine serves on all of its addresses: run this"
            f" as root, or with sudo that asks for no password, which puts a rule on {BRIDGE}"
        )


def _network() -> Network:
    networks = images.engine().networks
    try:
        return networks.get(NAME)
    except NotFound:
        pass
    try:
        return networks.create(
            NAME,
            driver="bridge",
            check_duplicate=True,
            enable_ipv6=False,  # the rules are for the older protocol
            options={
                "com.docker.network.bridge.name": BRIDGE,
                "com.docker.network.bridge.enable_icc": "false",  # nor do hosts reach each other
            },
        )
    except APIError as error:
        try:
            return networks.get(NAME)  # another process has just made it
        except NotFound:
            raise HostError(
                f"the network {NAME} could not be made: {error.explanation or error}"
            ) from None


def _closed() -> bool:
    """Whether the rules are there, put there if this user may."""
    rules = [f"-A {CHAIN} {needed} -j ACCEPT" for needed in sorted(set(_needed()))]
    chain = ["*filter", f":{CHAIN} - [0:0]", *rules, f"-A {CHAIN} -j REJECT", "COMMIT", ""]
    if not _as_root("iptables-restore", "--noflush", "--wait", text="\n".join(chain)):
        return False
    iptables = ("iptables", "--wait")
    jumps = [(*jump, "--in-interface", BRIDGE, "--jump", CHAIN) for jump in JUMPS]
    return all(
        _as_root(*iptables, "--check", *jump) or _as_root(*iptables, "--insert", *jump)
        for jump in jumps
    )


def _needed() -> Iterator[str]:
    """What has to be reached even if this machine itself serves it: proxies and name servers."""
    for proxy in images.proxies().values():
        parts = urllib.parse.urlsplit(proxy)
        if parts.hostname and parts.port:
            yield from (f"-d {ip} -p tcp --dport {parts.port}" for ip in _addresses(parts.hostname))
    for line in RESOLVERS.read_text().splitlines() if RESOLVERS.exists() else []:
        match line.split():
            case ["nameserver", name, *_]:
                for ip in _addresses(name):
                    yield from (f"-d {ip} -p {kind} --dport 53" for kind in ("udp", "tcp"))


def _addresses(name: str) -> set[str]:
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET)
    except OSError:
        return set()
    return {str(address[0]) for *_, address in found}


def _as_root(*command: str, text: str = "") -> bool:
    # As on Debian: a user's PATH need not lead there.
    tool = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    if tool is None or (sudo and shutil.which("sudo") is None):
        return False
    done = subprocess.run(
        [*sudo, tool, *command[1:]], input=text, text=True, capture_output=True, check=False
    )
    return done.returncode == 0


def addresses() -> set[str]:
    """Where a host finds this machine: at the end of its bridge, and where the world does."""
    [config, *_] = _network().attrs["IPAM"]["Config"]
    found = {str(config["Gateway"])}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it picks the way
            found.add(str(probe.getsockname()[0]))
        except OSError:
            pass  # there is no way out
    return found


def _reaches_us(image: str) -> bool:
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        tries = " || ".join(f"timeout 2 bash -c '</dev/tcp/{ip}/{port}'" for ip in addresses())
        try:
            images.engine().containers.run(
                image, ["bash", "-c", tries], network=NAME, remove=True, stderr=True
            )
        except ContainerError:
            return False
    return True
