"""runbooks/go/install.ipynb against a mirror that misbehaves.

Its whole life on a host, preflights included, is what `pytest runbooks` proves; here are the
failures of the download and of the unpacking, on a throw-away prefix, for any user.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import papermill
import pytest
from kb.runtime import shell

NOTEBOOK = Path(__file__).parents[2] / "runbooks/go/install.ipynb"
CELLS = {
    cell.id: cell.source.partition("\n")[2]
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells
    if cell.source.startswith("%%")
}
ARCHITECTURE = subprocess.run(
    ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
).stdout.strip()
GO = """#!/bin/sh
case $1 in
version) echo "go version go{version} linux/{architecture}" ;;
run) echo "built by go{version}" ;;
env) sed -n "s/^$2=//p" "$(dirname "$0")/../go.env" ;;
esac
"""


def name(version: str) -> str:
    """The file name of a release's archive."""
    return f"go{version}.linux-{ARCHITECTURE}.tar.gz"


def packed(version: str, padding: int = 0) -> bytes:
    """An archive laid out as Go's, with a `go` that knows little more than its version."""
    files = {
        "go/VERSION": f"go{version}\n".encode(),
        "go/go.env": b"# defaults\nGOTOOLCHAIN=auto\nGOSUMDB=on\n",
        "go/bin/go": GO.format(version=version, architecture=ARCHITECTURE).encode(),
        "go/src/padding": os.urandom(padding),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            entry.mode = 0o755
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def sum_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Mirror(ThreadingHTTPServer):
    """Serves `pages`; a page may be cut off or stall after `stop_after` bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.stop_after: dict[str, int] = {}
        self.stalls = False
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dl"

    def publish(self, version: str, content: bytes | None = None) -> bytes:
        """Put up an archive and its checksum file."""
        content = packed(version) if content is None else content
        self.pages[f"/dl/{name(version)}"] = content
        self.pages[f"/dl/{name(version)}.sha256"] = f"{sum_of(content)}\n".encode()
        return content


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.send_error(403)  # as object stores do for an address that is signed for GET

    def answer(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        content = self.server.pages.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        stop = self.server.stop_after.get(self.path, len(content))
        with contextlib.suppress(ConnectionError):  # who asks for a byte may leave with it
            self.wfile.write(content[:stop])
        if stop < len(content) and self.server.stalls:
            self.wfile.flush()
            self.server.closing.wait(20)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session", params=["curl", "python3"])
def tools(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of commands with curl, or without it and with python3."""
    directory = tmp_path_factory.mktemp("tools")
    for command in Path("/usr/bin").iterdir():
        if command.name not in ("curl", "python3"):
            (directory / command.name).symlink_to(command)
    if request.param == "curl":
        (directory / "curl").symlink_to("/usr/bin/curl")
    else:
        (directory / "python3").symlink_to(sys.executable)
    return directory


@pytest.fixture
def with_tool(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells download with either tool."""
    monkeypatch.setenv("PATH", str(tools))


Run = Callable[..., shell.Completed]


@pytest.fixture
def run(tmp_path: Path, mirror: Mirror) -> Run:
    """Runs cells of the notebook, one after the other until one fails."""

    def run_cells(
        *ids: str, change: Callable[[str], str] = str, **parameters: str
    ) -> shell.Completed:
        env = {
            "KB_MODE": "apply",
            "go_version": "1.99.1",
            "prefix": str(tmp_path / "prefix"),
            "mirror": mirror.url,
            "sha256": "",
            "toolchain": "auto",
            "switch": "true",
        } | parameters
        output = ""
        for cell in ids:
            done = shell.run(change(CELLS[cell]), env=env, timeout=30)
            output += done.output
            if done.status:
                break
        return shell.Completed(done.status, output, done.seconds)

    return run_cells


def left_in(prefix: Path) -> list[str]:
    return sorted(path.name for path in prefix.iterdir()) if prefix.exists() else []


def last_line(done: shell.Completed) -> str:
    return done.output.splitlines()[-1]


@pytest.mark.usefixtures("with_tool")
def test_a_mirror_is_asked_for_the_first_byte(run: Run, mirror: Mirror) -> None:
    """One that answers no HEAD, and one that sends it all."""
    mirror.publish("1.99.1", os.urandom(2_000_000))
    done = run("preflight-mirror")
    assert done.output == f"there is {mirror.url}/{name('1.99.1')}\n"
    done = run("preflight-mirror", go_version="1.99.9")
    assert done.status != 0
    assert f"{mirror.url}/{name('1.99.9')} cannot be had (" in last_line(done)
    assert "Not Found" in last_line(done) or "404" in last_line(done)


@pytest.mark.usefixtures("with_tool")
def test_a_release_is_downloaded_checked_and_unpacked(
    run: Run, mirror: Mirror, tmp_path: Path
) -> None:
    content = mirror.publish("1.99.1")
    done = run("preflight-mirror", "download", "unpack")
    assert done.status == 0, done.output
    assert f"with SHA-256 {sum_of(content)}" in done.output
    assert left_in(tmp_path / "prefix") == ["go-1.99.1"]
    assert (tmp_path / "prefix/go-1.99.1/VERSION").read_text() == "go1.99.1\n"


@pytest.mark.parametrize("indent", [None, 1])
def test_go_dev_has_no_checksum_files_but_a_list_of_releases(
    run: Run, mirror: Mirror, tmp_path: Path, indent: int | None
) -> None:
    content = mirror.publish("1.99.1")
    files = [
        {"filename": name(version), "os": "linux", "version": f"go{version}", "sha256": digest}
        for version, digest in [("1.99.10", "0" * 64), ("1.99.1", sum_of(content))]
    ]
    releases = json.dumps([{"version": "go1.99", "stable": True, "files": files}], indent=indent)
    mirror.pages["/dl/?mode=json&include=all"] = releases.encode()
    mirror.pages[f"/dl/{name('1.99.1')}.sha256"] = b"<!DOCTYPE html>\n<html>see the list</html>\n"
    done = run("download", "unpack")
    assert done.status == 0, done.output
    assert left_in(tmp_path / "prefix") == ["go-1.99.1"]


def test_a_second_run_asks_the_mirror_nothing(run: Run, mirror: Mirror) -> None:
    mirror.publish("1.99.1")
    assert run("download", "unpack").status == 0
    mirror.asked.clear()
    again = run("preflight-mirror", "download", "unpack")
    assert again.status == 0
    assert "changed:" not in again.output
    assert mirror.asked == []


def cut_off(mirror: Mirror) -> None:
    mirror.stop_after[f"/dl/{name('1.99.1')}"] = 50


def absent(mirror: Mirror) -> None:
    del mirror.pages[f"/dl/{name('1.99.1')}"]


def damaged(mirror: Mirror) -> None:
    mirror.pages[f"/dl/{name('1.99.1')}"] += b"!"


def without_sums(mirror: Mirror) -> None:
    del mirror.pages[f"/dl/{name('1.99.1')}.sha256"]


def another_version(mirror: Mirror) -> None:
    mirror.publish("1.99.1", packed("1.98.0"))


def no_archive(mirror: Mirror) -> None:
    mirror.publish("1.99.1", b"<html>please log in</html>")


@pytest.mark.usefixtures("with_tool")
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (cut_off, "could not be downloaded ("),
        (absent, "404"),
        (damaged, "it is damaged or was changed"),
        (without_sums, "pass it as sha256"),
        (another_version, "is not Go 1.99.1 for this machine (go version go1.98.0"),
        (no_archive, "could not be unpacked"),
    ],
)
def test_a_faulty_mirror_leaves_nothing_and_is_named(
    run: Run, mirror: Mirror, tmp_path: Path, fault: Callable[[Mirror], None], says: str
) -> None:
    mirror.publish("1.99.1")
    fault(mirror)
    done = run("download", "unpack")
    assert done.status != 0
    assert says in last_line(done)
    assert "Traceback" not in last_line(done)
    assert left_in(tmp_path / "prefix") == []


@pytest.mark.usefixtures("with_tool")
def test_a_mirror_that_cannot_be_reached_is_named(run: Run, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/dl"
    done = run("preflight-mirror", mirror=url)
    assert done.status != 0
    assert f"{url}/{name('1.99.1')} cannot be had (" in last_line(done)
    done = run("download", mirror=url, sha256="0" * 64)
    assert done.status != 0
    assert f"{url}/{name('1.99.1')} could not be downloaded (" in last_line(done)
    assert left_in(tmp_path / "prefix") == []


def test_a_mirror_that_stalls_is_given_up(run: Run, mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish("1.99.1")
    cut_off(mirror)
    mirror.stalls = True

    def hurry(cell: str) -> str:
        assert "--retry 3" in cell
        assert "--speed-time 30" in cell
        return cell.replace("--retry 3", "--retry 0").replace("--speed-time 30", "--speed-time 1")

    done = run("download", change=hurry)
    assert done.status != 0
    assert "Operation too slow" in last_line(done)
    assert left_in(tmp_path / "prefix") == []


def test_a_given_checksum_takes_nothing_on_the_mirrors_word(
    run: Run, mirror: Mirror, tmp_path: Path
) -> None:
    honest = sum_of(mirror.publish("1.99.1"))
    mirror.publish("1.99.1", packed("1.99.1", padding=10))  # and its checksum file agrees
    done = run("download", sha256=honest)
    assert done.status != 0
    assert f"and should have {honest}" in last_line(done)
    assert mirror.asked == [f"GET /dl/{name('1.99.1')}"]
    assert left_in(tmp_path / "prefix") == []


def test_a_run_killed_in_its_download_is_picked_up(
    run: Run, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.publish("1.99.1")
    cut_off(mirror)
    mirror.stalls = True
    prefix = tmp_path / "prefix"
    script = tmp_path / "cell.sh"
    script.write_text(CELLS["download"])
    killed = subprocess.Popen(
        ["bash", "-Eeuo", "pipefail", str(script)],
        env=os.environ
        | {"go_version": "1.99.1", "prefix": str(prefix), "mirror": mirror.url, "sha256": ""},
        start_new_session=True,
    )
    deadline = time.monotonic() + 10
    while not list(prefix.glob(f".*/{name('1.99.1')}")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert left_in(prefix) == [".go-1.99.1.partial"]

    mirror.stalls = False
    mirror.stop_after.clear()
    done = run("download", "unpack")
    assert done.status == 0, done.output
    assert left_in(prefix) == ["go-1.99.1"]


def test_the_switch_is_never_without_a_go(run: Run, mirror: Mirror, tmp_path: Path) -> None:
    for version in ("1.99.1", "1.99.2"):
        mirror.publish(version)
        assert run("download", "unpack", "switch", go_version=version).status == 0
    link = tmp_path / "prefix/go"
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.add(str(link.readlink()) if link.is_symlink() else "nothing")

    watcher = threading.Thread(target=watch)
    watcher.start()
    for version in ["1.99.1", "1.99.2"] * 5:
        assert run("switch", go_version=version).status == 0
    stop.set()
    watcher.join()
    assert seen == {"go-1.99.1", "go-1.99.2"}
    assert left_in(link.parent) == ["go", "go-1.99.1", "go-1.99.2"]


def test_the_policy_for_newer_toolchains(run: Run, mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish("1.99.1")
    assert run("download", "unpack").status == 0
    settings = tmp_path / "prefix/go-1.99.1/go.env"
    said = run("toolchain", toolchain="local").output
    assert said == f"changed: GOTOOLCHAIN is local in {settings}\n"
    assert settings.read_text() == "# defaults\nGOTOOLCHAIN=local\nGOSUMDB=on\n"
    assert run("toolchain", toolchain="local").output == ""
    settings.unlink()
    assert "older than 1.21" in run("toolchain", toolchain="local").output


def test_a_mirror_that_is_a_directory(run: Run, mirror: Mirror, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    content = packed("1.99.1")
    (media / name("1.99.1")).write_bytes(content)
    steps = ("preflight-parameters", "preflight-mirror", "download", "unpack")
    done = run(*steps, mirror=media.as_uri(), sha256=sum_of(content))
    assert done.status == 0, done.output
    assert "go-1.99.1" in left_in(tmp_path / "prefix")
    done = run(*steps, mirror=f"{media.as_uri()}/else", go_version="1.99.2")
    assert f"file://{media}/else/{name('1.99.2')} cannot be had" in last_line(done)


@pytest.mark.parametrize("version", ["1.26.6", "1.27rc1", "1.21.0", "1.27beta2"])
def test_versions_as_they_are_published(run: Run, version: str) -> None:
    assert run("preflight-parameters", go_version=version).status == 0


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("go_version", v) for v in ("1.26", "go1.26.6", "1.26.6 ", "latest", "1.26.6/../x", "")),
        *(("prefix", v) for v in ("opt/go", "/", "")),
        *(("mirror", v) for v in ("go.dev/dl", "https://go.dev/dl/", "ftp://go.dev/dl", "")),
        *(("sha256", v) for v in ("5b0a54c6", "z" * 64, "0" * 65)),
        *(("toolchain", v) for v in ("go1.27.0", "autopath", "")),
    ],
)
def test_parameters_that_make_no_sense(run: Run, parameter: str, value: str) -> None:
    done = run("preflight-parameters", **{parameter: value})
    assert done.status != 0
    assert last_line(done).startswith(f"{parameter} '{value}' is not ")


def test_a_directory_that_is_no_whole_release_is_not_taken_for_one(
    run: Run, tmp_path: Path
) -> None:
    target = tmp_path / "prefix/go-1.99.1"
    (target / "bin").mkdir(parents=True)
    done = run("preflight-existing")
    assert done.status != 0
    assert f"{target} is there but is not a whole Go 1.99.1" in last_line(done)

    (target / "bin/go").write_text(GO.format(version="1.98.0", architecture=ARCHITECTURE))
    (target / "bin/go").chmod(0o755)
    done = run("preflight-existing")
    assert "(go version go1.98.0 " in last_line(done)


def test_the_life_of_two_versions_side_by_side_without_root(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOBLE_RUNBOOKS_STATE", str(tmp_path / "state"))
    prefix = tmp_path / "not/there/yet"
    for version in ("1.99.1", "1.99.2"):
        mirror.publish(version)

    numbers = itertools.count()

    def execute(mode: str, version: str = "1.99.1") -> str:
        nb = papermill.execute_notebook(
            NOTEBOOK,
            tmp_path / f"{next(numbers)}.ipynb",
            {
                "mode": mode,
                "go_version": version,
                "prefix": str(prefix),
                "mirror": mirror.url,
                "switch": False,
            },
            progress_bar=False,
            cwd=tmp_path,
        )
        return "".join(output.get("text", "") for c in nb.cells for output in c.get("outputs", []))

    said = execute("apply")
    assert f"changed: unpacked Go 1.99.1 in {prefix}/go-1.99.1" in said
    assert "built by go1.99.1" in said
    assert "changed:" not in execute("apply")

    execute("apply", "1.99.2")
    assert left_in(prefix) == ["go-1.99.1", "go-1.99.2"]

    assert f"changed: removed {prefix}/go-1.99.2" in execute("rollback")
    assert not (tmp_path / "not").exists()
    assert not (tmp_path / "state").exists()
