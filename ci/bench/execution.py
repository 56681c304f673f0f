"""Times execution against plain papermill in the same image, and prints ratios.

    python ci/bench/execution.py [--notebooks 20] [--fresh 100]

Ratios hold on a noisy machine, seconds do not: whatever is compared runs in turn, in one session.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from kb.proof import catalog, hosts
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
HOST = "debian-13"
PYTHON = "/opt/kb/bin/python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notebooks", type=int, default=20, help="small notebooks to execute")
    parser.add_argument("--fresh", type=int, default=100, help="unchanged notebooks to look at")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; the median is printed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kb-bench-") as directory:
        many, fresh = Path(directory, "many"), Path(directory, "fresh")
        make_project(many, given.notebooks)
        make_project(fresh, given.fresh)
        image = hosts.identity(hosts.load(many)[HOST])
        assert image is not None
        with Container(image["id"], many) as container:
            plain, ours, one_plain, one_ours = [], [], [], []
            for _ in range(given.rounds):
                plain.append(seconds(lambda: papermill_loop(container, given.notebooks)))
                ours.append(seconds(lambda: pytest(many, "--rerun", "-n", "2")))
                one_plain.append(seconds(lambda: papermill_loop(container, 1)))
                one_ours.append(one_in_a_container(many))
        report("notebooks, two workers / plain papermill, one by one", ours, plain)
        extra = statistics.median(one_ours) - statistics.median(one_plain)
        print(f"one notebook in a fresh container: {extra:+.2f} s to plain papermill in that image")
        # Found fresh: execute once, then look.
        pytest(fresh, "-n", "2")
        looks = [seconds(lambda: pytest(fresh)) for _ in range(given.rounds)]
        print(f"{given.fresh} unchanged notebooks found fresh in {statistics.median(looks):.2f} s")
        edit_prose(fresh)
        print(f"after an edit of prose: {executed(fresh)} of {given.fresh} executed")


def make_project(root: Path, count: int) -> None:
    """A repository of ``count`` small notebooks that uses this one's image."""
    (root / "notebooks/bench").mkdir(parents=True)
    (root / "plain").mkdir()
    (root / "ci").symlink_to(ROOT / "ci")
    for name in ("pyproject.toml", "requirements-host.txt", "README.md", "LICENSE"):
        (root / name).symlink_to(ROOT / name)
    for number in range(count):
        notebook = new_notebook(
            cells=[
                new_markdown_cell("# Small\n\nA small notebook.", id="title"),
                new_code_cell("%load_ext kb", id="setup"),
                new_code_cell(
                    "rounds: int = 3  # how often",
                    id="parameters",
                    metadata={"tags": ["parameters"]},
                ),
                new_code_cell("sum(n * n for n in range(1000 * rounds))", id="sum"),
                new_code_cell("import time\ntime.sleep(0.1)", id="wait"),
            ],
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                "kb": {"needs": []},
            },
        )
        nbformat.write(notebook, root / f"notebooks/bench/n{number:03d}.ipynb")
        del notebook.metadata["kb"]  # so that papermill uses its own engine
        nbformat.write(notebook, root / f"plain/n{number:03d}.ipynb")


class Container:
    """A container of the hosts' image that plain papermill runs in."""

    def __init__(self, image: str, project: Path) -> None:
        mount = f"{project / 'plain'}:/plain:ro"
        command = ["docker", "run", "--rm", "--detach", "--volume", mount, image, "sleep", "3600"]
        self.id = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["docker", "rm", "--force", self.id], capture_output=True, check=True)

    def run(self, script: str) -> None:
        subprocess.run(["docker", "exec", self.id, "bash", "-ec", script], check=True)


def papermill_loop(container: Container, count: int) -> None:
    """The loop that a shell script would be."""
    container.run(
        f"for nb in $(ls /plain/*.ipynb | head -n {count}); do"
        f" {PYTHON} -m papermill --no-progress-bar $nb /tmp/out.ipynb 2>/dev/null; done"
    )


def one_in_a_container(project: Path) -> float:
    """Seconds for one notebook from asking for a host to having its record."""
    from kb.proof.life import Life  # noqa: PLC0415 - its imports are no part of a run

    host = hosts.load(project)[HOST]
    notebook = catalog.read(project, Path("notebooks/bench/n000.ipynb"))
    before = time.monotonic()
    life = Life(host, notebook, lambda line: None)
    life.run("run", "bench")
    life.close()
    return time.monotonic() - before


def pytest(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "notebooks", "--on", HOST, *options]
    # Without bytecode every library is compiled at each start; the image's papermill has its own.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=True)


def executed(project: Path) -> int:
    """How many records a look writes anew."""
    records = list((project / "build/runs").rglob("*.ipynb"))
    before = {path: path.stat().st_mtime_ns for path in records}
    pytest(project)
    return sum(path.stat().st_mtime_ns != before[path] for path in records)


def edit_prose(project: Path) -> None:
    for path in (project / "notebooks/bench").glob("*.ipynb"):
        content: dict[str, Any] = json.loads(path.read_text())
        content["cells"][0]["source"] += "\n\nAnother paragraph."
        path.write_text(json.dumps(content))


def seconds(work: Any) -> float:
    before = time.monotonic()
    work()
    return time.monotonic() - before


def report(what: str, ours: list[float], other: list[float]) -> None:
    ratios = [a / b for a, b in zip(ours, other, strict=True)]
    print(
        f"{what}: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f};"
        f" median {statistics.median(ours):.1f} s / {statistics.median(other):.1f} s)"
    )


if __name__ == "__main__":
    if shutil.which("docker") is None:
        sys.exit("the benchmark needs the docker command: `make engine` installs it")
    main()
