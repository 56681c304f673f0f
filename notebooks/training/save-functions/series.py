"""usage: series.py DIRECTORY TIMES KEEP NAME=FUNCTION...     saves so many checkpoints in a row

Each function of save.py has DIRECTORY/NAME for its own. Whether it is +whole or +check, save.py
says; with +keep, the program of the path KEEP keeps each checkpoint after it was saved. When one is
saved it is said which, by its SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import io
import os
import sys
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parent))  # Python takes no module from there by itself here

from save import FUNCTIONS, say, within

LENGTH = 50_000  # bytes of the one tensor of a checkpoint


def program(path: str) -> ModuleType:
    """keep, which has no ending, as a module: a process for each save would take long."""
    loader = importlib.machinery.SourceFileLoader("keep", path)
    spec = importlib.util.spec_from_loader("keep", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def main() -> None:
    directory, times, keep, *series = sys.argv[1:]
    for one in series:
        name, _, what = one.partition("=")
        what, _, how = what.partition("+")
        file, function = FUNCTIONS[what]
        if how in {"whole", "check"}:
            function = within(function, Path(file).suffix, checked=how == "check")
        path = Path(directory, name, file)
        path.parent.mkdir()
        keeps = program(keep) if how == "keep" else None
        for _ in range(int(times)):
            function(bytearray(os.urandom(LENGTH)), str(path))
            if keeps:
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    status = keeps.main(["save", str(path)])
                assert status == 0, said.getvalue()
            say(f"saved {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
