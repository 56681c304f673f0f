"""A runbook on eight hosts with sshd, half of them in trouble: docs/fleet.md, executed."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from golden import Told
from kb.proof import fleet, records, rollouts
from kb.proof.fleet import FleetError
from kb.proof.hosts import images
from kb.proof.inventory import InventoryError
from kb.runtime.parameters import ParameterError
from project import ROOT, Project, wait_for

PAGE = (ROOT / "docs/fleet.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```(\w+)\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [textwrap.dedent(text).strip() for kind, text in BLOCKS if kind == "bash"]
SHOWN = [text.strip() for kind, text in BLOCKS if kind == "text"]
NAMES = [f"node{number}" for number in range(1, 9)]
GONE = "ansible_host=127.0.0.1 ansible_port=1"  # nobody serves there
WHICH = "runbooks/training/checkpoint"
KEEP = "/usr/local/bin/keep"


class Fleet:
    """Seven containers with sshd, and the inventory that names them and one more."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = root / "key"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True
        )
        engine = images.engine()
        image, _ = engine.images.build(
            path=str(ROOT / "tests/hosts/sshd"),
            tag="noble-runbooks/sshd",
            buildargs=images.proxies(),
            rm=True,
        )
        self.nodes: dict[str, Any] = {}
        for name in NAMES[:-1]:
            # One has a small disk where programs are put.
            small = {"/usr/local/bin": "size=64k,mode=755"} if name == "node3" else {}
            self.nodes[name] = engine.containers.run(
                image.id,
                detach=True,
                init=True,
                hostname=name,
                environment={"KEY": self.key.with_suffix(".pub").read_text()},
                labels={"noble-runbooks": "tests/hosts/test_fleet.py"},
                tmpfs=small,
                mem_limit="1g",
            )
        self.write_inventory()

    def write_inventory(self) -> None:
        """Say where they are, with the keys by which ssh knows them."""
        known, lines = "", []
        for name, node in self.nodes.items():
            wait_for(lambda name=name: self.on(name, "pgrep -x sshd"))  # type: ignore[misc]
            node.reload()
            address = node.attrs["NetworkSettings"]["IPAddress"]
            known += f"{address} {self.on(name, 'cat /etc/ssh/ssh_host_ed25519_key.pub')}"
            lines.append(f"{name} ansible_host={address}")
        (self.root / "known").write_text(known)
        lines += [f"node8 {GONE}", "[all:vars]", "ansible_user=root"]
        lines.append(f"ansible_ssh_private_key_file={self.key}")
        lines.append(f"ansible_ssh_common_args=-o UserKnownHostsFile={self.root}/known")
        (self.root / "hosts.ini").write_text("\n".join(lines) + "\n")

    def on(self, name: str, command: str) -> str:
        """What a command prints on a node; "" if it fails."""
        status, printed = self.nodes[name].exec_run(["sh", "-c", command])
        return str(printed.decode()) if status == 0 else ""

    def remove(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.remove(force=True), self.nodes.values()))


@pytest.fixture(scope="session")
def ansible(shared: Path) -> Path:
    """Ansible as `make fleet` brings it."""
    lines = (". ci/setup/lib.sh", ". ci/setup/python.sh", ". ci/setup/ansible.sh")
    script = "; ".join((*lines, "locked ansible ensure_ansible"))
    subprocess.run(["bash", "-c", script], cwd=ROOT, check=True, capture_output=True)
    return ROOT / "build/ansible"


@pytest.fixture
def checkout(hosted: Project, ansible: Path) -> Project:
    """What of this repository an operator needs, and the site."""
    root = hosted.root
    for name in ("Makefile", "setup.py", "mkdocs.yml"):
        shutil.copy(ROOT / name, root)
    left_out = shutil.ignore_patterns("claims", "evidence", "assets")
    shutil.copytree(ROOT / "docs", root / "docs", ignore=left_out)
    shutil.copytree(ROOT / "runbooks/training", root / "runbooks/training")
    (root / ".venv").symlink_to(sys.prefix)
    (root / "build/ansible").symlink_to(ansible)
    return hosted


@pytest.fixture
def nodes(checkout: Project) -> Iterator[Fleet]:
    made = Fleet.__new__(Fleet)
    made.nodes = {}
    try:
        made.__init__(checkout.root)  # type: ignore[misc]
        yield made
    finally:
        made.remove()


def make(project: Project, command: str) -> subprocess.Popen[str]:
    """Start what an operator types, but for what `make` would first bring to this machine."""
    return project.start("/bin/bash", "-c", command.replace("make fleet ", "make fleet-here "))


def told_by(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its status, and its last lines: what became of each host."""
    printed, errors = process.communicate(timeout=600)
    at = printed.find(f"\n{WHICH}, mode ")
    assert at > 0, printed + errors
    lines = printed[at:].replace("127.0.0.1 port 1:", "192.0.2.8 port 22:")
    return process.returncode, lines.strip()


def states(project: Project) -> dict[str, rollouts.HostState]:
    """What is noted of each host in the newest roll-out."""
    history, rejected = rollouts.load(project.root)
    assert not rejected
    return dict(history[WHICH][0].hosts)


def test_a_roll_out_that_stops_half_way_and_is_taken_back(checkout: Project, nodes: Fleet) -> None:
    plan, apply, rollback = COMMANDS
    other = "PRETTY_NAME='Some other system'"
    nodes.on("node5", f'echo "{other}" >>/etc/os-release')
    # A record that breaks off.
    cut = '#!/bin/sh\n/usr/bin/python3 "$@"\ncase $1 in *.pyz) truncate -s 3000 "$2" ;; esac\n'
    nodes.on("node7", f"printf %s '{cut}' >/usr/local/sbin/python3; chmod +x /usr/local/sbin/*")
    status, last = told_by(make(checkout, plan))
    assert last == SHOWN[0]
    assert status != 0
    assert not any(nodes.on(name, f"ls {KEEP}") for name in nodes.nodes)
    found = records.load(checkout.root)
    assert not found.rejected
    assert {host.partition("/")[0] for _, host in found.newest} == {*NAMES[:6]}

    # node2 has it already; node3 has no room; node4 waits in the middle of the step.
    here = "cd ~/.noble-runbooks/training-checkpoint && python3 checkpoint.pyz by-hand.ipynb"
    given = "-r checkpoint /srv/job/last.safetensors -p kills 0 -p mode apply"
    assert nodes.nodes["node2"].exec_run(["sh", "-c", f"{here} {given}"])[0] == 0
    nodes.on("node3", "cat /dev/zero >/usr/local/bin/full")
    wait = "#!/bin/sh\ntouch /run/in-the-step\nexec sleep 600\n"
    nodes.on("node4", f"printf '{wait}' >/usr/local/sbin/sync; chmod +x /usr/local/sbin/sync")
    process = make(checkout, apply)
    wait_for(lambda: nodes.on("node4", "ls /run/in-the-step") or process.poll() is not None, 600)
    assert nodes.on("node4", f"ls {KEEP}.new")
    nodes.nodes["node4"].kill()
    status, last = told_by(process)
    assert last == SHOWN[1]
    assert status != 0
    assert nodes.on("node1", f"{KEEP} newest /srv/job/kept")
    for name in ("node5", "node6", "node7"):
        assert not nodes.on(name, f"ls {KEEP}; ls /var/lib/noble-runbooks")

    built = checkout.run("mkdocs", "build", "--strict", "--quiet", NO_MKDOCS_2_WARNING="1")
    assert built.returncode == 0, built.stderr
    page = (checkout.root / "site/fleet/index.html").read_text()
    shown = [
        re.sub("<[^>]+>", " ", row).split()
        for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    ]
    assert {row[0]: row[1] for row in shown if row[0] in NAMES} == {
        "node1": "passed",
        "node2": "passed",
        "node3": "failed",
        "node4": "lost",
        **dict.fromkeys(("node5", "node6"), "passed"),  # the plan: the apply did not come to them
        "node7": "failed",
        "node8": "not",
    }
    assert "; Some other system on node5</li>" in page
    assert "Without a record: node7, node8." in page  # of node4 there is the plan's

    nodes.nodes["node4"].start()
    nodes.write_inventory()
    nodes.on("node4", "rm /usr/local/sbin/sync")
    status, last = told_by(make(checkout, rollback))
    assert last == SHOWN[2]
    assert status == 0
    assert nodes.on("node3", "ls /usr/local/bin") == "full\n"
    assert not nodes.on("node4", "ls -A /usr/local/bin")
    assert {name: state.result for name, state in states(checkout).items()} == {
        "node3": "passed",
        "node4": "passed",
    }


# By what is wrong: the inventory, and what else is asked for.
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "no inventory": ("", {"inventory": ""}),
    "an inventory that is not there": ("", {"inventory": "none.ini"}),
    "an inventory that is none": ("[a\nb", {}),
    "an empty inventory": ("[a]\n", {}),
    "a host twice": ("a\nb\na ansible_port=2\n", {}),
    "a host twice in YAML": ("all:\n  hosts:\n    a:\n    a:\n", {"inventory": "hosts.yml"}),
    "a machine twice": ("a ansible_host=192.0.2.1\nb ansible_host=192.0.2.1\n", {}),
    "a host of CI's": ("debian-13\n", {}),
    "a host with an odd name": ("a:b@c\n", {}),
    "no ssh key": ("a ansible_ssh_private_key_file=/none/key\n", {}),
    "an unknown host": ("a\n", {"hosts": "b"}),
    "no host that failed": ("a\n", {"hosts": "failed"}),
    "an unknown runbook": ("a\n", {"runbook": "runbooks/training/checkpiont"}),
    "an unknown mode": ("a\n", {"mode": "aply"}),
    "an unknown parameter": ("a\n", {"parameters": [["checkpiont", "x"]]}),
    "a parameter of another type": ("a\n", {"parameters": [["kills", "many"]]}),
    "batches of nothing": ("a\n", {"serial": "1,0"}),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_refused_before_anything_begins(
    checkout: Project, what: str, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory, asked = WRONG[what]
    options: dict[str, Any] = {"inventory": "hosts.ini", "runbook": WHICH, "mode": "plan"}
    options |= {"parameters": [], "hosts": None, "serial": None, "max_fail": None, **asked}
    checkout.write(options["inventory"] if inventory else "unused", inventory)
    monkeypatch.chdir(checkout.root)
    with told.raises((FleetError, InventoryError, ParameterError)):
        fleet.prepare(checkout.root, argparse.Namespace(**options))
    assert not list(checkout.root.glob("build/fleet/**/*.json"))
