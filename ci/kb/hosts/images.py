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

from kb.hosts import Host, HostError

REPOSITORY = "noble-runbooks"
BOOTSTRAPPED = "noble-runbooks/base:debian-13"  # made by ci/setup/debian-13.sh, not pulled
# What only CI's side of the package needs: changing it makes no new image.
NOT_IN_IMAGE = (
    "site",
    "hosts",
    "format.py",
    "new.py",
    "plugin.py",
    "life.py",
    "runs.py",
    "catalog.py",
    "claims.py",
    "__pycache__",
)
CONTEXT = ("requirements-host.txt", "pyproject.toml")
PROSE = ("README.md", "LICENSE")  # the package's build wants them, but they change nothing
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# A session uses one state of the image, whatever is edited meanwhile.
_ensured: dict[Host, dict[str, str]] = {}


@functools.cache
def engine() -> docker.DockerClient:
    """The container engine that this user can reach. Raises :class:`HostError`."""
    try:
        client = docker.from_env(timeout=300)
        client.ping()
    except DockerException as error:
        text = str(error)
        if "Permission denied" in text or "PermissionError" in text:
            raise HostError(
                "no permission to use the Docker engine: add yourself to the group that owns its"
                " socket (`sudo usermod -aG docker $USER`, then log in again) or use sudo"
            ) from None
        raise HostError(
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
        found = _find(name)
        if found is None:
            lock = Path(tempfile.gettempdir()) / f"{REPOSITORY}-{host.name}-{os.getuid()}.lock"
            with FileLock(lock):
                found = _find(name)
                if found is None:
                    tell(f"building the image of {host.name} (a few minutes, once)")
                    found = _build(host, name)
        _ensured[host] = {"name": name, "id": found}
    return _ensured[host]


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


def _find(name: str) -> str | None:
    try:
        return str(engine().images.get(name).id)
    except ImageNotFound:
        return None


def _inputs(host: Host) -> str:
    """A hash of all that goes into the image."""
    total = hashlib.sha256(f"{host.base} {_base_id(host)}".encode())
    for path in _context(host.root):
        total.update(f"{path.relative_to(host.root)}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def _base_id(host: Host) -> str:
    # A bootstrapped base is what it is; a pulled one is named by its tag or digest.
    if host.base != BOOTSTRAPPED:
        return ""
    found = _find(host.base)
    if found is None:
        script = host.root / "ci/setup/debian-13.sh"
        done = subprocess.run([str(script)], stdin=subprocess.DEVNULL, check=False)
        found = _find(host.base)
        if done.returncode != 0 or found is None:
            raise HostError(
                f"the base image {host.base} could not be bootstrapped: see what"
                " ci/setup/debian-13.sh says above"
            )
    return found


def _context(root: Path) -> Iterator[Path]:
    yield root / "ci/images/Dockerfile"
    for name in CONTEXT:
        yield root / name
    for path in sorted((root / "ci/kb").rglob("*")):
        if path.is_file() and not set(path.relative_to(root / "ci/kb").parts) & set(NOT_IN_IMAGE):
            yield path


def _build(host: Host, name: str) -> str:
    if host.base != BOOTSTRAPPED:
        _pull(host.base)
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w", dereference=True) as archive:
        for path in (*_context(host.root), *(host.root / name for name in PROSE)):
            inside = "Dockerfile" if path.name == "Dockerfile" else path.relative_to(host.root)
            archive.add(path, str(inside))
        bundle = ca_bundle()
        certificates = bundle.read_bytes() if bundle else b""
        entry = tarfile.TarInfo("ca.crt")
        entry.size = len(certificates)
        archive.addfile(entry, io.BytesIO(certificates))
    context.seek(0)
    try:
        image, _ = engine().images.build(
            fileobj=context,
            custom_context=True,
            tag=name,
            buildargs={"BASE": host.base, **proxies()},
            rm=True,
            forcerm=True,
        )
    except BuildError as error:
        lines = [str(entry.get("stream", "")).strip() for entry in error.build_log]
        last = " / ".join([line for line in lines if line][-3:])
        raise HostError(
            f"the image of {host.name} could not be built: {error.msg} ({last})"
        ) from None
    except APIError as error:
        raise HostError(
            f"the image of {host.name} could not be built: {error.explanation}"
        ) from None
    return str(image.id)


def _pull(base: str) -> None:
    if _find(base) is not None:
        return
    try:
        engine().images.pull(base)
    except DockerException as error:
        why: Any = getattr(error, "explanation", None) or error
        raise HostError(
            f"the base image {base} cannot be pulled ({why}): check the network or the registry, or"
            " name another one as `base` in ci/hosts.toml"
        ) from None
