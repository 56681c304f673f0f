"""Reads the list of glibc's symbols that Zig carries (lib/libc/glibc/abilists).

Zig makes it from the .abilist files of every glibc release, against which glibc tests that no
release takes a symbol away: for each function, the versions under which a library offers it.
"""

from __future__ import annotations

from pathlib import Path

LAST = 0x80  # marks the last inclusion of a symbol, and the last version of an inclusion


def functions(path: Path, machine: str) -> tuple[dict[str, set[str]], list[str]]:
    """The versions of each function on a machine such as x86_64, and all versions there are."""
    data = path.read_bytes()
    at = 0

    def byte() -> int:
        nonlocal at
        at += 1
        return data[at - 1]

    def text() -> str:
        nonlocal at
        start, at = at, data.index(0, at) + 1
        return data[start : at - 1].decode()

    def number() -> int:  # LEB128
        value = shift = 0
        while True:
            part = byte()
            value |= (part & 0x7F) << shift
            shift += 7
            if not part & LAST:
                return value

    for _ in range(byte()):
        text()  # the names of the libraries
    triples = [(byte(), byte(), byte()) for _ in range(byte())]
    versions = [f"{a}.{b}.{c}" if c else f"{a}.{b}" for a, b, c in triples]
    bit = 1 << [text() for _ in range(byte())].index(f"{machine}-linux-gnu")
    found: dict[str, set[str]] = {}
    name = ""
    for _ in range(byte() | byte() << 8):
        name = name or text()
        here = number() & bit
        last = byte() & LAST
        while True:
            version = byte()
            if here:
                found.setdefault(name, set()).add(versions[version & 0x7F])
            if version & LAST:
                break
        if last:
            name = ""
    return found, versions
