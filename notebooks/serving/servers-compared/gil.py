"""Looks whether one thread goes on while another calls something: gil.py FILE runtime|held

runtime calls ONNX Runtime with the model of FILE; held waits in C and keeps Python's lock. Around
the ends of a call either thread may have its turn, so of a run of the model the second half counts,
and of the other call what lies between two stamps that are made within it.
"""

import ctypes
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx_model

ROWS = 128
CALLS = 3
EVERY = 1000  # steps

model = onnx_model.OnnxModel("model", sys.argv[1])
rows = np.zeros((ROWS, model.takes), np.int32)
keeps_the_lock = ctypes.PyDLL(None)  # CDLL lets it go, PyDLL does not
ending = threading.Event()
moments: list[float] = []


def step() -> None:
    """Python code without end, and when it was at work."""
    while not ending.is_set():
        sum(range(EVERY))
        moments.append(time.time())


def runtime() -> tuple[float, float]:
    """Runs the model; the second half of it."""
    began = time.time()
    model.run(rows)
    ended = time.time()
    return (began + ended) / 2, ended


def held() -> tuple[float, float]:
    """Waits in C; from stamp to stamp."""
    with tempfile.NamedTemporaryFile() as file:
        stamp = f"date +%s.%N >>{file.name}"
        keeps_the_lock.system(f"{stamp}; sleep 0.5; {stamp}".encode())
        began, ended = map(float, Path(file.name).read_text(encoding="ascii").split())
    return began, ended


call = {"runtime": runtime, "held": held}[sys.argv[2]]
thread = threading.Thread(target=step)
thread.start()
windows = [call() for _ in range(CALLS)]
ending.set()
thread.join()
went_on = sum(any(began < moment < ended for moment in moments) for began, ended in windows)
print(f"{sys.argv[2]}: in {went_on} of {CALLS} calls the other thread went on")
