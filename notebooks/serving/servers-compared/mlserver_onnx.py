"""A model of $MODELS for MLServer, by its name."""

from typing import Any

import onnx_model
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Onnx(MLModel):  # type: ignore[misc] # the library is the fixture's
    """What an author of a model writes."""

    async def load(self) -> bool:
        """The model of this name."""
        self.model = onnx_model.named()[self.name]
        return True

    async def predict(self, payload: Any) -> Any:
        """The answer to the one input."""
        values = self.model.run(self.decode(payload.inputs[0], NumpyCodec))
        output = NumpyCodec.encode_output(self.model.output, values)
        return InferenceResponse(model_name=self.name, outputs=[output])
