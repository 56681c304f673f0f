"""The models behind FastAPI."""

from typing import Any

import fastapi
import onnx_model
import pydantic

app = fastapi.FastAPI()
models = onnx_model.named()


class Tensor(pydantic.BaseModel):  # type: ignore[misc] # the library is the fixture's
    """An input of the protocol."""

    name: str
    datatype: str
    shape: list[int]
    data: list[int]


class Infer(pydantic.BaseModel):  # type: ignore[misc]
    """A request of the protocol."""

    inputs: list[Tensor]


@app.post("/v2/models/{name}/infer")  # type: ignore[untyped-decorator]
def infer(name: str, request: Infer) -> Any:
    """One request; without async, since FastAPI's manual has what blocks in a thread."""
    model = models[name]
    values = model.run([request.inputs[0].data])
    output = {"name": model.output, "datatype": "FP32", "shape": list(values.shape)}
    return {"model_name": name, "outputs": [output | {"data": values.ravel().tolist()}]}
