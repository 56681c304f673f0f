"""What a save function asks of the kernel, so that another kernel can be asked the same."""

from __future__ import annotations

import ast
import base64
import functools
import json
import operator
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TypedDict

DONE = [
    "openat",
    "ftruncate",
    "fsync",
    "fdatasync",
    "fchmod",
    "close",
    "lseek",
    "mkdir",
    "chmod",
    "unlink",
    "unlinkat",
    "rmdir",
]
DONE += ["write", "writev", "pwrite64", "rename", "renameat", "renameat2"]
# What may change a file, too, and is not done again: a function that asks for it is not taken.
OTHERS = [
    "pwritev",
    "pwritev2",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "mkdirat",
    "link",
    "linkat",
]
WRITES = ("write", "writev", "pwrite64")
CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)(?:<.*>)?(?: .*)?")
WORD = re.compile(
    r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(?:\.\.\.)?|(-?\d+|AT_FDCWD)<([^>]*)>|([^",<>()\[\]{} ]+)'
)
SCRIPT = Path(__file__).with_name("series.py")

Call = dict[str, str | int]


class Save(TypedDict):
    """What one save asked, and the SHA-256 of what is there then."""

    Digest: str
    Calls: list[Call]


@dataclass
class Series:
    """One function's calls since its last save, its saves, and where its open files are at."""

    calls: list[Call] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)
    at: dict[int, int] = field(default_factory=dict)

    def take(self, name: str, path: str, words: list[Word], result: int) -> None:
        """Note a call that has its path, and that answered so."""
        rest = [word.other for word in words if word.other]
        file = int(words[0].number) if words[0].place and words[0].number != "AT_FDCWD" else -1
        made: Call = {"Name": name.removesuffix("at"), "Path": path, "File": file}
        if name == "openat":
            flags = (getattr(os, flag, 0) for flag in rest[0].split("|"))
            made |= {"File": result, "Flags": functools.reduce(operator.or_, flags)}
            made["Mode"] = int(rest[1], 8) if rest[1:] else 0
            self.at[result] = 0
        elif name in {"mkdir", "chmod", "fchmod"}:
            made["Mode"] = int(rest[-1], 8)
        elif name in WRITES:
            data = b"".join(plain(word.text) for word in words)[:result]
            made |= {"Name": "write", "Data": base64.b64encode(data).decode()}
            made["At"] = int(rest[-1]) if name == "pwrite64" else self.at[file]
            self.at[file] += 0 if name == "pwrite64" else len(data)
        elif name == "ftruncate":
            made["At"] = int(rest[0])
        elif name == "fdatasync":
            made["Name"] = "fsync"
        elif name == "unlinkat":
            made["Name"] = "rmdir" if "AT_REMOVEDIR" in rest else "unlink"
        elif name == "close" and self.at.pop(file, None) is None:
            return  # of another descriptor of the same file
        if name == "lseek":
            self.at[file] = result
        else:
            self.calls.append(made)


@dataclass
class Word:
    """One of a call's: a text, a descriptor with its path, or another."""

    text: str
    number: str
    place: str
    other: str


def plain(text: str) -> bytes:
    """What strace shows between quotes."""
    return bytes(ast.literal_eval(f'b"{text}"'))


def paths(name: str, words: list[Word]) -> list[str]:
    """What a call names: by its texts, beneath the directory before each; or by descriptor."""
    if name in WRITES or not any(word.text for word in words):
        return [word.place.removesuffix(" (deleted)") for word in words[:1]]
    found, base = [], ""
    for word in words:
        base = word.place or base
        if word.text:
            found.append(str(Path(base, plain(word.text).decode())))
    return found


def parsed(trace: str, directory: Path) -> dict[str, Series]:
    """What was done in each directory of that one, save by save."""
    series: dict[str, Series] = {}
    current = Series()
    for line in trace.splitlines():
        if not (call := CALL.fullmatch(line)):
            assert str(directory) not in line or "execve" in line, f"not understood: {line[:200]}"
            continue
        name, result = call[1], int(call[3])
        words = [Word(*(group or "" for group in one.groups())) for one in WORD.finditer(call[2])]
        if name == "write" and words[0].number == "1" and "saved " in call[2]:
            digest = plain(words[1].text).decode().split()[1]
            current.saves.append({"Digest": digest, "Calls": current.calls})
            current.calls = []
        beneath = [Path(path) for path in paths(name, words) if path.startswith(f"{directory}/")]
        if not beneath or result < 0:
            continue
        series_name, *parts = beneath[0].relative_to(directory).parts
        current = series.setdefault(series_name, Series())
        if name == "mkdir" and not parts:
            continue  # of the series' own directory
        assert name in DONE, f"it asks for {name}, which is not done again: {line[:200]}"
        current.take(name, str(Path(*parts)), words, result)
        if name.startswith("rename"):
            to = beneath[1].relative_to(directory / series_name)
            current.calls[-1] |= {"Name": "rename", "To": str(to)}
    return series


def short(calls: list[Call]) -> str:
    """What calls change, in their order."""
    words = []
    for call in calls:
        if call["Name"] != "open":
            words.append(str(call["Name"]))
        elif int(call["Flags"]) & os.O_CREAT:
            words.append("truncate" if int(call["Flags"]) & os.O_TRUNC else "create")
    runs = [(word, len(list(same))) for word, same in groupby(words) if word != "close"]
    return ", ".join(word if n == 1 else f"{word} x{n}" for word, n in runs)


def record(
    functions: dict[str, str], library: Path, keep: Path, times: int, into: Path
) -> dict[str, str]:
    """Have functions of save.py save so often, and write what they ask, in a file for each.

    They have the names that are given. Their library is for PYTHONPATH. What the last save of each
    has changed, in short.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place, trace = Path(scratch, "saved").resolve(), Path(scratch, "trace")
        place.mkdir()
        command = ["strace", "-f", "-y", "-x", "-s", "1000000", "-o", str(trace)]
        command += [f"--trace={','.join((*DONE, *OTHERS))}", "--seccomp-bpf"]
        command += [sys.executable, "-W", "ignore", str(SCRIPT), str(place), str(times), str(keep)]
        command += [f"{name}={function}" for name, function in functions.items()]
        environment = {"PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
        series = parsed(trace.read_text(encoding="latin-1"), place)
        for name, function in functions.items():
            saves = series[name].saves
            assert len(saves) == times, f"{name}: {len(saves)} saves were seen"
            (file,) = (path.name for path in Path(place, name).glob("last.*"))
            store = "kept" if function.endswith("+keep") else ""
            text = json.dumps({"File": file, "Store": store, "Saves": saves})
            Path(into, name).write_text(text, encoding="utf-8")
    return {name: short(series[name].saves[-1]["Calls"]) for name in functions}
