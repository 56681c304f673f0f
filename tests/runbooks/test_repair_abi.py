"""What a failing command is told to have, and which library it is given, on real programs."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
# Words as they stand on a screen, those of cards from NVIDIA's documents: the kind, the library.
WORDS = {
    "./a: error while loading shared libraries: libcudart.so.12: cannot open shared object file:"
    " No such file or directory": ("missing", "libcudart.so.12"),
    "OSError: libcudnn_cnn.so.9: cannot open shared object file: No such file or directory": (
        "missing",
        "libcudnn_cnn.so.9",
    ),
    "./a: /opt/libonnxruntime.so.1: version `VERS_1.32.0' not found (required by ./a)": (
        "version",
        "libonnxruntime.so.1",
    ),
    "./a: /lib/libm.so.6: version `GLIBC_2.38' not found (required by ./a)": ("glibc", ""),
    "./a: /lib/libstdc++.so.6: version `CXXABI_1.3.15' not found (required by ./a)": (
        "glibcxx",
        "",
    ),
    "ImportError: /v/libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version"
    " libnvJitLink.so.12": ("symbol", "libnvJitLink.so.12"),
    "/usr/bin/ld: cannot find -lcudart: No such file or directory": ("linker", "libcudart.so"),
    "/usr/bin/ld: cannot find -l:libcudart.so.12: No such file or directory": ("linker-file", ""),
    "./a: symbol lookup error: ./a: undefined symbol: cudaMallocAsync": ("symbol-alone", ""),
    "RuntimeError: CUDA error: no kernel image is available for execution on the device": (
        "no-code",
        "",
    ),
    "the provided PTX was compiled with an unsupported toolchain.": ("ptx", ""),
    "Failed to initialize NVML: Driver/library version mismatch": ("mismatch", ""),
    "CUDA driver is a stub library": ("stub", "libcuda.so.1"),
    "cuInit failed: CUDA_ERROR_STUB_LIBRARY": ("stub", "libcuda.so.1"),
    # nvidia-smi says a second thing, which is false
    "libnvidia-ml.so in GDK package is a stub library that is attached only for\n"
    "Linked to libnvidia-ml library at wrong path : /opt/stubs/libnvidia-ml.so.1\n"
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.": (
        "stub",
        "libnvidia-ml.so.1",
    ),
    # the cause counts, not what passes it on
    "NCCL WARN Cuda failure 'CUDA driver version is insufficient for CUDA runtime version'\n"
    "unhandled cuda error": ("insufficient", ""),
    "unhandled cuda error (run with NCCL_DEBUG=INFO for details)": ("nccl", ""),
    "Segmentation fault": ("unknown", ""),
}


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The program, with links of its own in place of the host's."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # it would lie beside the runbook
    monkeypatch.syspath_prepend(str(ROOT / "runbooks/cuda/repair-abi"))
    module = importlib.reload(importlib.import_module("faults"))
    monkeypatch.setattr(module, "LINKS", tmp_path / "links")
    monkeypatch.setattr(module, "CONF", tmp_path / "00-cuda-repair.conf")
    monkeypatch.setattr(module, "PLACES", ())
    return module


@pytest.mark.parametrize(
    ("words", "means"), WORDS.items(), ids=[kind for kind, _ in WORDS.values()]
)
def test_words_are_recognised(faults: ModuleType, words: str, means: tuple[str, str]) -> None:
    fault = faults.recognise(faults.Said(False, 1, f"starting\n{words}\n"))
    assert (fault.kind, fault.library) == means
    assert fault.words in words.splitlines()


def test_what_it_touches_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that the notebook does not declare is not put back after a kill."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(ROOT / "runbooks/cuda/repair-abi"))
    faults = importlib.reload(importlib.import_module("faults"))
    cells = nbformat.read(ROOT / "runbooks/cuda/repair-abi.ipynb", as_version=4).cells
    declared = {path for cell in cells for path in re.findall(r"# changes: (\S+)", cell.source)}
    own = {faults.LINKS, faults.CONF, faults.CONF.with_name(faults.NEW)}
    links = {faults.DEV / faults.NEW, *(faults.DEV / f"lib{n}.so" for n in faults.DEV_NAMES)}
    loaders = {"/etc/ld.so.cache", "/etc/ld.so.cache~", "/var/cache/ldconfig"}
    assert declared == {*map(str, own | links), *loaders}


def built(place: Path, *arguments: str) -> Path:
    """A library `libgpu.so.1`, or a program that is linked to it."""
    if not shutil.which("gcc"):
        pytest.skip("there is no C compiler")
    place.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-x", "c", "-", "-o", place, *arguments], input=SOURCE, check=True)
    return place


SOURCE = b"""
#ifdef LIBRARY
int gpus(void) { return 0; }
#else
int gpus(void);
int main(void) { return gpus(); }
#endif
"""
LIBRARY = ["-shared", "-fPIC", "-DLIBRARY", "-Wl,-soname,libgpu.so.1"]


def test_a_library_is_found_by_its_own_name(faults: ModuleType, tmp_path: Path) -> None:
    """The link is missing, a stub lies beside, and one is only called so."""
    real = built(tmp_path / "driver/libgpu.so.535.1", *LIBRARY)
    built(tmp_path / "stubs/libgpu.so.1", *LIBRARY)
    other = tmp_path / "other/libgpu.so.600.1"
    other.parent.mkdir()
    other.write_bytes(b"no library, and no such name inside")
    everywhere = " ".join(str(tmp_path / name) for name in ("stubs", "other", "driver"))
    assert faults.candidates("libgpu.so.1", everywhere) == [real]


def test_a_library_that_others_may_change_is_left_out(
    faults: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = built(tmp_path / "driver/libgpu.so.1", *LIBRARY)
    assert faults.candidates("libgpu.so.1", str(real.parent)) == [real]
    real.parent.chmod(0o777)
    assert faults.candidates("libgpu.so.1", str(real.parent)) == []
    real.parent.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    owner = real.stat().st_uid
    assert (faults.candidates("libgpu.so.1", str(real.parent)) == []) == (owner != 0)


def test_what_leads_the_loader_is_named(faults: ModuleType, tmp_path: Path) -> None:
    """A link cannot cure what a RUNPATH or a variable leads elsewhere."""
    library = built(tmp_path / "old/libgpu.so.1", *LIBRARY)
    links = [f"-L{library.parent}", "-l:libgpu.so.1"]
    program = built(tmp_path / "program", *links, f"-Wl,-rpath,{library.parent}")
    plain = built(tmp_path / "plain", *links)
    lead = faults.Command(str(program)).led_to("libgpu.so.1")
    assert (lead.path, lead.by) == (library, f"RUNPATH from file {program}")
    lead = faults.Command(f"LD_LIBRARY_PATH={library.parent} {plain}").led_to("libgpu.so.1")
    assert (lead.path, lead.by) == (library, "LD_LIBRARY_PATH")
    assert faults.Command(str(plain)).led_to("libgpu.so.1").path is None
    told = faults.led(
        faults.Fault("symbol", "libgpu.so.1", "", ""), faults.Lead(library, "LD_LIBRARY_PATH")
    )
    assert faults.place_of(told) is None
    assert "take it out" in told.do


def test_a_command_that_does_not_end_runs(faults: ModuleType, tmp_path: Path) -> None:
    """It is stopped with what it has started, for which it has three seconds."""
    said = faults.Command(f"sleep 1000 & echo $! >{tmp_path}/pid; wait", within=3).run()
    assert said.runs
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not lives(pid):
            break
        time.sleep(0.05)
    assert not lives(pid)


def lives(pid: int) -> bool:
    """Whether it runs: what has ended is a zombie for ever in a container without an init."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_variable_of_ones_own_is_not_passed(
    faults: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    assert faults.Command("echo got:$LD_LIBRARY_PATH").run().text == "got:\n"


def test_a_link_that_cures_nothing_goes(
    faults: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was there before stays, and the loader's file goes with the last link."""
    ran: list[list[str]] = []
    monkeypatch.setattr(faults.subprocess, "run", lambda words, **_: ran.append(words))
    library = tmp_path / "driver/libgpu.so.1"
    library.parent.mkdir()
    library.write_bytes(b"\0libgpu.so.1\0")
    fault = faults.Fault("missing", "libgpu.so.1", "", "")
    place = faults.place_of(fault)

    class Failing:
        def fault(self) -> object:
            return fault if place.is_symlink() else None

    named = str(library.parent)
    assert faults.first_that_cures(Failing(), fault, place, named) is None
    assert not faults.LINKS.exists()
    assert not faults.CONF.exists()
    faults.link(place, tmp_path / "before")
    assert faults.first_that_cures(Failing(), fault, place, named) is None
    assert place.readlink() == tmp_path / "before"
    assert faults.CONF.read_text().endswith(f"{faults.LINKS}\n")
    assert ran == [["ldconfig", "-X"]] * len(ran)
    assert ran
