"""Serves a built site on the loopback interface, with what keeps an open page up to date.

Only here does a page get the script that asks for newer results: a site that is published asks for
nothing.
"""

from __future__ import annotations

import functools
import http.server
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

LIVE = Path(__file__).with_name("live.js")


class Server(http.server.ThreadingHTTPServer):
    """Serves a directory that other editions take the place of."""

    daemon_threads = True
    # A page asks for all that it is made of at once. What finds no place in the queue asks again
    # after one second, three, seven: socketserver's 5 are too few while the machine is busy.
    request_queue_size = 128

    def __init__(self, directory: Path, port: int) -> None:
        handler = functools.partial(Handler, directory=str(directory))
        super().__init__(("127.0.0.1", port), handler)
        self.edition = str(time.time_ns())
        self.lock = threading.Lock()

    def publish(self, swap: Callable[[], None]) -> None:
        """Lets ``swap`` put another edition in place; open pages hear of it."""
        with self.lock:
            swap()
            self.edition = str(time.time_ns())

    def handle_error(self, request: object, client_address: object) -> None:
        # A browser that goes away in the middle of an answer is no news.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(http.server.SimpleHTTPRequestHandler):
    """The site's files; its own page for what is not there; no line for each request."""

    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def end_headers(self) -> None:
        # Whatever a browser has, it asks again: the site may be another one by now.
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def do_GET(self) -> None:
        if not self._answered():
            super().do_GET()

    def do_HEAD(self) -> None:
        if not self._answered():
            super().do_HEAD()

    def _answered(self) -> bool:
        """Answers by itself what is more than a file of the site."""
        path = self.path.partition("?")[0]
        if path == "/kb-live/edition":
            self._send("text/plain", self.server.edition.encode())
        elif path == "/kb-live/live.js":
            self._send("text/javascript", LIVE.read_bytes())
        elif (
            path.endswith("/") and (page := Path(self.translate_path(path), "index.html")).is_file()
        ):
            self._send_page(page)
        else:
            return False
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        page = Path(self.directory, "404.html")
        if code == HTTPStatus.NOT_FOUND and page.is_file():
            self._send_page(page, HTTPStatus.NOT_FOUND)
        else:
            super().send_error(code, message, explain)

    def _send_page(self, page: Path, status: HTTPStatus = HTTPStatus.OK) -> None:
        with self.server.lock:
            content, edition = page.read_bytes(), self.server.edition
        script = f'<script src="/kb-live/live.js" data-edition="{edition}"></script>'
        self._send("text/html", content + script.encode(), status)

    def _send(self, kind: str, body: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
