"""Does Python run while a thread waits in C?  behind_c.py CDLL|PyDLL

One thread waits in read() of C, for a byte that only another thread of Python can send. CDLL gives
the lock away for the call, as bindings do that wait for a stream; PyDLL keeps it. A process that is
stuck so ends by the alarm.
"""

import ctypes
import os
import signal
import sys
import threading

signal.signal(signal.SIGALRM, signal.SIG_DFL)
signal.alarm(int(sys.argv[2]))
library = getattr(ctypes, sys.argv[1])(None)
reader, writer = os.pipe()
waits = threading.Event()


def wait() -> None:
    byte = ctypes.create_string_buffer(1)
    waits.set()
    library.read(reader, byte, 1)


thread = threading.Thread(target=wait)
thread.start()
waits.wait()
os.write(writer, b"1")
thread.join()
print("Python went on while C waited")
