"""Soaks inferd in requests, and prints what it holds on the way.

    for each in inferd onnx load; do ci/fixtures/$each build/fixtures/$each; done
    nice docker run --rm --volume $PWD:/kb:ro IMAGE python3 /kb/ci/bench/soak.py [--requests N]

IMAGE is the one of the host debian-13 (docker images noble-runbooks/debian-13). Two models take
turns: one that costs nothing has 20 seconds of load at a time, magika one. Each line is taken in
the quiet after a part: requests so far, those that failed, the process's resident memory, Go's
heap, and what is neither Go's nor a file's: C's. In MiB. The status is not 0 if a request failed,
or if the last part holds a tenth more than the second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "build/fixtures"
COMPARED = ROOT / "notebooks/serving/servers-compared"
SLICE = 20  # seconds of load with the model that costs nothing

sys.path.insert(0, str(COMPARED))
from squares_onnx import squares  # noqa: E402 - it stands beside the notebook that made it


def free() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def body(name: str, width: int) -> bytes:
    tensor = {"name": name, "datatype": "INT32", "shape": [1, width], "data": [7] * width}
    return json.dumps({"inputs": [tensor]}).encode()


def load(url: str, file: Path, seconds: int) -> dict[str, int]:
    """What wrk says of so many seconds of load by eight clients."""
    home = FIXTURES / "load/wrk/usr"
    libraries = str(home / f"lib/{platform.machine()}-linux-gnu")
    options = ["-t1", "-c8", f"-d{seconds}s", "--timeout", "30s", "-s", str(COMPARED / "post.lua")]
    done = subprocess.run(
        [str(home / "bin/wrk"), *options, url],
        env=os.environ | {"QUESTION": str(file), "LD_LIBRARY_PATH": libraries},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return said


def held(pid: int, private: int) -> dict[str, float]:
    """MiB that the process holds: in all, of Go's heap in use, and of its own that is not Go's."""
    with urllib.request.urlopen(f"http://127.0.0.1:{private}/metrics", timeout=60) as answer:
        metrics = dict(
            re.findall(r"^(go_memstats_\w+) (\S+)$", answer.read().decode(), re.MULTILINE)
        )
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    resident = {key: int(kb) / 1024 for key, kb in re.findall(r"(\w+):\s+(\d+) kB", status)}
    go = {key: float(value) / 2**20 for key, value in metrics.items()}
    of_go = go["go_memstats_sys_bytes"] - go["go_memstats_heap_released_bytes"]
    return {
        "resident": resident["VmRSS"],
        "Go's heap": go["go_memstats_heap_inuse_bytes"],
        "C's": resident["RssAnon"] - of_go,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Soaks inferd in requests.")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=10)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        work = Path(name)
        (work / "squares.onnx").write_bytes(squares())
        (work / "squares").write_bytes(body("numbers", 4))
        (work / "magika").write_bytes(body("bytes", 2048))
        rest, private = free(), free()
        words = [FIXTURES / "inferd/bin/inferd", "-log-level", "error"]
        words += ["-runtime", FIXTURES / "onnx/runtime/libonnxruntime.so"]
        words += ["-listen", f"127.0.0.1:{rest}", "-listen-grpc", f"127.0.0.1:{free()}"]
        words += ["-listen-private", f"127.0.0.1:{private}", "-workers", "2"]
        words += ["-model", f"squares={work / 'squares.onnx'}"]
        words += ["-model", f"magika={FIXTURES / 'onnx/magika/model.onnx'}"]
        server = subprocess.Popen([str(word) for word in words])
        try:
            return soak(server.pid, f"http://127.0.0.1:{rest}/v2", private, work, asked)
        finally:
            server.terminate()
            server.wait()


def soak(pid: int, url: str, private: int, work: Path, asked: argparse.Namespace) -> int:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/health/ready", timeout=60).close()  # noqa: S310 - loopback
            break
        except OSError:
            time.sleep(0.1)
    requests = rare = failed = 0
    began, rows = time.monotonic(), list[dict[str, float]]()
    print(
        f"{'requests':>9} {'failed':>6} {'seconds':>7} {'resident':>8} {'Go heap':>7} {'C':>6}",
        flush=True,
    )
    for part in range(1, asked.parts + 1):
        while requests < asked.requests * part // asked.parts:
            for model, seconds in (("squares", SLICE), ("magika", 1)):
                said = load(f"{url}/models/{model}/infer", work / model, seconds)
                requests, failed = requests + said["requests"], failed + said["failed"]
                rare += said["requests"] if model == "magika" else 0
        rows.append(held(pid, private))
        took = time.monotonic() - began
        figures = " ".join(
            f"{rows[-1][key]:{width}.1f}"
            for key, width in (("resident", 8), ("Go's heap", 7), ("C's", 6))
        )
        print(f"{requests:9} {failed:6} {took:7.0f} {figures}", flush=True)
    print(f"{rare} of them for magika")
    grown = rows[-1]["resident"] / rows[min(1, len(rows) - 1)]["resident"]
    print(f"the last part holds {grown:.2f} times what the second held")
    return 1 if failed or grown > 1.1 else 0


if __name__ == "__main__":
    sys.exit(main())
