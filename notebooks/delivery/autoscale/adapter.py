"""Serves figures of Prometheus as Kubernetes' metrics APIs, in the place of an adapter or of KEDA.

external.metrics.k8s.io has the queue: the sum of inferd_queue_requests over the pods of the app
that is asked for by label. metrics.k8s.io, which is Metrics Server's elsewhere, has each pod's CPU,
from its own counter. Nothing is made up: where Prometheus has no figure, the answer has none.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from processes import Api, stamp

EXTERNAL = "external.metrics.k8s.io/v1beta1"
RESOURCE = "metrics.k8s.io/v1beta1"
METRIC = "inferd_queue_requests"


class Prometheus:
    """Asks one by its HTTP API."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __call__(self, query: str) -> list[tuple[dict[str, str], float]]:
        asked = urllib.parse.urlencode({"query": query})
        url = f"http://{self._address}/api/v1/query?{asked}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found = json.load(answer)["data"]["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]


class Adapter:
    """Serves in a thread; :meth:`register` tells the apiserver where."""

    def __init__(self, prometheus: Prometheus, api: Api, host: str, work: Path) -> None:
        self._prometheus, self._api, self._host = prometheus, api, host
        certificate, key = work / "adapter.pem", work / "adapter.key"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=adapter",
        ]
        command += ["-days", "2", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        adapter = self

        class Asked(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                address = urllib.parse.urlsplit(self.path)
                selector = urllib.parse.parse_qs(address.query).get("labelSelector", [""])[0]
                found = adapter.answer(address.path, selector)
                body = json.dumps(found or {"kind": "Status", "code": 404}).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        server = ThreadingHTTPServer((host, 0), Asked)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        self._port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def register(self, served: str) -> None:
        """One of the two APIs: from now on the apiserver sends here what asks for it."""
        group, version = served.split("/")
        port = {"port": 443, "targetPort": self._port}
        meta = {"name": f"adapter-{group.split('.')[0]}"}
        to = {"type": "ExternalName", "externalName": self._host, "ports": [port]}
        service = {"metadata": meta, "spec": to}
        self._api("/api/v1/namespaces/default/services", service)
        spec = {
            "group": group,
            "version": version,
            "service": {"namespace": "default", "name": meta["name"], "port": self._port},
            "insecureSkipTLSVerify": True,  # loopback; elsewhere caBundle
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        }
        body = {"metadata": {"name": f"{version}.{group}"}, "spec": spec}
        self._api("/apis/apiregistration.k8s.io/v1/apiservices", body)

    def answer(self, path: str, selector: str) -> dict[str, Any] | None:
        """What is at a path; None if nothing is."""
        parts = path.strip("/").split("/")
        served = "/".join(parts[1:3])
        if served not in {EXTERNAL, RESOURCE}:
            return None
        match parts[3:]:
            case []:
                name = METRIC if served == EXTERNAL else "pods"
                kind = "ExternalMetricValueList" if served == EXTERNAL else "PodMetrics"
                verbs = {"name": name, "kind": kind, "namespaced": True, "verbs": ["get", "list"]}
                found = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": served}
                return found | {"resources": [verbs]}
            case ["namespaces", namespace, name] if served == EXTERNAL and name == METRIC:
                items = self._queue(namespace, selector)
                return listed("ExternalMetricValueList", EXTERNAL, items)
            case ["namespaces", namespace, "pods"] if served == RESOURCE:
                return listed("PodMetricsList", RESOURCE, self._cpu(namespace, selector))
        return None

    def _queue(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        query = f"sum({METRIC}{{{matchers(namespace, selector)}}})"
        return [
            {"metricName": METRIC, "metricLabels": {}, "timestamp": stamp(), "value": f"{value:g}"}
            for _, value in self._prometheus(query)
        ]

    def _cpu(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        query = f"rate(process_cpu_seconds_total{{{matchers(namespace, selector)}}}[10s])"
        return [self._pod(namespace, of, value) for of, value in self._prometheus(query)]

    @staticmethod
    def _pod(namespace: str, of: dict[str, str], cores: float) -> dict[str, Any]:
        usage = {"cpu": f"{cores * 1000:.0f}m", "memory": "0"}  # memory: nobody asks for it here
        meta = {"name": of["pod"], "namespace": namespace, "labels": {"app": of["app"]}}
        containers = [{"name": "inferd", "usage": usage}]
        return {"metadata": meta, "timestamp": stamp(), "window": "10s", "containers": containers}


def matchers(namespace: str, selector: str) -> str:
    """A selector such as app=inferd, for Prometheus."""
    pairs = {"namespace": namespace, **dict(one.split("=") for one in selector.split(",") if one)}
    return ", ".join(f'{name}="{value}"' for name, value in pairs.items())


def listed(kind: str, version: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """A list, as the API has it."""
    return {"kind": kind, "apiVersion": version, "metadata": {}, "items": items}
