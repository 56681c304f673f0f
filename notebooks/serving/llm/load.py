"""Starts llama.cpp's server in this process, asks it once, and says what it holds: load.py JSON

The JSON has file, context, mode (mmap or none), cache (f16, q8_0 or q4_0), flash (auto or
disabled) and repack.
A line of JSON comes back: what the process held at its start, loaded and after an answer, in MiB,
and the buffers that llama.cpp says it made. With wait, the process stays until its input ends, and
says what it holds then, too.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import xllamacpp

PATIENCE = 60  # seconds


def held() -> dict[str, float]:
    """Resident memory, in MiB: its own, and of files, where what others map is shared out."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    found = dict(re.findall(r"^Pss_(Anon|File):\s+(\d+)", text, re.MULTILINE))
    return {"own": int(found["Anon"]) / 1024, "file": int(found["File"]) / 1024}


def parameters(asked: dict[str, object]) -> xllamacpp.CommonParams:
    """What the server is told."""
    told = xllamacpp.CommonParams()
    told.model.path = asked["file"]
    told.n_ctx = asked["context"]
    told.n_parallel = 1
    told.warmup = False  # it would touch every weight before the first look
    told.fit_params = False  # what is asked for, and not what it thinks fits
    told.cache_ram_mib = 0
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = 1
    told.verbosity = 4
    told.port = 0
    told.load_mode = getattr(xllamacpp.llama_load_mode, f"LLAMA_LOAD_MODE_{asked['mode']}".upper())
    cache = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{asked['cache']}".upper())
    told.cache_type_k = told.cache_type_v = cache
    flash = f"LLAMA_FLASH_ATTN_TYPE_{asked['flash']}".upper()
    told.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, flash)
    told.no_extra_bufts = not asked["repack"]
    return told


def written(log: IO[str]) -> str:
    """The log, once it has its last buffer or an error; another thread writes it."""
    deadline = time.monotonic() + PATIENCE
    said = ""
    while time.monotonic() < deadline and not re.search(
        r"compute buffer size|^\S+ E srv", said, re.M
    ):
        time.sleep(0.02)
        log.seek(0)
        said = log.read()
    return said


def main() -> int:
    """The log goes to a file, since llama.cpp writes it past Python."""
    asked = json.loads(sys.argv[1])
    out = os.dup(1)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        seen: dict[str, object] = {"start": held()}
        try:
            server = xllamacpp.Server(parameters(asked))
            seen["loaded"] = held()
            server.handle_completions({"prompt": "abc", "n_predict": 4, "ignore_eos": True})
            seen["answered"] = held()
        except RuntimeError:
            pass  # the log has the reason
        said = written(log)
    seen["buffers"] = {
        kind: float(size)
        for kind, size in re.findall(r"(\S+ \S+) buffer size = +([\d.]+) MiB", said)
    }
    seen["errors"] = re.findall(r"^\S+ E (.*)$", said, re.MULTILINE)
    os.write(out, json.dumps(seen).encode() + b"\n")
    if asked.get("wait"):
        sys.stdin.read()
        os.write(out, json.dumps(held()).encode() + b"\n")
    os._exit(0)  # llama.cpp's threads are not worth a farewell


if __name__ == "__main__":
    sys.exit(main())
