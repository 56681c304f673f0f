"""Runs commands, tells by their words why they fail, and leads loader or linker to another library.

A cure is a link: LINKS/SONAME for the loader, which looks into LINKS before all else that is
configured, DEV/libNAME.so for the linker. It stays only if the command, run again, does not fail so
any more. Called by the cells of repair-abi.ipynb, which declare the paths.
"""

from __future__ import annotations

import argparse
import mmap
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

LINKS = Path("/usr/local/lib/cuda-repair")
CONF = Path("/etc/ld.so.conf.d/00-cuda-repair.conf")  # the first by its name is the first searched
DEV = Path("/usr/local/lib")
NEW = ".cuda-repair.new"  # each of them, until it is renamed
# What the linker is given a name for: the cell declares these.
DEV_NAMES = ("cuda", "cudart", "cublas", "cudnn", "nvrtc", "nvidia-ml", "nccl", "onnxruntime")
# The loader finds a file, and it is the wrong one.
FOUND_WRONG = ("version", "symbol", "api", "stub")
STUB_CAUSE = "the libcuda that is found is the stub that programs are linked with"
ROUNDS = 12  # one fault hides the next
SHOWN = 300  # characters of a line

PLACES = (
    "usr/local/cuda*/lib64",
    "usr/local/cuda*/targets/*/lib",
    "opt/cuda*/lib64",
    "usr/lib/cuda*/lib64",
    "usr/local/nvidia/lib64",  # where some clouds mount the driver
    "usr/lib/*-linux-gnu/nvidia/current",
    "usr/lib/*-linux-gnu",
    "usr/lib64",
    "usr/lib/python3*/dist-packages/nvidia/*/lib",
    "usr/local/lib/python3*/*-packages/nvidia/*/lib",
    "opt/*/lib/python3*/site-packages/nvidia/*/lib",
)
# Asks a driver's library for its version; a child, because a library may crash.
ASK = """
import ctypes, sys
number = ctypes.c_int()
print(ctypes.CDLL(sys.argv[1]).cuDriverGetVersion(ctypes.byref(number)), number.value)
"""
STUB = 34  # CUDA_ERROR_STUB_LIBRARY


@dataclass(frozen=True)
class Fault:
    """Why a command fails. ``library`` is the file that another one of that name cures, or ""."""

    kind: str
    library: str
    words: str
    cause: str
    do: str = ""  # what a person does, where no other file cures it


@dataclass(frozen=True)
class Rule:
    """Words on a screen, and what they mean. Groups: ``library`` or ``name``."""

    kind: str
    words: str
    cause: str
    library: str = ""
    do: str = ""


# In the order in which they count: the cause first, what only reports it last.
RULES = (
    Rule(
        "linker",
        r"cannot find -l(?P<name>[\w+-]+)",
        "the linker looks for lib{name}.so, and a runtime brings it with a number behind",
        "lib{name}.so",
    ),
    Rule(
        "linker-file",
        r"cannot find -l:(?P<name>[\w.+-]+)",
        "none of the linker's directories has {name}",
        do="name its directory to the linker, with -L",
    ),
    Rule(
        "glibc",
        r"version `(?P<name>GLIBC_[\d.]+)' not found",
        "the program was built on a newer system than this one",
        do="build it on a system as old as this one (runbooks/go/cgo-portable), or run it in a"
        " container of a newer one; never copy a libc here",
    ),
    Rule(
        "glibcxx",
        r"version `(?P<name>(?:GLIBCXX|CXXABI)_[\d.]+)' not found",
        "the program was built with a newer C++ library than this system's",
        do="build it with this system's compiler, or run it in a container of a newer system",
    ),
    Rule(
        "version",
        r"(?P<library>lib[\w.+-]+\.so[\w.]*): version `(?P<name>[^']+)' not found",
        "the library that is found lacks the version {name}",
    ),
    Rule(
        "symbol",
        r"undefined symbol: (?P<name>\w+), version (?P<library>lib[\w.+-]+\.so[\w.]*)",
        "the library that is found is older than the one of the build: it lacks {name}",
    ),
    Rule(
        "missing",
        r"(?P<library>lib[\w.+-]+\.so[\w.]*): cannot open shared object file",
        "no directory that the loader looks into has it",
    ),
    Rule(
        "symbol-alone",
        r"undefined symbol: (?P<name>\w+)",
        "no library that was loaded has {name}: one is older than at the build, or is not linked",
        do="LD_DEBUG=libs PROGRAM shows which files are loaded; compare with those of the build",
    ),
    Rule(
        "api",
        r"requested API version \[(?P<name>\d+)\] is not available, only API versions",
        "the ONNX Runtime that is found is older than the program, which wants API {name}",
        "libonnxruntime.so.1",
    ),
    Rule(
        "nvml",
        r"couldn't find libnvidia-ml\.so library|NVML Shared Library Not Found",
        "no directory that the loader looks into has the driver's NVML",
        "libnvidia-ml.so.1",
    ),
    Rule(
        "stub",
        r"CUDA driver is a stub library|CUDA_ERROR_STUB_LIBRARY|cudaErrorStubLibrary",
        STUB_CAUSE,
        "libcuda.so.1",
    ),
    Rule(
        "stub",
        r"libnvidia-ml\.so in GDK package is a stub library",
        "the libnvidia-ml that is found is the stub that programs are linked with, whatever else is"
        " said of the driver",
        "libnvidia-ml.so.1",
    ),
    Rule(
        "insufficient",
        r"driver version is insufficient for CUDA runtime|NVIDIA driver on your system is too old",
        "the driver is too old for this runtime of CUDA",
    ),
    Rule(
        "mismatch",
        r"Driver/library version mismatch",
        "the driver in the kernel and its libraries are of two versions",
        do="reboot, or load the module of the libraries' version",
    ),
    Rule(
        "not-loaded",
        r"couldn't communicate with the NVIDIA driver|Driver Not Loaded"
        r"|Failed to initialize NVML: Unknown Error",
        "the driver's libraries are here, and the driver is not in the kernel, or its device nodes"
        " are not here",
        do="modprobe nvidia, then nvidia-smi; in a container, start it with --gpus or CDI",
    ),
    Rule(
        "no-device",
        r"no CUDA-capable device is detected|CUDA_ERROR_NO_DEVICE",
        "libraries and driver fit, and there is no card for this process",
        do="see nvidia-smi, CUDA_VISIBLE_DEVICES, and in a container --gpus or CDI",
    ),
    Rule(
        "ptx",
        r"Unsupported \.version (?P<name>[\d.]+); current version is"
        r"|PTX was compiled with an unsupported toolchain",
        "the PTX is newer than what compiles it",
        do="compile with the older CUDA, or with code for your card in it (-gencode code=sm_NN);"
        " see notebooks/cuda/ptx-versions",
    ),
    Rule(
        "no-code",
        r"no kernel image is available for execution",
        "the program has no code for this card",
        do="build it for the card; cuda-needs PROGRAM (runbooks/cuda/check-host) lists what it has",
    ),
    Rule(
        "nccl",
        r"unhandled cuda error",
        "NCCL only passes on an error of CUDA",
        do="run it with NCCL_DEBUG=WARN: the line before has the error, and this runbook knows it",
    ),
)


# --- what a command says ---


@dataclass(frozen=True)
class Command:
    """What fails, as a person types it."""

    line: str
    user: str = ""
    within: float = 20

    def run(self, **more: str) -> Said:
        """Run it as a service would be: without input, and without paths of one's own."""
        given = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "LD_PRELOAD")}
        as_user = ["runuser", "--user", self.user, "--"] if self.user else []
        with subprocess.Popen(
            [*as_user, "bash", "-c", self.line],
            env=given | {"LC_ALL": "C"} | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                said, ended = process.communicate(timeout=self.within)[0], True
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                said, ended = process.communicate()[0], False
        runs = not ended or process.returncode == 0
        return Said(runs, process.returncode, said.decode(errors="replace"))

    def fault(self, said: Said | None = None) -> Fault | None:
        """Why it fails, or None if it runs; ``said`` is what it has said already."""
        said = said or self.run()
        if said.runs:
            return None
        fault = recognise(said)
        if fault.kind == "insufficient":
            fault = of_the_driver(fault, self.led_to("libcuda.so.1"))
        if fault.kind in FOUND_WRONG:
            fault = led(fault, self.led_to(fault.library))
        return fault

    def led_to(self, library: str) -> Lead:
        """Which file the loader takes for a library, as it tells itself."""
        lead, path = Lead(None, ""), ""
        asked = by = ""
        for line in self.run(LD_DEBUG="libs").text.splitlines():
            if found := re.search(r"find library=(\S+) \[", line):
                asked, by = found[1], ""
            elif asked == library and (found := re.search(r"search path=.*\t\((.+)\)", line)):
                by = found[1]
            elif asked == library and "search cache=" in line:
                by = ""
            elif asked == library and (found := re.search(r"trying file=(.+)", line)):
                path = found[1]
                lead = Lead(Path(path), by) if Path(path).exists() else lead
        return lead


@dataclass(frozen=True)
class Said:
    """How a command ended: ``runs`` if with 0, or if it had to be stopped."""

    runs: bool
    status: int
    text: str


@dataclass(frozen=True)
class Lead:
    """The file that the loader takes, and what led it there before its own settings are asked."""

    path: Path | None
    by: str


def recognise(said: Said) -> Fault:
    """The fault that the words tell; of kind ``unknown`` if they tell none."""
    for rule in RULES:
        if found := re.search(rule.words, said.text):
            groups = {key: value or "" for key, value in found.groupdict().items()}
            words = next(line for line in said.text.splitlines() if found[0] in line)
            library = groups.get("library") or rule.library.format(**groups)
            cause = rule.cause.format(**groups)
            return Fault(rule.kind, library, words.strip()[:SHOWN], cause, rule.do)
    lines = said.text.strip().splitlines() or [f"status {said.status}"]
    return Fault(
        "unknown",
        "",
        lines[-1][:SHOWN],
        "these words are not known here",
        "see the program's own documents, and cuda-needs PROGRAM (runbooks/cuda/check-host)",
    )


def of_the_driver(fault: Fault, lead: Lead) -> Fault:
    """The same words come from a driver that is too old, from a stub, and from none at all."""
    if lead.path is None:
        cause = "the loader finds no driver's library at all; that it is too old is not so"
        return replace(fault, kind="no-driver", library="libcuda.so.1", cause=cause)
    said = subprocess.run(
        [sys.executable, "-I", "-c", ASK, lead.path], capture_output=True, text=True, check=False
    ).stdout.split()
    status, number = map(int, said) if len(said) == 2 else (-1, 0)
    if status == STUB:
        return replace(fault, kind="stub", library="libcuda.so.1", cause=STUB_CAUSE)
    return replace(
        fault,
        kind="too-old",
        cause=f"{lead.path} takes CUDA {number // 1000}.{number % 1000 // 10} at most",
        do="install a newer driver, or a build for its CUDA"
        " (notebooks/cuda/runtime-driver-matrix has the table)",
    )


def led(fault: Fault, lead: Lead) -> Fault:
    """No link cures what is led elsewhere before the loader's own settings are asked."""
    if lead.path is None:
        do = (
            f"the program opens its {fault.library} by a path of its own: name the right file there"
        )
    elif lead.by == "LD_LIBRARY_PATH":
        do = f"LD_LIBRARY_PATH leads to {lead.path}: take it out of the unit, image or profile"
    elif "PATH from file" in lead.by:
        what, _, file = lead.by.partition(" from file ")
        do = f"the {what} of {file} leads to {lead.path}: patchelf --set-rpath DIRECTORY {file}"
    else:
        return fault
    return replace(fault, library="", do=do)


# --- where another library is ---


def places(named: str) -> Iterator[Path]:
    """Directories that may have it: those that were named, then the usual ones, newest first."""
    yield from map(Path, named.split())
    yield LINKS
    for pattern in PLACES:
        yield from sorted(Path("/").glob(pattern), key=numbers, reverse=True)


def numbers(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", str(path))))


def candidates(library: str, named: str) -> list[Path]:
    """Files that are a library of this name, each once; one whose link is missing is so inside."""
    stem = library.partition(".so")[0]
    found: dict[Path, Path] = {}
    for place in places(named):
        several = sorted(place.glob(f"{stem}.so.*"), key=numbers, reverse=True)
        for path in (place / library, *several):
            real = path.resolve()
            fits = real.is_file() and (path.name == library or is_called(real, library))
            if fits and "stubs" not in real.parts and is_ours(real):
                found.setdefault(real, path.readlink() if place == LINKS else path)
                break
    return list(found.values())


def is_called(path: Path, library: str) -> bool:
    """Whether the file names itself so; the linker takes one with any number."""
    if library.endswith(".so"):
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"\0" + library.encode() + b"\0") >= 0


def is_ours(path: Path) -> bool:
    """Whether nobody but root and this user may change it: all programs will load it."""
    for part in (path, *path.parents):
        about = part.stat()
        if about.st_uid not in (0, os.geteuid()) or (about.st_mode & 0o022 and not is_sticky(part)):
            return False
    return True


def is_sticky(path: Path) -> bool:
    return path.is_dir() and bool(path.stat().st_mode & 0o1000)


# --- the cures ---


def place_of(fault: Fault) -> Path | None:
    """The link that cures it, or None if none does."""
    if fault.kind == "linker":
        name = fault.library.removeprefix("lib").removesuffix(".so")
        return DEV / fault.library if name in DEV_NAMES else None
    return LINKS / fault.library if fault.library else None


def link(place: Path, target: Path) -> None:
    """``place`` leads to the file, by a rename."""
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(NEW)
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.rename(place)
    configure(place)


def unlink(place: Path, before: Path | None) -> None:
    """What was tried in vain goes."""
    if before:
        link(place, before)
        return
    place.unlink()
    configure(place)


def configure(place: Path) -> None:
    """The loader looks into LINKS first, as long as there is something in it."""
    if place.parent != LINKS:
        return
    if any(LINKS.iterdir()):
        text = f"# Written by the runbook cuda/repair-abi.\n{LINKS}\n"
        if not CONF.exists() or CONF.read_text(encoding="utf-8") != text:
            new = CONF.with_name(NEW)
            with new.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.rename(CONF)
    else:
        CONF.unlink(missing_ok=True)
        LINKS.rmdir()
    subprocess.run(["ldconfig", "-X"], check=True)


def cure(command: Command, options: argparse.Namespace) -> bool:
    """Cure one fault of this kind after the other; whether something was changed."""
    changed = False
    for _ in range(ROUNDS):
        fault = command.fault()
        if fault is None or (fault.kind == "linker") != (options.of == "linker"):
            break
        place = place_of(fault)
        took = first_that_cures(command, fault, place, options.library_dir) if place else None
        if took is None:
            break
        changed = True
        print(f"changed: {place} leads to {took}\n  since {command.line} said: {fault.words}")
    return changed


def first_that_cures(command: Command, fault: Fault, place: Path, named: str) -> Path | None:
    """Link one file after the other, until the command does not say so any more."""
    before = place.readlink() if place.is_symlink() else None
    for path in candidates(fault.library, named):
        if path == before:
            continue
        link(place, path)
        after = command.fault()
        if after is None or (after.kind, after.library) != (fault.kind, fault.library):
            return path
        unlink(place, before)
    return None


# --- the cells ---


def tell(commands: list[Command], options: argparse.Namespace) -> int:
    """For each command, what it says, what that means, and what would be tried."""
    for command in commands:
        fault = command.fault()
        print(f"{command.line}: {'runs' if fault is None else fault.words}")
        if fault:
            print(f"  cause   {fault.cause}")
            for path in candidates(fault.library, options.library_dir) if place_of(fault) else ():
                print(f"  try     {path}")
            if fault.do:
                print(f"  do      {fault.do}")
    return 0


def refuse(commands: list[Command], options: argparse.Namespace) -> int:
    """One sentence on standard error about the first command that no file here can cure."""
    for command in commands:
        fault = command.fault()
        if fault is None:
            continue
        do = fault.do
        if fault.kind == "linker" and place_of(fault) is None:
            do = "name the file to the linker: -L DIRECTORY -l:FILE"
        elif place_of(fault) and not candidates(fault.library, options.library_dir):
            do = (
                f"there is no other {fault.library} here that only root may change: install the"
                " package that has it, or name its directory in library_dir"
            )
        elif place_of(fault):
            continue
        print(f"{command.line}: {fault.words}: {fault.cause}: {do}", file=sys.stderr)
        return 1
    return 0


def apply(commands: list[Command], options: argparse.Namespace) -> int:
    changed = [cure(command, options) for command in commands]
    if not any(changed):
        print("nothing to do")
    return 0


def verify(commands: list[Command], options: argparse.Namespace) -> int:
    """Whether each command runs; what it says if it does not."""
    for command in commands:
        said = command.run()
        if fault := command.fault(said):
            why = ": ".join(filter(None, [fault.words, fault.cause, fault.do]))
            print(f"{command.line} still fails: {why}", file=sys.stderr)
            return 1
        last = (said.text.strip().splitlines() or ["it runs, and says nothing"])[-1]
        print(f"{command.line}: {last[:SHOWN]}")
    return 0


def main() -> int:
    does = {"tell": tell, "refuse": refuse, "apply": apply, "verify": verify}
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("what", choices=does)
    told.add_argument("--of", choices=("loader", "linker"), default="loader")
    told.add_argument("--command", required=True, help="several: a line each")
    told.add_argument("--library-dir", default="", help="directories, with spaces between")
    told.add_argument("--user", default="", help="who runs the commands")
    told.add_argument("--within", type=float, default=20, help="seconds for a command")
    options = told.parse_args()
    lines = [line.strip() for line in options.command.splitlines() if line.strip()]
    return does[options.what](
        [Command(line, options.user, options.within) for line in lines], options
    )


if __name__ == "__main__":
    sys.exit(main())
