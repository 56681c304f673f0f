"""A new runbook or notebook from a template: ``python -m kb.proof.new runbooks/AREA/NAME``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from kb.proof.catalog import KINDS
from kb.proof.format import canonical

NAME = re.compile(rf"({'|'.join(KINDS)})/([a-z0-9]+(?:-[a-z0-9]+)*)/([a-z0-9]+(?:-[a-z0-9]+)*)")


class NewError(Exception):
    """A notebook that cannot be made. One sentence."""


def create(root: Path, name: str) -> Path:
    """Write the template of its kind to ``root / name``; returns the path relative to ``root``.

    Raises :class:`NewError` for a name of another form, and where a file is already.
    """
    match = NAME.fullmatch(name.removesuffix(".ipynb"))
    if match is None:
        raise NewError(
            f"'{name}' is no name for a notebook: say runbooks/AREA/NAME or notebooks/AREA/NAME,"
            " in lower-case words joined by hyphens (make new NAME=runbooks/go/install)"
        )
    kind, area, stem = match.groups()
    path = Path(kind, area, f"{stem}.ipynb")
    if (root / path).exists():
        raise NewError(f"{path} is there already: choose another name, or edit it")
    notebook = json.loads((root / "ci/templates" / f"{kind}.ipynb").read_text(encoding="utf-8"))
    notebook["cells"][0]["source"] = [
        line.replace("TITLE", stem.replace("-", " ").capitalize())
        for line in notebook["cells"][0]["source"]
    ]
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(canonical(json.dumps(notebook)), encoding="utf-8")
    return path


def main() -> int:
    """Make the notebook named by the first argument, and say how to go on."""
    try:
        path = create(Path.cwd(), sys.argv[1] if len(sys.argv) > 1 else "")
    except NewError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{path} is there, and passes as it is. Now:\n"
        "  edit it          with jupyter lab, VS Code, or any other editor of notebooks\n"
        "  make fmt lint    bring it into the committed format; see what is amiss\n"
        f"  make run ARGS='-k {path.stem}'    execute it in all its modes on a fresh host\n"
        "  make site        see its page"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
