"""Times the build of the site against mkdocs-jupyter on the same executed notebooks.

usage: python ci/bench/site.py [--notebooks N] [--repeat N] [--keep DIRECTORY]

Every time is that of a whole `mkdocs build` process, the best of several that take turns. The
ratios are of processor seconds: a build is one thread, so that on an idle machine the two agree,
and on a busy one these still hold. A cold build is held against a cold one, with neither side's
cache, and the others against mkdocs-jupyter's build from its own cache.
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
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "site")]

import corpus  # noqa: E402 - found through the line above


class Took(NamedTuple):
    """Seconds of processor time, and by the clock."""

    cpu: float
    wall: float


COLD = "mkdocs-jupyter, defaults, cold"
CACHED = "mkdocs-jupyter, nothing changed"
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

    took: dict[str, list[Took]] = {}
    for number in range(repeat):
        for what, build_once in (
            (COLD, lambda: build(theirs, clean=True)),
            ("this site, cold", lambda: build(ours, clean=True)),
            (CACHED, lambda: build(theirs)),
            ("this site, nothing changed", lambda: build(ours)),
            ("this site, one page changed", lambda: build_changed(ours, number)),  # noqa: B023
        ):
            took.setdefault(what, []).append(build_once())
    best = {what: min(times) for what, times in took.items()}
    print(f"{'':40}{'cpu s':>9}{'wall s':>9}{'ratio':>8}   goal")
    for what, against, goal in (
        (COLD, COLD, ""),
        ("this site, cold", COLD, "0.20"),
        (CACHED, CACHED, ""),
        ("this site, one page changed", CACHED, "0.20"),
        ("this site, nothing changed", CACHED, "0.12"),
    ):
        cpu, wall = best[what]
        print(f"{what:40}{cpu:9.2f}{wall:9.2f}{cpu / best[against].cpu:8.3f}   {goal}")

    weigh(f"{notebooks} notebooks", ours / "site")
    own = work / "own"
    build(ROOT, "--site-dir", str(own))
    weigh("this repository", own)


def weigh(what: str, site: Path) -> None:
    """Prints the heaviest page of a site, as it is and as a server sends it."""
    pages = [(path, path.read_bytes()) for path in site.rglob("*.html")]
    for how, weight in (("", len), (" compressed", lambda page: len(gzip.compress(page)))):
        path, page = max(pages, key=lambda pair: weight(pair[1]))
        goal = 25 if how else 100
        print(
            f"{what}: heaviest page{how} {weight(page) / 1e3:.1f} kB (goal {goal}),"
            f" {path.parent.relative_to(site)}"
        )


def make(ours: Path, theirs: Path, notebooks: int) -> None:
    """One project with the notebooks and their runs, one with the executed notebooks as pages."""
    for directory in (ours, theirs):
        shutil.rmtree(directory, ignore_errors=True)
    project = corpus.Published(ours)
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


def build(directory: Path, *arguments: str, clean: bool = False) -> Took:
    """What `mkdocs build` takes, as a process of its own."""
    if clean:
        # The second is mkdocs-jupyter's, which is on unless one says otherwise.
        for cache in ("build/cache", ".cache"):
            shutil.rmtree(directory / cache, ignore_errors=True)
    # Modules are compiled once, as they are wherever people work.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started, before = time.monotonic(), os.times()
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", *arguments],
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


if __name__ == "__main__":
    main()
