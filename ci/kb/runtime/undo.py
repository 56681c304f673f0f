"""Saves what a step is about to change, and puts it back: crash-safe, exact, newest first.

The undo directory of a runbook, or of its use for one service, holds

    kept.jsonl            a line for each path, in order: :class:`Original`, with its own check sum
    originals/N/copy      what the path was, copied with all its attributes
    originals/N/was.json  the same in words: each file's kind, owner, mode, digest, attributes;
                          and the path's line once more, for the day when the journal is damaged
    applied/N.json        what the path was after the last step that declared it
    applied/N.running     is there while such a step runs, touched every second
    restored              everything has been put back, and what is left here may go
    notes/                what `kb-note` remembers for the rollback, a file each, until one has
                          passed

A line is written after its copy has arrived on the disk and before the step runs, so a kill at any
moment leaves either nothing changed or everything needed to go back. Nothing in it is removed
before all of it has been put back. What was written before version 2 is read by
:mod:`kb.runtime.undo_v1`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import secrets
import shutil
import stat
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from kb.runtime import paths, trees, undo_v1
from kb.runtime.paths import PathError, shown
from kb.runtime.trees import Entry, Manifest, TreeError

NOTES = "notes"
STATE = "NOBLE_RUNBOOKS_STATE"  # another directory for what is kept
ROOTS_STATE = Path("/var/lib/noble-runbooks")

VERSION = 2
BEAT = 1.0  # seconds between two signs of life of a running step
SLACK_NS = 2 * 10**9  # a step that is cut off may have gone on for this long after the last one
NAME_BYTES = 200  # of a saved file's name, which gets a time and a digest, too; a name has 255


class UndoError(Exception):
    """Something that could not be saved or put back. One sentence."""


@dataclass(frozen=True)
class Original:
    """One path as it was before the first step that declared it.

    ``place`` is where ``path`` really is; ``made`` are its directories that a step made, deepest
    first. ``uid`` and ``mount`` are of the directory that it lies in, or of the next that exists.
    ``after`` names the originals that other runbooks had of the same files at that time. One with
    ``instead`` takes the place of an earlier line: another runbook has handed it over.
    """

    path: str
    place: str
    copy: str | None
    was: str
    made: list[str] = field(default_factory=list)
    uid: int = 0
    mount: str = ""
    number: int = 0
    id: str = ""
    time: int = 0
    after: list[str] = field(default_factory=list)
    instead: int | None = None
    version: int = VERSION

    @property
    def slot(self) -> int:
        """The number under which is kept what the steps made of it."""
        return self.number if self.instead is None else self.instead

    def as_row(self) -> dict[str, Any]:
        row = dict(vars(self))
        return {**row, "sum": _check_sum(row)}


@dataclass
class _Plan:
    """What is to be done to one path in a rollback."""

    original: Original
    want: Manifest
    have: Manifest
    place: Path


class UndoJournal:
    """The originals of one runbook on this host, or of its use for one service.

    ``root`` is a directory of its own below the state directory: AREA/NAME or AREA/NAME@SERVICE.
    It exists from the first :meth:`save` until everything is restored. The lock is beside it, since
    it must outlive it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / "kept.jsonl"
        self.originals_directory = root / "originals"
        self.applied = root / "applied"
        self.restored = root / "restored"
        self._lock = Lock(root.parent / f"{root.name}.lock")
        self._before: dict[int, tuple[Manifest, set[str]]] = {}  # of the step that runs now

    # What is saved.

    def originals(self) -> list[Original]:
        """What is saved and can be read, oldest first."""
        return self._read()[0]

    def is_empty(self) -> bool:
        """Whether nothing is saved here that has not been put back."""
        return self.restored.exists() or self._read() == ([], [])

    def holds(self) -> bool:
        """Whether something has been applied that is not rolled back: originals, or notes."""
        return not self.is_empty() or (self.root / NOTES).exists()

    def everything(self) -> list[str]:
        """All that has been applied with this state directory, in words, sorted."""
        places = sorted(self.root.parents[1].glob("*/*"))
        journals = [UndoJournal(place) for place in places if place.name != "edited"]
        return [journal.label() for journal in journals if journal.holds()]

    def others(self) -> list[str]:
        """The other services on this host that the same runbook has been applied to, sorted."""
        runbook, at, _ = self.root.name.partition("@")
        places = self.root.parent.glob(f"{runbook}@*") if at else ()
        return sorted(
            urllib.parse.unquote(place.name.removeprefix(f"{runbook}@"))
            for place in places
            if place != self.root and UndoJournal(place).holds()
        )

    def lock(self) -> None:
        """Make this process the only one that changes this runbook's host, until it ends."""
        try:
            paths.locate(self.root / "x").refuse_exposed()
            taken = self._lock.take(wait=False)
        except PathError as error:
            raise UndoError(str(error)) from None
        except OSError as error:
            raise UndoError(
                f"originals cannot be kept in {shown(self.root)} ({_sentence(error)}):"
                f" set {STATE} to a directory that you may write to"
            ) from None
        if not taken:
            raise UndoError(
                "another run of this runbook is under way on this host"
                f" (it holds {shown(self._lock.path)}): wait for it to end"
            )
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def unlock(self) -> None:
        """Let the next run begin."""
        self._lock.release()

    @contextlib.contextmanager
    def step(self, declared: Iterable[Path]) -> Iterator[list[str]]:
        """Save the originals of all paths, and afterwards remember what the step made of them.

        What a step that fails has left is remembered as well: it is no edit of a person. Yields a
        line for each path that a person has edited since an earlier step wrote it.
        """
        declared = list(declared)
        saved = [
            f"saved: {shown(path)} was edited since; the edited one is {shown(copy)}"
            for path in declared
            if (copy := self.save(path))
        ]
        originals = [self._find(path) for path in declared]
        self.applied.mkdir(parents=True, exist_ok=True, mode=0o700)
        running = [self.applied / f"{original.slot:04d}.running" for original in originals]
        for mark in running:
            mark.touch()
        with _Heartbeat(running):
            try:
                yield saved
            except BaseException:
                with contextlib.suppress(OSError, UndoError):
                    self._remember_applied(originals)
                raise
        self._remember_applied(originals)

    def save(self, path: Path) -> Path | None:
        """Save ``path`` as it is now, unless its original is saved already.

        Returns where a copy of it is, if a person has edited it since an earlier step wrote it.
        """
        try:
            return self._save(path)
        except (PathError, TreeError, OSError) as error:
            raise UndoError(f"cannot keep {shown(path)}: {_sentence(error)}") from None

    def _save(self, path: Path) -> Path | None:
        if self.restored.exists():
            self._clean()
        originals, damage = self._read()
        if damage:
            raise UndoError(f"cannot keep {shown(path)}: {'; '.join(damage)}: roll back first")
        place = examine(path, self.root.parents[1])
        for original in originals:
            if _place(original) == place.path:
                return self._save_edited(original, place)
        with Lock(self._everything()).held():
            self._save_original(path, place, originals)
        return None

    def _save_original(self, path: Path, place: paths.Place, originals: list[Original]) -> None:
        number, new = self._room(originals)
        manifest: Manifest = {}
        parent = next((p for p in place.path.parents if p not in place.missing), Path("/"))
        with _directory(parent) as at, _directory(new) as to:
            if not place.missing:
                if os.geteuid() != 0:
                    _refuse_what_only_root_can(trees.describe(at, place.path.name))
                manifest = trees.copy(at, place.path.name, to, "copy")
            original = Original(
                path=str(path),
                place=str(place.path),
                copy=f"{number:04d}" if manifest else None,
                was=trees.digest(manifest) if manifest else "absent",
                made=[*map(str, place.missing), *self._made_by_others(place.path)],
                uid=os.fstat(at).st_uid,
                mount=str(paths.mounts().get(paths.mount_of(at), "")),
                number=number,
                id=secrets.token_hex(8),
                time=time.time_ns(),
                after=[o.id for _, o in self._elsewhere(place.path) if o.id],
            )
        self._add(original, manifest, new)

    def _add(self, original: Original, manifest: Manifest, new: Path) -> None:
        """Write the line of an original whose copy is in ``new``, and give that its name."""
        _write(new / "was.json", {"row": original.as_row(), "entries": manifest})
        _sync_directory(new)
        _sync_directory(self.originals_directory)
        _end_last_line(self.journal)
        with self.journal.open("a", encoding="ascii") as journal:
            journal.write(json.dumps(original.as_row()) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        _sync_directory(self.root)
        new.rename(new.with_suffix(""))

    def _room(self, originals: list[Original]) -> tuple[int, Path]:
        """The next number, which nothing has that is here, and a new directory for it."""
        used = [original.number for original in originals]
        for directory in (self.originals_directory, self.root / undo_v1.COPIES):
            if directory.is_dir():
                names = (entry.name.partition(".")[0] for entry in directory.iterdir())
                used += [
                    int(name) for name in names if name.isdecimal() and (directory / name).exists()
                ]
        number = max(used, default=-1) + 1
        new = self.originals_directory / f"{number:04d}.new"
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.originals_directory.mkdir(exist_ok=True, mode=0o700)
        _remove(new)
        new.mkdir(mode=0o700)
        return number, new

    # What the steps made of it.

    def _remember_applied(self, originals: Iterable[Original]) -> None:
        """Remember what the step left, so that a later edit by a person is not thrown away."""
        for original in originals:
            try:
                have = self._now(original)
            except (PathError, TreeError) as error:
                raise UndoError(f"what the step made cannot be looked at: {error}") from None
            before, edited = self._before.pop(original.slot, ({}, set()))
            ours = {
                rel: entry
                for rel, entry in have.items()
                if rel not in edited or not entry.same(before.get(rel))
            }
            known, _ = self._applied(original)
            # A step that changed nothing changes nothing here either.
            if not trees.same(known, ours):
                _write(self.applied / f"{original.slot:04d}.json", {"entries": ours})
            (self.applied / f"{original.slot:04d}.running").unlink(missing_ok=True)

    def _find(self, path: Path) -> Original:
        place = paths.locate(path).path
        return next(one for one in self.originals() if _place(one) == place)

    def _now(self, original: Original, known: Manifest | None = None) -> Manifest:
        place = _place(original)
        try:
            with _directory(place.parent) as at:
                return trees.describe(at, place.name, known or self._applied(original)[0])
        except FileNotFoundError:
            return {}
        except TreeError as error:
            raise TreeError(f"{shown(place)}: {error}") from None

    def _applied(self, original: Original) -> tuple[Manifest, int]:
        """What the steps left of a path, and until when a change there was a step's doing."""
        file = self.applied / f"{original.slot:04d}.json"
        until = 0
        with contextlib.suppress(FileNotFoundError):
            until = (self.applied / f"{original.slot:04d}.running").stat().st_mtime_ns + SLACK_NS
        try:
            return _manifest(json.loads(file.read_text(encoding="ascii"))), until
        except FileNotFoundError:
            if original.version < VERSION:
                return {}, max(until, undo_v1.applied_at(self.root))
        except (ValueError, TypeError, KeyError):
            until = max(until, file.stat().st_mtime_ns)
        return {}, until

    def _edits(self, original: Original, have: Manifest) -> set[str]:
        """What is in ``have`` that neither a step made nor was there before: a person's."""
        if not have:
            return set()
        place = _place(original)
        known = [
            (other, _place(other), self._was(other), *self._applied(other))
            for other in self.originals()
            if _overlap(_place(other), place)
        ]

        def is_ours(rel: str, entry: Entry) -> bool:
            for other, root, was, applied, until in known:
                below = _seen_from(root, place, rel)
                if below is None:
                    continue
                ours = was.get(below), applied.get(below)
                if (
                    any(entry.same(one) for one in ours)
                    or entry.ctime <= until
                    # A directory has no content of its own.
                    or (entry.is_directory and any(one and one.is_directory for one in ours))
                    or undo_v1.left_unchanged(self.root, other.path, other.version, place, rel)
                ):
                    return True
            return False

        return {rel for rel, entry in have.items() if not is_ours(rel, entry)}

    def is_edited(self, path: Path) -> bool:
        """Whether a person has edited ``path`` since a step wrote it, as far as can be told."""
        place = paths.locate(path).path
        known = [original for original in self.originals() if _place(original) == place]
        return any(self._edits(original, self._now(original)) for original in known)

    def _was(self, original: Original) -> Manifest:
        """What the path was, as far as that can be told."""
        try:
            return self._original(original)
        except trees.Rotten:
            return {}

    def _save_edited(self, original: Original, place: paths.Place) -> Path | None:
        have = self._now(original)
        edits = self._edits(original, have)
        self._before[original.slot] = have, edits
        if not edits:
            return None
        with _directory(place.path.parent) as at:
            return self._save_edits(place.path, at, have, edits)

    def _save_edits(self, place: Path, at: int, have: Manifest, edits: set[str]) -> Path:
        """Copy what a person made to where it is not in the way, once; returns where."""
        tops = sorted(rel for rel in edits if not any(up in edits for up in _above(rel)))
        digest = trees.digest({rel: have[rel] for rel in edits})[:8]
        flat = os.fsencode(str(place).strip("/").replace("/", "-"))[-NAME_BYTES:]
        name = os.fsdecode(flat.lstrip(bytes(range(0x80, 0xC0))))  # not from within a character
        directory = self.root.parent / "edited"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for there in directory.iterdir():
            if there.name.startswith(name) and there.name.endswith(f".{digest}"):
                return there
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        saved = directory / f"{name}.{stamp}.{digest}"
        partial = directory / f".{digest}.partial"
        _remove(partial)
        if tops == [trees.TOP]:
            with _directory(directory) as to:
                trees.copy(at, place.name, to, partial.name)
        else:
            partial.mkdir(mode=0o700)
            for rel in tops:
                *way, last = rel.split("/")
                (partial / Path(*way)).mkdir(parents=True, exist_ok=True, mode=0o700)
                with (
                    _directory(place / Path(*way)) as source,
                    _directory(partial / Path(*way)) as to,
                ):
                    trees.copy(source, last, to, last)
        partial.rename(saved)
        _sync_directory(directory)
        return saved

    # What other runbooks saved of the same files.

    def _everything(self) -> Path:
        """The lock of all runbooks of this state directory."""
        return self.root.parents[1] / ".lock"

    def _elsewhere(self, place: Path) -> list[tuple[UndoJournal, Original]]:
        """What other runbooks and services have saved at, above or below ``place``."""
        found = []
        for directory in sorted(self.root.parents[1].glob("*/*")):
            other = UndoJournal(directory)
            if directory != self.root and not other.restored.exists():
                found += [
                    (other, original)
                    for original in other.originals()
                    if _overlap(_place(original), place)
                ]
        return found

    def _made_by_others(self, place: Path) -> list[str]:
        """Directories above ``place`` that others have made. Whoever comes last removes them."""
        found = {
            made
            for directory in self.root.parents[1].glob("*/*")
            for original in UndoJournal(directory).originals()
            for made in original.made
            if Path(made) in place.parents
        }
        return sorted(found, key=len, reverse=True)

    def _later(self, original: Original) -> list[tuple[UndoJournal, Original]]:
        """What others have saved of the same files after this was saved, oldest first."""
        found = [
            (other, theirs)
            for other, theirs in self._elsewhere(_place(original))
            if (
                original.id in theirs.after
                if original.id and theirs.id
                else theirs.time > original.time
            )
        ]
        return sorted(found, key=lambda pair: pair[1].time)

    def _stands_on(self, plan: _Plan) -> tuple[UndoJournal, Original] | None:
        """Whom to leave a file to, with its original, since they were applied later and need it.

        That is right if nobody has changed it since: then the next found it as it is now, and made
        nothing of it. Raises :class:`UndoError` if it has been changed.
        """
        later = self._later(plan.original)
        if not later or trees.same(plan.have, plan.want):
            return None
        other, theirs = later[0]
        found = other._was(theirs)
        # Found as it was before both: then they put it back so, or it has been given to them.
        alike = trees.same(found, plan.have) or trees.same(found, plan.want)
        if _place(theirs) != plan.place or not alike:
            names = ", then ".join(dict.fromkeys(o.label() for o, _ in reversed(later)))
            raise UndoError(
                f"{shown(plan.place)} was changed by {later[-1][0].label()} as well, after this:"
                f" roll back {names}, and then this"
            )
        return other, theirs

    def _give(self, plan: _Plan, other: UndoJournal, theirs: Original) -> None:
        """Make our original that of those who stand on it."""
        if trees.same(other._was(theirs), plan.want):
            return
        if not other._lock.take(wait=False):
            raise UndoError(f"a run of {other.label()} is under way: wait for it to end")
        try:
            number, new = other._room(other.originals())
            if plan.want:
                copy = self._copy(plan.original)
                with _directory(copy.parent) as at, _directory(new) as to:
                    trees.copy(at, copy.name, to, "copy")
            given = Original(
                **{
                    **vars(plan.original),
                    "copy": f"{number:04d}" if plan.want else None,
                    "was": trees.digest(plan.want) if plan.want else "absent",
                    "made": [*theirs.made, *plan.original.made],
                    "number": number,
                    "id": theirs.id,
                    "time": theirs.time,
                    "after": theirs.after,
                    "instead": theirs.slot,
                    "version": VERSION,
                }
            )
            other._add(given, plan.want, new)
        finally:
            other._lock.release()

    def label(self) -> str:
        """The runbook, and the service that it was applied to, in words."""
        name, at, service = self.root.name.partition("@")
        runbook = shown(f"{self.root.parent.name}/{name}")
        return f"{runbook} for {shown(urllib.parse.unquote(service))}" if at else runbook

    # The way back.

    def restore(self) -> Iterator[str]:
        """Put every path back, newest first; yields one line for each thing done.

        Can be interrupted and repeated. At the end nothing is saved here any more; :meth:`forget`
        does the rest. Raises :class:`UndoError` before anything is changed, if it could not be done
        safely; and at the end, if something could not be put back: then all originals stay.
        """
        if self.restored.exists():
            self._clean()
        originals, damage = self._read()
        if not originals and not damage:
            self._clean()
            return
        with Lock(self._everything()).held():
            plans, failed = self._plans(originals), [*damage]
            for plan in plans:
                try:
                    yield from self._put_back(plan)
                except (UndoError, PathError, TreeError, OSError) as error:
                    failed.append(f"{shown(plan.place)} was not put back: {_sentence(error)}")
            yield from self._remove_made(originals)
            if failed:
                raise UndoError(
                    "; ".join(failed) + f" (all originals stay in {shown(self.root)}: put right by"
                    " hand what this names, and roll back again; or, when the host is as it was,"
                    " remove that directory)"
                )
        self._finish()

    def _plans(self, originals: list[Original]) -> list[_Plan]:
        """Look at everything, and refuse what cannot be done safely before anything is changed."""
        plans, refused = [], []
        for original in reversed(originals):
            try:
                place = self._checked(original)
                paths.refuse_mounts(place)
                plan = _Plan(original, self._original(original), self._now(original), place)
                self._stands_on(plan)
                plans.append(plan)
            except trees.Rotten:
                plans.append(_Plan(original, {}, {}, place))
            except (UndoError, PathError, TreeError, OSError) as error:
                refused.append(_sentence(error))
        if refused:
            raise UndoError("; ".join(dict.fromkeys(refused)) + " (nothing has been put back)")
        return plans

    def _checked(self, original: Original) -> Path:
        """Where an original belongs, if that is still where it came from."""
        place = _place(original)
        now = paths.locate(place)
        if now.path != place:
            raise PathError(f"a directory on the way to {shown(place)} is a link now")
        now.refuse_exposed()
        if not now.missing:
            with _directory(place.parent) as at:
                _refuse_another(at, original)
        return place

    def _put_back(self, plan: _Plan) -> Iterator[str]:
        original = plan.original
        want = self._original(original)  # raises if it is damaged
        have = self._now(original, plan.have)
        with contextlib.suppress(FileNotFoundError), _directory(plan.place.parent) as at:
            _Stage(at, original).clear()
        if trees.same(want, have):
            return
        plan = _Plan(original, want, have, plan.place)
        if stands := self._stands_on(plan):
            self._give(plan, *stands)
            yield (
                f"left: {shown(plan.place)}, since {stands[0].label()} was applied after this and"
                " needs it as it is; the rollback of that puts back what was there before both"
            )
            return
        for made in reversed(paths.locate(plan.place).missing):
            yield f"changed: made {shown(made)}"
        with _directory(plan.place.parent, make=bool(want)) as at:
            _refuse_another(at, original)
            if edits := self._edits(original, have):
                saved = self._save_edits(plan.place, at, have, edits)
                yield _saved(plan.place, edits, saved)
            notes = self._exchange(original, plan.place.name, at, want, have)
        for rel in notes:
            yield (
                f"note: {trees.where(str(plan.place), rel)} had other names (hard links), and the"
                " step had put another file in its place: it is a file of its own now"
            )
        yield f"changed: {'put back' if want else 'removed'} {shown(plan.place)}"

    def _exchange(
        self, original: Original, name: str, at: int, want: Manifest, have: Manifest
    ) -> list[str]:
        copy = self._copy(original)
        with _Stage(at, original) as stage, _directory(copy.parent) as copies:
            restorer = trees.Restorer(at, name, want, copies, stage)
            try:
                restorer.restore(have, copy.name)
            except trees.Rotten as rotten:
                raise UndoError(
                    f"its copy {trees.where(str(copy), str(rotten))} is not what was saved: it has"
                    " been changed or damaged since"
                ) from None
            except FileNotFoundError:
                if not copy.exists():
                    raise UndoError(f"its original is no longer in {shown(copy)}") from None
                raise
            differs = _differences(want, trees.describe(at, name, have))
        if differs:
            raise UndoError(f"{', '.join(differs[:3])} could not be made as it was")
        return restorer.notes

    def _remove_made(self, originals: list[Original]) -> Iterator[str]:
        """Remove the directories that were made for a path, deepest first, if they are empty."""
        made = {Path(directory) for original in originals for directory in original.made}
        for directory in sorted(made, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PathError):
                with _directory(directory.parent) as at:
                    try:
                        os.rmdir(directory.name, dir_fd=at)
                    except OSError:
                        if (directory / ".").exists():
                            yield f"left: {shown(directory)}, which is not empty"
                        continue
                yield f"changed: removed {shown(directory)}"

    def _finish(self) -> None:
        """Everything is put back: from here on nothing may be put back a second time."""
        _write(self.restored, {})
        self._clean()

    def _clean(self) -> None:
        """Remove what is not needed any more; the mark that says so goes last."""
        for directory in (self.originals_directory, self.applied, self.root / undo_v1.COPIES):
            if directory.exists():
                shutil.rmtree(directory)
        for file in (self.journal, self.root / undo_v1.LEFT, self.restored):
            file.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the undo directory, and the directories above it that only held it.

        Not before the rollback's cell has ended: its own files lie there. The lock goes last.
        """
        if not self.is_empty():
            raise UndoError(f"{shown(self.root)} still holds originals")
        # Held here, and gone with that: a run that was killed while it had it has left it behind.
        with Lock(self._everything()).held():
            shutil.rmtree(self.root, ignore_errors=True)
        self._lock.release()
        for parent in list(self.root.parents)[:2]:
            try:
                parent.rmdir()
            except OSError:
                break

    # The files.

    def _read(self) -> tuple[list[Original], list[str]]:
        """The originals that can be read, oldest first, and a sentence for each that cannot."""
        rows: dict[int, Original] = {}
        damage: list[str] = []
        try:
            text = self.journal.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            text = b""
        *lines, last = text.split(b"\n")
        for number, line in enumerate(lines):
            original = _row(line, number)
            if original is None:
                damage.append(f"line {number + 1} of {shown(self.journal)} is damaged")
            else:
                rows[original.number] = original
        # A last line that a crash cut off belongs to nothing changed.
        if (whole := _row(last, len(lines))) is not None:
            rows[whole.number] = whole
        damage += self._recover(rows)
        ordered = [self._dated(rows[number]) for number in sorted(rows)]
        replaced = {o.instead: o for o in ordered if o.instead is not None}
        return [replaced.get(o.number, o) for o in ordered if o.instead is None], damage

    def _dated(self, original: Original) -> Original:
        """A line of before version 2 does not say when it was written; its copy does."""
        if original.version < VERSION and original.copy is not None:
            with contextlib.suppress(FileNotFoundError):
                return replace(original, time=self._copy(original).lstat().st_ctime_ns)
        return original

    def _recover(self, rows: dict[int, Original]) -> list[str]:
        """Add what has a copy and no line; returns a sentence for each."""
        damage = []
        for directory, known in (
            (self.originals_directory, {f"{number:04d}" for number in rows}),
            (self.root / undo_v1.COPIES, {o.copy for o in rows.values() if o.version < VERSION}),
        ):
            for name in sorted(p.name for p in directory.iterdir()) if directory.is_dir() else ():
                if name in known or not name.isdecimal():
                    continue
                original = None
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    found = json.loads((directory / name / "was.json").read_text(encoding="ascii"))
                    original = _row(json.dumps(found["row"]).encode(), int(name))
                where = shown(directory / name)
                if original is not None:
                    rows[original.number] = original
                    of = f"it is the original of {shown(original.path)}"
                else:
                    of = "of what it is the original cannot be told"
                damage.append(f"{where} has no line in {shown(self.journal)}: {of}")
        return damage

    def _copy(self, original: Original) -> Path:
        """Where the copy is."""
        name = original.copy or ""
        if original.version < VERSION:
            return self.root / undo_v1.COPIES / name
        directory = self.originals_directory / f"{original.number:04d}"
        return (directory if directory.exists() else directory.with_suffix(".new")) / "copy"

    def _original(self, original: Original) -> Manifest:
        """What the path was. Raises :class:`UndoError` if that is damaged."""
        if original.copy is None:
            return {}
        copy = self._copy(original)
        if original.version < VERSION:
            try:
                return undo_v1.describe(copy, original.was)
            except ValueError as error:
                raise trees.Rotten(str(error)) from None
        try:
            text = (copy.parent / "was.json").read_text(encoding="ascii")
            manifest = _manifest(json.loads(text))
        except FileNotFoundError:
            raise trees.Rotten(f"its original is no longer in {shown(copy)}") from None
        except (ValueError, TypeError, KeyError):
            manifest = {}
        if trees.digest(manifest) != original.was:
            raise trees.Rotten(f"{shown(copy.parent)}/was.json is damaged")
        return manifest


def examine(path: Path, root: Path | None = None) -> paths.Place:
    """Find out whether ``path`` can be saved and put back. Raises :class:`PathError` if not.

    ``root`` is where originals are kept; :func:`state_root` if it is not given.
    """
    place = paths.locate(path)
    place.refuse_exposed()
    paths.refuse_mounts(place.path)
    state = paths.locate((root or state_root()) / "x").path.parent
    if _overlap(state, place.path):
        raise PathError(f"{shown(state)}, where originals are kept, would be part of it")
    return place


def state_root() -> Path:
    """Where originals are kept: below /var/lib for root, else in the user's state directory."""
    chosen = os.environ.get(STATE)
    return Path(chosen) if chosen else _own_state_root()


def _own_state_root() -> Path:
    if os.geteuid() == 0:
        return ROOTS_STATE
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(home) / "noble-runbooks"


def applied_by_others(journal: UndoJournal) -> str:
    """Where the same runbook has been applied with another state directory, in words; or "".

    By root or by whoever called sudo, or with another ``NOBLE_RUNBOOKS_STATE``.
    """
    name = journal.root.relative_to(journal.root.parents[1])
    for root, whose, advice in _state_roots():
        place = root / name
        try:
            there = place != journal.root and place.lstat() is not None
        except PermissionError:
            return f"may have been applied by {whose}, whose {shown(root)} you cannot see: {advice}"
        except OSError:
            there = False
        if there:
            return f"has been applied by {whose}, and what it was is in {shown(place)}: {advice}"
    return ""


def _state_roots() -> Iterator[tuple[Path, str, str]]:
    """Where originals may be kept on this host: the place, whose it is, and what to do."""
    if os.environ.get(STATE):
        own = "root" if os.geteuid() == 0 else "you"
        yield _own_state_root(), own, f"roll it back without {STATE}"
    if os.geteuid() != 0:
        yield ROOTS_STATE, "root", "roll it back as root"
    elif user := os.environ.get("SUDO_USER"):
        with contextlib.suppress(KeyError):
            home = Path(pwd.getpwnam(user).pw_dir)
            yield (
                home / ".local/state/noble-runbooks",
                user,
                f"roll it back as {user}, without sudo",
            )


def is_applied(runbook: str) -> bool:
    """Whether AREA/NAME has been applied here, for whatever service, and not been rolled back."""
    root = state_root() / runbook
    uses = (root, *root.parent.glob(f"{root.name}@*"))
    return any(not UndoJournal(use).is_empty() for use in uses)


class Lock:
    """A file that one process at a time holds; it is removed by whoever holds it.

    Who waits for a file that is removed meanwhile notices, and takes the new one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def take(self, wait: bool) -> bool:
        """Take it, unless this process has it already; returns whether it has it now."""
        while self._handle is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                handle = os.open(
                    self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
                )
            except FileNotFoundError:
                continue  # its directory was removed at this moment
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(handle)
                return False
            if _is_at(handle, self.path):
                self._handle = handle
            else:
                os.close(handle)
        return True

    def release(self) -> None:
        """Remove it and let it go; does nothing if this process does not have it."""
        if self._handle is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it for as long as the block runs."""
        self.take(wait=True)
        try:
            yield
        finally:
            self.release()


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    about = os.fstat(handle)
    return (about.st_dev, about.st_ino) == (there.st_dev, there.st_ino)


class _Heartbeat:
    """Touches files every second, so that it can be told when a step was cut off."""

    def __init__(self, marks: list[Path]) -> None:
        self.marks = marks
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def _beat(self) -> None:
        while not self.ended.wait(BEAT):
            for mark in self.marks:
                with contextlib.suppress(OSError):
                    os.utime(mark)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


class _Stage:
    """A directory that only we may enter, beside the path that is put back."""

    def __init__(self, at: int, original: Original) -> None:
        self.at = at
        self.name = f".kb-{original.id or hashlib.sha256(original.was.encode()).hexdigest()[:16]}"

    def clear(self) -> None:
        """Remove one that is left of a time that was cut off."""
        try:
            about = os.stat(self.name, dir_fd=self.at, follow_symlinks=False)
        except FileNotFoundError:
            return
        if about.st_uid != os.geteuid() or about.st_mode & ~0o2000 != stat.S_IFDIR | 0o700:
            raise UndoError(f"{self.name} is in the way, beside it: remove that")
        trees.remove(self.at, self.name)

    def __enter__(self) -> int:
        self.clear()
        os.mkdir(self.name, 0o700, dir_fd=self.at)
        self.handle = os.open(
            self.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.at
        )
        about = os.fstat(self.handle)
        if about.st_uid != os.geteuid() or trees.names(self.handle):
            os.close(self.handle)
            raise UndoError("somebody puts things in its way at this moment")
        os.fchmod(self.handle, 0o700)
        return self.handle

    def __exit__(self, *_: object) -> None:
        for name in trees.names(self.handle):
            trees.remove(self.handle, name)
        os.close(self.handle)
        with contextlib.suppress(OSError):
            os.rmdir(self.name, dir_fd=self.at)


def _place(original: Original) -> Path:
    """Where an original belongs; a line of before version 2 does not say."""
    return Path(original.place) if original.place else paths.locate(Path(original.path)).path


def _refuse_another(at: int, original: Original) -> None:
    """Raise :class:`PathError` if ``at`` is not the directory that an original came from."""
    if original.version < VERSION or original.made:
        return  # it is not known, or was not there
    where = shown(Path(original.place).parent)
    uid, mount = os.fstat(at).st_uid, str(paths.mounts().get(paths.mount_of(at), ""))
    if uid != original.uid:
        raise PathError(
            f"{where} belongs to user {uid} now, and to user {original.uid} when the step ran:"
            " make it as it was"
        )
    if mount != original.mount:
        raise PathError(
            f"{where} lies on what is mounted at {shown(mount)} now, and lay on"
            f" {shown(original.mount)} when the step ran: make it as it was"
        )


def _overlap(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def _seen_from(root: Path, place: Path, rel: str) -> str | None:
    """What ``rel`` below ``place`` is called below ``root``; None if it does not lie there."""
    if root == place:
        return rel
    if root in place.parents:
        outer = str(place.relative_to(root))
        return outer if rel == trees.TOP else f"{outer}/{rel}"
    inner = str(root.relative_to(place))
    if rel == inner:
        return trees.TOP
    return rel.removeprefix(f"{inner}/") if rel.startswith(f"{inner}/") else None


def _above(rel: str) -> Iterator[str]:
    while rel != trees.TOP:
        rel = rel.rpartition("/")[0] or trees.TOP
        yield rel


def _saved(place: Path, edits: set[str], saved: Path) -> str:
    if edits == {trees.TOP}:  # which is no directory, or an empty one
        return f"saved: {shown(place)} was edited after the apply; the edited one is {shown(saved)}"
    return (
        f"saved: {len(edits)} files below {shown(place)} were added or edited after the apply;"
        f" they are in {shown(saved)}"
    )


def _differences(want: Manifest, have: Manifest) -> list[str]:
    """What of ``want`` is not so, in words."""
    found = []
    for rel in sorted(want.keys() | have.keys()):
        one, other = want.get(rel), have.get(rel)
        if one is None or other is None:
            found.append(shown(rel))
        elif not one.same(other):
            names = [n for n in Entry._fields[:8] if getattr(one, n) != getattr(other, n)]
            found.append(" and ".join(names) + ("" if rel == trees.TOP else f" of {shown(rel)}"))
    return found


def _refuse_what_only_root_can(manifest: Manifest) -> None:
    """A user who is not root could not give a file back to somebody else."""
    me, groups = os.geteuid(), {os.getegid(), *os.getgroups()}
    for entry in manifest.values():
        if entry.uid != me or entry.gid not in groups or entry.flags:
            raise TreeError("it is not all yours, so only root could put it back: run this as root")


def _check_sum(row: dict[str, Any]) -> str:
    text = json.dumps({**row, "sum": None}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _row(line: bytes, number: int) -> Original | None:
    """The original that a line is about; None if it is damaged."""
    try:
        row = json.loads(line)
        if row.get("version", 1) < VERSION:
            if not all(isinstance(row[key], str) for key in ("path", "was")):
                return None
            return Original(
                path=row["path"],
                place="",
                copy=row["copy"],
                was=row["was"],
                made=list(row["made"]),
                number=number,
                version=1,
            )
        found = row.pop("sum")
        names = {one.name for one in fields(Original)}
        return Original(**row) if found == _check_sum(row) and row.keys() == names else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _manifest(stored: dict[str, Any]) -> Manifest:
    return {rel: Entry(*row) for rel, row in stored["entries"].items()}


def _end_last_line(journal: Path) -> None:
    """Before a line is added: cut off what a crash left of one, or end it if it is whole."""
    text = journal.read_bytes() if journal.exists() else b""
    if text and not text.endswith(b"\n"):
        start = text.rfind(b"\n") + 1
        whole = _row(text[start:], text.count(b"\n")) is not None
        _write_bytes(journal, text + b"\n" if whole else text[:start])


def _write(path: Path, what: Any) -> None:
    """Write JSON beside the place, bring it to the disk, and rename it."""
    _write_bytes(path, json.dumps(what, separators=(",", ":")).encode("ascii"))


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True, mode=0o700)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    _sync_directory(path.parent)


@contextlib.contextmanager
def _directory(path: Path, make: bool = False) -> Iterator[int]:
    """A directory by its descriptor, without following any link; one that can be listed."""
    found = paths.open_directory(path, make)
    try:
        handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
    finally:
        os.close(found)
    try:
        yield handle
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.parent.is_dir():
        with _directory(path.parent) as at:
            trees.remove(at, path.name)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f" ({shown(error.filename)})" if error.filename else "")
    return str(error)


def main(arguments: list[str]) -> int:
    """``python -m kb.runtime.undo restore STATE``: what ``kb-restore`` in a rollback cell runs."""
    _, root = arguments
    journal = UndoJournal(Path(root))
    try:
        if journal.is_empty() and (journal.root / NOTES).exists():
            print("nothing more to put back: an earlier rollback has done that")
        elif journal.is_empty():
            print("nothing to put back: no step of this runbook has been applied here")
        for line in journal.restore():
            print(line, flush=True)
    except (UndoError, PathError, TreeError, OSError) as error:
        print(f"cannot restore: {_sentence(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
