"""A checkpoint that is whole after any end of the process, whatever writes it.

    from whole import whole

    with whole("last.pt", check=zipfile.ZipFile) as beside:
        torch.save(model.state_dict(), beside)  # or any other function that takes a path

The old file stays until the new one is on the disk. If the block ends with an exception, it stays.
So it does if the check raises one: it is called with the new file's path. torch.save and np.save do
not always say that the disk is full; zipfile.ZipFile and np.load see that the end is missing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(
    path: str | os.PathLike[str], check: Callable[[str], object] | None = None
) -> Iterator[str]:
    """Where to write to: beside the file, which it replaces once the block has ended."""
    place = Path(path).resolve()  # a link stays one: what it leads to is replaced
    beside = place.with_name(f".{place.stem}.new{place.suffix}")  # np.save adds .npy to any other
    try:
        yield str(beside)
        if check:
            check(str(beside))
        with beside.open("rb+") as file:
            if place.exists():
                before = place.stat()
                os.fchmod(file.fileno(), before.st_mode & 0o7777)
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fsync(file.fileno())
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    directory = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
