"""The libraries that a program for Windows names: imports.py FILE"""

import struct
import sys
from pathlib import Path

ARM64 = 0xAA64

data = Path(sys.argv[1]).read_bytes()
header = struct.unpack_from("<I", data, 0x3C)[0]
if data[header : header + 4] != b"PE\0\0":
    sys.exit(f"{sys.argv[1]} is no program for Windows: give one that was built with GOOS=windows")
machine, count = struct.unpack_from("<HH", data, header + 4)
options = header + 24
sections = options + struct.unpack_from("<H", data, header + 20)[0]


def at(address: int) -> int:
    """Where in the file the address lies that it has in memory."""
    for number in range(count):
        size, begin, raw_size, raw = struct.unpack_from("<IIII", data, sections + 40 * number + 8)
        if begin <= address < begin + max(size, raw_size):
            return int(raw + address - begin)
    sys.exit(f"{sys.argv[1]} names an address that is in no section: build it anew")


print("for ARM64" if machine == ARM64 else f"for machine {machine:#x}")
entry = at(struct.unpack_from("<I", data, options + 120)[0])
while (name := struct.unpack_from("<I", data, entry + 12)[0]) != 0:
    begin = at(name)
    print("names", data[begin : data.index(b"\0", begin)].decode())
    entry += 20
