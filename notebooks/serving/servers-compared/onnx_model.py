"""A model in ONNX Runtime, set up as in the servers in Go: what the servers in Python share."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime


class OnnxModel:
    """A model with one INT32 input and one FP32 output."""

    def __init__(self, name: str, file: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.name = name
        self.session = onnxruntime.InferenceSession(file, options)
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[0].name
        self.takes = self.session.get_inputs()[0].shape[1]
        self.gives = self.session.get_outputs()[0].shape[1]

    def run(self, rows: Any) -> Any:
        """The answers to rows of numbers."""
        return self.session.run([self.output], {self.input: np.asarray(rows, np.int32)})[0]


def named() -> dict[str, OnnxModel]:
    """The models of $MODELS, NAME=FILE and NAME=FILE, by name."""
    pairs = (one.split("=", 1) for one in os.environ["MODELS"].split())
    return {name: OnnxModel(name, file) for name, file in pairs}
