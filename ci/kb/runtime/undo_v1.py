"""Reads what was saved before version 2 of the undo directory, so that it can be rolled back.

It had the copies in kept/N, made with `cp -a`; in left.json a digest of each file after its step;
and a digest in each line of the journal that did not know extended attributes and the like.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

from kb.runtime import trees
from kb.runtime.trees import Manifest

COPIES = "kept"
LEFT = "left.json"


def describe(copy: Path, was: str) -> Manifest:
    """What the original was, as its copy tells. Raises ValueError if the copy is another now."""
    if not os.path.lexists(copy):
        raise ValueError(f"its original is no longer in {copy.parent}")
    # Only root can have given the copy the original's owner.
    if os.geteuid() == 0 and digest(copy) != was:
        raise ValueError(f"its copy {copy} is not what was saved: it has been changed since")
    at = os.open(copy.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return trees.describe(at, copy.name)
    finally:
        os.close(at)


def left_unchanged(root: Path, path: str, version: int, place: Path, rel: str) -> bool:
    """Whether a file, ``rel`` below ``place``, is what a step of that time left there."""
    if version > 1 or rel != trees.TOP:
        return False
    try:
        left = json.loads((root / LEFT).read_text(encoding="utf-8"))
        return bool(left.get(path) == digest(place))
    except (OSError, ValueError, AttributeError):
        return False


def applied_at(root: Path) -> int:
    """When the last step of that time had ended, in ns: what changed until then was its doing."""
    times = [
        (root / name).stat().st_mtime_ns for name in (LEFT, "kept.jsonl") if (root / name).exists()
    ]
    return max(times, default=0)


def digest(path: Path) -> str:
    """What a path was: kind, owner, mode, content (for a directory: of all below)."""
    if not os.path.lexists(path):
        return "absent"
    total = hashlib.sha256()
    deep = path.is_dir() and not path.is_symlink()
    for entry in [path, *sorted(path.rglob("*"))] if deep else [path]:
        about = entry.lstat()
        modified = 0 if stat.S_ISDIR(about.st_mode) else about.st_mtime_ns
        line = (
            f"{entry.relative_to(path)} {about.st_uid} {about.st_gid} {about.st_mode} {modified} "
        )
        total.update(os.fsencode(line))
        if stat.S_ISLNK(about.st_mode):
            total.update(os.fsencode(entry.readlink()))
        elif stat.S_ISREG(about.st_mode):
            with entry.open("rb") as handle:
                total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()
