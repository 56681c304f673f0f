"""The fixtures' way to packages of a Debian release: a mirror of files, and a stand-in for gpgv."""

from __future__ import annotations

import hashlib
import importlib.util
import lzma
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
GPGV = '#!/bin/sh\n[ "$3" = --output ] && cp "$5" "$4" && ! grep -q FORGED "$5"\n'

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb makes the packages")


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, asking a mirror in tmp_path/mirror that has one package, `library`."""
    specification = importlib.util.spec_from_file_location("debian", ROOT / "ci/fixtures/debian.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    mirror, commands = tmp_path / "mirror", tmp_path / "commands"
    commands.mkdir()
    (commands / "gpgv").write_text(GPGV)
    (commands / "gpgv").chmod(0o755)
    monkeypatch.setattr(module, "KEYRING", commands / "gpgv")  # a file that is there
    monkeypatch.setattr(module, "ARCHITECTURES", {module.platform.machine(): "amd64"})
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setenv("DEBIAN_MIRROR", mirror.as_uri())
    publish(mirror, package(tmp_path))
    return module


def package(scratch: Path) -> bytes:
    tree = scratch / "library"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: library\nVersion: 2.31-1\nArchitecture: amd64\nMaintainer: m <m@localhost>\n"
        "Description: a library\n"
    )
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "lib").mkdir()
    (tree / "lib/library.so.1").write_text("the library")
    (tree / "usr/lib/library.so").symlink_to("/lib/library.so.1")
    subprocess.run(
        ["dpkg-deb", "--build", str(tree), str(scratch / "library.deb")],
        check=True,
        capture_output=True,
    )
    return (scratch / "library.deb").read_bytes()


def publish(mirror: Path, deb: bytes) -> None:
    listed = (
        "Package: library\nVersion: 2.31-1\nFilename: pool/library.deb\n"
        f"SHA256: {hashlib.sha256(deb).hexdigest()}\n"
    )
    index = lzma.compress(listed.encode())
    name = "main/binary-amd64/Packages.xz"
    for path, content in (
        ("pool/library.deb", deb),
        (f"dists/old/{name}", index),
        (
            "dists/old/InRelease",
            f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} {name}\n".encode(),
        ),
    ):
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path).write_bytes(content)


def test_a_tree_holds_the_packages_and_says_which(debian: ModuleType, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    (dest / ".making.killed").mkdir(parents=True)  # what a killed run leaves
    assert debian.command([str(dest)], "x", {"system": debian.tree("old", ["library"])}) == 0
    assert sorted(path.name for path in dest.iterdir()) == [".digest", ".lock", "system"]
    assert (dest / "system/usr/lib/library.so").read_text() == "the library"  # not this machine's
    assert (dest / "system/PACKAGES").read_text().startswith("library 2.31-1 ")
    assert "Version: 2.31-1" in (dest / "system/DEBIAN/library").read_text()


def test_what_is_there_is_left_alone(debian: ModuleType, tmp_path: Path) -> None:
    trees = {"system": debian.tree("old", ["library"])}
    assert debian.command([str(tmp_path / "dest")], "x", trees) == 0
    shutil.rmtree(tmp_path / "mirror")
    assert debian.command([str(tmp_path / "dest")], "x", trees) == 0


@pytest.mark.parametrize("edited", ["x", "x.txt", "debian.py"])
def test_what_is_made_from_something_else_now_is_made_anew(
    debian: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    here = tmp_path / "fixtures"
    here.mkdir()
    for name in ("x", "x.txt", "debian.py", "other"):
        (here / name).write_text("pins")
    monkeypatch.setattr(debian, "__file__", str(here / "debian.py"))
    dest = tmp_path / "dest"

    def make(content: str) -> dict[str, Callable[[Path], object]]:
        return {"system": lambda into: (into / "file").write_text(content)}

    assert debian.command([str(dest)], "x", make("old") | {"dropped": make("old")["system"]}) == 0
    (here / "other").write_text("edited")
    assert debian.command([str(dest)], "x", make("new")) == 0
    assert (dest / "system/file").read_text() == "old"
    (here / edited).write_text("edited")
    assert debian.command([str(dest)], "x", make("new")) == 0
    assert (dest / "system/file").read_text() == "new"
    assert not (dest / "dropped").exists()


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("dists/old/InRelease", b"FORGED", "the index of old has no good signature"),
        (
            "dists/old/main/binary-amd64/Packages.xz",
            b"other",
            "Packages.xz does not have the signed",
        ),
        ("pool/library.deb", b"other", "library does not have the signed SHA-256"),
        ("dists/old/InRelease", b"nothing", "old has no packages for amd64"),
    ],
)
def test_what_is_not_as_signed_is_refused(
    debian: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    path: str,
    content: bytes,
    says: str,
) -> None:
    (tmp_path / "mirror" / path).write_bytes(content)
    assert (
        debian.command([str(tmp_path / "dest")], "x", {"s": debian.tree("old", ["library"])}) == 1
    )
    assert says in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "dest").iterdir()) == [".digest", ".lock"]


def test_a_package_that_is_not_there(
    debian: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert debian.command([str(tmp_path / "dest")], "x", {"s": debian.tree("old", ["other"])}) == 1
    assert "has no package other" in capsys.readouterr().err


def test_the_mirror_is_the_one_of_apt_or_none(
    debian: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEBIAN_MIRROR")
    monkeypatch.setattr(debian.shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(debian, "SOURCES", tmp_path)
    (tmp_path / "sources.list").write_text(
        "deb [arch=amd64] https://mirror.example/debian/ x main\n"
    )
    assert debian.mirror() == "https://mirror.example/debian"
    (tmp_path / "sources.list").write_text("deb https://mirror.example/ubuntu noble main\n")
    with pytest.raises(debian.FixtureError, match="DEBIAN_MIRROR"):
        debian.mirror()


def test_the_signature_cannot_be_checked(debian: ModuleType, tmp_path: Path) -> None:
    debian.KEYRING = tmp_path / "absent"
    with pytest.raises(debian.FixtureError, match="install gpgv and debian-archive-keyring"):
        debian.index("old", "amd64")


def test_a_machine_without_gpgv_has_sqv(
    debian: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian.shutil, "which", lambda name: name if name == "sqv" else None)
    assert debian.verifier(Path("signed"), Path("plain"))[0] == "sqv"
