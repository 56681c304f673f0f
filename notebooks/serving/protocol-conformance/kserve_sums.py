"""KServe's server with the model sums: kserve_sums.py --http_port=N --grpc_port=N"""

import argparse
from typing import Any

from kserve import InferOutput, InferResponse, Model, ModelServer, model_server
from kserve.utils.utils import generate_uuid


class Sums(Model):  # type: ignore[misc] # the library is the fixture's
    """What an author of a model writes; what a request may hold is left to the server."""

    def load(self) -> bool:
        """There is nothing to load."""
        self.ready = True
        return self.ready

    async def get_input_types(self) -> list[dict[str, Any]]:
        """What the metadata says of the inputs."""
        return [
            {"name": "a", "datatype": "INT32", "shape": [-1, 2]},
            {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
        ]

    async def get_output_types(self) -> list[dict[str, Any]]:
        """What the metadata says of the outputs."""
        return [
            {"name": "twice", "datatype": "INT32", "shape": [-1, 2]},
            {"name": "square", "datatype": "FP32", "shape": [-1, 2]},
        ]

    def predict(self, payload: Any, *_: Any, **__: Any) -> Any:
        """The two outputs, from inputs by name."""
        given = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        answers = {"twice": given["a"] + given["a"], "square": given["x"] * given["x"]}
        types = {"twice": "INT32", "square": "FP32"}
        outputs = []
        for name, answer in answers.items():
            output = InferOutput(name=name, shape=list(answer.shape), datatype=types[name])
            output.set_data_from_numpy(answer, binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return InferResponse(
            response_id=payload.id or generate_uuid(),  # as the library's own helper does
            model_name=self.name,
            infer_outputs=outputs,
            requested_outputs=payload.request_outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(parents=[model_server.parser]).parse_args()
    model = Sums("sums")
    model.load()
    ModelServer(workers=1).start([model])
