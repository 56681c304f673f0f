"""What DataLoader's workers hold in /dev/shm: loader.py BATCH WORKERS AHEAD [STRATEGY]

BATCH is the size of a batch in MiB, AHEAD the loader's prefetch_factor. At its third batch the loop
waits until the workers are as far ahead as they may be, so that the most is seen on a slow machine.
"""

import os
import sys
import time

import torch  # type: ignore[import-not-found, unused-ignore]
from torch.utils.data import DataLoader, Dataset  # type: ignore[import-not-found, unused-ignore]

MEBIBYTE = 1 << 20
READS = 12
PATIENCE = 30  # seconds


class Rows(Dataset):  # type: ignore[misc, unused-ignore]
    """Batches of ones."""

    def __init__(self, mebibytes: int) -> None:
        self.floats = mebibytes * MEBIBYTE // 4

    def __len__(self) -> int:
        return READS

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.ones(self.floats)


def used() -> int:
    """The bytes of /dev/shm that are taken."""
    about = os.statvfs("/dev/shm")  # noqa: S108 - where PyTorch puts batches
    return (about.f_blocks - about.f_bfree) * about.f_frsize


def main() -> None:
    """Read all batches, and say how much of /dev/shm they took at most."""
    batch, workers, ahead = map(int, sys.argv[1:4])
    if len(sys.argv) > 4:
        torch.multiprocessing.set_sharing_strategy(sys.argv[4])
    more = {"prefetch_factor": ahead} if workers else {}
    before, most, read = used(), 0, 0
    expected = batch * (workers * ahead + 1) * MEBIBYTE if workers else 0
    for _ in DataLoader(Rows(batch), batch_size=1, num_workers=workers, **more):
        read += 1
        deadline = time.monotonic() + (PATIENCE if read == 3 else 0)
        while True:
            most = max(most, used() - before)
            if most >= expected or time.monotonic() >= deadline:
                break
            time.sleep(0.02)
    print(f"{read} batches read, {most / MEBIBYTE:.0f} MiB of /dev/shm at most")


main()
