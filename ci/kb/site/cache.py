"""What is kept from one build to the next, under a key made of everything it was made from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

_END = "\0"
_UNUSED = 30 * 24 * 3600.0  # seconds after which an entry that no build asked for goes


class Cache:
    """Pages and files of the site. Writes are atomic: a killed build leaves nothing broken."""

    def __init__(self, directory: Path) -> None:
        self.pages = directory / "pages"
        self.files = directory / "files"
        self.templates = directory / "templates"
        for part in (self.pages, self.files, self.templates):
            part.mkdir(parents=True, exist_ok=True)

    def load(self, key: str) -> dict[str, Any] | None:
        """Returns what was kept under the key, or None; also where a file it names has gone."""
        path = self.pages / f"{key}.json"
        try:
            entry: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        if not all(self._has(name, size) for name, size in entry["files"].items()):
            return None
        os.utime(path)
        return entry

    def load_text(self, key: str) -> str | None:
        """Returns a text kept under the key, or None."""
        path = self.pages / f"{key}.html"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None
        # The last byte tells a whole file from one that a power cut left in part.
        if not text.endswith(_END):
            return None
        os.utime(path)
        return text.removesuffix(_END)

    def save_text(self, key: str, text: str) -> None:
        _write(self.pages / f"{key}.html", (text + _END).encode("utf-8", "xmlcharrefreplace"))

    def save(self, key: str, entry: dict[str, Any]) -> None:
        """Keeps an entry; its `files` gives each name that `keep` returned for it, and the size."""
        _write(self.pages / f"{key}.json", json.dumps(entry, ensure_ascii=False).encode())

    def keep(self, content: bytes, suffix: str) -> str:
        """Keeps a file and returns its name, which is made from its content."""
        name = digest(content)[:20] + suffix
        path = self.files / name
        if not self._has(name, len(content)):
            _write(path, content)
        return name

    def _has(self, name: str, size: int) -> bool:
        # The size tells a whole file from one that a power cut left empty.
        try:
            return (self.files / name).stat().st_size == size
        except OSError:
            return False

    def prune(self) -> None:
        """Removes what no build has asked for in a long while."""
        now = time.time()
        used: set[str] = set()
        for path in self.pages.iterdir():
            if now - path.stat().st_mtime > _UNUSED:
                path.unlink(missing_ok=True)
        old = [path for path in self.files.iterdir() if now - path.stat().st_mtime > _UNUSED]
        if old:
            for path in self.pages.glob("*.json"):
                used.update(json.loads(path.read_bytes())["files"])
        for path in old:
            if path.name not in used:
                path.unlink(missing_ok=True)


def digest(*parts: bytes | str) -> str:
    """Returns one SHA-256 over several parts; where one part ends and the next begins counts."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.hexdigest()


def _write(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
