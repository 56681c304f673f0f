"""usage: job.py PORT     a job's metrics, for Prometheus to scrape; a POST has it save"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Job(BaseHTTPRequestHandler):
    """How often it has saved, and when, by the system's clock."""

    saves = 0
    when = 0.0

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self) -> None:
        lines = [f"job_saves_total {Job.saves}", f"job_last_save_timestamp_seconds {Job.when:.3f}"]
        self.answer("".join(f"{line}\n" for line in lines))

    def do_POST(self) -> None:
        Job.saves += 1
        Job.when = time.time()
        self.answer("saved\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nothing: what counts is what Prometheus says."""


HTTPServer(("127.0.0.1", int(sys.argv[1])), Job).serve_forever()
