"""What an attack on a rollback found: nothing of a person's is lost; what is not done is said."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from golden import Told
from kb.runtime import trees, undo, undo_v1
from kb.runtime.undo import UndoError, UndoJournal, main
from portraits import portrait

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that")
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
NOBODY_BY_NAME = 2**32 - 1
ENTRIES = (  # u::rw- u:1234:rw- g::r-- m::rw- o::r--
    (0x01, 6, NOBODY_BY_NAME),
    (0x02, 6, 1234),
    (0x04, 4, NOBODY_BY_NAME),
    (0x10, 6, NOBODY_BY_NAME),
    (0x20, 4, NOBODY_BY_NAME),
)
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)
IMMUTABLE, NO_DUMP = 0x10, 0x40


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "world"
    (root / "dir/deep").mkdir(parents=True)
    (root / "conf").write_text("original\n")
    (root / "dir/one").write_text("1")
    (root / "dir/deep/two").write_text("2")
    yield root
    subprocess.run(["chattr", "-R", "-i", "-a", str(root)], capture_output=True, check=False)


@pytest.fixture
def journal(tmp_path: Path) -> UndoJournal:
    return UndoJournal(tmp_path / "state/area/name")


def restored(journal: UndoJournal) -> list[str]:
    return list(journal.restore())


Refused = Callable[[UndoJournal], str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], told: Told) -> Refused:
    """Restores what cannot be restored; what is said of it."""

    def restore(journal: UndoJournal) -> str:
        assert main(["restore", str(journal.root)]) == 1
        said = capsys.readouterr().err
        told(said)
        return said

    return restore


def flags(path: Path, change: int | None = None) -> int:
    handle = os.open(path, os.O_RDONLY)
    try:
        now: int = struct.unpack("i", fcntl.ioctl(handle, 0x80086601, bytes(4)))[0]
        if change is not None:
            fcntl.ioctl(handle, 0x40086602, struct.pack("i", now ^ change))
        return now & (IMMUTABLE | NO_DUMP)
    finally:
        os.close(handle)


# 1: mounts


@pytest.fixture
def mounted(tmp_path: Path, world: Path) -> Iterator[Callable[[Path], None]]:
    """Mounts a directory with a file at a path, in a mount namespace that all tests share."""
    source = tmp_path / "disk"
    source.mkdir()
    (source / "treasure").write_text("a person's")
    places: list[Path] = []

    def mount(place: Path) -> None:
        done = subprocess.run(
            ["mount", "--bind", str(source), str(place)], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("nothing can be mounted here")
        places.append(place)

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("below", [".", "deep", "created/by the step"])
def test_a_rollback_refuses_what_is_mounted_before_anything_is_removed(
    world: Path,
    journal: UndoJournal,
    mounted: Callable[[Path], None],
    refused: Refused,
    below: str,
) -> None:
    with journal.step([world / "conf", world / "dir"]):
        (world / "conf").write_text("new")
        (world / "dir/created/by the step").mkdir(parents=True)
    mounted(world / "dir" / below)
    before = portrait(world)
    said = refused(journal)
    assert f"a file system is mounted at {world / 'dir' / below}" in said
    assert said.endswith("(nothing has been put back)\n")
    assert portrait(world) == before


def test_an_apply_refuses_what_is_mounted(
    world: Path, journal: UndoJournal, mounted: Callable[[Path], None], told: Told
) -> None:
    mounted(world / "dir/deep")
    with told.raises(UndoError):
        journal.save(world / "dir")
    assert journal.is_empty()
    journal.save(world / "dir/deep/within")  # it is on one file system


# 2: a damaged journal


def damage(journal: UndoJournal, how: str) -> None:
    lines = journal.journal.read_text().splitlines(keepends=True)
    if how == "missing":
        journal.journal.unlink()
    elif how == "empty":
        journal.journal.write_text("")
    else:
        lines[1] = {
            "garbled": lines[1].replace('"', "x", 4),
            "empty line": "\n",
            "cut": lines[1][:40] + "\n",
            "one letter": lines[1].replace("/dir", "/dis"),
            "line gone": "",
            "not ASCII": "\udcff\n",
        }[how]
        journal.journal.write_bytes(os.fsencode("".join(lines)))


DAMAGE = [
    "missing",
    "empty",
    "garbled",
    "empty line",
    "cut",
    "one letter",
    "line gone",
    "not ASCII",
]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_journal_is_said_and_what_can_be_saved_is(
    world: Path, journal: UndoJournal, how: str, refused: Refused, told: Told
) -> None:
    before = portrait(world)
    with journal.step([world / name for name in ("conf", "dir", "new")]):
        (world / "conf").write_text("x")
        shutil.rmtree(world / "dir")
        (world / "new").touch()
    damage(journal, how)
    copies = portrait(journal.originals_directory)
    with told.raises(UndoError):
        journal.save(world / "conf")
    said = refused(journal)
    assert str(journal.journal) in said
    assert "all originals stay in" in said
    assert portrait(world) == before
    assert portrait(journal.originals_directory) == copies
    assert not journal.is_empty()
    with told.raises(UndoError):
        journal.forget()


@pytest.mark.parametrize("how", ["rotten", "gone", "words", "no words"])
@pytest.mark.parametrize("name", ["conf", "dir"])
def test_a_copy_that_has_rotted_is_not_put_back(
    world: Path, journal: UndoJournal, name: str, how: str, refused: Refused
) -> None:
    before = portrait(world)
    backup = world.parent / "backup"
    subprocess.run(["cp", "-a", str(world), str(backup)], check=True)
    with journal.step([world / "conf", world / "dir", world / "new"]):
        (world / "conf").write_text("x")
        (world / "dir/one").write_text("x")
        (world / "new").touch()
    kept = journal.originals_directory / ("0000" if name == "conf" else "0001")
    copy = kept / "copy/one" if name == "dir" else kept / "copy"
    if how == "rotten":
        copy.write_text("y")
    elif how == "gone":
        copy.unlink()
    elif how == "words":
        (kept / "was.json").write_text((kept / "was.json").read_text().replace("33188", "33260"))
    else:
        (kept / "was.json").unlink()
    said = refused(journal)
    assert f"{world}/{name} was not put back: " in said
    after = portrait(world)
    assert after.pop(f"{name}/one" if name == "dir" else name)["content"] == "x"
    assert "new" not in after  # the rest was put back
    other = "dir/one" if name == "conf" else "conf"
    assert after[other] == before[other]
    assert copy.exists() == (how != "gone")
    if how in {"rotten", "gone"}:  # put right by hand, it goes through
        subprocess.run(["cp", "-a", str(backup / name), str(world)], check=True)
        assert main(["restore", str(journal.root)]) == 0
        assert portrait(world) == before


# 3: what a person made


def saved_files(journal: UndoJournal) -> dict[str, str]:
    edited = journal.root.parent / "edited"
    assert not list(edited.glob(".*"))
    return {path.name: path.read_text() for path in edited.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["kept", "created"])
def test_what_a_person_added_to_a_directory_is_saved(
    world: Path, journal: UndoJournal, kind: str
) -> None:
    before = portrait(world)
    path = world / ("dir" if kind == "kept" else "new")
    for _ in range(2):  # a second apply does not take it for its own
        with journal.step([path]):
            path.mkdir(exist_ok=True)
            (path / "ours").write_text("ours")
    (path / "sub").mkdir()
    (path / "sub/mine").write_text("a person's")
    (path / "ours").write_text("edited")
    with journal.step([path]):
        pass
    said = restored(journal)
    assert [line for line in said if line.startswith("saved: ")] == [
        f"saved: 3 files below {path} were added or edited after the apply; they are in "
        + str(next((journal.root.parent / "edited").iterdir()))
    ]
    assert saved_files(journal) == {"mine": "a person's", "ours": "edited"}
    assert portrait(world) == before


def test_a_file_that_was_replaced_by_a_directory_is_saved(
    world: Path, journal: UndoJournal
) -> None:
    before = portrait(world)
    with journal.step([world / "conf"]):
        (world / "conf").write_text("new")
    (world / "conf").unlink()
    (world / "conf").mkdir()
    (world / "conf/mine").write_text("a person's")
    assert restored(journal)[0].startswith(f"saved: 2 files below {world}/conf were added")
    assert saved_files(journal) == {"mine": "a person's"}
    assert portrait(world) == before


def test_a_repair_by_hand_after_a_failed_step_is_saved(world: Path, journal: UndoJournal) -> None:
    before = portrait(world)
    with pytest.raises(ZeroDivisionError), journal.step([world / "conf"]):
        (world / "conf").write_text("half")
        raise ZeroDivisionError
    (world / "conf").write_text("repaired")
    with journal.step([world / "conf"]) as saved:
        (world / "conf").write_text("new")
    assert len(saved) == 1
    assert list(saved_files(journal).values()) == ["repaired"]
    assert restored(journal) == [f"changed: put back {world}/conf"]
    assert portrait(world) == before


@pytest.mark.parametrize("repaired", [False, True])
def test_a_repair_by_hand_after_a_step_that_was_cut_off_is_saved(
    world: Path, journal: UndoJournal, repaired: bool
) -> None:
    before = portrait(world)
    with journal.step([world / "conf", world / "dir"]):
        (world / "conf").write_text("half")
        (world / "dir/half").write_text("half")
        subprocess.run(["cp", "-a", str(journal.applied), f"{journal.applied}.kill"], check=True)
    shutil.rmtree(journal.applied)
    Path(f"{journal.applied}.kill").rename(journal.applied)
    time.sleep(2 * trees.SETTLED_NS / 1e9)  # nobody rolls back at once; younger times tell nothing
    last = time.time() - (60 if repaired else 0)  # the last sign of life
    for mark in journal.applied.iterdir():
        os.utime(mark, (last, last))
    if repaired:
        (world / "conf").write_text("repaired")
    said = restored(journal)
    assert any(line.startswith("saved") for line in said) == repaired
    assert ("repaired" in saved_files(journal).values()) == repaired
    assert portrait(world) == before


def test_a_step_shows_that_it_is_alive(
    world: Path, journal: UndoJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "BEAT", 0.01)
    with journal.step([world / "conf"]):
        [mark] = journal.applied.iterdir()
        os.utime(mark, (1, 1))
        deadline = time.monotonic() + 10
        while mark.stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mark.stat().st_mtime > 2
    assert [path.name for path in journal.applied.iterdir()] == ["0000.json"]


def test_an_edit_is_saved_once(world: Path, journal: UndoJournal) -> None:
    with journal.step([world / "conf"]):
        (world / "conf").write_text("new")
    (world / "conf").write_text("edited")
    for _ in range(3):
        with journal.step([world / "conf"]):
            pass
    assert restored(journal)[0].startswith(f"saved: {world}/conf was edited")
    assert list(saved_files(journal).values()) == ["edited"]


def test_what_is_declared_within_another_is_no_edit(world: Path, journal: UndoJournal) -> None:
    before = portrait(world)
    for _ in range(2):
        with journal.step([world / "new"]):
            (world / "new").mkdir(exist_ok=True)
            if not (world / "new/env").exists():
                (world / "new/env").write_text("first")
        with journal.step([world / "new/env", world / "new/late"]):
            (world / "new/env").write_text("second")
            (world / "new/late").write_text("late")
    assert not any(line.startswith("saved") for line in restored(journal))
    assert portrait(world) == before


# 4: hard links


def test_a_hard_link_that_is_edited_in_place_is_put_back_under_all_its_names(
    world: Path, journal: UndoJournal
) -> None:
    os.link(world / "conf", world / "other name")
    before = portrait(world)
    with journal.step([world / "conf"]), (world / "conf").open("a") as conf:
        conf.write("edited in place\n")
    restored(journal)
    assert portrait(world) == before
    assert (world / "other name").read_text() == "original\n"
    assert (world / "other name").samefile(world / "conf")


def test_a_hard_link_that_a_step_replaced_is_said(world: Path, journal: UndoJournal) -> None:
    os.link(world / "conf", world / "other name")
    with journal.step([world / "conf"]):
        (world / "conf").unlink()
        (world / "conf").write_text("new")
    [note, _] = restored(journal)
    assert note.startswith(f"note: {world}/conf had other names (hard links)")
    assert (world / "conf").read_text() == (world / "other name").read_text() == "original\n"


# 5: attributes


@ROOT
@pytest.mark.parametrize("what", ["acl", "capability", "user", "trusted", "immutable", "nodump"])
@pytest.mark.parametrize("name", ["conf", "dir", "dir/one"])
@pytest.mark.parametrize("whose", ["the step's", "the original's"])
def test_what_no_mode_shows_is_put_back(
    world: Path, journal: UndoJournal, what: str, name: str, whose: str
) -> None:
    path = world / name

    def toggle() -> None:
        names = {
            "acl": ("system.posix_acl_access", ACL),
            "capability": ("security.capability", CAPABILITY),
            "user": ("user.note", b"\0\xff"),
            "trusted": ("trusted.note", b""),
        }
        if what in names:
            attribute, value = names[what]
            if attribute in os.listxattr(path):
                os.removexattr(path, attribute)
            else:
                os.setxattr(path, attribute, value)
        else:
            flags(path, IMMUTABLE if what == "immutable" else NO_DUMP)

    try:
        if whose == "the original's":
            toggle()
    except OSError:
        pytest.skip("this file system has no such attribute")
    before = portrait(world)
    declared = world / name.split("/", maxsplit=1)[0]
    with journal.step([declared]):
        toggle()
    if whose == "the original's" and not path.is_dir():
        with journal.step([declared]):
            path.unlink()
            path.write_text("another")
    assert portrait(world) != before
    assert restored(journal) == [f"changed: put back {declared}"]
    assert portrait(world) == before


@ROOT
def test_what_is_immutable_is_removed(world: Path, journal: UndoJournal) -> None:
    before = portrait(world)
    with journal.step([world / "new", world / "dir"]):
        (world / "new/deep").mkdir(parents=True)
        for path in (world / "new/deep/file", world / "dir/one"):
            path.write_text("x")
            flags(path, IMMUTABLE)
        for path in (world / "new/deep", world / "new"):
            flags(path, IMMUTABLE)
    restored(journal)
    assert portrait(world) == before


# 6: rollbacks that could never pass


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127, "a\nb", "-rf"])
def test_any_name_can_be_put_back(world: Path, journal: UndoJournal, name: str) -> None:
    (world / name).write_text("original")
    before = portrait(world)
    with journal.step([world / name]):
        (world / name).write_text("new")
    (world / name).write_text("edited")
    assert restored(journal)[0].startswith("saved: ")
    assert list(saved_files(journal).values()) == ["edited"]
    assert portrait(world) == before


def test_names_that_are_not_utf_8(
    world: Path, journal: UndoJournal, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsencode(world / "dir") + b"/\xff\xfe"
    Path(os.fsdecode(odd)).write_text("original")
    before = portrait(world)
    with journal.step([world / "dir"]):
        Path(os.fsdecode(odd)).write_text("new")
        Path(os.fsdecode(odd + b"\xfd")).write_text("new")
    Path(os.fsdecode(odd)).write_text("edited")
    assert main(["restore", str(journal.root)]) == 0
    assert "saved: 1 files" in capsys.readouterr().out
    assert portrait(world) == before


@pytest.mark.parametrize("content", ["", "{", '{"entries": {"."', "[]", '{"entries": {".": 3}}'])
def test_a_cut_note_of_what_was_applied_stops_nothing(
    world: Path, journal: UndoJournal, content: str
) -> None:
    before = portrait(world)
    with journal.step([world / "conf"]):
        (world / "conf").write_text("new")
    time.sleep(0.05)
    (journal.applied / "0000.json").write_text(content)
    assert restored(journal) == [f"changed: put back {world}/conf"]
    assert portrait(world) == before


@pytest.mark.parametrize("point", range(1, 6))
def test_a_kill_while_the_originals_are_removed(
    world: Path, journal: UndoJournal, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = portrait(world)
    with journal.step([world / "conf", world / "dir"]):
        (world / "conf").write_text("new")
    calls = 0

    def killed(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls > point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", _before(killed, shutil.rmtree))
        patched.setattr(Path, "unlink", _before(killed, Path.unlink))
        with pytest.raises(KeyboardInterrupt):
            restored(journal)
    assert UndoJournal(journal.root).is_empty()
    with journal.step([world / "conf"]):
        (world / "conf").write_text("again")
    restored(journal)
    assert portrait(world) == before
    journal.forget()


def _before(first: Callable[..., None], then: Callable[..., object]) -> Callable[..., object]:
    def both(*arguments: object, **options: object) -> object:
        first()
        return then(*arguments, **options)

    return both


# 7: what two share


@pytest.fixture
def shared(tmp_path: Path) -> tuple[UndoJournal, UndoJournal]:
    area = tmp_path / "state/area"
    return UndoJournal(area / "metrics@first"), UndoJournal(area / "metrics@second")


def test_a_shared_file_stays_for_whom_still_needs_it_and_goes_with_the_last(
    world: Path, shared: tuple[UndoJournal, UndoJournal]
) -> None:
    before = portrait(world)
    for journal in shared:
        with journal.step([world / "conf"]):
            (world / "conf").write_text("for both")
            os.utime(world / "conf", (1, 1))
    first, second = shared
    assert restored(first) == [
        f"left: {world}/conf, since area/metrics for second was applied after this and needs it as"
        " it is; the rollback of that puts back what was there before both"
    ]
    first.forget()
    assert (world / "conf").read_text() == "for both"
    assert restored(second) == [f"changed: put back {world}/conf"]
    assert portrait(world) == before


def test_a_kill_after_a_shared_file_was_handed_over(
    world: Path, shared: tuple[UndoJournal, UndoJournal]
) -> None:
    before = portrait(world)
    first, second = shared
    for journal in shared:
        with journal.step([world / "new", world / "conf"]):
            (world / "conf").write_text("for both")
            os.utime(world / "conf", (1, 1))
    lines = first.restore()
    assert next(lines).startswith("left: ")
    lines.close()  # type: ignore[attr-defined]
    assert [line.partition(" ")[0] for line in restored(first)] == ["left:"]
    assert (world / "conf").read_text() == "for both"
    assert len(second.originals()) == 2
    restored(second)
    assert portrait(world) == before


def test_a_shared_file_that_both_changed_is_rolled_back_in_the_right_order(
    world: Path, shared: tuple[UndoJournal, UndoJournal], refused: Refused
) -> None:
    before = portrait(world)
    for name, journal in zip(("first", "second"), shared, strict=True):
        with journal.step([world / "conf", world / name]), (world / "conf").open("a") as conf:
            conf.write(name)
            (world / name).touch()
    first, second = shared
    refused(first)
    assert (world / "first").exists()
    restored(second)
    restored(first)
    assert portrait(world) == before


def test_a_shared_file_is_not_handed_over_during_a_run_of_the_other(
    world: Path, shared: tuple[UndoJournal, UndoJournal], refused: Refused
) -> None:
    for journal in shared:
        with journal.step([world / "conf"]):
            (world / "conf").write_text("for both")
            os.utime(world / "conf", (1, 1))
    first, second = shared
    second.lock()
    refused(first)
    second.unlock()


def test_what_is_in_the_way_of_a_rollback(
    world: Path, journal: UndoJournal, refused: Refused, told: Told
) -> None:
    with journal.step([world / "conf"]):
        (world / "conf").write_text("new")
    [original] = journal.originals()
    told.hidden = {**told.hidden, original.id: "ID"}
    way = world / f".kb-{original.id}"
    way.touch()
    said = refused(journal)
    assert way.name in said
    way.unlink()
    restored(journal)
    assert (world / "conf").read_text() == "original\n"


def test_what_a_step_made_that_could_not_be_put_back(
    world: Path, journal: UndoJournal, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setattr(trees, "DEEPEST", 2)
    with told.raises(UndoError), journal.step([world / "new"]):
        (world / "new/a/b/c").mkdir(parents=True)


def test_a_step_that_mounts(
    world: Path, journal: UndoJournal, mounted: Callable[[Path], None], told: Told
) -> None:
    with told.raises(UndoError), journal.step([world / "dir"]):
        mounted(world / "dir/deep")


def test_a_file_that_is_cut_off_while_it_is_copied(
    world: Path, journal: UndoJournal, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setattr(os, "pread", lambda *_: b"")
    with told.raises(UndoError):
        journal.save(world / "conf")


def test_what_comes_out_otherwise_is_said(
    world: Path, journal: UndoJournal, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    with journal.step([world / "conf"]):
        (world / "conf").write_text("new")
    monkeypatch.setattr(undo, "_differences", lambda *_: ["its owner"])
    refused(journal)


def test_what_another_put_into_a_directory_is_rolled_back_first(
    world: Path, journal: UndoJournal, tmp_path: Path, told: Told
) -> None:
    other = UndoJournal(tmp_path / "state/other/name")
    with journal.step([world / "new"]):
        (world / "new").mkdir()
    with other.step([world / "new/theirs"]):
        (world / "new/theirs").touch()
    with told.raises(UndoError):
        restored(journal)
    restored(other)
    restored(journal)
    assert not (world / "new").exists()


@pytest.mark.parametrize("first", [0, 1])
def test_a_directory_that_a_step_made_goes_with_the_last_that_has_a_file_in_it(
    world: Path, journal: UndoJournal, tmp_path: Path, first: int
) -> None:
    """Such as NAME.service.d, in whatever order several drop-ins are taken away."""
    journals = journal, UndoJournal(tmp_path / "state/other/name")
    place = world / "unit.d"
    for number, one in enumerate(journals):
        with one.step([place / f"{number}.conf"]):
            place.mkdir(exist_ok=True)
            (place / f"{number}.conf").touch()
    assert restored(journals[first])[-1] == f"left: {place}, which is not empty"
    assert restored(journals[1 - first])[-1] == f"changed: removed {place}"
    assert not place.exists()


def test_an_earlier_apply_again_after_its_rollback_is_the_later_one(
    world: Path, shared: tuple[UndoJournal, UndoJournal]
) -> None:
    before = portrait(world)
    first, second = shared
    for journal in shared:
        with journal.step([world / "conf"]):
            (world / "conf").write_text("for both")
            os.utime(world / "conf", (1, 1))
    restored(first)
    with first.step([world / "conf"]):
        pass
    assert restored(second)[0].startswith(f"left: {world}/conf, since area/metrics for first")
    restored(first)
    assert portrait(world) == before


# 11: the lock


def test_a_run_that_waits_for_the_lock_does_not_share_it(tmp_path: Path, told: Told) -> None:
    """The directory goes at the very moment at which the next run has opened the lock."""
    root = tmp_path / "state/area/name"
    first, second, third = (UndoJournal(root) for _ in range(3))
    first.lock()
    real = fcntl.flock
    went = threading.Event()

    def slow(handle: int, how: int) -> None:
        if not went.is_set():
            went.set()
            first.forget()
            third.lock()
        real(handle, how)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fcntl, "flock", slow)
        with told.raises(UndoError):
            second.lock()
    assert root.exists()  # the third's
    third.forget()
    assert not (tmp_path / "state").exists()


# States of before version 2


def written_by_version_1(root: Path, paths: list[Path]) -> None:
    """What the first version wrote when it kept these paths."""
    (root / "kept").mkdir(parents=True)
    with (root / "kept.jsonl").open("a") as journal:
        for number, path in enumerate(paths):
            name = f"{number:04d}" if os.path.lexists(path) else None
            if name:
                subprocess.run(["cp", "-a", str(path), str(root / "kept" / name)], check=True)
            made = [str(parent) for parent in path.parents if not parent.exists()]
            row = {"path": str(path), "was": undo_v1.digest(path), "copy": name, "made": made}
            journal.write(json.dumps(row) + "\n")


def test_an_apply_of_yesterday_is_rolled_back(world: Path, journal: UndoJournal) -> None:
    (world / "link").symlink_to("conf")
    before = portrait(world)
    paths = [world / name for name in ("conf", "dir", "link", "new/a/b", "dir/deep/two")]
    written_by_version_1(journal.root, paths)
    (world / "conf").write_text("new")
    (world / "dir/one").unlink()
    (world / "dir/added").touch()
    (world / "link").unlink()
    (world / "new/a").mkdir(parents=True)
    (world / "new/a/b").write_text("new")
    left = {str(world / "conf"): undo_v1.digest(world / "conf")}
    time.sleep(0.05)
    (journal.root / "left.json").write_text(json.dumps(left))
    with journal.step(
        [world / "conf", world / "later"]
    ):  # an apply by this version goes on with it
        (world / "later").touch()
    said = restored(journal)
    assert not any(line.startswith("saved") for line in said), said
    assert f"changed: removed {world}/new" in said
    assert portrait(world) == before
    journal.forget()
    assert not journal.root.exists()


@pytest.mark.parametrize("left", ["", "{", "good"])
def test_an_edit_after_an_apply_of_yesterday_is_saved(
    world: Path, journal: UndoJournal, left: str
) -> None:
    before = portrait(world)
    written_by_version_1(journal.root, [world / "conf"])
    (world / "conf").write_text("new")
    good = json.dumps({str(world / "conf"): undo_v1.digest(world / "conf")})
    (journal.root / "left.json").write_text(good if left == "good" else left)
    time.sleep(0.05)
    (world / "conf").write_text("edited")
    assert restored(journal)[0].startswith("saved: ")
    assert list(saved_files(journal).values()) == ["edited"]
    assert portrait(world) == before


@pytest.mark.parametrize("how", ["line", "journal", "copy", "rotten"])
def test_damage_to_a_state_of_yesterday_is_said(
    world: Path, journal: UndoJournal, how: str, refused: Refused
) -> None:
    before = portrait(world)
    written_by_version_1(journal.root, [world / "conf", world / "dir", world / "new"])
    (world / "conf").write_text("new")
    (world / "new").touch()
    if how == "line":
        lines = journal.journal.read_text().splitlines()
        journal.journal.write_text(f"{lines[0]}\n{lines[1][:20]}\n{lines[2]}\n")
    elif how == "journal":
        journal.journal.unlink()
    elif how == "copy":
        (journal.root / "kept/0000").unlink()
    else:
        (journal.root / "kept/0000").write_text("ORIGINAL\n")
    said = refused(journal)
    assert "all originals stay" in said
    assert (journal.root / "kept/0001/one").exists()
    if how == "line":
        assert portrait(world) == before
    elif how != "journal":
        assert not (world / "new").exists()
        assert (world / "conf").read_text() == "new"


def test_a_file_of_the_year_1970(world: Path, journal: UndoJournal) -> None:
    """As archives have them that can be made again byte for byte."""
    os.utime(world / "conf", (0, 0))
    before = portrait(world)
    with journal.step([world / "conf"]):
        (world / "conf").write_text("new")
    assert restored(journal) == [f"changed: put back {world}/conf"]
    assert portrait(world) == before
    assert (world / "conf").stat().st_mtime == 0
