"""What a runtime says with the driver's library that the loader finds, as JSON."""

import ctypes
import json
import sys


def main() -> None:
    runtime = ctypes.CDLL(sys.argv[1])
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    said = {}
    for name in ("cudaRuntimeGetVersion", "cudaDriverGetVersion", "cudaGetDeviceCount"):
        number = ctypes.c_int()
        status = getattr(runtime, name)(ctypes.byref(number))
        said[name] = {
            "status": status,
            "number": number.value,
            "text": runtime.cudaGetErrorString(status).decode(),
        }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
