"""usage: torn.py     says what torch.load makes of checkpoints that were damaged in several ways

Each line: the damage, what torch.load says, what the test of Python's zipfile says; tabs between.
"""

from __future__ import annotations

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


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "last.pt")
        torch.save({"w": torch.full((LENGTH,), 7, dtype=torch.uint8)}, path)
        good = path.read_bytes()
        middle = len(good) // 2
        damages = {
            "none": good,
            "empty": b"",
            "its first 1000 bytes": good[:1000],
            "its first 50000 bytes": good[:50000],
            "its last byte is missing": good[:-1],
            "zeros alone, of the right size": bytes(len(good)),
            "4096 zeros amid the numbers": good[:middle] + bytes(4096) + good[middle + 4096 :],
        }
        for damage, content in damages.items():
            path.write_bytes(content)
            print(damage, loaded(path), tested(path), sep="\t")


main()
