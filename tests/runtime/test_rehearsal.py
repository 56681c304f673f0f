"""A plan rehearses each step on a copy of the host: it says what would differ, and changes nothing.

Where the kernel lets nobody make such a copy, only what is said then can be tested.
"""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cells import Make
from kb.runtime import planning, rehearsal
from kb.runtime.rehearsal import Rehearsal, UnavailableError
from project import tree


def why_not() -> str:
    """Why nothing can be rehearsed here; "" if it can."""
    try:
        Rehearsal().close()
    except (UnavailableError, OSError) as error:
        return str(error)
    return ""


WHY_NOT = why_not()
rehearsed = pytest.mark.skipif(bool(WHY_NOT), reason=f"nothing is rehearsed here: {WHY_NOT}")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    root = tmp_path / "world"
    root.mkdir()
    (root / "conf").write_text("one\ntwo\n")
    return root


def step(world: Path, body: str, *declared: str) -> str:
    lines = [f"# changes: {world}/{name}" for name in declared or ("conf  the settings",)]
    return "\n".join(["%%apply Change it", *lines, f"cd {world}", body])


@rehearsed
def test_a_plan_shows_each_difference_and_makes_none(
    make: Make, world: Path, tmp_path: Path
) -> None:
    (world / "gone").write_text("x\n")
    (world / "link").symlink_to("conf")
    before = tree(world)
    body = """
    printf 'one\\n2\\n' >.conf.new
    mv .conf.new conf
    rm gone
    ln -sfn elsewhere link
    install --mode=600 conf private
    mkdir many few
    touch many/{1..9} few/1
    chmod 700 many
    echo changed: all of it
    """
    names = ("conf  the settings", ".conf.new", "gone", "link", "private", "many", "few", "none")
    said = make("plan").run(step(world, body, *names))
    assert said == (
        f"would change {world}/conf  (the settings)\n"
        f"--- {world}/conf\n+++ {world}/conf\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
        f"would create {world}/few/1  (mode 644)\n"
        f"would remove {world}/gone\n--- {world}/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        f"would change {world}/link  (link to conf -> link to elsewhere)\n"
        f"would create {world}/many  (9 files, 0 bytes; mode 700)\n"
        f"would create {world}/private  (mode 600; 6 bytes;"
        " not everybody may read it, so its content is not shown)\n"
    )
    assert tree(world) == before
    assert not (tmp_path / "state").exists()


@rehearsed
def test_a_step_stands_on_the_ones_before_it(make: Make, world: Path) -> None:
    cells = make("plan")
    cells.run(step(world, "echo three >>conf"))
    said = cells.run(step(world, "sed -i s/three/3/ conf; rm -f nothing"))
    assert "-three\n+3\n" in said
    assert cells.run(step(world, "[ ! -e /etc/shadow ] || echo right already")) == (
        "as it is already\n  right already\n"
    )
    said = cells.run("%%rollback Back\nkb-restore")
    assert said == (
        "All steps: 2 files would change.\n"
        "A rollback would find nothing to put back: this has not been applied here.\n"
    )


@rehearsed
def test_after_an_apply_a_plan_has_nothing_to_do_and_tells_the_way_back(
    make: Make, world: Path, tmp_path: Path
) -> None:
    change = step(world, "printf '1\\n2\\n' >conf; mkdir -p new; kb-note was active", "conf", "new")
    make("apply").run(change)
    cells = make("plan")
    applied = tree(world), tree(tmp_path / "state")
    assert cells.run(step(world, "printf '1\\n2\\n' >conf")) == "as it is already\n"
    back = "%%rollback Back\nkb-restore; kb-noted was; touch after"
    said = cells.run(back.replace("touch after", f"touch {world}/after"))
    assert said == (
        "All steps: nothing would change.\n"
        "A rollback of what has been applied here:\n"
        f"would create {world}/after  (mode 644)\n"
        f"would change {world}/conf\n"
        f"--- {world}/conf\n+++ {world}/conf\n@@ -1,2 +1,2 @@\n-1\n-2\n+one\n+two\n"
        f"would remove {world}/new\n"
    )
    assert (tree(world), tree(tmp_path / "state")) == applied


@rehearsed
def test_what_a_person_edited_since_is_seen_and_would_be_kept(make: Make, world: Path) -> None:
    make("apply").run(step(world, "echo ours >conf"))
    (world / "conf").write_text("ours\na person's\n")
    cells = make("plan")
    said = cells.run(step(world, "echo ours >conf"))
    assert " ours\n-a person's\n" in said
    assert f"{world}/conf was edited since; a copy would be kept\n" in said
    said = cells.run("%%rollback Back\nkb-restore")
    assert f"{world}/conf was edited after the apply: a copy would be kept\n" in said
    assert (world / "conf").read_text() == "ours\na person's\n"


# Each tries to reach the host around the copy; it must fail, or reach only the copy.
CONNECT = "python3 -c 'import os, socket; socket.{}'"
WAYS_OUT = [
    "echo 61 >/proc/sys/vm/swappiness",
    "echo never >/sys/kernel/mm/transparent_hugepage/enabled",
    "echo b >/proc/sysrq-trigger",
    "mount -t tmpfs x /mnt",
    "mount -o remount,rw /proc",
    "umount /proc",
    "nsenter --target 1 --mount --root true",
    "nsenter --target $KB_TEST --mount true",
    "touch /proc/$KB_TEST/root$WORLD/out",
    "kill $KB_TEST",
    "mknod $TMPDIR/disk b $(stat --format='%Hd %Ld' $WORLD)",
    "date --set '1 hour ago'",
    CONNECT.format('socket(socket.AF_UNIX).connect(os.environ["AT"])'),
    CONNECT.format('create_connection(("127.0.0.1", int(os.environ["PORT"])))'),
    "unshare --mount mount -t tmpfs x /mnt",
    'touch "${KB_REHEARSAL%/*}/layers/out"',
]


@rehearsed
@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_way_leads_out_of_the_copy(
    make: Make, world: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    settings = [
        Path("/proc/sys/vm/swappiness"),
        Path("/sys/kernel/mm/transparent_hugepage/enabled"),
    ]
    before = [path.read_text() for path in settings if path.exists()]
    monkeypatch.setenv("WORLD", str(world))
    monkeypatch.setenv("AT", str(world / "socket"))
    with (
        socket.socket(socket.AF_UNIX) as here,
        socket.socket() as there,
        subprocess.Popen(["sleep", "100"]) as host,
    ):
        here.bind(str(world / "socket"))
        there.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(there.getsockname()[1]))
        monkeypatch.setenv("KB_TEST", str(host.pid))
        for one in (here, there):
            one.listen()
            one.settimeout(0.2)
        said = make("plan").run(step(world, way))
        alive = host.poll() is None
        host.kill()
        assert "not known from here on: it ended there: line" in said, said
        for one in (here, there):
            with pytest.raises(TimeoutError):
                one.accept()
        assert alive
    assert [path.read_text() for path in settings if path.exists()] == before
    assert not (world / "out").exists()


@rehearsed
def test_nothing_is_left_of_a_rehearsal(world: Path, tmp_path: Path) -> None:
    rehearsed = Rehearsal()
    rehearsed.run(f"echo x >{world}/conf; (sleep 100 &)", {})
    holder, home = rehearsed.pid, rehearsed.home
    rehearsed.close()
    assert not home.exists()
    assert not Path(f"/proc/{holder}").exists()
    assert (world / "conf").read_text() == "one\ntwo\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands as the host has them; what they are called with comes into the file ``called``."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, body in {
        "systemctl": "case $1 in is-active) echo active ;; show) echo 4711 ;; esac",
        "ps": "echo program",
        "prlimit": "echo 1024 4096",
        "sysctl": "echo 7",
        "apparmor_parser": "exit 0",
    }.items():
        if shutil.which(name) is None:
            pytest.skip(f"there is no {name} here to stand in for")
        file = programs / name
        file.write_text(f'#!/bin/bash\necho "{name} $*" >>{tmp_path}/called\n{body}\n')
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path / "called"


CLEAN = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


@rehearsed
def test_the_host_is_asked_and_not_touched(make: Make, world: Path, host: Path) -> None:
    body = f"""{CLEAN}
    [ "$(systemctl is-active app)" = active ]
    systemctl daemon-reload
    echo 2 >conf
    systemctl --quiet restart app other
    [ "$(sysctl -n vm.x)" = 7 ]
    sysctl --quiet --write vm.x=9
    [ "$(sysctl -n vm.x)" = 9 ]
    apparmor_parser --replace /etc/apparmor.d/x
    systemctl is-active app
    echo 3 >conf
    """
    cells = make("plan")
    said = cells.run(step(world, body))
    assert "+2\n" in said and "+3\n" not in said
    assert said.partition("would set ")[2] == (
        "vm.x: 7 -> 9\n"
        "would run: systemctl daemon-reload\n"
        "would run: systemctl --quiet restart app other\n"
        "would run: apparmor_parser --replace /etc/apparmor.d/x\n"
        "not known from here on: what `systemctl is-active app` says depends on what"
        " `apparmor_parser --replace /etc/apparmor.d/x` does\n"
    )
    called = host.read_text().splitlines()
    assert {line.split()[0] + line.split()[1] for line in called} == {
        "systemctlis-active",
        "sysctl-n",
    }
    said = cells.run(step(world, f"{CLEAN} systemctl show --property MainPID --value app"))
    assert "it looks at a process of the host, which a rehearsal cannot see:\n" in said
    body = f"""{CLEAN}
    pid=$(systemctl show --property MainPID --value app)
    [ "$(ps -o exe= --pid "$pid")" = program ]
    [ "$(prlimit --pid "$pid" --nofile --output=SOFT,HARD)" = "1024 4096" ]
    """
    assert "as it is already" in cells.run(step(world, body))
    assert "would run: prlimit --pid 4711 --nofile=2:2\n" in cells.run(
        step(world, f"{CLEAN} prlimit --pid 4711 --nofile=2:2")
    )
    # What the services do is the next step's own question.
    assert "as it is already" in cells.run(step(world, f"{CLEAN} systemctl is-active app"))


@rehearsed
def test_a_unit_that_the_step_writes_is_known_to_need_a_reload(make: Make, host: Path) -> None:
    place = Path("/etc/systemd/system/kb-test-rehearsal.service")
    needs = "systemctl show --property NeedDaemonReload --value x"
    body = f"{CLEAN}\necho >{place}\n[ $({needs}) = yes ]\nsystemctl daemon-reload\n"
    body += f"[ $({needs}) = no ]"
    cells = make("plan")
    said = cells.run(f"%%apply x\n# changes: {place}\n{body}")
    assert said.endswith("would run: systemctl daemon-reload\n")
    said = cells.run(f"%%apply x\n# changes: {place}\n{CLEAN}\necho 2 >{place}\nsystemctl cat x")
    assert "what `systemctl cat x` says depends on units that this step writes" in said
    assert not place.exists()


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"healthy\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@rehearsed
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_an_address_of_this_host_is_looked_at_and_no_other(
    make: Make, world: Path, service: str
) -> None:
    cells = make("plan")
    body = f"curl -fsS --output got {service}; cat got >>conf; rm got"
    assert "+healthy\n" in cells.run(step(world, body))
    assert "+of a file\n" in cells.run(
        step(world, "echo of a file >x; curl -fsS file://$PWD/x >>conf; rm x")
    )
    for options in ("-X POST", "--data x", "--config x", "--unix-socket /run/x"):
        said = make("plan").run(step(world, f"curl {options} {service}; echo late >>conf"))
        assert f"what `curl {options} {service}` says is not known" in said
        assert "late" not in said
    said = cells.run(step(world, "curl -fsS https://example.com/ || echo late >>conf"))
    assert said == (
        "not known from here on: what `curl -fsS https://example.com/` says is not known:"
        f" a rehearsal has no network\nmay change {world}/conf  (the settings)\n"
    )
    said = cells.run(step(world, "test -e conf.2", "conf"))
    assert said == f'not known, since this is not: "Change it"\nmay change {world}/conf\n'
    assert cells.run("%%rollback Back\ntrue").startswith(
        'All steps: 2 files would change; not known to the end: "Change it", "Change it".\n'
    )


@rehearsed
def test_a_step_has_its_time(make: Make, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "LIMIT", 0.5)
    said = make("plan").run(step(world, "echo 3 >>conf; setsid sleep 50"))
    assert "+3\n" in said
    assert "not known from here on: it took longer than 0.5 s\n" in said


@rehearsed
def test_secrets_are_masked_in_what_is_shown(make: Make, world: Path) -> None:
    (world / "conf").write_text("password = old1\nproxy = http://me:old2@host/\nuser: me\n")
    said = make("plan").run(step(world, "sed -i 's/old/new/; s/me$/you/' conf"))
    assert "-user: me\n+user: you\n" in said and " password = ***\n" in said
    assert "old" not in said and "new" not in said


@rehearsed
def test_packages_are_told_by_their_versions(tmp_path: Path) -> None:
    status = "Package: {}\nStatus: install ok {}\nVersion: {}\nDescription: x\n Version: 3\n\n"
    (tmp_path / "a").write_text(
        status.format("go", "installed", "1") + status.format("x", "installed", "5")
    )
    (tmp_path / "b").write_text(
        status.format("go", "installed", "2") + status.format("x", "config-files", "5")
    )
    found = planning.preview.packages(tmp_path / "a", tmp_path / "b")
    assert found == [("go", "1", "2"), ("x", "5", "")]


def test_where_nothing_can_be_rehearsed_a_plan_says_so(
    make: Make, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Rehearsal) -> None:
        raise UnavailableError("unshare: unshare failed: Operation not permitted")

    monkeypatch.setattr(Rehearsal, "__init__", refuse)
    before = tree(world)
    cells = make("plan")
    said = cells.run(step(world, "echo mine >conf", "conf  the settings", "new/file", ".conf.new"))
    assert said == (
        "not rehearsed, since this host does not allow it:"
        " unshare: unshare failed: Operation not permitted\n"
        f"may change {world}/conf  (the settings)\nmay create {world}/new/file\n"
    )
    assert cells.run("%%rollback Back\ntrue").startswith(
        'All steps: nothing is known to change; not known to the end: "Change it".\n'
    )
    assert tree(world) == before
    assert not (tmp_path / "state").exists()
