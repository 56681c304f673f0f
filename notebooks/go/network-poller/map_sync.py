"""map_sync.py KIND=DEVICE...: can files of a new file system be mapped, and with MAP_SYNC?"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

SHARED, VALIDATE, SYNC, READ = 1, 3, 0x80000, 1
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]

for argument in sys.argv[1:]:
    kind, device = argument.split("=")
    place = Path("/mnt", kind)
    place.mkdir()
    subprocess.run(["mkfs", "-t", kind, "-q", device], check=True)
    subprocess.run(["mount", "-t", kind, device, place], check=True)
    with (place / "file").open("wb+") as file:
        file.truncate(4096)
        for name, flags in (("shared", SHARED), ("MAP_SYNC", VALIDATE | SYNC)):
            mapping = libc.mmap(None, 4096, READ, flags, file.fileno(), 0)
            failed = mapping == ctypes.c_void_p(-1).value
            print(kind, name, os.strerror(ctypes.get_errno()) if failed else "taken", flush=True)
