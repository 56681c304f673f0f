"""Takes watches or memory maps until the kernel refuses: until.py watches DIRECTORY | until.py maps

Watches the files of the directory, one after the other, or maps single pages. Prints how many there
were, and the name of the error.
"""

import ctypes
import errno
import os
import sys
from pathlib import Path

IN_MODIFY, PRIVATE_AND_ANONYMOUS = 2, 0x22
FAILED = ctypes.c_void_p(-1).value

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p


def watches(directory: str) -> int:
    """How many files could be watched."""
    paths = sorted(Path(directory).iterdir())
    inotify = libc.inotify_init1(0)
    for taken, path in enumerate(paths):
        if libc.inotify_add_watch(inotify, os.fsencode(path), IN_MODIFY) < 0:
            return taken
    sys.exit(f"{len(paths)} watches, and none refused")


def maps() -> int:
    """How many maps this process could have. Neighbours have different rights, or they were one."""
    taken = len(Path("/proc/self/maps").read_text().splitlines())
    while libc.mmap(None, 4096, taken % 2, PRIVATE_AND_ANONYMOUS, -1, 0) != FAILED:
        taken += 1
    return taken


number = watches(sys.argv[2]) if sys.argv[1] == "watches" else maps()
print(number, sys.argv[1], "then", errno.errorcode[ctypes.get_errno()])
