"""The fixture that takes two files from the end of a package which is too large to fetch."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest

FIXTURES = Path(__file__).parents[2] / "ci/fixtures"
STUB = b"a stub" * 100
NAMES = ("usr/include/cuda.h", "usr/lib/stubs", "usr/lib/stubs/libcuda.so", "usr/share/doc")


@pytest.fixture
def fixture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for a package of one stub."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(FIXTURES))
    loader = SourceFileLoader("cuda_stub", str(FIXTURES / "cuda-stub"))
    specification = spec_from_loader("cuda_stub", loader)
    assert specification
    module = module_from_spec(specification)
    loader.exec_module(module)
    monkeypatch.setattr(module, "PINS", {"libcuda.so": hashlib.sha256(STUB).hexdigest()})
    monkeypatch.setattr(module, "architecture", lambda: "amd64")
    monkeypatch.setattr(module, "mirror", lambda: "https://mirror.invalid")
    return module


@pytest.fixture
def serve(fixture: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the mirror answer with the end of a package."""

    def answers(content: bytes, status: int = 206) -> None:
        fields = {"Filename": "pool/dev.deb", "Size": str(len(content)), "Version": "12.4"}
        monkeypatch.setattr(fixture, "index", lambda *_: {fixture.PACKAGE: fields})
        answer = MagicMock(status=status)
        answer.__enter__.return_value = answer

        def urlopen(asked: object, timeout: float) -> MagicMock:
            first, last = asked.headers["Range"].removeprefix("bytes=").split("-")  # type: ignore[attr-defined]
            answer.read.return_value = content[int(first) : int(last) + 1]
            return answer

        monkeypatch.setattr(fixture.urllib.request, "urlopen", urlopen)

    return answers


def package(stub: bytes = STUB, names: tuple[str, ...] = NAMES) -> bytes:
    """Two blocks of incompressible files before those of the last block, as dpkg-deb packs them."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as members:
        for name, content in [
            ("usr/lib/libone.a", os.urandom(2 << 20)),
            *((n, b"") for n in names),
        ]:
            member = tarfile.TarInfo(f"./{name}{'/' if name.endswith('stubs') else ''}")
            member.type = tarfile.DIRTYPE if name.endswith(("stubs", "doc")) else tarfile.REGTYPE
            body = stub if name.endswith("libcuda.so") else content
            member.size = len(body)
            members.addfile(member, io.BytesIO(body))
    packed = subprocess.run(
        ["xz", "--threads=2", "--block-size=1MiB"],
        input=plain.getvalue(),
        capture_output=True,
        check=True,
    ).stdout
    assert lzma.decompress(packed) == plain.getvalue()
    return b"!<arch>\n" + packed + b"\n" * (len(packed) % 2)


def test_the_stub_is_taken_from_the_last_block(
    fixture: ModuleType, serve: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = package()
    monkeypatch.setattr(fixture, "TAIL", 64 << 10)
    assert len(whole) > 16 * fixture.TAIL
    serve(whole)
    fixture.stubs(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["libcuda.so"]
    assert (tmp_path / "libcuda.so").read_bytes() == STUB


@pytest.mark.parametrize(
    ("whole", "status", "told"),
    [
        (package(), 200, "the Debian mirror sends no part of a file"),
        (package(stub=b"another"), 206, "libcuda.so of nvidia-cuda-dev 12.4 does not have the"),
        (package(names=NAMES[:1]), 206, "nvidia-cuda-dev 12.4 has no libcuda.so: look where"),
    ],
    ids=["no parts", "another file", "elsewhere"],
)
def test_what_is_wrong_is_said(
    fixture: ModuleType,
    serve: Callable[..., None],
    tmp_path: Path,
    whole: bytes,
    status: int,
    told: str,
) -> None:
    serve(whole, status)
    with pytest.raises(fixture.FixtureError) as raised:
        fixture.stubs(tmp_path)
    assert told in str(raised.value)


def test_a_block_that_is_larger_than_what_was_fetched(
    fixture: ModuleType, serve: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(package())
    monkeypatch.setattr(fixture, "TAIL", 100)
    with pytest.raises(fixture.FixtureError, match="raise TAIL"):
        fixture.stubs(tmp_path)
