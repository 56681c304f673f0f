"""Takes the place of a command that talks to the running system, while a step is rehearsed.

It passes on what it was called with to :mod:`kb.runtime.rehearsal`, outside, and does what that
answers. It is a program by itself, and imports nothing of this package.
"""

import base64
import json
import os
import socket
import sys


def main() -> int:
    """Ask, print what comes back, and end with its status."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(os.environ["KB_REHEARSAL"])
        call = {"command": os.path.basename(sys.argv[0]), "arguments": sys.argv[1:]}  # noqa: PTH119
        asked.sendall(json.dumps(call).encode() + b"\n")
        answer = json.loads(b"".join(iter(lambda: asked.recv(1 << 16), b"")) or b"{}")
    if not answer:
        return 1
    if "run" in answer:
        os.execv(answer["run"], sys.argv)  # noqa: S606
    out = base64.b64decode(answer["out"])
    if answer["file"]:
        with open(answer["file"], "wb") as file:  # noqa: PTH123
            file.write(out)
    else:
        sys.stdout.buffer.write(out)
    sys.stderr.write(answer["error"])
    return int(answer["status"])


if __name__ == "__main__":
    sys.exit(main())
