"""Rounds of apply, kill and rollback over every kind of file that Linux has.

``python rounds.py WHAT ROUNDS`` runs the long version and says how it went; the tests run a few.
WHAT is `kills` (kill -9 at random moments) or `race` (a user who exchanges names meanwhile).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from kb.runtime import paths
from kb.runtime.undo import UndoJournal, main
from portraits import portrait

TRIES = int(os.environ.get("KB_ROUNDS", "0"))
MANY = 10_000  # files of the large directory, in one round of twenty
NOBODY = 65534
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
TEMPORARY = (".conf.kb-restore", ".conf.kb-restore.partial")  # as version 1 of the journal had
NAMES = ("file", "n" * 255, os.fsdecode(b"\xff\xfe"), "ä b\nc", "-rf", ".hidden")
ENTRIES = ((1, 6), (2, 6), (4, 4), (16, 6), (32, 4))
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, bits, 1234 if tag == 2 else 2**32 - 1) for tag, bits in ENTRIES
)
KINDS = (
    "file", "sparse", "link", "dangling", "hard", "fifo", "socket", "device", "directory", "acl",
    "capability", "user attribute", "immutable", "append-only", "setuid", "empty",
)  # fmt: skip


def flag(path: Path, bits: int, on: bool) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        now = struct.unpack("i", fcntl.ioctl(handle, 0x80086601, bytes(4)))[0]
        change = now | bits if on else now & ~bits
        fcntl.ioctl(handle, 0x40086602, struct.pack("i", change))
    finally:
        os.close(handle)


def make(path: Path, kind: str, dice: random.Random) -> None:
    """Make a file of a kind; with an owner, a mode and a time of its own."""
    if kind in {"link", "dangling"}:
        path.symlink_to("file" if kind == "link" else "/no/such/file")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name.encode("utf-8", "surrogateescape")[:100])
            if len(os.fsencode(path.name)) > 100:
                Path(os.fsdecode(os.fsencode(path.name)[:100])).rename(path)
    elif kind == "device":
        os.mknod(path, 0o20600, os.makedev(1, 3))
    elif kind == "directory":
        path.mkdir()
        (path / "within").write_bytes(dice.randbytes(30))
    else:
        path.write_bytes(b"" if kind == "empty" else dice.randbytes(dice.randrange(1, 5000)))
    if kind == "sparse":
        with path.open("r+b") as file:
            file.truncate(3_000_000)
    elif kind == "hard":
        os.link(path, path.with_name(f"{os.fsdecode(os.fsencode(path.name)[:200])}.hard"))
    os.chown(path, dice.choice((0, 1234)), dice.choice((0, 5678)), follow_symlinks=False)
    if kind in {"acl", "capability", "user attribute"}:
        name, value = {
            "acl": ("system.posix_acl_access", ACL),
            "capability": ("security.capability", CAPABILITY),
            "user attribute": ("user.note", dice.randbytes(20)),
        }[kind]
        os.setxattr(path, name, value)
    elif not path.is_symlink():
        path.chmod(0o4755 if kind == "setuid" else dice.choice((0o600, 0o644, 0o750)))
    moment = dice.randrange(10**18)
    os.utime(path, ns=(moment, moment), follow_symlinks=False)
    if kind in {"immutable", "append-only"}:
        flag(path, 0x10 if kind == "immutable" else 0x20, True)


def build(world: Path, dice: random.Random, many: int) -> None:
    """A world with every kind of file, some at its top, all in a directory."""
    world.mkdir()
    (world / "kept").mkdir()
    for number, kind in enumerate(KINDS):
        name = NAMES[number % len(NAMES)][: 250 - len(str(number))] + str(number)
        make(world / name, kind, dice)
        for deep in ("kept", "kept/deep"):
            (world / deep).mkdir(exist_ok=True)
            make(world / deep / name, kind, dice)
    for number in range(many):
        (world / "kept/deep" / f"many{number}").write_text(str(number))
    for directory in ("kept/deep", "kept"):
        os.utime(world / directory, ns=(10**18, 10**18 + 7))


def declared(world: Path) -> list[Path]:
    """Everything at the top, and what is not there yet."""
    there = sorted(path for path in world.iterdir() if not path.name.endswith(".hard"))
    return [*there, world / "new", world / "made/for/this"]


def unlock(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        if (path.is_file() or path.is_dir()) and not path.is_symlink():
            flag(path, 0x30, False)


def spoil(path: Path, dice: random.Random) -> None:
    """What a step may do to a path: anything."""
    how = dice.randrange(7)
    if os.path.lexists(path):
        unlock(path) if not path.is_symlink() else None
    if path.is_dir() and not path.is_symlink() and how:
        for child in dice.sample(sorted(path.iterdir()), min(8, len(list(path.iterdir())))):
            spoil(child, dice)
        make(path / f"added{dice.randrange(10**9)}", dice.choice(KINDS), dice)
        return
    if how == 1 and path.is_file() and not path.is_symlink():
        with path.open("ab") as file:
            file.write(b"edited in place")
    elif how == 2 and os.path.lexists(path):
        os.chown(path, 4321, 8765, follow_symlinks=False)
    elif how == 3 and path.is_file() and not path.is_symlink():
        os.setxattr(path, "user.other", b"x")
    else:
        several = path.is_file() and not path.is_symlink() and path.stat().st_nlink > 1
        if several:  # to replace one name of several is what no rollback can undo
            return
        subprocess.run(["rm", "-rf", "--", path], check=True)
        if how > 3:
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path, dice.choice([kind for kind in KINDS if kind != "hard"]), dice)


def apply(world: Path, state: Path, seed: int) -> None:
    """One step over the whole world."""
    journal = UndoJournal(state / "area/name")
    journal.lock()
    wanted = declared(world) if journal.is_empty() else _known(journal)
    with journal.step(wanted):
        dice = random.Random(seed)  # noqa: S311 - dice
        for path in wanted:
            spoil(path, dice)


def _known(journal: UndoJournal) -> list[Path]:
    """What an earlier try has saved already; the rest it had not come to."""
    return [Path(original.path) for original in journal.originals()]


def run(*arguments: str | Path, kill_after: float | None = None) -> tuple[int, str]:
    """Run a command of this file in a process of its own; it may be killed after some seconds."""
    process = subprocess.Popen(
        [sys.executable, "-B", __file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    process.stdout.readline()  # it begins
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    said, _ = process.communicate()
    return process.returncode, said


def kills(base: Path, rounds: int, seed: int = 0) -> Counter[str]:
    """Rounds of an apply and a rollback, both killed at random moments; raises if one is wrong."""
    told: Counter[str] = Counter()
    for number in range(rounds):
        dice = random.Random(seed * 100_000 + number)  # noqa: S311 - dice
        world, state = base / f"world{number}", base / f"state{number}"
        large = number % 20 == 9 and rounds >= 10
        build(world, dice, MANY if large else 0)
        longest = 3.0 if large else 0.25
        before = portrait(world, ("kept",))
        told["files"] += len(before)
        for attempt in range(dice.randrange(1, 3)):
            moment = dice.choice((None, dice.random() * longest, dice.random() * longest))
            status, said = run("apply", world, state, str(number * 10 + attempt), kill_after=moment)
            told["applies"] += 1
            told["applies killed"] += status == -signal.SIGKILL
            assert status in {0, -signal.SIGKILL}, f"round {number}: {said}"
        for _ in range(dice.randrange(4)):
            status, said = run("restore", state, kill_after=dice.random() * longest / 2)
            told["rollbacks"] += 1
            told["rollbacks killed"] += status == -signal.SIGKILL
            assert status in {0, -signal.SIGKILL}, f"round {number}: {said}"
        status, said = run("restore", state)
        told["rollbacks"] += 1
        assert status == 0, f"round {number}: {said}"
        after = portrait(world, ("kept",))
        wrong = [
            f"{name}: {before.get(name)} -> {after.get(name)}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
        assert not wrong, f"round {number}: {wrong[:3]} of {len(wrong)}\n{said}"
        told["exact"] += 1
        told["exact, of 10 000 files"] += large
        unlock(world)
        shutil.rmtree(world)
        shutil.rmtree(state, ignore_errors=True)
    return told


def swap(directory: Path, treasure: Path) -> None:
    """Exchange everything in a directory for links to a treasure, as fast as it goes, for ever."""
    counter = os.open(treasure.parent / "exchanges", os.O_WRONLY)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    numbers = 0
    while True:
        numbers += 1
        os.pwrite(counter, struct.pack("q", numbers), 0)
        for path in (directory, directory / "etc"):
            with contextlib.suppress(OSError):
                for there in [*path.iterdir(), *(path / name for name in TEMPORARY)]:
                    with contextlib.suppress(OSError):
                        there.rename(path / f"away{numbers % 7}")
                    with contextlib.suppress(OSError):
                        there.symlink_to(treasure / ("conf" if path.name == "etc" else ""))
                    with contextlib.suppress(OSError):
                        os.link(treasure / "conf", there)
                    with contextlib.suppress(OSError):
                        there.unlink()
                    with contextlib.suppress(OSError):
                        (path / f"away{numbers % 7}").rename(there)


def race(base: Path, rounds: int, seed: int = 0) -> Counter[str]:
    """Rollbacks as root below a directory of a user who exchanges names meanwhile."""
    base.chmod(0o755)
    treasure, app = base / "treasure", base / "app"
    treasure.mkdir()
    (treasure / "conf").write_text("root's own")
    (treasure / "tree").mkdir()
    (treasure / "tree/one").write_text("root's own")
    before = portrait(base, ("treasure",))
    before = {name: about for name, about in before.items() if name.startswith("treasure")}
    os.environ[paths.TRUST] = str(app)
    told: Counter[str] = Counter()
    for number in range(seed, seed + rounds):
        (app / "etc/tree").mkdir(parents=True)
        (app / "etc/conf").write_text("original")
        (app / "etc/tree/one").write_text("original")
        for path in (app, *app.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        journal = UndoJournal(base / f"state{number}/area/name")
        journal.lock()
        targets = [app / "etc" / name for name in ("conf", "tree", "new", "deep/new")]
        with journal.step(targets):
            (app / "etc/conf").write_text("new")
            (app / "etc/new").touch()
            (app / "etc/tree/two").touch()
            (app / "etc/tree/one").unlink()
        counter = base / "exchanges"
        counter.write_bytes(bytes(8))
        process = subprocess.Popen([sys.executable, "-B", __file__, "swap", app, treasure])
        while counter.read_bytes() == bytes(8):
            time.sleep(0.01)
        deadline = time.monotonic() + 0.5
        status = 1
        with (
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            while status and time.monotonic() < deadline:
                status = main(["restore", str(journal.root)])
                told["tries"] += 1
        process.kill()
        process.wait()
        told["exchanges"] += struct.unpack("q", counter.read_bytes())[0]
        told["put back" if status == 0 else "refused"] += 1
        after = portrait(base, ("treasure",))
        after = {name: about for name, about in after.items() if name.startswith("treasure")}
        told["treasure lost"] += after != before
        shutil.rmtree(app)
        shutil.rmtree(base / f"state{number}")
    del os.environ[paths.TRUST]
    return told


def _command(what: str, *arguments: str) -> int:
    if what in {"apply", "restore"}:
        print("it begins", flush=True)
    if what == "apply":
        apply(Path(arguments[0]), Path(arguments[1]), int(arguments[2]))
    elif what == "restore":
        return main(["restore", str(Path(arguments[0]) / "area/name")])
    elif what == "swap":
        swap(Path(arguments[0]), Path(arguments[1]))
    else:
        rounds, seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
        with tempfile.TemporaryDirectory() as base:
            try:
                told = (kills if what == "kills" else race)(Path(base), rounds, seed)
            finally:
                unlock(Path(base))  # so that it can be removed after a failure, too
        print(f"{what}:", ", ".join(f"{name} {count}" for name, count in told.items()))
    return 0


if __name__ == "__main__":
    sys.exit(_command(*sys.argv[1:]))
