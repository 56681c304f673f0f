"""Loads a profile for a test, tries things under it, and shows what the kernel audits of each.

Everything is about one program at ``/usr/bin/myapp``, which a profile is attached to by its path.
"""

from __future__ import annotations

import atexit
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

PROGRAM = Path("/usr/bin/myapp")
OWN = [PROGRAM, *map(Path, ("/opt/myapp", "/opt/myapp2", "/etc/myapp", "/var/log/myapp"))]
REMOVE = Path("/sys/kernel/security/apparmor/.remove")
FEEDS = Path("/sys/kernel/security/apparmor/profiles")
AUDIT_READERS = (
    1  # the netlink group that everything audited is sent to, without a limit on its rate
)


class Bench:
    """The program, the files that it tries to reach, and the profile that is loaded for it."""

    def __init__(self, probe: Path) -> None:
        if there := [str(path) for path in OWN if path.exists()]:
            raise RuntimeError(f"{there[0]} exists here: run this where there is no such program")
        atexit.register(self.remove)
        shutil.copyfile(probe, PROGRAM)
        PROGRAM.chmod(0o755)
        for directory in (
            "/opt/myapp/deep/deeper",
            "/opt/myapp2",
            "/etc/myapp",
            "/var/log/myapp/old",
        ):
            Path(directory).mkdir(parents=True)
        for file in ("/opt/myapp2/file", "/etc/myapp/conf.yaml", "/etc/myapp/key.pem"):
            Path(file).write_text("a line\n", encoding="utf-8")
        for tool in ("/opt/myapp/tool", "/opt/myapp/deep/deeper/tool"):
            shutil.copy(PROGRAM, tool)
        self.audit = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)  # NETLINK_AUDIT
        self.audit.bind((0, AUDIT_READERS))
        self.audit.settimeout(0.3)

    def remove(self) -> None:
        """Take the profile and every file away."""
        self.unload()
        for path in OWN:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def unload(self) -> None:
        """Leave the program unconfined."""
        if f"{PROGRAM} (" in FEEDS.read_text(encoding="utf-8"):
            REMOVE.write_text(str(PROGRAM), encoding="utf-8")

    def parses(self, profile: str) -> str:
        """What the parser says of a profile: "" when it takes it. Nothing is loaded."""
        return self._parser(profile, "--skip-kernel-load")

    def load(self, profile: str) -> None:
        """Load a profile in the place of the last one. Raises RuntimeError with what is wrong."""
        if why := self._parser(profile, "--replace"):
            raise RuntimeError(f"the profile cannot be loaded: {why}")

    def _parser(self, profile: str, what: str) -> str:
        command = ["apparmor_parser", "--quiet", "--skip-cache", what]
        done = subprocess.run(command, input=profile, capture_output=True, text=True, check=False)
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        return re.sub(r"\s+", " ", said[0]) if done.returncode else ""

    def tries(self, *what: str, prefix: str = "", under: str | None = None) -> dict[str, str]:
        """How each thing went, by its own name, printed with the audit, under a profile."""
        if under is not None:
            self.load(under)
        self._audited()  # what came before
        done = subprocess.run(
            [*shlex.split(prefix), str(PROGRAM), *what], capture_output=True, text=True, check=False
        )
        outcomes = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
        for name, outcome in outcomes.items():
            print(f"{outcome:8} {name}")
        for line in self._audited():
            print(f"    {line}")
        if done.returncode:
            raise RuntimeError(
                f"{PROGRAM} ended with status {done.returncode}: {done.stderr.strip()}"
            )
        return outcomes

    def _audited(self) -> list[str]:
        """What the kernel has audited of the profile since the last call, without repetitions."""
        lines: dict[str, None] = {}
        while True:
            try:
                text = self.audit.recv(65536)[16:].decode(errors="replace")
            except TimeoutError:
                return list(lines)
            if 'apparmor="' in text and f'profile="{PROGRAM}"' in text:
                kept = re.findall(
                    r'(?:apparmor|operation|name|capname|family|denied_mask)="[^"]*"', text
                )
                lines[" ".join(kept)] = None
