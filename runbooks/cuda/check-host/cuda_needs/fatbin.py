"""The headers of fat binaries: which cards a file has code for.

No library reads them, so they are read here; tests compare with NVIDIA's cuobjdump. A section holds
containers, one after another; a container holds entries, each with a header that says how long it
is. So only headers are read, and a file of gigabytes costs as little as a small one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from cuda_needs.rules import Code

MAGIC = 0xBA55ED50
SECTIONS = (".nv_fatbin", "__nv_relfatbin")
CONTAINER = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes of the entries
# kind, version, bytes of this header, bytes of the code, (three), ISA minor and major,
# architecture, (two), flags
ENTRY = struct.Struct("<HHIQIIHHIIIQ")
KINDS = {1: "ptx", 2: "elf"}
ONE_CARD, FAMILY = 0x100000, 0x200000  # flags: sm_90a, sm_100f
ALIGNED = 8


class MalformedError(Exception):
    """What is wrong with a fat binary, in words."""


def codes(file: BinaryIO, start: int, size: int) -> Iterator[Code]:
    """What the section of ``size`` bytes at ``start`` has."""
    at, end = start, start + size
    while at + CONTAINER.size <= end:
        magic, _, header, length = CONTAINER.unpack(_bytes(file, at, CONTAINER.size))
        if magic != MAGIC:
            if at > start and magic == 0:  # what a linker fills up with
                at += ALIGNED
                continue
            raise MalformedError(f"there is no fat binary at byte {at}")
        inside, at = at + header, at + header + length
        if header < CONTAINER.size or at > end:
            raise MalformedError("a fat binary in it is longer than its section")
        yield from _entries(file, inside, at)
        at += -at % ALIGNED


def _entries(file: BinaryIO, at: int, end: int) -> Iterator[Code]:
    while at + ENTRY.size <= end:
        fields = ENTRY.unpack(_bytes(file, at, ENTRY.size))
        kind, _, header, size, _, _, minor, major, number, _, _, flags = fields
        if header < ENTRY.size or at + header + size > end:
            raise MalformedError(f"the entry at byte {at} is longer than its fat binary")
        suffix = "a" if flags & ONE_CARD else "f" if flags & FAMILY else ""
        name = KINDS.get(kind, f"kind-{kind}")
        yield Code(name, f"sm_{number}{suffix}", (major, minor) if name == "ptx" else ())
        at += header + size


def _bytes(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    content = file.read(size)
    if len(content) < size:
        raise MalformedError(f"the file ends at byte {at + len(content)}, inside a fat binary")
    return content
