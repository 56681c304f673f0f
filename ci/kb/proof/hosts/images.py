"""The images of container hosts: built once for each state of what goes into them."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound
from filelock import FileLock

from kb.proof.catalog import files_below
from kb.proof.hosts import EngineError, Host, HostError

REPOSITORY = "noble-runbooks"
BOOTSTRAPPED = "noble-runbooks/base:debian-13"  # made by ci/setup/debian-13.sh, not pulled
# Of the package, what runs on hosts: changing the rest makes no new image.
PACKAGE = ("__init__.py", "py.typed", "runtime")
CONTEXT = ("requirements-host.txt", "pyproject.toml")
PROSE = ("README.md", "LICENSE")  # the package's build wants them, but they change nothing
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# Found once in a process: edits that are made while it runs do not change the image.
_ensured: dict[Host, dict[str, str]] = {}


@functools.cache
def engine() -> docker.DockerClient:
    """The container engine that this user can reach. Raises :class:`EngineError`."""
    try:
        client = docker.from_env(timeout=300)
        client.ping()
    except DockerException as error:
        text = str(error)
        if "Permission denied" in text or "PermissionError" in text:
            raise EngineError(
                "no permission to use the Docker engine: add yourself to the group that owns its"
                " socket (`sudo usermod -aG docker $USER`, then log in again) or use sudo"
            ) from None
        raise EngineError(
            "no Docker engine answers: start it (`sudo systemctl start docker`), or let"
            " `make engine` install and start one"
        ) from None
    return client


def ensure(host: Host, tell: Callable[[str], object] = lambda line: None) -> dict[str, str]:
    """Name and id of the image of ``host``; builds it if this state of its inputs has none yet.

    ``tell`` gets a line before something that takes minutes. Raises :class:`HostError`.
    """
    if host not in _ensured:
        name = f"{REPOSITORY}/{host.name}:{_inputs(host)}"
        found = find(name)
        if found is None:
            with locked(host):
                found = find(name)
                if found is None:
                    tell(f"building the image of {host.name} (a few minutes, once)")
                    found = _build(host, name)
        _ensured[host] = {"name": name, "id": found}
    return _ensured[host]


def locked(host: Host) -> FileLock:
    """Held while something is built for ``host``, so that it is built once."""
    return FileLock(Path(tempfile.gettempdir()) / f"{REPOSITORY}-{host.name}-{os.getuid()}.lock")


def ca_bundle() -> Path | None:
    """The certificate bundle that the caller's own tools are told to use, if any."""
    for variable in BUNDLES:
        path = os.environ.get(variable)
        if path and Path(path).is_file():
            return Path(path)
    return None


def proxies() -> dict[str, str]:
    """The caller's proxy settings."""
    return {name: os.environ[name] for name in PROXIES if name in os.environ}


def find(name: str) -> str | None:
    """The id of the image of this name, if the engine has it."""
    try:
        return str(engine().images.get(name).id)
    except ImageNotFound:
        return None


def ensure_qemu(root: Path) -> str:
    """The id of the image that runs virtual machines. Raises :class:`HostError`."""
    _base_id(BOOTSTRAPPED, root)
    files = sorted((root / "ci/images/qemu").iterdir())
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name}\0".encode() + path.read_bytes())
    name = f"{REPOSITORY}/qemu:{total.hexdigest()[:12]}"
    found = find(name)
    if found is None:
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for path in files:
                archive.add(path, path.name)
        found = _built("the image of QEMU", context, name, {})
    return found


def _inputs(host: Host) -> str:
    """A hash of all that goes into the image."""
    base, target = _base_id(host.base, host.root), host.backend.target
    total = hashlib.sha256(f"{host.base} {base} {target}".encode())
    for path in _context(host):
        total.update(f"{path.relative_to(host.root)}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def _base_id(base: str, root: Path) -> str:
    # A bootstrapped base is what it is; a pulled one is named by its tag or digest.
    if base != BOOTSTRAPPED:
        return ""
    found = find(base)
    if found is None:
        script = root / "ci/setup/debian-13.sh"
        done = subprocess.run([str(script)], stdin=subprocess.DEVNULL, check=False)
        found = find(base)
        if done.returncode != 0 or found is None:
            raise HostError(
                f"the base image {base} could not be bootstrapped: see what"
                " ci/setup/debian-13.sh says above"
            )
    return found


def _context(host: Host) -> Iterator[Path]:
    root = host.root
    yield root / "ci/images/Dockerfile"
    for name in CONTEXT:
        yield root / name
    stage = root / "ci/images" / host.backend.target  # what it copies besides the package
    yield from sorted(path for path in stage.rglob("*") if path.is_file())
    for name in PACKAGE:
        yield from files_below(root / "ci/kb" / name)


def _build(host: Host, name: str) -> str:
    if host.base != BOOTSTRAPPED:
        _pull(host.base)
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w", dereference=True) as archive:
        for path in (*_context(host), *(host.root / name for name in PROSE)):
            inside = path.relative_to(host.root)
            if inside.is_relative_to("ci/images"):
                inside = inside.relative_to("ci/images")
            archive.add(path, str(inside))
        bundle = ca_bundle()
        certificates = bundle.read_bytes() if bundle else b""
        entry = tarfile.TarInfo("ca.crt")
        entry.size = len(certificates)
        archive.addfile(entry, io.BytesIO(certificates))
    what = f"the image of {host.name}"
    return _built(what, context, name, {"BASE": host.base}, host.backend.target)


def _built(
    what: str, context: io.BytesIO, name: str, arguments: dict[str, str], target: str = ""
) -> str:
    context.seek(0)
    try:
        image, _ = engine().images.build(
            fileobj=context,
            custom_context=True,
            tag=name,
            target=target,
            buildargs={**arguments, **proxies()},
            rm=True,
            forcerm=True,
        )
    except BuildError as error:
        lines = [str(entry.get("stream", "")).strip() for entry in error.build_log]
        last = " / ".join([line for line in lines if line][-3:])
        raise HostError(f"{what} could not be built: {error.msg} ({last})") from None
    except APIError as error:
        raise HostError(f"{what} could not be built: {error.explanation}") from None
    return str(image.id)


def _pull(base: str) -> None:
    if find(base) is not None:
        return
    try:
        engine().images.pull(base)
    except DockerException as error:
        why: Any = getattr(error, "explanation", None) or error
        raise HostError(
            f"the base image {base} cannot be pulled ({why}): check the network or the registry, or"
            " name another one as `base` in ci/hosts.toml"
        ) from None
