"""What the site shows: notebooks joined with their runs, claims joined with what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from kb.proof import branches, records, rollouts, stages
from kb.proof.areas import Area
from kb.proof.claims import Claim, expected
from kb.proof.hosts import Host
from kb.proof.rollouts import HostState, Rollout
from kb.runtime.matrix import MIME as MATRIX
from kb.runtime.parameters import Parameter
from kb.runtime.settle import VERDICTS
from kb.site.cells import Cell
from kb.site.outputs import matrix_table

_FACTS = ("os", "kernel", "libc", "python", "gpu", "driver", "label", "kind")
# Of several hosts the one that answers best is shown first.
_RANK = {"passed": 0, "partial": 1, "failed": 2, "stale": 3, "skipped": 4}


@dataclass(frozen=True)
class StageRun:
    """One run of a notebook on a host, as its record tells it."""

    name: str
    record: Mapping[str, Any]
    cells: Mapping[str, Cell]
    fresh: bool
    digest: str
    committed: bool = False
    older: bool = False  # a newer run of the same stage has failed

    @property
    def label(self) -> str:
        """What readers see of it."""
        name = stages.label(self.name)
        if not self.older:
            return name
        day = f" of {self.started:%Y-%m-%d}" if self.started else ""
        return f"{name}, older run{day}"

    @property
    def passed(self) -> bool:
        return self.record.get("result") == "passed"

    @property
    def host(self) -> Mapping[str, Any]:
        """Its facts; those that its record does not know are None."""
        return {**dict.fromkeys(_FACTS), **(self.record.get("host") or {})}

    @cached_property
    def started(self) -> datetime | None:
        try:
            when = datetime.fromisoformat(str(self.record.get("started")))
        except ValueError:
            return None
        return when if when.tzinfo else when.replace(tzinfo=UTC)

    @property
    def error(self) -> str:
        return str((self.record.get("error") or {}).get("message") or "")

    @property
    def error_cell(self) -> str:
        return str((self.record.get("error") or {}).get("cell") or "")

    def status(self, cell: str) -> str:
        """`passed`, `failed` or `not run`, from our own record and nothing else."""
        for entry in self.record.get("cells") or []:
            if entry.get("id") == cell:
                return str(entry.get("status"))
        return "not run"

    def duration(self, cell: str) -> float | None:
        for entry in self.record.get("cells") or []:
            if entry.get("id") == cell and isinstance(entry.get("duration"), int | float):
                return float(entry["duration"])
        return None


@dataclass(frozen=True)
class HostResult:
    """Everything known of one notebook on one host."""

    name: str
    expected: tuple[str, ...]
    stages: Mapping[str, StageRun] = field(default_factory=dict)
    older: Mapping[str, StageRun] = field(default_factory=dict)
    """Where the newest run of a stage failed: the last one that passed."""
    skipped: str = ""

    @property
    def failed(self) -> list[str]:
        return [name for name in self.expected if name in self.stages and not self[name].passed]

    @property
    def missing(self) -> list[str]:
        return [name for name in self.expected if name not in self.stages]

    @property
    def stale(self) -> bool:
        return any(not stage.fresh for stage in self.stages.values())

    @property
    def status(self) -> str:
        """`passed`, `partial`, `failed`, `stale` or `skipped`."""
        runs = {name: (run.passed, run.fresh) for name, run in self.stages.items()}
        return records.became(self.expected, runs) if runs else "skipped"

    @property
    def shown(self) -> StageRun | None:
        """The run whose outputs the page shows."""
        return next((self.stages[name] for name in stages.MAIN if name in self.stages), None)

    @property
    def when(self) -> datetime | None:
        return max((s.started for s in self.stages.values() if s.started), default=None)

    def __getitem__(self, stage: str) -> StageRun:
        return self.stages[stage]


@dataclass(frozen=True)
class Symptom:
    """Words on a reader's screen, and the anchor on the page of what cures it."""

    words: str
    anchor: str

    @property
    def is_english(self) -> bool:
        return self.words.isascii() or not any(letter >= "\u3005" for letter in self.words)


@dataclass(frozen=True)
class NotebookView:
    """A runbook or notebook with its cells and what came of it on each host.

    `kind` is `runbooks` or `notebooks`; `path` and `beside` are relative to the project; `digest`
    names everything that its page is made from.
    """

    path: str
    kind: str
    area: str
    name: str
    title: str
    summary: str
    needs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    cells: tuple[Cell, ...]
    hosts: tuple[HostResult, ...]
    beside: tuple[str, ...]
    files: Mapping[str, str]
    """The text of those beside it, by path as its cells name it."""
    digest: str
    short_title: str
    tasks: tuple[str, ...]
    symptoms: tuple[Symptom, ...]

    @property
    def url(self) -> str:
        """URL of the page from the site's root."""
        return self.path.removesuffix(".ipynb") + "/"

    @property
    def best(self) -> HostResult | None:
        """The host whose run the page shows."""
        return next((host for host in self.hosts if host.stages), None)

    @property
    def matrices(self) -> list[tuple[str, str]]:
        """Tables over releases in the run on the page, each with its cell."""
        ran = self.best.shown.cells if self.best and self.best.shown else {}
        return [
            (cell.id, matrix_table(output["data"][MATRIX]))
            for cell in self.cells
            if cell.id in ran
            for output in ran[cell.id].outputs
            if _over_releases(output)
        ]

    def untried(self, cell: Cell) -> list[tuple[int, str]]:
        """Rows of a step's lines that no run here went through, each by its first one.

        Only runs of the present code count, and only those that were traced.
        """
        traces = [
            trace.get(cell.id)
            for host in self.hosts
            for stage in host.stages.values()
            if stage.fresh and isinstance(trace := stage.record.get("ran"), dict)
        ]
        lines = {n for trace in traces if isinstance(trace, list) for n in trace if type(n) is int}
        _, _, code = cell.source.partition("\n")
        return list(branches.never(code, lines)) if lines else []

    @property
    def status(self) -> str:
        """The best host's status; `skipped` where no host could run it, `never` without any."""
        if self.best:
            return self.best.status
        return "skipped" if self.hosts else "never"


@dataclass(frozen=True)
class SettlingCell:
    """A cell that settles a claim, and what it last said."""

    notebook: NotebookView
    cell: str
    seen: tuple[Seen, ...]

    @property
    def url(self) -> str:
        return f"{self.notebook.url}#cell-{self.cell}"


@dataclass(frozen=True)
class Seen:
    """A verdict that one run reached."""

    host: str
    stage: StageRun
    verdict: str
    evidence: str | None  # none where it could not tell
    saw: tuple[str, ...]


@dataclass(frozen=True)
class ClaimView:
    """A recorded claim and the cells that settle it."""

    claim: Claim
    settled: tuple[SettlingCell, ...]
    becomes: tuple[str, ...] = ()  # its verdicts in the changed worlds of those notebooks

    @property
    def url(self) -> str:
        return f"claims/{self.claim.id}/"

    @property
    def areas(self) -> list[str]:
        return sorted({settled.notebook.area for settled in self.settled})

    @property
    def seen(self) -> list[Seen]:
        return [seen for settled in self.settled for seen in settled.seen]

    @property
    def contradicted(self) -> list[Seen]:
        """Runs of the present code that say otherwise than the record."""
        return [
            seen
            for seen in self.seen
            if seen.stage.fresh
            and not seen.stage.older
            and seen.verdict not in expected(self.claim, seen.host)
        ]

    @property
    def when(self) -> datetime | None:
        """When a run last reached the recorded verdict."""
        times = [s.stage.started for s in self.seen if s.verdict == self.claim.verdict]
        return max((time for time in times if time), default=None)


@dataclass(frozen=True)
class HostSummary:
    """One host of `ci/hosts.toml`, with how many notebooks it has run."""

    name: str
    title: str
    kind: str
    offers: tuple[str, ...]
    ran: int
    passed: int
    newest: datetime | None


@dataclass(frozen=True)
class Fleet:
    """One runbook's roll-outs, the newest first."""

    history: list[Rollout]

    @property
    def runbook(self) -> str:
        return self.history[0].runbook

    @property
    def hosts(self) -> list[tuple[str, Rollout, HostState]]:
        """Each host, with the roll-out that tells how it stands."""
        stands = rollouts.stands(self.history)
        return [(name, last, last.hosts[name]) for name, last in stands.items()]

    @property
    def facts(self) -> dict[str, Mapping[str, str]]:
        """By host what its newest record says of it."""
        found: dict[str, Mapping[str, str]] = {}
        for rollout in self.history:
            for name, state in rollout.hosts.items():
                if state.facts:
                    found.setdefault(name, state.facts)
        return found

    @property
    def differing(self) -> dict[str, dict[str, list[str]]]:
        """What differs between hosts: by fact each value with the hosts that have it."""
        return rollouts.differing(self.facts)

    @property
    def without_record(self) -> list[str]:
        """The hosts that no record has come from: most of them were never reached."""
        return [name for name, _, _ in self.hosts if name not in self.facts]


@dataclass(frozen=True)
class Site:
    """All there is to publish."""

    notebooks: tuple[NotebookView, ...]
    claims: tuple[ClaimView, ...]
    hosts: Mapping[str, Host]
    areas: Mapping[str, Area]
    rejected: Mapping[str, str]
    """Files that are no records to be trusted, each with the reason."""
    fleets: tuple[Fleet, ...] = ()

    def area(self, area: str) -> list[NotebookView]:
        """Runbooks first, then notebooks, by title."""
        inside = [notebook for notebook in self.notebooks if notebook.area == area]
        return sorted(inside, key=lambda n: (n.kind != "runbooks", n.title.lower()))

    def recent(self, count: int | None = None) -> list[tuple[NotebookView, HostResult]]:
        """The newest runs, one line for each notebook and host."""
        ran = [
            (notebook, host) for notebook in self.notebooks for host in notebook.hosts if host.when
        ]
        return sorted(ran, key=lambda pair: pair[1].when or datetime.min, reverse=True)[:count]

    def failed(self) -> list[tuple[NotebookView, HostResult]]:
        """What failed when it was last run, the newest first."""
        return [(notebook, host) for notebook, host in self.recent() if host.status == "failed"]

    def standing(self) -> list[tuple[NotebookView, HostResult, list[StageRun]]]:
        """Each notebook's runs on each host, those whose oldest run is the oldest first."""
        rows = [
            (notebook, host, sorted(host.stages.values(), key=_started))
            for notebook in self.notebooks
            for host in notebook.hosts
            if host.stages
        ]
        return sorted(rows, key=lambda row: _started(row[2][0]))

    def host_summaries(self) -> list[HostSummary]:
        """The listed hosts, then those that only a record knows."""
        ran: dict[str, list[HostResult]] = {name: [] for name in self.hosts}
        for notebook in self.notebooks:
            for host in notebook.hosts:
                if host.stages:
                    ran.setdefault(host.name, []).append(host)
        return [
            HostSummary(
                name=name,
                title=self.hosts[name].title if name in self.hosts else "",
                kind=self.hosts[name].kind if name in self.hosts else "",
                offers=self.hosts[name].offers if name in self.hosts else (),
                ran=len(views),
                passed=sum(view.status == "passed" for view in views),
                newest=max((view.when for view in views if view.when), default=None),
            )
            for name, views in ran.items()
        ]

    def verdict_counts(self) -> dict[str, int]:
        counts = dict.fromkeys(VERDICTS, 0)
        for view in self.claims:
            counts[view.claim.verdict] = counts.get(view.claim.verdict, 0) + 1
        return counts


def _over_releases(output: Mapping[str, Any]) -> bool:
    data = output.get("data")
    seen = data.get(MATRIX) if isinstance(data, dict) else None
    return isinstance(seen, dict) and "release" in str(seen.get("over"))


def _started(run: StageRun) -> datetime:
    return run.started or datetime.min.replace(tzinfo=UTC)


def ordered(hosts: Iterable[HostResult]) -> tuple[HostResult, ...]:
    """Best first; of two alike the newer."""
    return tuple(
        sorted(
            hosts,
            key=lambda host: (
                _RANK[host.status],
                len(host.missing),
                -(host.when.timestamp() if host.when else 0.0),
                host.name,
            ),
        )
    )
