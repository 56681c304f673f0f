"""A virtual machine: a real one, booted once, and as it was for each life."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kb.proof import catalog, hosts
from kb.proof.hosts import HostError, HostHungError, Session, images, managed, vm
from places import containers
from project import Project, code, notebook

LOOK = """\
%%observe What kind of machine this is
cat /proc/1/comm
stat --file-system --format %T /sys/fs/cgroup
cat /sys/module/apparmor/parameters/enabled
systemctl is-system-running
sysctl --values vm.swappiness
ls /opt /srv/noble-runbooks
"""
CHANGE = """\
%%observe Change it
touch /opt/mine
sysctl --write vm.swappiness=7
systemctl stop systemd-timesyncd
"""
REBOOT = """\
%%observe Ask once
if [ ! -e /opt/asked ]; then
    cat /proc/sys/kernel/random/boot_id >/opt/asked
    kb-reboot "this is the first boot"
fi
grep --quiet . /opt/asked
! grep --quiet --file /opt/asked /proc/sys/kernel/random/boot_id
"""
PANIC = "%%observe Panic\necho 1 >/proc/sys/kernel/sysrq\necho c >/proc/sysrq-trigger"
NEEDS = ["root", "systemd", "kernel-parameters"]


def printed(project: Project, name: str, cell: str) -> str:
    record = project.executed(f"build/runs/debian-13-vm/notebooks/a/{name}.run.ipynb")
    [found] = [one for one in record["cells"] if one["id"] == cell]
    return "".join("".join(output.get("text", "")) for output in found["outputs"])


def test_a_machine_of_its_own(hosted: Project) -> None:
    for name, last in (("first", CHANGE), ("second", CHANGE), ("third", PANIC)):
        cells = [code("look", LOOK), code("last", last), code("never", "1")]
        hosted.add(
            f"notebooks/a/{name}.ipynb",
            notebook(*cells, parameters='x: str = ""  # nothing', needs=NEEDS),
        )
    done = hosted.run("pytest", "--on", "debian-13,debian-13-vm", "notebooks")
    assert done.returncode == 1, done.stdout
    assert "does not offer: systemd, kernel-parameters" in done.stdout
    for name in ("first", "second", "third"):  # each meets the machine as it booted
        assert printed(hosted, name, "look").splitlines() == [
            "systemd", "cgroup2fs", "Y", "running", "60", "/opt:", "kb", "", "/srv/noble-runbooks:",
            "notebooks",
        ]  # fmt: skip
    assert "vm.swappiness = 7" in printed(hosted, "first", "last")
    # Where CI is set, pytest's summary has it again, uncut.
    said = next(line for line in done.stdout.splitlines() if "third.ipynb on debian-13-vm" in line)
    assert "run: the host disappeared" in said
    assert "the guest's console ends with:" in said
    assert "(cell `last`)" in said


def test_a_run_goes_on_after_a_reboot(hosted: Project) -> None:
    hosted.add(
        "notebooks/a/x.ipynb",
        notebook(
            code("ask", REBOOT),
            code("look", LOOK),
            parameters='x: str = ""  # nothing',
            needs=[*NEEDS, "reboot"],
        ),
    )
    done = hosted.run("pytest", "--on", "debian-13-vm", "notebooks")
    assert done.returncode == 0, done.stdout
    assert printed(hosted, "x", "look").split()[:4] == ["systemd", "cgroup2fs", "Y", "running"]
    record = hosted.executed("build/runs/debian-13-vm/notebooks/a/x.run.ipynb")
    assert record["metadata"]["kb_run"]["reboots"] == 1


@pytest.fixture
def panicking(hosted: Project) -> Iterator[tuple[hosts.Host, str]]:
    """The host, and the id of its image with a first process that ends at once."""
    host = hosts.load(hosted.root)["debian-13-vm"]
    api = images.engine().api
    ends = ["cp", "/bin/true", "/usr/lib/systemd/systemd"]
    container = api.create_container(images.ensure(host)["id"], ends)["Id"]
    api.start(container)
    assert api.wait(container)["StatusCode"] == 0
    image = str(api.commit(container)["Id"])
    api.remove_container(container)
    yield host, image
    api.remove_image(image)


def test_a_guest_that_does_not_boot(panicking: tuple[hosts.Host, str]) -> None:
    host, image = panicking
    with pytest.raises(HostError) as caught:
        vm.booted(host, image)
    assert str(caught.value).startswith(
        "debian-13-vm could not be booted: the guest did not boot; the guest's console ends with:"
        " Kernel panic - not syncing: Attempted to kill init!"
    )


BOOK = "notebooks/a/guest.ipynb"  # no other test's: its container is found by that


@pytest.fixture
def resumed(hosted: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Session]]:
    """Resumes a guest that hangs when it is silent for so many seconds."""
    hosted.add(BOOK, notebook(parameters='x: str = ""  # nothing', needs=NEEDS))
    host = hosts.load(hosted.root)["debian-13-vm"]
    sessions = []

    def resume(silent: int) -> Session:
        monkeypatch.setattr(vm, "SILENT", silent)
        sessions.append(hosts.start(host, catalog.read(hosted.root, Path(BOOK)), {}))
        say = "echo the last words >/dev/console"
        assert sessions[-1].command(["sh", "-c", say]) == (0, "", "")
        return sessions[-1]

    yield resume
    for session in sessions:
        session.close()


def test_a_guest_goes_back_to_what_it_was(resumed: Callable[[int], Session]) -> None:
    session = resumed(vm.SILENT)
    assert isinstance(session, hosts.Returning)

    def shell(script: str) -> list[str]:
        status, said, error = session.command(["bash", "-ec", script])
        assert status == 0, error
        return said.split()

    # A mount of its own, and a process that has a file of this machine open.
    shell("mount -t tmpfs x /mnt; echo mine >/mnt/kept; sysctl -w vm.swappiness=7")
    book = "/srv/noble-runbooks/notebooks/a/guest.ipynb"
    shell(f"systemd-run --quiet --unit kept tail --follow --bytes=1 {book}")
    was = shell("cat /proc/sys/kernel/random/boot_id; systemctl show -P MainPID kept")
    session.keep()
    shell("umount /mnt; rm -r /usr/games; systemctl stop kept; sysctl -w vm.swappiness=8")
    for _ in range(2):
        assert session.back()
        now = shell("cat /proc/sys/kernel/random/boot_id; systemctl show -P MainPID kept")
        assert now == was
        assert shell("cat /mnt/kept; sysctl -n vm.swappiness; ls -d /usr/games") == [
            "mine", "7", "/usr/games",
        ]  # fmt: skip
        opened = shell(f"cat /proc/{was[1]}/fd/* | sha256sum; sha256sum <{book}")
        assert opened[0] == opened[2]
        assert abs(float(shell("date +%s.%N")[0]) - time.time()) < 60
        shell(f"kill -KILL {was[1]}; umount /mnt; rm -r /usr/games")
    [container] = containers(BOOK)
    docker("kill", container)
    assert not session.back()


def test_a_guest_that_kept_nothing_goes_back_to_its_boot(
    resumed: Callable[[int], Session],
) -> None:
    session = resumed(vm.SILENT)
    assert isinstance(session, hosts.Returning)
    first = session.snapshot(None)
    assert session.command(["rm", "-r", "/usr/games"])[0] == 0
    assert session.back()
    assert session.snapshot(None) == first
    assert (
        session.command(["ls", "/usr/games", "/srv/noble-runbooks/notebooks/a/guest.ipynb"])[0] == 0
    )


def docker(*words: str) -> None:
    subprocess.run(["docker", *words], check=True, capture_output=True)


def test_a_guest_that_hangs_is_ended(resumed: Callable[[int], Session]) -> None:
    session = resumed(5)
    [container] = containers(BOOK)
    stop = "socat -t 5 - UNIX-CONNECT:/run/monitor <<<stop"
    docker("exec", container, "bash", "-c", stop)  # its processors, not QEMU
    begun = time.monotonic()
    with pytest.raises(HostHungError) as caught:
        session.command(["true"])
    assert time.monotonic() - begun < 40
    assert str(caught.value) == session.hung
    assert session.hung.startswith(
        "debian-13-vm hung: it ran, and did not answer for 5 s; the guest's console ends with:"
    )
    assert session.hung.endswith("the last words")
    with pytest.raises(HostHungError):  # it stays so
        session.command(["true"])


def test_a_guest_that_hangs_while_a_notebook_runs(hosted: Project) -> None:
    hang = "kill -STOP $(systemctl show --property MainPID --value kb-kernel)\nsleep 200"
    hosted.add(
        BOOK,
        notebook(
            code("hang", f"%%observe Nobody answers any more\n{hang}"),
            parameters='x: str = ""  # nothing',
            needs=NEEDS,
        ),
    )
    done = hosted.run("pytest", "--on", "debian-13-vm", "notebooks")
    assert done.returncode == 1, done.stdout
    hung = "debian-13-vm hung: it ran, and did not answer for 20 s"
    assert f"run: once more, on a fresh host: {hung}" in done.stderr
    assert f"{BOOK} on debian-13-vm, run: {hung}" in done.stdout
    record = hosted.executed("build/runs/debian-13-vm/notebooks/a/guest.run.ipynb")
    run = record["metadata"]["kb_run"]
    assert run["error"]["message"].startswith(hung)
    assert run["hung"]["why"].startswith(hung)


def test_a_guest_that_is_busy_or_starved_does_not_hang(resumed: Callable[[int], Session]) -> None:
    session = resumed(3)
    [container] = containers(BOOK)
    busy = 'for i in 1 2 3 4; do timeout 15 sh -c "while :; do :; done" & done; wait; echo done'
    docker("update", "--cpus", "0.5", container)
    assert session.command(["sh", "-c", busy]) == (0, "done\n", "")
    assert session.hung == ""


def test_a_guest_that_was_paused_for_a_minute_goes_on(resumed: Callable[[int], Session]) -> None:
    session = resumed(vm.SILENT)
    [container] = containers(BOOK)
    with ThreadPoolExecutor() as background:
        work = background.submit(session.command, ["sh", "-c", "sleep 5; echo done"])
        docker("pause", container)
        time.sleep(60)
        docker("unpause", container)
        assert work.result() == (0, "done\n", "")
    assert session.command(["systemctl", "is-system-running"])[0] == 0
    assert session.hung == ""


def test_a_guest_that_stays_paused(
    resumed: Callable[[int], Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = resumed(vm.SILENT)
    monkeypatch.setattr(managed, "SILENCE", 2.0)
    [container] = containers(BOOK)
    docker("pause", container)
    with pytest.raises(HostError) as caught:
        session.command(["true"], timeout=1)
    assert str(caught.value).startswith(
        "debian-13-vm does not answer any more; the guest's console"
    )
    assert str(caught.value).endswith("the last words")


@pytest.mark.parametrize(("needs", "where"), [(["root"], 1), (NEEDS, 2)])
def test_it_takes_what_no_container_can_run(needs: list[str], where: int, hosted: Project) -> None:
    hosted.add("notebooks/a/x.ipynb", notebook(parameters='x: str = ""  # nothing', needs=needs))
    on = ("--on", "debian-13,debian-13-vm")
    done = hosted.run("pytest", *on, "notebooks", "--collect-only", "-q")
    assert sum(line.endswith("::run") for line in done.stdout.splitlines()) == where
    alone = hosted.run("pytest", "--on", "debian-13-vm", "notebooks", "--collect-only", "-q")
    assert sum(line.endswith("::run") for line in alone.stdout.splitlines()) == 1
