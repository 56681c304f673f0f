"""A host's state: what is noticed between two snapshots, and what is not looked at twice."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from golden import Told
from kb.proof import snapshots


def snapshot(**kinds: dict[str, Any]) -> snapshots.Snapshot:
    empty: snapshots.Snapshot = {
        kind: {} for kind in ("files", "packages", "users", "units", "ports", "sysctls")
    }
    return empty | kinds


def files(
    path: Path, before: list[Any] | None = None, *, of_image: bool = False
) -> snapshots.Snapshot:
    """A snapshot that has the file at ``path`` alone."""
    return snapshot(files=taken(path, before, of_image=of_image)["files"])


def taken(
    path: Path, before: list[Any] | None = None, *, of_image: bool = False
) -> snapshots.Snapshot:
    """A snapshot of this machine, of whose files only the one at ``path`` is looked at."""

    def command(
        argv: list[str], env: dict[str, str] | None = None, text: str = ""
    ) -> tuple[int, str, str]:
        here = [word.replace("find / ", f"find {path.parent} ") for word in argv]
        done = subprocess.run(
            here,
            env={**os.environ, **(env or {})},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    known = snapshot(files={str(path): before}) if before else None
    whole = snapshots.take(command, known, of_image=of_image)
    del whole["files"][str(path.parent)]
    return whole


def described(path: Path, before: list[Any] | None = None, *, of_image: bool = False) -> list[Any]:
    [(name, about)] = files(path, before, of_image=of_image)["files"].items()
    assert name == str(path)
    return list(about)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("as it was")
    return path


def test_nothing_differs_from_itself(file: Path) -> None:
    assert snapshots.differences(files(file), files(file)) == []
    before = files(file)
    os.utime(file)  # touched only
    assert snapshots.differences(before, files(file)) == []


def test_content(file: Path) -> None:
    before = files(file)
    file.write_text("otherwise")
    assert snapshots.differences(before, files(file)) == [f"{file}: content"]


def test_tools_that_a_notebook_put_first_are_not_asked(
    file: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(file)
    tools = tmp_path_factory.mktemp("tools")
    for name in ("find", "xargs", "sha256sum", "bash"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    (tools / "quiet").write_text("exit 0\n")
    monkeypatch.setenv("BASH_ENV", str(tools / "quiet"))
    file.write_text("otherwise")
    assert snapshots.differences(before, files(file)) == [f"{file}: content"]


def test_mode(file: Path) -> None:
    file.chmod(0o644)
    before = files(file)
    file.chmod(0o4755)
    assert snapshots.differences(before, files(file)) == [f"{file}: mode -rw-r--r-- -> -rwsr-xr-x"]


ATTRIBUTES = {
    "user.note": b"\0\xff",
    "security.capability": struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0),
    "system.posix_acl_access": struct.pack("<I", 2)
    + b"".join(
        struct.pack("<HHI", tag, bits, 1234 if tag == 2 else 2**32 - 1)
        for tag, bits in ((1, 6), (2, 4), (4, 4), (16, 4), (32, 4))
    ),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set all attributes")
@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_extended_attributes(file: Path, name: str, kind: str) -> None:
    if kind == "directory":
        file.unlink()
        file.mkdir()
    file.chmod(0o644)
    before = files(file)
    os.setxattr(file, name, ATTRIBUTES[name])
    with_it = files(file)
    assert snapshots.differences(before, with_it) == [f"{file}: attribute {name}"]
    os.removexattr(file, name)
    assert snapshots.differences(with_it, files(file)) == [f"{file}: attribute {name}"]
    assert snapshots.differences(before, files(file)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set all attributes")
@pytest.mark.parametrize("flag", ["i", "a", "d"])
def test_what_chattr_sets(file: Path, flag: str) -> None:
    before = files(file)
    done = subprocess.run(["chattr", f"+{flag}", file], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("this file system has no such flag")
    try:
        assert snapshots.differences(before, files(file)) == [f"{file}: attribute chattr"]
    finally:
        subprocess.run(["chattr", f"-{flag}", file], check=True)


def test_attributes_of_an_untouched_file_are_not_looked_at_again(file: Path) -> None:
    before = described(file)
    assert described(file, [*before[:5], "user.known=00"])[5] == "user.known=00"


def test_a_host_without_python_is_compared_without_attributes(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.setxattr(file, "user.note", b"x")
    assert described(file)[5] == "user.note=78"
    monkeypatch.setattr(snapshots, "ATTRIBUTES", snapshots.ATTRIBUTES.replace("python", "nopython"))
    assert described(file)[5] == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change owners")
def test_owner(file: Path) -> None:
    before = files(file)
    os.chown(file, 12, 34)
    assert snapshots.differences(before, files(file)) == [f"{file}: owner 0:0 -> 12:34"]


def test_symbolic_links(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("here")
    before = files(link)
    link.unlink()
    link.symlink_to("there")
    assert snapshots.differences(before, files(link)) == [f"{link}: content"]
    link.unlink()
    link.write_text("here")
    [said] = snapshots.differences(before, files(link))
    assert said.startswith(f"{link}: mode lrwxrwxrwx -> -rw")


def test_what_came_and_what_went(file: Path) -> None:
    there = files(file)
    file.unlink()
    assert snapshots.differences(there, files(file)) == [f"{file}: is gone"]
    assert snapshots.differences(files(file), there) == [f"{file}: appeared"]


@pytest.mark.parametrize(
    ("kind", "was", "now", "says"),
    [
        ("packages", {}, {"jq:amd64": "1.7 ii"}, "package jq:amd64: appeared"),
        ("packages", {"jq": "1.7 ii"}, {"jq": "1.8 ii"}, "package jq: was '1.7 ii', is '1.8 ii'"),
        ("users", {"user go": "x:1"}, {"user go": "x:2"}, "user user go: was 'x:1', is 'x:2'"),
        ("units", {"a.timer": "loaded active"}, {}, "unit a.timer: is gone"),
        ("ports", {}, {"tcp 0100007F 80": "listening"}, "port tcp 0100007F 80: appeared"),
        ("sysctls", {"vm.x": "60"}, {"vm.x": "10"}, "sysctl vm.x: was '60', is '10'"),
    ],
)
def test_what_is_no_file(kind: str, was: Any, now: Any, says: str) -> None:
    said = snapshots.differences(snapshot(**{kind: was}), snapshot(**{kind: now}))
    assert said == [says]


@pytest.mark.parametrize(
    ("name", "now", "differs"),
    [
        ("net.ipv4.tcp_mem", "22596\t30131\t45192", False),
        ("net.ipv4.tcp_mem", "22596\t30200\t45192", True),
        ("vm.x", "22596\t30131\t45192", True),
    ],
)
def test_what_the_kernel_sizes_when_it_boots(name: str, now: str, differs: bool) -> None:
    was = snapshot(sysctls={name: "22596\t30130\t45192"})
    assert bool(snapshots.differences(was, snapshot(sysctls={name: now}))) is differs


@pytest.mark.parametrize(
    ("pattern", "ignored"),
    [
        ("/var/cache/x", ["/var/cache/x"]),
        ("/var/cache/x/**", ["/var/cache/x", "/var/cache/x/a", "/var/cache/x/a/b"]),
        ("/var/log/*.log", ["/var/log/a.log"]),
        ("/nothing", []),
    ],
)
def test_what_may_differ(pattern: str, ignored: list[str]) -> None:
    names = ["/var/cache/x", "/var/cache/x/a", "/var/cache/x/a/b", "/var/log/a.log", "/etc/x"]
    after = snapshot(files={name: ["-rw-r--r--", "0:0", "hash", 1, "", ""] for name in names})
    said = snapshots.differences(snapshot(), after, [pattern])
    assert said == [f"{name}: appeared" for name in sorted(names) if name not in ignored]


def test_an_unchanged_file_is_not_read_again(file: Path) -> None:
    before = described(file)
    assert described(file, [*before[:2], "what was known", *before[3:]])[2] == "what was known"


def test_an_edit_of_the_same_size_and_time_is_noticed(file: Path) -> None:
    before = described(file)
    times = file.stat()
    with file.open("r+") as handle:
        handle.write("otherwise")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = described(file, before)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert after[2] != before[2]


def test_a_listening_port_is_seen(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"tcp 0100007F {server.getsockname()[1]}"
        assert taken(file)["ports"][name] == "listening"
    assert name not in taken(file)["ports"]


def test_users_groups_and_kernel_parameters_are_seen(file: Path) -> None:
    seen = taken(file)
    users = seen["users"]
    assert users["user root"].startswith("x:0:0:")
    assert "group root" in users
    parameters = seen["sysctls"]
    assert parameters["kernel.ostype"] == "Linux"
    assert not any(name.startswith("kernel.random") for name in parameters)


def test_a_file_that_came_with_the_image_is_not_read_again(file: Path) -> None:
    elsewhere = described(file)
    elsewhere[2:4] = ["read elsewhere", 1]  # its change time is another on each host
    assert described(file, elsewhere, of_image=True)[2] == "read elsewhere"
    assert described(file, elsewhere)[2] != "read elsewhere"
    os.utime(file, (1, 1))
    assert described(file, elsewhere, of_image=True)[2] != "read elsewhere"


def test_units_that_come_and_go_by_themselves() -> None:
    units = "a.service loaded active running A\nsystemd-hostnamed.service loaded active running B\n"
    read = snapshots.read("\x1e\x1e\x1e" + units + "\x1e\x1e", lambda paths: "")
    assert read["units"] == {"a.service": "loaded active"}


def test_names_of_any_kind(file: Path) -> None:
    name = file.parent / "a line\nand 'another' -> \\x"
    file.rename(name)
    assert described(name)[2] == hashlib.sha256(b"as it was").hexdigest()


def test_a_host_that_cannot_list(told: Told) -> None:
    with told.raises(snapshots.StateError):
        snapshots.take(lambda argv, env: (124, "half", "timed out\n"))
