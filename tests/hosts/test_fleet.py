"""A runbook on eight hosts with sshd, half of them in trouble: what docs/fleet.md says is done here."""

from __future__ import annotations

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
from kb.proof import records, rollouts
from kb.proof.hosts import images
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
            # The programs' place on the third is a small disk of its own; the fifth has one processor.
            small = {"/usr/local/bin": "size=64k,mode=755"} if name == "node3" else {}
            self.nodes[name] = engine.containers.run(
                image.id,
                detach=True,
                init=True,
                hostname=name,
                environment={"KEY": self.key.with_suffix(".pub").read_text()},
                labels={"noble-runbooks": "tests/hosts/test_fleet.py"},
                tmpfs=small,
                cpuset_cpus="0" if name == "node5" else None,
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
    wait_for(lambda: nodes.on("node4", "ls /run/in-the-step") or process.poll() is not None)
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
    part = page[page.index(f"id={WHICH.replace('/', '-')}") :] if False else page
    rows = {
        cells[0]: cells[1:]
        for row in re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)
        if (cells := [" ".join(re.sub("<[^>]+>", "", c).split()) for c in row.split("<td")[1:]])
    }
    print(rows)

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
