"""What a system offers: the driver in its two parts, cards, toolkits, C libraries.

It is read from files, and the driver's library is asked for its version; nothing is initialised,
because that would make device nodes. Without a card all but the cards can be told.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cuda_needs import elf, tree
from cuda_needs.elf import UnreadableError
from cuda_needs.rules import CUDA_OF_BRANCH, Version, dotted, version

MACHINES = {"x86_64": "x64", "aarch64": "AArch64"}
STUB = 34  # CUDA_ERROR_STUB_LIBRARY
# What a child asks libcuda; a library that crashes takes the child along, and not this program.
ASK = """
import ctypes, sys
number = ctypes.c_int()
try:
    ask = ctypes.CDLL(sys.argv[1]).cuDriverGetVersion
except (OSError, AttributeError) as error:
    print(-1, 0, error)
else:
    print(ask(ctypes.byref(number)), number.value)
"""
PATIENCE = 20  # seconds


@dataclass
class Host:
    """What was found; an empty value is something that is not there."""

    root: str
    machine: str
    glibc: Version = ()
    glibcxx: Version = ()
    module: str = ""  # version of the driver in the kernel
    library: str = ""  # libcuda.so.1, where it lies
    library_version: str = ""
    library_cuda: Version = ()
    library_is_stub: bool = False
    library_trouble: str = ""  # why nothing here can load it
    asked: bool = False  # whether the library itself said so
    nvml: str = ""
    compiler: str = ""  # libnvidia-ptxjitcompiler.so.1
    nodes: list[str] = field(default_factory=list)
    cards: dict[str, int] = field(default_factory=dict)  # name: 90 for sm_90
    toolkits: dict[str, str] = field(default_factory=dict)  # directory: version
    cache: dict[str, str] = field(default_factory=dict)

    def find(self, soname: str) -> str:
        """Where this system's loader finds a library."""
        return tree.find(self.root, self.machine, soname, self.cache)


def look(root: str = "/") -> Host:
    """This system, or the one below ``root``, of which nothing is executed."""
    machine = MACHINES.get(platform.machine(), platform.machine())
    host = Host(root, machine, cache=tree.cache(root, machine))
    host.glibc = _defines(host, "libc.so.6", "GLIBC")
    host.glibcxx = _defines(host, "libstdc++.so.6", "GLIBCXX")
    host.nvml = host.find("libnvidia-ml.so.1")
    host.compiler = host.find("libnvidia-ptxjitcompiler.so.1")
    _library(host, host.find("libcuda.so.1"))
    host.toolkits = dict(_toolkits(root))
    if root == "/":
        host.module = _module()
        nodes = Path("/dev").glob("nvidia*")
        host.nodes = sorted(str(node) for node in nodes if node.is_char_device())
        host.cards = _cards() if host.module else {}
    return host


def _defines(host: Host, soname: str, series: str) -> Version:
    path = host.find(soname)
    try:
        return elf.newest(elf.read_path(path).defines, series) if path else ()
    except UnreadableError:
        return ()


def _library(host: Host, path: str) -> None:
    if not path:
        return
    host.library = path
    number = Path(path).name.partition(".so.")[2]
    host.library_version = number if "." in number else ""  # libcuda.so.1 says nothing
    host.library_is_stub = "stubs" in Path(path).parts
    if host.root == "/":
        status, cuda, host.library_trouble = _ask(path)
        host.asked, host.library_is_stub = status == 0, host.library_is_stub or status == STUB
        host.library_cuda = (cuda // 1000, cuda % 1000 // 10) if host.asked else ()
    else:
        host.library_trouble = _trouble(host, path)
    if not (host.library_cuda or host.library_trouble) and host.library_version:
        host.library_cuda = CUDA_OF_BRANCH.get(version(host.library_version)[0], ())


def _trouble(host: Host, path: str) -> str:
    """Why a system's loader does not take a driver's library, as far as their headers tell."""
    try:
        library = elf.read_path(path)
    except UnreadableError as error:
        return str(error).removeprefix(f"{path} ")
    if library.machine != host.machine:
        return f"it is for {library.machine}, and this host is {host.machine}"
    wants = library.floor("GLIBC")
    if host.glibc and wants > host.glibc:
        return f"it wants glibc {dotted(wants)}, and this host has {dotted(host.glibc)}"
    return ""


def _ask(path: str) -> tuple[int, int, str]:
    """The status and the number of ``cuDriverGetVersion``; -1, and why, if it cannot be loaded."""
    found = re.match(r"(-?\d+) (\d+)(?: (.+))?", _run([sys.executable, "-I", "-c", ASK, path]))
    if found is None:
        return -1, 0, "it ends the process that loads it"
    return int(found[1]), int(found[2]), found[3] or ""


def _run(command: list[str]) -> str:
    """What a command prints; empty if it is not there, fails or does not end."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _module() -> str:
    """The version of the driver that the kernel has loaded."""
    for place in ("/sys/module/nvidia/version", "/proc/driver/nvidia/version"):
        try:
            text = Path(place).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if found := re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text):
            return found[0]
    return ""


def _cards() -> dict[str, int]:
    said = _run(["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"])
    rows = re.findall(r"(?m)^(.+), (\d+)\.(\d)$", said)
    return {name: int(major + minor) for name, major, minor in rows}


def _toolkits(root: str) -> list[tuple[str, str]]:
    """Directories with a toolkit, each once, and its version by the file that comes with it."""
    found: dict[str, str] = {}
    patterns = ("usr/local/cuda*", "opt/cuda*", "usr/lib/cuda*", "usr/lib/nvidia-cuda-toolkit")
    for pattern in patterns:
        for path in sorted(Path(root).glob(pattern)):
            place = inside_of(root, str(path))
            if (number := _toolkit_version(Path(place))) and place not in found:
                found[place] = number
    return list(found.items())


def inside_of(root: str, path: str) -> str:
    """A path that was found below ``root``, with its links followed inside."""
    return tree.inside(root, "/" + os.path.relpath(path, root))


def _toolkit_version(directory: Path) -> str:
    try:
        said = json.loads((directory / "version.json").read_text(encoding="utf-8"))
        return str(said["cuda"]["version"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    try:
        text = (directory / "version.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown" if (directory / "bin/nvcc").exists() else ""
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else "unknown"
