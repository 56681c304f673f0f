"""usage: hold.py NUMBER URL     holds so many connections at once, with a request on each

It prints how many were answered, and fails if one was not within 30 seconds.
"""

import contextlib
import resource
import socket
import sys
import time
from urllib.parse import urlsplit

WAIT = 30  # seconds for all answers


def main() -> int:
    number, url = int(sys.argv[1]), urlsplit(sys.argv[2])
    address = (url.hostname or "", url.port or 80)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    request = f"GET {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode()
    deadline = time.monotonic() + WAIT
    connections = [socket.create_connection(address, timeout=WAIT) for _ in range(number)]
    for connection in connections:
        connection.sendall(request)
    answered = 0
    for connection in connections:
        connection.settimeout(max(deadline - time.monotonic(), 0.01))
        with contextlib.suppress(OSError):  # it waits to be accepted, or was closed: no answer
            answered += connection.recv(12)[9:12] in {b"200", b"204"}
    print(f"{number} connections open at once, {answered} answered")
    return 0 if answered == number else 1


if __name__ == "__main__":
    sys.exit(main())
