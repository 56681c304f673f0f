"""Make a model smaller, and ask each one the same: smaller.py make|ask ...

make MODEL INTO SHARE OPERATORS   quantised and pruned copies; OPERATORS are those to quantise
ask MODELS CONFIG FILES           what each says of the files, how big it is, and how long it takes
"""

import json
import statistics
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

ROUNDS = 3


def make(model: str, into: str, share: str, operators: str) -> None:
    whole = onnx.load(model)
    onnx.save(whole, Path(into, "whole.onnx"))
    quantize_dynamic(  # it writes a file beside what it reads
        Path(into, "whole.onnx"),
        Path(into, "quantised.onnx"),
        op_types_to_quantize=operators.split(","),
        weight_type=QuantType.QInt8,
    )
    for weight in whole.graph.initializer:
        numbers = numpy_helper.to_array(weight)
        if numbers.dtype == np.float32 and numbers.ndim >= 2:
            least = np.quantile(np.abs(numbers), float(share))
            kept = np.where(np.abs(numbers) < least, np.float32(0), numbers)
            weight.CopyFrom(numpy_helper.from_array(kept, weight.name))
    onnx.save(whole, Path(into, "pruned.onnx"))


def bytes_of(file: str, config: dict[str, int]) -> list[int]:
    """The first and the last bytes of a file, as the model wants them."""
    content = Path(file).read_bytes().strip()
    first, last = content[: config["beg_size"]], content[-config["end_size"] :]
    padding = [config["padding_token"]]
    return [
        *first,
        *padding * (config["beg_size"] - len(first)),
        *padding * (config["end_size"] - len(last)),
        *last,
    ]


def ask(models: str, config: str, files: str) -> None:
    settings = json.loads(Path(config).read_text())
    listed = Path(files).read_text().splitlines()
    given = np.array([bytes_of(file, settings) for file in listed], dtype=np.int32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    names = ("whole", "quantised", "pruned")
    sessions = {
        name: onnxruntime.InferenceSession(
            Path(models, f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        for name in names
    }
    took: dict[str, list[float]] = {name: [] for name in names}
    answers = {}
    for _ in range(ROUNDS):  # they take turns
        for name, session in sessions.items():
            began = time.process_time()
            (answers[name],) = session.run(None, {session.get_inputs()[0].name: given})
            took[name].append(time.process_time() - began)
    said: dict[str, Any] = {}
    for name in names:
        file = Path(models, f"{name}.onnx")
        weights = onnx.load(file).graph.initializer
        count = sum(int(np.prod(each.dims)) for each in weights)
        int8 = sum(int(np.prod(each.dims)) for each in weights if each.data_type == 3)
        ratios = [b / a for a, b in zip(took["whole"], took[name], strict=True)]
        said[name] = {
            "bytes": file.stat().st_size,
            "compressed": len(zlib.compress(file.read_bytes())),
            "weights in 8 bits": round(int8 / count, 2),
            "shapes": sorted([list(each.dims) for each in weights]),
            "operators": sorted({node.op_type for node in onnx.load(file).graph.node}),
            "time": round(statistics.median(ratios), 2),
            "same answers": round(
                float((answers[name].argmax(1) == answers["whole"].argmax(1)).mean()), 3
            ),
        }
    said["files"] = len(listed)
    labels = [settings["target_labels_space"][i] for i in answers["whole"].argmax(1)]
    said["kinds"] = len(set(labels))
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        ask(*sys.argv[2:])
