"""What delivers: a git server, Flux's controllers, and what says of pods that they are ready.

All on loopback, as plain processes and threads, which end with the interpreter. The programs are
found on PATH, and the cluster by KUBECONFIG.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import ssl
import subprocess
import threading
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = "127.78.0.1"
PORTS = {"source-controller": 9440, "kustomize-controller": 9441}
ARTIFACTS = f"{HERE}:9090"


class GitServer:
    """Serves a directory of bare repositories over HTTP, by git's own http-backend."""

    def __init__(self, repositories: Path, port: int = 8090) -> None:
        self._port = port
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(repositories),
            "GIT_HTTP_EXPORT_ALL": "",
        }

        class Asked(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = {
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                }
                told = subprocess.run(
                    ["git", "http-backend"],
                    input=body,
                    capture_output=True,
                    check=True,
                    env=environment | asked,
                ).stdout
                head, _, content = told.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                self.send_response(int(headers.pop("Status", "200").split()[0]))
                for name, value in (headers | {"Content-Length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self._handler = Asked
        self.start()

    def start(self) -> None:
        """Answer."""
        self._server = ThreadingHTTPServer((HERE, self._port), self._handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections are refused from now on."""
        self._server.shutdown()
        self._server.server_close()


class Flux:
    """Flux's controllers, outside the cluster that they work on."""

    def __init__(self, built: Path, work: Path, gates: str) -> None:
        self._programs, self._work = built / "bin", work
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        atexit.register(self.close)
        (work / "artifacts").mkdir()
        for arguments in (
            ["apply", "--server-side", f"--filename={built / 'crds'}"],
            ["create", "namespace", "flux-system"],
            ["wait", "crd", "--all", "--for=condition=Established", "--timeout=60s"],
        ):
            done = subprocess.run(
                ["kubectl", *arguments], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"kubectl {arguments[0]} has failed: {done.stderr}")
        storage = f"--storage-path={work / 'artifacts'}"
        self.start(
            "source-controller",
            storage,
            f"--storage-addr={ARTIFACTS}",
            f"--storage-adv-addr={ARTIFACTS}",
        )
        self.start("kustomize-controller", f"--feature-gates={gates}")

    def start(self, name: str, *arguments: str) -> None:
        """Start one, and wait until it is ready."""
        health = f"{HERE}:{PORTS[name]}"
        command = [
            str(self._programs / name),
            f"--health-addr={health}",
            "--metrics-addr=0",
            *arguments,
        ]
        environment = os.environ | {"TMPDIR": str(self._work), "RUNTIME_NAMESPACE": "flux-system"}
        with (self._work / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._processes[name] = process
        deadline = time.monotonic() + 120
        while not _answers(health):
            if process.poll() is not None or time.monotonic() > deadline:
                said = (self._work / f"{name}.log").read_text().splitlines()[-1:]
                raise RuntimeError(f"{name} is not ready: {''.join(said)}")
            time.sleep(0.1)

    def restart(self, name: str, *arguments: str) -> None:
        """End one as a cluster does, and start it again with other arguments."""
        process = self._processes.pop(name)
        process.terminate()
        process.wait(timeout=120)
        self.start(name, *arguments)

    def close(self) -> None:
        """End them."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._processes.clear()


class Nodes:
    """There are none. This says of each pod what a kubelet would: ready, or `ImagePullBackOff`."""

    def __init__(self) -> None:
        config = Path(os.environ["KUBECONFIG"]).read_text()
        server, token = (re.search(f'{key}: "?([^",}}]+)', config) for key in ("server", "token"))
        if not server or not token:
            raise RuntimeError("the file that KUBECONFIG names has no server or no token")
        self._server, self._token = urlsplit(server[1]).netloc, token[1]
        threading.Thread(target=self._forever, daemon=True).start()

    def _forever(self) -> None:
        while True:
            try:
                for pod in self._ask("/api/v1/pods")["items"]:
                    status = _status(pod)
                    if status["conditions"][0]["status"] != _ready(pod):
                        there = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods"
                        self._ask(f"{there}/{pod['metadata']['name']}/status", {"status": status})
            except (OSError, HTTPException, KeyError):  # the cluster is not there yet, or no longer
                pass
            time.sleep(0.3)

    def _ask(self, path: str, patch: dict[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"}
        headers["Content-Type"] = "application/strategic-merge-patch+json"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # its certificate is its own, made a moment ago
        context.verify_mode = ssl.CERT_NONE
        with closing(HTTPSConnection(self._server, timeout=30, context=context)) as asked:
            body = json.dumps(patch) if patch else None
            asked.request("PATCH" if patch else "GET", path, body, headers)
            return json.load(asked.getresponse())


def _status(pod: dict[str, Any]) -> dict[str, Any]:
    image = pod["spec"]["containers"][0]["image"]
    ready = "broken" not in image
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now}
    state = (
        {"running": {"startedAt": now}} if ready else {"waiting": {"reason": "ImagePullBackOff"}}
    )
    container = {"name": "inferd", "image": image, "imageID": "", "ready": ready}
    container |= {"restartCount": 0, "state": state}
    phase = "Running" if ready else "Pending"
    return {"phase": phase, "conditions": [condition], "containerStatuses": [container]}


def _ready(pod: dict[str, Any]) -> str:
    conditions = pod["status"].get("conditions", [])
    return next((each["status"] for each in conditions if each["type"] == "Ready"), "")


def _answers(address: str) -> bool:
    with closing(HTTPConnection(address, timeout=5)) as asked:
        try:
            asked.request("GET", "/readyz")
            return asked.getresponse().status == 200
        except OSError:
            return False
