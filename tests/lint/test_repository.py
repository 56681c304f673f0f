"""Code, scripts, Dockerfiles, requirements and workflows of the repository."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from kb.proof.lint.shell import check_scripts, is_shell
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))


def run(*command: str) -> None:
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_python_style() -> None:
    run("ruff", "check", "--quiet", "--output-format", "concise", ".")


def test_python_format() -> None:
    run("ruff", "format", "--check", "--quiet", ".")


def test_types() -> None:
    run("mypy")


def test_dockerfiles(tracked: list[Path]) -> None:
    files = [str(path) for path in tracked if path.name.endswith("Dockerfile")]
    assert files
    run("hadolint", "--no-color", *files)


def test_shell_scripts(tracked: list[Path]) -> None:
    scripts = [path for path in tracked if is_shell(ROOT / path)]
    assert Path("ci/setup.sh") in scripts
    problems = list(check_scripts(ROOT, scripts))
    assert not problems, "\n".join(problems)


# Written in two halves, so that this file does not break its own rule.
FORBIDDEN = {
    "a package registry's host (any mirror must do)": [
        ("pypi", ".org"),
        ("files.python", "hosted.org"),
        ("deb.debian", ".org"),
        ("archive.ubuntu", ".com"),
        ("proxy.go", "lang.org"),
        ("registry.npm", "js.org"),
    ],
    "a path of one machine": [("/work", "/main"), ("/work", "/shared"), ("/root/", ".pyenv")],
    "work left undone (finish it, or open an issue)": [("TO", "DO"), ("FIX", "ME")],
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str, tracked: list[Path]) -> None:
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(a + b)}\b" for a, b in FORBIDDEN[what]))
    found = []
    for path in tracked:
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image
        found += [
            f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]} is {what}"
            for match in pattern.finditer(text)
        ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_are_hashed_and_name_no_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.findall(r"(?m)^--(?!hash)\S+", text), "options would tie it to an index"
    entries = re.findall(r"(?m)^[a-z0-9].*(?:\n +.*)*", text)
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_requirements_hold_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    groups = project["dependency-groups"]
    host = [*project["project"]["dependencies"], *groups["build"]]
    wanted = {
        "requirements-host.txt": host,
        "requirements.txt": [*host, *extras["ci"], *extras["site"], *groups["test"]],
        "requirements-site.txt": [*extras["site"], *groups["build"]],
        "requirements-bench.txt": [*host, *extras["ci"], *extras["site"], *groups["bench"]],
    }
    for name, asked in wanted.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        pinned = dict(re.findall(r"(?m)^([a-z0-9._-]+)==([^\s;\\]+)", text))
        for requirement in map(Requirement, asked):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{name} lacks {requirement.name}: run `make lock`"
            assert version in requirement.specifier, (
                f"{name} has {requirement.name} {version}, pyproject.toml asks for"
                f" {requirement.specifier}: run `make lock`"
            )


def test_what_the_site_takes_is_a_part_of_the_rest() -> None:
    """`make site` begins with the one list and puts the other beside it, into the same place."""
    part, whole = (
        set(re.findall(r"(?m)^[a-z0-9].*", (ROOT / name).read_text(encoding="utf-8")))
        for name in ("requirements-site.txt", "requirements.txt")
    )
    assert part < whole, "run `make lock`"


def test_there_are_workflows() -> None:
    assert WORKFLOWS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}, "a job asks for more where it needs it"
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job, f"{path.name}: job {name} has no time limit"
        for step in job["steps"]:
            for target in re.findall(r"\bmake ([a-z]+)", step.get("run", "")):
                makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
                assert re.search(rf"(?m)^{target}:", makefile), f"{path.name}: no make {target}"
    for line in re.findall(r"(?m)^\s*(?:- )?uses: (.*)$", text):
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), (
            f"{path.name}: `{line}` must be pinned: owner/name@COMMIT # vX.Y.Z"
        )


@pytest.mark.parametrize("page", ["README.md", "docs/run.md"])
def test_what_a_reader_installs_on_a_host_has_a_known_hash(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("pip install")]
    options = [line.partition("#")[0].split()[2:] for line in lines]
    assert options == [
        ["--require-hashes", "--only-binary", ":all:", "--requirement", "requirements-host.txt"],
        ["--no-deps", "--no-build-isolation", "."],
    ]
