"""A registry that is there and cannot: answers_500.py HOST:PORT"""

import http.server
import sys


class Broken(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    do_HEAD = do_GET  # noqa: N815 - http.server looks for this name


if __name__ == "__main__":
    host, _, port = sys.argv[1].partition(":")
    http.server.HTTPServer((host, int(port)), Broken).serve_forever()
