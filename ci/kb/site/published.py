"""The notebook that a page offers: the one in the repository, with what its page shows of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kb.site.model import NotebookView


def compose(
    content: Mapping[str, Any], view: NotebookView, shown: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """Returns a notebook file: every cell as it is in the repository, and runs as any other.

    Args:
        content: the notebook in the repository.
        view: the same with its runs.
        shown: by cell, `outputs` that may be published, and `run`, what is said around them.
    """
    cells = []
    for original in content["cells"]:
        cell = dict(original)
        if cell["cell_type"] == "code":
            told = shown.get(cell.get("id", ""), {})
            cell["execution_count"] = None
            cell["outputs"] = told.get("outputs", [])
            if "run" in told:
                cell["metadata"] = {**cell["metadata"], "kb_shown": told["run"]}
        cells.append(cell)
    best = view.best
    metadata = {
        **content["metadata"],
        "kb_published": {
            "path": view.path,
            "status": view.status,
            "host": best.name if best else None,
            "when": best.when.isoformat() if best and best.when else None,
        },
    }
    whole = {**content, "cells": cells, "metadata": metadata}
    return (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode(
        "utf-8", "backslashreplace"
    )
