"""Tells why a service does not start, or starts and does not answer. It changes nothing.

  startup.py tell ...     starts the command as a unit would, and says what is wrong
  startup.py mend FILE    what of a file can be mended here: execute, lines, or nothing
  startup.py words FILE   the same by the words of a log alone

Called by the cells of diagnose-startup.ipynb. The command is started without a shell, in a session
of its own, which is ended when enough was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LISTENS = "0A"  # a state in /proc/net/tcp
LIBRARIES = ("/usr/local/lib", "/opt", "/srv", "/usr/lib")
PRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
SHOWN = 200  # characters of a line
BEGINNING = 4096  # bytes of a file


class WrongError(Exception):
    """It does not start, or is not as it should be. One sentence."""


@dataclass(frozen=True)
class Fault:
    """What is wrong: a word for it, what is said, why, what to do, how it can be cured here."""

    kind: str
    says: str
    cause: str
    do: str
    mend: str = ""

    def __str__(self) -> str:
        return f"SAYS   {self.says}\nFOUND  {self.cause}\nDO     {self.do}"


@dataclass(frozen=True)
class Who:
    """The user that it runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def named(cls, name: str) -> Who:
        if not name:
            return cls(os.getuid(), os.getgid(), tuple(os.getgroups()))
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise WrongError(f"there is no user '{name}' here: correct user") from None
        groups = tuple(os.getgrouplist(name, entry.pw_gid))
        return cls(entry.pw_uid, entry.pw_gid, groups)

    def __str__(self) -> str:
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(self.uid).pw_name
        return str(self.uid)

    def may(self, path: Path, right: int) -> bool:
        """Whether the mode of a file gives the right: 4 to read, 1 to execute or enter."""
        seen = path.stat()
        if self.uid == 0:
            return right != 1 or stat.S_ISDIR(seen.st_mode) or bool(seen.st_mode & 0o111)
        shift = 6 if seen.st_uid == self.uid else 3 if seen.st_gid in self.groups else 0
        return bool(seen.st_mode >> shift & right)

    def stopped_at(self, path: Path, right: int) -> Path | None:
        """The first directory on the way that it may not enter, or the file itself."""
        for directory in reversed(path.parents):
            if not self.may(directory, 1):
                return directory
        return None if self.may(path, right) else path


# --- the file ---


def of_file(path: Path, who: Who) -> Fault | None:
    """What keeps the kernel from executing it."""
    if not path.exists():
        return Fault(
            "no-file",
            "No such file or directory",
            f"there is no {first_missing(path)}",
            "install the program there, or correct the path in the unit (ExecStart=)",
        )
    if barred := who.stopped_at(path, 1):
        return of_right(path, barred, who)
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return Fault(
            "noexec",
            "Permission denied",
            f"{path} is on a file system that is mounted noexec",
            "put the program elsewhere, such as /usr/local/bin",
        )
    with path.open("rb") as file:
        head = file.read(BEGINNING)
    if head.startswith(b"\x7fELF"):
        return of_elf(path, head)
    if head.startswith(b"#!"):
        return of_script(path, head.split(b"\n")[0].decode(errors="replace"))
    return Fault(
        "no-program",
        "Exec format error",
        f"{path} is no program, and a script without `#!` in its first line",
        "begin it with #!/bin/sh, or the interpreter that it is for; a shell starts it without"
        " that, a unit does not",
    )


def of_right(path: Path, barred: Path, who: Who) -> Fault:
    """A file, or a directory on the way to it, that the user may not execute or enter."""
    mode = stat.filemode(barred.stat().st_mode)
    if barred != path:
        return Fault(
            "no-way",
            "Permission denied",
            f"user {who} may not enter {barred} ({mode})",
            f"put the program elsewhere, or chmod o+x {barred} if others may enter",
        )
    return Fault(
        "no-right",
        "Permission denied",
        f"{path} has no right to be executed ({mode})",
        f"chmod a+x {path}, which mode apply does",
        "execute",
    )


def first_missing(path: Path) -> Path:
    return next(place for place in (*reversed(path.parents), path) if not place.exists())


def of_elf(path: Path, head: bytes) -> Fault | None:
    """A program for another machine, or one whose loader is not here."""
    with Path("/proc/self/exe").open("rb") as file:
        own = file.read(20)
    if head[4] != own[4] or head[18:20] != own[18:20]:
        return Fault(
            "machine",
            "Exec format error",
            f"{path} was made for another machine (ELF machine"
            f" {int.from_bytes(head[18:20], 'little')}), and this is {os.uname().machine}",
            "build it for this one (GOARCH), or take the image for this platform",
        )
    if head[4] != 2:
        return None
    (table,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    for at in range(table, min(table + size * count, len(head) - size + 1), size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", head, at)
        loader = head[offset : offset + length].rstrip(b"\0").decode(errors="replace")
        if kind == 3 and loader and not Path(loader).exists():
            musl = "Alpine's (musl)" if "musl" in loader else "another system's"
            return Fault(
                "loader",
                "No such file or directory",
                f"{path} is here, and its loader {loader}, which is {musl}, is not",
                "build it with CGO_ENABLED=0, or on a system like this one",
            )
    return None


def of_script(path: Path, line: str) -> Fault | None:
    """A script whose interpreter is not here."""
    if line.endswith("\r"):
        return Fault(
            "lines",
            "No such file or directory",
            f"the lines of {path} end as on Windows, so its interpreter is `{line[2:-1]}\\r`",
            f"sed -i 's/\\r$//' {path}, which mode apply does",
            "lines",
        )
    words = line[2:].split()
    program = next(iter(words), "")
    by_name = program.endswith("/env") and len(words) > 1
    if Path(program).exists() and not (by_name and shutil.which(words[1]) is None):
        return None
    return Fault(
        "interpreter",
        "No such file or directory",
        f"{path} is here, and its interpreter {words[1] if by_name else program} is not",
        "install it, or correct the first line of the script",
    )


# --- what it says ---


def holder(port: int) -> str:
    """Who listens on a port, as a person would name it."""
    inodes = {row[9] for row in sockets("/proc") if row[3] == LISTENS and port_of(row[1]) == port}
    for process in Path("/proc").glob("[0-9]*"):
        if owned(process) & inodes:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            return f"process {process.name} ({line.strip()[:SHOWN]})"
    return "nobody that can be seen from here: another container or namespace"


def sockets(where: str) -> list[list[str]]:
    rows: list[list[str]] = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            text = Path(where, "net", name).read_text(encoding="ascii")
            rows += [line.split() for line in text.splitlines()[1:]]
    return rows


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def owned(process: Path) -> set[str]:
    """Inodes of the sockets that a process has."""
    found = set()
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def of_port(found: re.Match[str], _: Who) -> tuple[str, str]:
    port = int(found["port"])
    return (
        f"port {port} is taken: {holder(port)} has it",
        "end that, if it is an older one of the same, or give one of the two another port",
    )


def of_path(found: re.Match[str], who: Who) -> tuple[str, str]:
    path = Path(found["path"])
    if not path.exists():
        return (
            f"there is no {first_missing(path.absolute())}",
            "put it there, or correct the path: a unit starts in / (WorkingDirectory=)",
        )
    barred = who.stopped_at(path, 4)
    if barred is None:
        return (
            f"the mode of {path} lets user {who} read it: something else forbids it",
            "see the unit's sandbox (systemctl cat), AppArmor (journalctl --dmesg --grep DENIED)",
        )
    mode = stat.filemode(barred.stat().st_mode)
    return (
        f"user {who} may not {'enter' if barred.is_dir() else 'read'} {barred} ({mode})",
        "give it to the service's user or group: chgrp GROUP, chmod g+rX",
    )


def of_library(found: re.Match[str], _: Who) -> tuple[str, str]:
    name = Path(found["library"]).name
    places = [place for top in LIBRARIES for place in Path(top).rglob(name)]
    here = f"; it is here: {places[0]}" if places else ", and it is nowhere below the usual ones"
    return (
        f"no directory that the loader looks into has {name}{here}",
        "install its package, or lead the loader there: runbooks/cuda/repair-abi does",
    )


Told = Callable[[re.Match[str], Who], tuple[str, str]]


def plain(cause: str, do: str) -> Told:
    return lambda found, _: (cause.format(**found.groupdict()), do)


# In the order in which they count.
WORDS: tuple[tuple[str, str, Told], ...] = (
    ("port", r"listen \w+ \S*?:(?P<port>\d+): bind: address already in use", of_port),
    (
        "address",
        r"listen \w+ (?P<address>\S+): bind: cannot assign requested address",
        plain("{address} is no address of this host", "see ip -brief address, and correct it"),
    ),
    (
        "library",
        r"error while loading shared libraries: (?P<library>[^:\s]+): cannot open",
        of_library,
    ),
    (
        "glibc",
        r"version `(?P<name>GLIBC\w*_[\d.]+)' not found",
        plain(
            "it was built on a newer system than this one, with {name}",
            "build it on a system as old as this one, or with runbooks/go/cgo-portable",
        ),
    ),
    ("path", r"open (?P<path>/\S+): (?:no such file or directory|permission denied)", of_path),
    (
        "dependency",
        r"dial \w+ (?P<address>\S+): connect: connection refused",
        plain(
            "nobody listens at {address}: what it depends on is not there yet, or is elsewhere",
            "let it ask again for a while before it gives up; After= waits for a start, and only"
            " Type=notify or a socket for readiness",
        ),
    ),
    (
        "name",
        r"lookup (?P<name>\S+?)(?: on \S+)?: ",
        plain(
            "the name {name} cannot be looked up here",
            "getent hosts NAME; start it after network-online.target and nss-lookup.target",
        ),
    ),
    (
        "no-answer",
        r"dial \w+ (?P<address>\S+): (?:i/o timeout|connect: connection timed out)",
        plain(
            "{address} does not answer, and does not refuse either",
            "see the firewall, whether that host is up, and whether what runs there is overloaded",
        ),
    ),
    (
        "flag",
        r"flag provided but not defined: (?P<name>\S+)",
        plain(
            "the program does not know {name}: the unit is of another release than the program",
            "see PROGRAM -h, and correct ExecStart=",
        ),
    ),
)


def told(text: str, who: Who) -> Fault | None:
    """The first of these words in a text, why, and what to do."""
    for kind, pattern, tell in WORDS:
        if found := re.search(pattern, text):
            cause, do = tell(found, who)
            return Fault(kind, found[0][:SHOWN], cause, do)
    return None


# --- what it does ---


def answers(address: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=5) as answer:
            return bool(200 <= answer.status < 300)
    except (OSError, ValueError):
        return False


def session(leader: int) -> list[Path]:
    """The processes that came from it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if os.getsid(int(process.name)) == leader:
                found.append(process)
    return found


def silent(leader: int, ready: str, within: float) -> Fault:
    """It runs, and does not answer where it should."""
    own = set().union(*map(owned, session(leader)))
    rows = [row for row in sockets("/proc") if row[9] in own]
    ports = sorted({port_of(row[1]) for row in rows if row[3] == LISTENS})
    says = f"{ready} is not answered within {within:g} s"
    if ports:
        return Fault(
            "elsewhere",
            says,
            f"it runs, and listens on port {', '.join(map(str, ports))}",
            "correct the address in its command, or in who asks; if that is the port, its answer is"
            " not 2xx yet: curl -i it",
        )
    return Fault(
        "loads",
        says,
        "it runs, and listens nowhere: it still loads, or waits for something",
        "look longer (within); kill -QUIT PID makes a Go program say where each goroutine is",
    )


def start(command: str, who: Who, within: float, ready: str) -> Fault | None:
    """What is wrong with a start; None if it runs after so long, and answers."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                user=who.uid,
                group=who.gid,
                extra_groups=who.groups,
                env={k: v for k, v in os.environ.items() if not k.startswith("LD_")}
                | {"LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            return Fault("exec", str(error), "the kernel does not execute it", "see man execve")
        try:
            fault = watched(process, within, ready)
        finally:
            end(process)
        if fault is None or fault.kind != "ended":
            return fault
        said.seek(0)
        text = said.read().decode(errors="replace")
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
    return told(text, who) or Fault(
        "unknown",
        last.strip()[:SHOWN],
        f"it ended with status {process.returncode}, and these words are not known here",
        "see the program's own documents",
    )


def watched(process: subprocess.Popen[bytes], within: float, ready: str) -> Fault | None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return Fault("ended", "", "", "")
        if ready and answers(ready):
            return None
        time.sleep(0.1)
    return silent(process.pid, ready, within) if ready else None


def end(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            break


def diagnose(command: str, who: Who, within: float, ready: str) -> Fault | None:
    first = shlex.split(command)[0]
    program = Path(shutil.which(first) or first) if "/" not in first else Path(first)
    if ready and answers(ready):
        return Fault(
            "runs",
            f"{ready} is answered",
            "something answers there already, so it was not started once more",
            "if that is the service, it has started; if not, end it first",
        )
    return of_file(program.absolute(), who) or start(command, who, within, ready)


# --- commands ---


def tell(options: argparse.Namespace) -> None:
    fault = diagnose(options.command, Who.named(options.user), options.within, options.ready)
    kind = fault.kind if fault else "healthy"
    wrong = fault if kind != "runs" else None
    print(fault or "FOUND  it starts, and nothing is wrong\nDO     nothing")
    if options.expect and kind != options.expect:
        raise WrongError(f"this should have been told as {options.expect}, not {kind}")
    if options.refuse and wrong and not wrong.mend:
        raise WrongError(f"{wrong.says}: {wrong.cause}. Do: {wrong.do}")
    if options.cured and wrong:
        raise WrongError(f"it still does not start: {wrong.says}: {wrong.cause}. Do: {wrong.do}")


def mend(options: argparse.Namespace) -> None:
    fault = of_file(options.file, Who.named(options.user))
    print(fault.mend if fault else "")


def words(options: argparse.Namespace) -> None:
    text = options.file.read_text(encoding="utf-8", errors="replace")
    print(told(text, Who.named("")) or f"{options.file} has no words that are known here")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="startup.py", description=__doc__)
    commands = parser.add_subparsers(required=True)
    telling = commands.add_parser("tell")
    telling.set_defaults(run=tell)
    telling.add_argument("--command", required=True)
    telling.add_argument("--user", default="")
    telling.add_argument("--within", type=float, default=20)
    telling.add_argument("--ready", default="")
    telling.add_argument("--expect", default="", help="fail unless it is of this kind")
    telling.add_argument("--refuse", action="store_true", help="fail with what is not mended here")
    telling.add_argument("--cured", action="store_true", help="fail unless it starts")
    mending = commands.add_parser("mend")
    mending.set_defaults(run=mend)
    mending.add_argument("file", type=Path)
    mending.add_argument("--user", default="")
    reading = commands.add_parser("words")
    reading.set_defaults(run=words)
    reading.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (WrongError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
