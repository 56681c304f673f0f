"""What the tests of notebooks' programs share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Loads a program of one file that stands beside a notebook, anew for each test."""

    def load(path: str) -> ModuleType:
        place = ROOT / path
        monkeypatch.syspath_prepend(str(place.parent))
        monkeypatch.delitem(sys.modules, place.stem, raising=False)
        return importlib.import_module(place.stem)

    return load
