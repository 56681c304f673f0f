"""People who ask a model server: each waits for the answer, then asks again.

They go to the pods that the apiserver calls ready, as kube-proxy would send them. So however slow
the machine is, there are as many requests under way as there are people.
"""

from __future__ import annotations

import atexit
import collections
import http.client
import json
import threading
from types import TracebackType
from typing import Any, Self

from processes import Api

ROWS = 4  # in a request: the model has more to do than who asks
HEAD = json.dumps(
    {
        "inputs": [
            {
                "name": "bytes",
                "datatype": "INT32",
                "shape": [ROWS, 2048],
                "parameters": {"binary_data_size": ROWS * 2048 * 4},
            }
        ]
    }
)
BODY = HEAD.encode() + (32).to_bytes(4, "little") * ROWS * 2048
HEADERS = {
    "Content-Type": "application/octet-stream",
    "Inference-Header-Content-Length": str(len(HEAD)),
}


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a Service would send requests to it."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


class People:
    """So many of them ask the pods of an app, until the block ends."""

    def __init__(self, api: Api, app: str, number: int) -> None:
        self._api, self._app = api, app
        self._ready: dict[str, str] = {}  # the pod of an address
        self._under_way: collections.Counter[str] = collections.Counter()
        self.answered: collections.Counter[str] = collections.Counter()  # by pod
        self.failed: collections.Counter[str] = collections.Counter()  # by what became of it
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._look, daemon=True)]
        self._threads += [threading.Thread(target=self._ask, daemon=True) for _ in range(number)]
        atexit.register(self._end.set)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.2):
            try:
                pods = self._api.pods(f"app={self._app}")
            except OSError:
                continue
            ready = [pod for pod in pods if is_ready(pod)]
            with self._lock:
                self._ready = {pod["status"]["podIP"]: pod["metadata"]["name"] for pod in ready}

    def _ask(self) -> None:
        while not self._end.is_set():
            with self._lock:
                address = min(self._ready, key=lambda one: self._under_way[one], default="")
                pod = self._ready.get(address, "")
                self._under_way[address] += 1
            told = asked(address) if address else "no pod is ready"
            with self._lock:
                self._under_way[address] -= 1
                if told == "200":
                    self.answered[pod] += 1
                else:
                    self.failed[told] += 1
            if told != "200":
                self._end.wait(0.2)


def asked(address: str) -> str:
    """One request, and what became of it."""
    connection = http.client.HTTPConnection(address, 8080, timeout=120)
    try:
        connection.request("POST", "/v2/models/magika/infer", BODY, HEADERS)
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)
    except OSError as error:
        return type(error).__name__
    except http.client.HTTPException as error:
        return type(error).__name__
    finally:
        connection.close()
