"""Run records: where they lie, which are to be trusted, and when one is still fresh.

A record is the executed notebook itself, see :mod:`kb.runtime.record`. What was run here lies below
``build/runs``; the last whole run on each CI host, and runs on hosts that CI has not, are committed
below ``docs/evidence``. Both have the same layout: HOST/runbooks/AREA/NAME.STAGE.ipynb, and for
hosts that are many machines HOST/MACHINE/runbooks/AREA/NAME.STAGE.ipynb.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import re
import stat
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import kb
from kb.proof import stages
from kb.proof.catalog import KINDS, Notebook, files_below
from kb.proof.hosts import Backend, Host
from kb.runtime.record import RUN, SCHEMA, write_atomically
from kb.runtime.settle import MIME
from kb.runtime.terminal import clean, plain

BUILT = Path("build/runs")
COMMITTED = Path("docs/evidence")
CLOCKS_APART = datetime.timedelta(minutes=5)  # a run from further in the future has no date
LARGEST = 64 << 20  # bytes of a record
PASSED = ".passed"  # before .ipynb: the last run that passed, where a newer one has failed
SHOWN = 8  # lines of what a cell printed before it failed
BEGUN = ".begun"  # the same: a run that has begun; there as long as it has not ended
INTERRUPTED = "the run was interrupted: its process ended before it could say how"
_SEAL_KEY = b'"seal": "'
_SEAL = re.compile(_SEAL_KEY + b'([0-9a-f]{64})"')
# What executes and judges a notebook wherever it runs: of the package's rooms, what CI's runs use.
_JUDGES = ("life.py", "snapshots.py", "claims.py", "stages.py")
_ELSEWHERE = ("papermill.py", "terminal.py")  # of runtime: serve an operator and readers alone


class RecordError(Exception):
    """A file that is no record to be trusted. One sentence without the file's name."""


@dataclass(frozen=True)
class Run:
    """One record: ``path`` is where it lies, ``content`` the executed notebook."""

    path: Path
    content: dict[str, Any]
    committed: bool = False

    @property
    def metadata(self) -> dict[str, Any]:
        run: dict[str, Any] = self.content["metadata"][RUN]
        return run

    @property
    def notebook(self) -> str:
        return str(self.metadata["notebook"])

    @property
    def host(self) -> str:
        """The host's name; of one of many machines with the machine."""
        host = self.metadata["host"]
        return "/".join(filter(None, (str(host["name"]), str(host.get("machine") or ""))))

    @property
    def stage(self) -> str:
        return str(self.metadata["stage"])

    @property
    def passed(self) -> bool:
        return bool(self.metadata["result"] == "passed")

    @property
    def error(self) -> str:
        """Why it failed: one sentence, with the cell where there is one; "" if it passed."""
        error = self.metadata["error"]
        if self.passed or not error:
            return "" if self.passed else "its record gives no reason"
        where = f" (cell `{error['cell']}`)" if error["cell"] else ""
        return f"{error['message']}{where}"

    @property
    def last_words(self) -> list[str]:
        """The last lines that the cell printed in which it failed."""
        failed = (self.metadata["error"] or {}).get("cell")
        printed = "".join(
            "".join(output.get("text", ""))
            for cell in self.content["cells"]
            if failed and cell.get("id") == failed
            for output in cell.get("outputs", [])
        )
        lines = [line.rstrip() for line in plain(clean(printed)).splitlines()]
        return [line for line in lines if line][-SHOWN:]

    @cached_property
    def started(self) -> datetime.datetime:
        return datetime.datetime.fromisoformat(self.metadata["started"])

    @property
    def age(self) -> datetime.timedelta:
        return datetime.datetime.now(datetime.UTC) - self.started

    def is_stale(self, notebook: Notebook) -> bool:
        """Whether the notebook's code or a file beside it has changed since this run."""
        recorded, now = self.metadata["inputs"], inputs(notebook)
        if self.metadata["host"].get("kind") == "local":
            # A person's host gets no fixtures: what they are made by does not count there.
            now = {path: value for path, value in now.items() if path in recorded}
        return bool(recorded != now)

    def is_fresh(self, key: str, limit: datetime.timedelta) -> bool:
        """Whether a run with ``key`` would be a repetition: passed, same inputs, young enough."""
        return self.passed and self.metadata.get("key") == key and self.age < limit


@dataclass
class Records:
    """All records of a project: by notebook, host and stage the newest run, and what else is there.

    A failed run is never hidden behind an older one that passed: that one is in ``older``.
    ``rejected`` are files that are no records to be trusted, each with the reason.
    """

    newest: dict[tuple[str, str], dict[str, Run]] = field(default_factory=lambda: defaultdict(dict))
    older: dict[tuple[str, str], dict[str, Run]] = field(default_factory=lambda: defaultdict(dict))
    rejected: dict[Path, str] = field(default_factory=dict)
    skips: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """By notebook and host: why it was not run there."""


def became(expected: Iterable[str], runs: Mapping[str, tuple[bool, bool]]) -> str:
    """What became of a notebook on a host. The one place that decides it, whoever asks.

    Args:
        expected: the stages of its life.
        runs: by stage, of the newest run: whether it passed, whether the notebook is as it was.

    Returns:
        ``failed`` if a newest run failed, else ``stale`` if one was of another state of the
        notebook, else ``partial`` if a stage has no run, else ``passed``; ``none`` without runs.
    """
    if not runs:
        return "none"
    if not all(passed for passed, _ in runs.values()):
        return "failed"
    if not all(current for _, current in runs.values()):
        return "stale"
    return "passed" if all(stage in runs for stage in expected) else "partial"


def place(notebook: Notebook, host: str, stage: str) -> Path:
    """Where the record of a run of this repository belongs."""
    return _beside(notebook, host, f"{stage}.ipynb")


def _beside(notebook: Notebook, host: str, suffix: str) -> Path:
    directory = notebook.root / BUILT / host / notebook.path.parent
    return directory / f"{notebook.name}.{suffix}"


def inputs(notebook: Notebook) -> dict[str, str]:
    """What execution depends on in the repository: path to hash (of a notebook without prose)."""
    files = {
        str(path): hashlib.sha256((notebook.root / path).read_bytes()).hexdigest()
        for path in (*notebook.files, *notebook.fixture_files)
    }
    for other in notebook.others:
        files |= inputs(other)
    return {str(notebook.path): notebook.code_hash, **files}


def key(notebook: Notebook, stage: str, host: Host, verdicts: Iterable[tuple[str, ...]]) -> str:
    """What makes two runs the same, on whatever machine: all that goes in, nothing that comes out.

    Args:
        notebook: its code, files and fixtures.
        stage: see :mod:`kb.proof.stages`.
        host: what kind it is, of which release and made by what; not one machine's image.
        verdicts: what is recorded of the claims that it settles, for the run that is held to it.
    """
    held_to = sorted(verdicts) if stage == "run" else []
    code = executes(host.backend) + recipe(notebook.root, host.backend)
    about = [host.kind, host.base]
    parts = [SCHEMA, inputs(notebook), stage, about, code, held_to]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def executes(backend: Backend) -> str:
    """A digest of the modules that execute and judge a notebook on hosts of ``backend``.

    Comments and layout of Python code do not count.
    """
    package = Path(kb.__file__).parent
    runtime = [
        path
        for path in files_below(package / "runtime")
        if path.name not in _ELSEWHERE and path.suffix in (".py", ".sh")
    ]
    judges = [package / "proof" / name for name in _JUDGES]
    hosts = [package / "proof/hosts" / name for name in backend.modules]
    return _digest(package, (*runtime, *judges, *hosts))


@cache
def recipe(root: Path, backend: Backend) -> str:
    """A digest of what hosts of ``backend`` are made by."""
    return _digest(root, (path for name in backend.recipe for path in files_below(root / name)))


def _digest(root: Path, paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.relative_to(root)}\0".encode())
        content = path.read_bytes()
        total.update(_code(content) if path.suffix == ".py" else content)
    return total.hexdigest()[:16]


def _code(content: bytes) -> bytes:
    """Python code without comments and blank lines."""
    kept = (
        token.string
        for token in tokenize.tokenize(io.BytesIO(content).readline)
        if token.type not in (tokenize.COMMENT, tokenize.NL)
    )
    return "\0".join(kept).encode()


def read(path: Path, root: Path | None = None) -> Run:
    """The record at ``path``. Raises :class:`RecordError` for what is no record to be trusted.

    With ``root``, the project's, it must also be what its place says that it is.
    """
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            raise RecordError("it is not a regular file: remove it")
        if about.st_size > LARGEST:
            raise RecordError(f"it is larger than {LARGEST >> 20} MiB: remove it")
        raw = path.read_bytes()
        content = json.loads(raw)
        check(content)
    except OSError as error:
        raise RecordError(f"it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise RecordError("it is not a whole JSON file: run the notebook again") from None
    found = _seal_in(raw)
    if found is None or found[1] != _seal_of(raw, found):
        raise RecordError(
            "it was changed after its run, or copied by hand: take it back, or bring a record of"
            " another machine in with `python -m kb.proof.evidence add`"
        )
    run = Run(path, content)
    if -run.age > CLOCKS_APART:
        raise RecordError(f"its run is dated in the future ({run.metadata['started']})")
    if root is not None:
        committed = path.is_relative_to(root / COMMITTED)
        base = root / (COMMITTED if committed else BUILT)
        belongs = Path(run.host, run.notebook).with_suffix("")
        stem = re.sub(rf"({PASSED}|{BEGUN})?\.ipynb$", "", str(path.relative_to(base)))
        if stem != f"{belongs}.{run.stage}":
            raise RecordError(
                f"it is of another notebook, host or stage: it says {run.notebook}, {run.stage} on"
                f" {run.host}"
            )
        run = Run(path, content, committed)
    return run


def check(content: Any) -> None:
    """Raise :class:`RecordError` unless ``content`` has the shape of a record."""

    def need(holds: object, what: str) -> None:
        if not holds:
            raise RecordError(f"{what}: it is not a record of this release; run the notebook again")

    need(isinstance(content, dict) and isinstance(content.get("metadata"), dict), "no metadata")
    run = content["metadata"].get(RUN)
    need(isinstance(run, dict), f"no `{RUN}` in its metadata")
    need(run.get("schema") == SCHEMA, f"schema {run.get('schema')!r:.40}")
    for name in ("notebook", "stage", "result", "started"):
        need(isinstance(run.get(name), str), f"`{name}` is not text")
    need(run["result"] in ("passed", "failed"), "`result` is neither passed nor failed")
    path = Path(run["notebook"])
    plain = len(path.parts) == 3 and ".." not in path.parts and path.suffix == ".ipynb"
    need(plain and path.parts[0] in KINDS, "`notebook` is not the path of a notebook")
    need(run["stage"] in stages.NAMED, "an unknown stage")
    try:
        need(datetime.datetime.fromisoformat(run["started"]).tzinfo, "`started` has no time zone")
    except ValueError:
        need(False, "`started` is not a time")
    need(isinstance(run.get("duration"), int | float), "`duration` is not a number")
    for name in ("host", "inputs", "parameters"):
        need(isinstance(run.get(name), dict), f"`{name}` is not an object")
    name = run["host"].get("name")
    need(isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name), "`host` has no name")
    need(re.fullmatch(r"[\w.-]*", str(run["host"].get("machine") or "")), "an odd `machine`")
    need(all(isinstance(v, str | int | None) for v in run["host"].values()), "odd host facts")
    for name in ("commit", "kb"):
        need(isinstance(run.get(name, ""), str | None), f"`{name}` is not text")
    need(_texts(run.get("hung", {"why": ""}), "why"), "`hung` gives no reason")
    error = run.get("error")
    need(error is None or _texts(error, "cell", "message"), "`error` is not a cell and a message")
    need(_rows(run.get("cells"), "id", "status"), "`cells` is not a list of ids and statuses")
    for name in ("broken", "flips"):
        need(_rows(run.get(name) or [], "message"), f"`{name}` is not a list of cases")
    kills = run.get("killed") or []
    need(_rows(kills, "cell", "then", "message"), "`killed` is not a list of kills")
    need(all(isinstance(kill.get("after"), int | float) for kill in kills), "a kill without a time")
    state = run.get("state")
    need(
        state is None or (isinstance(state, dict) and isinstance(state.get("differences"), list)),
        "an odd `state`",
    )
    cells = content.get("cells")
    need(_rows(cells, "id", "cell_type"), "no list of cells")
    for cell in cells:
        source = cell.get("source")
        lines = source if isinstance(source, list) else [source]
        need(all(isinstance(line, str) for line in lines), "a cell without text")
        need(isinstance(cell.get("metadata", {}), dict), "a cell with odd metadata")
        need(isinstance(cell.get("metadata", {}).get("tags", []), list), "a cell with odd tags")
        outputs = cell.get("outputs", [])
        need(_rows(outputs, "output_type"), "a cell with odd outputs")
        for output in outputs:
            data = output.get("data", {})
            need(isinstance(data, dict), "an output with odd data")
            told = data.get(MIME)
            saw = told.get("saw", []) if isinstance(told, dict) else []
            need(isinstance(saw, list), "a verdict with an odd reason")


def _texts(value: Any, *names: str) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in names)


def _rows(value: Any, *names: str) -> bool:
    return isinstance(value, list) and all(_texts(row, *names) for row in value)


def sealed(content: dict[str, Any]) -> str:
    """The text of a record, with a seal that an edit by hand breaks."""
    content["metadata"][RUN]["seal"] = "0" * 64
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    # Half a character, which UTF-8 cannot write, as JSON writes it.
    raw = text.encode(errors="backslashreplace")
    found = _seal_in(raw)
    assert found is not None
    return (raw[: found.start(1)] + _seal_of(raw, found) + raw[found.end(1) :]).decode()


def _seal_of(raw: bytes, seal: re.Match[bytes]) -> bytes:
    """The digest of a record's text without what is in the place of its seal."""
    digest = hashlib.sha256(memoryview(raw)[: seal.start(1)])
    digest.update(memoryview(raw)[seal.end(1) :])
    return digest.hexdigest().encode()


def _seal_in(raw: bytes) -> re.Match[bytes] | None:
    """Where the seal is: the last of its kind, for an output may have one of its own."""
    at = len(raw)
    while (at := raw.rfind(_SEAL_KEY, 0, at)) >= 0:
        if found := _SEAL.match(raw, at):
            return found
    return None


def load(root: Path) -> Records:
    """Every record below ``root``."""
    found = Records()
    runs: dict[tuple[str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for directory in (COMMITTED, BUILT):
        for path in sorted((root / directory).rglob("*.ipynb")):
            try:
                run = read(path, root)
            except RecordError as error:
                found.rejected[path.relative_to(root)] = str(error)
                continue
            if BEGUN in path.suffixes and is_running(run):
                continue
            runs[run.notebook, run.host][run.stage].append(run)
    for where, by_stage in runs.items():
        for stage, together in by_stage.items():
            together.sort(key=lambda run: (run.started, not run.committed))
            *before, last = together
            found.newest[where][stage] = last
            passed = [run for run in before if run.passed]
            if not last.passed and passed:
                found.older[where][stage] = passed[-1]
    _load_skips(root, found)
    return found


def newest(notebook: Notebook, host: str, stage: str) -> Run | None:
    """The newest record of one stage, here or committed; None if there is none to be trusted."""
    runs = []
    built = place(notebook, host, stage)
    committed = notebook.root / COMMITTED / built.relative_to(notebook.root / BUILT)
    for path in (committed, built):
        try:
            runs.append(read(path, notebook.root))
        except RecordError:
            continue
    return max(runs, key=lambda run: run.started, default=None)


def begin(notebook: Notebook, host: str, stage: str, content: dict[str, Any]) -> Path:
    """Remember that a run has begun: whatever kills its process, it has a record.

    Returns the path of what :func:`end` removes. Raises OSError.
    """
    content["metadata"][RUN]["process"] = _process(os.getpid())
    path = _beside(notebook, host, f"{stage}{BEGUN}.ipynb")
    write_atomically(path, sealed(content))
    return path


def is_running(run: Run) -> bool:
    """Whether the process of a run that has begun is still there."""
    process = run.metadata.get("process")
    pid = str(process).partition(" ")[0]
    return pid.isdigit() and _process(int(pid)) == process


def _process(pid: int) -> str:
    """A process by its number, when it began, and in which boot, so that none is taken for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return f"{pid} {fields[19]} {boot}"


def store(notebook: Notebook, host: str, stage: str, content: dict[str, Any]) -> Run:
    """Write a record, whole or not at all. Raises OSError.

    What it replaces is kept beside it where that passed and this has not.
    """
    path = place(notebook, host, stage)
    kept = _beside(notebook, host, f"{stage}{PASSED}.ipynb")
    text = sealed(content)
    if content["metadata"][RUN]["result"] == "passed":
        write_atomically(path, text)
        kept.unlink(missing_ok=True)
    else:
        try:
            passed = read(path).passed
        except RecordError:
            passed = False
        if passed:
            write_atomically(kept, path.read_text(encoding="utf-8"))
        write_atomically(path, text)
    _beside(notebook, host, "skipped.json").unlink(missing_ok=True)
    return Run(path, content)


def store_skip(notebook: Notebook, host: str, reason: str) -> None:
    """Remember why ``notebook`` was not run on ``host``; a run's record is not touched."""
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    write_atomically(
        _beside(notebook, host, "skipped.json"), json.dumps({"reason": reason, "when": when})
    )


def _load_skips(root: Path, found: Records) -> None:
    for path in sorted((root / BUILT).glob("*/*/*/*.skipped.json")):
        parts = path.relative_to(root / BUILT).parts
        name = path.name.removesuffix(".skipped.json")
        try:
            reason = json.loads(path.read_text(encoding="utf-8"))["reason"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            found.rejected[path.relative_to(root)] = "it is damaged: remove it, and run again"
            continue
        found.skips[str(Path(*parts[1:-1], f"{name}.ipynb"))][parts[0]] = str(reason)
