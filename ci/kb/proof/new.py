"""A new runbook or notebook from a template: ``python -m kb.proof.new runbooks/AREA/NAME``."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from kb.proof.areas import FILE
from kb.proof.catalog import CI, KINDS
from kb.proof.format import canonical

WORDS = "([a-z0-9]+(?:-[a-z0-9]+)*)"
NAME = re.compile(rf"({'|'.join(KINDS)})/{WORDS}/(?!{CI}$){WORDS}")


class NewError(Exception):
    """A notebook that cannot be made. One sentence."""


def create(root: Path, name: str) -> Path:
    """Write the template of its kind to ``root / name``; returns the path relative to ``root``.

    Raises :class:`NewError` for a name of another form, and where a file is already.
    """
    match = NAME.fullmatch(name.removesuffix(".ipynb"))
    if match is None:
        raise NewError(
            f"'{name}' is not a name for a notebook: say runbooks/AREA/NAME or notebooks/AREA/NAME,"
            " in lower-case words joined by hyphens (make new NAME=runbooks/go/install)"
        )
    kind, area, stem = match.groups()
    path = Path(kind, area, f"{stem}.ipynb")
    for place in (path, path.with_suffix("")):
        if (root / place).exists():
            raise NewError(f"{place} already exists: choose another name, or edit it")
    templates = root / "ci/templates"
    notebook = json.loads((templates / f"{kind}.ipynb").read_text(encoding="utf-8"))
    notebook["cells"][0]["source"] = [
        line.replace("TITLE", _title(stem)) for line in notebook["cells"][0]["source"]
    ]
    for cell in notebook["cells"]:
        named = f"{kind}/area/name.ipynb"
        cell["source"] = [line.replace(named, str(path)) for line in cell["source"]]
    notebook["metadata"]["kb"]["identity"] = str(path.with_suffix(""))
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(canonical(json.dumps(notebook)), encoding="utf-8")
    if (templates / kind).is_dir():
        shutil.copytree(templates / kind, root / path.with_suffix(""))
    if not any((root / each / area / FILE).exists() for each in KINDS):
        said = (templates / FILE).read_text(encoding="utf-8").replace("TITLE", _title(area))
        (root / kind / area / FILE).write_text(said, encoding="utf-8")
    return path


def _title(name: str) -> str:
    return name.replace("-", " ").capitalize()


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
        f"  edit its cases   in {path.with_suffix('')}/ci/cases.toml: what must fail, or flip\n"
        "  make fmt lint    bring it into the committed format; see what is amiss\n"
        f"  make run ARGS='-k {path.parent.name}/{path.stem}'    execute its life on a fresh host\n"
        "  make site        see its page"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
