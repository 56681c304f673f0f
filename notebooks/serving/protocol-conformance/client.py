"""Asks a server through the official client alone, tritonclient: client.py NAME HOST:PORT HOST:PORT

A line of JSON for each thing that is asked, over REST and over gRPC: what came, or the error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http

A = np.array([[3, -4]], dtype=np.int32)
X = np.array([[0.5, -1.5]], dtype=np.float32)
KITS = {"REST": tritonclient.http, "gRPC": tritonclient.grpc}


class Asker:
    """One client of one protocol, used as its own examples use it."""

    def __init__(self, protocol: str, address: str) -> None:
        self.kit = KITS[protocol]
        self.client = self.kit.InferenceServerClient(address)
        self.form = {"as_json": True} if protocol == "gRPC" else {}

    def questions(self, *, second: bool) -> dict[str, Callable[[], Any]]:
        """What every server is asked, and one that has a second model."""
        asked: dict[str, Callable[[], Any]] = {
            "is_server_live": self.client.is_server_live,
            "is_server_ready": self.client.is_server_ready,
            "is_model_ready": lambda: self.client.is_model_ready("sums"),
            "get_model_metadata": lambda: ", ".join(
                f"{port['name']} {port['datatype']}" for port in self.takes("sums")
            ),
            "infer": self.sums,
        }
        if second:
            asked["infer, another model"] = lambda: self.other("magika")
        return asked

    def takes(self, model: str) -> list[dict[str, Any]]:
        """The model's inputs, by its metadata."""
        told = self.client.get_model_metadata(model, **self.form)
        inputs: list[dict[str, Any]] = told["inputs"]
        return inputs

    def given(self, name: str, datatype: str, values: Any) -> Any:
        """An input; over REST the client sends it as bytes unless it is told otherwise."""
        tensor = self.kit.InferInput(name, values.shape, datatype)
        tensor.set_data_from_numpy(values)
        return tensor

    def sums(self) -> str:
        """Whether the model's answer is right."""
        inputs = [self.given("a", "INT32", A), self.given("x", "FP32", X)]
        wanted = [self.kit.InferRequestedOutput(name) for name in ("twice", "square")]
        answer = self.client.infer("sums", inputs, outputs=wanted, request_id="ab-42")
        right = {"twice": A + A, "square": X * X}
        same = [np.array_equal(answer.as_numpy(name), value) for name, value in right.items()]
        return "right" if all(same) else "wrong"

    def other(self, model: str) -> str:
        """A model of other inputs, which only its metadata tells: what it gives, by shape."""
        (port,) = self.takes(model)
        zeros = np.zeros([1, *map(int, port["shape"][1:])], dtype=np.int32)
        answer = self.client.infer(model, [self.given(port["name"], port["datatype"], zeros)])
        (output,) = answer.get_response(**self.form)["outputs"]
        return f"{output['name']} {[int(size) for size in output['shape']]}"


def main() -> int:
    """Each question by itself: one that fails hides none."""
    name, *addresses = sys.argv[1:]
    for protocol, address in zip(KITS, addresses, strict=True):
        asker = Asker(protocol, address)
        questions = asker.questions(second=name == "inferd")
        for question, ask in questions.items():
            try:
                came = str(ask())
            except Exception as error:  # whatever the client raises is what is looked for
                came = f"{type(error).__name__}: {error}".splitlines()[0]
            said = {"server": name, "protocol": protocol, "asked": question, "came": came}
            print(json.dumps(said))
        asker.client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
