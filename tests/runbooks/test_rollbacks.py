"""The rollbacks of the runbooks for a service, against a service that does not come back.

A stand-in for systemd answers as the test says, and /etc and the like are a directory of the test.
The rollback on a real host is what `pytest runbooks` proves; there the service comes back.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from kb.proof.catalog import Notebook, source
from kb.runtime import parameters, shell
from kb.runtime.undo import NOTES, UndoJournal

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "runbooks/systemd"
UNITS = "/etc/systemd/system"
ELSEWHERE = re.compile(r"(?<![\w}])/(etc|run|sys|var)(?=/)")
NOTED = "http://127.0.0.1:1/noted"

COMMANDS = {
    "systemctl": """#!/bin/bash
case " $* " in
*" is-active "* | *" start "*) [ -e @/up ] ;;
*" is-failed "*) [ ! -e @/up ] ;;
*" LoadState "*) echo loaded ;;
esac
""",
    "curl": """#!/bin/bash
echo "$*" >>@/asked
[ -e @/up ]
""",
    "journalctl": "#!/bin/sh\n",
}


@dataclass
class Trial:
    """A runbook, the file by which its rollback knows that it was applied, and what it noted."""

    runbook: str
    file: str
    first_line: str
    notes: dict[str, str] = field(default_factory=dict)
    asks: bool = True  # whether the rollback asks the service itself


TRIALS = [
    Trial(
        "apparmor",
        "/etc/apparmor.d/shop",
        "# Written by the runbook systemd/apparmor.",
        {"health": NOTED},
    ),
    Trial(
        "metrics",
        f"{UNITS}/shop.service.d/60-limits.conf",
        "# Written by the runbook systemd/metrics.",
        {"metrics": NOTED},
    ),
    Trial(
        "sandbox-go-service",
        f"{UNITS}/shop.service.d/50-sandbox.conf",
        "# The sandbox of shop, by the runbook systemd/sandbox-go-service.",
        {"health": NOTED, "data": "absent", "cache": "absent"},
    ),
    Trial(
        "socket-activation",
        f"{UNITS}/shop.socket",
        "# Made by the runbook systemd/socket-activation.",
        {"socket": "absent", "service": "active"},
        asks=False,
    ),
    Trial(
        "timeline",
        f"{UNITS}/shop.service.d/timeline.conf",
        "# Written by the runbook systemd/timeline, whose rollback takes it away.",
        {"url": NOTED},
    ),
]


class Host:
    """A directory that stands for a host on which one runbook has been applied."""

    def __init__(self, root: Path, trial: Trial) -> None:
        self.root = root
        self.trial = trial
        here = root / "here"
        shutil.copytree(
            SYSTEMD, here, ignore=shutil.ignore_patterns("*.ipynb", "ci", "__pycache__")
        )
        for path in filter(Path.is_file, here.rglob("*")):
            path.write_text(self._moved(path.read_text(encoding="utf-8")), encoding="utf-8")
        for name, text in COMMANDS.items():
            command = root / "bin" / name
            command.parent.mkdir(exist_ok=True)
            command.write_text(text.replace("@", str(root)))
            command.chmod(0o755)
        content = nbformat.read(SYSTEMD / f"{trial.runbook}.ipynb", as_version=4)
        notebook = Notebook(ROOT, Path(f"runbooks/systemd/{trial.runbook}.ipynb"), content)
        self.cell = self._moved(
            next(source(cell) for cell in notebook.cells if cell["id"] == "rollback")
            .partition("\n")[2]
            .replace("ready 60", "ready 1")
        )
        values = {one.name: one.default for one in notebook.parameters}
        values |= {"service": "shop", "mode": "rollback"}
        values |= {name: 1 for name in values if name in ("ready_within", "ready_seconds")}
        self.journal = UndoJournal(root / "state/systemd" / f"{trial.runbook}@shop")
        self.env = parameters.as_environment(values) | {
            "PATH": f"{root}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "KB_HERE": str(here),
            "KB_MODE": "rollback",
            "KB_STATE": str(self.journal.root),
            "KB_NOTES": str(self.journal.root / NOTES),
        }

    def _moved(self, text: str) -> str:
        return ELSEWHERE.sub(rf"{self.root}/\1", text)

    def apply(self) -> Path:
        """What an apply leaves, as far as the rollback looks at it."""
        file = self.root / self.trial.file.lstrip("/")
        self.journal.lock()
        self.journal.save(file)
        for key, value in self.trial.notes.items():
            assert shell.run(f"kb-note {key} '{value}'", env=self.env).status == 0
        file.parent.mkdir(parents=True)
        file.write_text(f"{self.trial.first_line}\n")
        return file

    def rollback(self) -> shell.Completed:
        return shell.run(self.cell, env=self.env, timeout=60)


@pytest.fixture(params=TRIALS, ids=lambda trial: trial.runbook)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(tmp_path, request.param)


def test_a_rollback_fails_until_the_service_is_back(host: Host) -> None:
    file = host.apply()
    for _ in range(2):  # what was noted must not go before it is known that the service is back
        done = host.rollback()
        assert not file.exists()
        assert done.status != 0, done.output
        assert re.search(r"does not (answer|start)", done.why())
    (host.root / "up").touch()
    done = host.rollback()
    assert done.status == 0, done.output


def test_it_asks_where_the_service_answered_when_it_was_applied(host: Host) -> None:
    host.apply()
    (host.root / "up").touch()
    assert host.rollback().status == 0
    asked = host.root / "asked"
    assert asked.exists() == host.trial.asks
    assert not asked.exists() or NOTED in asked.read_text()


def test_what_is_not_the_runbooks_is_left_alone(host: Host) -> None:
    """A file of that name that somebody else wrote: nothing is restarted, nobody is asked."""
    file = host.root / host.trial.file.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text("# A person's own\n")
    done = host.rollback()
    assert done.status == 0, done.output
    assert "changed:" not in done.output
    assert file.exists()
    assert not (host.root / "asked").exists()
