"""What a step changes is kept first, and put back exactly, whatever happened in between."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from kb.runtime.undo import Keeper, KeepError, main, state_root
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
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path / "state/area/name")


def restored(keeper: Keeper) -> list[str]:
    return list(keeper.restore())


def kinds(world: Path) -> list[Path]:
    """One path of each kind, and three that are absent."""
    etc = world / "etc"
    names = ("conf", "link", "broken", "dir", "new", "made/a/b/new", "made/a/other")
    return [etc / name for name in names]


def test_every_kind_of_path_comes_back_exactly(world: Path, keeper: Keeper) -> None:
    before = tree(world)
    for path in kinds(world):
        keeper.keep(path)
    spoil(world)
    assert tree(world) != before
    said = restored(keeper)
    assert tree(world) == before
    assert all(line.startswith("changed: ") for line in said)
    assert f"changed: removed {world}/etc/made" in said
    assert restored(keeper) == []


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
def test_one_attribute_alone_is_put_back(world: Path, keeper: Keeper, change: str) -> None:
    conf = world / "etc/conf"
    before = tree(world)
    keeper.keep(conf)
    about = conf.stat()
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
    assert restored(keeper) == [f"changed: put back {conf}"]
    assert tree(world) == before


@pytest.mark.parametrize("name", ["conf", "link", "dir"])
@pytest.mark.parametrize("becomes", ["file", "link", "dir", "nothing"])
def test_any_kind_can_become_any_other(
    world: Path, keeper: Keeper, name: str, becomes: str
) -> None:
    path = world / "etc" / name
    before = tree(world)
    keeper.keep(path)
    subprocess.run(["rm", "-r", str(path)], check=True)
    if becomes == "file":
        path.write_text("a file")
    elif becomes == "link":
        path.symlink_to("/")
    elif becomes == "dir":
        (path / "full").mkdir(parents=True)
    restored(keeper)
    assert tree(world) == before


def test_what_is_as_it_was_is_left_alone(world: Path, keeper: Keeper) -> None:
    inode = (world / "etc/conf").stat().st_ino
    for path in kinds(world):
        keeper.keep(path)
    assert restored(keeper) == []
    assert (world / "etc/conf").stat().st_ino == inode


def test_the_first_original_is_the_one_that_counts(world: Path, keeper: Keeper) -> None:
    conf = world / "etc/conf"
    before = tree(world)
    for content in ("first", "second"):
        keeper.keep(conf)
        conf.write_text(content)
    assert len(keeper.kept()) == 1
    restored(keeper)
    assert tree(world) == before


def test_a_directory_made_for_a_path_stays_while_it_holds_something(
    world: Path, keeper: Keeper
) -> None:
    new = world / "etc/made/new"
    keeper.keep(new)
    new.parent.mkdir()
    new.write_text("ours")
    (new.parent / "theirs").write_text("a person's")
    restored(keeper)
    assert [path.name for path in new.parent.iterdir()] == ["theirs"]


def test_nothing_is_left_of_the_state(world: Path, keeper: Keeper, tmp_path: Path) -> None:
    keeper.lock()
    keeper.keep(world / "etc/conf")
    assert restored(keeper) == []
    keeper.forget()
    assert not (tmp_path / "state").exists()


def test_the_originals_are_private(world: Path, keeper: Keeper) -> None:
    keeper.lock()
    keeper.keep(world / "etc/conf")
    assert {path.stat().st_mode & 0o077 for path in (keeper.root, keeper.copies)} == {0}


def test_an_edited_file_is_saved(world: Path, keeper: Keeper) -> None:
    before = tree(world)
    files = [world / "etc/conf", world / "etc/dir2/conf"]
    for path in files:
        keeper.keep(path)
        path.parent.mkdir(exist_ok=True)
        path.write_text("applied")
    keeper.note_left(files)
    for path in files:
        path.write_text(f"edited {path.parent.name}")
    said = restored(keeper)
    assert tree(world) == before
    saved = [Path(line.rpartition(" ")[2]) for line in said if line.startswith("saved: ")]
    assert sorted(path.read_text() for path in saved) == ["edited dir2", "edited etc"]
    assert said[0].startswith(f"saved: {files[1]} was edited after")


def test_an_edit_between_two_applies_is_saved(world: Path, keeper: Keeper) -> None:
    conf = world / "etc/conf"
    assert keeper.keep(conf) is None
    conf.write_text("applied")
    keeper.note_left([conf])
    assert keeper.keep(conf) is None
    conf.write_text("edited")
    saved = keeper.keep(conf)
    assert saved is not None
    assert saved.read_text() == "edited"


def test_what_the_step_left_is_not_saved(world: Path, keeper: Keeper) -> None:
    conf = world / "etc/conf"
    keeper.keep(conf)
    conf.write_text("applied")
    keeper.note_left([conf])
    assert restored(keeper) == [f"changed: put back {conf}"]


def test_a_cut_journal_line_belongs_to_nothing(world: Path, keeper: Keeper) -> None:
    before = tree(world)
    keeper.keep(world / "etc/conf")
    with keeper.journal.open("a") as journal:
        journal.write('{"path": "/etc/pass')  # a power cut
    assert [kept.path for kept in keeper.kept()] == [world / "etc/conf"]
    keeper.keep(world / "etc/dir")
    assert [kept.path for kept in keeper.kept()] == [world / "etc/conf", world / "etc/dir"]
    spoil(world)
    (world / "etc/link").unlink()
    restored(keeper)
    assert (world / "etc/conf").read_text() == "original\n"
    assert (world / "etc/dir/one").read_text() == "1"
    assert tree(world / "etc/dir") != ""
    assert before != tree(world)  # what was not kept is not put back


@pytest.mark.parametrize("name", ["conf", "dir"])
def test_a_copy_without_its_line_is_made_anew(world: Path, keeper: Keeper, name: str) -> None:
    path = world / "etc" / name
    before = tree(world)
    keeper.keep(path)
    keeper.journal.write_text("")  # killed after the copy and before the line
    (keeper.copies / "0000.partial").mkdir()  # and once in the middle of the copy
    (keeper.copies / "0000.partial/x").touch()
    keeper.keep(path)
    subprocess.run(["rm", "-r", str(path)], check=True)
    restored(keeper)
    assert tree(world) == before


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_a_restore_can_be_interrupted_and_repeated(
    world: Path, keeper: Keeper, stop_after: int
) -> None:
    before = tree(world)
    for path in kinds(world):
        keeper.keep(path)
    spoil(world)
    lines = keeper.restore()
    for _ in range(stop_after):
        next(lines)
    lines.close()  # type: ignore[attr-defined]
    (world / "etc/.conf.kb-restore").write_text("half")  # cut off while it put this back
    restored(Keeper(keeper.root))
    (world / "etc/.conf.kb-restore").unlink(missing_ok=True)
    assert tree(world) == before


def test_the_second_run_at_once_is_told_so(keeper: Keeper) -> None:
    keeper.lock()
    keeper.lock()  # the same run again is no other
    with pytest.raises(KeepError, match="another run of this runbook is under way on this host"):
        Keeper(keeper.root).lock()


def test_a_copy_that_fails_is_an_error_and_keeps_nothing(
    world: Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cp").write_text("#!/bin/sh\necho no space left on device >&2; exit 1\n")
    (tmp_path / "cp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(KeepError, match=r"^cannot copy .*/etc/conf: no space left on device$"):
        keeper.keep(world / "etc/conf")
    assert keeper.kept() == []


def test_the_restore_command(
    world: Path, keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", str(keeper.root)]) == 0
    nothing = "nothing to put back: no step of this runbook has been applied here\n"
    assert capsys.readouterr().out == nothing
    keeper.keep(world / "etc/new")
    (world / "etc/new").touch()
    assert main(["restore", str(keeper.root)]) == 0
    assert capsys.readouterr().out == f"changed: removed {world}/etc/new\n"
    assert main(["restore", str(keeper.root)]) == 0
    assert capsys.readouterr().out == nothing


def test_a_restore_that_cannot_be_done_fails(
    world: Path, keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper.keep(world / "etc/conf")
    (world / "etc/conf").unlink()
    row = json.loads(keeper.journal.read_text())
    (keeper.copies / row["copy"]).unlink()  # somebody tidied up
    assert main(["restore", str(keeper.root)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"cannot restore: the original of {world}/etc/conf is no longer in ")
    assert keeper.kept()  # for another attempt


def test_keeping_is_synced_before_anything_changes(
    world: Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    keeper.keep(world / "etc/conf")
    assert [Path(name).name for name in synced] == ["0000.partial", "kept.jsonl", "name"]


def test_where_originals_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOBLE_RUNBOOKS_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_root() == tmp_path / "noble-runbooks"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_root() == Path("/var/lib/noble-runbooks")
    monkeypatch.setenv("NOBLE_RUNBOOKS_STATE", str(tmp_path / "chosen"))
    assert state_root() == tmp_path / "chosen"
