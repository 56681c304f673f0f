"""ci/hosts.toml: each mistake is one sentence with its place."""

from __future__ import annotations

import pytest
from golden import Told
from kb.proof import catalog, hosts
from kb.proof.hosts import HostError
from project import ROOT, Project, runbook

GOOD = '[box]\nkind = "docker"\nbase = "debian:13"\noffers = ["root"]\n'


def write(project: Project, text: str) -> None:
    (project.root / "ci").mkdir(exist_ok=True)
    (project.root / "ci/hosts.toml").write_text(text)


def test_the_repositorys_own() -> None:
    found = hosts.load(ROOT)
    assert {"debian-13", "ubuntu-24.04", "ubuntu-24.04-gpu", "local"} <= found.keys()
    assert "gpu" in found["ubuntu-24.04-gpu"].offers


MISTAKES = {
    "not TOML": "[box\n",
    "a number for a table": "box = 1\n",
    "an unknown kind": GOOD.replace("docker", "cloud"),
    "no kind": "[box]\n",
    "a mistyped key": GOOD.replace("offers", "ofers"),
    "a mistyped offer": GOOD.replace("root", "rot"),
    "no base": GOOD.replace('base = "debian:13"\n', ""),
    "memory in words": GOOD + 'memory = "lots"\n',
    "memory without a unit": GOOD + "memory = 8\n",
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake(project: Project, what: str, told: Told) -> None:
    write(project, MISTAKES[what])
    with pytest.raises(HostError) as caught:
        hosts.load(project.root)
    told(caught.value)


@pytest.mark.parametrize("kind", hosts.BACKENDS)
def test_a_kind_has_sessions_and_what_is_told_of_it(kind: str) -> None:
    backend = hosts.BACKENDS[kind]
    session = backend.load()
    for name in ("kernel", "command", "snapshot", "why_dead", "close", "ensure_image"):
        assert callable(getattr(session, name)), name
    assert backend.label
    dockerfile = (ROOT / "ci/images/Dockerfile").read_text()
    assert not backend.target or f" AS {backend.target}\n" in dockerfile
    assert bool(backend.target) is not backend.this_machine


def test_a_notebook_is_left_to_a_host_that_costs_less(project: Project) -> None:
    kinds = "".join(
        f'[{kind}]\nkind = "{kind}"\nbase = "x"\n' for kind in ("docker", "vm", "local")
    )
    write(project, kinds)
    box, machine, here = hosts.load(project.root).values()
    assert hosts.cheaper(machine, [box])
    assert hosts.cheaper(machine, [machine, here])
    assert not hosts.cheaper(machine, [machine])
    assert not hosts.cheaper(box, [machine, here])


def test_no_file(project: Project, told: Told) -> None:
    with pytest.raises(HostError) as caught:
        hosts.load(project.root)
    told(caught.value)


def test_an_unknown_host_and_the_nearest(project: Project, told: Told) -> None:
    write(project, GOOD)
    with pytest.raises(HostError) as caught:
        hosts.pick(hosts.load(project.root), "boxx")
    told(caught.value)


def test_what_a_host_lacks(project: Project, told: Told) -> None:
    write(project, GOOD)
    project.add("runbooks/area/name.ipynb", runbook(needs=["root", "gpu", "systemd"]))
    [notebook] = catalog.find(project.root)
    host = hosts.load(project.root)["box"]
    told(host.lacks(notebook))
    project.add("runbooks/area/name.ipynb", runbook(needs=["root"]))
    [notebook] = catalog.find(project.root)
    assert host.lacks(notebook) is None
