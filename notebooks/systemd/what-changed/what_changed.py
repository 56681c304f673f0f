"""Tells what has changed on this host, oldest first, and what of it is not in force.

  what_changed.py '2 hours ago'
  what_changed.py '2026-11-29 02:00'
  what_changed.py /usr/local/bin/shop     since that file was put there: since the last deploy

It needs root, systemd and Python 3.11, and changes nothing. A file's time is that of its inode: its
own time stamp may be older, as of what `cp -p`, `rsync -a` or `tar` have put there.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PLACES = ("/etc", "/opt", "/run/systemd/system", "/usr/local", "/var/spool/cron")
FEW = 12  # files of one directory that are named; of more, their number
# What systemd says of a unit: started, not started, stopped, reloaded, failed; a process ended.
UNIT_MESSAGES = (
    "39f53479d3a045ac8e11786248231fbf",
    "be02cf6855d2428ba40df7e9d022f03d",
    "9d1aaa27d60140bd96365438aad20286",
    "7b05ebc668384222baa8881179cfda54",
    "d9b373ed55a64feb8242e02dbe79a49c",
    "98e322203f7a4ed290d09fe03c09fe15",
)
LOGGED_IN = r"COMMAND=|Accepted |session opened for user root"


class WrongError(Exception):
    """What is asked for cannot be told. One sentence."""


@dataclass(frozen=True, order=True)
class Change:
    at: float
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{moment(self.at)}  {self.kind:<8} {self.what}"


def moment(at: float) -> str:
    return time.strftime("%F %T", time.localtime(at))


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def beginning(words: str) -> int:
    """The time that is meant, in whole seconds, since some logs know no others."""
    if words.startswith("/"):
        try:
            return int(Path(words).stat().st_ctime)
        except OSError as error:
            raise WrongError(f"{words}: {error.strerror}; name a file or a time.") from None
    seconds = said("date", f"--date={words}", "+%s").strip()
    if not seconds:
        raise WrongError(f"'{words}' is no time that date knows; try '2 hours ago'.")
    return int(seconds)


def packages(since: int) -> Iterator[Change]:
    line = re.compile(r"(\S+ \S+) (install|upgrade|remove|purge) (\S+) (\S+) (\S+)")
    for log in ("/var/log/dpkg.log.1", "/var/log/dpkg.log"):
        if not Path(log).exists():
            continue
        for text in Path(log).read_text(errors="replace").splitlines():
            if found := line.fullmatch(text):
                at = time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S"))
                if at >= since:
                    yield Change(at, "package", f"{found[2]} {found[3]}: {found[4]} -> {found[5]}")


def files(since: int) -> Iterator[Change]:
    seen: dict[str, list[Change]] = defaultdict(list)
    for place in PLACES:
        for directory, _, names in os.walk(place):
            for path in (directory, *(f"{directory}/{name}" for name in names)):
                try:
                    facts = os.lstat(path)
                except OSError:
                    continue  # gone meanwhile
                if facts.st_ctime < since:
                    continue
                what = path
                if stat.S_ISDIR(facts.st_mode):
                    what += "/: something was added or taken away"
                elif facts.st_mtime < since:
                    what += f" (dated {moment(facts.st_mtime)})"
                # Below /usr/local/go one line for all, and below /etc one for each directory in it.
                seen["/".join(path.split("/")[:4])].append(Change(facts.st_ctime, "file", what))
    for top, changes in seen.items():
        if len(changes) > FEW:
            what = f"{top}/...: {len(changes)} files and directories"
            yield Change(max(changes).at, "file", what)
        else:
            yield from changes


def journal(since: int, *filters: str) -> Iterator[tuple[float, str]]:
    fields = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER"
    command = ("journalctl", "--quiet", f"--since=@{since}", "--output=json", fields, *filters)
    for line in said(*command).splitlines():
        entry = json.loads(line)
        yield int(entry["__REALTIME_TIMESTAMP"]) / 1e6, str(entry["MESSAGE"]).splitlines()[0]


def units(since: int) -> Iterator[Change]:
    for at, message in journal(since, *(f"MESSAGE_ID={name}" for name in UNIT_MESSAGES)):
        yield Change(at, "unit", message)


def people(since: int) -> Iterator[Change]:
    names = ("sudo", "su", "sshd", "sshd-session")
    for at, message in journal(since, *(f"--identifier={name}" for name in names)):
        if re.search(LOGGED_IN, message):
            yield Change(at, "person", " ".join(message.split()))


def boots(since: int) -> Iterator[Change]:
    found = re.search(r"(?m)^btime (\d+)$", Path("/proc/stat").read_text())
    if found and int(found[1]) >= since:
        yield Change(int(found[1]), "boot", f"Linux {os.uname().release}")


def not_in_force() -> Iterator[str]:
    """What runs, and has not read what is there now."""
    names = "Id,MainPID,NeedDaemonReload,ExecMainStartTimestampMonotonic,EnvironmentFiles"
    running = ("--type=service", "--state=running", f"--property={names}")
    shown_of_all = said("systemctl", "show", *running, "*")
    for block in filter(None, shown_of_all.strip().split("\n\n")):
        shown: dict[str, list[str]] = defaultdict(list)
        for line in block.splitlines():
            name, _, value = line.partition("=")
            shown[name].append(value)
        unit, pid = shown["Id"][0], shown["MainPID"][0]
        if "yes" in shown["NeedDaemonReload"]:
            yield f"{unit}: systemd has not read its files: systemctl daemon-reload, and restart it"
        try:
            program = str(Path(f"/proc/{pid}/exe").readlink())
            maps = Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            continue  # it has ended
        uptime = int(shown["ExecMainStartTimestampMonotonic"][0]) / 1e6
        began = time.time() - time.monotonic() + uptime
        if program.endswith(" (deleted)"):
            file = program.removesuffix(" (deleted)")
            yield f"{unit}: runs a {file} that was replaced: restart it"
        for library in sorted(set(re.findall(r"(/\S+\.so\S*) \(deleted\)", maps))):
            yield f"{unit}: uses a {library} that was replaced: restart it"
        for value in shown["EnvironmentFiles"]:
            read = Path(value.rsplit(" (", 1)[0])
            if read.exists() and read.stat().st_ctime > began:
                yield f"{unit}: began before {read} was changed: restart it"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        since = beginning(arguments[0])
    except WrongError as error:
        print(f"what_changed: {error}", file=sys.stderr)
        return 1
    print(f"since {moment(since)}:")
    for change in sorted(
        change for kind in (packages, files, units, people, boots) for change in kind(since)
    ):
        print(change)
    print("not in force:")
    for line in list(not_in_force()) or ["(nothing: what runs has read it all)"]:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
