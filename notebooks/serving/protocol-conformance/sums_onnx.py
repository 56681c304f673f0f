"""Writes the model sums in ONNX's format: sums_onnx.py FILE

A message of protobuf is a row of fields, each with its number in front; these few need no library.
"""

import sys
from pathlib import Path

INT32, FP32 = 6, 1  # TensorProto.DataType
OPSET = 13


def field(number: int, value: int | str | bytes) -> bytes:
    """One field: a small integer, or a text or message with its length in front."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    content = value.encode() if isinstance(value, str) else value
    size, length = b"", len(content)
    while length > 0x7F:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def port(name: str, datatype: int) -> bytes:
    """An input or output of shape [rows, 2]: ValueInfoProto."""
    shape = field(1, field(2, "rows")) + field(1, field(1, 2))
    return field(1, name) + field(2, field(1, field(1, datatype) + field(2, shape)))


def node(operator: str, taken: str, given: str) -> bytes:
    """An operator that takes one tensor twice: NodeProto."""
    return field(1, taken) + field(1, taken) + field(2, given) + field(4, operator)


def sums() -> bytes:
    """twice = a + a, square = x * x: ModelProto."""
    graph = field(1, node("Add", "a", "twice")) + field(1, node("Mul", "x", "square"))
    graph += field(2, "sums") + field(11, port("a", INT32)) + field(11, port("x", FP32))
    graph += field(12, port("twice", INT32)) + field(12, port("square", FP32))
    return field(1, 8) + field(7, graph) + field(8, field(2, OPSET))


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(sums())
