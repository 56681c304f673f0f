"""A container is used again only where nothing tells that it was used before."""

from __future__ import annotations

import pytest
from project import Project, code, notebook

WHICH = "import glob\nprint(glob.glob('/tmp/kb-hosts-*/*'))"  # named differently in each container
# It says that nothing changed, whatever it is asked.
ANOTHER_FIND = """
import os
open('/tmp/mine', 'w').close()
os.rename('/usr/bin/find', '/usr/bin/find.old')
with open('/usr/bin/find', 'w') as file:
    file.write('#!/bin/sh\\n')
os.chmod('/usr/bin/find', 0o755)
"""
LEAVE = {
    "nothing": "open('/tmp/mine', 'w').close()\nimport os\nos.remove('/tmp/mine')",
    "a-file": "open('/tmp/mine', 'w').close()",
    "a-change": "open('/etc/hosts', 'a').write('127.0.0.1 mine\\n')",
    "a-removal": "import os\nos.remove('/usr/share/doc/bash/copyright')",
    "a-mode": "import os\nos.chmod('/etc/passwd', 0o600)",
    "shared-memory": "open('/dev/shm/mine', 'w').close()",
    "a-queue": "open('/dev/mqueue/mine', 'w').close()",
    "a-semaphore": "import ctypes\nassert ctypes.CDLL(None).semget(7, 1, 0o1600) >= 0",
    "an-old-style-queue": "import ctypes\nassert ctypes.CDLL(None).msgget(7, 0o1600) >= 0",
    "old-style-memory": "import ctypes\nassert ctypes.CDLL(None).shmget(7, 99, 0o1600) >= 0",
    "a-shared-file": "import glob\nopen(glob.glob('/tmp/kb-hosts-*/*')[0] + '/mine', 'w').close()",
    "a-shared-mode": "import glob, os\nos.chmod(glob.glob('/tmp/kb-hosts-*/*')[0], 0o777)",
    "another-find": ANOTHER_FIND,
    "a-process": "import subprocess\nsubprocess.Popen(['sleep', '60'], start_new_session=True)",
}


@pytest.mark.parametrize("what", LEAVE)
def test_what_a_notebook_left_no_other_meets(what: str, hosted: Project) -> None:
    books = [f"notebooks/a/{name}" for name in ("first", "second")]
    for book, cell in zip(books, (LEAVE[what], "pass"), strict=True):
        hosted.add(
            f"{book}.ipynb",
            notebook(
                code("which", WHICH), code("leave", cell), parameters='x: str = ""  # nothing'
            ),
        )
    done = hosted.run("pytest", "--on", "debian-13", "notebooks")
    assert done.returncode == 0, done.stdout
    first, second = (which(hosted, book) for book in books)
    assert "/tmp/kb-" in first  # noqa: S108
    assert (first == second) == (what == "nothing")


def which(project: Project, book: str) -> str:
    """What the notebook's cell of that name printed."""
    record = project.executed(f"build/runs/debian-13/{book}.run.ipynb")
    [cell] = [cell for cell in record["cells"] if cell["id"] == "which"]
    return str(cell["outputs"][0]["text"])
