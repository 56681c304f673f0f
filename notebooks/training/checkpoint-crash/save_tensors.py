"""usage: save_tensors.py PAUSE [TIMES]     saves $DIR/last.ckpt with safetensors

It calls what save_file() of safetensors.numpy and safetensors.torch call, so often or without end,
with a pause of so many seconds. Around each checkpoint it says which it is, by its SHA-256.
"""

import ctypes
import hashlib
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

import safetensors  # type: ignore[import-not-found, unused-ignore]  # a fixture brings it

LENGTH = 50_000  # bytes of each of four tensors
FORMAT = {"dtype": "float32", "shape": [LENGTH // 4]}


def tensors(content: list[bytearray]) -> dict[str, Any]:
    """The same, as this release wants them: from 0.8 on by address."""
    if not hasattr(safetensors, "TensorSpec"):
        return {f"w{n}": {**FORMAT, "data": bytes(data)} for n, data in enumerate(content)}
    return {
        f"w{n}": safetensors.TensorSpec(
            **FORMAT, data_ptr=ctypes.addressof(ctypes.c_char.from_buffer(data)), data_len=LENGTH
        )
        for n, data in enumerate(content)
    }


def say(line: str) -> None:
    """With one write, so that writes can be counted."""
    os.write(1, f"{line}\n".encode())


def main() -> None:
    place = Path(os.environ["DIR"], "last.ckpt")
    pause, times = float(sys.argv[1]), [int(word) for word in sys.argv[2:]]
    for _ in range(times[0]) if times else itertools.repeat(None):
        content = [bytearray(os.urandom(LENGTH)) for _ in range(4)]
        digest = hashlib.sha256(safetensors.serialize(tensors(content))).hexdigest()
        say(f"saving {digest}")
        safetensors.serialize_file(tensors(content), place)
        say(f"saved {digest}")
        time.sleep(pause)


if __name__ == "__main__":
    main()
