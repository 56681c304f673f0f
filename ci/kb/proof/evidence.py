"""The committed records: takes over the runs made here, and brings in those of other machines.

    python -m kb.proof.evidence keep HOST...             the runs in build/runs of these hosts
    python -m kb.proof.evidence add [--host NAME] FILE... what papermill wrote on another machine

A clone has a whole site by them. They are published: read them before you commit them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kb.proof import catalog, records
from kb.proof.records import COMMITTED, RecordError, Run
from kb.runtime.record import RUN, SCHEMA, write_atomically

# Hosts of package registries, whose names say nothing to a reader: any mirror does. With breaks in
# them, so that this file names none.
REGISTRIES = re.compile(
    r"\b(?:files\.python(?:)hosted\.org|py(?:)pi\.org|registry\.npm(?:)js\.org|deb\.debian(?:)\.org"
    r"|security\.debian(?:)\.org|(?:archive|security)\.ubuntu(?:)\.com|proxy\.golang(?:)\.org"
    r"|(?:index|static)\.crates(?:)\.io|repo1?\.maven(?:)\.(?:apache\.)?org)\b"
)
MIRROR = "a-mirror.example"
_NAME = re.compile(r"\w[\w.-]*")


class EvidenceError(Exception):
    """Something that cannot be committed. One sentence."""


def keep(root: Path, hosts: Iterable[str]) -> list[str]:
    """Take over what was run here on ``hosts``; returns a line for each notebook.

    A committed record that is newer than the run here stays. Records of notebooks and stages that
    are no more go. Raises :class:`EvidenceError` where a run
    is not of a committed state.
    """
    lines = []
    books = catalog.find(root)
    for host in hosts:
        ran = {}
        for notebook in books:
            runs = {
                stage: run
                for stage in notebook.stages
                if (run := _built(notebook, host, stage)) is not None
            }
            if not runs:
                continue
            if missing := [stage for stage in notebook.stages if stage not in runs]:
                raise EvidenceError(
                    f"{notebook.path} on {host}: there is no run of {', '.join(missing)}: run"
                    " the notebook whole"
                )
            for run in runs.values():
                if run.metadata["dirty"] or not run.metadata["commit"]:
                    raise EvidenceError(
                        f"{run.path.relative_to(root)}: it ran with uncommitted changes: commit,"
                        " and run it again"
                    )
            ran[notebook.path] = runs
        if not ran:
            raise EvidenceError(f"there is no run on {host}: make run ON={host}")
        for path, runs in ran.items():
            places = {
                stage: root / COMMITTED / host / path.with_name(f"{path.stem}.{stage}.ipynb")
                for stage in runs
            }
            if any(_is_newer(places[stage], run, root) for stage, run in runs.items()):
                lines.append(f"{path} on {host}: left, the committed record is newer")
                continue
            for stage, run in runs.items():
                write_atomically(places[stage], _published(run.content))
            passed = all(run.passed for run in runs.values())
            lines.append(f"{path} on {host}: {'passed' if passed else 'FAILED'}")
        _forget(root, host, books)
    return lines


def opened(file: Path) -> Any:
    """What papermill wrote on another machine. Raises EvidenceError for what is no such record."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvidenceError(f"{file}: it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise EvidenceError(
            f"{file}: it is cut off or damaged, and no whole JSON file: bring it once more"
        ) from None
    try:
        run = content["metadata"][RUN]
    except (KeyError, TypeError):
        raise EvidenceError(f"{file}: it is not the record of a run of this repository") from None
    if not isinstance(run, dict) or run.get("schema") != SCHEMA:
        raise EvidenceError(f"{file}: it is a record of another release: run the notebook again")
    return content


def add(root: Path, file: Path, host: str, base: Path = COMMITTED) -> Path:
    """Bring in a record that papermill wrote on a machine that CI has not; returns where it is.

    ``base`` is one of the two places of records. Raises :class:`EvidenceError` for what is no such
    record.
    """
    content = opened(file)
    run = content["metadata"][RUN]
    if not _NAME.fullmatch(host):
        raise EvidenceError(f"--host {host}: a name has letters, digits, dots and hyphens")
    if run.get("notebook") not in map(str, catalog.paths(root)):
        raise EvidenceError(f"{file}: there is no {run.get('notebook')} here that it could be of")
    facts = run.setdefault("host", {})
    if isinstance(facts, dict):
        facts["name"] = host
    try:  # before what it says of itself becomes a path
        records.check(content)
    except RecordError as error:
        raise EvidenceError(f"{file}: {error}") from None
    content["metadata"].pop("papermill", None)  # paths of that machine
    for cell in content.get("cells", []):
        cell.get("metadata", {}).pop("papermill", None)
    path = Path(run["notebook"])
    machine = str(facts.get("machine") or "")
    target = root / base / host / machine / path.with_name(f"{path.stem}.{run['stage']}.ipynb")
    before = target.read_text(encoding="utf-8") if target.exists() else None
    write_atomically(target, _published(content))
    try:
        records.read(target, root)
    except RecordError as error:
        if before is None:
            target.unlink()
        else:
            write_atomically(target, before)
        raise EvidenceError(f"{file}: {error}") from None
    return target


def _built(notebook: catalog.Notebook, host: str, stage: str) -> Run | None:
    try:
        return records.read(records.place(notebook, host, stage), notebook.root)
    except RecordError:
        return None


def _is_newer(place: Path, run: Run, root: Path) -> bool:
    """Whether the record in ``place`` is of a later run; one that cannot be read is of none."""
    try:
        return bool(records.read(place, root).metadata["started"] > run.metadata["started"])
    except RecordError:
        return False


def _published(content: dict[str, Any]) -> str:
    """A record as it is committed: any mirror stands for a registry."""
    text = json.dumps(content, ensure_ascii=False)
    published: dict[str, Any] = json.loads(REGISTRIES.sub(MIRROR, text))
    return records.sealed(published)


def _forget(root: Path, host: str, books: Iterable[catalog.Notebook]) -> None:
    stages = {
        book.path.with_name(f"{book.path.stem}.{stage}.ipynb")
        for book in books
        for stage in book.stages
    }
    base = root / COMMITTED / host
    for path in base.glob("*/*/*.ipynb"):
        if path.relative_to(base) not in stages:
            path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kb.proof.evidence", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kept = commands.add_parser("keep")
    kept.add_argument("hosts", nargs="+", metavar="HOST")
    added = commands.add_parser("add")
    added.add_argument("--host", default="local", metavar="NAME")
    added.add_argument("files", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args()
    root = Path.cwd()
    try:
        if options.command == "keep":
            print("\n".join(keep(root, options.hosts)))
        else:
            for file in options.files:
                print(add(root, file, options.host).relative_to(root))
    except (EvidenceError, catalog.CatalogError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
