"""What a notebook needs on a person's host: itself, and what lies beside it but for CI's own."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from kb.proof import catalog

WRITTEN = 315_532_800  # 1980: the same files make the same bytes, and tar calls 1970 implausible


def files(notebook: catalog.Notebook) -> list[Path]:
    """Its files, relative to the root of the repository, the notebook first."""
    return [notebook.path, *notebook.beside]


def archive(root: Path, paths: Iterable[Path]) -> bytes:
    """A compressed tar file of the files at ``paths``, which are relative to ``root``.

    They lie in it as in the repository, so that the commands on a page are right beside it.
    """
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            content = (root / path).read_bytes()
            entry = tarfile.TarInfo(path.as_posix())
            entry.size = len(content)
            entry.mtime = WRITTEN
            entry.mode = 0o755 if os.access(root / path, os.X_OK) else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(whole.getvalue(), mtime=0)


def main() -> int:
    """``python -m kb.proof.carry runbooks/AREA/NAME.ipynb DIRECTORY``: copy them there."""
    if len(sys.argv) != 3:
        print(
            "error: say python -m kb.proof.carry runbooks/AREA/NAME.ipynb DIRECTORY",
            file=sys.stderr,
        )
        return 2
    path, target = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        for file in files(catalog.read(Path.cwd(), path)):
            place = target / file.relative_to(path.parent)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)
    except catalog.CatalogError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
