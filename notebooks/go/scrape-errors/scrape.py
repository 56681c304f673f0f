"""A Prometheus with the jobs of jobs.toml, the services that they fetch from, what it says."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from kb import bash

HERE = Path(__file__).parent
JOBS: dict[str, dict[str, Any]] = tomllib.loads((HERE / "jobs.toml").read_text("utf-8"))
work = tempfile.TemporaryDirectory(prefix="scrape-errors-")  # removed when the kernel ends
started: list[subprocess.Popen[bytes]] = []
ports: dict[str, int] = {}


def program(name: str, given: str) -> str:
    ours = Path(os.environ.get("KB_FIXTURES", "/nowhere"), "prometheus")
    packaged = {"prometheus": ours / "debian/usr/bin", "promtool": ours / "promtool/usr/bin"}
    found = shutil.which(name, path=given or packaged[name]) or shutil.which(name)
    if not found:
        raise RuntimeError(f"there is no {name}: apt-get install prometheus, or pass its directory")
    return found


def prepare(prometheus: str, first_port: int) -> None:
    ports.update({"PORT": first_port, "TLS": first_port + 1, "NOBODY": first_port + 2})
    os.environ.update(
        SERVER=program("prometheus", prometheus),
        PROMTOOL=program("promtool", prometheus),
        PLACE=work.name,
        OWN=f"http://127.0.0.1:{first_port + 3}",
        SHOP=f"127.0.0.1:{ports['PORT']}",
        NOBODY=f"127.0.0.1:{ports['NOBODY']}",
    )


def configure(which: str) -> None:
    """Writes the configuration: `job` or `cure` of each, as JSON, which is YAML, too."""
    configured = []
    for name, job in JOBS.items():
        text = json.dumps({"target": "127.0.0.1:PORT"} | job[which])
        for word, port in ports.items():
            text = text.replace(f"127.0.0.1:{word}", f"127.0.0.1:{port}")
        settings = json.loads(text.replace("CERTIFICATE", f"{work.name}/certificate.pem"))
        targets = [{"targets": [settings.pop("target")]}]
        configured.append({"job_name": name, "static_configs": targets} | settings)
    usual = {"scrape_interval": "3s", "scrape_timeout": "3s"}
    text = json.dumps({"global": usual, "scrape_configs": configured}, indent=1)
    Path(work.name, "prometheus.yml").write_text(text)


def start() -> None:
    services = ["python3", str(HERE / "targets.py"), str(ports["PORT"]), str(ports["TLS"])]
    own = ["--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    own += [f"--web.listen-address={os.environ['OWN'].removeprefix('http://')}"]
    for name, command in (
        ("services", [*services, "both.pem"]),
        ("prometheus", [os.environ["SERVER"], *own]),
    ):
        with Path(work.name, name).open("w") as log:
            started.append(subprocess.Popen(command, cwd=work.name, stdout=log, stderr=log))
    retry = "--retry 120 --retry-delay 1 --retry-all-errors"
    waits = f"curl --silent --show-error --noproxy '*' {retry}"
    bash(f'{waits} "$OWN/-/ready"; {waits} "http://$SHOP/metrics"')


def ask(path: str) -> Any:
    answer = bash(f"curl --silent --show-error --noproxy '*' --globoff \"$OWN/api/v1/{path}\"")
    return json.loads(str(answer))["data"]


def targets(health: str, says: str) -> dict[str, dict[str, Any]]:
    """What Prometheus has of each job, once all are `up`, or `down` and say what is expected.

    On a busy machine any of them may be late once.
    """
    end = time.monotonic() + 120
    while True:
        active = ask("targets")["activeTargets"]
        seen = {target["labels"]["job"]: target for target in active}
        if set(seen) == set(JOBS) and all(
            one["health"] == health and JOBS[job].get(says, "") in one["lastError"]
            for job, one in seen.items()
        ):
            return seen
        if time.monotonic() > end:
            left = {job: (one["health"], one["lastError"]) for job, one in seen.items()}
            raise RuntimeError(f"after two minutes not all are {health} as expected: {left}")
        time.sleep(0.5)


def stop() -> None:
    while started:
        process = started.pop()
        process.terminate()
        process.wait(120)
