"""What was written to a copy of the host: the upper layers of its overlays, read from outside."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TEXT = 256 * 1024  # bytes of a file that are compared line by line
FEW = 8  # files in a new directory, up to which each is told
OPAQUE = "trusted.overlay.opaque"  # on a directory that hides the one below it
Signature = tuple[int, ...]


@dataclass(frozen=True)
class Portrait:
    """What there is at a path: nothing, a file, a directory, a link or something else.

    ``text`` is None of what is no text, is too long, or may not be read by everybody.
    """

    kind: str = "nothing"
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    size: int = 0
    digest: str = ""
    target: str = ""
    text: str | None = None

    @property
    def is_private(self) -> bool:
        return self.kind == "file" and not self.mode & 0o004


NOTHING = Portrait()


@dataclass(frozen=True)
class Difference:
    """A path before a step and after it; of a directory that is new or gone, what is in it."""

    path: str
    before: Portrait
    after: Portrait
    files: int = 0
    size: int = 0


class Layers:
    """The upper layers, ``root`` being the directory that they are in."""

    def __init__(self, root: Path) -> None:
        words = (root / "places").read_bytes().decode(errors="surrogateescape").split("\0")
        self.uppers = {
            place: root / number / "upper"
            for number, place in zip(words[0::2], words[1::2], strict=False)
        }
        self._known: dict[str, Signature] = {}
        self._portraits: dict[str, Portrait] = {}  # of what earlier steps wrote

    def listing(self, below: str = "/") -> dict[str, Signature]:
        """What has been written below a directory, by its path on the host."""
        return {path: _signature(about) for path, _, about in self._entries(below)}

    def copy(self, path: str) -> Path | None:
        """Where the written ``path`` can be read; None if nothing was written there."""
        place = max((p for p in self.uppers if _is_below(path, p)), key=len, default=None)
        if place is None:
            return None
        there = self.uppers[place] / os.path.relpath(path, place)
        return there if os.path.lexists(there) else None

    def differences(self) -> list[Difference]:
        """What the step since the last call has changed, by path; what is as it was is left out."""
        known, self._known = self._known, {}
        listed: dict[str, Path] = {}
        for path, there, about in self._entries("/"):
            listed[path] = there
            self._known[path] = _signature(about)
        paths = known.keys() | self._known.keys()
        found: list[Difference] = []
        told = ""  # the last directory that stands for all that is in it
        for path in sorted(one for one in paths if known.get(one) != self._known.get(one)):
            if told and path.startswith(f"{told}/"):
                continue
            here = Path(path)
            before = self._portraits.get(path) or portrait(here)
            after = portrait(listed[path]) if path in listed else portrait(here)
            self._portraits[path] = after
            files = size = 0
            if before.kind == "directory" != after.kind:
                files, size = _count(here)
            elif after.kind == "directory" != before.kind:
                files, size = _count(listed[path])
                if 0 < files <= FEW:
                    continue  # each of them is told
            elif before == after:
                if after.kind == "directory" and path in listed and _is_opaque(listed[path]):
                    found += self._hidden(path, listed[path])
                continue
            if files:
                told = path
            found.append(Difference(path, before, after, files, size))
        return found

    def _hidden(self, path: str, upper: Path) -> Iterator[Difference]:
        """What was in a directory that was made anew."""
        for below in sorted(Path(path).iterdir()):
            if not os.path.lexists(upper / below.name):
                files, size = _count(below)
                yield Difference(str(below), portrait(below), NOTHING, files, size)

    def _entries(self, below: str) -> Iterator[tuple[str, Path, os.stat_result]]:
        for place, upper in self.uppers.items():
            inside = os.path.relpath(below, place) if _is_below(below, place) else "."
            if inside == "." and not _is_below(place, below):
                continue
            where = place.rstrip("/") if inside == "." else below.rstrip("/")
            todo = [(where, upper / inside)]
            while todo:
                where, directory = todo.pop()
                try:
                    entries = list(os.scandir(directory))
                except (FileNotFoundError, NotADirectoryError):  # or it ended meanwhile
                    continue
                for entry in entries:
                    about = entry.stat(follow_symlinks=False)
                    path = f"{where}/{entry.name}"
                    yield path, Path(entry.path), about
                    if stat.S_ISDIR(about.st_mode):
                        todo.append((path, Path(entry.path)))


def _signature(about: os.stat_result) -> Signature:
    return about.st_ino, about.st_ctime_ns, about.st_mode, about.st_rdev


def portrait(path: Path) -> Portrait:
    """What there is at ``path``, on the host or in a layer."""
    try:
        about = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    mode, owner = stat.S_IMODE(about.st_mode), (about.st_uid, about.st_gid)
    if stat.S_ISCHR(about.st_mode) and about.st_rdev == 0:  # how a layer says that it is gone
        return NOTHING
    if stat.S_ISLNK(about.st_mode):
        return Portrait("link", 0, owner, target=os.readlink(path))  # noqa: PTH115 - any bytes
    if stat.S_ISDIR(about.st_mode):
        return Portrait("directory", mode, owner)
    if not stat.S_ISREG(about.st_mode):
        return Portrait("other", mode, owner)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    text = None
    if about.st_size <= TEXT and mode & 0o004:
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            text = None
        if text and "\0" in text:
            text = None
    return Portrait("file", mode, owner, about.st_size, digest, text=text)


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _is_opaque(directory: Path) -> bool:
    try:
        return os.getxattr(directory, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _count(directory: Path) -> tuple[int, int]:
    """How many files are in a directory, at any depth, and their bytes."""
    files = size = 0
    for where, _, names in os.walk(directory):
        for name in names:
            about = os.lstat(Path(where, name))
            gone = stat.S_ISCHR(about.st_mode)
            files, size = files + (not gone), size + (0 if gone else about.st_size)
    return files, size
