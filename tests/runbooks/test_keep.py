"""keep, the program of the runbook training/checkpoint."""

from __future__ import annotations

import errno
import importlib.util
import io
import json
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
KEEP = ROOT / "runbooks/training/checkpoint/keep.py"


def keep(*words: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(KEEP), *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def imported() -> ModuleType:
    """The program as a module: a process for each of many tries would take long."""
    spec = importlib.util.spec_from_file_location("keep", KEEP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tensors(fill: bytes = b"\1") -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [64], "data_offsets": [0, 64]}}).encode()
    return struct.pack("<Q", len(header)) + header + fill * 64


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    place = tmp_path / "last.safetensors"
    place.write_bytes(tensors())
    place.chmod(0o640)
    return place


def test_the_newest_whole_one_is_what_a_job_resumes_from(checkpoint: Path) -> None:
    store = checkpoint.parent / "kept"
    for fill in (b"\1", b"\2", b"\3", b"\4"):
        checkpoint.write_bytes(tensors(fill))
        assert keep("save", checkpoint).stdout.startswith("kept: ")
    assert keep("save", checkpoint).stdout == f"unchanged: {store}/000004/{checkpoint.name}\n"
    kept = store / "000004" / checkpoint.name
    assert sorted(path.name for path in store.iterdir()) == ["000002", "000003", "000004"]
    assert keep("newest", store).stdout == f"{kept}\n"
    assert kept.stat().st_mode & 0o7777 == 0o640
    sums = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(sums, cwd=kept.parent, check=False).returncode == 0
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")  # no longer than it was
    (store / "000003/SHA256SUMS").unlink()
    assert keep("newest", store).stdout == f"{store}/000002/{checkpoint.name}\n"
    assert keep("list", store).stdout == "000004 damaged\n000003 damaged\n000002 whole\n"


def test_a_checkpoint_cut_at_any_byte_is_refused(checkpoint: Path) -> None:
    module = imported()
    content = checkpoint.read_bytes()
    store = checkpoint.parent / "kept"
    module.save(checkpoint, store, 3)
    for length in range(len(content)):
        checkpoint.write_bytes(content[:length])
        with pytest.raises(module.KeepError, match=r"is empty|is not whole"):
            module.save(checkpoint, store, 3)
    assert [path.name for path in store.iterdir()] == ["000001"]


SIMPLE, RECORD = "'<f4'", "[('step', '<i8'), ('name', '<U3'), ('w', '<f4', (2, 3))]"


@pytest.mark.parametrize(
    ("version", "descr", "shape", "size"),
    [
        (1, SIMPLE, "(4, 5)", 80),
        (1, SIMPLE, "()", 4),
        (2, RECORD, "(2,)", 2 * (8 + 12 + 24)),
        (3, "'<M8[ns]'", "(6,)", 48),
    ],
)
def test_a_numpy_file_cut_at_any_byte_is_refused(
    tmp_path: Path, version: int, descr: str, shape: str, size: int
) -> None:
    module = imported()
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    width = 2 if version == 1 else 4
    head = b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(width, "little") + text
    place, store = tmp_path / "last.npy", tmp_path / "kept"
    one = head + b"\1" * size
    for length in range(1, len(one)):
        place.write_bytes(one[:length])
        with pytest.raises(module.KeepError, match="is not whole"):
            module.save(place, store, 3)
    assert not list(store.iterdir())
    for whole in (one, one + one, one + b"of its own"):
        place.write_bytes(whole)
        assert module.save(place, store, 3).startswith("kept: ")
    place.write_bytes(one + one[:-1])
    with pytest.raises(module.KeepError, match=f"it has {2 * len(one) - 1} of {2 * len(one)}"):
        module.save(place, store, 3)


def test_a_numpy_file_of_objects_or_of_no_header(tmp_path: Path) -> None:
    module = imported()
    place, store = tmp_path / "last.npy", tmp_path / "kept"
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }"
    place.write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + b"a pickle")
    assert module.save(place, store, 3).startswith("kept: ")
    for wrong in (b"{'descr': ", b"[]", b"{'descr': 4, 'shape': ()}", b"{'descr': '<f4'}"):
        place.write_bytes(b"\x93NUMPY\1\0" + len(wrong).to_bytes(2, "little") + wrong + bytes(99))
        with pytest.raises(module.KeepError, match="its header is none"):
            module.save(place, store, 3)


class FloatStorage:
    """Stands for torch's, which is saved by its name."""

    __module__ = "torch"


class Legacy(pickle.Pickler):
    """Writes a tensor as torch.save did before 1.6, and does on demand."""

    def persistent_id(self, given: object) -> object:
        return ("storage", *given) if isinstance(given, tuple) and len(given) == 5 else None


def written(kind: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What torch.save and pickle.dump write, of 150 numbers."""
    into = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(into, "w") as archive:
            archive.writestr("archive/data.pkl", b"x" * 40)
            archive.writestr("archive/data/0", b"\7" * 600)
    elif kind == "pickle":
        pickle.dump({"w": b"\7" * 600, "step": 3}, into)
    else:
        stand = ModuleType("torch")
        monkeypatch.setitem(sys.modules, "torch", stand)
        monkeypatch.setattr(stand, "FloatStorage", FloatStorage, raising=False)
        for said in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(said, into, protocol=2)
        tensor = (FloatStorage, "17", "cpu", 150, None)
        Legacy(into, protocol=2).dump({"w": tensor, "also w": tensor})
        pickle.dump(["17"], into, protocol=2)
        into.write(struct.pack("<q", 150) + b"\7" * 600)
    return into.getvalue()


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (".pt", "zip"),
        (".pth", "zip"),
        (".ckpt", "zip"),
        (".npz", "zip"),
        (".pt", "legacy"),
        (".ckpt", "pickle"),
    ],
)
def test_what_torch_save_writes_is_refused_cut_or_with_zeros(
    tmp_path: Path, ending: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = imported()
    content = written(kind, monkeypatch)
    place, store = tmp_path / f"last{ending}", tmp_path / "kept"
    for length in range(1, len(content)):
        place.write_bytes(content[:length])
        with pytest.raises(module.KeepError, match="is not whole"):
            module.must_be_whole(place, place)
    for zeros in (512, 600, len(content)):  # of a sector at least
        place.write_bytes(bytes(zeros) + content[zeros:])
        with pytest.raises(module.KeepError, match="begins with zeros"):
            module.save(place, store, 3)
    assert not list(store.iterdir())
    place.write_bytes(content)
    assert module.save(place, store, 3).startswith("kept: ")


def test_zeros_in_the_middle_and_what_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = imported()
    place = tmp_path / "last.pt"
    archive, legacy = written("zip", monkeypatch), written("legacy", monkeypatch)
    numbers = archive.index(b"\7" * 600)
    wrong = archive[:numbers] + bytes(99) + archive[numbers + 99 :]
    place.write_bytes(wrong)
    with pytest.raises(module.KeepError, match="archive/data/0 in it is not what was written"):
        module.must_be_whole(place, place)
    with zipfile.ZipFile(place) as read:
        summed = struct.pack("<L", read.getinfo("archive/data/0").CRC)
    place.write_bytes(wrong.replace(summed, bytes(4)))  # where torch.save computes no sums
    module.must_be_whole(place, place)
    names = legacy.index(b"FloatStorage") - 20
    place.write_bytes(legacy[:names] + bytes(9) + legacy[names + 9 :])
    with pytest.raises(module.KeepError, match="zeros in its middle"):
        module.must_be_whole(place, place)
    place.write_bytes(legacy.replace(b"FloatStorage", b"OtherStorage")[:-1])
    module.must_be_whole(place, place)  # only torch knows how long such numbers are


def test_a_name_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = imported()
    place = tmp_path / "model.bin"
    content = written("zip", monkeypatch)
    place.write_bytes(bytes(512) + content[512:])
    with pytest.raises(module.KeepError, match="begins with zeros"):
        module.must_be_whole(place, place)
    for anything in (bytes(4096), b"P", b"\x80\2", b"\x93N"):  # such as a job's own numbers
        place.write_bytes(anything)
        module.must_be_whole(place, place)
    other = place.rename(tmp_path / "last.ckpt")  # a job's own format, too, but for zeros
    other.write_bytes(b"its own")
    module.must_be_whole(other, other)


def test_nothing_in_a_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Call:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "run"),)

    module = imported()
    place = tmp_path / "last.pt"
    legacy = written("legacy", monkeypatch)
    call = pickle.dumps({"of": Call()}, protocol=2)
    at = legacy.index(b"\x80\2}", legacy.index(b"little_endian"))
    for content in (call, legacy[:at] + call + legacy[legacy.index(b"\x80\2]") :]):
        place.write_bytes(content)
        module.must_be_whole(place, place)
        assert not (tmp_path / "run").exists()


def test_a_format_of_a_later_release_is_not_judged(tmp_path: Path) -> None:
    """Whether it can be loaded is its loader's to say."""
    module = imported()
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }\n"
    later = b"\x93NUMPY\4\0" + len(text).to_bytes(2, "little") + text + bytes(24)
    protocol = b"\x80\6" + pickle.dumps({"w": 1}, protocol=5)[2:]
    for name, content in (("last.npy", later), ("last.pkl", protocol)):
        place = tmp_path / name
        place.write_bytes(content)
        module.must_be_whole(place, place)


def test_a_directory_is_a_checkpoint_too(tmp_path: Path) -> None:
    place = tmp_path / "step-10"
    (place / "optimizer").mkdir(parents=True)
    (place / "model.safetensors").write_bytes(tensors())
    (place / "optimizer/state.bin").write_bytes(b"state")
    assert keep("save", place).returncode == 0
    kept = Path(keep("newest", tmp_path / "kept").stdout.strip())
    assert (kept / "optimizer/state.bin").read_bytes() == b"state"
    (kept / "optimizer/state.bin").unlink()
    assert "no whole checkpoint" in keep("newest", tmp_path / "kept").stderr


def test_a_kill_leaves_a_whole_one(checkpoint: Path) -> None:
    store = checkpoint.parent / "kept"
    assert keep("save", checkpoint).returncode == 0
    checkpoint.write_bytes(os.urandom(30 << 20))
    plain = checkpoint.rename(checkpoint.with_name("last.bin"))
    killed = 0
    for _ in range(10):
        saving = subprocess.Popen([sys.executable, KEEP, "save", plain], stdout=subprocess.DEVNULL)
        time.sleep(random.uniform(0.02, 0.2))  # noqa: S311 - a moment
        saving.send_signal(signal.SIGKILL)
        killed += saving.wait() == -signal.SIGKILL
        assert keep("newest", store).returncode == 0
    assert killed
    assert keep("save", plain).returncode == 0
    assert not [path.name for path in store.iterdir() if not path.name.isdigit()]


def test_a_full_disk_leaves_what_was_kept(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keep("save", checkpoint).returncode == 0
    checkpoint.write_bytes(tensors(b"\2"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)  # where a network's file system says it
    module = imported()
    monkeypatch.setattr(module, "sync", lambda path: None)  # of the store's own name
    assert module.main(["save", str(checkpoint)]) == 1
    assert "has no room for another checkpoint (No space left on device" in capsys.readouterr().err
    assert [path.name for path in checkpoint.with_name("kept").iterdir()] == ["000001"]
