"""The model sums for MLServer."""

from typing import Any

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Sums(MLModel):  # type: ignore[misc] # the library is the fixture's
    """What an author of a model writes; what a request may hold is left to the server."""

    async def predict(self, payload: Any) -> Any:
        """The two outputs, from inputs by name."""
        given = {tensor.name: self.decode(tensor, NumpyCodec) for tensor in payload.inputs}
        answers = {"twice": given["a"] + given["a"], "square": given["x"] * given["x"]}
        outputs = [NumpyCodec.encode_output(name, answer) for name, answer in answers.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)
