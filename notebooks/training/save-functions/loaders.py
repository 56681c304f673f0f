"""usage: loaders.py KEEP NEW OLD     says what loaders make of files that are not for them

NEW and OLD are directories of two releases of safetensors. Five kinds of lines, tabs between:
  torn     a damage, what torch.load says, what the test of Python's zipfile says, and what the
           program KEEP says, asked to check it
  cut      a loader, at how many bytes a file of its own was cut, how many of those it has loaded
  release  what is of another release, what its loader says, and what the program KEEP says of it
  model    a model, and what load_state_dict says of another one's checkpoint: strict, and not
  named    a format, and the model's name that stands in a file of it
"""

from __future__ import annotations

import ctypes
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found, unused-ignore]
from torch.nn import Linear, ReLU, Sequential  # type: ignore[import-not-found, unused-ignore]

KEEP, NEW, OLD = sys.argv[1:]
LENGTH = 400_000  # numbers of the checkpoint that is damaged
READ = "import sys, safetensors; safetensors.safe_open(sys.argv[1], framework='numpy')"


def kept(path: Path) -> str:
    """What keep says of it."""
    argv = [sys.executable, KEEP, "check", str(path)]
    done = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=False)
    told = done.stderr.strip().replace(f"{path} ", "")
    return told.partition(": keep it")[0] if done.returncode else "no error"


def safetensors_of(kind: str, size: int) -> bytes:
    """A file of one tensor."""
    entry = {"dtype": kind, "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"w": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def said(load: Callable[..., object], *given: object, **named: object) -> str:
    """The first words of what a loader fails with, or that it does not."""
    try:
        load(*given, **named)
    except Exception as error:
        words = re.sub(r"Error\(s\) in loading state_dict for \w+:", "", str(error))
        return textwrap.shorten(f"{type(error).__name__}: {words}", 130, placeholder=" ...")
    return "no error"


def torch_load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def np_load(path: Path) -> Any:
    return np.load(path)


def pickle_load(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - it was written here


def safe_open(path: Path) -> Any:
    import safetensors  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - NEW's

    return safetensors.safe_open(path, framework="numpy")


def safe_open_before(path: Path) -> None:
    """The same of the earlier release, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        env={"PYTHONPATH": OLD, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2].partition(": ")[2])


def weights(path: Path) -> str:
    """What torch.load says, and how many numbers are wrong if it says nothing."""
    if (told := said(torch_load, path)) != "no error":
        return told
    wrong = int((torch_load(path)["w"] != 7).sum())
    return f"no error, {wrong} of {LENGTH} numbers are wrong" if wrong else told


def tested(path: Path) -> str:
    """What ``python3 -m zipfile --test`` finds."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except zipfile.BadZipFile as error:
        return str(error)
    return f"bad CRC-32 of {bad}" if bad else "no error"


def torn(path: Path) -> None:
    numbers = torch.full((LENGTH,), 7, dtype=torch.uint8)
    torch.save({"w": numbers}, path)
    good = path.read_bytes()
    torch.save({"w": numbers}, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes()
    middle = len(good) // 2
    damages = {
        "none": good,
        "empty": b"",
        "its first 1000 bytes": good[:1000],
        "its first 50000 bytes": good[:50000],
        "its last byte is missing": good[:-1],
        "zeros alone, of the right size": bytes(len(good)),
        "its first 4096 bytes are zeros": bytes(4096) + good[4096:],
        "4096 zeros amid the numbers": good[:middle] + bytes(4096) + good[middle + 4096 :],
        "none, in the old format": old,
        "its last byte is missing, in the old format": old[:-1],
        "its first 4096 bytes are zeros, in the old format": bytes(4096) + old[4096:],
    }
    for damage, content in damages.items():
        path.write_bytes(content)
        print("torn", damage, weights(path), tested(path), kept(path), sep="\t")


def cuts(path: Path) -> None:
    """Cut what each function has written at every byte."""
    small = io.BytesIO()
    torch.save({"w": torch.ones(3)}, small)
    array = io.BytesIO()
    np.save(array, np.ones(3))
    written: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
        "torch.load": (small.getvalue(), torch_load),
        "np.load": (array.getvalue(), np_load),
        "pickle.load": (pickle.dumps({"w": b"1" * 200}), pickle_load),
        "safetensors": (safetensors_of("U8", 64), safe_open),
    }
    for name, (content, load) in written.items():
        path.write_bytes(content)
        assert said(load, path) == "no error", name
        loaded = 0
        for length in range(len(content)):
            path.write_bytes(content[:length])
            loaded += said(load, path) == "no error"
        print("cut", name, len(content), loaded, sep="\t")


def of_version(version: bytes) -> bytes:
    """What torch.save writes, with another number of its format."""
    plain, made = io.BytesIO(), io.BytesIO()
    torch.save({"w": torch.ones(3)}, plain)
    with zipfile.ZipFile(plain) as read, zipfile.ZipFile(made, "w") as archive:
        for name in read.namelist():
            archive.writestr(name, version if name.endswith("/version") else read.read(name))
    return made.getvalue()


def releases(directory: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.ones(3))
    later = array.getvalue()[:6] + b"\4\0" + array.getvalue()[8:]
    protocol = b"\x80\6" + pickle.dumps({"w": 1}, protocol=5)[2:]
    cases: dict[str, tuple[str, bytes, Callable[[Path], Any]]] = {
        "torch.save's format 99": ("last.pt", of_version(b"99\n"), torch_load),
        "np.save's format 4.0": ("last.npy", later, np_load),
        "pickle's protocol 6": ("last.pkl", protocol, pickle_load),
        "a type that safetensors has from 0.8 on": (
            "last.safetensors",
            safetensors_of("F8_E4M3FNUZ", 64),
            safe_open_before,
        ),
    }
    for case, (name, content, load) in cases.items():
        path = directory / name
        path.write_bytes(content)
        print("release", case, said(load, path), kept(path), sep="\t")


def models(path: Path) -> None:
    def model() -> Any:
        return Sequential(Linear(4, 3), Linear(3, 2))

    torch.save(model().state_dict(), path)
    state = torch_load(path)
    others = {
        "the same": model(),
        "one layer more": Sequential(Linear(4, 3), Linear(3, 2), Linear(2, 2)),
        "a layer between, without numbers": Sequential(Linear(4, 3), ReLU(), Linear(3, 2)),
        "another width": Sequential(Linear(4, 3), Linear(3, 5)),
        "half as many bits": model().half(),
        "for another purpose, of the same shapes": model(),
    }
    for name, other in others.items():
        both = [said(other.load_state_dict, state, strict=strict) for strict in (True, False)]
        print("model", name, *both, sep="\t")


def named(path: Path) -> None:
    """A checkpoint that says itself what it is of."""
    import safetensors  # noqa: PLC0415 - as above

    torch.save({"model": "digits-3", "weights": Linear(4, 3).state_dict()}, path)
    print("named", "torch.save", torch_load(path)["model"], sep="\t")
    data = bytearray(12)
    tensor = safetensors.TensorSpec(
        dtype="float32",
        shape=[3],
        data_ptr=ctypes.addressof(ctypes.c_char.from_buffer(data)),
        data_len=len(data),
    )
    safetensors.serialize_file({"w": tensor}, path, metadata={"model": "digits-3"})
    print("named", "safetensors", safe_open(path).metadata()["model"], sep="\t")


def main() -> None:
    sys.path.insert(0, NEW)
    with tempfile.TemporaryDirectory() as scratch:
        torn(Path(scratch, "last.pt"))
        cuts(Path(scratch, "cut"))
        releases(Path(scratch))
        models(Path(scratch, "last.pt"))
        named(Path(scratch, "named"))


main()
