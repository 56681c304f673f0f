"""What a directory looks like to everybody but the code under test: every byte and attribute."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import struct
from pathlib import Path
from typing import Any

FLAGS = 0x10 | 0x20 | 0x40 | 0x80 | 0x08 | 0x10000
SHORT = 100  # bytes of a content that are shown as they are


def portrait(root: Path, timed: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """All that is below ``root``, by its name; names of the same file share a number.

    Of directories, the time is looked at where the name begins with one of ``timed``.
    """
    numbers: dict[tuple[int, int], int] = {}
    found: dict[str, dict[str, Any]] = {}
    for directory, below, names in os.walk(os.fsencode(root)):
        below.sort()
        for raw in sorted(below + names):
            path = os.path.join(directory, raw)  # noqa: PTH118 - bytes
            name = os.fsdecode(os.path.relpath(path, os.fsencode(root)))
            found[name] = _one(path, numbers, name.startswith(timed) if timed else False)
    return found


def _one(path: bytes, numbers: dict[tuple[int, int], int], timed: bool) -> dict[str, Any]:
    about = os.lstat(path)
    one: dict[str, Any] = {
        "mode": about.st_mode,
        "owner": (about.st_uid, about.st_gid),
        "device": about.st_rdev,
        "xattrs": {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        },
    }
    if stat.S_ISDIR(about.st_mode):
        one["time"] = about.st_mtime_ns if timed else None
        one["flags"] = _flags(path)
        return one
    one["links"] = about.st_nlink
    key = about.st_dev, about.st_ino
    one["same"] = numbers.setdefault(key, len(numbers)) if about.st_nlink > 1 else None
    if stat.S_ISLNK(about.st_mode):
        one |= {"content": os.readlink(path), "time": about.st_mtime_ns}  # noqa: PTH115 - bytes
    elif stat.S_ISREG(about.st_mode):
        content = Path(os.fsdecode(path)).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        one["content"] = digest if len(content) > SHORT else content.decode(errors="replace")
        one["time"] = about.st_mtime_ns
        one["holes"] = about.st_size > SHORT * SHORT and about.st_blocks * 512 < about.st_size
        one["flags"] = _flags(path)
    return one


def _flags(path: bytes) -> int:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found: int = struct.unpack("i", fcntl.ioctl(handle, 0x80086601, bytes(4)))[0]
        return found & FLAGS
    except OSError:
        return 0
    finally:
        os.close(handle)
