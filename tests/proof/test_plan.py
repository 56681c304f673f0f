"""What is repeated when, and what stands on its record."""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from golden import Told
from kb.proof import catalog, claims, plan, records
from kb.proof.hosts import Host
from kb.proof.plan import PlanError
from kb.runtime.record import RUN
from project import CLAIM, Project, code, commit_all, git, notebook

BOOK = "notebooks/a/x.ipynb"
WEEK = datetime.timedelta(days=7)


def book(project: Project, source: str = "1", path: str = BOOK) -> catalog.Notebook:
    cell = code("user", f'settle("a1-user", confirmed=same({source}, 1))')
    project.add(path, notebook(cell))
    return catalog.read(project.root, Path(path))


def decided(project: Project, **more: Any) -> plan.Decision:
    options: dict[str, Any] = {"limit": WEEK, "rerun": False, "changed_since": None}
    made = plan.make(
        [catalog.read(project.root, Path(BOOK))],
        [host(project)],
        claims.load(project.root),
        **{**options, "sampled": False, **more},
    )
    return made[f"{BOOK} on box"]


def host(project: Project) -> Host:
    return Host(project.root, "box", "docker", "A box", (), "base")


def run(project: Project, age: float = 0, **more: Any) -> None:
    """A record of a run, ``age`` days old."""
    found = catalog.read(project.root, Path(BOOK))
    known = {claim.id: claim for claim in claims.load(project.root)}
    started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age)
    content = json.loads(json.dumps(found.content))
    content["metadata"][RUN] = {
        "schema": 2, "notebook": BOOK, "stage": "run", "result": "passed", "error": None,
        "cells": [], "parameters": {}, "duration": 1.0, "took": 33.0, "host": {"name": "box"},
        "started": started.strftime("%Y-%m-%dT%H:%M:%SZ"), "inputs": records.inputs(found),
        "key": plan.key(found, "run", host(project), known),
        "held_to": plan.held_to(found, known, host(project)), **more,
    }  # fmt: skip
    records.store(found, "box", "run", content)


@pytest.fixture
def ran(project: Project) -> Project:
    project.claims(CLAIM)
    book(project)
    commit_all(project.root)
    run(project)
    return project


def test_nothing_is_due_after_a_run(ran: Project) -> None:
    found = decided(ran)
    assert (found.reason, found.seconds, found.must) == ("fresh", 33.0, False)


@pytest.mark.parametrize(
    ("change", "reason", "must"),
    [
        (lambda p: next((p.root / "build/runs").rglob("*.ipynb")).unlink(), "never run", True),
        (lambda p: book(p, "2"), "changed", True),
        (lambda p: p.claims(CLAIM.replace("confirmed", "refuted")), "changed", True),
        (lambda p: p.claims(CLAIM.replace("executed", "inspected")), "changed", True),
        (lambda p: run(p, result="failed"), "failed", False),
        (lambda p: run(p, key="another"), "stale", False),
        (lambda p: run(p, age=8), "old", False),
        (lambda p: p.claims(CLAIM.replace("It is.", "It is so.")), "fresh", False),
    ],
)
def test_why_it_is_repeated(change: Any, reason: str, must: bool, ran: Project) -> None:
    change(ran)
    found = decided(ran)
    assert (found.reason, found.must) == (reason, must)


def test_everything_may_be_asked_for(ran: Project) -> None:
    assert decided(ran, rerun=True).reason == "asked for"


def test_a_committed_record_does_not_stand_in_for_what_changed(ran: Project) -> None:
    assert decided(ran, changed_since="HEAD").reason == "fresh"
    book(ran, "2")
    assert decided(ran, changed_since="HEAD").reason == "changed"
    run(ran)  # its author has run it, too; CI does it again
    assert decided(ran).reason == "fresh"
    found = decided(ran, changed_since="HEAD")
    assert (found.reason, found.must) == ("differs", False)
    git(ran.root, "commit", "--all", "-m", "y")
    assert decided(ran, changed_since="HEAD").reason == "fresh"
    ran.write("notebooks/a/x/new.sh", "true\n")
    run(ran)
    assert decided(ran, changed_since="HEAD").reason == "differs"


def test_a_change_of_sources_that_a_fixture_links_to(ran: Project) -> None:
    ran.add(BOOK, notebook(code("user", "1"), fixtures=["server"]))
    ran.write("ci/fixtures/server", "#!/bin/sh\n")
    ran.write("runbooks/a/server/main.go", "package main\n")
    (ran.root / "ci/fixtures/server.src").symlink_to("../../runbooks/a/server")
    commit_all(ran.root)
    run(ran)
    assert decided(ran, changed_since="HEAD").reason == "fresh"
    ran.write("runbooks/a/server/main.go", "package main // another\n")
    run(ran)
    assert decided(ran, changed_since="HEAD").reason == "differs"


def test_an_edit_of_prose_is_no_change(ran: Project) -> None:
    nb = json.loads((ran.root / BOOK).read_text())
    nb["cells"][0]["source"] = ["# A better title\n", "\n", "And text."]
    (ran.root / BOOK).write_text(json.dumps(nb))
    assert decided(ran, changed_since="HEAD").reason == "fresh"


def test_a_revision_that_is_not_there(ran: Project, told: Told) -> None:
    with told.raises(PlanError):
        decided(ran, changed_since="v9")


def test_a_clone_without_history(ran: Project) -> None:
    assert plan.yesterday(ran.root) is None  # it is as old as this test
    long_ago = {"GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
    git(ran.root, "commit", "--amend", "--no-edit", **long_ago)
    assert plan.yesterday(ran.root) is not None
    subprocess.run(["rm", "-r", str(ran.root / ".git")], check=True)
    assert plan.yesterday(ran.root) is None
    assert decided(ran).reason == "fresh"  # records alone tell


def test_a_tenth_of_what_is_fresh_is_drawn(ran: Project) -> None:
    hosts = [Host(ran.root, f"box{number}", "docker", "A box", (), "base") for number in range(20)]
    found = catalog.read(ran.root, Path(BOOK))
    record = records.read(records.place(found, "box", "run"))
    for one in hosts:
        content = json.loads(json.dumps(record.content))
        content["metadata"][RUN]["host"]["name"] = one.name
        records.store(found, one.name, "run", content)
    options: dict[str, Any] = {"limit": WEEK, "rerun": False, "changed_since": None}
    made = plan.make([found], hosts, claims.load(ran.root), **options, sampled=True)
    reasons = [decision.reason for decision in made.values()]
    assert (reasons.count("sample"), reasons.count("fresh")) == (2, 18)


def test_what_goes_first() -> None:
    made = [
        plan.Decision("sample", 900, 10),
        plan.Decision("stale", 5, 10),
        plan.Decision("stale", 5, 99),
        plan.Decision("failed", 5, 1),
        plan.Decision("differs", 5, 2),
        plan.Decision("differs", 7, 1),
        plan.Decision("changed", 5),
        plan.Decision("never run", 60),
    ]
    order = [(d.reason, d.age) for d in sorted(made, key=plan.urgency)]
    assert order == [
        ("never run", 0.0), ("changed", 0.0), ("differs", 1), ("differs", 2), ("failed", 1),
        ("stale", 99), ("stale", 10), ("sample", 10),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"), [("40m", 2400), ("90s", 90), ("1.5h", 5400), ("0m", 0)]
)
def test_a_budget(text: str, seconds: float) -> None:
    assert plan.budget(text) == seconds


@pytest.mark.parametrize("text", ["", "40", "-1m", "soon", "40 m", "m", "1e3s"])
def test_a_budget_of_nonsense(text: str, told: Told) -> None:
    with told.raises(PlanError):
        plan.budget(text)


@pytest.mark.parametrize(("text", "days"), [("7", 7), ("0", 0), ("0.5", 0.5), (" 14 ", 14)])
def test_an_age(text: str, days: float) -> None:
    assert plan.age(text) == datetime.timedelta(days=days)


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e9", "9999999999", "a week"])
def test_an_age_of_nonsense(text: str, told: Told) -> None:
    with told.raises(PlanError):
        plan.age(text)


def test_no_revision_is_not_any(ran: Project, told: Told) -> None:
    with told.raises(PlanError):
        decided(ran, changed_since="")


def test_shards_share_the_seconds_and_run_everything_once() -> None:
    took = [300, 10, 200, 90, 200, 5, 5, 60]
    lives = {f"{n} on box": plan.Decision("asked for", s) for n, s in enumerate(took)}
    shares = [plan.shard(lives, f"{number}/3") for number in (1, 2, 3)]
    assert sorted(life for share in shares for life in share) == sorted(lives)
    assert [sum(lives[life].seconds for life in share) for share in shares] == [300, 290, 280]
    # A machine that has run some of its share comes to the same shares.
    later = {life: plan.Decision("fresh", decision.seconds) for life, decision in lives.items()}
    assert [plan.shard(later, f"{number}/3") for number in (1, 2, 3)] == shares
    assert plan.shard(lives, "1/1") == set(lives)


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "1/0", "a/b", "1/2/3"])
def test_a_shard_of_nonsense(text: str, told: Told) -> None:
    with told.raises(PlanError):
        plan.shard({}, text)


def test_the_plan_travels_to_workers(ran: Project) -> None:
    made = {"x on y": decided(ran)}
    assert plan.from_json(json.loads(json.dumps(plan.as_json(made)))) == made
