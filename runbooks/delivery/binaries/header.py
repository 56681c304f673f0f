"""usage: header.py FILE...: what each program is for, OS/ARCH, as its first bytes say"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

ELF = {0x3E: "amd64", 0xB7: "arm64"}
PE = {0x8664: "amd64", 0xAA64: "arm64"}
MACH_O = {0x01000007: "amd64", 0x0100000C: "arm64"}


def target(program: bytes) -> str:
    """OS/ARCH of a program, or what its first bytes are instead."""
    if program[:4] == b"\x7fELF":
        (machine,) = struct.unpack_from("<H", program, 18)
        return f"linux/{ELF.get(machine, hex(machine))}"
    if program[:2] == b"MZ":
        (header,) = struct.unpack_from("<I", program, 60)
        signature, machine = struct.unpack_from("<4sH", program, header)
        if signature == b"PE\0\0":
            return f"windows/{PE.get(machine, hex(machine))}"
    if program[:4] == b"\xcf\xfa\xed\xfe":
        (machine,) = struct.unpack_from("<I", program, 4)
        return f"darwin/{MACH_O.get(machine, hex(machine))}"
    return f"unknown ({program[:4].hex()})"


for name in sys.argv[1:]:
    print(target(Path(name).read_bytes()))
