"""Resume guests again and again on a machine that has other things to do, and count the hangs.

    .venv/bin/python ci/torture.py [--resumes 60] [--workers 2] [--pause SECONDS] [--on HOST]

Beside it runs `stress-ng --cpu 2 --vm 1`. Each guest reads files, starts programs, loads a kernel
module and a profile; with --pause its container stops for that time meanwhile. A guest that hangs
is ended by its watchdog, and the same is tried once more, as in a run. Exits 1 if that hangs, too.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path

from kb.proof import catalog, hosts
from kb.proof.hosts import HostError, HostHungError, managed, vm

ROOT = Path(__file__).parent.parent
BOOK = Path("runbooks/systemd/apparmor.ipynb")  # any that needs a machine
TRIES = 2
STRESS = ["stress-ng", "--cpu", "2", "--vm", "1", "--quiet"]
WORK = """
find /usr -xdev -type f | head --lines=1000 | xargs cat >/dev/null
for i in 1 2; do
    systemctl restart systemd-timesyncd
    apparmor_parser --replace /etc/apparmor.d/lsb_release
    modprobe dummy
    modprobe --remove dummy
done
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resumes", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0, help="seconds")
    parser.add_argument("--on", default="debian-13-vm", help="the host, of ci/hosts.toml")
    given = parser.parse_args()
    found = repeated = failed = 0
    took = []
    with stress(), ProcessPoolExecutor(given.workers) as pool:
        tried = [pool.submit(resume, given.on, given.pause) for _ in range(given.resumes)]
        for number, one in enumerate(as_completed(tried), 1):
            seconds, hangs = one.result()
            took.append(seconds)
            found += len(hangs)
            repeated += bool(hangs)
            failed += len(hangs) == TRIES
            print(f"{number}/{given.resumes}: {seconds:.1f} s", *hangs, flush=True)
    print(
        f"{given.resumes} resumes, {statistics.median(took):.1f} s each (median), {max(took):.1f} s"
        f" at most: {found} hangs found, {repeated} repeated, {failed} failed"
    )
    sys.exit(1 if failed else 0)


@contextlib.contextmanager
def stress() -> Iterator[None]:
    """While the machine has other things to do."""
    try:
        process = subprocess.Popen(STRESS)
    except FileNotFoundError:
        sys.exit("stress-ng is not here: apt-get install stress-ng")
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def resume(on: str, pause: float) -> tuple[float, list[str]]:
    """Resume a guest, another if it hangs; the seconds, and what is said of the hung ones."""
    begun = time.monotonic()
    hangs: list[str] = []
    while len(hangs) < TRIES:
        try:
            use_one(on, pause)
            break
        except HostHungError as error:
            hangs.append(str(error))
    return time.monotonic() - begun, hangs


def use_one(on: str, pause: float) -> None:
    managed._facts_of.clear()  # each guest is asked
    session = hosts.start(hosts.load(ROOT)[on], catalog.read(ROOT, BOOK), {})
    assert isinstance(session, vm.VmSession)
    try:
        with ThreadPoolExecutor() as background:
            if pause:
                background.submit(stop, session._container._id, pause)
            status, _, error = session.command(["bash", "-c", WORK])
        if status != 0:
            raise HostError(f"the guest did not do its work: {error.strip()}")
        session.snapshot(None)
    finally:
        session.close()


def stop(container: str, seconds: float) -> None:
    """Stop the container for a while, a moment from now."""
    time.sleep(random.uniform(0, 5))  # noqa: S311
    subprocess.run(["docker", "pause", container], check=True, stdout=subprocess.DEVNULL)
    time.sleep(seconds)
    subprocess.run(["docker", "unpause", container], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
