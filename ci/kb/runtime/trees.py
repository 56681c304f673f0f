"""Describe, copy, remove and put back a file or a whole directory, byte for byte, all attributes.

Everything is reached by the descriptor of its directory, follows no link and crosses no mount, so
that nobody who may write to a directory on the way can lead us elsewhere. What is made anew is made
in a directory of ours, which nobody else may enter, and moved into place when it is whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import posixpath
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kb.runtime import paths
from kb.runtime.paths import shown

DEEPEST = 200  # directories in each other: each of them takes a descriptor
FLUSHED = 64  # files that are flushed to the disk one by one; with more, the whole file system is
CHUNK = 1 << 20
TOGETHER = 2048  # files that are made before they are moved into their places
SETTLED_NS = 20_000_000  # the kernel's clock for files ticks every few milliseconds
TOP = "."
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
_LOCKED = 0x10 | 0x20  # immutable, append-only
_FLAGS = _LOCKED | 0x08 | 0x40 | 0x80 | 0x10000  # and: sync, no dump, no access time, dirsync
_UNKEPT = {"security.evm"}  # a signature that only the kernel makes
_EDGES = {errno.EXDEV, errno.EINVAL}  # a lower directory of an overlay is not moved


class TreeError(Exception):
    """A file or directory that could not be described, copied or put back. One sentence."""


class Rotten(TreeError):  # noqa: N818 - it is what the copy is
    """A copy that is no longer what was copied."""


class Entry(NamedTuple):
    """One file, of whatever kind. The first eight make two of them the same."""

    mode: int
    uid: int
    gid: int
    mtime: int  # ns; 0 for what has no content of its own
    content: str  # a file's SHA-256, a link's target, a device's numbers
    link: str  # the first name in the tree, where it has several there
    xattrs: dict[str, str]  # in hex
    flags: int
    ino: int
    nlink: int
    ctime: int  # ns
    settled: bool = False  # that was long enough ago to tell the next change by it

    def same(self, other: Entry | None) -> bool:
        """Whether both are the same to whoever looks at them."""
        return other is not None and self[:8] == other[:8]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


Manifest = dict[str, Entry]  # by path below the tree's top, which is "."; {} for what is absent


def same(one: Manifest, other: Manifest) -> bool:
    """Whether two trees are the same."""
    return one.keys() == other.keys() and all(one[rel].same(other[rel]) for rel in one)


def digest(manifest: Manifest) -> str:
    """A name for what a tree is."""
    total = hashlib.sha256()
    for rel in sorted(manifest):
        total.update(f"{rel!r} {manifest[rel][:8]!r}\n".encode())
    return total.hexdigest()


def describe(at: int, name: str, known: Mapping[str, Entry] | None = None) -> Manifest:
    """What is at ``name`` in the directory ``at``. Files untouched since ``known`` are not read."""
    walk = _Walk(known or {})
    walk.visit(at, name, TOP)
    return walk.found


class _Walk:
    """Describes a tree; a subclass copies it on the way."""

    def __init__(self, known: Mapping[str, Entry]) -> None:
        self.known = known
        self.found: Manifest = {}
        self.names: dict[tuple[int, int], str] = {}
        self.young = time.time_ns() - SETTLED_NS

    def visit(self, at: int, name: str, rel: str) -> Entry | None:
        try:
            about = os.stat(name, dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return None
        first = ""
        if not stat.S_ISDIR(about.st_mode) and about.st_nlink > 1:
            first = self.names.setdefault((about.st_dev, about.st_ino), rel)
            first = "" if first == rel else first
        before = self.known.get(rel)
        if (
            before is not None
            and not before.is_directory
            and before.settled
            and before.ctime == about.st_ctime_ns
            and (before.ino, before.mode) == (about.st_ino, about.st_mode)
        ):
            entry = before._replace(link=first, nlink=about.st_nlink)
        elif stat.S_ISREG(about.st_mode):
            with _opened(at, name, _READ) as handle:
                entry = self._file(handle, first)
        elif stat.S_ISDIR(about.st_mode):
            if rel.count("/") >= DEEPEST:
                raise TreeError(f"directories are nested deeper than {DEEPEST}")
            with _below(at, name) as handle:
                entry = _entry(os.fstat(handle), "", "", _xattrs(handle), _flags(handle))
                self.found[rel] = entry
                for child in names(handle):
                    self.visit(handle, child, child if rel == TOP else f"{rel}/{child}")
        else:
            content = ""
            if stat.S_ISLNK(about.st_mode):
                content = os.readlink(name, dir_fd=at)
            elif stat.S_ISBLK(about.st_mode) or stat.S_ISCHR(about.st_mode):
                content = f"{os.major(about.st_rdev)}:{os.minor(about.st_rdev)}"
            entry = _entry(about, content, first, _xattrs(_path(at, name)), 0)
        entry = entry._replace(settled=entry.ctime < self.young)
        self.found[rel] = entry
        return entry

    def _file(self, handle: int, first: str) -> Entry:
        about = os.fstat(handle)
        with open(handle, "rb", buffering=0, closefd=False) as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return _entry(about, content, first, _xattrs(handle), _flags(handle))


def _entry(
    about: os.stat_result, content: str, link: str, xattrs: dict[str, str], flags: int
) -> Entry:
    mtime = about.st_mtime_ns if _is_timed(about.st_mode) else 0
    return Entry(
        about.st_mode, about.st_uid, about.st_gid, mtime, content, link,
        xattrs, flags, about.st_ino, about.st_nlink, about.st_ctime_ns,
    )  # fmt: skip


def _is_timed(mode: int) -> bool:
    """Whether the time of its last change is something that people look at."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


def _path(at: int, name: str) -> str:
    return f"/proc/self/fd/{at}/{name}"


@contextlib.contextmanager
def _opened(at: int, name: str, how: int, mode: int = 0o600) -> Iterator[int]:
    handle = os.open(name, how, mode, dir_fd=at)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _below(at: int, name: str) -> Iterator[int]:
    """The directory ``name`` in ``at``; not if something is mounted there."""
    with _opened(at, name, _LIST) as handle:
        if paths.mount_of(handle) != paths.mount_of(at):
            raise TreeError("a file system is mounted below it: unmount that first")
        yield handle


def _xattrs(of: int | str) -> dict[str, str]:
    follow = isinstance(of, int)
    try:
        names = os.listxattr(of, follow_symlinks=follow)
        return {
            name: os.getxattr(of, name, follow_symlinks=follow).hex()
            for name in sorted(names)
            if name not in _UNKEPT
        }
    except OSError as error:
        if error.errno in {errno.ENOTSUP, errno.ENODATA}:
            return {}
        raise


def _flags(handle: int) -> int:
    """What `chattr` has set; 0 where the file system has no such thing."""
    try:
        found = fcntl.ioctl(handle, _GETFLAGS, bytes(8))
    except OSError:
        return 0
    return int(struct.unpack("i4x", found)[0]) & _FLAGS


def _set_flags(handle: int, flags: int) -> None:
    now = _flags(handle)
    if now != flags:
        whole = struct.unpack("i4x", fcntl.ioctl(handle, _GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(handle, _SETFLAGS, struct.pack("i4x", whole & ~_FLAGS | flags))


def names(directory: int) -> list[str]:
    """What is in a directory, sorted."""
    return sorted(os.listdir(directory))


class Flusher:
    """Brings what was written to the disk: a few files one by one, many all at once."""

    def __init__(self) -> None:
        self.files = 0

    def written(self, handle: int) -> None:
        self.files += 1
        if self.files <= FLUSHED:
            os.fsync(handle)

    def finish(self, directory: int) -> None:
        """Everything on the file system of ``directory`` has arrived when this returns."""
        if self.files > FLUSHED:
            if ctypes.CDLL(None, use_errno=True).syncfs(directory) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            self.files = 0
        else:
            os.fsync(directory)


def copy(at: int, name: str, to: int, new: str) -> Manifest:
    """Copy what is at ``name`` to ``new`` in the directory ``to``, which is ours; describe it.

    The copy has all attributes but `chattr`'s, and has arrived on the disk when this returns.
    """
    walk = _Copy(to, new)
    walk.visit(at, name, TOP)
    walk.flusher.finish(to)
    return walk.found


class _Copy(_Walk):
    def __init__(self, to: int, new: str) -> None:
        super().__init__({})
        self.flusher = Flusher()
        self.to = to
        self.new = new
        self.into = [to]

    def visit(self, at: int, name: str, rel: str) -> Entry | None:
        new = self.new if rel == TOP else name
        to = self.into[-1]
        try:
            about = os.stat(name, dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(about.st_mode):
            os.mkdir(new, 0o700, dir_fd=to)
            with _opened(to, new, _LIST) as made:
                self.into.append(made)
                entry = super().visit(at, name, rel)
                self.into.pop()
                if entry is not None:
                    _dress(to, new, made, entry, lock=False)
                    self.flusher.written(made)
            return entry
        self.target = (to, new)
        entry = super().visit(at, name, rel)
        if entry is not None and entry.link:
            os.link(
                self.new + "/" + entry.link, new,
                src_dir_fd=self.to, dst_dir_fd=to, follow_symlinks=False,
            )  # fmt: skip
        elif entry is not None and not entry.is_file:
            _make_special(to, new, entry)
            _dress(to, new, None, entry, lock=False)
        return entry

    def _file(self, handle: int, first: str) -> Entry:
        about = os.fstat(handle)
        to, new = self.target
        entry = _entry(about, "", first, _xattrs(handle), _flags(handle))
        if first:
            return entry._replace(content=self.found[first].content)
        with _opened(to, new, _NEW) as copied:
            entry = entry._replace(content=_pour(handle, copied))
            _dress(to, new, copied, entry, lock=False)
            self.flusher.written(copied)
        return entry


def _pour(source: int, target: int) -> str:
    """Copy a file's content, holes as holes, and return its SHA-256."""
    total = hashlib.sha256()
    size = os.fstat(source).st_size
    os.truncate(target, size)
    done = 0
    while done < size:
        try:
            start = os.lseek(source, done, os.SEEK_DATA)
            end = os.lseek(source, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            start = end = size  # a hole up to the end
        for zeros in range(done, start, CHUNK):
            total.update(bytes(min(CHUNK, start - zeros)))
        done = start
        while done < end:
            data = os.pread(source, min(CHUNK, end - done), done)
            if not data:
                raise TreeError("it becomes shorter while it is being copied: stop what writes it")
            total.update(data)
            view = memoryview(data)
            while view:
                written = os.pwrite(target, view, done)
                view = view[written:]
                done += written
    return total.hexdigest()


def _make_special(at: int, name: str, entry: Entry) -> None:
    if stat.S_ISLNK(entry.mode):
        os.symlink(entry.content, name, dir_fd=at)
    else:
        major, _, minor = (entry.content or "0:0").partition(":")
        os.mknod(name, entry.mode, os.makedev(int(major), int(minor)), dir_fd=at)


def _dress(at: int, name: str, handle: int | None, entry: Entry, *, lock: bool = True) -> None:
    """Give what was made the attributes of ``entry``; without a handle it lies where only we are.

    Owner before mode, since a change of owner takes setuid and capabilities away; times after
    extended attributes; ``lock``: and last what `chattr` sets, which may forbid everything else.
    """
    of: int | str = _path(at, name) if handle is None else handle
    follow = handle is not None
    about = os.fstat(handle) if handle is not None else os.lstat(_path(at, name))
    if (about.st_uid, about.st_gid) != (entry.uid, entry.gid):
        os.chown(of, entry.uid, entry.gid, follow_symlinks=follow)
    if not stat.S_ISLNK(entry.mode):
        os.chmod(of, stat.S_IMODE(entry.mode))  # noqa: PTH101 - a path or a descriptor
    now = _xattrs(of)
    for attribute in now.keys() - entry.xattrs.keys():
        with contextlib.suppress(OSError):  # a label of the kernel's own; the comparison tells
            os.removexattr(of, attribute, follow_symlinks=follow)
    for attribute, value in entry.xattrs.items():
        if now.get(attribute) != value:
            os.setxattr(of, attribute, bytes.fromhex(value), follow_symlinks=follow)
    if _is_timed(entry.mode):
        os.utime(of, ns=(about.st_atime_ns, entry.mtime), follow_symlinks=follow)
    if lock and handle is not None:
        _set_flags(handle, entry.flags)


def remove(at: int, name: str) -> None:
    """Remove a file or a whole directory; whatever `chattr` says. Nothing there is no error."""
    try:
        about = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(about.st_mode):
        with _below(at, name) as handle:
            _unlock(handle)
            for child in names(handle):
                remove(handle, child)
        os.rmdir(name, dir_fd=at)
        return
    if stat.S_ISREG(about.st_mode):
        with contextlib.suppress(PermissionError), _opened(at, name, _READ) as handle:
            _unlock(handle)
    os.unlink(name, dir_fd=at)


def _unlock(handle: int) -> None:
    flags = _flags(handle)
    if flags & _LOCKED:
        _set_flags(handle, flags & ~_LOCKED)


class _Made(NamedTuple):
    """What lies on the stage under the name ``new``, and where it goes."""

    new: str
    at: int
    name: str
    want: Entry
    have: Entry | None


class Restorer:
    """Makes what is at ``name`` in ``at`` what ``want`` says, out of a copy of it.

    ``stage`` is a directory on the same file system that only we may enter. What is right already
    is not touched. Interrupted, it can be done again.
    """

    def __init__(self, at: int, name: str, want: Manifest, copy_at: int, stage: int) -> None:
        self.at = at
        self.name = name
        self.want = want
        self.copy_at = copy_at
        self.stage = stage
        self.flusher = Flusher()
        self.notes: list[str] = []
        self._made: list[_Made] = []

    def restore(self, have: Manifest, copied: str) -> None:
        """``have`` is what is there now; ``copied`` the copy's name."""
        self.have = have
        self._put(self.at, self.name, TOP, self.copy_at, copied)
        self._move()
        self.flusher.finish(self.at)

    def _put(self, at: int, name: str, rel: str, copy_at: int, copied: str) -> None:
        want, have = self.want.get(rel), self.have.get(rel)
        if want is None:
            self._discard(at, name)
        elif want.is_directory:
            if have is None or not have.is_directory:
                self._discard(at, name)
                os.mkdir("new", 0o700, dir_fd=self.stage)
                os.rename("new", name, src_dir_fd=self.stage, dst_dir_fd=at)
            self._fill(at, name, rel, copy_at, copied)
        elif not want.same(have):
            self._file(at, name, rel, copy_at, copied)

    def _fill(self, at: int, name: str, rel: str, copy_at: int, copied: str) -> None:
        """Make a directory that exists what it was: what is in it, and then itself."""
        want = self.want[rel]
        with _below(at, name) as handle, _opened(copy_at, copied, _LIST) as original:
            _unlock(handle)
            for child in sorted({*names(handle), *names(original)}):
                below = child if rel == TOP else f"{rel}/{child}"
                self._put(handle, child, below, original, child)
            self._move()
            _dress(at, name, handle, want)
            self.flusher.written(handle)

    def _file(self, at: int, name: str, rel: str, copy_at: int, copied: str) -> None:
        """Put back what is no directory."""
        want, have = self.want[rel], self.have.get(rel)
        if want.link:
            return self._link(at, name, want)
        if have is not None and have.is_file and want.is_file:
            several = have.nlink > 1 and have.ino == want.ino
            if several or (have.nlink == 1 and have.content == want.content):
                return self._mend(at, name, rel, copy_at, copied)
        if want.nlink > 1 and not any(other.link == rel for other in self.want.values()):
            self.notes.append(rel)
        new = f"new.{len(self._made)}"
        if want.is_file:
            with (
                _opened(copy_at, copied, _READ) as source,
                _opened(self.stage, new, _NEW) as target,
            ):
                if _pour(source, target) != want.content:
                    raise Rotten(rel)
                _dress(self.stage, new, target, want, lock=False)
                self.flusher.written(target)
        else:
            _make_special(self.stage, new, want)
            _dress(self.stage, new, None, want)
        self._made.append(_Made(new, at, name, want, have))
        if len(self._made) >= TOGETHER:
            self._move()
        return None

    def _move(self) -> None:
        """Move what has been made into its places, after it has arrived on the disk.

        Many at once: a file system that has to bring each to the disk first is slow at it.
        """
        if self._made:
            self.flusher.finish(self.stage)
        for new, at, name, want, have in self._made:
            if have is not None and (have.is_directory or have.flags & _LOCKED):
                self._discard(at, name)
            os.rename(new, name, src_dir_fd=self.stage, dst_dir_fd=at)
            if want.flags:
                with _opened(at, name, _READ) as handle:
                    _set_flags(handle, want.flags)
        self._made.clear()

    def _link(self, at: int, name: str, want: Entry) -> None:
        """Another name of a file that comes earlier in the tree, and so is right already."""
        self._move()
        first = f"{self.name}/{want.link}"
        with contextlib.ExitStack() as opened:
            parent = self.at
            *way, last = first.split("/")
            for directory in way:
                parent = opened.enter_context(_below(parent, directory))
            if want.is_file:
                handle = opened.enter_context(_opened(parent, last, _READ))
                _unlock(handle)
            self._discard(at, name)
            os.link(last, name, src_dir_fd=parent, dst_dir_fd=at, follow_symlinks=False)
            if want.is_file:
                _set_flags(handle, want.flags)

    def _mend(self, at: int, name: str, rel: str, copy_at: int, copied: str) -> None:
        """Change the file itself: only its attributes differ, or it has other names (hard links).

        It has one name, or it is the very file that was kept; so it is nobody else's.
        """
        want = self.want[rel]
        with _opened(at, name, _READ) as handle:
            about = os.fstat(handle)
            now = self.have[rel]
            if about.st_ino != now.ino or about.st_nlink != now.nlink:
                raise TreeError("it is being changed at this moment: stop what writes there")
            _unlock(handle)
            if now.content != want.content:
                with (
                    _opened(copy_at, copied, _READ) as source,
                    _opened(at, name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC) as target,
                ):
                    if os.fstat(target).st_ino != about.st_ino:
                        raise TreeError(
                            "it is being changed at this moment: stop what writes there"
                        )
                    if _content(source) != want.content:
                        raise Rotten(rel)
                    os.truncate(target, 0)
                    _pour(source, target)
                    self.flusher.written(target)
            _dress(at, name, handle, want)

    def _discard(self, at: int, name: str) -> None:
        """Take away what is there: at once where a rename can, so that no half of it is seen."""
        remove(self.stage, "old")
        try:
            os.rename(name, "old", src_dir_fd=at, dst_dir_fd=self.stage)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in {*_EDGES, errno.EPERM, errno.EACCES, errno.EBUSY}:
                raise
            remove(at, name)
        else:
            remove(self.stage, "old")


def _content(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    with open(handle, "rb", buffering=0, closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def where(name: str, rel: str) -> str:
    """A path for people, below ``name``."""
    return shown(name if rel == TOP else posixpath.join(name, rel))
