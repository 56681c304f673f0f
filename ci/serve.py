"""Serves the built site on the loopback interface.

usage: ci/serve.py [--check] DIRECTORY PORT

With --check it only finds out whether the port is free.
"""

import argparse
import errno
import functools
import http.server
import sys
from pathlib import Path


class Handler(http.server.SimpleHTTPRequestHandler):
    """Static files; the site's own page for what is not there; no line for each request."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        page = Path(self.directory, "404.html")
        if code != http.HTTPStatus.NOT_FOUND or not page.is_file():
            super().send_error(code, message, explain)
            return
        body = page.read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("directory", type=Path)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    handler = functools.partial(Handler, directory=str(options.directory))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        print(
            f"error: Port {options.port} of 127.0.0.1 is taken: stop what listens there, "
            f"or choose another one (make site PORT={options.port + 1}).",
            file=sys.stderr,
        )
        return 1
    with server:
        if not options.check:
            print(f"== http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)", file=sys.stderr)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
