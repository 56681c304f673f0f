"""Times the build of the site against mkdocs-jupyter on the same executed notebooks.

usage: python ci/bench/site.py [--notebooks N] [--repeat N] [--keep DIRECTORY]

Every time is that of a whole `mkdocs build` process, the best of several. The ratios are of
processor seconds: a build is one thread, so that on an idle machine the two agree, and on a
busy one these still hold.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "site"))

import corpus  # noqa: E402 - found through the line above


class Took(NamedTuple):
    """Seconds of processor time, and by the clock."""

    cpu: float
    wall: float


JUPYTER = """\
site_name: Comparison
theme: {name: material, font: false}
plugins: [search, mkdocs-jupyter]
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--notebooks", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="work here and leave everything behind")
    options = parser.parse_args()
    work = options.keep or Path(tempfile.mkdtemp(prefix="kb-bench-"))
    try:
        measure(work, options.notebooks, options.repeat)
    finally:
        if options.keep is None:
            shutil.rmtree(work)


def measure(work: Path, notebooks: int, repeat: int) -> None:
    ours, theirs = work / "ours", work / "jupyter"
    make(ours, theirs, notebooks)
    size = sum(path.stat().st_size for path in ours.glob("build/runs/**/*.ipynb"))
    print(f"{notebooks} executed notebooks, {size / 1e6:.1f} MB")

    base = min(build(theirs, clean=True) for _ in range(repeat))
    cold = min(build(ours, clean=True) for _ in range(repeat))
    unchanged = min(build(ours) for _ in range(repeat))
    changed = min(build_changed(ours, number) for number in range(repeat))
    print(f"{'':32}{'cpu s':>9}{'wall s':>9}{'ratio':>8}   goal")
    for what, took, goal in (
        ("mkdocs-jupyter, defaults, cold", base, ""),
        ("this site, cold", cold, "0.40"),
        ("this site, one page changed", changed, "0.10"),
        ("this site, nothing changed", unchanged, ""),
    ):
        print(f"{what:32}{took.cpu:9.2f}{took.wall:9.2f}{took.cpu / base.cpu:8.3f}   {goal}")

    pages = sorted(ours.glob("site/notebooks/*/*/index.html"))
    raw = max(path.stat().st_size for path in pages)
    packed = max(len(gzip.compress(path.read_bytes())) for path in pages)
    index = (ours / "site/search/search_index.json").stat().st_size
    print(f"largest page {raw / 1e3:.0f} kB, compressed {packed / 1e3:.0f} kB (goals 100 and 30)")
    print(f"search index {index / 1e3:.0f} kB, of mkdocs-jupyter {jupyter_index(theirs):.0f} kB")


def make(ours: Path, theirs: Path, notebooks: int) -> None:
    """One project with the notebooks and their runs, one with the executed notebooks as pages."""
    for directory in (ours, theirs):
        shutil.rmtree(directory, ignore_errors=True)
    project = corpus.Project(ours)
    corpus.books(project, notebooks)
    shutil.copy(ROOT / "mkdocs.yml", ours)
    shutil.copytree(
        ROOT / "docs", ours / "docs", ignore=shutil.ignore_patterns("claims", "evidence", "assets")
    )
    (theirs / "docs").mkdir(parents=True)
    (theirs / "mkdocs.yml").write_text(JUPYTER)
    (theirs / "docs/index.md").write_text("# Comparison\n")
    for run in ours.glob("build/runs/*/*/*/*.ipynb"):
        target = theirs / "docs" / run.parent.name / run.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(run, target)


def build(directory: Path, *, clean: bool = False) -> Took:
    """What `mkdocs build` takes, as a process of its own."""
    if clean:
        shutil.rmtree(directory / "build/cache", ignore_errors=True)
    # Modules are compiled once, as they are wherever people work.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started, before = time.monotonic(), os.times()
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet"],
        cwd=directory,
        env={**environment, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
        stderr=subprocess.DEVNULL,
    )
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Took(cpu, time.monotonic() - started)


def build_changed(directory: Path, number: int) -> Took:
    """The same after one sentence of one notebook has become another."""
    notebook = sorted(directory.glob("notebooks/*/*.ipynb"))[number]
    text = notebook.read_text(encoding="utf-8")
    notebook.write_text(text.replace('"## ', '"## Again ', 1), encoding="utf-8")
    return build(directory)


def jupyter_index(directory: Path) -> float:
    return (directory / "site/search/search_index.json").stat().st_size / 1e3


if __name__ == "__main__":
    main()
