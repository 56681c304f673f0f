"""What a notebook needs on a person's host: itself, and what lies beside it but for CI's own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from kb.proof import catalog


def files(notebook: catalog.Notebook) -> list[Path]:
    """Its files, relative to the root of the repository, the notebook first."""
    return [notebook.path, *(path for path in notebook.files if not catalog.for_ci(path))]


def main() -> int:
    """``python -m kb.proof.carry runbooks/AREA/NAME.ipynb DIRECTORY``: copy them there."""
    path, target = Path(sys.argv[1]), Path(sys.argv[2])
    for file in files(catalog.read(Path.cwd(), path)):
        place = target / file.relative_to(path.parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
