"""The models behind Flask."""

from typing import Any

import flask
import onnx_model

app = flask.Flask(__name__)
models = onnx_model.named()


@app.post("/v2/models/<name>/infer")  # type: ignore[untyped-decorator] # the fixture's
def infer(name: str) -> Any:
    """One request of the protocol."""
    model = models[name]
    given = flask.request.get_json()["inputs"][0]
    values = model.run([given["data"]])
    output = {"name": model.output, "datatype": "FP32", "shape": list(values.shape)}
    return {"model_name": name, "outputs": [output | {"data": values.ravel().tolist()}]}
