"""In the place of a gateway: visitors who go where an HTTPRoute sends them, by its weights.

A route names Services; which pods are behind one is its selector's word. What finds no server is
tried again, as nginx does. A visitor waits for the answer, thinks for a moment, and asks again.
"""

from __future__ import annotations

import atexit
import collections
import http.client
import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

TENSOR = {"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": [32] * 2048}
QUESTION = json.dumps({"inputs": [TENSOR]})
ROUTES = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/default/httproutes"


class Visitors:
    """So many come to an app, until they are told to stop. ``pods`` gives those that are ready."""

    def __init__(
        self,
        api: Callable[[str], Any],
        pods: Callable[[], list[dict[str, Any]]],
        app: str,
        number: int,
    ) -> None:
        self._api, self._pods, self._app = api, pods, app
        self._lock = threading.Lock()
        self._weights: dict[str, int] = {}
        self._ready: dict[str, list[str]] = {}
        self._turn = itertools.count()
        self.told: collections.Counter[tuple[str, str]] = collections.Counter()  # by service
        self.weights: list[int] = []  # of the canary, each that there was
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._look, daemon=True)]
        self._threads += [threading.Thread(target=self._ask, daemon=True) for _ in range(number)]
        for thread in self._threads:
            thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """They leave when they have their answers."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.2):
            try:
                route = self._api(f"{ROUTES}/{self._app}")
                pods = self._pods()
                behind = route["spec"]["rules"][0]["backendRefs"]
                weights = {one["name"]: one["weight"] for one in behind}
                ready = {name: self._behind(name, pods) for name in weights}
            except OSError:  # the apiserver is busy
                continue
            canary = weights.get(f"{self._app}-canary", 0)
            with self._lock:
                self._weights, self._ready = weights, ready
                if self.weights[-1:] != [canary]:
                    self.weights.append(canary)

    def _behind(self, service: str, pods: list[dict[str, Any]]) -> list[str]:
        found = self._api(f"/api/v1/namespaces/default/services/{service}")
        wanted = found["spec"]["selector"].items()
        return [
            pod["status"]["podIP"] for pod in pods if wanted <= pod["metadata"]["labels"].items()
        ]

    def _ask(self) -> None:
        while not self._end.wait(0.3):
            for _ in range(5):
                with self._lock:
                    service = self._chosen()
                    addresses = self._ready.get(service, [])
                told = asked(addresses[0]) if addresses else "no pod is ready"
                if told.isdigit() or self._end.wait(0.3):
                    break
            if service:
                with self._lock:
                    self.told[service, told] += 1

    def _chosen(self) -> str:
        total = sum(self._weights.values())
        if not total:
            return ""
        place = next(self._turn) * 61 % total  # no two beside each other
        for service, weight in self._weights.items():
            if place < weight:
                return service
            place -= weight
        return ""


def asked(address: str) -> str:
    """One request, and what became of it."""
    connection = http.client.HTTPConnection(address, 8080, timeout=120)
    try:
        connection.request("POST", "/v2/models/magika/infer", QUESTION)
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()
