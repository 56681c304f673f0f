"""The pytest plugin: a notebook on a host in a life stage is a test item.

    pytest runbooks notebooks --on debian-13 -n 2

``-k``, ``-x``, ``--lf``, junit XML and xdist work as ever. Without ``--on`` it does nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kb.proof import catalog, claims, fixtures, hosts, plan, records, stages, tables

if TYPE_CHECKING:  # papermill takes a while to load, and fresh runs need none
    from kb.proof.life import Life

# pytest captures file descriptor 2 soon after this; progress is for the person who waits.
_terminal = os.dup(2)

CONTEXT = pytest.StashKey["RunContext"]()
MARK = {
    "passed": "ok",
    "failed": "FAILED",
    "skipped": "skipped",
    "fresh": "fresh",
    "stands": "stands",
}


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
        default="7",
        metavar="DAYS",
        help="a run older than this is repeated though nothing changed (default: 7)",
    )
    group.addoption(
        "--changed-since",
        metavar="REV",
        help="repeat each notebook that differs from this revision, whatever its record says;"
        " 'yesterday' is the newest commit older than a day",
    )
    group.addoption(
        "--budget",
        metavar="TIME",
        help="within this time (40m, 1h) run what differs from --changed-since, what failed, what"
        " is stale, what is oldest, and a random tenth of the rest; nothing begins that took longer"
        " the last time than is left, and it stands on its record; what has no record of what is"
        " there has no limit",
    )
    group.addoption(
        "--shard",
        metavar="K/N",
        help="run the K-th of N shares, equal by the seconds that the committed records say",
    )
    group.addoption(
        "--seed",
        type=int,
        metavar="N",
        help="kill runbooks at the moments of the run whose record has this seed",
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


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """What was decided once is decided for all workers."""
    if CONTEXT in node.config.stash:
        node.workerinput["kb"] = node.config.stash[CONTEXT].decided()


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.on:
        return
    names = [name for given in config.option.on for name in given.split(",")]
    try:
        known = hosts.load(config.rootpath)
        picked = [hosts.pick(known, name) for name in names]
        recorded = claims.load(config.rootpath)
        notebooks = catalog.find(config.rootpath)
        claims.check_cited(recorded, notebooks)
        context = RunContext(config, picked, recorded)
        if hasattr(config, "workerinput"):
            context.follow(config.workerinput["kb"])
        else:
            context.decide(notebooks, config.option.changed_since, config.option.shard)
            if not config.option.collectonly:
                context.ready_hosts()
                if not config.option.keyword:  # then each of the few makes its own
                    context.ready_fixtures(notebooks)
    except (
        hosts.HostError,
        claims.ClaimsError,
        catalog.CatalogError,
        plan.PlanError,
        tables.TableError,
    ) as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[CONTEXT] = context


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is going to be run, and why."""
    if CONTEXT not in config.stash:
        return []
    reasons = [decision.reason for decision in config.stash[CONTEXT].plan.values()]
    counts = [f"{reasons.count(r)} {r}" for r in plan.REASONS if r in reasons]
    return [f"runs: {', '.join(counts) or 'none'}"]


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
        if CONTEXT not in self.config.stash:
            raise self.CollectError("say where to run the notebooks: for example --on debian-13")
        context = self.config.stash[CONTEXT]
        notebook = context.notebook(self.path.relative_to(self.config.rootpath))
        for host in context.hosts:
            if not context.leaves_to_another(host, notebook):
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """This machine's share; of it the most urgent lives first, and of what must run the longest."""
    if CONTEXT not in config.stash:
        return
    context = config.stash[CONTEXT]
    if others := [item for item in items if not context.is_mine(item)]:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if context.is_mine(item)]
    items.sort(key=context.urgency)


class StageItem(pytest.Item):
    """One stage of a notebook's life on one host. Its record says what became of it."""

    def __init__(
        self, *, notebook: catalog.Notebook, host: hosts.Host, stage: str, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.notebook, self.host, self.stage = notebook, host, stage
        # So that `-k systemd/limits` picks one, where `-k limits` picks all whose names have that.
        self.extra_keyword_matches.add(f"/{notebook.path.with_suffix('')}/")
        self.run: records.Run | None = None
        self.stood = ""  # "fresh" or "stands" where an earlier run's record was enough

    def runtest(self) -> None:
        context = self.config.stash[CONTEXT]
        if reason := context.why_not(self.host, self.notebook):
            try:
                records.store_skip(self.notebook, self.host.name, reason)
            except OSError as error:
                pytest.fail(f"{error.filename} could not be written: {error.strerror}", False)
            pytest.skip(reason)
        key = plan.key(self.notebook, self.stage, self.host, context.known)
        before = records.newest(self.notebook, self.host.name, self.stage)
        self.stood = context.stands(self, before, key)
        self.run = before if self.stood else context.life(self).run(self.stage, key)
        assert self.run is not None
        if not self.run.passed:
            raise RunFailedError(self.run, self.stood)

    def continues(self, notebook: catalog.Notebook, host: hosts.Host) -> bool:
        """Whether this stage belongs to the same life."""
        return (self.notebook.path, self.host.name) == (notebook.path, host.name)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """What the record says is a sentence; anything else is a defect: it shows its traceback."""
        if (
            isinstance(excinfo.value, RunFailedError)
            or type(excinfo.value).__name__ == "StageError"
        ):
            said = f"{self.notebook.path} on {self.host.name}, {self.stage}: {excinfo.value}"
            words = self.run.last_words if self.run else []
            return "\n    ".join([f"{said}; its last lines:", *words]) if words else said
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.notebook.path} {self.stage} on {self.host.name}"


class RunFailedError(Exception):
    """A run that did not pass, as its record tells it."""

    def __init__(self, run: records.Run, stood: str) -> None:
        since = f"failed on {run.started:%Y-%m-%d}, not repeated within the budget: "
        super().__init__(f"{since if stood else ''}{run.error}")


class RunContext:
    """What the items of one session share: hosts, claims, the plan, and the life under way."""

    def __init__(
        self, config: pytest.Config, picked: list[hosts.Host], recorded: list[claims.Claim]
    ) -> None:
        self.root = config.rootpath
        self.hosts = picked
        self.claims = recorded
        self.known = {claim.id: claim for claim in recorded}
        self.rerun = bool(config.option.rerun)
        self.limit = plan.age(config.option.max_age)
        given = config.option.budget
        self.budget = None if given is None else plan.budget(given)
        self.seed: int | None = config.option.seed
        self.go_ahead = bool(config.option.change_this_machine)
        self.quiet = config.option.verbose < 0
        self.plan: plan.Plan = {}
        self.mine: set[str] | None = None  # the lives of this machine's shard; None: all
        self.unusable: dict[str, str] = {}
        self.slow = fixtures.slow(self.root)
        self.begun = time.time()
        self._begins: dict[str, bool] = {}
        self._life: Life | None = None

    def decide(
        self, notebooks: list[catalog.Notebook], revision: str | None, shard: str | None
    ) -> None:
        """Make the plan. Raises PlanError."""
        if revision == "yesterday":
            revision = plan.yesterday(self.root)
            if revision is None:
                tell("no commit here is older than a day: records alone tell what has changed\n")
        for host in self.hosts:
            self.plan |= plan.make(
                [book for book in notebooks if not self.leaves_to_another(host, book)],
                [host],
                self.claims,
                limit=self.limit,
                rerun=self.rerun,
                changed_since=revision,
                sampled=self.budget is not None,
            )
        if shard is not None:
            self.mine = plan.shard(self.plan, shard)

    def decided(self) -> dict[str, Any]:
        """What workers have to follow."""
        return {
            "plan": plan.as_json(self.plan),
            "mine": None if self.mine is None else sorted(self.mine),
            "unusable": self.unusable,
            "begun": self.begun,
        }

    def follow(self, decided: dict[str, Any]) -> None:
        """Do as the session decided that this worker belongs to."""
        self.plan = plan.from_json(decided["plan"])
        self.mine = None if decided["mine"] is None else set(decided["mine"])
        self.unusable = decided["unusable"]
        self.begun = decided["begun"]

    def ready_hosts(self) -> None:
        """Make the images that runs will need, once for all workers.

        A host that cannot be made is no reason to stop: what needs it fails, and its record says
        why. Raises EngineError where no host could be.
        """
        for host in self.hosts:
            needed = any(
                decision.reason != "fresh"
                and life.endswith(f" on {host.name}")
                and (self.mine is None or life in self.mine)
                for life, decision in self.plan.items()
            )
            if needed:
                try:
                    hosts.ensure_image(host, lambda line: tell(f"{line}\n"))
                except hosts.EngineError:
                    raise
                except hosts.HostError as error:
                    self.unusable[host.name] = str(error)

    def ready_fixtures(self, notebooks: list[catalog.Notebook]) -> None:
        """Within a budget, make what takes minutes before anything runs: in half of it at most."""
        if self.budget is None:
            return
        due = [
            (decision, notebook)
            for host in self.hosts
            for notebook in notebooks
            if (life := plan.name(notebook, host)) in self.plan
            and (self.mine is None or life in self.mine)
            and (decision := self.plan[life]).reason != "fresh"
        ]
        for decision, notebook in sorted(due, key=lambda pair: plan.urgency(pair[0])):
            missing = fixtures.missing(notebook, self.slow)
            ready = time.time() - self.begun + sum(missing.values())
            if decision.must or ready <= self.budget / 2:
                for name, seconds in missing.items():
                    tell(f"making ci/fixtures/{name}, which takes about {seconds / 60:.0f} min\n")
                    with contextlib.suppress(fixtures.FixtureError):
                        fixtures.make(self.root, name)  # what wants it tries again, and says why

    def leaves_to_another(self, host: hosts.Host, notebook: catalog.Notebook) -> bool:
        """A virtual machine is slow: it takes what no container here can run."""
        return hosts.cheaper(
            host, (other for other in self.hosts if not self.why_not(other, notebook))
        )

    def is_mine(self, item: pytest.Item) -> bool:
        """Whether ``item`` is in this machine's shard. What is skipped is in all of them."""
        if self.mine is None or not isinstance(item, StageItem):
            return True
        life = plan.name(item.notebook, item.host)
        return life in self.mine or life not in self.plan

    def urgency(self, item: pytest.Item) -> tuple[int, bool, float]:
        """As the plan has it; what minutes were spent on making is used before time is up."""
        if not isinstance(item, StageItem):
            return (0, False, 0.0)
        decision = self.plan.get(plan.name(item.notebook, item.host), plan.Decision("fresh"))
        rank, first = plan.urgency(decision)
        return rank, self.slow.keys().isdisjoint(item.notebook.metadata.get("fixtures", [])), first

    def stands(self, item: StageItem, before: records.Run | None, key: str) -> str:
        """``fresh`` or ``stands`` where the record ``before`` is enough; "" to run the stage."""
        life = plan.name(item.notebook, item.host)
        decision = self.plan.get(life, plan.Decision("never run"))
        if before is None or decision.reason in ("asked for", "changed"):
            return ""
        if decision.reason not in ("differs", "sample") and before.is_fresh(key, self.limit):
            return "fresh"
        if life not in self._begins:  # a life that was begun in time is finished
            making = sum(fixtures.missing(item.notebook, self.slow).values())
            ends = time.time() - self.begun + making + decision.seconds
            late = self.budget is not None and ends > self.budget
            self._begins[life] = decision.must or not late
        return "" if self._begins[life] else "stands"

    def notebook(self, path: Path) -> catalog.Notebook:
        try:
            return catalog.read(self.root, path)
        except catalog.CatalogError as error:
            raise pytest.Collector.CollectError(str(error)) from None

    def why_not(self, host: hosts.Host, notebook: catalog.Notebook) -> str | None:
        if host.backend.this_machine and notebook.kind == "runbooks" and not self.go_ahead:
            return (
                "this runbook changes the machine it runs on: pass --change-this-machine to allow"
                " that"
            )
        return host.lacks(notebook) or fixtures.unusable(notebook)

    def life(self, item: StageItem) -> Life:
        """The life that ``item`` belongs to; the one before it is ended."""
        from kb.proof.life import Life  # noqa: PLC0415 - see above

        begun = time.monotonic()

        def progress(line: str) -> None:
            if not self.quiet:
                elapsed = time.monotonic() - begun
                where = f"{item.notebook.path} on {item.host.name}"
                tell(f"[{elapsed:6.1f} s] {where}, {item.stage}: {line}\n")

        current = self._life
        if current is None or not item.continues(current.notebook, current.host):
            self.end()
            why = self.unusable.get(item.host.name, "")
            current = Life(
                item.host, item.notebook, progress, self.claims, unusable=why, seed=self.seed
            )
            self._life = current
        current.progress = progress
        return current

    def end(self) -> None:
        if self._life is not None:
            self._life.close()
            self._life = None


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if not isinstance(item, StageItem):
        return
    if not (isinstance(nextitem, StageItem) and nextitem.continues(item.notebook, item.host)):
        item.config.stash[CONTEXT].end()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if CONTEXT in session.config.stash:
        session.config.stash[CONTEXT].end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report: Any = yield
    if isinstance(item, StageItem) and (report.when == "call" or report.outcome != "passed"):
        reason = report.longrepr[2] if report.skipped else ""
        report.runbook = {
            "notebook": str(item.notebook.path),
            "host": item.host.name,
            "stage": item.stage,
            "result": item.stood if item.stood and report.passed else report.outcome,
            "seconds": report.duration,
            "why": reason.removeprefix("Skipped: "),
            "started": item.run.metadata["started"] if item.run else "",
        }
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for kind in terminalreporter.stats.values() for r in kind]
    rows = [report.runbook for report in reports if hasattr(report, "runbook")]
    if not rows:
        option = terminalreporter.config.option
        if option.on and option.keyword and not option.collectonly:
            terminalreporter.write_line(
                f"nothing was run: -k '{option.keyword}' is in the name of no notebook here;"
                " -k AREA/NAME picks one, such as go/install"
            )
        return
    lives: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        lives.setdefault((row["notebook"], row["host"]), []).append(row)
    table = [("notebook", "host", "stages", "result", "seconds", "why skipped")]
    order = [stage.name for stage in stages.STAGES]
    for (notebook, host), parts in sorted(lives.items()):
        parts.sort(key=lambda row: order.index(row["stage"]))
        worst = _worst(parts)
        marks = " ".join(f"{row['stage']}:{MARK[row['result']]}" for row in parts)
        table.append((
            notebook,
            host,
            "-" if worst == "skipped" else marks,
            worst,
            f"{sum(row['seconds'] for row in parts):.1f}",
            parts[0]["why"] if worst == "skipped" else "",
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    terminalreporter.section("runs")
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
    standing = {
        life: min(row["started"] for row in parts)
        for life, parts in lives.items()
        if any(row["result"] in ("stands", "fresh") for row in parts)
    }
    if standing:
        oldest = min(standing.values())
        ran = len(lives) - len(standing)
        terminalreporter.write_line(
            f"{len(standing)} of {len(standing) + ran} notebooks stand on earlier runs,"
            f" the oldest of {oldest}"
        )


def _worst(parts: list[dict[str, Any]]) -> str:
    """What became of a life; runs of earlier days count as what they were."""
    results = {row["result"] for row in parts}
    if results <= {"skipped"}:
        return "skipped"
    runs = {row["stage"]: (row["result"] != "failed", True) for row in parts}
    became = records.became(runs, runs)
    if became == "passed" and results <= {"stands", "fresh"}:
        return "stands" if "stands" in results else "fresh"
    return became
