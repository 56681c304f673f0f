"""Writes a model that costs nothing in ONNX's format: squares_onnx.py FILE

It takes four INT32 a row and gives their squares as FP32. A message of protobuf is a row of fields,
each with its number in front; these few need no library.
"""

import sys
from pathlib import Path

INT32, FP32 = 6, 1  # TensorProto.DataType
WIDTH = 4
OPSET = 13
INT = 2  # AttributeProto.AttributeType


def number(value: int) -> bytes:
    """A variable number of bytes, seven bits in each."""
    low = b""
    while value > 0x7F:
        low, value = low + bytes([value & 0x7F | 0x80]), value >> 7
    return low + bytes([value])


def field(key: int, value: int | str | bytes) -> bytes:
    """One field: an integer, or a text or message with its length in front."""
    if isinstance(value, int):
        return number(key << 3) + number(value)
    content = value.encode() if isinstance(value, str) else value
    return number(key << 3 | 2) + number(len(content)) + content


def port(name: str, datatype: int) -> bytes:
    """An input or output of shape [rows, WIDTH]: ValueInfoProto."""
    shape = field(1, field(2, "rows")) + field(1, field(1, WIDTH))
    return field(1, name) + field(2, field(1, field(1, datatype) + field(2, shape)))


def node(operator: str, taken: list[str], given: str, attribute: bytes = b"") -> bytes:
    """An operator: NodeProto."""
    inputs = b"".join(field(1, name) for name in taken)
    return inputs + field(2, given) + field(4, operator) + attribute


def squares() -> bytes:
    """squares = float(numbers) * float(numbers): ModelProto."""
    to = field(5, field(1, "to") + field(3, FP32) + field(20, INT))
    graph = field(1, node("Cast", ["numbers"], "real", to))
    graph += field(1, node("Mul", ["real", "real"], "squares"))
    graph += field(2, "squares")
    graph += field(11, port("numbers", INT32)) + field(12, port("squares", FP32))
    return field(1, 8) + field(7, graph) + field(8, field(2, OPSET))


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(squares())
