"""Keeps what a step is about to change, and puts it back: crash-safe, exact, newest first.

A runbook's state directory holds

    kept.jsonl   a line for each kept path, in order: {"path", "was", "copy": name or null, "made"}
    kept/        the copies, made with `cp -a` (owner, mode, times, extended attributes, links)
    left.json    what each path was after the step, to notice that a person has edited it since

A line is written after its copy is whole and before the step runs, so a kill at any moment leaves
either nothing changed or everything needed to go back.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class KeepError(Exception):
    """Something that could not be kept or put back. One sentence."""


@dataclass(frozen=True)
class Kept:
    """One kept path: what it was, the name of its copy (None: absent), directories made for it."""

    path: Path
    was: str
    copy: str | None
    made: list[Path]


class Keeper:
    """The kept originals of one runbook on this host, or of its use for one service.

    ``root`` is a directory of its own below the state directory: AREA/NAME or AREA/NAME@SERVICE.
    It exists from the first :meth:`keep` until everything is restored.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / "kept.jsonl"
        self.copies = root / "kept"
        self.left = root / "left.json"
        self._lock: int | None = None

    def kept(self) -> list[Kept]:
        """What is kept, oldest first. A line that a crash cut off belongs to nothing changed."""
        try:
            lines = self.journal.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [
            Kept(Path(row["path"]), row["was"], row["copy"], [Path(made) for made in row["made"]])
            for row in _whole_rows(lines)
        ]

    def others(self) -> list[str]:
        """The other services on this host that the same runbook has been applied to, sorted."""
        runbook, at, _ = self.root.name.partition("@")
        places = self.root.parent.glob(f"{runbook}@*") if at else ()
        return sorted(
            urllib.parse.unquote(place.name.removeprefix(f"{runbook}@"))
            for place in places
            if place != self.root and (place / self.journal.name).exists()
        )

    def lock(self) -> None:
        """Make this process the only one that changes this runbook's host, until it ends."""
        if self._lock is not None:
            return
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise KeepError(
                "another run of this runbook is under way on this host"
                f" (it holds {self.root}/lock): wait for it to end"
            ) from None
        self._lock = handle

    def keep(self, path: Path) -> Path | None:
        """Keep ``path`` as it is now, unless it is kept already.

        Returns where a file went that a person has edited since an earlier step wrote it.
        """
        if any(kept.path == path for kept in self.kept()):
            return self._save_edited(path, self._read_left())
        self.copies.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = None
        if os.path.lexists(path):
            name = f"{len(self.kept()):04d}"
            _copy(path, self.copies / name)
        made = [parent for parent in path.parents if not parent.exists()]
        row = {
            "path": str(path),
            "was": _digest(path),
            "copy": name,
            "made": [str(parent) for parent in made],
        }
        _drop_cut_line(self.journal)
        with self.journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(row) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        _sync_directory(self.root)
        return None

    def note_left(self, paths: list[Path]) -> None:
        """Remember what the step left, so that a later edit by a person is not thrown away."""
        self._write_left(self._read_left() | {str(path): _digest(path) for path in paths})

    def _write_left(self, left: dict[str, str]) -> None:
        text = json.dumps(left, indent=1, sort_keys=True)
        if not self.left.exists() or self.left.read_text(encoding="utf-8") != text:
            partial = self.left.with_suffix(".partial")
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.left)

    def forget_left(self, paths: list[Path]) -> None:
        """Forget what earlier steps left at these paths: the next one writes to them."""
        left = self._read_left()
        self._write_left({path: was for path, was in left.items() if Path(path) not in paths})

    def restore(self) -> Iterator[str]:
        """Put every kept path back, newest first; yields one line for each thing done.

        Can be interrupted and repeated. At the end nothing is kept; :meth:`forget` does the rest.
        """
        rows = self.kept()
        left = self._read_left()
        for kept in reversed(rows):
            saved = self._save_edited(kept.path, left)
            if saved:
                yield f"saved: {kept.path} was edited after the apply; the edited one is {saved}"
            yield from self._put_back(kept)
        self.journal.unlink(missing_ok=True)  # first: a line must not outlive its copy
        self.left.unlink(missing_ok=True)
        shutil.rmtree(self.copies, ignore_errors=True)

    def forget(self) -> None:
        """Remove the state directory, and the directories above it that only held it.

        Not before the rollback's cell has ended: its own files lie there.
        """
        self.journal.unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)
        for parent in list(self.root.parents)[:2]:
            try:
                parent.rmdir()
            except OSError:
                break

    def _put_back(self, kept: Kept) -> Iterator[str]:
        if kept.copy is None:
            if os.path.lexists(kept.path):
                _remove(kept.path)
                yield f"changed: removed {kept.path}"
        else:
            copy = self.copies / kept.copy
            if not os.path.lexists(copy):
                raise KeepError(f"the original of {kept.path} is no longer in {self.copies}")
            # Not the copy's digest: a user that is not root cannot give it the original's owner.
            if _digest(kept.path) != kept.was:
                beside = kept.path.parent / f".{kept.path.name}.kb-restore"
                _remove(beside)
                kept.path.parent.mkdir(parents=True, exist_ok=True)
                _copy(copy, beside)
                if _is_directory(beside) or _is_directory(kept.path):
                    _remove(kept.path)  # a rename replaces no directory, and none by a file
                beside.replace(kept.path)
                yield f"changed: put back {kept.path}"
        for made in kept.made:  # deepest first
            if made.is_dir() and not any(made.iterdir()):
                made.rmdir()
                yield f"changed: removed {made}"

    def _save_edited(self, path: Path, left: dict[str, str]) -> Path | None:
        """Copy a file that a person has changed since out of the way; not so directories."""
        if str(path) not in left or not path.is_file() or path.is_symlink():
            return None
        if _digest(path) == left[str(path)]:
            return None
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        flat = str(path).strip("/").replace("/", "-")[-200:]  # a file's name has 255 bytes
        saved = self.root.parent / "edited" / f"{flat}.{stamp}"
        saved.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _copy(path, saved)
        return saved

    def _read_left(self) -> dict[str, str]:
        try:
            left: dict[str, str] = json.loads(self.left.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return left


def state_root() -> Path:
    """Where originals are kept: below /var/lib for root, else in the user's state directory."""
    chosen = os.environ.get("NOBLE_RUNBOOKS_STATE")
    if chosen:
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/noble-runbooks")
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(home) / "noble-runbooks"


def _whole_rows(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def _drop_cut_line(journal: Path) -> None:
    if not journal.exists():
        return
    text = journal.read_bytes()
    if text and not text.endswith(b"\n"):
        whole = text[: text.rfind(b"\n") + 1]
        partial = journal.with_suffix(".partial")
        partial.write_bytes(whole)
        partial.replace(journal)


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    _remove(partial)
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--", str(source), str(partial)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        _remove(partial)
        raise KeepError(f"cannot copy {source}: {done.stderr.strip()}")
    if partial.is_file() and not partial.is_symlink():
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
    if _is_directory(target):
        _remove(target)  # left by a run that was killed before it wrote the line
    partial.replace(target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """What makes two paths the same: kind, owner, mode, content (for a directory: of all below)."""
    if not os.path.lexists(path):
        return "absent"
    total = hashlib.sha256()
    for entry in [path, *sorted(path.rglob("*"))] if _is_directory(path) else [path]:
        about = entry.lstat()
        total.update(f"{entry.relative_to(path)} {about.st_uid} {about.st_gid} ".encode())
        total.update(
            f"{about.st_mode} {0 if stat.S_ISDIR(about.st_mode) else about.st_mtime_ns} ".encode()
        )
        if stat.S_ISLNK(about.st_mode):
            total.update(str(entry.readlink()).encode())
        elif stat.S_ISREG(about.st_mode):
            with entry.open("rb") as handle:
                total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def main(arguments: list[str]) -> int:
    """``python -m kb.runtime.undo restore STATE``: what ``kb-restore`` in a rollback cell runs."""
    _, root = arguments
    keeper = Keeper(Path(root))
    try:
        if not keeper.kept():
            print("nothing to put back: no step of this runbook has been applied here")
        for line in keeper.restore():
            print(line, flush=True)
    except (KeepError, OSError) as error:
        print(f"cannot restore: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
