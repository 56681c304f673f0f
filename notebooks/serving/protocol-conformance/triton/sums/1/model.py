"""The model sums for Triton's Python backend."""

from typing import Any

import triton_python_backend_utils as pb


class TritonPythonModel:
    """Answers each request by itself; what a request may hold, Triton has checked."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """The answers, in the order of the requests."""
        answers = []
        for request in requests:
            a = pb.get_input_tensor_by_name(request, "a").as_numpy()
            x = pb.get_input_tensor_by_name(request, "x").as_numpy()
            outputs = [pb.Tensor("twice", a + a), pb.Tensor("square", x * x)]
            answers.append(pb.InferenceResponse(outputs))
        return answers
