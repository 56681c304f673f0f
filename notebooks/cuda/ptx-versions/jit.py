"""A kernel compiled by one release's NVRTC and linked by another's nvJitLink, through ctypes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KERNEL = b'extern "C" __global__ void seven(int *place) { *place = 7; }'
PTX = 2  # of nvJitLinkInputType


@dataclass(frozen=True)
class Outcome:
    """What linking came to."""

    status: int
    log: str


def compiled(nvrtc: Path, architecture: int) -> bytes:
    """The PTX of the kernel."""
    library = ctypes.CDLL(str(nvrtc))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture=compute_{architecture}".encode())
    _check(library.nvrtcCreateProgram(ctypes.byref(program), KERNEL, b"seven.cu", 0, None, None))
    _check(library.nvrtcCompileProgram(program, 1, options))
    _check(library.nvrtcGetPTXSize(program, ctypes.byref(size)))
    code = ctypes.create_string_buffer(size.value)
    _check(library.nvrtcGetPTX(program, code))
    return code.raw


def linked(nvjitlink: Path, code: bytes, architecture: int) -> Outcome:
    """What nvJitLink says of the code."""
    library = ctypes.CDLL(str(nvjitlink))

    def call(name: str) -> Any:
        """Its functions carry a version; the newest that it has is the one of its header."""
        for minor in range(9, -1, -1):
            if hasattr(library, f"__nvJitLink{name}_12_{minor}"):
                return getattr(library, f"__nvJitLink{name}_12_{minor}")
        return getattr(library, f"nvJitLink{name}")

    handle, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = (ctypes.c_char_p * 1)(f"-arch=sm_{architecture}".encode())
    _check(call("Create")(ctypes.byref(handle), 1, options))
    length = ctypes.c_size_t(len(code))
    status = call("AddData")(handle, PTX, code, length, b"seven")
    status = status or call("Complete")(handle)
    _check(call("GetErrorLogSize")(handle, ctypes.byref(size)))
    log = ctypes.create_string_buffer(size.value + 1)
    _check(call("GetErrorLog")(handle, log))
    return Outcome(status, log.value.decode(errors="replace").strip())


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"the compiler's library answered {status}")
