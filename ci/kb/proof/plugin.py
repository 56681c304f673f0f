"""The pytest plugin: a notebook on a host in a life stage is a test item.

    pytest runbooks notebooks --on debian-13 -n 2

``-k``, ``-x``, ``--lf``, junit XML and xdist work as ever. Without ``--on`` it does nothing.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kb.proof import catalog, claims, hosts, records

# pytest captures file descriptor 2 soon after this; progress is for the person who waits.
_terminal = os.dup(2)

ROOMS = pytest.StashKey["Rooms"]()
SENTENCES = ("StageError", "HostError", "StateError", "VerdictError")
MARK = {"passed": "ok", "failed": "FAILED", "skipped": "skipped", "fresh": "fresh"}


def tell(text: str) -> None:
    """Show a line of progress to whoever waits, past pytest's capture."""
    os.write(_terminal, text.encode())


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("runbooks")
    group.addoption(
        "--on",
        action="append",
        metavar="HOST",
        help="run the notebooks on this host of ci/hosts.toml",
    )
    group.addoption("--rerun", action="store_true", help="repeat runs that are still fresh, too")
    group.addoption(
        "--max-age",
        type=float,
        default=7,
        metavar="DAYS",
        help="a run older than this is repeated though nothing changed (default: 7)",
    )
    group.addoption(
        "--change-this-machine",
        action="store_true",
        help="allow runbooks to change this machine (--on local)",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The stages of one life share a host, so they belong to one worker; lives do not."""
    if not config.option.on:
        return None
    # It need not be installed.
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # noqa: PLC0415

    # A scope is what has one parent: a life. They begin in the order in which they were collected.
    config.option.loadscopereorder = False
    return LoadScopeScheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.on:
        return
    names = [name for given in config.option.on for name in given.split(",")]
    try:
        known = hosts.load(config.rootpath)
        picked = [hosts.pick(known, name) for name in names]
        recorded = claims.load(config.rootpath)
        claims.check_cited(recorded, catalog.find(config.rootpath))
        if not config.option.collectonly and not hasattr(config, "workerinput"):
            for host in picked:  # built once here, not by each worker
                hosts.identity(host, lambda line: tell(f"{line}\n"))
    except (hosts.HostError, claims.ClaimsError, catalog.CatalogError) as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[ROOMS] = Rooms(config, picked, recorded)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    root = parent.config.rootpath
    if file_path.suffix != ".ipynb" or not file_path.is_relative_to(root):
        return None
    path = file_path.relative_to(root)
    if path.parts[0] not in catalog.KINDS or len(path.parts) != 3:
        return None
    return NotebookFile.from_parent(parent, path=file_path)


class NotebookFile(pytest.File):
    """A notebook, as pytest sees it."""

    def collect(self) -> Iterator[pytest.Collector]:
        if ROOMS not in self.config.stash:
            raise self.CollectError("say where to run the notebooks: for example --on debian-13")
        rooms = self.config.stash[ROOMS]
        notebook = rooms.notebook(self.path.relative_to(self.config.rootpath))
        for host in rooms.hosts:
            able = [other for other in rooms.hosts if not rooms.why_not(other, notebook)]
            if hosts.cheaper(host, able):
                continue
            yield LifeCollector.from_parent(self, name=host.name, notebook=notebook, host=host)


class LifeCollector(pytest.Collector):
    """A notebook's life on one host."""

    def __init__(self, *, notebook: catalog.Notebook, host: hosts.Host, **rest: Any) -> None:
        super().__init__(**rest)
        self.notebook, self.host = notebook, host

    def collect(self) -> Iterator[pytest.Item]:
        for stage in self.notebook.stages:
            yield StageItem.from_parent(
                self, name=stage, notebook=self.notebook, host=self.host, stage=stage
            )


class StageItem(pytest.Item):
    """One stage of a notebook's life on one host."""

    def __init__(
        self, *, notebook: catalog.Notebook, host: hosts.Host, stage: str, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.notebook, self.host, self.stage = notebook, host, stage
        self.fresh = False

    def runtest(self) -> None:
        rooms = self.config.stash[ROOMS]
        reason = rooms.why_not(self.host, self.notebook)
        if reason:
            try:
                records.store_skip(self.notebook, self.host.name, reason)
            except OSError as error:
                pytest.fail(f"{error.filename} could not be written: {error.strerror}", False)
            pytest.skip(reason)
        key = records.key(self.notebook, self.stage, hosts.identity(self.host))
        path = records.place(self.notebook, self.host.name, self.stage)
        before = records.read(path)
        self.fresh = bool(before and not rooms.rerun and before.is_fresh(key, rooms.limit))
        if not self.fresh:
            rooms.life(self).run(self.stage, key)
        if self.stage == "run":
            run = records.read(path)
            assert run is not None
            found = claims.disagreements(rooms.claims, self.notebook, run.content, self.host.name)
            if found:
                raise VerdictError("\n".join(found))

    def continues(self, notebook: catalog.Notebook, host: hosts.Host) -> bool:
        """Whether this stage belongs to the same life."""
        return (self.notebook.path, self.host.name) == (notebook.path, host.name)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """Our own errors are sentences; anything else is a defect, and shows its traceback."""
        if type(excinfo.value).__name__ in (
            "StageError",
            "HostError",
            "StateError",
            "VerdictError",
        ):
            return f"{self.notebook.path} on {self.host.name}, {self.stage}: {excinfo.value}"
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.notebook.path} {self.stage} on {self.host.name}"


class VerdictError(Exception):
    """A cell's verdict differs from the recorded one."""


class Rooms:
    """What the items of one session share: hosts, claims, and the life that is under way."""

    def __init__(
        self, config: pytest.Config, picked: list[hosts.Host], recorded: list[claims.Claim]
    ) -> None:
        self.root = config.rootpath
        self.hosts = picked
        self.claims = recorded
        self.rerun = bool(config.option.rerun)
        self.limit = datetime.timedelta(days=config.option.max_age)
        self.go_ahead = bool(config.option.change_this_machine)
        self.quiet = config.option.verbose < 0
        self._life: Any = None

    def notebook(self, path: Path) -> catalog.Notebook:
        try:
            return catalog.read(self.root, path)
        except catalog.CatalogError as error:
            raise pytest.Collector.CollectError(str(error)) from None

    def why_not(self, host: hosts.Host, notebook: catalog.Notebook) -> str | None:
        if host.backend.this_machine and notebook.kind == "runbooks" and not self.go_ahead:
            return "it would change this machine: say --change-this-machine to let it"
        return host.lacks(notebook)

    def life(self, item: StageItem) -> Any:
        """The life that ``item`` belongs to; the one before it is ended."""
        from kb.proof.life import Life  # noqa: PLC0415 - papermill takes a while, and fresh runs need none

        current = self._life
        if current is None or not item.continues(current.notebook, current.host):
            self.end()
            self._life = Life(item.host, item.notebook, lambda line: None)
        begun = time.monotonic()

        def progress(line: str) -> None:
            where = f"{item.notebook.path} on {item.host.name}"
            if not self.quiet:
                elapsed = time.monotonic() - begun
                tell(f"[{elapsed:6.1f} s] {where}, {item.stage}: {line}\n")

        self._life.progress = progress
        return self._life

    def end(self) -> None:
        if self._life is not None:
            self._life.close()
            self._life = None


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if not isinstance(item, StageItem):
        return
    if not (isinstance(nextitem, StageItem) and nextitem.continues(item.notebook, item.host)):
        item.config.stash[ROOMS].end()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if ROOMS in session.config.stash:
        session.config.stash[ROOMS].end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report: Any = yield
    if isinstance(item, StageItem) and (report.when == "call" or report.outcome != "passed"):
        reason = report.longrepr[2] if report.skipped else ""
        report.runbook = {
            "notebook": str(item.notebook.path),
            "host": item.host.name,
            "stage": item.stage,
            "result": "fresh" if item.fresh and report.passed else report.outcome,
            "seconds": report.duration,
            "why": reason.removeprefix("Skipped: "),
        }
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for kind in terminalreporter.stats.values() for r in kind]
    rows = [report.runbook for report in reports if hasattr(report, "runbook")]
    if not rows:
        return
    lives: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        lives.setdefault((row["notebook"], row["host"]), []).append(row)
    table = [("notebook", "host", "stages", "result", "seconds", "why skipped")]
    order = [stage for stages in catalog.STAGES.values() for stage in stages]
    for (notebook, host), parts in sorted(lives.items()):
        parts.sort(key=lambda row: order.index(row["stage"]))
        results = {row["result"] for row in parts}
        worst = next(r for r in ("failed", "skipped", "passed", "fresh") if r in results)
        stages = " ".join(f"{row['stage']}:{MARK[row['result']]}" for row in parts)
        table.append((
            notebook,
            host,
            "-" if worst == "skipped" else stages,
            worst,
            f"{sum(row['seconds'] for row in parts):.1f}",
            parts[0]["why"] if worst == "skipped" else "",
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    terminalreporter.section("runs")
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
