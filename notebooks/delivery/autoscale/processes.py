"""In the place of a scheduler and a kubelet: each pod that is made becomes a process here.

    processes = Processes(Api(kubeconfig), {"INFERD": "/usr/bin/inferd"}, directory for logs)

A pod gets an address of its own on loopback; its container's command runs there with $(POD_IP)
filled in, and what the mapping says. Its readinessProbe is asked over HTTP, and what came of it is
the pod's status. A pod that is deleted gets SIGTERM, and is gone once its process is. There are no
images, no limits and no network.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import itertools
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NODE = "processes"


class Api:
    """Asks the apiserver that a kubeconfig with a token names."""

    def __init__(self, config: Path) -> None:
        text = config.read_text()
        (self.host,) = re.findall(r'server: "https://(.+?)"', text)
        (self.token,) = re.findall(r"token: (\w+)", text)
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    def __call__(self, path: str, body: object = None, method: str = "", kind: str = "") -> Any:
        asked = urllib.request.Request(f"https://{self.host}{path}", method=method or None)
        asked.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            asked.data = json.dumps(body).encode()
            asked.add_header("Content-Type", kind or "application/json")
        with urllib.request.urlopen(asked, context=self._tls, timeout=30) as answer:  # noqa: S310 - https, see above
            return json.load(answer)

    def pods(self, selector: str = "") -> list[Any]:
        """Those of the namespace default."""
        listed = self(f"/api/v1/namespaces/default/pods?labelSelector={selector}")
        return list(listed["items"])


@dataclass
class Process:
    """What runs for one pod."""

    address: str
    running: subprocess.Popen[bytes]
    since: str
    restarts: int = 0
    ready: bool = False
    failures: int = 0  # of the probe, since it was ready last
    told: float = 0.0  # when it was told to end

    def signal(self, number: signal.Signals) -> None:
        """To what the command has started, too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running.pid, number)


class Processes:
    """Looks at the pods a few times a second, in a thread."""

    def __init__(self, api: Api, paths: dict[str, str], logs: Path) -> None:
        self._api, self._paths, self._logs = api, paths, logs
        self._of: dict[str, Process] = {}
        self._addresses = (f"127.78.1.{n}" for n in itertools.count(1))
        self._end = threading.Event()
        self.trouble: list[str] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """End them all."""
        self._end.set()
        self._thread.join()
        for process in self._of.values():
            process.signal(signal.SIGKILL)
            process.running.wait()
        self._of.clear()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            try:
                for pod in self._api.pods():
                    with refused(
                        404, 409
                    ):  # deleted meanwhile, or changed: seen anew in the next round
                        self._look(pod)
            except OSError as error:  # the apiserver is busy or ends
                self.trouble.append(str(error))

    def _look(self, pod: dict[str, Any]) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        place = f"/api/v1/namespaces/default/pods/{meta['name']}"
        process = self._of.get(meta["uid"])
        if "deletionTimestamp" in meta:
            if self._ended(process, spec["terminationGracePeriodSeconds"]):
                self._of.pop(meta["uid"], None)
                now = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
                self._api(place, now, "DELETE")
        elif "nodeName" not in spec:
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            binding = {"metadata": {"name": meta["name"]}, "target": target}
            self._api(f"{place}/binding", binding)
        elif process is None:
            process = self._started(pod, next(self._addresses))
            self._of[meta["uid"]] = process
            self._tell(place, spec, process)
        elif process.running.poll() is not None:
            again = self._started(pod, process.address)
            again.restarts = process.restarts + 1
            self._of[meta["uid"]] = again
            self._tell(place, spec, again)
        elif self._probed(spec["containers"][0], process):
            self._tell(place, spec, process)

    def _probed(self, container: dict[str, Any], process: Process) -> bool:
        """Whether that has changed it: ready at an answer, no longer at the third failure."""
        before = process.ready
        if answers(container, process.address):
            process.ready, process.failures = True, 0
        else:
            process.failures += 1
            process.ready = before and process.failures < 3
        return process.ready != before

    def _ended(self, process: Process | None, grace: float) -> bool:
        if process is None or process.running.poll() is not None:
            return True
        if not process.told:
            process.signal(signal.SIGTERM)
            process.told = time.monotonic()
        elif time.monotonic() - process.told > grace:
            process.signal(signal.SIGKILL)
        return False

    def _started(self, pod: dict[str, Any], address: str) -> Process:
        (container,) = pod["spec"]["containers"]
        words = [*container["command"], *container.get("args", [])]
        for name, value in {"$(POD_IP)": address, **self._paths}.items():
            words = [word.replace(name, value) for word in words]
        words = ["nice", "--adjustment=10", *words]  # what controls them goes before
        with (self._logs / f"{pod['metadata']['name']}.log").open("ab") as log:
            running = subprocess.Popen(
                words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        return Process(address, running, stamp())

    def _tell(self, place: str, spec: dict[str, Any], process: Process) -> None:
        (container,) = spec["containers"]
        ready = "True" if process.ready else "False"
        conditions = {"PodScheduled": "True", "Initialized": "True"}
        conditions |= {"ContainersReady": ready, "Ready": ready}
        now = stamp()
        state = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": process.ready,
            "started": True,
            "restartCount": process.restarts,
            "state": {"running": {"startedAt": process.since}},
        }
        status = {
            "phase": "Running",
            "podIP": process.address,
            "podIPs": [{"ip": process.address}],
            "startTime": process.since,
            "containerStatuses": [state],
            "conditions": [
                {"type": name, "status": value, "lastTransitionTime": now}
                for name, value in conditions.items()
            ],
        }
        merge = "application/strategic-merge-patch+json"
        self._api(f"{place}/status", {"status": status}, "PATCH", merge)


def answers(container: dict[str, Any], address: str) -> bool:
    """Whether its readinessProbe finds it ready."""
    asked = container["readinessProbe"]["httpGet"]
    port = asked["port"]
    try:
        with urllib.request.urlopen(f"http://{address}:{port}{asked['path']}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def refused(*codes: int) -> Iterator[None]:
    """These answers are taken for what they are."""
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code not in codes:
            raise


def stamp() -> str:
    """Now, as Kubernetes writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
