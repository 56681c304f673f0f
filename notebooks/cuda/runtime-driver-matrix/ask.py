"""What runtimes say with the driver's library that the loader finds: a line of JSON for each.

Each is asked in a process of its own, since one runtime would change what the next
one says. It is a fork, so that Python starts once.
"""

import ctypes
import json
import os
import sys


def ask(path: str) -> None:
    runtime = ctypes.CDLL(path)
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
    print(json.dumps(said), flush=True)


def main() -> int:
    for path in sys.argv[1:]:
        child = os.fork()
        if not child:
            try:
                ask(path)
            except (OSError, AttributeError) as error:
                print(f"{path} cannot be asked: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            print(f"{path}: its process ended with {status}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
