"""Looks whether one thread goes on while another calls something: gil.py FILE runtime|held

runtime calls ONNX Runtime with the model of FILE; held sleeps in C and keeps Python's lock.
Only the second half of a call counts: around its ends either thread may have its turn.
"""

import ctypes
import sys
import threading
import time

import numpy as np
import onnx_model

ROWS = 128
CALLS = 3
NAP = 500_000  # microseconds
EVERY = 1000  # steps

model = onnx_model.OnnxModel("model", sys.argv[1])
rows = np.zeros((ROWS, model.takes), np.int32)
sleeps = ctypes.PyDLL(None).usleep
call = {"runtime": lambda: model.run(rows), "held": lambda: sleeps(NAP)}[sys.argv[2]]
ending = threading.Event()
moments: list[float] = []


def step() -> None:
    """Python code without end, and when it was at work."""
    while not ending.is_set():
        sum(range(EVERY))
        moments.append(time.monotonic())


thread = threading.Thread(target=step)
thread.start()
calls = []
for _ in range(CALLS):
    began = time.monotonic()
    call()
    calls.append((began, time.monotonic()))
ending.set()
thread.join()
went_on = sum(
    any((began + ended) / 2 < moment < ended - (ended - began) / 10 for moment in moments)
    for began, ended in calls
)
print(f"{sys.argv[2]}: in {went_on} of {CALLS} calls the other thread went on")
