"""`.ci/run`: which notebooks it asks for, and in what time."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = '#!/bin/sh\necho "made $*"\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with `.ci/run`, a `make` that tells what it was asked for, and one commit."""
    there = tmp_path / "clone"
    (there / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", there / ".ci/run")
    (tmp_path / "make").write_text(MAKE)
    (tmp_path / "make").chmod(0o755)
    git(there, "init", "--quiet")
    git(there, "add", ".")
    git(there, "commit", "--quiet", "-m", "x")
    return there


def git(there: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(there), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def asked_for(clone: Path, passed: str, **environment: str) -> tuple[str, int]:
    """The revision that notebooks are compared with, and the minutes that they have."""
    (clone / ".ci/passed").write_text(f"# Said here.\n{passed}\n")
    env = {**os.environ, "PATH": f"{clone.parent}:{os.environ['PATH']}", **environment}
    ran = subprocess.run(
        [clone / ".ci/run"], env=env, check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"made site SERVE=0 ARGS=--changed-since (\S+) --budget (\d+)m", ran)
    assert found, ran
    return found[1], int(found[2])


def test_what_ci_has_seen_pass_need_not_pass_again(clone: Path) -> None:
    head = git(clone, "rev-parse", "HEAD")
    assert asked_for(clone, f"{head} 2026-11-28 60 s")[0] == head
    assert asked_for(clone, head)[0] == head
    assert asked_for(clone, head, CHANGED_SINCE="v1")[0] == "v1"


@pytest.mark.parametrize(("gone", "left"), [(0, 50), (1500, 25), (5000, 10)])
def test_notebooks_have_what_the_tests_left(clone: Path, gone: int, left: int) -> None:
    # Bash counts on from what the environment says.
    assert asked_for(clone, git(clone, "rev-parse", "HEAD"), SECONDS=str(gone))[1] == left


FAILED = "FAILED notebooks/training/etcd.ipynb::debian-13::run - training/etcd.ipynb on debian-13"
DIFFERS = f"{FAILED}, run: docs/claims/a1.yml:1: `a1-x` is recorded as refuted on debian-13, but"


def ran(clone: Path, part: str, said: str, again: int) -> subprocess.CompletedProcess[str]:
    """`.ci/run`, where `make part` says this and fails, and a second run ends with a status."""
    (clone.parent / "said").write_text(f"{said}\n")
    (clone.parent / "make").write_text(
        f"""#!/bin/sh
        echo "made $*"
        case $* in
            *-k*|*--last-failed*) exit {again} ;;
            {part}*) cat {clone.parent}/said; exit 1 ;;
        esac
        """
    )
    env = {**os.environ, "PATH": f"{clone.parent}:{os.environ['PATH']}"}
    return subprocess.run([clone / ".ci/run"], env=env, check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("said", "again", "status", "runs"),
    [
        (f"{FAILED}, run: no leader", 0, 0, 2),
        (f"{FAILED}, run: no leader", 1, 1, 2),
        (DIFFERS, 0, 1, 1),  # the world has changed, or the verdict hangs on chance
        (f"{FAILED}, run: no leader\nERROR notebooks/x.ipynb", 0, 1, 1),
        ("make: *** no rule", 0, 1, 1),
    ],
)
def test_a_notebook_that_failed_has_a_second_run(
    clone: Path, said: str, again: int, status: int, runs: int
) -> None:
    done = ran(clone, "site", said, again)
    assert (done.returncode, done.stdout.count("made site")) == (status, runs), done.stdout
    assert ("ARGS=--budget 10m -k 'etcd'" in done.stdout) == (runs == 2)
    unsteady = "UNSTEADY, failed once and passed then: etcd." in done.stdout
    assert unsteady == (status == 0)


def of_tests(number: int) -> str:
    return "\n".join(f"FAILED tests/site/test_x.py::test_{n} - slow" for n in range(number))


@pytest.mark.parametrize(
    ("said", "again", "status", "runs"),
    [
        (of_tests(2), 0, 0, 2),
        (of_tests(2), 1, 1, 2),
        (of_tests(6), 0, 1, 1),  # that is no neighbour
        (f"{of_tests(1)}\nERROR tests/site/test_y.py", 0, 1, 1),
        ("make: *** no rule", 0, 1, 1),
    ],
)
def test_tests_that_failed_have_a_second_run(
    clone: Path, said: str, again: int, status: int, runs: int
) -> None:
    done = ran(clone, "test", said, again)
    assert (done.returncode, done.stdout.count("made test")) == (status, runs), done.stdout
    again_asked = "made test ARGS=--last-failed --last-failed-no-failures none" in done.stdout
    assert again_asked == (runs == 2)
    unsteady = "UNSTEADY, failed once and passed then: test_0, test_1." in done.stdout
    assert unsteady == (status == 0)
    assert "made site" in done.stdout


def test_a_history_without_the_commit_that_passed(clone: Path) -> None:
    head = git(clone, "rev-parse", "HEAD")
    git(clone, "commit", "--quiet", "--amend", "-m", "another")
    assert asked_for(clone, head)[0] == "yesterday"
    assert asked_for(clone, "0" * 40)[0] == "yesterday"
    shutil.rmtree(clone / ".git")
    assert asked_for(clone, head)[0] == "yesterday"


def test_the_commit_that_passed_is_of_this_history() -> None:
    """A fork of a commit that was thrown away would compare with nothing, in silence."""
    stated = re.findall(
        r"^([0-9a-f]+) \d{4}-\d\d-\d\d \d+ s$", (ROOT / ".ci/passed").read_text(), re.M
    )
    assert [len(commit) for commit in stated] == [40]
    if not (ROOT / ".git").exists() or git(ROOT, "rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("the history is not here")
    git(ROOT, "merge-base", "--is-ancestor", stated[0], "HEAD")
