#!/usr/bin/env python3
"""keep: checkpoints that survive a crash, a kill and a full disk

usage: keep save CHECKPOINT [STORE] [--generations N]
       keep newest STORE
       keep list STORE
       keep check CHECKPOINT

save copies a checkpoint, a file or a directory, into STORE as its newest generation: written
beside, synced, and named by one rename. What is not whole is refused, and what is there already is
not kept twice. Without STORE it is the directory `kept` beside the checkpoint. The newest N stay,
3 if you do not say.
newest prints the path of the newest checkpoint whose digests are right: what a job resumes from.
Exit status 1: there is none. list prints every generation, and whether it is whole. check copies
nothing: it fails if a checkpoint cannot be loaded, as far as its format tells: that of torch.save,
np.save, np.savez, pickle.dump and safetensors. Nothing that stands in a checkpoint is run.

STORE/000007/ holds the checkpoint under its own name, and SHA256SUMS for sha256sum --check.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import math
import os
import pickle
import pickletools
import re
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SUMS = "SHA256SUMS"
GENERATION = re.compile(r"\d{6,}")
BEGUN, AGED = ".new-", ".old-"  # what a kill may leave; the next save removes it
CHUNK = 1 << 20
LONGEST = 100 << 20  # bytes of a safetensors header, by its own rule
NUMPY = b"\x93NUMPY"  # what an array that np.save has written begins with
ARCHIVE = b"PK\x03\x04"  # what torch.save and np.savez have written does
SECTOR = 512  # bytes: of what was never written, a disk has at least so many zeros
NOT_ZEROS = {".pt", ".pth", ".ckpt", ".npy", ".npz", ".pkl", ".pickle"}  # no format begins so
PICKLES = NOT_ZEROS - {".npy", ".npz"}
PICKLE = re.compile(rb"\x80[\x02-\x05]")  # what one begins with, by its protocol
LEGACY = 0x1950A86A20F9469CFC6C  # torch.save's, before its format was a zip archive
NUMBERS = {  # bytes of each, by the name of torch's storage of them
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Byte", "Char", "Bool"), 1),
    "ComplexDouble": 16,
}
SIMPLE = re.compile(r"[<>|=]?([a-zA-Z])(\d+)(\[.+\])?")  # numpy's word for a type, such as <f4


class KeepError(Exception):
    """What is wrong, where, and what to do: one sentence."""


def sync(path: Path) -> None:
    """Wait until the disk has a file, or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parts(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint, which is one, or a directory of them."""
    found = checkpoint.rglob("*") if checkpoint.is_dir() else iter([checkpoint])
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise KeepError(f"there is no checkpoint at {checkpoint}: name what the job saves")
    return files


def must_be_whole(path: Path, source: Path) -> None:
    """Raise :class:`KeepError` for a copy that cannot be loaded, as far as its format tells."""
    size = path.stat().st_size
    if size == 0:
        raise KeepError(f"{source} is empty: keep it when it has been saved")
    with path.open("rb") as file:
        head = file.read(SECTOR)
    zeros = not head.strip(b"\0")
    why = ""
    if path.suffix == ".safetensors":
        why = wrong_tensors(path, size)
    elif path.suffix in NOT_ZEROS and any(
        magic.startswith(head) for magic in (NUMPY, ARCHIVE, b"\x80")
    ):
        why = f"it has {size} bytes, and no format so few"
    elif zeros and (path.suffix in NOT_ZEROS or zipfile.is_zipfile(path)):
        why = "it begins with zeros, as what never came to the disk does"
    elif head.startswith(NUMPY) and head[6:7] <= b"\3":  # a later format is not known here
        why = wrong_arrays(path, size)
    elif head.startswith(ARCHIVE):
        why = wrong_archive(path)
    elif path.suffix in PICKLES and PICKLE.match(head):
        why = wrong_pickle(path, size)
    if why:
        raise KeepError(f"{source} is not whole ({why}): keep it when it has been saved")


def wrong_tensors(path: Path, size: int) -> str:
    """Why a file of safetensors cannot be loaded; "" if nothing speaks against it."""
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8:
            return "its header's length is missing"
        (length,) = struct.unpack("<Q", head)
        if length > min(size - 8, LONGEST):
            return "its header is longer than the file"
        try:
            entries = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in entries.items() if name[:2] != "__"]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            return "its header is none"
    said = 8 + length + max(ends, default=0)
    return "" if said == size else f"it has {size} of {said} bytes"


def wrong_arrays(path: Path, size: int) -> str:
    """Why what np.save has written, one array or several, cannot be loaded; "" if nothing does.

    What a program of its own has put behind the arrays is not looked at.
    """
    at = 0
    with path.open("rb") as file:
        while (head := file.read(8)).startswith(NUMPY):
            width = 2 if head[6:7] == b"\1" else 4
            length = file.read(width)
            if len(head) < 8 or len(length) < width:
                return "its header's length is missing"
            text = file.read(min(int.from_bytes(length, "little"), LONGEST))
            if len(text) < int.from_bytes(length, "little"):
                return "its header is longer than the file"
            try:
                said = ast.literal_eval(text.decode("latin-1" if width == 2 else "utf-8"))
                each = item_size(said["descr"])
                there = at + 8 + width + len(text) + each * math.prod(said["shape"])
            except (SyntaxError, ValueError, TypeError, KeyError, IndexError, MemoryError):
                return "its header is none"
            if each == 0:  # objects, or a type that is not known here: only numpy knows
                return ""
            if there > size:
                return f"it has {size} of {there} bytes"
            at = file.seek(there)
    return ""


def item_size(said: object) -> int:
    """How many bytes a numpy header's type has; 0 for what it does not tell."""
    if isinstance(said, str):
        found = SIMPLE.fullmatch(said)
        if found is None or found[1] == "O":
            return 0
        return int(found[2]) * (4 if found[1] == "U" else 1)
    if isinstance(said, tuple):  # a type, and the shape of an array of it
        return item_size(said[0]) * math.prod(said[1])
    if not isinstance(said, list):
        raise TypeError(said)
    sizes = [item_size(field[1]) * math.prod(field[2] if field[2:] else ()) for field in said]
    return sum(sizes) if all(sizes) else 0


def wrong_archive(path: Path) -> str:
    """Why a zip archive, as torch.save and np.savez write it, is torn; "" if nothing speaks for it.

    A sum of 0 is none: torch.save writes that where it is told to compute none.
    """
    if not zipfile.is_zipfile(path):
        return "it has no central directory, which a zip archive ends with"
    name = "its central directory"
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename
                if entry.CRC:
                    with archive.open(entry) as file:
                        while file.read(CHUNK):
                            pass
    except RuntimeError:  # compressed or encrypted in a way that is not known here
        return ""
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError):
        return f"{name} in it is not what was written"
    return ""


class Stand:
    """Stands for what a pickle names: takes anything, and does nothing."""

    def __new__(cls, *_: object, **__: object) -> Stand:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object, **__: object) -> Stand:
        return self

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass


class Stored(pickle.Unpickler):
    """Reads, and runs nothing of, what torch.save's old format says of its numbers."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.sizes: dict[str, int | None] = {}  # bytes by key; None: of a type not known here

    def find_class(self, _: str, name: str) -> type[Stand]:
        return type(name, (Stand,), {})

    def persistent_load(self, said: tuple[object, ...]) -> Stand:
        if said[0] == "storage":
            _, of, key, _, count, *_ = said
            each = NUMBERS.get(getattr(of, "__name__", "").removesuffix("Storage"))
            self.sizes[str(key)] = each and each * int(str(count))
        return Stand()


def wrong_pickle(path: Path, size: int) -> str:
    """Why a pickle, or torch.save's old format of them, is torn; "" if nothing speaks for it.

    Nothing in it is run. What follows a pickle of anybody else's is not looked at.
    """
    with path.open("rb") as file:
        try:
            steps = pickletools.genops(file)
            first = [argument for _, argument, _ in itertools.islice(steps, 3)]
            collections.deque(steps, maxlen=0)
            if LEGACY not in first:
                return ""
            for _ in ("protocol", "machine"):
                collections.deque(pickletools.genops(file), maxlen=0)
            stored = Stored(file)
            stored.load()
            sizes = [stored.sizes[key] for key in Stored(file).load()]
        except (ValueError, EOFError, pickle.UnpicklingError, MemoryError):
            return "a pickle in it has no end, or zeros in its middle"
        except (TypeError, AttributeError, KeyError):  # in a way that is not known here
            return ""
        there = file.tell() + sum(8 + (each or 0) for each in sizes)
    return "" if there <= size else f"it has {size} of {there} bytes"


def copied(source: Path, into: Path) -> str:
    """Copy a file with its mode and owner, and sync it; its SHA-256."""
    before = source.stat()
    total = hashlib.sha256()
    with source.open("rb") as file, into.open("xb") as made:
        while chunk := file.read(CHUNK):
            total.update(chunk)
            made.write(chunk)
        made.flush()
        if os.geteuid() == 0:
            os.fchown(made.fileno(), before.st_uid, before.st_gid)
        os.fchmod(made.fileno(), before.st_mode & 0o7777)
        os.fsync(made.fileno())
    after = source.stat()
    if (before.st_ino, before.st_size, before.st_mtime_ns) != (
        after.st_ino,
        after.st_size,
        after.st_mtime_ns,
    ):
        raise KeepError(
            f"{source} was written while it was read: keep it when the job has saved it"
        )
    return total.hexdigest()


def generations(store: Path) -> list[Path]:
    """Those that have a name, the newest first."""
    if not store.is_dir():
        return []
    found = (path for path in store.iterdir() if GENERATION.fullmatch(path.name))
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def sums(generation: Path) -> dict[str, str]:
    """What a generation is to hold: the digest of each file; nothing, if it does not say so."""
    try:
        text = (generation / SUMS).read_text(encoding="utf-8")
    except OSError:
        return {}
    return {name: said for said, _, name in (line.partition("  ") for line in text.splitlines())}


def whole(generation: Path) -> bool:
    """Whether each file is there, and is what it was."""
    said = sums(generation)
    try:
        return bool(said) and all(digest(generation / name) == said[name] for name in said)
    except OSError:
        return False


def checkpoint_in(generation: Path) -> Path:
    """The one checkpoint of a generation: everything in it but the digests."""
    return next(path for path in sorted(generation.iterdir()) if path.name != SUMS)


@contextlib.contextmanager
def alone(store: Path) -> Iterator[None]:
    """Nobody else saves meanwhile. What a killed save has left goes first."""
    descriptor = os.open(store, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for path in [*store.glob(f"{BEGUN}*"), *store.glob(f"{AGED}*")]:
            shutil.rmtree(path)
        yield
    finally:
        os.close(descriptor)


def save(checkpoint: Path, store: Path, kept: int) -> str:
    """Keep a checkpoint as the newest generation; what to tell."""
    files = parts(checkpoint)
    if not store.exists():
        store.mkdir()
        shutil.copymode(checkpoint.parent, store)
        sync(store.parent)
    with alone(store):
        earlier = generations(store)
        begun = Path(tempfile.mkdtemp(prefix=BEGUN, dir=store))
        try:
            said = write(checkpoint, files, begun)
            if earlier and sums(earlier[0]) == said and whole(earlier[0]):
                return f"unchanged: {checkpoint_in(earlier[0])}"
            named = store / f"{int(earlier[0].name) + 1 if earlier else 1:06}"
            begun.rename(named)
        finally:
            shutil.rmtree(begun, ignore_errors=True)
        sync(store)
        for aged in earlier[kept - 1 :]:
            gone = store / f"{AGED}{aged.name}"
            aged.rename(gone)
            shutil.rmtree(gone)
    return f"kept: {checkpoint_in(named)}"


def write(checkpoint: Path, files: list[Path], begun: Path) -> dict[str, str]:
    """Write a generation that has no name yet, so that a disk has it; its digests."""
    said = {}
    for source in files:
        name = source.relative_to(checkpoint.parent)
        (begun / name).parent.mkdir(parents=True, exist_ok=True)
        said[str(name)] = copied(source, begun / name)
        must_be_whole(begun / name, source)
    text = "".join(f"{said[name]}  {name}\n" for name in said)
    (begun / SUMS).write_text(text, encoding="utf-8")
    begun.chmod(0o755)
    sync(begun / SUMS)
    for directory in [begun, *(path for path in begun.rglob("*") if path.is_dir())]:
        sync(directory)
    return said


def newest(store: Path) -> Path:
    """The newest checkpoint that is whole."""
    for generation in generations(store):
        if whole(generation):
            return checkpoint_in(generation)
    raise KeepError(f"{store} has no whole checkpoint: begin anew, or name another store")


def without_room(store: Path, error: OSError) -> KeepError:
    """What to say of a disk that is full."""
    place = store if store.exists() else store.parent
    free = shutil.disk_usage(place).free
    return KeepError(
        f"{store} has no room for another checkpoint ({error.strerror}, {free} bytes are free): the"
        " earlier ones are as they were; make room, or keep fewer with --generations"
    )


def main(arguments: list[str]) -> int:
    """Do what the arguments say; the exit status."""
    parser = argparse.ArgumentParser(
        prog="keep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    saving = commands.add_parser("save")
    saving.add_argument("checkpoint", type=Path)
    saving.add_argument("store", type=Path, nargs="?")
    saving.add_argument("--generations", type=int, default=3)
    for name in ("newest", "list"):
        commands.add_parser(name).add_argument("store", type=Path)
    commands.add_parser("check").add_argument("checkpoint", type=Path)
    given = parser.parse_args(arguments)
    checkpoint: Path = getattr(given, "checkpoint", Path()).absolute()
    store: Path = (getattr(given, "store", None) or checkpoint.parent / "kept").absolute()
    try:
        if given.command == "newest":
            print(newest(store))
        elif given.command == "list":
            for generation in generations(store):
                print(generation.name, "whole" if whole(generation) else "damaged")
        elif given.command == "check":
            for path in parts(checkpoint):
                must_be_whole(path, path)
        else:
            if given.generations < 1:
                raise KeepError(f"--generations is {given.generations}: give 1 or more")
            print(save(checkpoint, store, given.generations))
    except KeepError as error:
        print(f"keep: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        told = without_room(store, error) if full else f"{error}: see to it, then run this again"
        print(f"keep: {told}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
