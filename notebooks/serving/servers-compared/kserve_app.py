"""The models behind KServe's server: kserve_app.py --http_port=N --grpc_port=N"""

import argparse
from typing import Any

import onnx_model
from kserve import InferOutput, InferResponse, Model, ModelServer, model_server
from kserve.utils.utils import generate_uuid


class Onnx(Model):  # type: ignore[misc] # the library is the fixture's
    """What an author of a model writes."""

    def __init__(self, model: onnx_model.OnnxModel) -> None:
        super().__init__(model.name)
        self.model = model
        self.ready = True

    def predict(self, payload: Any, *_: Any, **__: Any) -> Any:
        """The answer to the one input."""
        values = self.model.run(payload.inputs[0].as_numpy())
        output = InferOutput(name=self.model.output, shape=list(values.shape), datatype="FP32")
        output.set_data_from_numpy(values, binary_data=payload.use_binary_outputs)
        return InferResponse(
            response_id=payload.id or generate_uuid(),
            model_name=self.name,
            infer_outputs=[output],
            requested_outputs=payload.request_outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(parents=[model_server.parser]).parse_args()
    ModelServer(workers=1).start([Onnx(model) for model in onnx_model.named().values()])
