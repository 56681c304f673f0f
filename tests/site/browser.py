"""A built site in a real browser: a server on loopback, and headless Chromium from the system."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serves a directory and gives its URL, with a slash at the end."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def launched(playwright: Playwright) -> Browser:
    """Starts the Chromium that `make test` found, else the system's, else playwright's own."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or None
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


@dataclass
class Manners:
    """What a page must not do, with what it did."""

    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def watch(self, page: Page, url: str) -> None:
        def requested(request: Request) -> None:
            if not request.url.startswith((url, "data:", "blob:")):
                self.elsewhere.append(request.url)

        page.on("request", requested)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self.console)
        page.on("dialog", lambda dialog: self.errors.append(dialog.message))

    def console(self, message: ConsoleMessage) -> None:
        # Chromium asks for an icon where a file is opened by itself.
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            self.errors.append(message.text)
