"""Loads servers that have the same two models, in turns, with one tool.

usage: compare.py FIXTURES WORK

$SERVERS says which; $ROUNDS how often each is loaded with each model, for $SECONDS_EACH; $SOAK for
how long inferd is, at the end; $COLLECTOR is its GOGC.
WORK/loads.jsonl has a line for each load; WORK/facts.json what they hold in memory, their answers,
the runtime's own time, a load at half of what inferd bears, and the soak. All of it is on loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
READY = 300  # seconds that they may take together: a busy machine imports slowly
END = 60
CLIENTS = 8
WIDTHS = {"squares": 4, "magika": 2048}
PROCESSORS = str(max(2, os.cpu_count() or 1))  # workers of each server that has such a setting
LATE = "fastapi-asyncio"  # is asked by one client only
HALF = ("inferd", "inferd-1", "fasthttp")  # are asked at half of the rate that inferd bears
HALF_TURNS = 3  # of which the middle counts
HALF_FOR = 2  # times as long as a load is each
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """What starts a server, and where it answers."""

    name: str
    words: list[str]
    port: int
    private: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    directory: Path = HERE

    def url(self, model: str) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/{model}/infer"


def free() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Place:
    """Where the programs and the models are, and the work."""

    def __init__(self, fixtures: Path, work: Path) -> None:
        self.fixtures, self.work = fixtures, work
        self.runtime = str(fixtures / "onnx/runtime/libonnxruntime.so")
        self.servers = fixtures / "model-servers"
        self.python = self.servers / "python/usr/bin/python3"
        self.files = {
            "squares": work / "squares.onnx",
            "magika": fixtures / "onnx/magika/model.onnx",
        }
        self.named = [f"{name}={file}" for name, file in self.files.items()]
        # Fixtures may be read-only: what is compiled is kept here. The runtime writes to HOME.
        self.environment = os.environ | {
            "PYTHONPYCACHEPREFIX": str(work / "compiled"),
            "HOME": str(work),
            "MODELS": " ".join(self.named),
        }

    def path(self, *parts: str) -> dict[str, str]:
        """Where Python looks, besides its own packages."""
        own = [
            HERE,
            self.fixtures / "python-onnx/packages",
            *(self.servers / each for each in parts),
        ]
        return {"PYTHONPATH": ":".join(map(str, own))}

    def server(self, name: str) -> Server:
        makers: dict[str, Callable[[str, int], Server]] = {
            "net/http": self._handwritten("standard"),
            "fasthttp": self._handwritten("fast"),
            "inferd": self._inferd,
            "inferd-1": self._inferd_lone,
            "triton": self._triton,
            "kserve": self._kserve,
            "mlserver": self._mlserver,
            "flask": self._flask,
            "fastapi": self._fastapi("uvloop"),
            "fastapi-asyncio": self._fastapi("asyncio"),
        }
        return makers[name](name, free())

    def _handwritten(self, program: str) -> Callable[[str, int], Server]:
        def make(name: str, port: int) -> Server:
            binary = str(self.fixtures / "handwritten" / program)
            return Server(name, [binary, self.runtime, f"127.0.0.1:{port}", *self.named], port)

        return make

    def _inferd(self, name: str, port: int) -> Server:
        private = free()
        words = [str(self.fixtures / "inferd/bin/inferd"), "-runtime", self.runtime]
        words += ["-listen", f"127.0.0.1:{port}", "-listen-grpc", f"127.0.0.1:{free()}"]
        words += ["-listen-private", f"127.0.0.1:{private}", "-workers", PROCESSORS]
        for each in self.named:
            words += ["-model", each]
        return Server(name, words, port, private, {"GOGC": os.environ["COLLECTOR"]})

    def _inferd_lone(self, name: str, port: int) -> Server:
        """It runs each request alone. Its private port is nobody's concern here."""
        server = self._inferd(name, port)
        return Server(name, [*server.words, "-batch-rows", "1"], port, 0, server.environment)

    def _triton(self, name: str, port: int) -> Server:
        inside = self.servers / "triton/pytriton/tritonserver"
        libraries = [
            self.servers / "triton/nvidia_pytriton.libs",
            *self.python.parents[1].glob("lib/*-linux-gnu"),
        ]
        repository = self.work / "triton"
        tensors = {"squares": ("numbers", "squares", 4), "magika": ("bytes", "target_label", 214)}
        for model, (takes, gives, width) in tensors.items():
            version = repository / model / "1"
            version.mkdir(parents=True)
            version.joinpath("model.py").symlink_to(HERE / "triton_onnx.py")
            version.with_name("config.pbtxt").write_text(
                f'backend: "python"\nmax_batch_size: 16\ndynamic_batching {{}}\n'
                f'input [{{ name: "{takes}", data_type: TYPE_INT32, dims: [{WIDTHS[model]}] }}]\n'
                f'output [{{ name: "{gives}", data_type: TYPE_FP32, dims: [{width}] }}]\n'
                f"instance_group [{{ kind: KIND_CPU, count: {PROCESSORS} }}]\n"
            )
        flags = {
            "--model-repository": repository,
            "--backend-directory": inside / "backends",
            "--http-address": "127.0.0.1",
            "--http-port": port,
            "--allow-grpc": "false",
            "--allow-metrics": "false",
        }
        environment = self.path() | {
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            # Its Python backend takes the Python whose python3 is found first.
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
        }
        words = [str(inside / "bin/tritonserver"), *(f"{k}={v}" for k, v in flags.items())]
        return Server(name, words, port, environment=environment)

    def _kserve(self, name: str, port: int) -> Server:
        words = [str(self.python), str(HERE / "kserve_app.py")]
        words += [f"--http_port={port}", f"--grpc_port={free()}"]
        return Server(name, words, port, environment=self.path("kserve"))

    def _mlserver(self, name: str, port: int) -> Server:
        for model in self.files:
            directory = self.work / "mlserver" / model
            directory.mkdir(parents=True)
            named = {"name": model, "implementation": "mlserver_onnx.Onnx"}
            directory.joinpath("model-settings.json").write_text(json.dumps(named))
            directory.joinpath("mlserver_onnx.py").symlink_to(HERE / "mlserver_onnx.py")
        settings = {"HOST": "127.0.0.1", "HTTP_PORT": port, "GRPC_PORT": free()}
        settings |= {"METRICS_PORT": free(), "PARALLEL_WORKERS": 0, "DEBUG": "false"}
        environment = {f"MLSERVER_{key}": str(value) for key, value in settings.items()}
        words = [str(self.python), "-c", "from mlserver.cli.main import main; main()", "start", "."]
        environment |= self.path("mlserver")
        return Server(name, words, port, 0, environment, self.work / "mlserver")

    def _flask(self, name: str, port: int) -> Server:
        words = [str(self.python), "-m", "gunicorn.app.wsgiapp", "flask_app:app"]
        words += ["--bind", f"127.0.0.1:{port}", "--workers", PROCESSORS, "--no-control-socket"]
        words += ["--worker-class", "gthread", "--threads", "4", "--keep-alive", "60"]
        return Server(name, words, port, environment=self.path())

    def _fastapi(self, loop: str) -> Callable[[str, int], Server]:
        def make(name: str, port: int) -> Server:
            words = [str(self.python), "-m", "uvicorn", "fastapi_app:app", "--port", str(port)]
            words += ["--workers", PROCESSORS, "--loop", loop]
            words += ["--no-access-log", "--log-level", "warning"]
            return Server(name, words, port, environment=self.path("kserve"))

        return make


def question(model: str) -> bytes:
    """A request of one row, as the protocol has it."""
    row = [(index * 37) % 251 for index in range(WIDTHS[model])]
    takes = {"squares": "numbers", "magika": "bytes"}[model]
    tensor = {"name": takes, "datatype": "INT32", "shape": [1, len(row)], "data": row}
    return json.dumps({"inputs": [tensor]}).encode()


def binary(model: str) -> tuple[bytes, int]:
    """The same with the numbers as bytes behind the JSON, and the JSON's length."""
    said = json.loads(question(model))
    tensor = said["inputs"][0]
    row = b"".join(number.to_bytes(4, "little") for number in tensor.pop("data"))
    tensor["parameters"] = {"binary_data_size": len(row)}
    said["parameters"] = {"binary_data_output": True}
    head = json.dumps(said).encode()
    return head + row, len(head)


def ask(server: Server, model: str) -> list[float]:
    """The numbers that it answers; raises OSError, also for a status that is not 200."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(server.url(model), question(model), headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=END) as answer:  # noqa: S310 - loopback
        values: list[float] = json.load(answer)["outputs"][0]["data"]
        return values


@contextlib.contextmanager
def running(place: Place, servers: list[Server]) -> Iterator[dict[str, int]]:
    """All servers, started at once and ready: process ids by name. They are ended afterwards."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for server in servers:
            log = place.work / f"{server.name.replace('/', '-')}.log"
            with log.open("wb") as said:
                processes[server.name] = subprocess.Popen(
                    server.words,
                    cwd=server.directory,
                    env=place.environment | server.environment,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
        deadline = time.monotonic() + READY
        for server in servers:
            for model in place.files:
                while not _answers(server, model):
                    if processes[server.name].poll() is not None or time.monotonic() > deadline:
                        log = place.work / f"{server.name.replace('/', '-')}.log"
                        tail = log.read_text(errors="replace").strip().splitlines()[-1:]
                        sys.exit(f"compare.py: {server.name} does not get ready: {' '.join(tail)}")
                    time.sleep(0.1)
        yield {name: process.pid for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END)
            process.kill()
            process.wait()


def _answers(server: Server, model: str) -> bool:
    try:
        return bool(ask(server, model))
    except OSError:
        return False


def wrk(
    place: Place, url: str, body: bytes, clients: int, seconds: int, header: int = 0
) -> dict[str, Any]:
    """What the tool says of one load."""
    home = place.fixtures / "load/wrk/usr"
    file = place.work / "question"
    file.write_bytes(body)
    environment = os.environ | {
        "QUESTION": str(file),
        "LD_LIBRARY_PATH": str(home / f"lib/{platform.machine()}-linux-gnu"),
    }
    if header:
        environment["JSON_BYTES"] = str(header)
    options = ["-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s"]
    done = subprocess.run(
        [str(home / "bin/wrk"), *options, "-s", str(HERE / "post.lua"), url],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(words[1]), []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def memory(pid: int) -> int:
    """What a process and those below it hold, in KiB; what they share is counted once."""
    held = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
            held += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
    return held


def processor(pid: int) -> float:
    """The processor time that they have used, in seconds."""
    used = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            used += int(words[11]) + int(words[12])
    return used / TICK


def loaded(place: Place, server: Server, model: str, pid: int, seconds: int) -> dict[str, Any]:
    """A load, and the processor time that it took: a longer one where the first has no answer."""
    load: dict[str, Any] = {}
    for length in (seconds, 4 * seconds, 16 * seconds):
        before = processor(pid)
        load = wrk(place, server.url(model), question(model), CLIENTS, length)
        load["processor"] = processor(pid) - before
        if load["requests"]:
            break
    return load


def pauses(server: Server) -> dict[str, float]:
    """How often inferd's garbage collector has stopped the program, and for how long in all."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.private}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r"^go_gc_duration_seconds_(count|sum) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def bare(place: Place, model: str, seconds: int) -> float:
    """The middle of the runtime's own calls, in microseconds."""
    file = place.work / "question"
    file.write_bytes(question(model))
    named = f"{model}={place.files[model]}"
    program = str(place.fixtures / "handwritten/bare")
    done = subprocess.run(
        [program, place.runtime, named, str(file), str(seconds)],
        env=place.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(re.search(r"p50 (\S+) us", done.stdout)[1])  # type: ignore[index]


def alone(place: Place, servers: list[Server], seconds: int) -> dict[str, float]:
    """The middle time of one client's requests, and of the runtime's own calls, in microseconds."""
    here = {server.name: server for server in servers}
    times: dict[str, float] = {}
    for model in place.files:
        times[f"{model}, runtime"] = bare(place, model, seconds)
        costly = ("inferd", "net/http", "fasthttp")
        for name in costly if model == "magika" else (*costly, "fastapi", LATE):
            if name in here:
                load = wrk(place, here[name].url(model), question(model), 1, seconds)
                times[f"{model}, {name}"] = load["p50"]
        if "inferd" in here:
            body, header = binary(model)
            load = wrk(place, here["inferd"].url(model), body, 1, seconds, header)
            times[f"{model}, inferd, bytes"] = load["p50"] if not load["failed"] else float("nan")
        if "net/http" in here:
            url = f"http://127.0.0.1:{here['net/http'].port}/nothing"
            times[f"{model}, no model"] = wrk(place, url, question(model), 1, seconds)["p50"]
    return times


def paced(place: Place, server: Server, model: str, rate: float, seconds: int) -> dict[str, Any]:
    """What an open loop sees, which sends at this rate whatever becomes of it, in microseconds."""
    file = place.work / "question"
    file.write_bytes(question(model))
    target = f"POST {server.url(model)}\nContent-Type: application/json\n@{file}\n"
    vegeta = str(place.fixtures / "vegeta/bin/vegeta")
    options = ["-rate", f"{max(1, round(10 * rate))}/10s", "-duration", f"{seconds}s"]
    attack = subprocess.run(
        [vegeta, "attack", *options], input=target.encode(), stdout=subprocess.PIPE, check=True
    )
    report = subprocess.run(
        [vegeta, "report", "-type", "json"],
        input=attack.stdout,
        stdout=subprocess.PIPE,
        check=True,
    )
    said = json.loads(report.stdout)
    times = {name: said["latencies"][key] / 1e3 for name, key in (("p50", "50th"), ("p99", "99th"))}
    return times | {"requests": said["requests"], "good": said["success"]}


def half(place: Place, servers: list[Server], rate: float, seconds: int) -> dict[str, Any]:
    """At half of the rate that inferd bears: some of them, beside the runtime's own call."""
    found: dict[str, Any] = {"rate": rate, "runtime": bare(place, "magika", seconds)}
    asked = [server for server in servers if server.name in HALF]
    turns: dict[str, list[dict[str, Any]]] = {server.name: [] for server in asked}
    for turn in range(HALF_TURNS):
        for server in asked[:: -1 if turn % 2 else 1]:
            said = paced(place, server, "magika", rate, HALF_FOR * seconds)
            turns[server.name].append(said)
    for name, each in turns.items():
        middle = {part: statistics.median(said[part] for said in each) for part in ("p50", "p99")}
        requests = sum(said["requests"] for said in each)
        found[name] = middle | {"requests": requests, "good": min(said["good"] for said in each)}
    return found


def soak(place: Place, server: Server, pid: int, seconds: int) -> dict[str, Any]:
    """What inferd holds after each part of a longer load; the first part is for warming up."""
    parts, held, requests, failed = 4, [], 0, 0
    for part in range(parts):
        length = max(1, seconds // parts)
        said = wrk(place, server.url("squares"), question("squares"), CLIENTS, length)
        held.append(memory(pid))
        if part:
            requests += said["requests"]
        failed += said["failed"]
    return {"requests": requests, "failed": failed, "held": held}


def main() -> int:
    """Rounds in which each takes its turn, every second one backwards."""
    place = Place(Path(sys.argv[1]), Path(sys.argv[2]))
    rounds, seconds = int(os.environ["ROUNDS"]), int(os.environ["SECONDS_EACH"])
    subprocess.run([sys.executable, HERE / "squares_onnx.py", place.files["squares"]], check=True)
    servers = [place.server(name) for name in os.environ["SERVERS"].split()]
    facts: dict[str, Any] = {}
    borne = []  # by inferd, in requests a second
    with running(place, servers) as pids, (place.work / "loads.jsonl").open("w") as lines:
        facts["answers"] = {s.name: {m: ask(s, m) for m in place.files} for s in servers}
        turns = [server for server in servers if server.name != LATE]
        for turn in range(rounds):
            for server in turns[:: -1 if turn % 2 else 1]:
                for model in place.files:
                    load = loaded(place, server, model, pids[server.name], seconds)
                    print(json.dumps({"server": server.name, "model": model} | load), file=lines)
                    if (server.name, model) == ("inferd", "magika"):
                        borne.append(load["requests"] / load["seconds"])
        facts["half"] = half(place, servers, statistics.median(borne) / 2, seconds)
        facts["alone"] = alone(place, servers, seconds)
        facts["memory"] = {name: memory(pid) for name, pid in pids.items()}
        for server in servers:
            if server.private:
                facts["soak"] = soak(place, server, pids[server.name], int(os.environ["SOAK"]))
                facts["pauses"] = pauses(server)
    (place.work / "facts.json").write_text(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
