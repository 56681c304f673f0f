"""Runs each runtime with each driver's library, and says what NVIDIA's guide has of the pair."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Version = tuple[int, ...]
Said = dict[str, dict[str, Any]]

ASK = Path(__file__).with_name("ask.py")
TOO_OLD = 35  # cudaErrorInsufficientDriver
# NVIDIA's guide: the oldest branch of the driver for each major version of CUDA, "CUDA
# Compatibility", minor-version compatibility, table 1.
OLDEST = {11: 450, 12: 525, 13: 580}
# As root, libcuda makes the device nodes that it lacks.
NO_NODES = ["setpriv", "--bounding-set=-mknod"]


def version(text: str) -> Version:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def runtimes(place: Path) -> dict[str, Path]:
    """By version, oldest first: the library in each PLACE/VERSION."""
    found = {path.parent.name: path for path in place.glob("*/libcudart.so.*")}
    return dict(sorted(found.items(), key=lambda item: version(item[0])))


def drivers(places: list[Path]) -> dict[str, Path]:
    """By version, oldest first: the directories below PLACES that have a driver's library."""
    found = {}
    for place in places:
        for path in place.rglob("libcuda.so.1"):
            name = path.resolve().name.removeprefix("libcuda.so.")
            found[name if "." in name else place.name] = path.parent
    return dict(sorted(found.items(), key=lambda item: version(item[0])))


def ask(of_runtimes: Iterable[Path], *places: Path) -> list[Said]:
    """What each runtime says with the libraries in ``places``."""
    prefix = NO_NODES if os.geteuid() == 0 and shutil.which("setpriv") else []
    done = subprocess.run(
        [*prefix, sys.executable, "-I", str(ASK), *map(str, of_runtimes)],
        env=os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, places))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"status {done.returncode}").splitlines()[0])
    return [json.loads(line) for line in done.stdout.splitlines()]


def all_pairs(
    of_runtimes: dict[str, Path], of_drivers: dict[str, Path]
) -> dict[tuple[str, str], Said]:
    """What each pair says, by the versions of runtime and driver."""
    return {
        (runtime, driver): said
        for driver, place in of_drivers.items()
        for runtime, said in zip(of_runtimes, ask(of_runtimes.values(), place), strict=True)
    }


def cuda_of(said: Said) -> Version:
    """The CUDA version of the driver that answered."""
    number = said["cudaDriverGetVersion"]["number"]
    return (number // 1000, number % 1000 // 10)


def passes(said: Said) -> bool:
    """Whether the driver was found new enough; whether there is a card comes after that."""
    return bool(said["cudaGetDeviceCount"]["status"] != TOO_OLD)


def word(runtime: str, said: Said) -> str:
    """The outcome of a pair in a word, with the status."""
    status = said["cudaGetDeviceCount"]["status"]
    if not passes(said):
        return f"refused ({status})"
    newer = version(runtime)[:2] > cuda_of(said)
    return f"{'minor version' if newer else 'taken'} ({status})"


def guide(runtime: str, driver: str) -> bool | None:
    """Whether NVIDIA's guide says that the pair works; None where it says nothing."""
    oldest = OLDEST.get(version(runtime)[0])
    return version(driver)[0] >= oldest if oldest and "." in driver else None
