"""What a step changes is kept first, and put back exactly, whatever happened in between."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from golden import Told
from kb.runtime.undo import UndoError, UndoJournal, main, state_root
from project import tree


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A host's files: of several kinds, owners as far as we may, modes and old times."""
    root = tmp_path / "world"
    (root / "etc").mkdir(parents=True)
    (root / "etc/conf").write_text("original\n")
    (root / "etc/conf").chmod(0o640)
    (root / "etc/link").symlink_to("conf")
    (root / "etc/broken").symlink_to("/no/such/target")
    (root / "etc/dir").mkdir(mode=0o750)
    (root / "etc/dir/one").write_text("1")
    (root / "etc/dir/one").chmod(0o4755)
    (root / "etc/dir/two").symlink_to("one")
    for path in root.rglob("*"):
        if not path.is_symlink():
            os.utime(path, ns=(10**18, 10**18 + 123456789))
    if os.geteuid() == 0:
        os.chown(root / "etc/conf", 1234, 5678)
        os.chown(root / "etc/link", 4321, 8765, follow_symlinks=False)
        os.chown(root / "etc/dir/one", 1234, 5678)
        (root / "etc/dir/one").chmod(0o4755)
    return root


@pytest.fixture
def journal(tmp_path: Path) -> UndoJournal:
    return UndoJournal(tmp_path / "state/area/name")


def restored(journal: UndoJournal) -> list[str]:
    return list(journal.restore())


def kinds(world: Path) -> list[Path]:
    """One path of each kind, and three that are absent."""
    etc = world / "etc"
    names = ("conf", "link", "broken", "dir", "new", "made/a/b/new", "made/a/other")
    return [etc / name for name in names]


def test_every_kind_of_path_comes_back_exactly(world: Path, journal: UndoJournal) -> None:
    before = tree(world)
    with journal.step(kinds(world)):
        spoil(world)
    assert tree(world) != before
    said = restored(journal)
    assert tree(world) == before
    assert all(line.startswith("changed: ") for line in said)
    assert f"changed: removed {world}/etc/made" in said
    assert restored(journal) == []


def spoil(world: Path) -> None:
    etc = world / "etc"
    (etc / "conf").chmod(0o600)
    (etc / "conf").write_text("changed\n")
    (etc / "link").unlink()
    (etc / "link").symlink_to("dir")
    (etc / "broken").unlink()
    (etc / "broken").write_text("a file now")
    (etc / "dir/one").unlink()
    (etc / "dir/two").unlink()
    (etc / "dir").rmdir()
    (etc / "dir").symlink_to("conf")
    (etc / "new/with/things").mkdir(parents=True)
    (etc / "made/a/b").mkdir(parents=True)
    (etc / "made/a/b/new").write_text("x")
    (etc / "made/a/other").symlink_to("/")


@pytest.mark.parametrize("change", ["content", "mode", "owner", "time"])
def test_one_attribute_alone_is_put_back(world: Path, journal: UndoJournal, change: str) -> None:
    conf = world / "etc/conf"
    before = tree(world)
    about = conf.stat()
    with journal.step([conf]):
        if change == "content":
            conf.write_text("ORIGINAL\n")  # as long, and with its old time
            os.utime(conf, ns=(about.st_atime_ns, about.st_mtime_ns))
        elif change == "mode":
            conf.chmod(0o644)
        elif change == "time":
            os.utime(conf)
        elif os.geteuid() == 0:
            os.chown(conf, 0, 0)
        else:
            pytest.skip("only root may change owners")
    assert restored(journal) == [f"changed: put back {conf}"]
    assert tree(world) == before


@pytest.mark.parametrize("name", ["conf", "link", "dir"])
@pytest.mark.parametrize("becomes", ["file", "link", "dir", "nothing"])
def test_any_kind_can_become_any_other(
    world: Path, journal: UndoJournal, name: str, becomes: str
) -> None:
    path = world / "etc" / name
    before = tree(world)
    journal.save(path)
    subprocess.run(["rm", "-r", str(path)], check=True)
    if becomes == "file":
        path.write_text("a file")
    elif becomes == "link":
        path.symlink_to("/")
    elif becomes == "dir":
        (path / "full").mkdir(parents=True)
    restored(journal)
    assert tree(world) == before


def test_what_is_as_it_was_is_left_alone(world: Path, journal: UndoJournal) -> None:
    inode = (world / "etc/conf").stat().st_ino
    for path in kinds(world):
        journal.save(path)
    assert restored(journal) == []
    assert (world / "etc/conf").stat().st_ino == inode


def test_the_first_original_is_the_one_that_counts(world: Path, journal: UndoJournal) -> None:
    conf = world / "etc/conf"
    before = tree(world)
    for content in ("first", "second"):
        journal.save(conf)
        conf.write_text(content)
    assert len(journal.originals()) == 1
    restored(journal)
    assert tree(world) == before


def test_a_directory_made_for_a_path_stays_while_it_holds_something(
    world: Path, journal: UndoJournal
) -> None:
    new = world / "etc/made/new"
    journal.save(new)
    new.parent.mkdir()
    new.write_text("ours")
    (new.parent / "theirs").write_text("a person's")
    restored(journal)
    assert [path.name for path in new.parent.iterdir()] == ["theirs"]


def test_nothing_is_left_of_the_state(world: Path, journal: UndoJournal, tmp_path: Path) -> None:
    journal.lock()
    journal.save(world / "etc/conf")
    assert restored(journal) == []
    journal.forget()
    assert not (tmp_path / "state").exists()


def test_the_originals_are_private(world: Path, journal: UndoJournal) -> None:
    journal.lock()
    with journal.step([world / "etc/conf"]):
        pass
    below = [path for path in journal.root.rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o077 for path in (journal.root, *below)} == {0}


def test_an_edited_file_is_saved(world: Path, journal: UndoJournal) -> None:
    before = tree(world)
    files = [world / "etc/conf", world / "etc/dir2/conf"]
    with journal.step(files):
        for path in files:
            path.parent.mkdir(exist_ok=True)
            path.write_text("applied")
    for path in files:
        path.write_text(f"edited {path.parent.name}")
    said = restored(journal)
    assert tree(world) == before
    saved = [Path(line.rpartition(" ")[2]) for line in said if line.startswith("saved: ")]
    assert sorted(path.read_text() for path in saved) == ["edited dir2", "edited etc"]
    assert said[0].startswith(f"saved: {files[1]} was edited after")


def test_an_edit_between_two_applies_is_saved(world: Path, journal: UndoJournal) -> None:
    conf = world / "etc/conf"
    for _ in range(2):
        with journal.step([conf]) as saved:
            assert saved == []
            conf.write_text("applied")
    conf.write_text("edited")
    copy = journal.save(conf)
    assert copy is not None
    assert copy.read_text() == "edited"


def test_what_the_step_left_is_not_saved(world: Path, journal: UndoJournal) -> None:
    conf = world / "etc/conf"
    with journal.step([conf]):
        conf.write_text("applied")
    assert restored(journal) == [f"changed: put back {conf}"]


@pytest.mark.parametrize("cut", ['{"path": "/etc/pass', "\0\0\0\0"])
def test_a_cut_journal_line_belongs_to_nothing(world: Path, journal: UndoJournal, cut: str) -> None:
    before = tree(world)
    journal.save(world / "etc/conf")
    with journal.journal.open("a") as file:
        file.write(cut)  # a power cut
    paths = [world / "etc/conf", world / "etc/dir"]
    assert [Path(original.path) for original in journal.originals()] == paths[:1]
    with journal.step(paths):
        (world / "etc/conf").write_text("x")
        shutil.rmtree(world / "etc/dir")
    assert [Path(original.path) for original in journal.originals()] == paths
    restored(journal)
    assert tree(world) == before


def test_a_whole_last_line_counts_without_its_end(world: Path, journal: UndoJournal) -> None:
    before = tree(world)
    with journal.step([world / "etc/conf"]):
        (world / "etc/conf").write_text("x")
    journal.journal.write_bytes(journal.journal.read_bytes().removesuffix(b"\n"))  # an editor's
    with journal.step([world / "etc/link"]):
        (world / "etc/link").unlink()
    restored(journal)
    assert tree(world) == before


def test_a_kill_before_anything_is_saved_leaves_no_lock(journal: UndoJournal) -> None:
    journal.lock()
    lock = journal.root.parents[1] / ".lock"
    lock.touch()  # of a run that was killed while it had it
    restored(journal)
    journal.forget()
    assert not lock.parent.exists()


@pytest.mark.parametrize("name", ["conf", "dir", "new"])
@pytest.mark.parametrize("killed", ["while copying", "before the line", "after the line"])
def test_a_kill_while_an_original_is_saved(
    world: Path, journal: UndoJournal, name: str, killed: str
) -> None:
    path = world / "etc" / name
    before = tree(world)
    journal.save(path)
    saved = journal.originals_directory / "0000"
    saved.rename(saved.with_suffix(".new"))
    if killed != "after the line":
        journal.journal.write_text("")
    if killed == "while copying":
        (saved.with_suffix(".new") / "was.json").unlink()
    with journal.step([path]):
        subprocess.run(["rm", "-rf", str(path)], check=True)
        path.write_text("new")
    restored(journal)
    assert tree(world) == before


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_a_restore_can_be_interrupted_and_repeated(
    world: Path, journal: UndoJournal, stop_after: int
) -> None:
    before = tree(world)
    with journal.step(kinds(world)):
        spoil(world)
    lines = journal.restore()
    for _ in range(stop_after):
        next(lines)
    lines.close()  # type: ignore[attr-defined]
    for original in journal.originals():
        if Path(original.place).parent.is_dir():  # cut off while it put this back
            stage = Path(original.place).parent / f".kb-{original.id}"
            stage.mkdir(mode=0o700)
            (stage / "new.0").write_text("half")
    restored(UndoJournal(journal.root))
    assert tree(world) == before


def test_the_second_run_at_once_is_told_so(journal: UndoJournal, told: Told) -> None:
    journal.lock()
    journal.lock()  # the same run again is no other
    with told.raises(UndoError):
        UndoJournal(journal.root).lock()


def test_an_original_that_cannot_be_copied_is_an_error_and_nothing_is_saved(
    world: Path, journal: UndoJournal, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with told.raises(UndoError):
        journal.save(world / "etc/conf")
    assert journal.is_empty()


def test_the_restore_command(
    world: Path, journal: UndoJournal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", str(journal.root)]) == 0
    nothing = "nothing to put back: no step of this runbook has been applied here\n"
    assert capsys.readouterr().out == nothing
    with journal.step([world / "etc/new"]):
        (world / "etc/new").touch()
    assert main(["restore", str(journal.root)]) == 0
    assert capsys.readouterr().out == f"changed: removed {world}/etc/new\n"
    assert main(["restore", str(journal.root)]) == 0
    assert capsys.readouterr().out == nothing


def test_saving_is_on_the_disk_before_anything_changes(
    world: Path, journal: UndoJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    journal.save(world / "etc/conf")
    assert synced.index("copy") < synced.index("was.json.partial") < synced.index("kept.jsonl")
    assert synced[-1] == "name"


def test_where_originals_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOBLE_RUNBOOKS_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_root() == tmp_path / "noble-runbooks"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_root() == Path("/var/lib/noble-runbooks")
    monkeypatch.setenv("NOBLE_RUNBOOKS_STATE", str(tmp_path / "chosen"))
    assert state_root() == tmp_path / "chosen"
