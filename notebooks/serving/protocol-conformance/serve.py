"""Starts servers of the Open Inference Protocol with the model sums, and puts the table to each.

usage: serve.py FIXTURES WORK SERVER...    of inferd, triton, kserve and mlserver

WORK/SERVER.jsonl is what conform.py said of it, WORK/SERVER.log what the server did, and
WORK/client.jsonl what the official client was told by each. A server that does not get ready is an
error, with the end of its log.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
READY = 240  # seconds that a server may take: a busy machine imports slowly
END = 60


class Place:
    """Where the programs are, and the work."""

    def __init__(self, fixtures: Path, work: Path) -> None:
        self.fixtures, self.work = fixtures, work
        self.servers = fixtures / "model-servers"
        self.python = self.servers / "python/usr/bin/python3"
        # The fixtures may be read-only: what is compiled once is kept here for the next program.
        self.environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(work / "compiled")}

    def command(self, server: str, rest: int, grpc: int) -> tuple[list[str], dict[str, str], Path]:
        """What starts a server: the command, what it adds to the environment, and the directory."""
        return {
            "inferd": self._inferd,
            "triton": self._triton,
            "kserve": self._kserve,
            "mlserver": self._mlserver,
        }[server](rest, grpc)

    def _inferd(self, rest: int, grpc: int) -> tuple[list[str], dict[str, str], Path]:
        model = self.work / "sums.onnx"
        subprocess.run([self.python, HERE / "sums_onnx.py", model], check=True)
        flags = {
            "-runtime": self.fixtures / "onnx/runtime/libonnxruntime.so",
            "-model": f"sums={model}",
            "-listen": f"127.0.0.1:{rest}",
            "-listen-grpc": f"127.0.0.1:{grpc}",
            "-listen-private": f"127.0.0.1:{free()}",
        }
        second = ["-model", f"magika={self.fixtures / 'onnx/magika/model.onnx'}"]
        words = [str(word) for pair in flags.items() for word in pair] + second
        return [str(self.fixtures / "inferd/bin/inferd"), *words], {}, self.work

    def _triton(self, rest: int, grpc: int) -> tuple[list[str], dict[str, str], Path]:
        inside = self.servers / "triton/pytriton/tritonserver"
        libraries = [
            self.servers / "triton/nvidia_pytriton.libs",
            *self.python.parents[1].glob("lib/*-linux-gnu"),
        ]
        repository = self.work / "triton"
        shutil.copytree(HERE / "triton", repository)
        flags = {
            "--model-repository": repository,
            "--backend-directory": inside / "backends",
            "--http-address": "127.0.0.1",
            "--http-port": rest,
            "--grpc-address": "127.0.0.1",
            "--grpc-port": grpc,
            "--allow-metrics": "false",
        }
        environment = {
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            # Its Python backend takes the Python whose python3 is found first.
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
        }
        words = [f"{name}={value}" for name, value in flags.items()]
        return [str(inside / "bin/tritonserver"), *words], environment, self.work

    def _kserve(self, rest: int, grpc: int) -> tuple[list[str], dict[str, str], Path]:
        words = [str(HERE / "kserve_sums.py"), f"--http_port={rest}", f"--grpc_port={grpc}"]
        return [str(self.python), *words], {"PYTHONPATH": str(self.servers / "kserve")}, self.work

    def _mlserver(self, rest: int, grpc: int) -> tuple[list[str], dict[str, str], Path]:
        settings = {
            "HOST": "127.0.0.1",
            "HTTP_PORT": str(rest),
            "GRPC_PORT": str(grpc),
            "METRICS_PORT": str(free()),
            "PARALLEL_WORKERS": "0",
        }
        environment = {f"MLSERVER_{name}": value for name, value in settings.items()}
        environment["PYTHONPATH"] = str(self.servers / "mlserver")
        program = "from mlserver.cli.main import main; main()"
        return [str(self.python), "-c", program, "start", "."], environment, HERE / "mlserver"


def free() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(place: Place, server: str) -> Iterator[tuple[str, str]]:
    """A server that is ready, at its two addresses; ended afterwards."""
    rest, grpc = free(), free()
    words, environment, directory = place.command(server, rest, grpc)
    said = place.work / f"{server}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            words,
            cwd=directory,
            env={**place.environment, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + READY
        while not ready(f"http://127.0.0.1:{rest}/v2/models/sums/ready"):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = said.read_text(errors="replace").strip().splitlines()[-1:]
                sys.exit(f"serve.py: {server} does not get ready: {' '.join(tail)}; see {said}")
            time.sleep(0.1)
        yield f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}"
    finally:
        process.terminate()
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(url: str) -> bool:
    """Whether this is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def main() -> int:
    """One server after the other: each has the machine for itself."""
    place = Place(Path(sys.argv[1]), Path(sys.argv[2]))
    for server in sys.argv[3:]:
        with running(place, server) as addresses:
            for program, words, to in (
                ("conform.py", [str(HERE / "table.toml")], f"{server}.jsonl"),
                ("client.py", [server], "client.jsonl"),
            ):
                with (place.work / to).open("ab") as said:
                    command = [str(place.python), str(HERE / program), *words, *addresses]
                    subprocess.run(command, stdout=said, env=place.environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
