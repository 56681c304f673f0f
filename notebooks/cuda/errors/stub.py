"""What the driver's library that the loader finds answers to its own API."""

import ctypes

cuda = ctypes.CDLL("libcuda.so.1")
text, version = ctypes.c_char_p(), ctypes.c_int(-1)
print(f"cuInit: {cuda.cuInit(0)}")
print(f"cuDriverGetVersion: {cuda.cuDriverGetVersion(ctypes.byref(version))}, {version.value}")
print(f"cuGetErrorString of 34: {cuda.cuGetErrorString(34, ctypes.byref(text))}, {text.value!r}")
