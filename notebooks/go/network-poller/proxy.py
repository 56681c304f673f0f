"""A module proxy on loopback with one module, so that the go command has something to fetch.

Prints its port, then serves until it is ended.
"""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAUSE = 0.02  # seconds before each answer, so that the client has to wait for the network


class Proxy(BaseHTTPRequestHandler):
    """Answers for the module example.com/m, versions v1.0.0 and v1.1.0."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(PAUSE)
        name = self.path.rsplit("/", 1)[1]
        if name == "list":
            body = "v1.0.0\nv1.1.0\n"
        elif name.endswith(".mod"):
            body = "module example.com/m\n"
        else:
            body = json.dumps(
                {"Version": name.removesuffix(".info"), "Time": "2024-01-01T00:00:00Z"}
            )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Keep the notebook's output free of requests."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
print(server.server_port, flush=True)
server.serve_forever()
