"""The fixtures' way to wheels: a wheel in a directory that stands in for the package index."""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    "library/it.so": "the library",
    "library-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: library\nVersion: 1.0\n",
    "library-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "library-1.0.dist-info/RECORD": "",
}


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, asking an index in tmp_path/index that has one wheel, `library`."""
    monkeypatch.syspath_prepend(str(ROOT / "ci/fixtures"))
    module = importlib.import_module("wheel")
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "library-1.0-py3-none-any.whl", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(index))
    return module


def pins(tmp_path: Path, requirement: str = "library==1.0", digest: str = "") -> Path:
    content = (tmp_path / "index/library-1.0-py3-none-any.whl").read_bytes()
    file = tmp_path / "pins.txt"
    digest = digest or hashlib.sha256(content).hexdigest()
    file.write_text(f"{requirement} --hash=sha256:{digest}\n")
    return file


def test_what_is_pinned_is_unpacked(wheel: ModuleType, tmp_path: Path) -> None:
    wheel.fetch(pins(tmp_path), tmp_path / "into")
    assert (tmp_path / "into/library/it.so").read_text() == "the library"


def test_what_depends_on_python_is_for_the_release_that_is_named(
    wheel: ModuleType, tmp_path: Path
) -> None:
    file = pins(tmp_path)
    anywhere = tmp_path / "index/library-1.0-py3-none-any.whl"
    anywhere.rename(anywhere.with_name("library-1.0-cp39-none-any.whl"))
    with pytest.raises(wheel.FixtureError):
        wheel.fetch(file, tmp_path / "into")
    wheel.fetch(file, tmp_path / "into", "3.9")
    assert (tmp_path / "into/library/it.so").read_text() == "the library"


@pytest.mark.parametrize(
    ("requirement", "digest"), [("library==1.0", "0" * 64), ("library==2.0", "")]
)
def test_what_is_not_as_pinned_is_one_sentence(
    wheel: ModuleType, tmp_path: Path, requirement: str, digest: str
) -> None:
    file = pins(tmp_path, requirement, digest)
    with pytest.raises(wheel.FixtureError) as refused:
        wheel.fetch(file, tmp_path / "into")
    assert str(refused.value).startswith("what pins.txt pins could not be fetched (")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "into/library").exists()
