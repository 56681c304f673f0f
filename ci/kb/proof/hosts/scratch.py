"""Directories of this process that hosts may write to, and that nobody else here reaches.

A host's root is this machine's, so what it makes there could be a program that anyone may start as
root, were it not for the directory above, which hosts do not see.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

PREFIX = "kb-hosts-"
LOCK = "lock"  # held as long as the process lives


def directory() -> Path:
    """A new directory. It goes when this process ends, or when another begins after a kill."""
    return Path(tempfile.mkdtemp(dir=_root()))


def is_private(place: Path) -> bool:
    """Whether ``place`` is still a directory of ours that nobody else may enter."""
    about = place.lstat()
    return (
        stat.S_ISDIR(about.st_mode)
        and stat.S_IMODE(about.st_mode) == 0o700
        and about.st_uid == os.geteuid()
    )


@functools.cache
def _root() -> Path:
    remove_leftovers()
    made = Path(tempfile.mkdtemp(prefix=".kb-"))
    lock = os.open(made / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Who finds it by this name finds it locked.
    root = made.rename(made.with_name(PREFIX + made.name.removeprefix(".kb-")))
    atexit.register(_remove, root)
    # Only root can make such files, and only root may mount; in a container it may not be allowed.
    if os.geteuid() == 0 and _mount("--bind", str(root), str(root)):
        _mount("--options", "remount,bind,nosuid,nodev", str(root))
    return root


def remove_leftovers() -> None:
    """Remove what processes of this user left that were killed."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, or another process is at it
            if not is_private(root):
                continue
            lock = os.open(root / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(root)
            finally:
                os.close(lock)


def _remove(root: Path) -> None:
    if os.geteuid() == 0:
        subprocess.run(["umount", "--lazy", str(root)], capture_output=True, check=False)
    # The lock goes last: what is left of a removal that is killed is still a leftover.
    for entry in root.iterdir():
        if entry.name != LOCK:
            shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)


def _mount(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    return done.returncode == 0
