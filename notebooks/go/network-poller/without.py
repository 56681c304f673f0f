"""usage: without.py NUMBER PROGRAM...     runs it where the kernel lacks the system call NUMBER

A seccomp filter answers that one with ENOSYS. The others are not slowed down as by a tracer.
"""

import ctypes
import os
import struct
import sys

NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2
REFUSE, ALLOW = 0x00050000 | 38, 0x7FFF0000  # with ENOSYS
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06

number, *program = sys.argv[1:]
lines = [
    (LOAD, 0, 0, 0),  # the call's number
    (JUMP_IF_EQUAL, 0, 1, int(number)),
    (RETURN, 0, 0, REFUSE),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
filter_ = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, FILTER, filter_):
    sys.exit(f"the kernel takes no filter: {os.strerror(ctypes.get_errno())}")
os.execv(program[0], program)  # noqa: S606 - the caller's own words, and no shell
