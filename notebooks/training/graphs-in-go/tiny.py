"""Write a small ONNX model: tiny.py FILE KIND OPSET

Kinds: layer, a fully connected layer with Relu; softmax, over an array of 2 x 2 x 2; unsqueeze,
whose axes are an attribute up to opset 12 and an input from 13 on.
"""

import struct
import sys
from pathlib import Path


def number(value: int) -> bytes:
    """A number as Protobuf writes it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(tag: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return number(tag << 3) + number(value)
    data = value.encode() if isinstance(value, str) else value
    return number(tag << 3 | 2) + number(len(data)) + data


def described(name: str, shape: list[int]) -> bytes:
    dims = b"".join(field(1, field(1, length)) for length in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def tensor(name: str, kind: int, shape: list[int], data: bytes) -> bytes:
    return (
        b"".join(field(1, length) for length in shape)
        + field(2, kind)
        + field(8, name)
        + field(9, data)
    )


def node(kind: str, takes: list[str], gives: str, *attributes: bytes) -> bytes:
    return (
        b"".join(field(1, one) for one in takes)
        + field(2, gives)
        + field(3, f"the-{gives}")
        + field(4, kind)
        + b"".join(field(5, one) for one in attributes)
    )


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def model(kind: str, opset: int) -> bytes:
    kept: list[bytes] = []
    if kind == "layer":
        shape, out = [1, 2], [1, 2]
        kept = [tensor("w", 1, [2, 2], floats(1, -1, 2, -2)), tensor("b", 1, [1, 2], floats(10, 1))]
        nodes = [
            node("MatMul", ["x", "w"], "m"),
            node("Add", ["m", "b"], "a"),
            node("Relu", ["a"], "y"),
        ]
    elif kind == "softmax":
        shape = out = [2, 2, 2]
        nodes = [node("Softmax", ["x"], "y")]
    else:
        shape, out = [2], [1, 2]
        if opset < 13:
            nodes = [node("Unsqueeze", ["x"], "y", field(1, "axes") + field(8, 0) + field(20, 7))]
        else:
            kept = [tensor("axes", 7, [1], struct.pack("<q", 0))]
            nodes = [node("Unsqueeze", ["x", "axes"], "y")]
    graph = (
        b"".join(field(1, one) for one in nodes)
        + field(2, kind)
        + b"".join(field(5, one) for one in kept)
        + field(11, described("x", shape))
        + field(12, described("y", out))
    )
    return field(1, 4) + field(7, graph) + field(8, field(2, opset))


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(model(sys.argv[2], int(sys.argv[3])))
