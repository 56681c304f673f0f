"""A control plane that may be broken: three members of etcd, an apiserver, two controller-managers.

Each is killed, paused or started by its name: m1, m2, m3, kube-apiserver, manager-1, manager-2.
A manager that ends by itself is started again, as a kubelet or systemd does.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from authority import Authority
from cluster import HERE, Cluster  # type: ignore[import-not-found] # policy/cluster.py

MEMBERS = {f"m{number}": f"127.78.0.{number}" for number in (1, 2, 3)}
ENDPOINTS = ",".join(f"http://{address}:2379" for address in MEMBERS.values())
MANAGERS = ("manager-1", "manager-2")
LEASE = 4  # seconds, of a leader among the managers; 15 unless somebody says otherwise
QUOTA = 4 * 1024 * 1024  # of each member of etcd; 2 GB unless somebody says otherwise
ASIDE = re.compile(r"[EIW]\d{4} ")  # what kubectl's library logs before the answer
Found = TypeVar("Found")


def until(holds: Callable[[], Found], what: str) -> Found:
    """What holds at last. That it must within two minutes is each drill's stop condition."""
    deadline = time.monotonic() + 120
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within two minutes: {what}")
        time.sleep(0.1)
    return found


class Plane(Cluster):  # type: ignore[misc] # its directory is another
    """What policy/cluster.py starts, with more of each."""

    _work: Path
    _processes: dict[str, subprocess.Popen[bytes]]

    def __init__(self, etcd: Path, kubernetes: Path, work: Path) -> None:
        self._etcdctl = etcd / "etcdctl"
        self._commands: dict[str, list[str]] = {}
        self._held: set[str] = set()  # killed on purpose: not started again
        self._lock = threading.Lock()
        self.authority = Authority(work, "kubernetes")
        self.authority.issue(-1, 24, HERE)
        super().__init__(etcd, kubernetes, work)
        threading.Thread(target=self._supervise, daemon=True).start()

    def _start(self, program: Path, *arguments: str) -> None:
        work = self._work
        if program.name == "etcd":
            for name, address in MEMBERS.items():
                at, peer = f"http://{address}:2379", f"http://{address}:2380"
                peers = ",".join(f"{one}=http://{host}:2380" for one, host in MEMBERS.items())
                self._commands[name] = [
                    str(program),
                    f"--name={name}",
                    f"--data-dir={work / name}",
                    "--unsafe-no-fsync",  # it ends with this
                    f"--quota-backend-bytes={QUOTA}",
                    "--heartbeat-interval=150",
                    "--election-timeout=1500",  # on a busy machine a second is no failure
                    f"--listen-client-urls={at}",
                    f"--advertise-client-urls={at}",
                    f"--listen-peer-urls={peer}",
                    f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster={peers}",
                ]
                self.start(name)
        elif program.name == "kube-apiserver":
            trusted = f'certificate-authority: "{self.authority.certificate}"'
            text = self.config.read_text().replace("insecure-skip-tls-verify: true", trusted)
            self.config.write_text(text)
            kept = [one for one in arguments if not one.startswith("--etcd-servers=")]
            self._commands[program.name] = [
                str(program),
                *kept,
                f"--etcd-servers={ENDPOINTS}",
                f"--tls-cert-file={work / 'serving.crt'}",
                f"--tls-private-key-file={work / 'serving.key'}",
            ]
            self.start(program.name)
        else:
            for name in MANAGERS:
                self._commands[name] = [
                    str(program),
                    *(one for one in arguments if one != "--leader-elect=false"),
                    f"--leader-elect-lease-duration={LEASE}s",
                    f"--leader-elect-renew-deadline={LEASE - 1}s",
                    "--leader-elect-retry-period=1s",
                    "--secure-port=0",
                ]
                self.start(name)

    def start(self, *names: str) -> None:
        """Starts what was killed."""
        for name in names:
            with self._lock, (self._work / f"{name}.log").open("ab") as log:
                self._held.discard(name)
                process = subprocess.Popen(
                    self._commands[name], stdout=log, stderr=subprocess.STDOUT, cwd=self._work
                )
                self._processes[name] = process

    def kill(self, *names: str, by: signal.Signals = signal.SIGKILL) -> None:
        """Ends some, and leaves them ended."""
        with self._lock:
            for name in names:
                self._held.add(name)
                self._processes[name].send_signal(by)
            for name in names:
                self._processes[name].wait()

    def pause(self, name: str) -> None:
        """Stands still; one that has just ended is started, and stands still."""
        with self._lock:
            ended = self._processes[name].poll() is not None
        if ended:
            self.start(name)
        self._processes[name].send_signal(signal.SIGSTOP)

    def runs(self, name: str) -> bool:
        """Whether it has not ended."""
        return self._processes[name].poll() is None

    def resume(self, name: str) -> None:
        """Goes on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def log(self, name: str) -> str:
        """What it has said, in all its lives."""
        return (self._work / f"{name}.log").read_text()

    def etcdctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What etcdctl says, of all members."""
        command = [str(self._etcdctl), f"--endpoints={ENDPOINTS}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def members(self) -> list[str]:
        """The members of etcd, the one that leads last; none if one of them does not answer."""
        done = self.etcdctl("endpoint", "status", "--write-out=json")
        if done.returncode != 0:
            return []
        told = json.loads(done.stdout)
        leads = {one["Endpoint"]: one["Status"]["leader"] for one in told}
        itself = {one["Endpoint"]: one["Status"]["header"]["member_id"] for one in told}
        at = {name: f"http://{address}:2379" for name, address in MEMBERS.items()}
        return sorted(MEMBERS, key=lambda name: leads[at[name]] == itself[at[name]])

    def leader(self) -> str:
        """The manager that has the lease, by what each has said; empty if none has."""
        for name in MANAGERS:
            said = self.log(name).lower()
            if said.rfind("successfully acquired lease") > said.rfind("leaderelection lost"):
                return name
        return ""

    def lost(self, name: str) -> int:
        """How often a manager has ended since it had lost its lease."""
        return self.log(name).count("leaderelection lost")

    def close(self) -> None:
        """End its programs, paused ones included."""
        self._held.update(self._commands)
        super().close()

    def _supervise(self) -> None:
        while self._commands:
            for name in MANAGERS:
                with self._lock:
                    process = self._processes.get(name)
                    ended = process and name not in self._held and process.poll() is not None
                if ended:
                    self.start(name)
            time.sleep(0.5)
