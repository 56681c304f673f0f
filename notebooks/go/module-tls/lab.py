"""A module mirror and a checksum database on loopback, and Go releases that ask them.

The servers are those of ci/fixtures/modproxy. Each question is asked with an empty module cache and
with no settings but those that the notebook gives, so what is seen is the release's own behaviour.
"""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PUBLIC = "golang.org/x/mod@v0.17.0"
PRIVATE = "corp.example/auth@v1.0.0"
# What an error is about, in the go command's own words; the first that is found says most.
REASONS = (
    "SECURITY ERROR",
    "malformed verifier id",
    r"insecure algorithm [\w-]+",
    r"x509: [^\n]*",
    r"tls: [^\n]*",
    r"invalid proxy URL [^:\n]*",
    r"[^:\n]+$",
)


@dataclass(frozen=True)
class Asked:
    """What came of one go command: its exit status and output, and what the server saw."""

    status: int
    output: str
    log: str
    seconds: float

    @property
    def hellos(self) -> list[str]:
        """The handshakes that the client began: the server name, protocols and versions in each."""
        return re.findall(r"(?m)^hello (.*)$", self.log)

    @property
    def agreed(self) -> list[str]:
        """The TLS versions that were agreed on, such as TLS 1.3."""
        return re.findall(r"(?m)^agreed (TLS \S+)", self.log)

    @property
    def requests(self) -> list[str]:
        """The requests: protocol, method, path and status."""
        return re.findall(r"(?m)^(HTTP/.*)$", self.log)

    @property
    def looked_up(self) -> bool:
        """The checksum database was asked for a module, and had it."""
        return any("/lookup/" in line and line.endswith(" 200") for line in self.requests)

    def __str__(self) -> str:
        if self.status == 0:
            how = "verified" if self.looked_up else "not looked up"
            return f"{how}, {' and '.join(sorted(set(self.agreed)))}"
        for reason in REASONS:
            if found := re.search(reason, self.output):
                return found[0].strip()
        return self.output.strip()


class Lab:
    """Servers and Go releases; ``work`` is the directory for what they leave, ``fixtures`` CI's."""

    def __init__(self, work: Path, fixtures: Path, releases: list[str], toolchains: str) -> None:
        program = fixtures / "modproxy/modproxy"
        if not program.exists():
            raise LookupError(
                f"there is no {program}: make it with 'ci/fixtures/modproxy DIRECTORY/modproxy' and"
                " name DIRECTORY in the parameter `fixtures`."
            )
        self.work, self.state = work, work / "servers"
        self.go: dict[str, Path] = {}
        for release in releases:
            places = [
                Path(place, release, "go") for place in (toolchains, fixtures / "go") if place
            ]
            found = [place for place in places if (place / "bin/go").exists()]
            if not found:
                raise LookupError(
                    f"Go {release} is in none of {', '.join(map(str, places))}: unpack it there, or"
                    " leave it out of `releases`."
                )
            self.go[release] = found[0]
        self._program = [str(program), "-modules", str(fixtures / "modproxy/modules")]

    def serve(self, **listeners: str) -> None:
        """Start a listener for each name, with the options given; wait until they answer."""
        self.key = self._start(self.state, listeners)
        (self.work / "ca.pem").write_bytes((self.state / "ca.crt").read_bytes())

    def another_key(self) -> str:
        """The key of another database, whose name is the same."""
        return self._start(self.work / "other", {"other": ""})

    def _start(self, state: Path, listeners: dict[str, str]) -> str:
        words = [
            f"{name}=127.0.0.1:0" + (f",{options}" if options else "")
            for name, options in listeners.items()
        ]
        said = state.with_suffix(".out").open("w")
        server = subprocess.Popen(
            [*self._program, "-state", str(state), "-make", PRIVATE, *words],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        atexit.register(server.kill)
        deadline = time.monotonic() + 60
        while not (state / "sumdb.key").exists() or not (state / "sumdb.key").read_text().strip():
            if time.monotonic() > deadline or server.poll() is not None:
                raise RuntimeError(
                    f"the servers do not start: {state.with_suffix('.out').read_text().strip()}"
                )
            time.sleep(0.05)
        return (state / "sumdb.key").read_text().strip()

    def address(self, server: str) -> str:
        """HOST:PORT of a listener, by name."""
        first = (self.state / f"{server}.log").read_text().splitlines()[0]
        return first.split()[1].replace("127.0.0.1", "localhost")

    def url(self, server: str) -> str:
        """The address of a listener as GOPROXY takes it."""
        return f"https://{self.address(server)}"

    def run(self, release: str, *command: str, directory: str | Path = "/", **env: str) -> Asked:
        """A go command with an environment of its own: HOME, PATH and what is passed."""
        with tempfile.TemporaryDirectory(
            dir=self.work,
            ignore_cleanup_errors=True,  # the go command counts its use after it has ended
        ) as home:
            own = {"HOME": home, "PATH": os.defpath, "GOTOOLCHAIN": "local"}
            own |= {"GOFLAGS": "-modcacherw", "SSL_CERT_FILE": str(self.work / "ca.pem")}
            began = time.monotonic()
            done = subprocess.run(
                ["timeout", "120", str(self.go[release] / "bin/go"), *command],
                cwd=directory,
                env=own | env,
                capture_output=True,
                text=True,
                check=False,
            )
            return Asked(done.returncode, done.stdout + done.stderr, "", time.monotonic() - began)

    def fetch(
        self,
        release: str,
        server: str,
        module: str = PUBLIC,
        command: tuple[str, ...] = (),
        directory: str | Path = "/",
        **env: str,
    ) -> Asked:
        """``go mod download MODULE``, or another command, with a listener as mirror.

        The listener is the way to the database, too. ``env`` is set besides.
        """
        log = self.state / f"{server}.log"
        before = log.stat().st_size
        own = {"GOPROXY": self.url(server), "GOSUMDB": self.key}
        command = command or ("mod", "download", module)
        done = self.run(release, *command, directory=directory, **(own | env))
        with log.open() as lines:
            lines.seek(before)
            return Asked(done.status, done.output, lines.read(), done.seconds)
