"""What kind of host this is: ``python -m kb.runtime.facts`` there, standard library only."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def gather() -> dict[str, Any]:
    """The facts of a run record's ``host``: operating system, kernel, libc, processor, GPU."""
    release = platform.freedesktop_os_release()
    gpu, driver = _gpu()
    return {
        "os": release.get("PRETTY_NAME", ""),
        "os_id": release.get("ID", ""),
        "os_version": release.get("VERSION_ID", ""),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "gpu": gpu,
        "driver": driver,
        "python": platform.python_version(),
    }


def offers() -> list[str]:
    """What this machine offers to a notebook, found by looking."""
    found = {
        "root": os.geteuid() == 0,
        "systemd": Path("/run/systemd/system").is_dir(),
        "cgroup2": Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        "apparmor": Path("/sys/kernel/security/apparmor/profiles").exists(),
        "gpu": _gpu()[0] is not None,
    }
    return [need for need, there in found.items() if there]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _gpu() -> tuple[str | None, str | None]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if done.returncode != 0 or not done.stdout.strip():
        return None, None
    name, _, driver = done.stdout.splitlines()[0].partition(",")
    return name.strip(), driver.strip()


if __name__ == "__main__":
    json.dump({**gather(), "offers": offers()}, sys.stdout)
