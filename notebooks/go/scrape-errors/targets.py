"""Services that Prometheus can fetch metrics from, or not: targets.py PORT TLS-PORT PEM-FILE."""

import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

METRICS = "# TYPE shop_requests_total counter\nshop_requests_total 1\n"
MANY = "".join(f'shop_requests_total{{path="/{number}"}} 1\n' for number in range(50))


class Service(BaseHTTPRequestHandler):
    """Its paths are what is wrong with it."""

    def do_GET(self) -> None:
        status, kind, body = 200, "text/plain; version=0.0.4", METRICS
        match self.path:
            case "/slow":
                time.sleep(2)
            case "/many":
                body = MANY
            case "/login":
                kind, body = "text/html", "<html>Please log in</html>"
            case "/private":
                if self.headers["Authorization"] != "Bearer secret":
                    status, body = 401, ""
            case "/metrics":
                pass
            case _:
                status, body = 404, ""
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())
        except OSError:
            pass  # who asked has gone

    def log_message(self, *_: object) -> None:
        """Nothing: Prometheus says it."""


port, tls_port, certificate = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
plain = ThreadingHTTPServer(("127.0.0.1", port), Service)
secure = ThreadingHTTPServer(("127.0.0.1", tls_port), Service)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=secure.serve_forever, daemon=True).start()
print("ready", flush=True)
plain.serve_forever()
