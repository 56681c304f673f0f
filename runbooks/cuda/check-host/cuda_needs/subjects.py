"""What can be asked about: a file, a wheel, an image, a process, a Python environment.

Each becomes a :class:`Subject`: the programs and libraries in it, and where their libraries lie.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from cuda_needs import elf
from cuda_needs.elf import Elf, UnreadableError
from cuda_needs.host import Host
from cuda_needs.rules import Version, version

KINDS = ("binary", "library", "wheel", "image", "process", "environment")
OPAQUE = ".wh..wh..opq"  # a layer takes away all that a directory held
# What a damaged archive may raise: its reader's own error, and those of what unpacks it.
DAMAGED: tuple[type[Exception], ...] = (
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
with contextlib.suppress(ImportError):  # a Python without it has no such archives either
    from lzma import LZMAError

    DAMAGED += (LZMAError,)
PLATFORMS = {"amd64": "x64", "arm64": "AArch64"}  # how images call machines
ZSTD = b"\x28\xb5\x2f\xfd"  # how what zstd has packed begins
RUNTIME = re.compile(r"libcudart\.so\.(\d+)(\.0)?")


@dataclass
class Subject:
    """What is asked about."""

    kind: str
    name: str
    files: dict[str, Elf] = field(default_factory=dict)  # by path
    facts: dict[str, str] = field(default_factory=dict)  # what else it says of itself
    beside: dict[str, Elf] = field(default_factory=dict)  # what it finds by itself, by name
    runtimes: dict[str, Version] = field(default_factory=dict)  # of CUDA: version, by soname
    userland: bool = False  # whether it has a C library of its own, as an image has
    gone: list[str] = field(default_factory=list)  # files of a process that were replaced
    trouble: list[str] = field(default_factory=list)  # of single files, which are left out

    def add(self, found: Elf) -> None:
        self.files[found.path] = found

    def finish(self) -> Subject:
        """Index what was added: a library is found by its soname, or by its file's name."""
        for path, found in self.files.items():
            for name in filter(None, (found.soname, PurePosixPath(path).name)):
                self.beside.setdefault(name, found)
        for soname, found in self.beside.items():
            if match := RUNTIME.fullmatch(soname):
                in_name = version(PurePosixPath(found.path).name.partition(".so.")[2])
                known = self.runtimes.get(soname, ())
                self.runtimes[soname] = max(known, in_name, (int(match[1]),), key=len)
        return self


def open_subject(name: str, kind: str, host: Host) -> Subject:
    """Find out what ``name`` is, unless ``kind`` says so, and read it."""
    path = Path(name)
    if path.exists() and not (path.is_file() or path.is_dir()):  # to open a pipe is to wait
        raise UnreadableError(f"{name} is a device, a pipe or a socket: name a file or a directory")
    kind = kind or guess(name)
    readers: dict[str, Callable[[str, Host], Subject]] = {
        "binary": _file,
        "library": _file,
        "wheel": _wheel,
        "image": _image,
        "process": _process,
        "environment": _environment,
    }
    return readers[kind](name, host).finish()


def guess(name: str) -> str:
    path = Path(name)
    if re.fullmatch(r"\d+", name) and not path.exists():
        return "process"
    if path.is_dir():
        if packages_of(path):
            return "environment"
        if (path / "usr").is_dir() or (path / "lib").is_dir() or (path / "oci-layout").exists():
            return "image"
        raise UnreadableError(
            f"{name} is a directory, and neither a Python environment nor an image's root: name a"
            " file in it"
        )
    if path.exists():
        return _guess_file(path)
    if re.fullmatch(r"[a-z0-9][a-z0-9._/:@-]*", name) and (":" in name or "/" not in name):
        return "image"
    raise UnreadableError(f"{name} is not here: name a file, a directory, an image or a process")


def _guess_file(path: Path) -> str:
    if path.suffix == ".whl":
        return "wheel"
    try:
        if elf_begins(path):  # also where an archive stands behind it
            return "binary"
        if zipfile.is_zipfile(path):
            return "wheel"
        return "image" if tarfile.is_tarfile(path) else "binary"
    except OSError:
        return "binary"  # whoever reads it says why it cannot be read


# --- a file ---


def _file(name: str, host: Host) -> Subject:
    found = elf.read_path(name)
    subject = Subject("binary" if found.program else "library", name)
    subject.add(found)
    waiting = [(found, os.path.realpath(name))]
    while waiting:
        asker, path = waiting.pop()
        for soname in asker.needed:
            here = next(filter(os.path.isfile, _candidates(asker, path, soname)), "")
            if here and soname not in subject.beside:
                with contextlib.suppress(UnreadableError):  # then the loader cannot take it either
                    subject.beside[soname] = elf.read_path(os.path.realpath(here))
                    waiting.append((subject.beside[soname], os.path.realpath(here)))
    for library in subject.beside.values():
        _number_by_wheel(subject, Path(library.path).parent)
    _number_by_wheel(subject, Path(name).resolve().parent)
    return subject


def _candidates(asker: Elf, path: str, soname: str) -> Iterator[str]:
    """Where a file says that its libraries lie, and where the caller's environment says so."""
    origin = os.path.dirname(path)  # noqa: PTH120
    for entry in [*asker.search, *filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))]:
        yield re.sub(r"\$(ORIGIN\b|\{ORIGIN\})", lambda _: origin, entry) + f"/{soname}"


def _number_by_wheel(subject: Subject, place: Path) -> None:
    """A wheel's runtime has no version in its name; the wheel has one."""
    for parent in [place, *place.parents][:5]:
        for info in parent.glob("nvidia_cuda_runtime*.dist-info"):
            number = version(info.name.removesuffix(".dist-info").rpartition("-")[2])
            if number:
                subject.runtimes[runtime_soname(number)] = number


def runtime_soname(number: Version) -> str:
    """The soname of a runtime: CUDA 11's kept that of 11.0."""
    return "libcudart.so.11.0" if number[0] == 11 else f"libcudart.so.{number[0]}"


# --- a wheel ---


def _wheel(name: str, host: Host) -> Subject:
    subject = Subject("wheel", name)
    try:
        with zipfile.ZipFile(name) as archive:
            for member in archive.infolist():
                where = PurePosixPath(member.filename)
                if where.is_absolute() or ".." in where.parts:
                    raise UnreadableError(
                        f"{name} has a path that climbs out of it ({member.filename}): do not"
                        " install it"
                    )
            for member in archive.infolist():
                if ".so" in PurePosixPath(member.filename).suffixes or "/bin/" in member.filename:
                    with archive.open(member) as file:
                        _add(subject, file, member.filename)
                elif member.filename.endswith(".dist-info/METADATA"):
                    _metadata(subject, archive.read(member).decode(errors="replace"))
    except DAMAGED as error:
        raise UnreadableError(f"{name} is no wheel ({error}); fetch it again") from None
    except (OSError, RuntimeError) as error:  # encrypted, or compressed in an unknown way
        raise UnreadableError(f"{name} cannot be read: {error}") from None
    platform_tag = Path(name).stem.rpartition("-")[2]
    if floor := re.search(r"manylinux_(\d+)_(\d+)", platform_tag):
        subject.facts["made for"] = f"glibc {floor[1]}.{floor[2]} and later ({platform_tag})"
    if subject.facts.get("name", "").startswith("nvidia-cuda-runtime"):
        number = version(subject.facts.get("version", ""))
        subject.runtimes[runtime_soname(number)] = number
    return subject


def _metadata(subject: Subject, text: str) -> None:
    for key in ("Name", "Version", "Requires-Python"):
        if found := re.search(rf"(?m)^{key}: (.+)$", text):
            subject.facts[key.lower()] = found[1].strip()
    wanted = re.findall(r"(?m)^Requires-Dist: (nvidia[^\s;]*)", text)
    if wanted:
        subject.facts["brings along"] = ", ".join(wanted)


def _add(subject: Subject, file: IO[bytes], name: str) -> None:
    """Read a member of an archive, out of a copy that can seek."""
    if file.read(len(elf.MAGIC)) != elf.MAGIC:
        return
    with tempfile.TemporaryFile() as copy:
        copy.write(elf.MAGIC)
        shutil.copyfileobj(file, copy, 1 << 20)
        _take(subject, copy, name)


def _take(subject: Subject, file: BinaryIO, name: str) -> None:
    try:
        subject.add(elf.read(file, name))
    except UnreadableError as error:
        subject.trouble.append(str(error))


# --- an image ---


def _image(name: str, host: Host) -> Subject:
    subject = Subject("image", name, userland=True)
    path = Path(name)
    try:
        if (path / "oci-layout").exists():
            _layers(subject, lambda member: (path / member).open("rb"), [], host)
        elif path.is_dir():
            _walk(subject, path)
        elif path.exists():
            with tarfile.open(name) as archive:
                _archive(subject, archive, host)
        else:
            with _Exported(name) as archive:
                _layer(subject, archive)
    except DAMAGED as error:
        raise UnreadableError(f"{name} is no whole image ({error}); save it again") from None
    except OSError as error:
        raise UnreadableError(f"{name} cannot be read: {error}") from None
    return subject


def _walk(subject: Subject, root: Path) -> None:
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb", elf.AHEAD) as file:
                if elf.is_elf(file):
                    _take(subject, file, "/" + str(path.relative_to(root)))


def _archive(subject: Subject, archive: tarfile.TarFile, host: Host) -> None:
    """What docker or podman saved, layer by layer; or a root directory that was packed."""
    names = [name.removeprefix("./") for name in archive.getnames()]
    members = dict(zip(names, archive.getmembers(), strict=True))

    def opened(name: str) -> IO[bytes]:
        file = archive.extractfile(members[name])
        if file is None:
            raise KeyError(name)
        return file

    if "manifest.json" in members or "oci-layout" in members:
        _layers(subject, opened, names, host)
    else:
        for member in archive:
            _member(subject, archive, member)


def _layers(
    subject: Subject, opened: Callable[[str], IO[bytes]], names: list[str], host: Host
) -> None:
    """The layers that a manifest lists: Docker's own, or that of the Open Container Initiative."""

    def read(name: str) -> Any:
        with opened(name) as file:
            return json.load(file)

    try:
        if "manifest.json" in names:
            layers = _first(subject, read("manifest.json"))["Layers"]
        else:
            layers = [_blob(layer) for layer in _manifest(subject, read, host)["layers"]]
        for layer in layers:
            with opened(layer) as packed:
                _unpacked(subject, packed)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UnreadableError(
            f"{subject.name} is no whole image (in its manifest: {error}); save it again"
        ) from None


def _manifest(subject: Subject, read: Callable[[str], Any], host: Host) -> Any:
    """The manifest for this machine; an index may lead to others, one for each."""
    found = read("index.json")
    while "manifests" in found:
        ours = [entry for entry in found["manifests"] if _runs(entry.get("platform"), host)]
        found = read(_blob(_first(subject, ours)))
    return found


def _first(subject: Subject, images: list[Any]) -> Any:
    if not images:
        raise ValueError("it lists no image for this machine")
    if len(images) > 1:
        subject.trouble.append(f"there are {len(images)} images in it: the first one was read")
    return images[0]


def _runs(platform: Any, host: Host) -> bool:
    return platform is None or PLATFORMS.get(platform.get("architecture")) == host.machine


def _blob(entry: Any) -> str:
    """Where the file with a digest lies, which is sha256:0123..."""
    digest: str = entry["digest"]
    if not re.fullmatch(r"[a-z0-9]+:[0-9a-f]+", digest):
        raise ValueError(f"{digest!r} is no digest")
    return "blobs/" + digest.replace(":", "/")


def _unpacked(subject: Subject, packed: IO[bytes]) -> None:
    try:
        with tarfile.open(fileobj=packed, mode="r|*") as archive:
            _layer(subject, archive)
    except tarfile.ReadError:
        packed.seek(0)
        if packed.read(len(ZSTD)) != ZSTD:
            raise
        raise UnreadableError(
            f"{subject.name} has layers that zstd has packed, which this Python does not read:"
            " load it into docker or podman, and name it by its tag"
        ) from None


def _layer(subject: Subject, archive: tarfile.TarFile) -> None:
    for member in archive:
        where = PurePosixPath(member.name)
        if where.name.startswith(".wh."):  # the layer takes away what one below it has
            gone = f"/{where.with_name(where.name.removeprefix('.wh.'))}"
            if where.name == OPAQUE:
                gone = f"/{where.parent}"
            for path in [*subject.files]:
                if path == gone or path.startswith(f"{gone}/"):
                    del subject.files[path]
        else:
            _member(subject, archive, member)


def _member(subject: Subject, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    file = archive.extractfile(member) if member.isfile() else None
    if file is None:
        return
    path = "/" + str(PurePosixPath(member.name)).lstrip("/").removeprefix("./")
    subject.files.pop(path, None)
    _add(subject, file, path)


class _Exported:
    """The files of an image that an engine has, as one stream."""

    def __init__(self, name: str) -> None:
        engine = shutil.which("docker") or shutil.which("podman")
        if engine is None:
            raise UnreadableError(f"{name} is no file, and no docker or podman is here to ask")
        made = subprocess.run(
            [engine, "create", "--pull=never", name, "true"],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            reason = (made.stderr.strip() or "no reason given").splitlines()[-1]
            raise UnreadableError(f"the image {name} is not here ({reason}): pull it first")
        self.engine, self.container = engine, made.stdout.strip()
        self.stream = subprocess.Popen([engine, "export", self.container], stdout=subprocess.PIPE)

    def __enter__(self) -> tarfile.TarFile:
        return tarfile.open(fileobj=self.stream.stdout, mode="r|*")

    def __exit__(self, *_: object) -> None:
        self.stream.kill()
        self.stream.communicate()
        subprocess.run([self.engine, "rm", self.container], capture_output=True, check=False)


# --- a process ---


def _process(name: str, host: Host) -> Subject:
    directory = Path("/proc", name)
    subject = Subject("process", name)
    try:
        maps = (directory / "maps").read_text(encoding="utf-8", errors="surrogateescape")
        subject.facts["program"] = str((directory / "exe").readlink())
        environ = (directory / "environ").read_bytes().decode(errors="replace").split("\0")
    except PermissionError:
        raise UnreadableError(f"process {name} is somebody else's: run this as root") from None
    except OSError:
        raise UnreadableError(f"there is no process {name}, or it has ended") from None
    for variable in environ:
        if re.match(r"(LD_LIBRARY_PATH|LD_PRELOAD|CUDA_VISIBLE_DEVICES|NVIDIA_\w+)=", variable):
            key, _, value = variable.partition("=")
            subject.facts[key] = value
    # What is executed, and is a file: not a card's memory, nor what other processes share with it.
    for path in dict.fromkeys(re.findall(r"(?m)^\S+ r\Sx\S+ \S+ \S+ \d+ +(/.+)$", maps)):
        if path.endswith(" (deleted)"):
            # A compiler's code lies in files without a name, too.
            if ".so" in PurePosixPath(path).name or path == subject.facts["program"]:
                subject.gone.append(path.removesuffix(" (deleted)"))
            continue
        try:
            with open(f"{directory}/root{path}", "rb", elf.AHEAD) as file:  # noqa: PTH123
                if elf.is_elf(file):
                    _take(subject, file, path)
        except OSError:
            if not directory.exists():
                raise UnreadableError(f"process {name} ended while it was read") from None
            subject.trouble.append(f"{path} cannot be read")
    return subject


# --- a Python environment ---


def packages_of(path: Path) -> Path | None:
    """The directory of an environment's packages."""
    if path.name in ("site-packages", "dist-packages") and path.is_dir():
        return path
    return next(iter(sorted(path.glob("lib/python3*/site-packages"))), None)


def _environment(name: str, host: Host) -> Subject:
    packages = packages_of(Path(name))
    if packages is None:
        raise UnreadableError(f"{name} is no Python environment: no lib/python3*/site-packages")
    subject = Subject("environment", name)
    for info in sorted(packages.glob("*.dist-info")):
        package, _, number = info.name.removesuffix(".dist-info").partition("-")
        if re.match(r"nvidia_|torch|tensorflow|jax|cupy|onnxruntime|vllm|triton|numba", package):
            subject.facts[package] = number
    for path in _libraries(packages):
        try:
            found = elf.read_path(str(path), str(path.relative_to(packages)))
        except UnreadableError as error:
            subject.trouble.append(str(error))
            continue
        subject.add(found)
    _number_by_wheel(subject, packages)
    return subject


def _libraries(packages: Path) -> Iterator[Path]:
    for path in sorted(packages.rglob("*.so*")):
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):  # whoever reads it says why it cannot be read
                if not elf_begins(path):
                    continue
            yield path


def elf_begins(path: Path) -> bool:
    with path.open("rb") as file:
        return elf.is_elf(file)


def has_library(subject: Subject, host: Host, asker: Elf, soname: str) -> Elf | None:
    """The library that a file gets for a name: what its subject brings, then what the host has."""
    if found := subject.beside.get(soname):
        return found
    if subject.userland or subject.kind == "process":  # which may have a root of its own
        return None
    path = host.find(soname)
    if not path:
        return None
    try:
        return elf.read_path(path)
    except UnreadableError:
        return None
