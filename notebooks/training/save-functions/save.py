"""usage: save.py FUNCTION DIRECTORY     saves two checkpoints, the second in the place of the first

It says on standard output when it begins with one, and what it is, by its SHA-256, when it has it.
With a + after its name, a function writes within whole().
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # Python takes no module from there by itself here

from whole import whole

LENGTH = 400_000  # bytes of the one tensor of a checkpoint


def np_save(data: bytearray, path: str) -> None:
    import numpy as np  # noqa: PLC0415 - each function needs its own library alone

    np.save(path, np.frombuffer(data, dtype=np.uint8))


def np_savez(data: bytearray, path: str) -> None:
    import numpy as np  # noqa: PLC0415 - each function needs its own library alone

    np.savez(path, w=np.frombuffer(data, dtype=np.uint8))


def safetensors_file(data: bytearray, path: str) -> None:
    """What save_file() of safetensors.numpy and safetensors.torch call."""
    import safetensors  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - as above

    said = {"dtype": "uint8", "shape": [len(data)]}
    if hasattr(safetensors, "TensorSpec"):  # from 0.8 on by address
        address = ctypes.addressof(ctypes.c_char.from_buffer(data))
        tensor = safetensors.TensorSpec(**said, data_ptr=address, data_len=len(data))
    else:
        tensor = {**said, "data": bytes(data)}
    safetensors.serialize_file({"w": tensor}, path)


def pickle_dump(data: bytearray, path: str) -> None:
    with Path(path).open("wb") as file:
        pickle.dump(data, file)


def zip_records(data: bytearray, path: str) -> None:
    """The container that torch.save writes: records that are stored, the directory last."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": len(data)}))
        archive.writestr("archive/data/0", bytes(data))
        archive.writestr("archive/version", "3\n")


FUNCTIONS: dict[str, tuple[str, Callable[[bytearray, str], None]]] = {
    "np.save": ("last.npy", np_save),
    "np.savez": ("last.npz", np_savez),
    "pickle.dump": ("last.pkl", pickle_dump),
    "safetensors": ("last.safetensors", safetensors_file),
    "zip": ("last.pt", zip_records),
}


def say(line: str) -> None:
    """With one write, which is seen among the calls."""
    os.write(1, f"{line}\n".encode())


def main(name: str, directory: str) -> None:
    file, function = FUNCTIONS[name.removesuffix("+")]
    path = Path(directory, file)
    for number in range(2):
        data = bytearray(os.urandom(LENGTH))
        say(f"saving {number}")
        if name.endswith("+"):
            with whole(path) as beside:
                function(data, beside)
        else:
            function(data, str(path))
        say(f"saved {number} {hashlib.sha256(path.read_bytes()).hexdigest()}")
        if number == 0:
            path.chmod(0o640)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        # By another call than write, which is made to fail here.
        os.writev(2, [f"{type(error).__name__}: {error}\n".encode()])
        sys.exit(1)
