"""Opens a communicator of NCCL for one card, and says what NCCL says of it."""

import ctypes
import sys


def main() -> int:
    nccl = ctypes.CDLL(sys.argv[1])
    for name in ("ncclGetErrorString", "ncclGetLastError"):
        getattr(nccl, name).restype = ctypes.c_char_p
    communicator, cards = ctypes.c_void_p(), (ctypes.c_int * 1)(0)
    status: int = nccl.ncclCommInitAll(ctypes.byref(communicator), 1, cards)
    print(nccl.ncclGetErrorString(status).decode(), flush=True)
    print(f"ncclGetLastError: {nccl.ncclGetLastError(None).decode()}")
    return status


if __name__ == "__main__":
    sys.exit(main())
