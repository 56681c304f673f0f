"""Counts the connections that servers hold at the same time, each with a limit of open files.

usage: hold.py CONNECTIONS NAME=FILES...

A NAME is net/http or fasthttp, which the program CONNECTIONS serves with, or threads: the server of
Python's library that has a thread for each connection, which Flask's own is made of. On each
connection something is asked, and none is closed, until a server has no file left for one more.
Then one is closed. For each NAME a line says how many were answered, and whether the server takes
the one that waits, or ends.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE = 120  # seconds; a busy machine starts a process slowly

THREADS = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *said):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int) -> socket.socket:
    """A connection on which something was asked. A server that was just started may not listen."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                sys.exit(f"hold.py: nothing listens at port {port} after {DEADLINE} s")
            time.sleep(0.02)
            continue
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        return client


def files(process: subprocess.Popen[bytes]) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def answer(client: socket.socket, never: Callable[[], bool]) -> bool:
    """Whether an answer comes, and not the connection's end, nor what says that none will."""
    end = time.monotonic() + DEADLINE
    while not select.select([client], [], [], 0.01)[0]:
        if never():
            return False
        if time.monotonic() > end:
            sys.exit(f"hold.py: no answer in {DEADLINE} s, though there are files left")
    try:
        return client.recv(4096).startswith(b"HTTP/1.1 200")
    except ConnectionResetError:
        return False


def held(words: list[str], port: int, limit: int) -> tuple[int, str]:
    """How many connections a server answers on with so many files, and what it does then."""
    alone = ["prlimit", f"--nofile={limit}:{limit}", *words]
    process = subprocess.Popen(alone, stderr=subprocess.DEVNULL)
    clients: list[socket.socket] = []
    others = limit  # files that the server has besides its connections

    def full() -> bool:
        return others + len(clients) >= limit <= files(process)

    try:
        while answer(client := ask(port), full):
            clients.append(client)
            others = files(process) - len(clients)
        count = len(clients)
        clients.pop().close()
        return count, "goes on" if answer(client, lambda: process.poll() is not None) else "ends"
    finally:
        for each in clients:
            each.close()
        process.kill()
        process.wait()


def main(connections: str, *servers: str) -> None:
    for server in servers:
        name, _, limit = server.partition("=")
        port = free()
        words = [connections, name, f"127.0.0.1:{port}"]
        if name == "threads":
            words = [sys.executable, "-I", "-c", THREADS, str(port)]
        count, then = held(words, port, int(limit))
        print(f"{name} with {limit} files: {count} connections, and {then}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
