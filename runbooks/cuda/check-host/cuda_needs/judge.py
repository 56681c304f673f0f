"""What will break, in the order in which a person would meet it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import PurePosixPath

from cuda_needs import elf, rules
from cuda_needs.elf import Elf
from cuda_needs.host import Host
from cuda_needs.rules import Code, Version, dotted
from cuda_needs.subjects import RUNTIME, Subject, has_library

DRIVER = "libcuda.so.1"
STUBS = {DRIVER: "error 34", "libnvidia-ml.so.1": "error 9"}  # what who calls it is told
# Which wheel or package brings a library that is asked for by this name.
BROUGHT_BY = {
    "libcuda": "the driver: on a host install it, in a container mount it (--gpus, CDI)",
    "libnvidia-ml": "the driver: on a host install it, in a container mount it (--gpus, CDI)",
    "libcudart": "CUDA's runtime: nvidia-cuda-runtime (wheel), cuda-cudart (NVIDIA's packages)",
    "libcublas": "nvidia-cublas (wheel), libcublas (NVIDIA's packages)",
    "libcublasLt": "nvidia-cublas (wheel), libcublas (NVIDIA's packages)",
    "libcudnn": "nvidia-cudnn-cuNN (wheel), cudnn (NVIDIA's packages)",
    "libcufft": "nvidia-cufft (wheel), libcufft (NVIDIA's packages)",
    "libcurand": "nvidia-curand (wheel), libcurand (NVIDIA's packages)",
    "libcusolver": "nvidia-cusolver (wheel), libcusolver (NVIDIA's packages)",
    "libcusparse": "nvidia-cusparse (wheel), libcusparse (NVIDIA's packages)",
    "libnvrtc": "nvidia-cuda-nvrtc (wheel), cuda-nvrtc (NVIDIA's packages)",
    "libnvJitLink": "nvidia-nvjitlink (wheel), libnvjitlink (NVIDIA's packages)",
    "libnccl": "nvidia-nccl-cuNN (wheel), libnccl2 (NVIDIA's packages)",
}
LEVELS = ("breaks", "may break", "unknown", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that breaks, may break, could not be told, or is worth knowing."""

    level: str
    rule: str
    says: str
    do: str = ""


def _seen_by(subject: Subject, host: Host) -> Host:
    """The host with the driver's library that a process has loaded, which may be a container's."""
    library = subject.beside.get(DRIVER) if subject.kind == "process" else None
    if library is None:
        return host
    number = PurePosixPath(library.path).name.partition(".so.")[2]
    known = rules.CUDA_OF_BRANCH.get(rules.version(number)[0], ()) if "." in number else ()
    if number == host.library_version or not known:
        return host
    return dataclasses.replace(
        host,
        library=library.path,
        library_version=number,
        library_cuda=known,
        library_is_stub="stubs" in PurePosixPath(library.path).parts,
        library_trouble="",
        asked=False,
    )


class Judge:
    """Compares a subject with a host."""

    def __init__(self, subject: Subject, host: Host, card: int = 0) -> None:
        self.subject, self.host = subject, _seen_by(subject, host)
        self.cards = [card] if card else sorted(set(host.cards.values()))
        self.found: list[Finding] = []
        self.reached: dict[str, Elf] = {}  # by path: the files, and what they are linked to
        self.runtimes: dict[str, Version] = dict(subject.runtimes)
        self.missing_driver = False

    def findings(self) -> list[Finding]:
        """All of them, what breaks first at the top."""
        self._linked()
        self._stubs()
        wants_cuda = self.wants_cuda()
        if wants_cuda:
            # The runtime compares versions before it looks for a card.
            self._library()
            self._runtimes()
            self._kernel()
            self._codes()
        elif not self.found:
            self._say("note", "no-cuda", "it asks for nothing of CUDA")
        for file in self.subject.gone:
            self._say(
                "may break",
                "replaced",
                f"{file} was replaced or removed while the process runs",
                "start the process again",
            )
        for trouble in [
            *self.subject.trouble,
            *(f"{file.path}: {why}" for file in self.subject.files.values() for why in file.unread),
        ]:
            self._say("unknown", "unread", trouble)
        order = {level: number for number, level in enumerate(LEVELS)}
        unique = list(dict.fromkeys(self.found))
        return sorted(unique, key=lambda finding: order[finding.level])

    def wants_cuda(self) -> bool:
        names = {n for file in self.reached.values() for n in (*file.needed, *file.loads)}
        if self.subject.kind == "process":  # what it has opened nobody may be linked to
            names |= {file.soname for file in self.reached.values()}
        return (
            any(name.partition(".so")[0] in BROUGHT_BY for name in names)
            or any(file.codes for file in self.reached.values())
            or bool(self.runtimes)
        )

    def _say(self, level: str, rule: str, says: str, do: str = "") -> None:
        self.found.append(Finding(level, rule, says, do))

    # --- what the loader meets ---

    def _linked(self) -> None:
        waiting = list(self.subject.files.values())
        while waiting:
            file = waiting.pop(0)
            if file.path in self.reached:
                continue
            self.reached[file.path] = file
            if self.subject.kind == "process":
                continue  # the loader has taken them; each library that it is linked to is one
            if file.machine != self.host.machine and not self.subject.userland:
                self._say(
                    "breaks",
                    "machine",
                    f"{file.path} is for {file.machine}, and this host is {self.host.machine}",
                    "fetch the one for this machine",
                )
                continue
            self._glibc(file)
            for soname in file.needed:
                library = has_library(self.subject, self.host, file, soname)
                if library is None:
                    self._missing(file, soname)
                    continue
                self._nodes(file, soname, library)
                waiting.append(library)
                if RUNTIME.fullmatch(soname):
                    number = rules.version(PurePosixPath(library.path).name.partition(".so.")[2])
                    known = self.runtimes.get(soname, ())
                    self.runtimes[soname] = max(known, number, key=len)

    def _glibc(self, file: Elf) -> None:
        has, where = self.host.glibc, "this host has"
        if self.subject.userland:
            own = self.subject.beside.get("libc.so.6")
            has, where = elf.newest(own.defines, "GLIBC") if own else (), "the image has"
        wants = file.floor("GLIBC")
        if has and wants > has:
            self._say(
                "breaks",
                "glibc",
                f"{file.path}: version `GLIBC_{dotted(wants)}' not found ({where} {dotted(has)})",
                f"build it on a system with glibc {dotted(has)} or older"
                " (runbooks/go/cgo-portable), or run it on a newer one",
            )

    def _missing(self, file: Elf, soname: str) -> None:
        stem = soname.partition(".so")[0]
        if soname == DRIVER:
            self.missing_driver = True  # said once, below
            return
        if stem not in BROUGHT_BY and self._optional(file):
            return
        elsewhere = self.subject.kind == "wheel" and "brings along" in self.subject.facts
        self._say(
            "note" if elsewhere else "breaks",
            "missing",
            f"{soname}: cannot open shared object file ({file.path} is linked to it)",
            f"it comes with {BROUGHT_BY[stem]}" if stem in BROUGHT_BY else "install its package",
        )

    def _optional(self, file: Elf) -> bool:
        """Of an image's or an environment's many files those that have to do with CUDA count."""
        return self.subject.kind in ("image", "environment", "wheel") and not any(
            name.partition(".so")[0] in BROUGHT_BY for name in (*file.needed, *file.loads)
        )

    def _nodes(self, file: Elf, soname: str, library: Elf) -> None:
        for node in file.wants.get(soname, ()):
            if node.startswith("GLIBC_") or node in library.defines or not library.defines:
                continue
            self._say(
                "breaks",
                "version-node",
                f"{file.path} wants {node} of {soname}, and {library.path} does not define it",
                f"take the {soname} that it was built with, or a newer one of the same soname",
            )

    # --- what the driver says ---

    def _stubs(self) -> None:
        """Those that are what is asked about, or that a process runs with."""
        subject = self.subject
        runs = subject.kind == "process"
        if subject.kind != "library" and not runs:
            return
        for path, file in subject.files.items():
            if file.soname in STUBS and "stubs" in PurePosixPath(path).parts:
                self._say(
                    "breaks",
                    "stub",
                    f"{path} is the stub that programs are linked with, and no driver"
                    f" ({STUBS[file.soname]})",
                    "take its directory out of the loader's path (ld.so.conf.d, LD_LIBRARY_PATH),"
                    " and start the process again"
                    if runs
                    else "link with it, and let nothing load it: keep its directory out of"
                    " ld.so.conf.d and LD_LIBRARY_PATH",
                )

    def _library(self) -> None:
        host = self.host
        if self.subject.userland:
            for path, file in self.subject.files.items():
                if file.soname == DRIVER:
                    self._driver_in_image(path)
        if not host.library:
            self._say(
                "breaks",
                "no-driver",
                f"{DRIVER} is not here: the runtime reports error 35, CUDA driver version is"
                " insufficient, which is not what is wrong",
                f"it comes with {BROUGHT_BY['libcuda']}",
            )
        elif host.library_is_stub:
            self._say(
                "breaks",
                "stub",
                f"{host.library} is the stub that programs are linked with, and no driver"
                " (error 34)",
                "take its directory out of the loader's path (ld.so.conf.d, LD_LIBRARY_PATH)",
            )
        elif host.library_trouble:
            self._say(
                "breaks",
                "driver-library",
                f"{host.library} cannot be loaded: {host.library_trouble}",
                "install the driver from this system's own packages or from NVIDIA's; a copy of"
                " another system's does not do",
            )

    def _kernel(self) -> None:
        host = self.host
        if not host.library or host.library_is_stub:
            return
        if host.root == "/" and not host.module:
            self._say(
                "breaks",
                "no-module",
                "the driver is not loaded in the kernel: error 100, no CUDA-capable device",
                "modprobe nvidia; in a container, give it the device nodes (--gpus, CDI)",
            )
        elif host.module and host.library_version and host.module != host.library_version:
            self._say(
                "breaks",
                "mismatch",
                f"Driver/library version mismatch: the kernel has {host.module},"
                f" {host.library} is {host.library_version}",
                "reboot, or load the module of the library's version",
            )
        elif host.module and not host.nodes:
            self._say(
                "breaks",
                "no-nodes",
                "the driver is loaded, and /dev has none of its nodes: error 100",
                "nvidia-modprobe -u -c=0; in a container, --gpus or CDI",
            )

    def _driver_in_image(self, path: str) -> None:
        stub = "stubs" in PurePosixPath(path).parts
        self._say(
            "note" if stub else "may break",
            "driver-in-image",
            f"{path} in the image is {'a stub' if stub else 'a driver of its own'}",
            "nothing, as long as the loader does not look there"
            if stub
            else "take it out: the host's driver is mounted when the container starts",
        )

    def _runtimes(self) -> None:
        driver = self.host.library_cuda
        for soname, number in sorted(self.runtimes.items()):
            if not driver or self.host.library_is_stub:
                self._say("unknown", "gate", f"whether the driver takes CUDA {dotted(number)}")
                continue
            answer = rules.gate(number, driver)
            if answer == "no":
                self._say(
                    "breaks",
                    "gate",
                    f"{soname} is of CUDA {dotted(number)}, and the driver of {dotted(driver)}:"
                    " error 35, CUDA driver version is insufficient for CUDA runtime version",
                    f"a driver {rules.driver_for(number)}, or a build for CUDA {driver[0]}",
                )
            elif answer == "minor":
                self._say(
                    "note",
                    "minor-version",
                    f"{soname} is of CUDA {dotted(number)}, newer than the driver's"
                    f" {dotted(driver)}: minor-version compatibility; PTX of this CUDA and what is"
                    " new in it fail",
                )
        if len(self.runtimes) > 1:
            self._say(
                "may break",
                "two-runtimes",
                f"two runtimes in one place: {', '.join(sorted(self.runtimes))}; what one allocates"
                " the other does not know",
                "build all parts against one of them",
            )

    def _codes(self) -> None:
        newest = rules.newest_ptx(self.host.library_cuda)
        for file in self.reached.values():
            if not file.codes:
                continue
            for card in self.cards:
                if not any(rules.runs(code, card, newest) for code in file.codes):
                    self._no_code(file.path, file.codes, card, newest)
            if not self.cards:
                self._say(
                    "unknown",
                    "card",
                    f"whether {file.path} has code for your card: there is none here",
                    "name one: --card sm_90",
                )
            too_new = [code for code in file.codes if newest and code.isa > newest]
            if too_new and all(code.kind == "ptx" for code in file.codes):
                self._too_new(file.path, too_new, newest)

    def _no_code(self, path: str, codes: list[Code], card: int, newest: Version) -> None:
        if too_new := [c for c in codes if c.kind == "ptx" and rules.runs(c, card, ())]:
            self._too_new(path, too_new, newest)
            return
        self._say(
            "breaks",
            "no-code",
            f"{path} has no code for sm_{card}: error 209, no kernel image is available",
            f"build it with -gencode arch=compute_{card},code=sm_{card}, or with PTX of an older"
            " architecture",
        )

    def _too_new(self, path: str, codes: list[Code], newest: Version) -> None:
        self._say(
            "breaks",
            "ptx",
            f"{path} has PTX {dotted(max(code.isa for code in codes))}, and the driver compiles up"
            f" to {dotted(newest)}: error 222, the provided PTX was compiled with an unsupported"
            " toolchain",
            "a newer driver, or a build with the code of your card in it (-gencode code=sm_NN)",
        )
