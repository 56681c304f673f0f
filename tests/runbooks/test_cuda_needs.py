"""cuda-needs on real programs, libraries and hosts, and on files that are none."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "runbooks/cuda/check-host"
KERNEL = "__global__ void k(int *p) { *p = 7; }\nint main() { k<<<1, 1>>>(nullptr); }\n"
CARDS = {"sm_75": "75", "sm_90a": "90a", "sm_100f": "100f"}


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CUDA's compiler, its runtime and cuobjdump, and pyelftools for the program."""
    place = ROOT / "build/fixtures/cuda-tools"
    subprocess.run([ROOT / "ci/fixtures/cuda-tools", place], check=True)
    return place


@pytest.fixture
def module(tools: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of the program."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # it would lie beside the runbook
    for place in (PROGRAM, tools / "readers"):
        monkeypatch.syspath_prepend(str(place))
    return lambda name: importlib.import_module(f"cuda_needs.{name}")


@pytest.fixture
def tell(
    module: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Runs the program: its status, its JSON, what it says on standard error."""

    def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
        status = module("__main__").main(["--json", *map(str, arguments)])
        shown = capsys.readouterr()
        return status, json.loads(shown.out), shown.err

    return run


@pytest.fixture(scope="session")
def compiled(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one program, compiled in three ways: prog, object.o, device.o, ptx-only."""
    if shutil.which("g++") is None:
        assert "CI" not in os.environ, "nvcc takes g++"
        pytest.skip("there is no g++ here, which nvcc takes")
    place = tmp_path_factory.mktemp("compiled")
    (place / "k.cu").write_text(KERNEL)
    all_cards = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in CARDS.values()]
    library = tools / "toolkit/lib"
    link = ["-cudart=none", f"-L{library}", "-Xlinker=-l:libcudart.so.13"]
    ptx = "-gencode=arch=compute_80,code=compute_80"
    for command in (
        ["-c", "k.cu", "-o", "object.o", *all_cards, ptx],
        ["-dc", "k.cu", "-o", "device.o", "-gencode=arch=compute_80,code=sm_80", ptx],
        ["k.cu", "-o", "prog", "-gencode=arch=compute_75,code=sm_75", ptx, *link],
        ["k.cu", "-o", "ptx-only", ptx, *link],
    ):
        subprocess.run([tools / "toolkit/bin/nvcc", *command], cwd=place, check=True)
    return place


def first(told: dict[str, Any]) -> str:
    """The rule of what breaks first; empty if nothing does."""
    found = told["subjects"][0]["first"]
    return found["rule"] if found else ""


@pytest.mark.parametrize("name", ["object.o", "device.o", "prog", "ptx-only"])
def test_fat_binaries_are_read_as_cuobjdump_reads_them(
    tell: Callable[..., Any], tools: Path, compiled: Path, name: str
) -> None:
    done = subprocess.run(
        [tools / "toolkit/bin/cuobjdump", "-all", compiled / name],
        capture_output=True,
        text=True,
        check=True,
    )
    entry = r"Fatbin (elf|ptx) code:\n=+\narch = (\w+)\ncode version = \[(\d+),(\d+)\]"
    theirs = {
        (kind, arch, f"{major}.{minor}" if kind == "ptx" else "")
        for kind, arch, major, minor in re.findall(entry, done.stdout)
    }
    _, told, _ = tell(compiled / name)
    ours = told["subjects"][0]["files"][0]["codes"]
    assert {(code["kind"], code["arch"], code["isa"]) for code in ours} == theirs
    assert theirs


def test_what_it_is_linked_to_is_what_readelf_says(
    tell: Callable[..., Any], compiled: Path
) -> None:
    shown = subprocess.run(
        ["readelf", "--wide", "--dynamic", "--version-info", compiled / "prog"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    file = tell(compiled / "prog")[1]["subjects"][0]["files"][0]
    assert file["needed"] == re.findall(r"\(NEEDED\).*\[(.*)\]", shown)
    assert {node for nodes in file["wants"].values() for node in nodes} == set(
        re.findall(r"Name: (\S+)  Flags", shown)
    )


@pytest.mark.parametrize(
    ("arguments", "name", "rule"),
    [
        (["--driver", "580.95.05", "--card", "sm_75"], "prog", ""),
        (["--driver", "580.95.05", "--card", "8.6"], "prog", "ptx"),  # 9.5, and it takes 9.0
        (["--driver", "580.95.05", "--card", "sm_90"], "ptx-only", "ptx"),
        (["--driver", "580.95.05", "--card", "sm_60"], "prog", "no-code"),
        (["--driver", "550.163.01", "--card", "sm_75"], "prog", "gate"),
    ],
)
def test_another_driver_and_another_card(
    tell: Callable[..., Any],
    tools: Path,
    compiled: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    name: str,
    rule: str,
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tools / "toolkit/lib"))
    status, told, _ = tell(*arguments, compiled / name)
    assert (first(told), status) == (rule, 1 if rule else 0)


def test_the_runtime_is_found_missing(tell: Callable[..., Any], compiled: Path) -> None:
    status, told, _ = tell("--driver", "580", compiled / "prog")
    assert status == 1
    assert told["subjects"][0]["first"]["says"].startswith(
        "libcudart.so.13: cannot open shared object file"
    )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, ""),
        ({"library": ""}, "no-driver"),
        ({"library_is_stub": True}, "stub"),
        ({"module": ""}, "no-module"),
        ({"module": "580.65.06"}, "mismatch"),
        ({"nodes": []}, "no-nodes"),
        ({"library_cuda": (12, 9)}, "gate"),
        ({"library_cuda": (12, 9), "module": ""}, "gate"),  # as runtimes do without a card
        ({"glibc": (2, 3)}, "glibc"),
        ({"machine": "AArch64"}, "machine"),
    ],
)
def test_a_host_that_lacks_something(
    module: Callable[[str], ModuleType], tools: Path, change: dict[str, Any], rule: str
) -> None:
    host = module("host").look()
    whole = {
        "library": "/usr/lib/libcuda.so.580.95.05",
        "library_version": "580.95.05",
        "library_cuda": (13, 0),
        "module": "580.95.05",
        "nodes": ["/dev/nvidiactl"],
    }
    for name, value in (whole | change).items():
        setattr(host, name, value)
    subject = module("subjects").open_subject(str(tools / "toolkit/lib/libcudart.so.13"), "", host)
    found = [f.rule for f in module("judge").Judge(subject, host).findings() if f.level == "breaks"]
    assert found[:1] == ([rule] if rule else [])


def aarch64(content: bytes) -> bytes:
    return content[:18] + struct.pack("<H", 183) + content[20:]


DRIVERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "Debian's, where Fedora has it": (lambda c: c, ""),
    "another machine's": (aarch64, "it is for AArch64, and this host is x64"),
    "a newer system's": (lambda c: c.replace(b"GLIBC_2.9\0", b"GLIBC_9.9\0"), "it wants glibc 9.9"),
    "half of it": (lambda c: c[: len(c) // 2], "is truncated"),
}


@pytest.mark.parametrize("name", DRIVERS)
def test_a_drivers_library_of_another_distribution(
    tell: Callable[..., Any], tools: Path, tmp_path: Path, name: str
) -> None:
    change, says = DRIVERS[name]
    subprocess.run([ROOT / "ci/fixtures/cuda", ROOT / "build/fixtures/cuda"], check=True)
    (driver,) = (ROOT / "build/fixtures/cuda/driver").rglob("libcuda.so.550.*")
    place = tmp_path / "usr/lib64"
    place.mkdir(parents=True)
    shutil.copy("/lib/x86_64-linux-gnu/libc.so.6", place)
    (place / driver.name).write_bytes(change(driver.read_bytes()))
    (place / "libcuda.so.1").symlink_to(driver.name)
    _, told, _ = tell("--root", tmp_path, tools / "toolkit/lib/libcudart.so.13")
    assert says in told["host"]["library_trouble"]
    assert told["host"]["library_cuda"] == ("" if says else "12.4")
    found = [each["says"] for each in told["subjects"][0]["findings"] if each["rule"] != "missing"]
    if says:
        assert found[0].startswith(f"{place / driver.name} cannot be loaded: ")
    else:
        assert "error 35" in found[0]


def test_a_drivers_library_that_the_loader_refuses(
    tell: Callable[..., Any],
    module: Callable[[str], ModuleType],
    tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one of a system with another C library is: it asks for what is not here."""
    for command in (
        ["-o", "libc.musl-x86_64.so.1", "-Wl,-soname,libc.musl-x86_64.so.1"],
        ["-o", "libcuda.so.1", "-Wl,--no-as-needed", "-L.", "-l:libc.musl-x86_64.so.1"],
    ):
        source = ["-x", "c", "/dev/null", "-x", "none"]
        subprocess.run(["gcc", "-shared", *source, *command], cwd=tmp_path, check=True)
    (tmp_path / "libc.musl-x86_64.so.1").unlink()
    find = module("tree").find

    def has_it(root: str, machine: str, soname: str, cached: dict[str, str]) -> str:
        ours = soname == "libcuda.so.1"
        return str(tmp_path / soname) if ours else find(root, machine, soname, cached)

    monkeypatch.setattr(module("tree"), "find", has_it)
    status, told, _ = tell(tools / "toolkit/lib/libcudart.so.13")
    assert (status, first(told)) == (1, "driver-library")
    assert "libc.musl-x86_64.so.1: cannot open" in told["subjects"][0]["first"]["says"]


def test_a_version_node_that_the_library_does_not_define(
    tell: Callable[..., Any], tmp_path: Path
) -> None:
    """Like OrtGetApiBase@VERS_1.32.0 against another onnxruntime."""
    for version in ("2", "1"):  # the newer one is what the program is linked with
        (tmp_path / "it.map").write_text(f"VERS_{version} {{ it; }};\n")
        (tmp_path / "it.c").write_text("void it(void) {}\n")
        command = ["gcc", "-shared", "-fPIC", "it.c", "-o", "libonnxruntime.so"]
        options = ["-Wl,--version-script=it.map", "-Wl,-soname,libonnxruntime.so"]
        subprocess.run([*command, *options], cwd=tmp_path, check=True)
        if version == "2":
            (tmp_path / "p.c").write_text("void it(void);\nint main(void) { it(); }\n")
            link = ["-L.", "-l:libonnxruntime.so", "-Wl,-rpath,$ORIGIN"]
            subprocess.run(["gcc", "p.c", "-o", "p", *link], cwd=tmp_path, check=True)
    _, told, _ = tell("--driver", "580", tmp_path / "p")
    assert first(told) == "version-node"
    assert "wants VERS_2 of libonnxruntime.so" in told["subjects"][0]["first"]["says"]


# --- wheels, images, processes, environments ---


def wheel(place: Path, name: str, files: dict[str, bytes]) -> Path:
    path = place / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    return path


def test_a_wheel(tell: Callable[..., Any], tools: Path, tmp_path: Path) -> None:
    runtime = (tools / "toolkit/lib/libcudart.so.13").read_bytes()
    metadata = b"Name: nvidia-cuda-runtime\nVersion: 13.5.37\nRequires-Python: >=3\n"
    path = wheel(
        tmp_path,
        "nvidia_cuda_runtime-13.5.37-py3-none-manylinux_2_17_x86_64.whl",
        {
            "nvidia/cu13/lib/libcudart.so.13": runtime,
            "nvidia_cuda_runtime-13.5.37.dist-info/METADATA": metadata,
        },
    )
    status, told, _ = tell("--driver", "550.163.01", path)
    subject = told["subjects"][0]
    assert subject["kind"] == "wheel"
    assert subject["facts"]["made for"].startswith("glibc 2.17")
    assert subject["runtimes"] == {"libcudart.so.13": "13.5.37"}
    assert (status, first(told)) == (1, "gate")


def packed(files: dict[str, bytes], packing: str = "") -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=f"w:{packing}") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


@pytest.mark.parametrize("kind", ["directory", "layers", "root", "engine"])
def test_an_image_by_any_name(
    tell: Callable[..., Any],
    tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    runtime = (tools / "toolkit/lib/libcudart.so.13").read_bytes()
    stub = "usr/local/cuda/lib64/stubs/libcuda.so"
    root = {
        "usr/lib/x86_64-linux-gnu/libc.so.6": Path("/lib/x86_64-linux-gnu/libc.so.6").read_bytes(),
        "usr/lib/libcudart.so.13.5.37": runtime,
        "usr/lib/notes.txt": b"no library",
        stub: runtime.replace(b"libcudart.so.13\0", b"libcuda.so.1\0\0\0\0"),
    }
    if kind == "directory":
        for name, content in root.items():
            (tmp_path / "image" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "image" / name).write_bytes(content)
        asked: object = tmp_path / "image"
    elif kind == "layers":
        gone = {"usr/lib/.wh.old": b"", "opt/.wh..wh..opq": b""}
        layers = [{"usr/lib/old/libcudart.so.12": runtime, "opt/x.so": runtime}, gone, root]
        listed = json.dumps([{"Layers": [f"{n}.tar" for n in range(3)]}]).encode()
        content = {f"{n}.tar": packed(files) for n, files in enumerate(layers)}
        asked = tmp_path / "saved.tar"
        asked.write_bytes(packed({"manifest.json": listed, **content}))
    else:
        asked = tmp_path / "root.tar"
        asked.write_bytes(packed(root))
    if kind == "engine":
        engine = tmp_path / "bin/docker"
        engine.parent.mkdir()
        engine.write_text(f"#!/bin/sh\ncase $1 in create) echo it ;; export) cat {asked} ;; esac\n")
        engine.chmod(0o755)
        monkeypatch.setenv("PATH", str(engine.parent), prepend=":")
        asked = "example/image:1"
    _, told, _ = tell("--driver", "550", asked)
    subject = told["subjects"][0]
    assert subject["kind"] == "image"
    paths = {file["path"] for file in subject["files"]}
    assert paths == {f"/{name}" for name in root if not name.endswith(".txt")}
    assert subject["runtimes"] == {"libcudart.so.13": "13.5.37"}
    rules = [finding["rule"] for finding in subject["findings"]]
    assert "driver-in-image" in rules
    assert "gate" in rules


def oci(layers: list[dict[str, bytes]], machine: str, packing: str = "gz") -> dict[str, bytes]:
    """A layout of the Open Container Initiative: an index of one for each machine, its files."""
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def blob(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        files[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    def entry(content: Any, architecture: str) -> dict[str, Any]:
        found = blob(json.dumps(content).encode())
        return {**found, "platform": {"os": "linux", "architecture": architecture}}

    listed = [blob(packed(each, packing)) for each in layers]
    other = entry({"layers": []}, "s390x")
    index = {"manifests": [other, entry({"layers": listed}, machine)]}
    outer = {"manifests": [blob(json.dumps(index).encode())]}
    return {**files, "index.json": json.dumps(outer).encode()}


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_an_image_of_the_open_container_initiative(
    tell: Callable[..., Any],
    module: Callable[[str], ModuleType],
    tools: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    """What podman, skopeo and buildx save: its layers are packed, and an index leads to them."""
    runtime = (tools / "toolkit/lib/libcudart.so.13").read_bytes()
    subjects = module("subjects")
    machine = {name: word for word, name in subjects.PLATFORMS.items()}[
        module("host").look().machine
    ]
    files = oci(
        [{"opt/old.so": runtime}, {"usr/lib/it.so": runtime, "opt/.wh.old.so": b""}], machine
    )
    if kind == "directory":
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        asked = tmp_path
    else:
        asked = tmp_path / "saved.tar"
        asked.write_bytes(packed(files))
    status, told, _ = tell("--driver", "550", asked)
    subject = told["subjects"][0]
    assert (status, subject["kind"]) == (1, "image")
    assert [file["path"] for file in subject["files"]] == ["/usr/lib/it.so"]
    assert "gate" in [finding["rule"] for finding in subject["findings"]]


def test_an_archive_of_several_images_says_which_was_read(
    tell: Callable[..., Any], tools: Path, tmp_path: Path
) -> None:
    runtime = (tools / "toolkit/lib/libcudart.so.13").read_bytes()
    listed = json.dumps([{"Layers": ["0.tar"]}, {"Layers": []}]).encode()
    path = tmp_path / "saved.tar"
    path.write_bytes(packed({"manifest.json": listed, "0.tar": packed({"it.so": runtime})}))
    _, told, _ = tell("--driver", "580", path)
    assert "there are 2 images in it" in json.dumps(told["subjects"][0]["findings"])


@contextmanager
def has_loaded(library: Path) -> Iterator[int]:
    """The number of a process that has."""
    code = f"import ctypes; ctypes.CDLL({str(library)!r}); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.parametrize("name", ["libcuda.so", "libnvidia-ml.so"])
def test_a_stub_breaks_whoever_loads_it(tell: Callable[..., Any], name: str) -> None:
    place = ROOT / "build/fixtures/cuda-stub"
    subprocess.run([ROOT / "ci/fixtures/cuda-stub", place], check=True)
    stub = place / "stubs" / name
    status, told, _ = tell("--driver", "580", stub)
    assert status == 1
    assert told["subjects"][0]["first"]["rule"] == "stub"
    with has_loaded(stub) as number:
        _, told, _ = tell("--driver", "580", number)
    assert "stub" in [finding["rule"] for finding in told["subjects"][0]["findings"]]


def test_a_process_says_what_it_has_loaded_and_what_was_replaced(
    tell: Callable[..., Any], tools: Path, tmp_path: Path
) -> None:
    library = shutil.copy(tools / "toolkit/lib/libcudart.so.13", tmp_path / "libcudart.so.13")
    with has_loaded(Path(library)) as number:
        _, told, _ = tell("--driver", "580", number)
        assert told["subjects"][0]["runtimes"] == {"libcudart.so.13": "13"}
        Path(library).unlink()
        _, told, _ = tell("--driver", "580", number)
    assert "replaced" in [finding["rule"] for finding in told["subjects"][0]["findings"]]


MAPS = """
import ctypes, mmap, os, sys
library = ctypes.CDLL(sys.argv[1])
nameless = os.memfd_create("torch")
os.truncate(nameless, 4096)
code = mmap.mmap(nameless, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)
with open(sys.argv[2], "w+b") as file:
    file.truncate(4096)
    memory = mmap.mmap(file.fileno(), 4096)
os.unlink(sys.argv[2])
print(flush=True)
input()
"""


def test_what_a_process_shares_with_others_is_no_library_that_was_replaced(
    tell: Callable[..., Any], tools: Path, tmp_path: Path
) -> None:
    """As PyTorch's loaders have it in /dev/shm, and compilers in files without a name."""
    library, shared = tools / "toolkit/lib/libcudart.so.13", tmp_path / "torch_1_2.so"
    with subprocess.Popen(
        [sys.executable, "-c", MAPS, library, shared], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        _, told, _ = tell("--driver", "580", process.pid)
        process.kill()
    subject = told["subjects"][0]
    assert subject["runtimes"] == {"libcudart.so.13": "13"}
    assert {finding["rule"] for finding in subject["findings"]} <= {"card", "gate", "no-nodes"}


def test_a_process_of_a_newer_system_than_the_host(
    tell: Callable[..., Any],
    module: Callable[[str], ModuleType],
    tools: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be a container's: what it has loaded it has, whatever the host's loader would find."""
    host = module("host")
    monkeypatch.setattr(host, "_defines", lambda *_: (2, 3))
    monkeypatch.setattr(module("tree"), "find", lambda *_: "")
    with has_loaded(tools / "toolkit/lib/libcudart.so.13") as number:
        status, told, _ = tell("--driver", "580", number)
    assert (status, first(told)) == (0, "")


@pytest.mark.parametrize(("loaded", "rule"), [("550.163.01", "mismatch"), ("580.95.05", "")])
def test_a_process_has_loaded_another_driver_s_library(
    module: Callable[[str], ModuleType], tools: Path, tmp_path: Path, loaded: str, rule: str
) -> None:
    """A container's: mounted when the host had another release, or built into its image."""
    host = module("host").look()
    host.module, host.nodes, host.library = "580.95.05", ["/dev/nvidiactl"], ""
    content = (tools / "toolkit/lib/libcudart.so.13").read_bytes()
    library = tmp_path / f"libcuda.so.{loaded}"
    library.write_bytes(content.replace(b"libcudart.so.13\0", b"libcuda.so.1\0\0\0\0"))
    with has_loaded(library) as number:
        subject = module("subjects").open_subject(str(number), "", host)
    found = [f.rule for f in module("judge").Judge(subject, host).findings() if f.level == "breaks"]
    assert found[:1] == ([rule] if rule else [])


def test_a_python_environment_with_two_runtimes(
    tell: Callable[..., Any], tools: Path, tmp_path: Path
) -> None:
    packages = tmp_path / "venv/lib/python3.13/site-packages"
    for major, number in (("13", "13.5.37"), ("12", "12.4.127")):
        library = packages / f"nvidia/cu{major}/lib/libcudart.so.{major}"
        library.parent.mkdir(parents=True)
        content = (tools / "toolkit/lib/libcudart.so.13").read_bytes()
        library.write_bytes(content.replace(b"libcudart.so.13", f"libcudart.so.{major}".encode()))
        (packages / f"nvidia_cuda_runtime_cu{major}-{number}.dist-info").mkdir()
    status, told, _ = tell("--driver", "580", tmp_path / "venv")
    subject = told["subjects"][0]
    assert subject["runtimes"] == {"libcudart.so.12": "12.4.127", "libcudart.so.13": "13.5.37"}
    assert "two-runtimes" in [finding["rule"] for finding in subject["findings"]]
    assert status == 0


# --- what is none of these ---


def climbing(place: Path) -> Path:
    return wheel(place, "it-1-py3-none-any.whl", {"../../etc/it.so": b""})


def pipe(place: Path) -> Path:
    os.mkfifo(place / "pipe")
    return place / "pipe"


def damaged_wheel(place: Path) -> Path:
    """Whole but for what is packed in it."""
    path = place / "it-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("it.so", os.urandom(100) * 100)
    content = bytearray(path.read_bytes())
    content[35:50] = b"\xff" * 15  # behind the first member's header of 30 bytes, and its name
    path.write_bytes(content)
    return path


def saved(place: Path, files: dict[str, bytes]) -> Path:
    path = place / "saved.tar"
    path.write_bytes(packed(files))
    return path


def elf_of(place: Path, change: Callable[[bytearray], object]) -> Path:
    content = bytearray(Path("/bin/ls").read_bytes())
    change(content)
    path = place / "changed"
    path.write_bytes(content)
    return path


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no ELF": (lambda p: (p / "x").write_text("text") and p / "x", "is no program and no library"),
    "empty": (lambda p: (p / "x").write_bytes(b"") or p / "x", "is no program and no library"),
    "truncated": (lambda p: elf_of(p, lambda c: c.__delitem__(slice(5000, None))), "is truncated"),
    "headers alone": (lambda p: elf_of(p, lambda c: c.__delitem__(slice(30, None))), "is damaged"),
    "no zip": (lambda p: (p / "x.whl").write_text("text") and p / "x.whl", "is no wheel"),
    "climbing": (climbing, "has a path that climbs out of it (../../etc/it.so)"),
    "an image that is not here": (lambda p: "example/none:1", "is not here"),
    "a file that is not here": (lambda p: p / "Nothing Here", "is not here: name a file"),
    "a process that is not here": (lambda p: 2**22 + 1, "there is no process"),
    "a directory": (lambda p: p, "is a directory, and neither"),
    "a pipe": (pipe, "is a device, a pipe or a socket"),
    "a wheel with damage inside": (damaged_wheel, "is no wheel"),
    "a packed tar that ends early": (
        lambda p: (
            (p / "x.tar").write_bytes(packed({"a": os.urandom(90000)}, "gz")[:50000])
            and p / "x.tar"
        ),
        "is no whole image",
    ),
    "a manifest that is none": (lambda p: saved(p, {"manifest.json": b"text"}), "in its manifest"),
    "a manifest of layers that are not there": (
        lambda p: saved(p, {"manifest.json": b'[{"Layers": ["a.tar"]}]'}),
        "in its manifest",
    ),
    "an image for another machine": (
        lambda p: saved(p, oci([], "riscv64")),
        "it lists no image for this machine",
    ),
    "a manifest that climbs": (
        lambda p: saved(
            p,
            {"oci-layout": b"{}", "index.json": b'{"manifests": [{"digest": "../../dev:zero"}]}'},
        ),
        "is no digest",
    ),
    "layers that zstd has packed": (
        lambda p: saved(
            p,
            {"manifest.json": b'[{"Layers": ["a.tar"]}]', "a.tar": b"\x28\xb5\x2f\xfd" + bytes(99)},
        ),
        "zstd",
    ),
    "a tar that ends early": (
        lambda p: (p / "x.tar").write_bytes(packed({"a/b": b"x" * 9000})[:3000]) and p / "x.tar",
        "is no whole image",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(tell: Callable[..., Any], tmp_path: Path, name: str) -> None:
    make, says = BAD[name]
    status, told, said = tell(make(tmp_path))
    assert (status, told["error"]) == (2, said.removeprefix("cuda-needs: ").strip())
    assert says in said
    assert said.count("\n") == 1


def test_another_architecture(tell: Callable[..., Any], tmp_path: Path) -> None:
    path = elf_of(tmp_path, lambda c: struct.pack_into("<H", c, 18, 183))  # EM_AARCH64
    status, told, _ = tell(path)
    assert (status, first(told)) == (1, "machine")


def test_without_section_headers_it_says_what_it_cannot_see(
    tell: Callable[..., Any], tmp_path: Path
) -> None:
    def strip(content: bytearray) -> None:
        struct.pack_into("<Q", content, 40, 0)  # e_shoff
        struct.pack_into("<HH", content, 60, 0, 0)  # e_shnum, e_shstrndx

    _, told, _ = tell(elf_of(tmp_path, strip))
    subject = told["subjects"][0]
    assert "libc.so.6" in subject["files"][0]["needed"]
    assert "no section headers" in json.dumps(subject["findings"])


def test_a_process_that_ends_while_it_is_read(
    tell: Callable[..., Any],
    module: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:

        def end(file: Any) -> bool:
            if not file.name.startswith("/proc/"):
                return is_elf(file)
            process.kill()
            process.wait()
            raise ProcessLookupError

        is_elf = module("elf").is_elf
        monkeypatch.setattr(module("elf"), "is_elf", end)
        status, told, _ = tell("--as", "process", process.pid)
    assert (status, told["error"]) == (2, f"process {process.pid} ended while it was read")


def test_damaged_files_are_never_a_traceback(
    module: Callable[[str], ModuleType], compiled: Path
) -> None:
    elf = module("elf")
    whole = (compiled / "prog").read_bytes()
    chance = random.Random(15)  # noqa: S311 - the same damage each time
    outcomes = set()
    for _ in range(150):
        content = bytearray(whole[: chance.choice([len(whole), chance.randrange(len(whole))])])
        for _ in range(chance.randrange(1, 30)):
            content[chance.randrange(4, min(len(content), 4096) or 1)] = chance.randrange(256)
        try:
            outcomes.add(type(elf.read(io.BytesIO(content), "it")).__name__)
        except elf.UnreadableError as error:
            outcomes.add(str(error).split(",")[0].split(":")[0])
    assert {"Elf", "it is truncated"} <= outcomes


LARGE = 3100  # fat binaries, with 1 MB of code in each
MEASURED = """
import json, pathlib, resource, subprocess, sys
told = json.loads(subprocess.run(sys.argv[1:], stdout=subprocess.PIPE).stdout)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
read = pathlib.Path("/proc/self/io").read_text().split()[1]
print(json.dumps([told, used.ru_utime + used.ru_stime, used.ru_maxrss, int(read)]))
"""


def enlarged(library: Path, path: Path) -> None:
    """A real library with so many fat binaries behind it, which are holes but for their headers."""
    code = 1 << 20
    container = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 64 + code)
    entry = struct.pack("<HHIQIIHHIIIQ", 2, 0x101, 64, code, 0, 0, 7, 1, 90, 0, 0, 0x11)
    content = library.read_bytes()
    (sections,) = struct.unpack_from("<Q", content, 40)  # e_shoff
    size, count, names = struct.unpack_from("<HHH", content, 58)
    named_at, named_size = struct.unpack_from("<QQ", content, sections + names * size + 24)
    table = bytearray(content[sections : sections + count * size])
    step, start = len(container) + 64 + code, -(-len(content) // 4096) * 4096
    end = start + LARGE * step
    with path.open("wb") as file:
        file.write(content)
        for number in range(LARGE):
            file.seek(start + number * step)
            file.write(container + entry)
        file.seek(end)
        file.write(content[named_at : named_at + named_size] + b".nv_fatbin\0")
        struct.pack_into("<QQ", table, names * size + 24, end, named_size + 11)
        file.seek(end := end + named_size + 11 + -(named_size + 11) % 8)
        table += struct.pack("<IIQQQQIIQQ", named_size, 1, 2, 0, start, LARGE * step, 0, 0, 8, 0)
        file.write(table)
        file.seek(40)
        file.write(struct.pack("<Q", end))
        file.seek(60)
        file.write(struct.pack("<H", count + 1))


def test_a_library_of_3_gb_is_read_in_no_time(tools: Path, tmp_path: Path) -> None:
    path = tmp_path / "libcudart.so.13"
    enlarged(tools / "toolkit/lib/libcudart.so.13", path)
    assert path.stat().st_size > 3 << 30
    # Started by a small process: what rusage says of memory begins with what the parent had.
    command = [sys.executable, "-B", "-m", "cuda_needs", "--json", str(path)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        env=os.environ | {"PYTHONPATH": f"{PROGRAM}:{tools / 'readers'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    told, seconds, memory, read = json.loads(done.stdout)
    file = told["subjects"][0]["files"][0]
    assert file["soname"] == "libcudart.so.13"
    assert file["codes"] == [{"kind": "elf", "arch": "sm_90", "isa": ""}]
    assert "unread" not in [finding["rule"] for finding in told["subjects"][0]["findings"]]
    assert seconds < 2, "of a processor"
    assert memory < 100 << 10, "KiB"
    assert read < 100 << 20, "bytes, with the interpreter and its modules"


def test_without_its_reader_it_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-S", "-m", "cuda_needs"],
        cwd=PROGRAM,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "apt-get install python3-pyelftools" in done.stderr


def test_for_people_it_ends_with_what_to_do(
    module: Callable[[str], ModuleType], compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module("__main__").main(["--driver", "580", str(compiled / "prog")]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"BREAKS +libcudart.so.13: cannot open .*\n +-> it comes with CUDA", shown)


def test_the_gate_is_what_runtimes_and_drivers_do(
    module: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few of the pairs that notebooks/cuda/runtime-driver-matrix runs."""
    place = ROOT / "build/fixtures/cuda-runtimes"
    subprocess.run([ROOT / "ci/fixtures/cuda-runtimes", place], check=True)
    monkeypatch.syspath_prepend(str(ROOT / "notebooks/cuda/runtime-driver-matrix"))
    pairs, rules = importlib.import_module("pairs"), module("rules")
    asked = ("11.8.89", "12.2.140", "12.9.79", "13.0.48")
    runtimes = {v: path for v, path in pairs.runtimes(place / "runtimes").items() if v in asked}
    drivers = pairs.drivers([place / branch for branch in ("470", "535", "550")])
    for (runtime, driver), said in pairs.all_pairs(runtimes, drivers).items():
        assert rules.CUDA_OF_BRANCH[rules.version(driver)[0]] == pairs.cuda_of(said)
        answer = rules.gate(rules.version(runtime), pairs.cuda_of(said))
        assert pairs.word(runtime, said).startswith(
            {"yes": "taken", "minor": "minor version", "no": "refused"}[answer]
        ), (runtime, driver)


@pytest.mark.parametrize(("isa", "said"), [("9.5", ""), ("9.6", "Unsupported .version 9.6")])
def test_the_newest_ptx_is_the_compilers(
    module: Callable[[str], ModuleType], tools: Path, tmp_path: Path, isa: str, said: str
) -> None:
    source = (PROGRAM / "ci/kernel.ptx").read_text().replace(".version 9.5", f".version {isa}")
    (tmp_path / "kernel.ptx").write_text(source)
    done = subprocess.run(
        [tools / "toolkit/bin/ptxas", "-arch=sm_80", "kernel.ptx"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in done.stderr
    rules = module("rules")
    newest = rules.newest_ptx(max(rules.PTX_OF))
    assert (rules.version(isa) <= newest) == (done.returncode == 0)
