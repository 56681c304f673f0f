"""usage: save.py     saves two checkpoints for each line DIRECTORY FUNCTION of standard input

Each line has a process of its own, forked once the function's library is loaded: a slow import is
paid for once. It saves the first checkpoint, tells its own number and the checkpoint's SHA-256,
stops itself, and when it is let go on saves the second in the place of the first. What it died of
is told, if anything, and then how it ended. With +whole after its name, a function writes within
whole(), with +check within a whole() that checks what was written.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pickle
import signal
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # Python takes no module from there by itself here

from whole import whole

LENGTH = 400_000  # bytes of the one tensor of a checkpoint
PR_SET_PTRACER = 0x59616D61
ANY = ctypes.c_ulong(-1)

Function = Callable[[bytearray, str], None]


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


def torch_path(data: bytearray, path: str) -> None:
    import torch  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - as above

    torch.save({"w": torch.frombuffer(data, dtype=torch.uint8)}, path)


def torch_file(data: bytearray, path: str) -> None:
    import torch  # noqa: PLC0415 - as above

    with Path(path).open("wb") as file:
        torch.save({"w": torch.frombuffer(data, dtype=torch.uint8)}, file)


def npy_check(path: str) -> None:
    import numpy as np  # noqa: PLC0415 - as above

    np.load(path, mmap_mode="r")


def zip_check(path: str) -> None:
    zipfile.ZipFile(path).close()


CHECKS = {".npy": npy_check, ".npz": zip_check, ".pt": zip_check}
FUNCTIONS: dict[str, tuple[str, Function]] = {
    "np.save": ("last.npy", np_save),
    "np.savez": ("last.npz", np_savez),
    "pickle.dump": ("last.pkl", pickle_dump),
    "safetensors": ("last.safetensors", safetensors_file),
    "torch path": ("last.pt", torch_path),
    "torch 最后": ("last.最后.pt", torch_path),
    "torch file": ("last.pt", torch_file),
}


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def within(plain: Function, suffix: str, *, checked: bool) -> Function:
    """The function within whole()."""

    def function(data: bytearray, path: str) -> None:
        with whole(path, check=CHECKS.get(suffix) if checked else None) as beside:
            plain(data, beside)

    return function


def save_twice(function: Function, path: Path) -> None:
    first, second = bytearray(os.urandom(LENGTH)), bytearray(os.urandom(LENGTH))
    function(first, str(path))
    path.chmod(0o640)
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)  # where Yama asks for it
    say(f"{os.getpid()} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    os.kill(os.getpid(), signal.SIGSTOP)
    function(second, str(path))


def forked(function: Function, path: Path) -> int:
    """How the process ended that has saved twice, as :mod:`subprocess` tells it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        save_twice(function, path)
    except Exception as error:
        words = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}\n".encode()
        try:
            os.writev(1, [words])
        except OSError:  # one of the two calls is made to fail here
            os.write(1, words)
        os._exit(1)
    os._exit(0)


def main() -> None:
    ready = set()
    for line in iter(sys.stdin.readline, ""):
        directory, name = line.rstrip("\n").split(" ", 1)
        name, _, how = name.partition("+")
        file, plain = FUNCTIONS[name]
        if name not in ready:  # a first save loads the library
            with tempfile.TemporaryDirectory() as scratch:
                plain(bytearray(1), str(Path(scratch, file)))
            ready.add(name)
        function = within(plain, Path(file).suffix, checked=how == "check") if how else plain
        say(f"ended {forked(function, Path(directory, file))}")


if __name__ == "__main__":
    main()
