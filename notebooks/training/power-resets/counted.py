"""usage: counted.py RECORD     what a run of the notebook has counted, as JSON to keep beside it

RECORD is what papermill has written. A run of many cuts takes too long to be repeated with every
change; what it counted is committed as what it is: of that day, that kernel, that QEMU.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def told(content: dict[str, Any], name: str) -> list[str]:
    """The lines that a cell has printed."""
    (cell,) = (cell for cell in content["cells"] if cell["id"] == name)
    text = "".join("".join(output.get("text", "")) for output in cell["outputs"])
    return text.splitlines()


def main() -> None:
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    run = content["metadata"]["kb_run"]
    if run["result"] != "passed":
        sys.exit(f"counted.py: {sys.argv[1]} has not passed: run the notebook again")
    counts = [line for line in told(content, "cuts") if " times: " in line]
    kept = {
        "started": run["started"],
        "seconds": round(run["duration"]),
        "on": {name: run["host"][name] for name in ("os", "kernel", "cpus")},
        "machine": told(content, "images")[:2],
        "cuts": run["parameters"]["cuts"],
        "counts": counts,
    }
    print(json.dumps(kept, indent=1))


main()
