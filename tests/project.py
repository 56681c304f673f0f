"""Small notebooks built in code, and projects of them in a temporary directory."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
MODE = 'mode: str = "plan"  # plan, apply or rollback'
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# What an image is made of: with the repository's own files, a project uses the repository's image.
SHARED = ("pyproject.toml", "requirements-host.txt", "README.md", "LICENSE")


CLAIM = """\
- id: a1-user
  source: A §1
  says: A container's user is root.
  verdict: confirmed
  evidence: executed
  truth: It is.
  instead: Nothing.
"""


def git(root: Path, *arguments: str, **env: str) -> None:
    """Run git in a repository, as somebody."""
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(root), *who, *arguments]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", **env})


def commit_all(root: Path) -> None:
    """Make a repository of what lies there."""
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "--allow-empty", "-m", "x")


def wait_for(holds: Callable[[], object], within: float = 120) -> None:
    """Wait until something holds; fail if it takes too long."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def text(identity: str, source: str) -> Any:
    """A cell of prose."""
    return v4.new_markdown_cell(source, id=identity)


def code(identity: str, source: str, *tags: str) -> Any:
    """A cell of code without outputs."""
    return v4.new_code_cell(source, id=identity, metadata={"tags": list(tags)} if tags else {})


def notebook(*cells: Any, parameters: str = "", **kb: Any) -> Any:
    """A notebook with the usual first cells; ``kb`` are its metadata."""
    first = [
        text("title", "# A small one\n\nIt is made for a test."),
        code("setup", "%load_ext kb", "setup"),
    ]
    if parameters:
        first.append(code("parameters", parameters, "parameters"))
    metadata = {**KERNEL, "kb": {"needs": [], **kb}}
    return v4.new_notebook(cells=[*first, *cells], metadata=metadata)


def runbook(*cells: Any, parameters: str = "", **kb: Any) -> Any:
    """A notebook with the parameter `mode`."""
    return notebook(*cells, parameters=f"{MODE}\n{parameters}".strip(), **kb)


def cases(broken: Iterable[Any] = (), flips: Iterable[Any] = ()) -> str:
    """The text of a cases.toml; a flip is one `claim` and what it `becomes`."""

    def toml(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
        return json.dumps(value)

    worlds = [
        {key: value for key, value in case.items() if key != "claim"}
        | {"becomes": {case["claim"]: case["becomes"]}}
        for case in flips
    ]
    return "\n".join(
        "\n".join([f"[[{name}]]", *(f"{key} = {toml(value)}" for key, value in case.items()), ""])
        for name, found in (("broken", broken), ("flips", worlds))
        for case in found
    )


def tree(root: Path) -> str:
    """A hash of all that lies below ``root``: names, kinds, owners, modes, times, contents."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        time = 0 if path.is_dir() and not path.is_symlink() else about.st_mtime_ns
        row = (str(path.relative_to(root)), about.st_mode, about.st_uid, about.st_gid, time)
        total.update(repr(row).encode())
        if path.is_symlink():
            total.update(str(path.readlink()).encode())
        elif path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()


class Project:
    """A repository of notebooks in a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"  # where runbooks keep originals

    def add(self, path: str, nb: Any) -> Path:
        """Store a notebook at ``path``, relative to the root, and its cases where they belong."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        kb = nb.metadata.get("kb")
        kept = {name: kb.pop(name) for name in ("broken", "flips") if name in (kb or {})}
        if kept:
            self.write(f"{path.removesuffix('.ipynb')}/ci/cases.toml", cases(**kept))
        nbformat.write(nb, target)
        return target

    def write(self, path: str, content: Any) -> None:
        """Store a file at ``path``, relative to the root: text and bytes as they are, else JSON."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            whole = content if isinstance(content, str) else json.dumps(content, indent=1)
            target.write_text(whole, encoding="utf-8")

    def claims(self, text: str) -> None:
        """Write docs/claims/a1.yml."""
        self.write("docs/claims/a1.yml", text)

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "NOBLE_RUNBOOKS_STATE": str(self.state), **more}

    def start(self, *command: str, given: str = os.devnull, **env: str) -> subprocess.Popen[str]:
        """A command of the virtual environment, started in the root; a file is ``given`` to it."""
        with (self.root / given).open() as file:
            return subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                cwd=self.root,
                env=self.environment(**env),
                stdin=file,
                start_new_session=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A command of the virtual environment, run to its end in the root."""
        with self.start(*command, **env) as process:
            out, err = process.communicate(timeout=900)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def papermill(self, path: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """What an operator runs; the executed notebook is out.ipynb, whatever it was before."""
        env = {"NOBLE_RUNBOOKS_OVERWRITE": "1", **env}
        return self.run("papermill", path, "out.ipynb", *arguments, **env)

    def executed(self, path: str = "out.ipynb") -> Any:
        """An executed notebook."""
        return json.loads((self.root / path).read_text())


def statuses(executed: Any) -> dict[str, str]:
    """What the record says of each code cell."""
    return {cell["id"]: cell["status"] for cell in executed["metadata"]["kb_run"]["cells"]}


def outputs(executed: Any) -> dict[str, str]:
    """What each cell printed."""
    return {
        cell["id"]: "".join("".join(output.get("text", "")) for output in cell["outputs"])
        for cell in executed["cells"]
        if cell["cell_type"] == "code"
    }
