"""What CUDA's runtime says when it is asked for cards. It ends well if the driver was taken."""

import ctypes
import sys

NO_DEVICE = 100


def main() -> int:
    runtime = ctypes.CDLL(sys.argv[1])
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    count = ctypes.c_int()
    status: int = runtime.cudaGetDeviceCount(ctypes.byref(count))
    print(status, runtime.cudaGetErrorString(status).decode())
    return int(status not in (0, NO_DEVICE))


if __name__ == "__main__":
    sys.exit(main())
