"""Makes projects in the shape the site reads: notebooks, run records, claims and hosts.

The tests use small ones; the benchmark uses `books`, sixty notebooks the size of published ones.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kb.proof import catalog, records
from kb.runtime.record import SCHEMA
from kb.runtime.settle import MIME as SETTLED
from project import KERNEL, Project, code, text

ROOT = Path(__file__).resolve().parents[2]

# The notebooks of the project that the tests build whole.
RUNBOOK = "runbooks/go/install.ipynb"
NOTEBOOK = "notebooks/go/limits.ipynb"
UNTRUSTED = "notebooks/serving/untrusted.ipynb"

HOST = {
    "name": "debian-13",
    "kind": "docker",
    "label": "container",
    "os": "Debian GNU/Linux 13 (trixie)",
    "os_id": "debian",
    "os_version": "13",
    "kernel": "6.12.48",
    "libc": "glibc 2.41",
    "cpu": "Example CPU",
    "cpus": 2,
    "gpu": None,
    "driver": None,
    "python": "3.13.5",
}
Cell = dict[str, Any]


def stream(content: str) -> dict[str, Any]:
    """What a command printed."""
    return {"output_type": "stream", "name": "stdout", "text": content}


def display(**data: Any) -> dict[str, Any]:
    """A displayed object; `image_png=...` stands for `image/png`."""
    bundle = {name.replace("_", "/", 1).replace("__", "+"): value for name, value in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": bundle}


def mime(kind: str, value: Any) -> dict[str, Any]:
    """A displayed object of one MIME type."""
    return {"output_type": "display_data", "metadata": {}, "data": {kind: value}}


def settled(claim: str, verdict: str, *saw: str) -> dict[str, Any]:
    """What `settle` shows."""
    shown = {"claim": claim, "verdict": verdict, "evidence": "executed", "saw": list(saw)}
    return {
        "output_type": "display_data",
        "metadata": {},
        "data": {SETTLED: shown, "text/plain": f"{claim}: {verdict}"},
    }


def png(width: int = 320, height: int = 200, seed: int = 0) -> bytes:
    """A noisy picture, which compresses as badly as a real plot."""
    noise = random.Random(seed)  # noqa: S311 - not for security
    rows = b"".join(
        b"\0" + bytes(noise.choice((0, 64, 128, 255)) for _ in range(width)) for _ in range(height)
    )

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    image = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + image


def png_text(**size: int) -> str:
    """The same as a notebook holds it."""
    return base64.b64encode(png(**size)).decode()


def document(cells: Iterable[Cell], **metadata: Any) -> dict[str, Any]:
    """A notebook file's content."""
    return {
        "cells": list(cells),
        "metadata": {
            **KERNEL,
            **metadata,
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


class Published(Project):
    """A project whose runs are written down, not made: what the site can be built from."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cells: dict[str, list[Cell]] = {}

    def notebook(self, path: str, cells: Iterable[Cell], **kb: Any) -> None:
        """Writes a notebook; `kb` is its metadata block."""
        self.cells[path] = list(cells)
        area = Path(path).parts[1]
        said = f'title = "{area.upper()}"\nsentence = "All on {area}."\nowner = "@maintainers"\n'
        self.write(f"runbooks/{area}/area.toml", said)
        self.write(path, document(self.cells[path], kb={"needs": [], **kb}))

    def ran(
        self,
        path: str,
        outputs: Mapping[str, list[dict[str, Any]]],
        *,
        stage: str = "run",
        host: str = "debian-13",
        failed: tuple[str, str] | None = None,
        changed: Mapping[str, str] | None = None,
        **record: Any,
    ) -> Path:
        """Writes a run record.

        Args:
            outputs: by cell id.
            failed: the cell that failed and the sentence; the cells after it were not run.
            changed: sources that were other than now, by cell id.
            record: further keys of the record.
        """
        executed, states = [], []
        status = "passed"
        for original in self.cells[path]:
            cell = json.loads(json.dumps(original))
            if cell["cell_type"] == "code":
                if changed and cell["id"] in changed:
                    cell["source"] = changed[cell["id"]]
                here = "failed" if failed and failed[0] == cell["id"] else status
                states.append({"id": cell["id"], "status": here, "duration": 0.4})
                cell["outputs"] = outputs.get(cell["id"], []) if here != "not run" else []
                cell["execution_count"] = 1
                status = "not run" if here == "failed" else status
            executed.append(cell)
        kb_run = {
            "schema": SCHEMA,
            "notebook": path,
            "stage": stage,
            "mode": stage,
            "key": "",
            "result": "failed" if failed else "passed",
            "error": {"cell": failed[0], "message": failed[1]} if failed else None,
            "started": "2026-11-22T03:04:05Z",
            "duration": 12.3,
            "kb": "0.1.0",
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "dirty": False,
            "inputs": {path: "of another notebook"},
            "parameters": {},
            "host": {**HOST, "name": host},
            "image": None,
            "cells": states,
            "state": None,
            "broken": None,
            **record,
        }
        if not changed:
            kb_run["inputs"] = records.inputs(catalog.read(self.root, Path(path)))
        target = f"build/runs/{host}/{path.removesuffix('.ipynb')}.{stage}.ipynb"
        self.write(target, records.sealed(document(executed, kb_run=kb_run)))
        return self.root / target

    def skip(self, path: str, host: str, reason: str) -> None:
        """Writes why a notebook was not run on a host."""
        target = f"build/runs/{host}/{path.removesuffix('.ipynb')}.skipped.json"
        self.write(target, {"reason": reason, "when": "2026-11-22T03:04:05Z"})

    def ledger(self, name: str, *claims: Mapping[str, Any]) -> None:
        """Writes claims; JSON is YAML."""
        self.write(f"docs/claims/{name}.yml", list(claims))


def claim(identity: str, **fields: Any) -> dict[str, Any]:
    """A claim with everything it must have."""
    return {
        "id": identity,
        "source": "A §1",
        "says": f"{identity} is so.",
        "verdict": "confirmed",
        "evidence": "executed",
        "truth": "It is so.",
        "instead": "Nothing to do.",
        **fields,
    }


_WORDS = (
    "the service starts a worker for each core and waits until its queue drains while a timer"
    " counts how long every request took to reach the first byte on a busy host with many"
    " connections open kernel scheduler memory page cache latency throughput profile"
)


def books(project: Published, count: int = 60, *, seed: int = 1) -> None:
    """Writes `count` executed notebooks of about 290 KB: prose, code, text, tables, pictures."""
    noise = random.Random(seed)  # noqa: S311 - not for security

    def sentence(length: int = 14) -> str:
        return " ".join(noise.choices(_WORDS.split(), k=length)).capitalize() + "."

    for number in range(count):
        area = ("go", "cuda", "systemd", "serving")[number % 4]
        path = f"notebooks/{area}/book-{number:02}.ipynb"
        cells = [text("title", f"# Measurement {number}: {sentence(4)}\n\n{sentence()}")]
        outputs: dict[str, list[dict[str, Any]]] = {}
        for part in range(8):
            paragraphs = "\n\n".join(
                " ".join(sentence() for _ in range(5)) for _ in range(noise.randint(1, 3))
            )
            cells.append(text(f"part-{part}", f"## {sentence(4)}\n\n{paragraphs}"))
            for step in range(3):
                identity = f"step-{part}-{step}"
                lines = "\n".join(
                    f"value_{line} = measure({line}, {noise.random():.4f})" for line in range(6)
                )
                cells.append(code(identity, f"# {sentence(6)}\n{lines}\nshow(value_0)"))
                outputs[identity] = [_output(noise, step, sentence)]
        for picture in range(4):
            identity = f"plot-{picture}"
            cells.append(code(identity, f"plot(value_{picture})"))
            data = png_text(width=320, height=460, seed=noise.randrange(1 << 30))
            outputs[identity] = [
                {**mime("image/png", data), "metadata": {"image/png": {"width": 300}}}
            ]
        project.notebook(path, cells)
        project.ran(path, outputs)


def _output(noise: random.Random, step: int, sentence: Any) -> dict[str, Any]:
    if step == 0:
        rows = (f"\x1b[32mok\x1b[0m {noise.random():.6f} {sentence(5)}" for _ in range(20))
        return stream("\n".join(rows) + "\n")
    if step == 1:
        rows = "".join(
            f"<tr><th>{row}</th>" + "".join(f"<td>{noise.random():.4f}</td>" for _ in range(5))
            for row in range(12)
        )
        table = f'<table border="1" class="dataframe"><tbody>{rows}</tbody></table>'
        return display(text_html=table, text_plain="a table")
    return mime("text/plain", "\n".join(f"{noise.random():.8f}" for _ in range(25)))


def prepared(root: Path) -> Published:
    """An empty project with this repository's own configuration and hand-written pages."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "mkdocs.yml", root)
    left_out = shutil.ignore_patterns("claims", "evidence", "assets")
    shutil.copytree(ROOT / "docs", root / "docs", ignore=left_out)
    (root / "ci").mkdir()
    shutil.copy(ROOT / "ci" / "hosts.toml", root / "ci")
    return Published(root)


def mkdocs(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `mkdocs build --strict` in a project."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", *arguments],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
