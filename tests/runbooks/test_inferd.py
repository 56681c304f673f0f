"""inferd with the real ONNX Runtime and a real model, as somebody runs it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import wait_for

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "runbooks/serving/inferd"
PADDING = 256  # what the model's input is filled up with
SIZE = 1024  # bytes of a file's beginning and end that the model is shown


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("go", "gcc"):
        if shutil.which(tool) is None:
            assert "CI" not in os.environ, f"there is no {tool} here"
            pytest.skip(f"there is no {tool} here")
    program = tmp_path_factory.mktemp("inferd") / "inferd"
    env = os.environ | {"CGO_ENABLED": "1", "GOTOOLCHAIN": "auto", "GOFLAGS": "-buildvcs=false"}
    subprocess.run(["go", "build", "-o", program, "."], cwd=SOURCE, env=env, check=True)
    return program


@pytest.fixture(scope="module")
def onnx() -> Path:
    place = ROOT / "build/fixtures/onnx"
    subprocess.run([ROOT / "ci/fixtures/onnx", place], check=True)
    return place


class Served:
    """A running inferd, whose model's file is a copy that may be changed."""

    def __init__(
        self,
        binary: Path,
        onnx: Path,
        scratch: Path,
        *options: str,
        passed: socket.socket | None = None,
    ) -> None:
        self.labels = json.loads((onnx / "magika/config.json").read_text())["target_labels_space"]
        self.model = scratch / "model.onnx"
        shutil.copy(onnx / "magika/model.onnx", self.model)
        self.log = scratch / "log"
        library = onnx / "runtime/libonnxruntime.so"
        listen = [f"-listen{name}=127.0.0.1:0" for name in ("", "-grpc", "-private")]
        command = [binary, "-runtime", library, "-model", f"magika={self.model}", *listen, *options]
        if passed is not None:  # as systemd does it: from descriptor 3 on, for this process alone
            start = 'fd=$1; shift; LISTEN_PID=$$ exec "$@" 3<&"$fd"'
            names = ["env", "LISTEN_FDS=1", "LISTEN_FDNAMES=rest"]
            command = [*names, "bash", "-c", start, "bash", str(passed.fileno()), *command]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stderr=log, stdout=log, pass_fds=[passed.fileno()] if passed else []
            )

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()

    def ready(self) -> None:
        wait_for(lambda: self.process.poll() is not None or self._lines("ready"))
        assert self.process.poll() is None, self.said()
        (started,) = self._lines("ready")
        self.port = int(started["rest"].rpartition(":")[2])

    def _lines(self, message: str) -> list[dict[str, Any]]:
        lines = map(json.loads, self.said())
        return [line for line in lines if line["msg"] == message]

    def reload(self, message: str) -> None:
        before = len(self._lines(message))
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(self._lines(message)) > before)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def ask(self, content: bytes, kept: http.client.HTTPConnection | None = None) -> str:
        """What kind of file the model takes this for."""
        begin, end = list(content[:SIZE].lstrip()), list(content[-SIZE:].rstrip())
        begin += [PADDING] * (SIZE - len(begin))
        end = [PADDING] * (SIZE - len(end)) + end
        tensor = {"name": "bytes", "datatype": "INT32", "shape": [1, 2 * SIZE]}
        connection = kept or self.connect()
        connection.request(
            "POST",
            "/v2/models/magika/infer",
            json.dumps({"inputs": [tensor | {"data": begin + end}]}),
        )
        answer = connection.getresponse()
        body = json.loads(answer.read())
        if kept is None:
            connection.close()
        assert answer.status == http.HTTPStatus.OK, body
        scores = body["outputs"][0]["data"]
        return str(self.labels[scores.index(max(scores))])


@pytest.fixture
def served(binary: Path, onnx: Path, tmp_path: Path) -> Iterator[Served]:
    one = Served(binary, onnx, tmp_path)
    one.ready()
    yield one
    one.process.kill()
    one.process.wait()


def test_a_real_model_tells_what_files_are(served: Served) -> None:
    for path, kind in (
        (SOURCE / "main.go", "go"),
        (Path(__file__), "python"),
        (SOURCE / "README.md", "markdown"),
        (Path("/bin/true"), "elf"),
    ):
        assert served.ask(path.read_bytes()) == kind


def test_reloads_and_the_end_lose_no_request(served: Served) -> None:
    content = (SOURCE / "main.go").read_bytes()
    over = threading.Event()
    wrong: list[BaseException] = []
    asked: list[str] = []

    def client() -> None:
        while not over.is_set():
            try:
                asked.append(served.ask(content))
            except (OSError, AssertionError, http.client.HTTPException) as error:
                wrong.append(error)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for one in clients:
        one.start()
    for _ in range(10):
        served.reload("a model was loaded")
    good = served.model.read_bytes()
    served.model.write_bytes(good[: len(good) // 2])
    served.reload("a model stays as it was")
    over.set()
    for one in clients:
        one.join()
    assert wrong == []
    assert len(asked) > len(clients)
    assert set(asked) == {"go"}
    served.process.terminate()
    assert served.process.wait(30) == 0


def test_a_restart_behind_a_passed_socket_loses_no_request(
    binary: Path, onnx: Path, tmp_path: Path
) -> None:
    content = (SOURCE / "main.go").read_bytes()
    over = threading.Event()
    wrong: list[BaseException] = []
    answers = {"kept": 0, "anew": 0}
    with socket.create_server(("127.0.0.1", 0)) as passed:
        served = Served(binary, onnx, tmp_path, passed=passed)
        served.ready()

        def client(way: str) -> None:
            connection = served.connect()
            while not over.wait(0.01):  # a connection that is kept is idle most of the time
                try:
                    assert served.ask(content, connection) == "go"
                    answers[way] += 1
                except (OSError, AssertionError, http.client.HTTPException) as error:
                    wrong.append(error)
                    return
                if way == "anew":
                    connection.close()
            connection.close()

        clients = [threading.Thread(target=client, args=(way,)) for way in ("kept", "anew") * 2]
        for one in clients:
            one.start()
        for _ in range(4):
            before = dict(answers)
            wait_for(lambda before=before: wrong or min(answers.values()) > max(before.values()))
            served.process.terminate()
            assert served.process.wait(30) == 0
            served = Served(binary, onnx, tmp_path, passed=passed)
            served.ready()
        over.set()
        for one in clients:
            one.join()
        served.process.kill()
        served.process.wait()
    assert wrong == []


def test_a_client_that_sends_half_a_request_ends_nothing(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as half:
        half.sendall(
            b"POST /v2/models/magika/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        )
    assert served.ask((SOURCE / "main.go").read_bytes()) == "go"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-provider", "cuda"], r"inferd: .*CUDA"),
        (["-model", "magika=again"], r"two models named magika"),
        (["-provider", "tpu"], r"it is cpu or cuda"),
        (["-batch-rows", "0"], r"inferd: -batch-rows, -queue and -workers are at least 1"),
        (["-listen", "127.0.0.1:1", "-listen-grpc", "no address"], r"inferd: listen tcp"),
    ],
)
def test_what_cannot_be_served_is_said_at_the_start(
    binary: Path, onnx: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    one = Served(binary, onnx, tmp_path, *options)
    assert one.process.wait(60) == 1
    assert re.search(says, "\n".join(one.said())), one.said()


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_file_that_is_no_model(binary: Path, onnx: Path, tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "none.onnx"
    place.write_bytes(content)
    one = Served(binary, onnx, tmp_path, "-model", f"none={place}")
    assert one.process.wait(60) == 1
    assert f"model {place} cannot be read" in "\n".join(one.said())


def test_a_check_says_what_the_model_takes_and_ends(
    binary: Path, onnx: Path, tmp_path: Path
) -> None:
    one = Served(binary, onnx, tmp_path, "-check")
    assert one.process.wait(60) == 0
    assert one.said()[0] == (
        "magika takes [{bytes INT32 [-1 2048]}] and gives [{target_label FP32 [-1 214]}]"
    )
