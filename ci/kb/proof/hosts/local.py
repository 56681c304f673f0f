"""This machine as a host: for notebooks that only look, and runbooks with an explicit go-ahead."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from kb.proof import snapshots
from kb.proof.catalog import Notebook
from kb.proof.hosts import Host, HostError, kernelspec, scratch
from kb.runtime import facts


class LocalSession:
    """This machine, with the kernel in this Python environment."""

    disposable = False
    hung = ""
    image: dict[str, str] | None = None

    def __init__(self, host: Host, notebook: Notebook, fixtures: dict[str, Path]) -> None:
        self.here = str((notebook.root / notebook.path).parent)
        self.facts = {
            "name": host.name,
            "kind": host.kind,
            "label": host.backend.label,
            **facts.gather(),
        }
        self.shared = scratch.directory()
        self.fixtures = self.shared / "fixtures"
        self.fixtures.mkdir()
        for name, path in fixtures.items():
            (self.fixtures / name).symlink_to(path)

    @staticmethod
    def ensure_image(host: Host, tell: Callable[[str], object]) -> None:
        return None

    def kernel(self, env: dict[str, str]) -> AsyncKernelManager:
        spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
            env={**env, "KB_FIXTURES": str(self.fixtures)},
        )
        self.manager = AsyncKernelManager(
            kernel_spec_manager=kernelspec.OneKernel(spec),
            kernel_name=kernelspec.NAME,
            transport="ipc",
            ip=str(self.shared / "s"),
        )
        return self.manager

    def command(
        self,
        argv: Sequence[str],
        env: dict[str, str] | None = None,
        timeout: float = 300,
        text: str = "",
    ) -> tuple[int, str, str]:
        environment = {**os.environ, "KB_FIXTURES": str(self.fixtures), **(env or {})}
        try:
            done = subprocess.run(
                argv,
                env=environment,
                timeout=timeout,
                input=text.encode(),
                capture_output=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HostError(f"{argv[0]} took longer than {timeout:g} s") from None
        out, err = (said.decode(errors="replace") for said in (done.stdout, done.stderr))
        return done.returncode, out, err

    def snapshot(self, known: snapshots.Snapshot | None) -> snapshots.Snapshot:
        return snapshots.take(self.command, known)

    def kill_kernel(self) -> None:
        provisioner = self.manager.provisioner
        assert isinstance(provisioner, LocalProvisioner)
        assert provisioner.pgid is not None
        os.killpg(provisioner.pgid, signal.SIGKILL)

    def why_dead(self) -> str:
        return "the kernel died"

    def close(self) -> None:
        shutil.rmtree(self.shared, ignore_errors=True)
