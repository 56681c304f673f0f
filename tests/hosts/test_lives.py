"""One `pytest runbooks notebooks --on debian-13` over small notebooks, good ones and bad ones."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from filelock import FileLock
from places import containers, shape
from project import CLAIM, Project, code, notebook, runbook, statuses

USER = """\
from kb import bash, same, settle
user = bash("cat /etc/kb-user 2>/dev/null || id -un")
settle("a1-user", confirmed=same(user, "root"), refuted=~same(user, "root"))
"""
SEED = 3  # it kills a single step somewhere in its middle, three times
ROLLBACK = code("back", "%%rollback Put it back\nkb-restore")
FILE = "%%apply Write a file\n# changes: /etc/kb-file\n"
ONCE = "[ -e /etc/kb-file ] || { echo x >/etc/kb-file; echo changed: the file; }"
# It makes another file first, of which it says nothing, and takes that away in the end.
CUT = FILE + "[ -e /etc/kb-file ] || { touch /etc/kb-half; sleep 3; rm /etc/kb-half; }\n" + ONCE
# Notebook to its cells and metadata, the stages that are asked for, and which of them fail.
BOOKS: dict[str, tuple[Any, list[str]]] = {
    "runbooks/lives/good": (
        runbook(
            code("name", '%%preflight A name\n[ -n "$name" ] || { echo name is empty; exit 1; }'),
            code("write", FILE + "sleep 0.5\n" + ONCE),
            code("verify", "%%verify It is there\ntest -s /etc/kb-file"),
            ROLLBACK,
            parameters='name: str = "x"  # anything',
            broken=[{"cell": "name", "parameters": {"name": ""}, "says": "name is empty"}],
        ),
        ["plan", "apply", "again", "rollback", "killed", "broken"],
    ),
    "runbooks/lives/bad": (
        runbook(
            code("look", '%%preflight x\n[ "$KB_MODE" != plan ] || touch /etc/kb-planned'),
            code("write", FILE + "echo x >>/etc/kb-file\nchmod 711 /opt\ntouch /var/kb-log"),
            ROLLBACK,
            leaves={"/var/kb-*": "logs stay"},
        ),
        ["plan", "again", "rollback"],
    ),
    "runbooks/lives/cut": (
        runbook(code("write", CUT), ROLLBACK),
        ["apply", "again", "rollback", "killed"],
    ),
    "runbooks/lives/tells": (
        runbook(
            code("room", "%%preflight x\n[ -n \"$name\" ] || { echo something else; exit 1; }"),
            code("write", "%%apply x\n# changes: /etc/kb-file\necho changed: nothing"),
            ROLLBACK,
            parameters='name: str = "x"  # anything',
            broken=[{"cell": "room", "parameters": {"name": ""}, "says": "there is no room"}],
        ),
        ["again", "broken"],
    ),
    "runbooks/lives/needs": (runbook(needs=["root", "gpu"]), ["plan", "apply"]),
    "notebooks/lives/settles": (
        notebook(
            code("user", USER),
            parameters='x: str = ""  # nothing',
            flips=[
                {"claim": "a1-user", "setup": "echo me >/etc/kb-user", "becomes": "refuted"},
            ],
        ),
        ["run", "flip"],
    ),
    "notebooks/lives/stubborn": (
        notebook(
            code("user", USER.replace("cat /etc/kb-user 2>/dev/null || ", "")),
            parameters='x: str = ""  # nothing',
            flips=[{"claim": "a1-user", "setup": "true", "becomes": "refuted"}],
        ),
        ["flip"],
    ),
}  # fmt: skip
GOOD = ("runbooks/lives/good", "notebooks/lives/settles")


def items(*books: str) -> list[str]:
    return [f"{book}.ipynb::debian-13::{stage}" for book in books for stage in BOOKS[book][1]]


def run(project: Project, *arguments: str) -> Any:
    """Run pytest; what it printed, its status, and by item what junit says."""
    done = project.run("pytest", "--on", "debian-13", "--junitxml=junit.xml", *arguments)
    cases = {}
    for case in ElementTree.parse(project.root / "junit.xml").iter("testcase"):  # noqa: S314
        book = str(case.get("classname")).removesuffix(".ipynb.debian-13").replace(".", "/")
        outcome = next(iter(case), None)
        cases[f"{book}::{case.get('name')}"] = [
            "passed" if outcome is None else outcome.tag,
            "" if outcome is None else f"{outcome.get('message')}\n{outcome.text}",
        ]
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr, "cases": cases}


@pytest.fixture(scope="module")
def lives(shared: Path) -> Any:
    """The project, and what its first run said; done once for all workers."""
    with FileLock(shared / "lives.lock"):
        root = shared / "lives"
        said = shared / "lives.json"
        if not said.exists():
            project = shape(root, shared / "cache")
            for path, (nb, _) in BOOKS.items():
                project.add(f"{path}.ipynb", nb)
            project.claims(CLAIM)
            said.write_text(json.dumps(run(project, "-n", "2", f"--seed={SEED}", *items(*BOOKS))))
    return Project(root), json.loads(said.read_text())


def record(project: Project, book: str, stage: str) -> Any:
    return project.executed(f"build/runs/debian-13/{book}.{stage}.ipynb")


@pytest.mark.parametrize("item", [item.replace("debian-13::", "") for item in items(*GOOD)])
def test_a_good_life_passes(lives: Any, item: str) -> None:
    project, said = lives
    path, _, stage = item.partition(".ipynb::")
    assert said["cases"][f"{path}::{stage}"][0] == "passed", said["out"]
    kb_run = record(project, path, stage)["metadata"]["kb_run"]
    assert (kb_run["result"], kb_run["error"], kb_run["stage"]) == ("passed", None, stage)
    assert kb_run["host"]["os_id"] == "debian"
    assert kb_run["image"]["id"].startswith("sha256:")
    assert kb_run["inputs"].keys() == {f"{path}.ipynb", f"{path}/ci/cases.toml"}
    if stage in ("plan", "again", "rollback"):
        assert kb_run["state"] == {"unchanged": True, "differences": []}
    if stage == "broken":
        assert kb_run["broken"][0]["passed"]
        assert "name is empty" in kb_run["broken"][0]["message"]
    if stage == "killed":
        assert {kill["then"] for kill in kb_run["killed"]} == {"apply", "rollback"}
        assert all(kill["passed"] and kill["cell"] == "write" for kill in kb_run["killed"])
    traced = {"apply": {"write": [2, 3]}, "again": {"write": [2, 3]}, "rollback": {"back": [1]}}
    assert kb_run.get("ran") == traced.get(stage, kb_run.get("ran"))
    assert ("ran" in kb_run) == (stage in (*traced, "killed", "broken"))


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("runbooks/lives/bad::plan", "mode plan changed this host: /etc/kb-planned: appeared"),
        ("runbooks/lives/bad::again", "a second apply changed: /etc/kb-file: content"),
        ("runbooks/lives/tells::again", "a second apply said `changed: nothing`"),
        (
            "runbooks/lives/bad::rollback",
            "the rollback did not restore: /etc/kb-planned: appeared;"
            " /opt: mode drwxr-xr-x -> drwx--x--x",
        ),
        (
            "runbooks/lives/cut::killed",
            f"s into `write` (--seed {SEED}): this was left: /etc/kb-half: appeared",
        ),
        (
            "runbooks/lives/tells::broken",
            'cell `room` should say `there is no room`, but: preflight "x" stopped: something else',
        ),
        (
            "notebooks/lives/stubborn::flip",
            "claim `a1-user` should become refuted, but: became conf",
        ),
    ],
)
def test_a_bad_life_fails_and_says_why(lives: Any, item: str, says: str) -> None:
    project, said = lives
    outcome, why = said["cases"][item]
    assert outcome == "failure", said["out"]
    path, _, stage = item.partition("::")
    assert f"{path}.ipynb on debian-13, {stage}: " in why
    assert says in why
    assert "Traceback" not in why
    assert "kb-log" not in why
    kb_run = record(project, path, stage)["metadata"]["kb_run"]
    assert kb_run["result"] == "failed"
    assert says in kb_run["error"]["message"]


def test_a_missing_need_is_a_skip_with_its_reason(lives: Any) -> None:
    project, said = lives
    reason = "debian-13 does not offer: gpu"
    for stage in ("plan", "apply"):
        outcome, why = said["cases"][f"runbooks/lives/needs::{stage}"]
        assert outcome == "skipped"
        assert reason in why
    place = project.root / "build/runs/debian-13/runbooks/lives"
    assert json.loads((place / "needs.skipped.json").read_text())["reason"] == reason
    assert not list(place.glob("needs.*.ipynb"))
    row = next(line for line in said["out"].splitlines() if line.startswith("runbooks/lives/needs"))
    assert row.split()[2:4] == ["-", "skipped"]
    assert row.endswith(reason)


def test_the_table_tells_all(lives: Any) -> None:
    _, said = lives
    assert said["status"] == 1
    rows = {line.split()[0]: line for line in said["out"].splitlines() if ".ipynb  " in line}
    assert set(rows) == {f"{book}.ipynb" for book in BOOKS}
    good = "plan:ok apply:ok again:ok rollback:ok killed:ok broken:ok  passed"
    assert good in rows["runbooks/lives/good.ipynb"]
    assert "again:FAILED" in rows["runbooks/lives/bad.ipynb"]
    assert "runbooks/lives/good.ipynb on debian-13, plan: " in said["err"]  # the progress


def test_no_container_is_left(lives: Any) -> None:
    deadline = time.monotonic() + 20  # they are removed in the background
    while left := [found for book in BOOKS for found in containers(f"{book}.ipynb")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.fixture
def copied(lives: Any, tmp_path: Path) -> Project:
    """The project after its first run, for one test to change."""
    project, _ = lives
    root = tmp_path / "project"
    subprocess.run(["cp", "-a", str(project.root), str(root)], check=True)
    return Project(root)


def times(project: Project) -> dict[str, int]:
    runs = (project.root / "build/runs").rglob("*.ipynb")
    return {str(path.relative_to(project.root)): path.stat().st_mtime_ns for path in runs}


def test_a_second_run_executes_nothing(copied: Project) -> None:
    before = times(copied)
    said = run(copied, *items(*GOOD))
    assert said["status"] == 0, said["out"]
    assert "rollback:fresh killed:fresh broken:fresh  fresh" in said["out"]
    assert times(copied) == before


def test_a_failure_is_not_fresh_and_rerun_repeats(copied: Project) -> None:
    before = times(copied)
    said = run(copied, "-x", *items("runbooks/lives/bad", "runbooks/lives/good"))
    assert said["status"] == 1
    assert said["cases"].keys() == {"runbooks/lives/bad::plan"}  # -x stops there
    listed = copied.run("pytest", "--on", "debian-13", "--lf", "--collect-only", "-q", "runbooks")
    assert sorted(
        line.replace("::debian-13", "") for line in listed.stdout.splitlines() if "::" in line
    ) == [
        "runbooks/lives/bad.ipynb::again",
        "runbooks/lives/bad.ipynb::plan",
        "runbooks/lives/bad.ipynb::rollback",
        "runbooks/lives/cut.ipynb::killed",
        "runbooks/lives/tells.ipynb::again",
        "runbooks/lives/tells.ipynb::broken",
    ]
    said = run(copied, "--rerun", "-k", "plan and good", "runbooks", "notebooks")
    assert (said["status"], said["cases"].keys()) == (0, {"runbooks/lives/good::plan"})
    changed = {path for path, when in times(copied).items() if before.get(path) != when}
    assert changed == {
        f"build/runs/debian-13/runbooks/lives/{name}.plan.ipynb" for name in ("bad", "good")
    }


def test_a_recorded_verdict_changed_by_hand(copied: Project) -> None:
    """It is run again, and its record, the table and the status say that it failed."""
    copied.claims(CLAIM.replace("confirmed", "refuted"))
    item = "notebooks/lives/settles.ipynb::debian-13::run"
    said = run(copied, item)
    assert said["status"] == 1
    [[outcome, why]] = said["cases"].values()
    assert outcome == "failure"
    differs = (
        "docs/claims/a1.yml:1: `a1-user` is recorded as refuted on debian-13, but cell `user` of"
        " notebooks/lives/settles.ipynb says confirmed: it saw confirmed if `(status 0) root` is"
        " `root`: yes"
    )
    assert differs in why
    assert "Traceback" not in why
    found = record(copied, "notebooks/lives/settles", "run")["metadata"]["kb_run"]
    assert found["result"] == "failed"
    assert found["error"]["message"].startswith(differs)
    assert "run:FAILED  failed" in said["out"]
    copied.claims(CLAIM)  # the mistake is taken back: the failure was never fresh
    assert run(copied, item)["status"] == 0


def test_a_budget_of_nothing_lets_what_passed_stand(copied: Project) -> None:
    slow = "notebooks/lives/slow.ipynb"
    copied.add(slow, notebook(code("wait", "%%observe x\nsleep 3"), parameters='x: str = ""  # x'))
    assert "run:ok  passed" in run(copied, slow)["out"]
    # It could be begun within two seconds, and would not end within them.
    said = run(copied, "--max-age", "0", "--budget", "2s", slow)
    assert "1 of 1 notebooks stand on earlier runs" in said["out"], said["out"]
    before = times(copied)
    said = run(copied, "--max-age", "0", "--budget", "0m", *items(*GOOD))
    assert said["status"] == 0, said["out"]
    assert "again:stands rollback:stands killed:stands broken:stands" in said["out"]
    assert "2 of 2 notebooks stand on earlier runs, the oldest of 20" in said["out"]
    assert times(copied) == before
    nb = copied.executed("notebooks/lives/settles.ipynb")
    nb["cells"][-1]["source"] = "".join(nb["cells"][-1]["source"]) + "\n"
    (copied.root / "notebooks/lives/settles.ipynb").write_text(json.dumps(nb))
    said = run(copied, "--budget", "0m", *items("notebooks/lives/settles"))
    assert "run:ok flip:ok  passed" in said["out"]  # what has changed is run, whatever it takes


def test_what_takes_minutes_to_make_is_made_first_where_a_budget_has_the_time(
    copied: Project,
) -> None:
    book = "notebooks/lives/wants.ipynb"
    making = "making ci/fixtures/slow, which takes about 20 min"
    made = copied.root / "build/fixtures/slow"
    for shared in ("ci/fixtures", "ci/fixtures.toml"):
        (copied.root / shared).unlink()  # the repository's own
    copied.write("ci/fixtures/slow", '#!/bin/sh\n[ -e "$1" ] || sleep 4\nmkdir -p "$1"\n')
    (copied.root / "ci/fixtures/slow").chmod(0o755)
    copied.write("ci/fixtures.toml", "slow = 1200\n")
    look = code("look", "%%observe x\nls /srv/fixtures/slow")
    nothing = 'x: str = ""  # nothing'
    copied.add(book, notebook(look, parameters=nothing, fixtures=["slow"]))
    said = run(copied, "--budget", "1m", book)  # it has no record: it must run
    assert "run:ok  passed" in said["out"], said["out"]
    assert said["err"].index(making) < said["err"].index("starting the host")
    made.rmdir()  # a run without a budget makes it as it comes by, and does not count that
    begun = time.monotonic()
    assert "run:ok  passed" in run(copied, "--rerun", book)["out"]
    assert made.exists()
    took = record(copied, "notebooks/lives/wants", "run")["metadata"]["kb_run"]["took"]
    assert took < time.monotonic() - begun - 4

    made.rmdir()
    said = run(copied, "--max-age", "0", "--budget", "20m", book)
    assert "run:stands" in said["out"]
    assert making not in said["err"]
    assert not made.exists()
    said = run(copied, "--max-age", "0", "--budget", "41m", book)
    assert making in said["err"]
    assert "run:ok  passed" in said["out"]
    # What was made for it is used before the time is up, though another run is older.
    listed = copied.run(
        "pytest", "--on", "debian-13", "--max-age=0", "--collect-only", "-q", "notebooks"
    )
    order = listed.stdout.split()
    assert order.index(f"{book}::debian-13::run") < order.index(
        "notebooks/lives/settles.ipynb::debian-13::run"
    )


def test_shards_run_everything_once(copied: Project) -> None:
    ran: list[str] = []
    for shard in ("1/2", "2/2"):
        said = run(copied, "--shard", shard, *items(*GOOD))
        assert said["status"] in (0, 5), said["out"]  # 5: all of them are in the other shard
        ran += said["cases"]
    assert sorted(ran) == sorted(run(copied, *items(*GOOD))["cases"])


def test_the_world_changed_under_a_true_verdict(copied: Project) -> None:
    nb = copied.executed("notebooks/lives/settles.ipynb")
    source = "".join(nb["cells"][-1]["source"]).replace("id -un", "echo somebody")
    nb["cells"][-1]["source"] = source
    (copied.root / "notebooks/lives/settles.ipynb").write_text(json.dumps(nb))
    said = run(copied, "notebooks/lives/settles.ipynb::debian-13::run")
    assert said["status"] == 1
    [[_, why]] = said["cases"].values()
    assert "`a1-user` is recorded as confirmed on debian-13, but cell `user`" in why
    assert "says refuted: it saw confirmed if `(status 0) somebody` is `root`: no" in why
    record_ = record(copied, "notebooks/lives/settles", "run")
    assert set(statuses(record_).values()) == {"passed"}


def test_a_claim_that_nothing_cites_stops_it_at_once(copied: Project) -> None:
    copied.claims(CLAIM + CLAIM.replace("a1-user", "a1-lost"))
    done = copied.run("pytest", "--on", "debian-13", "runbooks", "notebooks")
    assert done.returncode == 4
    assert "ERROR: docs/claims/a1.yml:8: no notebook settles `a1-lost`: add settle(" in done.stderr
    assert "Traceback" not in done.stderr
