"""Two loops that are bound to one core: pinned.py

The first does nothing but look whether the second has written a byte.
"""

import mmap
import os
import time

shared = mmap.mmap(-1, 1)
core = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {core})  # the child inherits it
if not (child := os.fork()):
    shared[0] = 1
    os._exit(0)
deadline = time.monotonic() + 60
while not shared[0] and time.monotonic() < deadline:
    pass
print("bound to one core, the other went on" if shared[0] else "the other never ran")
os.waitpid(child, 0)
