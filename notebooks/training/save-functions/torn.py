"""usage: torn.py KEEP     says what torch.load makes of damaged checkpoints

Each line: the damage, what torch.load says, what the test of Python's zipfile says, and what the
program KEEP says, asked to check it; tabs between.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import zipfile
from pathlib import Path

import torch  # type: ignore[import-not-found, unused-ignore]

LENGTH = 400_000


def loaded(path: Path) -> str:
    try:
        weights = torch.load(path, weights_only=True)["w"]
    except Exception as error:
        return textwrap.shorten(f"{type(error).__name__}: {error}", 110, placeholder=" ...")
    wrong = int((weights != 7).sum())
    return f"no error, {wrong} of {LENGTH} numbers are wrong" if wrong else "no error"


def tested(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except zipfile.BadZipFile as error:
        return str(error)
    return f"bad CRC-32 of {bad}" if bad else "no error"


def kept(path: Path) -> str:
    argv = [sys.executable, sys.argv[1], "check", str(path)]
    done = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=False)
    said = done.stderr.strip().replace(f"{path} ", "")
    return said.partition(": keep it")[0] if done.returncode else "no error"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "last.pt")
        weights = torch.full((LENGTH,), 7, dtype=torch.uint8)
        torch.save({"w": weights}, path)
        good = path.read_bytes()
        middle = len(good) // 2
        torch.save({"w": weights}, path, _use_new_zipfile_serialization=False)
        old = path.read_bytes()
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
            print(damage, loaded(path), tested(path), kept(path), sep="\t")


main()
