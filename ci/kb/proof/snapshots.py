"""What a host is at one moment: files, packages, users, units, listening ports, kernel parameters.

The host lists, with tools that every system has; what the lists say is found out here, since a
host may be an emulated machine. Two snapshots are compared by :func:`differences`; that, not a
notebook's word, decides whether a plan changed nothing, a second apply changed nothing, and a
rollback restored everything.
"""

from __future__ import annotations

import fnmatch
import hashlib
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Snapshot = dict[str, dict[str, Any]]
Command = Callable[..., tuple[int, str, str]]  # a session's


class StateError(Exception):
    """A state that could not be found out. One sentence."""


# Nobody's configuration: what the kernel, a package manager's cache or a log changes by itself, and
# our own Python environment on a host.
SKIPPED = (
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/opt/kb",
    "/var/cache/ldconfig",
    "/var/lib/docker",
    # What a runbook's steps left, as they saw it: a later step of the same run may change that.
    "/var/lib/noble-runbooks/*/*/applied",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/timers",
    "/var/lib/systemd/timesync",
    "/var/log/journal",
    "/var/log/wtmp",
    # Directories that systemd makes for as long as a service runs.
    "/tmp/systemd-private-*",  # noqa: S108
    "/var/tmp/systemd-private-*",  # noqa: S108
)
# Kernel parameters that count something, change by themselves, or are made anew at boot.
RESTLESS = (
    "debug",
    "fs.aio-nr",
    "fs.dentry",
    "fs.file-nr",
    "fs.inode",
    "fs.quota",
    "kernel.ns_last_pid",
    "kernel.pty.nr",
    "kernel.random",
    "kernel.sched_domain",
    "net.ipv4.tcp_fastopen_key",
    "net.netfilter.nf_conntrack_count",
    "vm.admin_reserve_kbytes",
    "vm.stat_refresh",
    "vm.user_reserve_kbytes",
)
# Kernel parameters that are sized at boot, by the pages that are free then: a few more or less.
SIZED = ("net.ipv4.tcp_mem", "net.ipv4.udp_mem")
# Units that come and go by themselves: services that systemd's own programs start for a question,
# and the mounts of what CI plugs in.
FLEETING = ("systemd-hostnamed.", "systemd-localed.", "systemd-timedated.", "srv.", "srv-")
# The tools are the distribution's own, wherever a notebook puts others of the same name.
TOOLS = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "BASH_ENV": "",
    "LD_PRELOAD": "",
    "LD_LIBRARY_PATH": "",
}
# Sections end with the byte 1e, of files each field group and each link's target with a NUL.
LISTING = r"""
export LC_ALL=C
find / -xdev \( SKIPPED \) -prune -o -printf '%D %M %U:%G %C@ %s %T@ %p\0' -type l -printf '%l\0'
printf '\036'
dpkg-query -W -f '${Package}:${Architecture} ${Version} ${db:Status-Abbrev}\n' 2>/dev/null
printf '\036'
sed 's/^/user /' /etc/passwd
sed 's/^/group /' /etc/group
printf '\036'
if [ -d /run/systemd/system ]; then
    systemctl list-units --all --plain --no-legend --no-pager --type=service,socket,timer,mount,path
fi
printf '\036'
for table in tcp tcp6; do sed "s/^/$table /" /proc/net/$table; done 2>/dev/null
printf '\036'
grep --recursive --no-messages --text '' /proc/sys
exit 0
""".replace("SKIPPED", " -o ".join(f"-path '{path}'" for path in SKIPPED))
HASHES = "xargs --null --no-run-if-empty sha256sum --zero -- 2>/dev/null || true"
# What no listing shows: extended attributes (access control lists and capabilities are some) and
# chattr's flags. A host without Python is compared without them.
_ATTRIBUTES = r"""
import fcntl, os, stat, sys
LETTERS = {0x08: "S", 0x10: "i", 0x20: "a", 0x40: "d", 0x80: "A", 0x10000: "D"}
for path in sys.stdin.buffer.read().split(b"\0")[:-1]:
    found = []
    try:
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            value = os.getxattr(path, name, follow_symlinks=False)
            found.append(name.replace(" ", "_") + "=" + value.hex())
    except OSError:
        pass
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                flags = int.from_bytes(fcntl.ioctl(handle, 0x80086601, bytes(8))[:4], sys.byteorder)
            finally:
                os.close(handle)
            letters = "".join(LETTERS[bit] for bit in LETTERS if flags & bit)
            found += ["chattr=" + letters] if letters else []
    except OSError:
        pass
    if found:
        sys.stdout.buffer.write(path + b"\0" + " ".join(found).encode() + b"\0")
"""
ATTRIBUTES = f"""
for python in /opt/kb/bin/python python3; do
    command -v "$python" >/dev/null || continue
    exec "$python" -I -B -S -c {shlex.quote(_ATTRIBUTES)}
done
"""
EDITION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]  # of what a snapshot has
ALL_HASHES = f"find / -xdev -type f -print0 | {HASHES}"


def take(command: Command, known: Snapshot | None = None, *, of_image: bool = False) -> Snapshot:
    """Describe the host that ``command`` runs on.

    Files untouched since the snapshot ``known`` are not read again. ``of_image``: it is of another
    host of the same image, and nothing has run on this one. A file whose name is not UTF-8 is
    followed without its content.

    Raises :class:`StateError`: the host cannot list its state.
    """
    status, listing, error = command(["/bin/bash", "-c", LISTING], env=TOOLS)
    if status != 0:
        raise StateError(f"the host's state could not be listed (status {status}): {error.strip()}")

    def hashes(paths: Sequence[str]) -> str:
        named = "".join(f"{path}\0" for path in paths)
        return command(["/bin/bash", "-c", HASHES], env=TOOLS, text=named)[1]

    def attributes(paths: Sequence[str]) -> str:
        return command(["bash", "-c", ATTRIBUTES], text="".join(f"{path}\0" for path in paths))[1]

    return read(listing, hashes, known, attributes, of_image=of_image)


def read(
    listing: str,
    hashes: Callable[[Sequence[str]], str],
    known: Snapshot | None = None,
    attributes: Callable[[Sequence[str]], str] = lambda paths: "",
    *,
    of_image: bool = False,
) -> Snapshot:
    """The snapshot that a ``listing`` tells of.

    ``hashes`` are sha256sum's for the files given; ``attributes`` what :data:`ATTRIBUTES` says.
    """
    files, packages, users, units, ports, sysctls = listing.split("\x1e")
    return {
        "files": _files(files, hashes, attributes, (known or {}).get("files", {}), of_image),
        "packages": _words(packages, " "),
        "users": _words(users, ":"),
        # A oneshot that finished and one that never ran differ only in the description's tail.
        "units": {
            name: " ".join(rest.split()[:2])
            for name, rest in _words(units, " ").items()
            if not name.startswith(FLEETING)
        },
        "ports": _ports(ports),
        "sysctls": _sysctls(sysctls),
    }


def _files(
    listing: str,
    hashes: Callable[[Sequence[str]], str],
    attributes: Callable[[Sequence[str]], str],
    known: Mapping[str, Any],
    of_image: bool,
) -> dict[str, Any]:
    """Path to [kind and mode, owner, content, change time, size and modification, attributes].

    Mount points of other file systems are left out.
    """
    found: dict[str, Any] = {}
    root = ""
    unread, changed = [], []
    records = iter(listing.split("\0")[:-1])
    for record in records:
        device, mode, owner, moment, size, modified, path = record.split(" ", 6)
        target = next(records) if mode[0] == "l" else ""
        root = root or device
        if (mode[0] == "d" and device != root) or path == "/":
            continue
        before = known.get(path)
        # The change time cannot be set back, unlike the time of modification.
        if before and before[3] == moment:
            found[path] = before
            continue
        # Whole seconds: that is what an archive keeps.
        written = f"{size} {modified.partition('.')[0]}" if mode[0] == "-" else ""
        content = f"-> {target}" if target else ""
        if written and of_image and before and before[4] == written:
            content = before[2]
        elif written:
            unread.append(path)
        found[path] = [mode, owner, content, moment, written, ""]
        changed.append(path)
    for line in hashes(unread).split("\0")[:-1] if unread else ():
        content, path = line.split("  ", 1)
        if path in found:
            found[path][2] = content
    told = iter(attributes(changed).split("\0")[:-1] if changed else ())
    for path, words in zip(told, told, strict=True):
        if path in found:
            found[path][5] = words
    return found


def _words(text: str, separator: str) -> dict[str, str]:
    """What is before a line's first ``separator``, to the rest."""
    rows = (line.partition(separator) for line in text.splitlines())
    return {name: rest.strip() for name, _, rest in rows if name}


def _ports(text: str) -> dict[str, str]:
    """Listening TCP sockets, from the kernel's own tables (state 0A is LISTEN)."""
    found = {}
    for line in text.splitlines():
        table, _, address, _, state, *_ = line.split()
        if state == "0A":
            where, port = address.rsplit(":", 1)
            found[f"{table} {where} {int(port, 16)}"] = "listening"
    return found


def _sysctls(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        path, _, value = line.partition(":")
        key = path.removeprefix("/proc/sys/").replace("/", ".")
        if not key.startswith(RESTLESS):
            found[key] = f"{found[key]}\n{value}" if key in found else value
    return found


def differences(before: Snapshot, after: Snapshot, ignore: Iterable[str] = ()) -> list[str]:
    """One line for each thing that is not as it was; paths that match ``ignore`` are left out.

    ``dir/**`` matches ``dir`` itself, too.
    """
    patterns = [p for pattern in ignore for p in (pattern, pattern.removesuffix("/**"))]
    found = []
    for kind in before:
        old, new = before[kind], after[kind]
        for name in sorted(old.keys() | new.keys()):
            was, now = old.get(name), new.get(name)
            if kind == "files":
                was, now = was and was[:3] + was[5:], now and now[:3] + now[5:]
                if was == now or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                    continue
            if was != now and not (name in SIZED and was and now and _close(was, now)):
                found.append(_difference(kind, name, was, now))
    return found


def _close(was: str, now: str) -> bool:
    """Whether the numbers are the same but for a thousandth."""
    pairs = zip(was.split(), now.split(), strict=True)
    return all(math.isclose(int(old), int(new), rel_tol=1e-3) for old, new in pairs)


def _difference(kind: str, name: str, was: Any, now: Any) -> str:
    label = "" if kind == "files" else kind.removesuffix("s") + " "
    if was is None:
        return f"{label}{name}: appeared"
    if now is None:
        return f"{label}{name}: is gone"
    if kind != "files":
        return f"{label}{name}: was {was!r}, is {now!r}"
    changed = [
        what if what == "content" else f"{what} {old} -> {new}"
        for what, old, new in zip(("mode", "owner", "content"), was, now, strict=False)
        if old != new
    ]
    words = {word.partition("=")[0] for word in {*was[3].split()} ^ {*now[3].split()}}
    changed += [f"attribute {word}" for word in sorted(words)]
    return f"{name}: {', '.join(changed)}"
