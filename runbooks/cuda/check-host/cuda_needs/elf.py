"""What one program or library says of itself: pyelftools reads it, nothing is executed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from cuda_needs import fatbin
from cuda_needs.rules import Code, Version, version

try:
    from elftools.elf.elffile import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        ELFFile,
    )
except ImportError:
    print(
        "cuda-needs: pyelftools is not here: apt-get install python3-pyelftools, or"
        " python3 -m pip install pyelftools",
        file=sys.stderr,
    )
    sys.exit(2)  # as for all that cannot be read; 1 is for what breaks

MAGIC = b"\x7fELF"
# Libraries of CUDA and of what is built on it, which a file may load without being linked to them.
NAMES = re.compile(
    rb"lib(?:cuda|cudart|nvidia-ml|nvidia-ptxjitcompiler|nvrtc|nvJitLink|nvptxcompiler|cublas"
    rb"|cublasLt|cudnn|cufft|curand|cusolver|cusparse|cupti|nccl|nvinfer|onnxruntime|torch_cuda"
    rb")\.so(?:\.\d{1,2}(?!\d))?"
)
STRINGS = 128 << 20  # bytes of a file's constants that are searched for such names
CHUNK = 1 << 20
# Bytes that are read at once: headers lie far apart, and Python 3.14 would read 128 KiB for each.
AHEAD = 4096


class UnreadableError(Exception):
    """Why something cannot be read, and what to do, in one sentence."""


@dataclass(frozen=True)
class Elf:
    """A program or library."""

    path: str
    machine: str
    program: bool
    soname: str = ""
    needed: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)  # its RPATH or RUNPATH
    wants: dict[str, list[str]] = field(default_factory=dict)  # by library, version nodes
    defines: list[str] = field(default_factory=list)  # version nodes
    codes: list[Code] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)  # names in it that it may load while it runs
    go: bool = False
    unread: list[str] = field(default_factory=list)  # what could not be read of it, and why

    def floor(self, prefix: str) -> Version:
        """The newest version ``GLIBC_2.34`` of a series that it asks for; () if none."""
        return newest((node for nodes in self.wants.values() for node in nodes), prefix)


def newest(nodes: Iterable[str], prefix: str) -> Version:
    """The newest of the nodes of a series; () if there is none."""
    return max((version(n) for n in nodes if re.fullmatch(prefix + r"_[\d.]+", n)), default=())


def is_elf(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(MAGIC)) == MAGIC


def read_path(path: str, shown: str = "") -> Elf:
    """Read a file; ``shown`` is what to call it."""
    try:
        with open(path, "rb", AHEAD) as file:  # noqa: PTH123 - a name that Path would tidy
            return read(file, shown or path)
    except OSError as error:
        raise UnreadableError(f"{shown or path} cannot be read: {error.strerror}") from None


def read(file: BinaryIO, path: str) -> Elf:
    """Read an open file, which can seek. Raises :class:`UnreadableError`."""
    if not is_elf(file):
        raise UnreadableError(f"{path} is no program and no library (it is no ELF file)")
    size = file.seek(0, os.SEEK_END)
    try:
        elf = ELFFile(file)
        _whole(elf, size, path)
        return _read(elf, file, path)
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(
            f"{path} is damaged: {type(error).__name__} while its headers were read; fetch it again"
        ) from None


def _whole(elf: Any, size: int, path: str) -> None:
    """A copy that ended early has sections or segments behind its end."""
    header = elf.header
    ends = [
        header["e_shoff"] + header["e_shnum"] * header["e_shentsize"],
        header["e_phoff"] + header["e_phnum"] * header["e_phentsize"],
    ]
    if max(ends) <= size:
        ends += [segment["p_offset"] + segment["p_filesz"] for segment in elf.iter_segments()]
    if max(ends) > size:
        raise UnreadableError(
            f"{path} is truncated: it should have {max(ends)} bytes and has {size}; fetch it again"
        )


def _read(elf: Any, file: BinaryIO, path: str) -> Elf:
    dynamic = next((s for s in elf.iter_segments() if s["p_type"] == "PT_DYNAMIC"), None)
    tags = list(dynamic.iter_tags()) if dynamic else []
    search = next((tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"), "") or next(
        (tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"), ""
    )
    unread = []
    wants: dict[str, list[str]] = {}
    defines: list[str] = []
    codes: set[Code] = set()
    loads: set[str] = set()
    go = False
    if not elf.num_sections():
        unread.append("no section headers: its versions and its code for cards are unseen")
    for section in elf.iter_sections():
        if section["sh_type"] == "SHT_GNU_verneed":
            for library, nodes in section.iter_versions():
                wants.setdefault(library.name, []).extend(node.name for node in nodes)
        elif section["sh_type"] == "SHT_GNU_verdef":
            defines += [next(names).name for _, names in section.iter_versions()]
        elif section.name in fatbin.SECTIONS:
            try:
                codes.update(fatbin.codes(file, section["sh_offset"], section["sh_size"]))
            except fatbin.MalformedError as error:
                unread.append(f"its code for cards: {error}")
        elif section.name == ".rodata":
            loads |= _names(file, section["sh_offset"], section["sh_size"])
        go = go or section.name == ".go.buildinfo"
    needed = [tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"]
    soname = next((tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"), "")
    return Elf(
        path=path,
        machine=elf.get_machine_arch(),
        program=any(s["p_type"] == "PT_INTERP" for s in elf.iter_segments()) or not dynamic,
        soname=soname,
        needed=needed,
        search=[entry for entry in search.split(":") if entry],
        wants={library: sorted(set(nodes)) for library, nodes in wants.items()},
        defines=defines,
        codes=sorted(codes),
        loads=sorted(name for name in loads if name not in (*needed, soname)),
        go=go,
        unread=unread,
    )


def _names(file: BinaryIO, start: int, size: int) -> set[str]:
    """The names of CUDA's libraries among a file's constants."""
    found: set[str] = set()
    file.seek(start)
    left, tail = min(size, STRINGS), b""
    while left > 0 and (chunk := file.read(min(CHUNK, left))):
        left -= len(chunk)
        found.update(match[0].decode() for match in NAMES.finditer(tail + chunk))
        tail = chunk[-64:]  # a name may lie across the border
    return found
