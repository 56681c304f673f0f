"""In the place of kubelets: the entries of nodes, which take each pod that a scheduler gives them.

    nodes = Nodes(Api(kubeconfig))  # autoscale/processes.py
    nodes.add("gpu-1", {"cpu": "8", "nvidia.com/gpu": "4"})

A node renews its lease. A pod on it is Running at once, and Ready unless its label says ready=no;
one that is to go is gone at once. No container runs, and no device is there.
"""

from __future__ import annotations

import atexit
import datetime
import threading
import time
from collections.abc import Mapping
from typing import Any

from processes import Api, refused, stamp  # type: ignore[import-not-found] # autoscale/processes.py

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/strategic-merge-patch+json"
RENEWED = 5.0  # seconds; the controller-manager waits for 50


class Nodes:
    """Looks at the pods a few times a second, in a thread."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._names: list[str] = []
        self._renewed = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def add(
        self,
        name: str,
        has: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        taints: list[dict[str, str]] | None = None,
    ) -> None:
        """Register one, as a kubelet does that is not ready yet."""
        described = {"kubernetes.io/hostname": name, **(labels or {})}
        self._api(
            "/api/v1/nodes",
            {
                "metadata": {"name": name, "labels": described},
                "spec": {"taints": taints or []},
                "status": status(has, ready=False),
            },
        )
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": moment()}
        self._api(LEASES, {"metadata": {"name": name}, "spec": spec})
        self._names.append(name)

    def tell(self, name: str, has: Mapping[str, str], *, ready: bool = True) -> None:
        """What the node says of itself from now on."""
        self._api(f"/api/v1/nodes/{name}/status", {"status": status(has, ready)}, "PATCH", MERGE)

    def close(self) -> None:
        """Leave them alone."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            try:
                self._renew()
                for pod in self._api.pods():
                    if pod["spec"].get("nodeName") in self._names:
                        with refused(404, 409):  # gone or changed meanwhile: seen in the next round
                            self._look(pod)
            except OSError:  # the apiserver is busy or ends
                continue

    def _renew(self) -> None:
        if time.monotonic() - self._renewed > RENEWED:
            for name in self._names:
                renewed = {"spec": {"renewTime": moment()}}
                self._api(f"{LEASES}/{name}", renewed, "PATCH", MERGE)
            self._renewed = time.monotonic()

    def _look(self, pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        place = f"{PODS}/{meta['name']}"
        if "deletionTimestamp" in meta:
            now = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
            self._api(place, now, "DELETE")
        elif pod["status"]["phase"] == "Pending":
            ready = "False" if meta.get("labels", {}).get("ready") == "no" else "True"
            conditions = [
                {"type": kind, "status": value, "lastTransitionTime": stamp()}
                for kind, value in {"ContainersReady": ready, "Ready": ready}.items()
            ]
            told: dict[str, Any] = {
                "phase": "Running",
                "startTime": stamp(),
                "conditions": conditions,
            }
            told["containerStatuses"] = [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready == "True",
                    "restartCount": 0,
                    "state": {"running": {"startedAt": stamp()}},
                }
                for container in pod["spec"]["containers"]
            ]
            self._api(f"{place}/status", {"status": told}, "PATCH", MERGE)


def status(has: Mapping[str, str], ready: bool) -> dict[str, Any]:
    """A node's; pods is what a kubelet has unless somebody says otherwise."""
    resources = {"memory": "64Gi", "pods": "110", **has}
    reason = "KubeletReady" if ready else "KubeletNotReady"
    condition = {"type": "Ready", "status": str(ready), "reason": reason}
    times = {"lastHeartbeatTime": stamp(), "lastTransitionTime": stamp()}
    return {"capacity": resources, "allocatable": resources, "conditions": [condition | times]}


def moment() -> str:
    """Now, as a lease has it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
