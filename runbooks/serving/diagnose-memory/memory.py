"""Finds what makes the memory of a Go service grow, and what ended one. It only reads.

  memory.py find ...          looks several times, and says what grows, or what else is wrong
  memory.py limit ...         the memory limit, in MiB, that Go should have
  memory.py words FILE        says what ended a service, by what it and the kernel have said
  memory.py process SERVICE   the id of a service's main process

A look has Go collect first, so that what it counts is in use and not garbage. Called by the cells
of diagnose-memory.ipynb.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
GROWN = 8 * MIB  # what grows by less, over all looks, is not named
GROWN_GOROUTINES = 20
GROWN_FILES = 64 * MIB  # page cache goes up and down by itself
LARGE = 64 * MIB  # what is less is no reason to worry
SELDOM = 4  # the heap may grow to so many times what is in use: GOGC is about 300, or off
SHARE = 0.9  # of what the service may have goes to Go, less what is outside Go
ROOM = 1.2  # so much more than what is in use the limit must be, or Go does nothing but collect
NEVER = 1 << 60  # of NextGC: GOGC=off
ASKED = 60  # seconds that an answer may take
CURED = ("garbage", "limit")  # by a memory limit
HARMLESS = ("healthy", "page-cache", "kept")
# The first names of the standard library's packages: what is not among them is the service's own.
STANDARD = frozenset(
    [
        *("bufio", "bytes", "cmp", "compress", "container", "context", "crypto", "database"),
        *("debug", "embed", "encoding", "errors", "expvar", "flag", "fmt", "go", "hash", "html"),
        *("image", "index", "internal", "io", "iter", "log", "maps", "math", "mime", "net", "os"),
        *("path", "plugin", "reflect", "regexp", "runtime", "slices", "sort", "strconv"),
        *("strings", "structs", "sync", "syscall", "testing", "text", "time", "unicode", "unique"),
        *("unsafe", "vendor", "weak"),
    ]
)


class UnreadableError(Exception):
    """What is asked for cannot be read, or is not as it should be. One sentence."""


# --- what is seen ---


@dataclass
class Group:
    """The cgroup's own account, in bytes. ``allowed`` is the least limit above it."""

    used: int = 0
    allowed: float = math.inf
    files: int = 0
    kills: int = 0


@dataclass
class Look:
    """A service at one moment. Bytes; the heap's are after a collection, ``resident`` before it."""

    goroutines: dict[str, int]
    heap: dict[str, int]
    stats: dict[str, int]
    garbage: int
    resident: int
    held: int  # what Go has of the kernel
    anonymous: tuple[int, int]  # before and after that was asked: Go may give back all the time
    tmpfs: dict[str, int]
    group: Group

    @property
    def outside(self) -> tuple[int, int]:
        """What is neither Go's nor a file's, C's mostly: at least, and at most.

        Go may hold what it never touched, and then less is left than nothing.
        """
        least, most = sorted(max(size - self.held, 0) for size in self.anonymous)
        return least, most

    @property
    def live(self) -> int:
        return self.stats["HeapAlloc"]

    @property
    def idle(self) -> int:
        """Free, and not given back."""
        return self.stats["HeapIdle"] - self.stats["HeapReleased"]


@dataclass
class Found:
    """What is wrong. ``seen`` is the evidence, ``limit`` what GOMEMLIMIT should be in MiB, or 0."""

    kind: str
    says: str
    do: str
    seen: list[str] = field(default_factory=list)
    limit: int = 0
    resident: int = 0

    def __str__(self) -> str:
        return "\n".join([*self.seen, f"FOUND  {self.says}", f"DO     {self.do}"])

    def variables(self) -> dict[str, str]:
        """It, for the cells that follow."""
        cures = "a memory limit" if self.kind in CURED else ""
        cures = "nothing" if self.kind in HARMLESS else cures
        return {
            "FOUND_SAYS": self.says,
            "FOUND_DO": self.do,
            "FOUND_CURE": cures,
            "FOUND_LIMIT": str(self.limit),
        }


def fetch(address: str) -> str:
    # a service on this host is asked directly
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=ASKED) as answer:
            return str(answer.read().decode(errors="replace"))
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{address} is not answered ({error}): correct pprof") from None


def statistics(text: str) -> dict[str, int]:
    """The runtime's own account, at the end of a heap profile in text."""
    found = {key: int(value) for key, value in re.findall(r"^# (\w+) = (\d+)", text, re.MULTILINE)}
    if "HeapAlloc" not in found:
        raise UnreadableError("the heap profile has no account of the runtime: is it Go's pprof?")
    return found


def records(text: str) -> Iterator[tuple[str, list[str]]]:
    """The entries of a profile in text: the line with its counts, and its frames, inmost first."""
    for entry in re.split(r"\n(?=\d+(?:: \d+ \[\d+: \d+\])? @)", text):
        head, *lines = entry.splitlines()
        if " @ 0x" in head:
            frames = [line.split("\t") for line in lines if line.startswith("#\t")]
            yield (
                head,
                [f"{name.rpartition('+')[0]} ({line[-1]})" for _, _, name, *line in frames],
            )


def place(frames: list[str], depth: int) -> str:
    """The service's own functions nearest to where it is, or else the standard library's."""
    own = [frame for frame in frames if re.split(r"[./]", frame)[0] not in STANDARD]
    return " < ".join(own[:depth] or frames[:1]) or "the runtime"


def waiting(text: str) -> dict[str, int]:
    """Goroutines by where they are, without those that answer us."""
    counts: Counter[str] = Counter()
    for head, frames in records(text):
        if not any(frame.startswith("net/http/pprof.") for frame in frames):
            counts[place(frames, 1)] += int(head.split()[0])
    return dict(counts)


def in_use(text: str) -> dict[str, int]:
    """Bytes by where they were allocated. One in so many bytes is sampled; this is scaled up."""
    rate = int((re.search(r"@ heap/(\d+)", text) or ["", "2"])[1]) // 2
    sizes: Counter[str] = Counter()
    for head, frames in records(text):
        count, size = map(int, re.findall(r"\d+", head)[:2])
        if count:
            sizes[place(frames, 2)] += round(size / (1 - math.exp(-size / count / max(rate, 1))))
    return dict(sizes)


def of_process(pid: int) -> dict[str, int]:
    """What the kernel counts for it, in bytes."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError as error:
        raise UnreadableError(
            f"/proc/{pid}/smaps_rollup cannot be read ({error.strerror}): run this as root"
        ) from None
    return {
        name: int(size) * 1024
        for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)
    }


def settings(pid: int) -> dict[str, str]:
    """What the process was started with, of the runtime's settings."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    given = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {key: given[key] for key in ("GOGC", "GOMEMLIMIT", "GODEBUG") if given.get(key)}


def group(membership: str, mounted: Path = Path("/sys/fs/cgroup")) -> Group:
    """The account of the cgroup that /proc/PID/cgroup names, of version 2 or 1.

    In a container the path may be the host's, and what is mounted is the container's own.
    """
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = mounted / controllers
            directory = top / path.lstrip("/")
            directory = directory if directory.is_dir() else top
            if (directory / "memory.stat").exists():
                return account(directory, top)
    return Group()


def account(directory: Path, top: Path) -> Group:
    """What one directory of a cgroup says."""

    def number(file: Path) -> float:
        with contextlib.suppress(OSError, ValueError):
            return float(file.read_text(encoding="ascii"))
        return math.inf

    def table(name: str) -> dict[str, int]:
        with contextlib.suppress(OSError):
            rows = map(str.split, (directory / name).read_text(encoding="ascii").splitlines())
            return {row[0]: int(row[1]) for row in rows}
        return {}

    stat = table("memory.stat")
    if "total_cache" in stat:  # version 1
        used = number(directory / "memory.usage_in_bytes")
        limit = float(stat["hierarchical_memory_limit"])
        files = stat["total_cache"] - stat.get("total_shmem", 0)
        kills = table("memory.oom_control").get("oom_kill", 0)
    else:
        used = number(directory / "memory.current")
        above = [place for place in (directory, *directory.parents) if place.is_relative_to(top)]
        limit = min(number(place / "memory.max") for place in above)
        files = stat.get("file", 0) - stat.get("shmem", 0)
        kills = table("memory.events").get("oom_kill", 0)
    return Group(
        int(used) if used < math.inf else 0, limit if limit < NEVER else math.inf, files, kills
    )


def in_memory(pid: int) -> dict[str, int]:
    """Bytes in each tmpfs that the process sees: files there are memory, and nobody's RSS."""
    sizes = {}
    for line in Path(f"/proc/{pid}/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "tmpfs":
            with contextlib.suppress(OSError):
                said = os.statvfs(f"/proc/{pid}/root{where}")
                sizes[where] = (said.f_blocks - said.f_bfree) * said.f_frsize
    return sizes


def look(pid: int, pprof: str) -> Look:
    """Look once. Raises :class:`UnreadableError`."""
    kernel = of_process(pid)
    before = statistics(fetch(f"{pprof}/heap?debug=1"))
    heap = fetch(f"{pprof}/heap?gc=1&debug=1")
    after = statistics(heap)
    first = of_process(pid)["Anonymous"]
    now = statistics(fetch(f"{pprof}/heap?debug=1"))
    return Look(
        goroutines=waiting(fetch(f"{pprof}/goroutine?debug=1")),
        heap=in_use(heap),
        stats=after,
        garbage=before["HeapAlloc"] - after["HeapAlloc"],
        resident=kernel["Rss"],
        held=now["Sys"] - now["HeapReleased"],
        anonymous=(first, of_process(pid)["Anonymous"]),
        tmpfs=in_memory(pid),
        group=group(Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")),
    )


def lost(pprof: str) -> dict[str, int]:
    """Goroutines that nothing can wake any more, as Go 1.27 finds them; {} from an older one."""
    try:
        return waiting(fetch(f"{pprof}/goroutineleak?debug=1"))
    except UnreadableError:
        return {}


# --- what it means ---


def grows(series: Sequence[float], least: float) -> bool:
    """Whether it grew from each look to the next, and by enough over all."""
    steps = itertools.pairwise(series)
    return series[-1] - series[0] >= least and all(after > before for before, after in steps)


def surely_grows(ranges: Sequence[tuple[float, float]], least: float) -> bool:
    """The same of what is known to be between two numbers."""
    steps = itertools.pairwise(ranges)
    over_all = ranges[-1][0] - ranges[0][1]
    return over_all >= least and all(after[0] > before[1] for before, after in steps)


def most(tables: Sequence[dict[str, int]]) -> tuple[str, int]:
    """What grew most from the first look to the last."""
    grown = Counter(tables[-1])
    grown.subtract(tables[0])
    return grown.most_common(1)[0] if grown else ("", 0)


def mib(size: float) -> str:
    return f"{size / MIB:.0f} MiB" if abs(size) >= 10 * MIB else f"{size / MIB:.1f} MiB"


def judge(
    looks: Sequence[Look], given: dict[str, str], allowed: float, woken: dict[str, int]
) -> Found:
    """What is wrong, the cause before what follows from it. ``woken``: never again, by where."""
    found = grown(looks, woken) or standing(looks, given, allowed)
    last = looks[-1]
    found.resident = last.resident
    if allowed < math.inf:
        found.limit = int((allowed * SHARE - last.outside[0]) / MIB)
    return found


def grown(looks: Sequence[Look], woken: dict[str, int]) -> Found | None:
    """What grows from look to look: a leak, or nothing."""
    first, last = looks[0], looks[-1]
    where, more = most([look.goroutines for look in looks])
    if grows([look.goroutines.get(where, 0) for look in looks], GROWN_GOROUTINES):
        never = woken.get(where, 0)
        if never:
            why = f"nothing can wake {never} of them any more (profile goroutineleak)"
            do = (
                "give its channel a place for the answer, make(chan T, 1), or let it select on the"
                " request's ctx.Done()"
            )
        else:
            why = "they wait for something that does not come, or loop"
            do = (
                "bind it to a context that ends, r.Context() or the program's own, and select on"
                " its Done(); see notebooks/serving/handlers"
            )
        return Found("goroutines", f"goroutine leak: {more} more in {where}, and {why}", do)
    if surely_grows([look.outside for look in looks], GROWN):
        return Found(
            "c",
            f"memory outside Go grows: {mib(last.outside[0] - first.outside[1])} more, while Go"
            f" holds {mib(last.held - first.held)} more; C code (cgo), or an mmap, is not given"
            " back",
            "each C.malloc, C.CString, C.CBytes and each handle of a library needs its free, also"
            " on the way of an error; heaptrack PROGRAM (package heaptrack) names the line in C",
        )
    if grows([look.live for look in looks], GROWN):
        where, more = most([look.heap for look in looks])
        return Found(
            "heap",
            f"the heap in use grows: {mib(last.live - first.live)} more, most of it from {where}",
            "a map, a slice or a cache keeps it: give that a bound, or take out what is old; if it"
            " is a cache that still fills, look again later",
        )
    where, more = most([look.tmpfs for look in looks])
    if grows([look.tmpfs.get(where, 0) for look in looks], GROWN):
        return Found(
            "tmpfs",
            f"files in {where} grow: {mib(more)} more; it is a tmpfs, so they are memory of the"
            " cgroup, and in no process's RSS",
            f"find out who writes (ls -lt {where}), remove what is old, or write to a disk",
        )
    if grows([look.group.files for look in looks], GROWN_FILES):
        more = last.group.files - first.group.files
        return Found(
            "page-cache",
            f"no leak: {mib(more)} more of page cache count for the cgroup, and the kernel takes it"
            " back when memory is short; nothing of the process grows",
            "nothing; an alarm should look at memory.current less inactive_file of memory.stat",
        )
    return None


def standing(looks: Sequence[Look], given: dict[str, str], allowed: float) -> Found:
    """What is wrong, or not, with what does not grow."""
    last = looks[-1]
    garbage = max(look.garbage for look in looks)
    goal = last.stats["NextGC"]
    base = last.live + last.stats.get("Stack", 0) + 2 * MIB
    limited = "GOMEMLIMIT" in given
    beside = last.outside[0] + max(
        last.held - last.stats["HeapSys"] + last.stats["HeapReleased"], 0
    )
    needed = last.live + beside
    setting = f"GOGC={given['GOGC']}" if "GOGC" in given else "the program's own debug.SetGCPercent"
    if needed * ROOM > allowed * SHARE:
        return Found(
            "too-small",
            f"{mib(needed)} are in use after a collection, and it may have {mib(allowed)}",
            "give it more, or have it hold less: a memory limit would only make it collect all the"
            " time",
        )
    if not limited and goal > SELDOM * base and garbage >= LARGE:
        return Found(
            "garbage",
            f"garbage is not collected: {mib(garbage)} of the heap were garbage, and"
            f" {mib(last.live)} in use; {setting} lets it grow to"
            f" {'any size' if goal >= NEVER else mib(goal)}",
            "give it a memory limit (GOMEMLIMIT), which mode apply does, or take GOGC away",
        )
    if not limited and (goal + beside > allowed or last.group.kills):
        killed = (
            f"; {last.group.kills} of its cgroup were killed already" if last.group.kills else ""
        )
        return Found(
            "limit",
            f"Go does not know its limit: it collects when the heap is"
            f" {'full' if goal >= NEVER else mib(goal)}, which with {mib(beside)} beside is more"
            f" than the {mib(allowed)} that it may have{killed}",
            "give it a memory limit (GOMEMLIMIT), which mode apply does",
        )
    if last.idle >= LARGE and last.idle >= last.resident / 2:
        return Found(
            "kept",
            f"no leak: {mib(last.idle)} of {mib(last.resident)} are free, kept from a peak;"
            f" {mib(last.live)} are in use",
            "nothing: Go gives it back by and by; debug.FreeOSMemory() does it at once, and"
            " GOMEMLIMIT keeps the next peak lower",
        )
    return Found(
        "healthy",
        f"healthy: nothing grows, and {mib(last.live)} of heap,"
        f" {sum(last.goroutines.values())} goroutines and {mib(last.outside[0])} outside Go"
        " are in use",
        "nothing; if it grows over hours, look for longer (seconds)",
    )


# In the order in which they count: what only reports a death comes last.
WORDS = (
    (
        r"Memory cgroup out of memory: Killed process \d+ \([^)]*\)",
        "the kernel killed it because its cgroup was at its limit",
        "see with this runbook, on the process that runs now, what grows; if nothing does,"
        " GOMEMLIMIT or a higher MemoryMax=",
    ),
    (
        r"Out of memory: Killed process \d+ \([^)]*\)",
        "the kernel killed it because the host had no memory left",
        "see who took it (ps -e --sort=-rss), and give each service a MemoryMax=",
    ),
    (
        r"OOMKilled|result 'oom-kill'|killed by the OOM killer",
        "the kernel killed it for memory",
        "see with this runbook, on the process that runs now, what grows; if nothing does,"
        " GOMEMLIMIT or a higher limit",
    ),
    (
        r"fatal error: (?:runtime: )?(?:out of memory|cannot allocate memory)",
        "the kernel refused memory to Go; nobody killed it",
        "see `Max address space` in /proc/PID/limits (LimitAS=, ulimit -v), vm.overcommit_memory,"
        " and what was asked for: the line before has the size",
    ),
    (
        r"goroutine stack exceeds \d+-byte limit",
        "a function calls itself without end",
        "the trace below the words repeats it: give it an end",
    ),
    (
        r"program exceeds \d+-thread limit",
        "goroutines hold a thread each, in C or in a system call that waits",
        "let fewer of them in at once (a semaphore); the trace says where they are",
    ),
    (
        r"pthread_create failed: Resource temporarily unavailable|failed to create new OS thread",
        "it may not have more threads",
        "raise TasksMax= of the unit, pids.max, or ulimit -u; count: ls /proc/PID/task | wc -l",
    ),
    (
        r"signal: killed|exit status 137|status=9/KILL|\bKilled\b",
        "somebody sent SIGKILL, and nothing here says that it was the kernel",
        "journalctl --dmesg --grep 'Killed process' tells whether it was; if not, it was a time-out"
        " of its stop (TimeoutStopSec=, docker stop), a probe, or a person",
    ),
)


def told(text: str) -> tuple[str, str, str] | None:
    """The words of a log that say what ended a service, their cause, and what to do."""
    for pattern, cause, do in WORDS:
        if found := re.search(pattern, text):
            return found[0], cause, do
    return None


# --- what is shown ---


def table(looks: Sequence[Look]) -> list[str]:
    rows: list[tuple[str, ...]] = [
        (
            "look",
            "goroutines",
            "heap in use",
            "Go holds",
            "outside Go",
            "RSS",
            "tmpfs",
            "page cache",
        )
    ]
    for number, seen in enumerate(looks, start=1):
        sizes = (seen.live, seen.held, seen.outside[0], seen.resident)
        files = (sum(seen.tmpfs.values()), seen.group.files)
        rows.append(
            (str(number), str(sum(seen.goroutines.values())), *map(mib, sizes), *map(mib, files))
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def watch(pid: int, pprof: str, looks: int, seconds: float, exercise: str, allowed: float) -> Found:
    """Look so often, over so many seconds, with ``exercise`` before each look but the first.

    ``allowed`` are MiB; 0 is what its cgroup says. Raises :class:`UnreadableError`.
    """
    seen = [look(pid, pprof)]
    for _ in range(looks - 1):
        if exercise:
            command = ["bash", "-c", exercise]
            quiet = subprocess.DEVNULL
            subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, check=False)
        time.sleep(seconds / (looks - 1))
        seen.append(look(pid, pprof))
    group = seen[-1].group
    given = settings(pid)
    may = allowed * MIB or group.allowed
    found = judge(seen, given, may, lost(pprof))
    started = " ".join(f"{key}={value}" for key, value in given.items())
    found.seen = [
        *table(seen),
        f"it may have {mib(may) if may < math.inf else 'all of the host'}; its cgroup uses"
        f" {mib(group.used)}; started with {started or 'no setting of the runtime'}",
    ]
    return found


def process(service: str) -> int:
    """The main process of a unit, or of a program. Raises :class:`UnreadableError`."""
    if service.isdecimal() and Path(f"/proc/{service}").exists():
        return int(service)
    asked = ["systemctl", "show", "--property=MainPID", "--value", f"{service}.service"]
    for command in (asked, ["pgrep", "--oldest", "--exact", service[:15]]):
        with contextlib.suppress(OSError):
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            if said.strip() not in ("", "0"):
                return int(said)
    raise UnreadableError(f"{service} does not run: there is no such process and no such unit here")


def of_service(options: argparse.Namespace) -> int:
    print(process(options.service))
    return 0


def find(options: argparse.Namespace) -> int:
    found = watch(
        process(options.service),
        options.pprof,
        options.looks,
        options.seconds,
        options.exercise,
        options.allowed,
    )
    print(found)
    if options.cured and found.kind not in HARMLESS:
        raise UnreadableError(f"it is not cured: {found.says}")
    if options.cured and found.resident > options.allowed * MIB > 0:
        raise UnreadableError(f"it takes {mib(found.resident)}, more than it may have")
    if options.expect and found.kind != options.expect:
        raise UnreadableError(f"this should have been told as {options.expect}, not {found.kind}")
    return 0


def limit(options: argparse.Namespace) -> int:
    found = watch(process(options.service), options.pprof, 1, 0, "", options.allowed)
    print(found.limit)
    return 0


def words(options: argparse.Namespace) -> int:
    said = told(options.file.read_text(encoding="utf-8", errors="replace"))
    if said is None:
        raise UnreadableError(f"{options.file} has no words that are known here")
    print("SAYS   {}\nFOUND  {}\nDO     {}".format(*said))
    return 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="memory.py", description=__doc__)
    commands = parser.add_subparsers(required=True)
    finding = commands.add_parser("find")
    finding.set_defaults(run=find)
    finding.add_argument("--service", required=True)
    finding.add_argument("--pprof", required=True)
    finding.add_argument("--looks", type=int, default=4)
    finding.add_argument("--seconds", type=float, default=60)
    finding.add_argument("--exercise", default="")
    finding.add_argument("--allowed", type=float, default=0, help="MiB; 0: its cgroup's limit")
    finding.add_argument("--cured", action="store_true", help="fail unless all is well")
    finding.add_argument("--expect", default="", help="fail unless it is of this kind")
    limiting = commands.add_parser("limit")
    limiting.set_defaults(run=limit)
    limiting.add_argument("--service", required=True)
    limiting.add_argument("--pprof", required=True)
    limiting.add_argument("--allowed", type=float, default=0)
    reading = commands.add_parser("words")
    reading.set_defaults(run=words)
    reading.add_argument("file", type=Path)
    naming = commands.add_parser("process")
    naming.set_defaults(run=of_service)
    naming.add_argument("service")
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (UnreadableError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
