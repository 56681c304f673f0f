"""Where a declared path is, who could lead a rollback elsewhere, and that nobody does."""

from __future__ import annotations

import grp
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cells import Make
from golden import Told
from kb.runtime import magics, paths
from kb.runtime.paths import PathError
from kb.runtime.undo import UndoError, UndoJournal, main
from portraits import portrait
from rounds import TRIES, race

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    root = tmp_path / "world"
    (root / "app/etc").mkdir(parents=True)
    (root / "app/etc/conf").write_text("original")
    return root


@pytest.fixture
def journal(tmp_path: Path) -> UndoJournal:
    return UndoJournal(tmp_path / "state/area/name")


def writable_acl(path: Path) -> None:
    """User nobody may write to it, by an access control list."""
    entries = ((1, 7, 2**32 - 1), (2, 7, NOBODY), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 5, 0))
    packed = (struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(packed))


@pytest.mark.parametrize(
    ("mode", "owner", "group", "exposed"),
    [
        (0o755, 0, 0, ""),
        (0o755, NOBODY, 0, "which belongs to nobody"),
        (0o777, 0, 0, "which anyone may write to"),
        (0o1777, 0, 0, "which anyone may write to"),
        (0o775, 0, 0, ""),
        (0o2775, 0, NOBODY, "which group nogroup may write to"),
        (0o775, 0, 4321, "which group 4321 may write to"),
    ],
)
def test_who_may_write_beside_a_declared_path(
    world: Path, mode: int, owner: int, group: int, exposed: str
) -> None:
    if group == NOBODY and grp.getgrgid(NOBODY).gr_name != "nogroup":
        exposed = exposed.replace("nogroup", grp.getgrgid(NOBODY).gr_name)
    etc = world / "app/etc"
    os.chown(etc, owner, group)
    etc.chmod(mode)
    for name in ("conf", "new", "a/b/new"):
        found = paths.locate(etc / name).exposed
        assert found == (f"{etc}, {exposed}" if exposed else "")


def test_a_group_without_members_is_nobody(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(world / "app/etc", 0, 50)
    (world / "app/etc").chmod(0o775)
    alone = grp.struct_group(("staff", "x", 50, []))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: alone)
    assert paths.locate(world / "app/etc/conf").exposed == ""
    shared = grp.struct_group(("staff", "x", 50, ["root", "alice"]))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: shared)
    assert paths.locate(world / "app/etc/conf").exposed.endswith("which group staff may write to")


def test_a_user_named_in_an_access_control_list(world: Path) -> None:
    writable_acl(world / "app")
    assert paths.locate(world / "app/etc/conf").exposed == f"{world}/app, which nobody may write to"


def test_in_a_sticky_directory_what_is_ours_stays_ours(world: Path) -> None:
    world.chmod(0o1777)
    assert paths.locate(world / "app/etc/conf").exposed == ""
    os.chown(world / "app", NOBODY, 0)
    assert paths.locate(world / "app/etc/conf").exposed.startswith(f"{world}, which anyone")
    assert paths.locate(world / "gone/conf").exposed.startswith(f"{world}, which anyone")


def test_a_link_of_somebody_elses_in_a_sticky_directory(world: Path, tmp_path: Path) -> None:
    world.chmod(0o1777)
    (world / "link").symlink_to(tmp_path)
    assert paths.locate(world / "link/conf") == paths.Place(tmp_path / "conf", [], "")
    os.chown(world / "link", NOBODY, 0, follow_symlinks=False)
    assert paths.locate(world / "link/conf").exposed.startswith(f"{world}, which anyone")


def test_an_exposed_path_is_refused_unless_it_is_vouched_for(
    world: Path, journal: UndoJournal, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    os.chown(world / "app", NOBODY, 0)
    with told.raises(UndoError):
        journal.save(world / "app/etc/conf")
    assert journal.is_empty()
    monkeypatch.setenv(paths.TRUST, f"{world}/ap:{world}/app/etc")
    with pytest.raises(UndoError):
        journal.save(world / "app/etc/conf")
    monkeypatch.setenv(paths.TRUST, f"/nowhere:{world}/app/")
    with journal.step([world / "app/etc/conf"]):
        (world / "app/etc/conf").write_text("new")
    monkeypatch.delenv(paths.TRUST)
    with told.raises(UndoError):
        list(journal.restore())
    monkeypatch.setenv(paths.TRUST, f"{world}/app")
    list(journal.restore())
    assert (world / "app/etc/conf").read_text() == "original"


@pytest.mark.parametrize("mode", ["plan", "apply"])
def test_a_plan_says_what_an_apply_would_refuse(
    make: Make, world: Path, mode: str, told: Told
) -> None:
    os.chown(world / "app", NOBODY, 0)
    with told.raises(magics.StepError):
        make(mode).run(f"%%apply x\n# changes: {world}/app/etc/conf\nrm {world}/app/etc/conf")
    assert (world / "app/etc/conf").exists()


def test_a_state_that_others_may_write_to_is_refused(tmp_path: Path, told: Told) -> None:
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", NOBODY, 0)
    with told.raises(UndoError):
        UndoJournal(tmp_path / "state/area/name").lock()
    assert not list((tmp_path / "state").iterdir())


@pytest.mark.parametrize("put", ["link", "file", "directory of the user's"])
@pytest.mark.parametrize("trusted", [False, True])
def test_a_parent_that_was_exchanged_leads_nowhere(
    world: Path,
    journal: UndoJournal,
    put: str,
    trusted: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    told: Told,
) -> None:
    treasure = world / "sudoers.d"
    treasure.mkdir()
    (treasure / "conf").write_text("treasure")
    etc = world / "app/etc"
    with journal.step([etc / "conf", etc / "new"]):
        (etc / "conf").write_text("new")
        (etc / "new").touch()
    etc.rename(world / "app/away")
    if put == "link":
        etc.symlink_to(treasure)
    elif put == "file":
        etc.touch()
    else:
        etc.mkdir()
        os.chown(etc, NOBODY, 0)
    if trusted:
        monkeypatch.setenv(paths.TRUST, str(world / "app"))
    before = portrait(world)
    assert main(["restore", str(journal.root)]) == 1
    told(capsys.readouterr().err)
    assert portrait(world) == before


def test_a_file_system_mounted_over_a_parent_is_noticed(
    world: Path, journal: UndoJournal, capsys: pytest.CaptureFixture[str], told: Told
) -> None:
    etc = world / "app/etc"
    with journal.step([etc / "conf"]):
        (etc / "conf").write_text("new")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=755", "none", etc], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        assert main(["restore", str(journal.root)]) == 1
        told(capsys.readouterr().err)
        assert not list(etc.iterdir())
    finally:
        subprocess.run(["umount", etc], check=True)
    list(journal.restore())
    assert (etc / "conf").read_text() == "original"


def test_a_link_on_the_way_that_is_ours_is_followed_once(world: Path, journal: UndoJournal) -> None:
    (world / "link").symlink_to("app")
    with journal.step([world / "link/etc/conf", world / "app/etc/conf"]):
        (world / "link/etc/conf").write_text("new")
    [original] = journal.originals()
    assert original.place == str(world / "app/etc/conf")
    (world / "link").unlink()
    (world / "link").symlink_to("elsewhere")
    list(journal.restore())
    assert (world / "app/etc/conf").read_text() == "original"


@pytest.mark.parametrize(
    ("declared", "where"),
    [
        ("link/../conf", "app/conf"),
        ("app/etc/../conf", "app/conf"),
        ("link/..//./new/conf/", "app/new/conf"),
        ("gone/../conf", "conf"),
        ("app/etc/../../link/../etc/conf", "app/etc/conf"),
    ],
)
def test_two_dots_mean_what_they_mean_to_a_step(world: Path, declared: str, where: str) -> None:
    (world / "link").symlink_to("app/etc")
    [(path, _)] = magics.changes(f"# changes: {world}/{declared}", {})
    assert path == world / where


@pytest.mark.parametrize(
    "path", ["/", "/etc/hostname/x", "{world}/loop/x"], ids=["root", "a file", "a loop"]
)
def test_what_is_not_a_place(world: Path, journal: UndoJournal, path: str, told: Told) -> None:
    (world / "loop").symlink_to("loop")
    with told.raises(UndoError):
        journal.save(Path(path.format(world=world)))


def test_the_originals_cannot_be_kept_within_themselves(
    journal: UndoJournal, tmp_path: Path, told: Told
) -> None:
    for path in (tmp_path, tmp_path / "state", tmp_path / "state/area/other/x"):
        with told.raises(UndoError):
            journal.save(path)


def test_a_directory_that_became_a_file(world: Path, told: Told) -> None:
    (world / "app/etc").rename(world / "app/away")
    (world / "app/etc").touch()
    with told.raises(PathError):
        paths.open_directory(world / "app/etc/below")


def test_names_that_cannot_be_printed() -> None:
    assert paths.shown("/a\nb\udcff\x1b[2Jä") == r"/a\nb\xff\x1b[2Jä"


def test_a_user_who_exchanges_what_is_put_back_gains_nothing(tmp_path: Path) -> None:
    """A user may write to every directory on the way, and root was told to trust them."""
    ended = race(tmp_path, TRIES or 10)
    assert ended["treasure lost"] == 0
    assert ended["put back"] + ended["refused"] == (TRIES or 10)


def test_a_user_who_is_not_root_saves_what_is_theirs(tmp_path: Path, told: Told) -> None:
    """And is told at once what only root could put back."""
    tmp_path.chmod(0o755)
    base = Path(tempfile.gettempdir())
    for parent in tmp_path.parents:
        if base in parent.parents:
            parent.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine").write_text("mine")
    (home / "roots").write_text("root's")
    for path in (home, home / "mine"):
        os.chown(path, NOBODY, NOBODY)
    script = f"""
import encodings.ascii  # while it may be read
import os
from pathlib import Path
from kb.runtime.undo import UndoError, UndoJournal
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
home = Path({str(home)!r})
journal = UndoJournal(home / "state/area/name")
journal.lock()
with journal.step([home / "mine"]):
    (home / "mine").write_text("new")
print(*journal.restore(), (home / "mine").read_text())
try:
    journal.save(home / "roots")
except UndoError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    restored, refused = done.stdout.splitlines()
    assert restored == f"changed: put back {home}/mine mine"
    told(refused)
