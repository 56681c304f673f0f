"""The page of roll-outs: a row a host, how each stands, and what differs."""

from __future__ import annotations

import re
from pathlib import Path

from corpus import Published, code, mkdocs
from kb.proof import rollouts
from kb.proof.rollouts import HostState, Rollout
from project import runbook

WHICH = "runbooks/go/install"


def noted(root: Path, mode: str, day: int, **hosts: HostState) -> None:
    started = f"202611{day:02}T101112Z"
    rollout = Rollout(WHICH, mode, "hosts.ini", started, {}, hosts, ended=True)
    rollouts.write(rollouts.place(root, WHICH, mode, started), rollout)


def rows(page: str) -> dict[str, list[str]]:
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
        name, *rest = [" ".join(re.sub("<[^>]+>", " ", cell).split()) for cell in cells] or [""]
        found[name] = rest
    return found


def test_how_a_half_failed_roll_out_is_shown(empty: Published) -> None:
    page = empty.root / "site/fleet/index.html"
    empty.write("runbooks/go/area.toml", 'title = "Go"\nsentence = "About it."\nowner = "@x"\n')
    empty.add(f"{WHICH}.ipynb", runbook(code("x", "%%apply x\ntrue")))
    system = {"system": "Debian 13", "Python": "3.13"}
    done = HostState("passed", 1, "changed: a <b>", "build/runs/a/x.ipynb", system)
    noted(empty.root, "plan", 1, a=done, b=done, c=HostState("unreachable", 1, "no route"), d=done)
    bad = HostState("failed", 2, "no room", "build/runs/b/x.ipynb", {**system, "Python": "3.11"})
    noted(empty.root, "apply", 2, a=done, b=bad, c=HostState(), d=HostState())
    empty.write(f"build/fleet/{WHICH}/20261103T000000Z.apply.json", "{")
    built = mkdocs(empty.root)
    assert built.returncode == 0, built.stderr
    html = page.read_text(encoding="utf-8")
    assert rows(html)["a"] == ["passed apply, batch 1, 2 Nov 2026", "changed: a &lt;b&gt;"]
    assert rows(html)["b"] == ["failed apply, batch 2, 2 Nov 2026", "no room"]
    assert rows(html)["c"] == ["not reached plan, batch 1, 1 Nov 2026", "no route"]
    assert rows(html)["d"] == ["passed plan, batch 1, 1 Nov 2026", "changed: a &lt;b&gt;"]
    assert "<strong>stopped by batch 2</strong>" in html
    assert "Untouched by it: c, d." in html
    assert "Python: 3.13 on a, d; 3.11 on b" in html
    assert "system: " not in html
    assert "Without a record: c." in html
    assert "20261103T000000Z.apply.json" in (empty.root / "site/hosts/index.html").read_text()


def test_where_nothing_was_rolled_out(empty: Published) -> None:
    assert mkdocs(empty.root).returncode == 0
    html = (empty.root / "site/fleet/index.html").read_text(encoding="utf-8")
    assert "There is no roll-out on record here." in html
