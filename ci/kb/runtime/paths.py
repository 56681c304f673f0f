"""Where a declared path really is, who could lead us elsewhere, and how to get there without links.

Root changes files below directories that a parameter names. If somebody else may write to one of
them, a link put there at the right moment would make root write somewhere else. So a path is
looked up once, with every directory on the way judged; from then on only its real place is used,
reached directory by directory, none of which may be a link.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

TRUST = "NOBLE_RUNBOOKS_TRUST"  # directories that others may write to, and are vouched for
LINKS = 40  # on the way to one path, as in the kernel
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ACL = "system.posix_acl_access"
_ACL_USER, _ACL_OWN_GROUP, _ACL_GROUP, _ACL_WRITE = 0x02, 0x04, 0x08, 0x02


class PathError(Exception):
    """A path that cannot be used. One sentence."""


@dataclass(frozen=True)
class Place:
    """Where a path is: no name in it is a link, but perhaps the last.

    ``missing`` are the directories on the way that do not exist, deepest first. ``exposed`` says
    who else may write to a directory on the way ("/srv/app, which belongs to alice"), or is "".
    """

    path: Path
    missing: list[Path]
    exposed: str

    def refuse_exposed(self) -> None:
        """Raise :class:`PathError` if somebody else could put a link on the way."""
        if self.exposed:
            directory = self.exposed.partition(", ")[0]
            raise PathError(
                f"{shown(self.path)} lies below {self.exposed}: what is put there could be led"
                " elsewhere; choose another place, make that directory yours alone, or set"
                f" {TRUST}={directory} if you trust whoever may write to it"
            )


def shown(path: str | os.PathLike[str]) -> str:
    """A path for people: what cannot be printed is escaped, whatever bytes a name is made of."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def declared(path: str) -> Path:
    """A declared path without ``.`` and ``..``; ``/x/link/..`` is what it is for the kernel."""
    if ".." in path.split("/"):
        head, _, tail = path.rpartition("/..")
        path = f"{os.path.realpath(f'{head}/..')}/{tail}"
    return Path(os.path.normpath(path))


def locate(path: Path) -> Place:
    """Find the real place of ``path``, whose last name is not followed."""
    trust = [os.path.realpath(part) for part in os.environ.get(TRUST, "").split(":") if part]
    judge = _Judge(trust)
    here, links = "/", 0
    *names, last = path.parts[1:] or ("",)
    if not last:
        raise PathError("the root directory itself cannot be kept")
    todo = names[::-1]
    while todo:
        name = todo.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120 - names may be any bytes
            continue
        there = os.path.join(here, name)  # noqa: PTH118
        try:
            about = os.lstat(there)
        except FileNotFoundError:
            todo.append(name)
            break
        judge.look(here, about)
        if stat.S_ISLNK(about.st_mode):
            links += 1
            if links > LINKS:
                raise PathError(f"{shown(path)} goes through too many links")
            target = str(Path(there).readlink())
            here = "/" if target.startswith("/") else here
            todo.extend(target.split("/")[::-1])
        elif stat.S_ISDIR(about.st_mode):
            here = there
        else:
            raise PathError(f"{shown(there)}, on the way to {shown(path)}, is not a directory")
    judge.look(here, None)
    missing: list[Path] = []
    for name in reversed(todo):
        here = os.path.normpath(os.path.join(here, name))  # noqa: PTH118
        missing.insert(0, Path(here))
    return Place(Path(here) / last, missing, judge.found)


class _Judge:
    """Remembers the first directory on the way that somebody else may write to."""

    def __init__(self, trust: list[str]) -> None:
        self.trust = trust
        self.own = {0, os.geteuid()}
        self.found = ""

    def look(self, directory: str, entry: os.stat_result | None) -> None:
        """Judge ``directory``, on the way to ``entry`` in it (None: to what does not exist)."""
        if self.found or any(
            directory == trusted or directory.startswith(trusted.rstrip("/") + "/")
            for trusted in self.trust
        ):
            return
        about = os.stat(directory)  # noqa: PTH116 - as above
        name = shown(directory)
        if about.st_uid not in self.own:
            self.found = f"{name}, which belongs to {_user(about.st_uid)}"
            return
        who = self._writers(directory, about)
        # In a sticky directory such as /tmp others can put names, but not replace those of ours.
        sticky = about.st_mode & stat.S_ISVTX and entry is not None and entry.st_uid in self.own
        if who and not sticky:
            self.found = f"{name}, which {who} may write to"

    def _writers(self, directory: str, about: os.stat_result) -> str:
        if about.st_mode & stat.S_IWOTH:
            return "anyone"
        if not about.st_mode & stat.S_IWGRP:
            return ""  # with an ACL, too: these bits are its mask then
        users, groups = _writing(directory)
        others = [_user(uid) for uid in users if uid not in self.own]
        others += [self._members(about.st_gid if gid is None else gid) for gid in groups]
        return next(filter(None, others), "")

    def _members(self, gid: int) -> str:
        """Name a group that has members other than root and this user; "" if it has none."""
        try:
            group = grp.getgrgid(gid)
        except KeyError:
            return f"group {gid}"
        names = {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid}
        others = names | set(group.gr_mem)
        others -= {_user(uid) for uid in self.own}
        return f"group {group.gr_name}" if others else ""


def _writing(directory: str) -> tuple[list[int], list[int | None]]:
    """The users and groups that may write, besides the owner; None is the directory's own group."""
    try:
        acl = os.getxattr(directory, _ACL)
    except OSError:
        return [], [None]
    # A header of 4 bytes; then tag, permissions and id of each entry.
    writing = [
        (tag, ident)
        for tag, permissions, ident in struct.iter_unpack("<HHI", acl[4:])
        if permissions & _ACL_WRITE
    ]
    users = [ident for tag, ident in writing if tag == _ACL_USER]
    groups = [ident for tag, ident in writing if tag == _ACL_GROUP]
    return users, groups + [None for tag, _ in writing if tag == _ACL_OWN_GROUP]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def open_directory(path: Path, make: bool = False) -> int:
    """Open a directory, reached from / through directories only; with ``make`` missing ones, too.

    Raises :class:`PathError` if one of them is a link or something else, or does not exist.
    """
    handle = os.open("/", DIRECTORY)
    way = Path("/")
    for name in path.parts[1:]:
        way /= name
        try:
            try:
                below = os.open(name, DIRECTORY, dir_fd=handle)
            except FileNotFoundError:
                if not make:
                    raise
                os.mkdir(name, 0o755, dir_fd=handle)
                below = os.open(name, DIRECTORY, dir_fd=handle)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise PathError(
                    f"{shown(way)} is no longer a directory: something was put in its place"
                ) from None
            raise
        finally:
            os.close(handle)
        handle = below
    return handle


def mount_of(handle: int) -> int:
    """The number of the mount that an open file lies on; bind mounts have one of their own."""
    about = Path(f"/proc/self/fdinfo/{handle}").read_text(encoding="ascii")
    return int(about.partition("mnt_id:")[2].split()[0])


def mounts() -> dict[int, Path]:
    """Where each mount of this process's view is, by its number."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        number, _, _, _, place = line.split(b" ")[:5]
        plain = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), place)
        found[int(number)] = Path(os.fsdecode(plain))
    return found


def refuse_mounts(path: Path) -> None:
    """Raise :class:`PathError` if a file system is mounted at or below ``path``."""
    for place in mounts().values():
        if place == path or path in place.parents:
            raise PathError(
                f"a file system is mounted at {shown(place)}, which {shown(path)} would take along:"
                " unmount it first"
            )
