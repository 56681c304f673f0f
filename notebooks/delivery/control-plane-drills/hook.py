"""An admission webhook on loopback, which refuses a pod that has the label breaks=rule."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from authority import Authority

HOST, PORT = "127.78.0.1", 9443
PODS = {"apiGroups": [""], "resources": ["pods"], "operations": ["CREATE"]}
ALL = {"apiGroups": ["*"], "resources": ["*/*"], "operations": ["*"]}


class Asked(BaseHTTPRequestHandler):
    """An AdmissionReview comes in, and goes back with its answer."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        labels = ((request.get("object") or {}).get("metadata") or {}).get("labels") or {}
        answer = {"uid": request["uid"], "allowed": labels.get("breaks") != "rule"}
        if not answer["allowed"]:
            answer["status"] = {"message": "it breaks the rule"}
        review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}
        body = json.dumps(review | {"response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Hook:
    """A server that is started and stopped as often as one likes."""

    def __init__(self, work: Path) -> None:
        self._work = work / "hook"
        self._work.mkdir()
        self._authority = Authority(self._work, "hook")
        self._authority.issue(-1, 24, HOST)
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """From now on it answers."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self._work / "serving.crt", self._work / "serving.key")
        self._server = ThreadingHTTPServer((HOST, PORT), Asked)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """From now on the connection is refused."""
        assert self._server
        self._server.shutdown()
        self._server.server_close()

    def configuration(self, policy: str, rule: dict[str, Any]) -> str:
        """What tells the apiserver of it."""
        trusted = base64.b64encode(self._authority.certificate.read_bytes()).decode()
        webhook = {
            "name": "rule.example.org",
            "clientConfig": {"url": f"https://{HOST}:{PORT}/", "caBundle": trusted},
            "rules": [rule | {"apiVersions": ["*"]}],
            "failurePolicy": policy,
            "timeoutSeconds": 2,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1"}
        kind["kind"] = "ValidatingWebhookConfiguration"
        return json.dumps(kind | {"metadata": {"name": "rule"}, "webhooks": [webhook]})
