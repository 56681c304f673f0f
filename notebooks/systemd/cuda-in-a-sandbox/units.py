"""Runs the probe in transient units, and reads from its trace what it asked the kernel for."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

PROBE = Path(__file__).with_name("probe")
DEVICE = "/dev/nvidiactl"
NUMBERS = (195, 255)  # of that device, in every release of the driver
PIPE = "/tmp/nvidia-mps"  # noqa: S108 - where CUDA looks for its Multi-Process Service
# What libcuda asks for when it starts. Of several requests alike the last one tells.
REQUESTS = {
    f"open {DEVICE}": rf'openat\(AT_FDCWD, "{DEVICE}", O_RDWR',
    f"make {DEVICE}": rf'mknodat\(AT_FDCWD, "{DEVICE}"',
    "open /proc/cpuinfo": r'openat\(AT_FDCWD, "/proc/cpuinfo"',
    "open /proc/modules": r'openat\(AT_FDCWD, "/proc/modules"',
    "open /proc/sys/vm/mmap_min_addr": r'openat\(AT_FDCWD, "/proc/sys/vm/mmap_min_addr"',
    "look for GPUs in /sys/bus/pci": r'openat\(AT_FDCWD, "/sys/bus/pci/devices"',
    "socket of family AF_UNIX": r"socket\(AF_UNIX, SOCK_SEQPACKET",
    "connect to the Multi-Process Service": r"connect\(\d+, \{sa_family=AF_UNIX",
}
NOT_FROM_A_FILE = re.compile(
    r"^(?:mmap\(.*PROT_EXEC.*MAP_ANONYMOUS|(?:pkey_)?mprotect\(.*PROT_EXEC)", re.MULTILINE
)


def run(*command: str, properties: tuple[str, ...] = ()) -> tuple[str, str]:
    """Output and errors of a command in a transient unit with these properties."""
    options = [f"--property={each}" for each in properties]
    unit = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *options, "--", *command]
    done = subprocess.run(unit, capture_output=True, text=True, check=False)
    return done.stdout.strip(), done.stderr.strip()


def requests(trace: str) -> dict[str, str]:
    """For each of REQUESTS how it went: yes, the error's name, or - if it was not made."""
    found = {}
    for what, pattern in REQUESTS.items():
        said = re.findall(rf"^{pattern}.*\) += (?:-1 (\w+)|\d+)", trace, re.MULTILINE)
        found[what] = (said[-1] or "yes") if said else "-"
    return found


def code_not_from_files(trace: str) -> int:
    """How often executable memory was asked for that is no part of a file."""
    return len(NOT_FROM_A_FILE.findall(trace))


def starts(libcuda: str, *properties: str) -> dict[str, str]:
    """What CUDA's start asked for under these properties, and what came of it."""
    # The thread that starts makes all these requests; strace follows no other.
    said, trace = run("strace", str(PROBE), "start", libcuda, properties=properties)
    if not said.startswith("cuInit:"):
        raise RuntimeError(f"the probe did not run: {(said or trace).splitlines()[-1]}")
    return {**requests(trace), "cuInit": said.removeprefix("cuInit: ")}


@contextlib.contextmanager
def node(path: str, minor: int) -> Iterator[None]:
    """A device node with the driver's major number."""
    subprocess.run(["mknod", "-m", "666", path, "c", str(NUMBERS[0]), str(minor)], check=True)
    try:
        yield
    finally:
        Path(path).unlink()


@contextlib.contextmanager
def bound(directory: str) -> Iterator[None]:
    """The socket of the Multi-Process Service in a new directory; nobody listens at it."""
    place = Path(directory)
    place.mkdir()
    control = place / "control"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as nobody:
            nobody.bind(str(control))
            control.chmod(0o666)  # for every user, as the service has it
            yield
    finally:
        control.unlink(missing_ok=True)
        place.rmdir()
