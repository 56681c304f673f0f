"""A model of $MODELS for Triton's Python backend, by its name."""

import os
import sys
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

# The backend's Python is isolated and does not look there by itself.
sys.path += os.environ["PYTHONPATH"].split(":")
import onnx_model


class TritonPythonModel:
    """Runs the requests that Triton gathered at once, in one call."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """The model of this name."""
        self.model = onnx_model.named()[arguments["model_name"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """The answers, in the order of the requests."""
        rows = [pb.get_input_tensor_by_name(each, self.model.input).as_numpy() for each in requests]
        values = self.model.run(np.concatenate(rows))
        ends = np.cumsum([len(row) for row in rows])[:-1]
        return [
            pb.InferenceResponse([pb.Tensor(self.model.output, part)])
            for part in np.split(values, ends)
        ]
