"""The Go and Python programs of runbooks, notebooks and fixtures: some of them run as root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MYPY = Path(sys.executable).with_name("mypy")
# A program that is built with modules which a fixture brings; what does not compile, and why.
BUILT_IN = {"runbooks/systemd/socket-activation/main.go": "ci/fixtures/socket-activation.src"}
REFUSED = {
    "notebooks/go/prometheus-metrics/names.go": "as []metrics.Sample value in argument to"
    " metrics.Read",  # the claim is that it does not compile
    "ci/fixtures/gocv.src": "no packages to vet",  # its build tag asks for OpenCV
    "notebooks/cuda/libraries-for-go/cu": "no packages to vet",  # its build tag asks for CUDA
}
# What a machine without a network, without a Go that is new enough, or without a C compiler says.
NOT_HERE = re.compile(
    r"dial tcp|no such host|i/o timeout|proxy.*refused|requires go >= |lookup disabled"
    r"|build constraints exclude all Go files"
)
LISTED = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.split("\0")
FILES = [Path(name) for name in LISTED if name and (ROOT / name).is_file()]
GO = [path for path in FILES if path.suffix == ".go"]
MODULES = [path.parent for path in FILES if path.name == "go.mod"]


def go(directory: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of Go; skip the test where this machine cannot, but not in CI."""
    if shutil.which(command[0]) is None:
        unable(f"there is no {command[0]} here")
    # A module may ask for a newer Go than this one, which then brings it.
    env = {**os.environ, "GOTOOLCHAIN": "auto", "GOWORK": "off", "GOFLAGS": "-buildvcs=false"} | env
    done = subprocess.run(
        command, cwd=ROOT / directory, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 and (why := NOT_HERE.search(done.stderr + done.stdout)):
        unable(f"this machine lacks what it is built with: {why[0]}")
    return done


def unable(why: str) -> None:
    assert "CI" not in os.environ, why
    pytest.skip(why)


def test_go_is_formatted() -> None:
    done = go(Path(), "gofmt", "-l", *map(str, GO))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stdout + done.stderr


def vetted() -> dict[str, tuple[Path, str]]:
    """By name: the directory of a module, and what in it; files of no module by themselves."""
    found = {}
    for module in MODULES:
        if any(path.is_relative_to(module) and "//go:build tools" not in text(path) for path in GO):
            found[str(module)] = (module, "./...")
    for path in GO:
        if not any(path.is_relative_to(module) for module in MODULES):
            module = Path(BUILT_IN.get(str(path), path.parent))
            found[str(path)] = (module, str(ROOT / path))
    return found


def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", vetted())
def test_go_is_vetted(name: str, tmp_path: Path) -> None:
    directory, what = vetted()[name]
    env = {}
    if directory.parent.name == "workspace":  # its notebook makes the workspace
        members = [module for module in MODULES if module.parent == directory.parent]
        lines = ["go 1.24", *(f"use {ROOT / member}" for member in members)]
        (tmp_path / "go.work").write_text("\n".join(lines))
        env["GOWORK"] = str(tmp_path / "go.work")
    done = go(directory, "go", "vet", what, **env)
    if name in REFUSED:
        assert done.returncode != 0
        assert REFUSED[name] in done.stderr
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module",
    sorted(
        {str(m) for m in MODULES for p in GO if p.name.endswith("_test.go") and p.is_relative_to(m)}
    ),
)
def test_go_tests_pass(module: str) -> None:
    done = go(Path(module), "go", "test", "./...")
    assert done.returncode == 0, done.stdout + done.stderr


def is_python(path: Path) -> bool:
    with (ROOT / path).open("rb") as file:
        return path.suffix == ".py" or bool(re.match(rb"#!.*\bpython3?\b", file.readline()))


PYTHON = sorted(
    path
    for path in FILES
    if path.parts[0] in ("runbooks", "notebooks") or path.is_relative_to("ci/fixtures")
    if is_python(path)
)


def test_there_are_helpers() -> None:
    assert {path.parts[0] for path in PYTHON} == {"runbooks", "notebooks", "ci"}
    assert len(GO) > 20


def test_types_of_helpers() -> None:
    """Those of one directory at once: they import each other, and others have their names."""
    problems = []
    for directory in sorted({path.parent for path in PYTHON}):
        # mypy takes one program without a suffix at a time.
        inside = [path.name for path in PYTHON if path.parent == directory]
        scripts = [[name] for name in inside if not name.endswith(".py")]
        modules = [name for name in inside if name.endswith(".py")]
        for names in filter(None, [modules, *scripts]):
            # A cache of its own would lie among what a notebook is run with.
            options = [
                "--config-file",
                ROOT / "pyproject.toml",
                "--cache-dir",
                ROOT / ".mypy_cache",
            ]
            done = subprocess.run(
                [MYPY, *options, "--no-error-summary", *names],
                cwd=ROOT / directory,
                capture_output=True,
                text=True,
                check=False,
            )
            problems += [f"{directory}/{line}" for line in done.stdout.splitlines()]
            assert done.returncode in (0, 1), done.stderr
    assert not problems, "\n".join(problems)
