"""The fixtures' way to Go modules, with a stand-in for the go command."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
GO = """#!/bin/sh
[ "$4" != example.com/gone@v1.0.0 ] || { echo "go: reading it: 404" >&2; exit 1; }
printf '{"Path": "%s", "Sum": "h1:right=", "Dir": "%s/unpacked"}' "$4" "$GOMODCACHE"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with a go command that knows every module but example.com/gone."""
    monkeypatch.syspath_prepend(str(ROOT / "ci/fixtures"))
    loaded = importlib.import_module("module")
    command = tmp_path / "go"
    command.write_text(GO)
    command.chmod(0o755)
    monkeypatch.setattr(loaded, "toolchain", lambda: command)
    return loaded


def test_a_module_with_the_pinned_hash_is_taken(module: ModuleType, tmp_path: Path) -> None:
    unpacked = module.download(tmp_path / "cache", "example.com/it@v1.0.0", "h1:right=")
    assert unpacked == tmp_path / "cache/unpacked"


@pytest.mark.parametrize(
    ("name", "pin", "says"),
    [
        ("it", "h1:other=", "example.com/it@v1.0.0 has the hash h1:right= and should have h1:oth"),
        ("gone", "h1:right=", "download -json example.com/gone@v1.0.0 failed (go: reading it: 404"),
    ],
)
def test_another_module_is_one_sentence(
    module: ModuleType, tmp_path: Path, name: str, pin: str, says: str
) -> None:
    with pytest.raises(module.FixtureError) as refused:
        module.download(tmp_path / "cache", f"example.com/{name}@v1.0.0", pin)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
