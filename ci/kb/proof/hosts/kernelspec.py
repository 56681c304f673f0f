"""The one kernel that a session starts. jupyter_client looks kernels up by name, and finds it."""

from __future__ import annotations

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

NAME = "python3"  # jupyter_client knows by it that the kernel is ipykernel


class OneKernel(KernelSpecManager):
    """Knows one kernel, whatever is installed on this machine."""

    def __init__(self, spec: KernelSpec) -> None:
        super().__init__()
        self.spec = spec

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self.spec
