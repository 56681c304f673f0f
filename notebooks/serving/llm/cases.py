"""Loads models in the ways that are compared, each in a process of its own: cases.py PYTHON WORK

A line of JSON for each case. WORK has the models.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLAIN = {
    "file": "f16.gguf",
    "context": 1024,
    "mode": "mmap",
    "cache": "f16",
    "flash": "auto",
    "repack": True,
}
CASES: dict[str, dict[str, Any]] = {
    "mapped": {},
    "read": {"mode": "none"},
    "context 8192": {"context": 8192},
    "context 8192, cache q8_0": {"context": 8192, "cache": "q8_0"},
    "context 8192, cache q4_0": {"context": 8192, "cache": "q4_0"},
    "context 8192, no flash attention": {"context": 8192, "flash": "disabled"},
    "cache q8_0, no flash attention": {"cache": "q8_0", "flash": "disabled"},
    "weights q8_0": {"file": "q8_0.gguf"},
    "weights q4_0": {"file": "q4_0.gguf"},
    "weights q4_0, not repacked": {"file": "q4_0.gguf", "repack": False},
}


def start(python: str, work: Path, case: dict[str, Any]) -> subprocess.Popen[str]:
    """A process of this case."""
    asked = PLAIN | case
    asked["file"] = str(work / str(asked["file"]))
    return subprocess.Popen(
        [python, str(HERE / "load.py"), json.dumps(asked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def together(python: str, work: Path, mode: str) -> dict[str, Any]:
    """Two servers of one file at the same time, and what the first holds then."""
    pair = [start(python, work, {"mode": mode, "wait": True}) for _ in range(2)]
    for process in pair:
        assert process.stdout is not None
        process.stdout.readline()  # it has answered, and waits
    said, _ = pair[0].communicate()
    pair[1].communicate()
    return {"answered": json.loads(said)}


def main() -> int:
    """Each case alone, then the pairs."""
    python, work = sys.argv[1], Path(sys.argv[2])
    for name, case in CASES.items():
        said, _ = start(python, work, case).communicate()
        print(json.dumps({"case": name} | json.loads(said)), flush=True)
    for mode in ("mmap", "none"):
        print(json.dumps({"case": f"two of one file, {mode}"} | together(python, work, mode)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
