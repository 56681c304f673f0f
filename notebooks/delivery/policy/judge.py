"""What each engine says of a pod: what the rule finds, "" for nothing, or its own refusal."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

from cluster import Cluster

DENIED = re.compile(r"denied request: (.*)")


def apiserver(cluster: Cluster, pod: str) -> str:
    """The real one, by the policy that it has; nothing is stored."""
    told = cluster.kubectl("create", "--dry-run=server", "--filename=-", given=pod)
    if told.returncode == 0:
        return ""
    found = DENIED.search(told.stderr)
    return found[1] if found else f"error: {told.stderr.strip().splitlines()[0]}"


def gator(program: Path, rules: Path, pod: str) -> str:
    """Gatekeeper's, without a cluster."""
    told = _told(program, ["test", f"--filename={rules}", "--output=json"], "--filename", pod)
    if not told.stdout:
        return f"error: {told.stderr.strip().splitlines()[-1]}"
    found = json.loads(told.stdout)
    return "; ".join(sorted(violation["msg"] for violation in found or ()))


def conftest(program: Path, rules: Path, pod: str) -> str:
    """Conftest's, of a file."""
    told = _told(
        program, ["test", f"--policy={rules}", "--all-namespaces", "--output=json"], "", pod
    )
    if not told.stdout:
        return f"error: {told.stderr.strip().splitlines()[-1]}"
    found = [
        failure["msg"] for file in json.loads(told.stdout) for failure in file.get("failures") or ()
    ]
    return "; ".join(sorted(found))


def _told(
    program: Path, arguments: list[str], option: str, pod: str
) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(pod)
        file.flush()
        named = f"{option}={file.name}" if option else file.name
        command = [str(program), *arguments, named]
        return subprocess.run(command, capture_output=True, text=True, check=False)
