"""A control plane of Kubernetes on loopback: etcd, kube-apiserver and kube-controller-manager.

    with Cluster(directory of etcd, directory of kube-*, a directory of its own) as cluster:
        cluster.kubectl("get", "pods")

There are no nodes: pods are taken or refused, and never run.
"""

from __future__ import annotations

import atexit
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

HERE = "127.78.0.1"
SERVER = f"https://{HERE}:6443"
CONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "{server}", insecure-skip-tls-verify: true}}}}]
users: [{{name: admin, user: {{token: {token}}}}}]
contexts: [{{name: here, context: {{cluster: here, user: admin}}}}]
current-context: here
"""


class Cluster:
    """Its programs end with it, or with the interpreter."""

    def __init__(self, etcd: Path, kubernetes: Path, work: Path) -> None:
        self._kubernetes, self._work = kubernetes, work
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        atexit.register(self.close)
        token = secrets.token_hex(16)
        self.config = work / "kubeconfig"
        self.config.write_text(CONFIG.format(server=SERVER, token=token))
        (work / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        key = ["openssl", "genrsa", "-out", str(work / "accounts.key"), "2048"]
        subprocess.run(key, check=True, capture_output=True)
        at, peers = f"http://{HERE}:2379", f"http://{HERE}:2380"
        self._start(
            etcd / "etcd",
            f"--data-dir={work / 'etcd'}",
            "--unsafe-no-fsync",  # it ends with this
            f"--listen-client-urls={at}",
            f"--advertise-client-urls={at}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        )
        self._start(
            kubernetes / "kube-apiserver",
            f"--etcd-servers={at}",
            f"--bind-address={HERE}",
            "--endpoint-reconciler-type=none",  # nobody comes to it by its service
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            "--allow-privileged",  # as kubeadm has it
            f"--token-auth-file={work / 'tokens.csv'}",
            f"--cert-dir={work}",
            f"--service-account-issuer={SERVER}",
            f"--service-account-key-file={work / 'accounts.key'}",
            f"--service-account-signing-key-file={work / 'accounts.key'}",
        )
        self._until(lambda: self.kubectl("get", "--raw=/readyz").returncode == 0, "it is ready")
        self._start(
            kubernetes / "kube-controller-manager",
            f"--kubeconfig={self.config}",
            "--leader-elect=false",
            f"--service-account-private-key-file={work / 'accounts.key'}",
            "--use-service-account-credentials=false",
        )
        account = ("get", "serviceaccount", "default")
        self._until(lambda: self.kubectl(*account).returncode == 0, "pods may be made in it")

    def kubectl(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """What kubectl says, with ``given`` on its standard input."""
        command = [str(self._kubernetes / "kubectl"), f"--kubeconfig={self.config}", *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False)

    def close(self) -> None:
        """End its programs."""
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()
        self._processes.clear()

    def _start(self, program: Path, *arguments: str) -> None:
        with (self._work / f"{program.name}.log").open("wb") as log:
            command = [str(program), *arguments]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            self._processes[program.name] = process

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 180
        while not holds():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    said = (self._work / f"{name}.log").read_text().splitlines()[-1:]
                    raise RuntimeError(f"{name} has ended: {''.join(said)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the control plane has started, and not until {what}")
            time.sleep(0.2)
