"""A server that a launcher starts: server.py PORT DIRECTORY

PORT is a number, or "own" for one of each process. It ends when two of them listen.
"""

import os
import socket
import sys
import time
from pathlib import Path

port, directory = sys.argv[1], Path(sys.argv[2])
process = int(os.environ["LOCAL_RANK"])
with socket.create_server(("127.78.1.1", 8000 + process if port == "own" else int(port))):
    (directory / f"listens-{process}").touch()
    deadline = time.monotonic() + 120
    while len(list(directory.glob("listens-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
