"""Finds where a Go service's requests spend their time. It looks, and asks if it has an address.

  latency.py find ...          asks, looks meanwhile at what is under way, and says what dominates
  latency.py process SERVICE   the id of a service's main process
  latency.py spans PORT        receives spans (OTLP over HTTP) and prints each trace

Each look takes every goroutine's stack. A request that takes ten times longer is seen ten times as
often, so the share of the looks is the share of the time. Called by the cells of
diagnose-latency.ipynb.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import http.server
import itertools
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

ASKED = 60  # seconds that an answer may take
PAUSE = 0.05  # seconds between two looks
LOOKS = 20  # at the least
SHARE = 90  # percent of the requests are to be in time
MOST = 0.5  # of the looks, to be what dominates
COLLECTS = 0.4  # of the processor's time, to be the collector's fault
STARVED = 0.5  # of the time that it could run it waits for a processor, if that makes it late
CERTAIN = 0.97  # the same, where nothing says how long an answer takes
ALL = 0.8  # of the processors that it may use: its own threads wait for each other
THROTTLED = 0.2  # of the time, and of the periods, its cgroup may not run
NAMED = 0.1  # of a processor, to be named as one that has it
BUSY = 0.5  # of the time the model runs
TICK = os.sysconf("SC_CLK_TCK")
# A request that is being answered has one of these on its stack; one that only looks has the other.
SERVES = ("net/http.serverHandler.ServeHTTP", "google.golang.org/grpc.(*Server).processUnaryRPC")
LOOKING = "net/http/pprof."
COLLECTOR = re.compile(
    r"runtime\.(gcBgMarkWorker|gcAssistAlloc|bgsweep|bgscavenge|gcStart|gcDrain)"
)
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


@dataclass(frozen=True)
class Goroutine:
    """One at one moment: its state, and its frames with where they are, inmost first."""

    state: str
    frames: tuple[tuple[str, str], ...]

    @property
    def serves(self) -> bool:
        return any(name in SERVES for name, _ in self.frames) and not self.has(LOOKING)

    def has(self, *names: str) -> bool:
        return any(frame.startswith(names) for frame, _ in self.frames)

    @property
    def place(self) -> str:
        """The service's own function nearest to where it is, or else the standard library's."""
        name, where = own(self.frames) or self.frames[0] if self.frames else ("the runtime", "?")
        return f"{name} ({where})"


def own(frames: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """The inmost frame that is not the standard library's."""
    return next((f for f in frames if re.split(r"[./]", f[0])[0] not in STANDARD), None)


def goroutines(text: str) -> list[Goroutine]:
    """What /debug/pprof/goroutine?debug=2 says."""
    found = []
    for entry in text.split("\n\n"):
        head, *lines = entry.strip().splitlines() or [""]
        if state := re.match(r"goroutine \d+.*? \[([^],]+)", head):
            frames = [
                (call.rpartition("(")[0], "/".join(at.split()[0].split("/")[-2:]))
                for call, at in itertools.pairwise(lines)
                if at.startswith("\t") and not call.startswith(("\t", "created by "))
            ]
            found.append(Goroutine(state[1], tuple(frames)))
    return found


# What a goroutine waits for, by its state and by what is on its stack. The first that fits counts.
REASONS = (
    ("lock", ("sync.Mutex", "sync.RWMutex"), ()),
    # Go before 1.20 says so of a lock, and each Go of one that waits for the collector.
    ("lock", ("semacquire",), ("sync.(*Mutex)", "sync.(*RWMutex)")),
    ("pool", (), ("database/sql.(*DB).conn",)),
    ("client", (), ("net/http.(*body).Read", "net/http.(*response).Write")),
    ("remote", ("IO wait",), ()),
    ("remote", (), ("net/http.(*Transport).roundTrip", "net.(*Resolver)", "net.(*Dialer)")),
    ("disk", ("syscall",), ()),
    ("disk", (), ("os.(*File).",)),
    ("sleep", ("sleep",), ()),
    ("goroutine", ("chan ", "select", "sync."), ()),
)


# In C, by cgo or by purego; Go 1.27 does not show the runtime's own frame.
IN_C = re.compile(r"runtime\.cgocall$|.*\._Cfunc_|github\.com/ebitengine/purego\.")


def waits(one: Goroutine) -> str:
    if one.state.startswith("syscall") and any(IN_C.match(name) for name, _ in one.frames):
        return "c"
    for reason, states, names in REASONS:
        if (not states or one.state.startswith(states)) and (not names or one.has(*names)):
            return reason
    return "processor"


class Quota(NamedTuple):
    """What a cgroup's quota did, at one moment or between two."""

    throttled: float  # seconds in which it was used up, each processor's for itself
    stopped: int  # periods in which it was
    periods: int
    processors: float  # that it is worth; 0: there is none


@dataclass
class Account:
    """What the kernel and the runtime counted, at one moment or between two."""

    ran: float = 0  # seconds on a processor
    queued: float = 0  # seconds in which a thread could have run, and had none
    quotas: dict[str, Quota] = field(default_factory=dict)  # of its cgroup, and of those above it
    collections: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)  # seconds that other processes ran
    pressure: float | None = None  # seconds in which anybody on the machine waited for a processor

    def since(self, earlier: Account) -> Account:
        quotas = {}
        for place, now in self.quotas.items():
            then = earlier.quotas.get(place, now)
            counts = (now.throttled - then.throttled, now.stopped - then.stopped)
            quotas[place] = Quota(*counts, now.periods - then.periods, now.processors)
        both = self.pressure is not None and earlier.pressure is not None
        return Account(
            self.ran - earlier.ran,
            self.queued - earlier.queued,
            quotas,
            self.collections - earlier.collections,
            {key: value - earlier.metrics.get(key, 0) for key, value in self.metrics.items()},
            # one that has begun meanwhile has all that it ran
            {name: ran - earlier.others.get(name, 0) for name, ran in self.others.items()},
            (self.pressure or 0) - (earlier.pressure or 0) if both else None,
        )

    @property
    def waited(self) -> float:
        """The share of the time that its threads could run in which they had no processor."""
        could = self.ran + self.queued
        return self.queued / could if could else 0.0

    @property
    def quota(self) -> tuple[str, Quota]:
        """The cgroup whose quota stopped it for longest."""
        none = ("", Quota(0, 0, 0, 0))
        return max(self.quotas.items(), key=lambda item: item[1].throttled, default=none)


def fetch(address: str) -> bytes:
    # a service on this host is asked directly
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=ASKED) as answer:
            return bytes(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnreadableError(f"{address} is not answered ({error}): correct it") from None


def scheduled(pid: int) -> tuple[float, float]:
    """Seconds that its threads ran, and that they waited for a processor."""
    ran = queued = 0.0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            on, off, _ = map(int, file.read_text(encoding="ascii").split())
            ran, queued = ran + on / 1e9, queued + off / 1e9
    return ran, queued


def quotas(membership: str, mounted: Path = Path("/sys/fs/cgroup")) -> dict[str, Quota]:
    """What its cgroup's quota did, of version 2 or 1, and those of the groups above it.

    In a container the path may be the host's, and what is mounted is the container's own.
    """
    found = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            inside = Path(path.lstrip("/"))
            for group in (inside, *inside.parents):
                place = mounted / controllers / group
                with contextlib.suppress(OSError):
                    text = (place / "cpu.stat").read_text(encoding="ascii")
                    said = dict(re.findall(r"^(\w+) (\d+)", text, re.MULTILINE))
                    if "nr_throttled" in said:
                        used = int(said.get("throttled_usec", 0)) / 1e6
                        used += int(said.get("throttled_time", 0)) / 1e9
                        counts = int(said["nr_throttled"]), int(said.get("nr_periods", 0))
                        found[str(place)] = Quota(used, *counts, processors(place))
    return found


def processors(group: Path) -> float:
    """How many its quota is worth; 0 if it has none."""
    words: list[str] = []
    for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"):
        with contextlib.suppress(OSError):
            words += (group / name).read_text(encoding="ascii").split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdecimal() else 0.0


def others(pid: int) -> dict[str, float]:
    """Seconds that each other process has run, by what it is called."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        number = int(stat.parent.name)
        if number not in (pid, os.getpid()):
            with contextlib.suppress(OSError):
                head, _, rest = stat.read_text(errors="replace").rpartition(")")
                words = rest.split()
                name = f"{head.partition('(')[2]} (process {number})"
                found[name] = (int(words[11]) + int(words[12])) / TICK
    return found


def pressure(file: Path = Path("/proc/pressure/cpu")) -> float | None:
    """Seconds in which somebody waited for a processor, if the kernel counts them."""
    try:
        total = re.search(r"^some .*total=(\d+)", file.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(total[1]) / 1e6 if total else None


def account(pid: int, pprof: str, metrics: str) -> Account:
    ran, queued = scheduled(pid)
    try:
        held = quotas(Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableError(f"process {pid} cannot be looked at ({error.strerror})") from None
    text = fetch(f"{pprof}/heap?debug=1").decode(errors="replace")
    collections = re.search(r"^# NumGC = (\d+)", text, re.MULTILINE)
    if collections is None:
        raise UnreadableError(f"{pprof} is not Go's pprof: correct it")
    numbers: dict[str, float] = defaultdict(float)
    if metrics:
        for name, value in re.findall(
            r"^(inferd_\w+_(?:sum|count))(?:\{[^}]*\})? (\S+)$",
            fetch(metrics).decode(),
            re.MULTILINE,
        ):
            numbers[name] += float(value)
    counted = int(collections[1]), dict(numbers), others(pid), pressure()
    return Account(ran, queued, held, *counted)


def settings(pid: int) -> dict[str, str]:
    """What the process was started with, of the runtime's settings."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    given = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {key: given[key] for key in ("GOGC", "GOMEMLIMIT", "GOMAXPROCS") if given.get(key)}


def remotes(pid: int) -> Counter[str]:
    """Where its connections lead that it did not accept itself."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets |= set(re.findall(r"^socket:\[(\d+)\]", str(link.readlink())))
    listens, others = set(), []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            rows = Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
            for local, remote, state, inode in ((r.split()[i] for i in (1, 2, 3, 9)) for r in rows):
                if inode in sockets:
                    if state == "0A":
                        listens.add(local.partition(":")[2])
                    else:
                        others.append((local.partition(":")[2], remote))
    return Counter(endpoint(remote) for port, remote in others if port not in listens)


def endpoint(text: str) -> str:
    """An address as /proc/net/tcp has it, as people write it."""
    address, _, port = text.partition(":")
    words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
    raw = b"".join(words)
    if len(raw) == 16 and raw.startswith(b"\0" * 10 + b"\xff\xff"):
        raw = raw[12:]
    kind = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    host = socket.inet_ntop(kind, raw)
    return f"{host if len(raw) == 4 else f'[{host}]'}:{int(port, 16)}"


# --- the protocol that profiles and spans are written in ---


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The fields of a protobuf message: which one, the number in it, or the bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind, number, content = key & 7, 0, b""
        if kind == 0:
            number, at = varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                size, at = varint(data, at)
            content, at = data[at : at + size], at + size
            number = int.from_bytes(content, "little") if kind != 2 else 0
        yield key >> 3, number, content


def numbers(message: bytes, which: int) -> list[int]:
    """A field of numbers, which stand there one by one, or packed."""
    found = []
    for key, alone, content in fields(message):
        if key == which and not content:
            found.append(alone)
        at = 0
        while key == which and at < len(content):
            value, at = varint(content, at)
            found.append(value)
    return found


def stacks(profile: bytes) -> list[tuple[int, tuple[tuple[str, str], ...]]]:
    """The stacks of a profile, inmost frame first, with how often each was seen."""
    names: list[str] = []
    functions: dict[int, tuple[int, int]] = {}
    places: dict[int, list[tuple[int, int]]] = {}
    samples = []
    for number, _, content in fields(gzip.decompress(profile)):
        if number == 6:
            names.append(content.decode(errors="replace"))
        elif number == 5:
            said = {key: value for key, value, _ in fields(content)}
            functions[said[1]] = said.get(2, 0), said.get(4, 0)
        elif number == 4:
            key, lines = 0, []
            for inner, value, message in fields(content):
                if inner == 1:
                    key = value
                elif inner == 4:
                    line = {at: value for at, value, _ in fields(message)}
                    lines.append((line.get(1, 0), line.get(2, 0)))
            places[key] = lines
        elif number == 2:
            samples.append((numbers(content, 1), numbers(content, 2)))

    def frame(function: int, line: int) -> tuple[str, str]:
        name, file = functions.get(function, (0, 0))
        return names[name], "/".join(names[file].split("/")[-2:]) + f":{line}"

    return [
        (values[0], tuple(frame(*line) for place in where for line in places.get(place, [])))
        for where, values in samples
        if values
    ]


# --- asking, and looking meanwhile ---


@dataclass
class Client:
    """Asks again and again, over one connection, and keeps how long each answer took."""

    url: str
    body: bytes
    took: list[float] = field(default_factory=list)
    connecting: list[float] = field(default_factory=list)
    wrong: str = ""

    def run(self, over: threading.Event) -> None:
        address = urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(address.hostname or "", address.port, timeout=ASKED)
        target = address.path + (f"?{address.query}" if address.query else "")
        headers = {"Content-Type": "application/json"} if self.body else {}
        while not over.is_set():
            began = time.monotonic()
            try:
                if connection.sock is None:
                    connection.connect()
                    self.connecting.append(time.monotonic() - began)
                connection.request(
                    "POST" if self.body else "GET", target or "/", self.body or None, headers
                )
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.wrong = f"{self.url} does not answer ({error or type(error).__name__})"
                return
            self.took.append(time.monotonic() - began)
            if answer.status >= http.HTTPStatus.BAD_REQUEST:
                self.wrong = f"{self.url} answers {answer.status}"
                return


@dataclass
class Seen:
    """All that was seen in one go."""

    looks: int = 0
    under_way: list[Goroutine] = field(default_factory=list)
    beside: list[Goroutine] = field(default_factory=list)  # the service's, and no request
    took: list[float] = field(default_factory=list)
    connecting: list[float] = field(default_factory=list)
    profile: list[tuple[int, tuple[tuple[str, str], ...]]] = field(default_factory=list)
    lasted: float = 0
    counted: Account = field(default_factory=Account)
    remotes: Counter[str] = field(default_factory=Counter)
    given: dict[str, str] = field(default_factory=dict)
    may_use: int = os.cpu_count() or 1  # processors
    nice: int = 0


def watch(pid: int, options: argparse.Namespace) -> Seen:
    """Ask and look for so many seconds. Raises :class:`UnreadableError`."""
    try:
        seen = Seen(
            given=settings(pid),
            may_use=len(os.sched_getaffinity(pid)),
            nice=os.getpriority(os.PRIO_PROCESS, pid),
        )
    except OSError as error:
        raise UnreadableError(f"process {pid} cannot be looked at ({error.strerror})") from None
    body = Path(options.body).read_bytes() if options.body else b""
    clients = [Client(options.url, body) for _ in range(options.clients if options.url else 0)]
    over = threading.Event()
    profiled: list[bytes] = []

    def profile() -> None:
        # one that runs already is somebody else's, and then there is none for us
        with contextlib.suppress(UnreadableError):
            profiled.append(fetch(f"{options.pprof}/profile?seconds={math.ceil(options.seconds)}"))

    threads = [threading.Thread(target=client.run, args=(over,)) for client in clients]
    threads.append(threading.Thread(target=profile))
    before, began = account(pid, options.pprof, options.metrics), time.monotonic()
    for thread in threads:
        thread.start()
    try:
        while time.monotonic() - began < options.seconds or seen.looks < LOOKS:
            time.sleep(PAUSE)
            for one in goroutines(
                fetch(f"{options.pprof}/goroutine?debug=2").decode(errors="replace")
            ):
                if one.serves:
                    seen.under_way.append(one)
                elif not one.has(LOOKING) and own(one.frames):
                    seen.beside.append(one)
            seen.looks += 1
            seen.remotes |= remotes(pid)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    seen.lasted = time.monotonic() - began
    seen.counted = account(pid, options.pprof, options.metrics).since(before)
    for data in profiled:
        seen.profile = stacks(data)
    if wrong := next((client.wrong for client in clients if client.wrong), ""):
        raise UnreadableError(
            f"{wrong}: correct url or body; diagnose-errors tells what such an answer means"
        )
    seen.took = sorted(took for client in clients for took in client.took)
    seen.connecting = [took for client in clients for took in client.connecting]
    return seen


# --- what it means ---


@dataclass
class Found:
    """What is slow. ``seen`` is the evidence, ``mend`` the setting that cures it, if one does."""

    kind: str
    says: str
    do: str
    seen: list[str] = field(default_factory=list)
    mend: str = ""

    def __str__(self) -> str:
        return "\n".join([*self.seen, f"FOUND  {self.says}", f"DO     {self.do}"])

    def variables(self) -> dict[str, str]:
        """It, for the cells that follow."""
        return {
            "FOUND_SAYS": self.says,
            "FOUND_DO": self.do,
            "FOUND_CURE": "nothing" if self.kind == "healthy" else self.mend,
        }


# What a request waits for: the words for it, and what to do.
SAYS = {
    "lock": (
        "wait for a lock in",
        "hold it for the change alone: ask, read and write before or after; or give each part its"
        " own lock",
    ),
    "pool": (
        "wait for a free connection of a pool in",
        "see first what holds the connections for so long; then give the pool more"
        " (SetMaxOpenConns, MaxConnsPerHost)",
    ),
    "client": (
        "wait for the client in",
        "its body comes, or the answer goes, slowly: see its network; ReadTimeout and WriteTimeout"
        " bound it",
    ),
    "remote": (
        "wait for an answer over the network in",
        "see why that is slow, there; bound it with a context's deadline; ask for several things"
        " at once",
    ),
    "disk": (
        "wait for the disk, or another system call, in",
        "strace --follow-forks --syscall-times --attach PID --trace=fsync,fdatasync,read,write"
        " shows each; sync less often, or once for several requests, or on a faster disk",
    ),
    "c": (
        "are in C code called from",
        "a profiler of C says where: perf record --call-graph dwarf --pid PID",
    ),
    "sleep": (
        "sleep in",
        "wait for what it waits for, with a channel or a context, in the place of time.Sleep",
    ),
    "goroutine": (
        "wait for another goroutine in",
        "that one is too slow, or blocked: give it helpers, a buffer, or take it out of the"
        " request's way",
    ),
}


def share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def within(took: Sequence[float], percent: float) -> float:
    """So many percent took no longer."""
    return took[min(int(len(took) * percent / 100), len(took) - 1)]


def judge(seen: Seen, slow: float, percent: float = SHARE) -> Found:
    """What dominates, if not so many percent of the answers come within ``slow`` seconds."""
    return outside(seen, slow, percent) or batches(seen, slow) or inside(seen, slow, percent)


def outside(seen: Seen, slow: float, percent: float) -> Found | None:
    """Nothing is slow, or not the service."""
    if seen.took and within(seen.took, percent) < slow:
        return Found(
            "healthy",
            f"healthy: {percent:g} % of the requests are answered within {span(slow)}",
            "nothing; if it is slow only now and then, look then, or for longer (seconds)",
        )
    if seen.connecting and statistics.median(seen.connecting) > slow:
        return Found(
            "connect",
            f"to connect alone takes {span(statistics.median(seen.connecting))}: it is slow before"
            " the service",
            "getent hosts NAME says whether the name is slow; ss --listening --tcp whether the"
            " service does not accept (Recv-Q is Send-Q); then see the network, and TLS",
        )
    if not seen.under_way:
        return Found(
            "idle",
            f"no request was under way in any of {seen.looks} looks: what is slow is before the"
            " service, or over",
            "give url, so that it is asked; see what is before it: proxy, balancer, name server",
        )
    return None


def inside(seen: Seen, slow: float, percent: float) -> Found:
    """What most of the requests that are under way wait for, and where."""
    reason, times = Counter(map(waits, seen.under_way)).most_common(1)[0]
    took = within(seen.took, percent) if seen.took else None
    if reason == "processor":
        return of_processor(seen, share(times, len(seen.under_way)), slow, took)
    places = Counter(one.place for one in seen.under_way if waits(one) == reason)
    place, there = places.most_common(1)[0]
    words, do = SAYS[reason]
    says = f"{share(there, len(seen.under_way))} of their time requests {words} {place}"
    computes = reason == "c"
    if reason == "lock":
        holder, computes = holds(seen, place)
        says += f"; who has it is meanwhile at: {holder}" if holder else ""
    if reason == "remote" and seen.remotes:
        names = ", ".join(name for name, _ in seen.remotes.most_common(3))
        says += f"; the service's connections lead to {names}"
    if reason == "goroutine":
        worker, computes = works(seen)
        says += f"; beside requests, one is mostly at: {worker}" if worker else ""
    if computes and (short := of_no_processor(seen, slow, took)):
        return short
    return Found(reason, says, do)


def whereabouts(one: Goroutine) -> tuple[str, bool]:
    """Where it is, in words, and whether it computes there."""
    return f"{one.state} in {one.place}", waits(one) in ("processor", "c")


def holds(seen: Seen, place: str) -> tuple[str, bool]:
    """Where one is that is in the same function as those that wait for the lock, past it."""
    function = place.partition(" (")[0]
    past = Counter(
        whereabouts(one)
        for one in (*seen.under_way, *seen.beside)
        if waits(one) != "lock" and one.has(function)
    )
    return next((said for said, _ in past.most_common(1)), ("", False))


def works(seen: Seen) -> tuple[str, bool]:
    """Where one that is no request is for most of the time, if it does not wait for work."""
    busy = Counter(
        whereabouts(one)
        for one in seen.beside
        if waits(one) != "goroutine" and not one.has("net.(*TCPListener)")
    )
    most = (said for said, count in busy.most_common(1) if count > seen.looks * MOST)
    return next(most, ("", False))


def batches(seen: Seen, slow: float) -> Found | None:
    """By the model server's own histograms, if it has them: the wait for a batch, and its run."""
    say = seen.counted.metrics

    def mean(name: str) -> float:
        name = f"inferd_{name}_duration_seconds"
        return say.get(f"{name}_sum", 0) / max(say.get(f"{name}_count", 0), 1)

    request, queue, model = mean("request"), mean("queue"), mean("model")
    busy = say.get("inferd_model_duration_seconds_sum", 0) / seen.lasted if seen.lasted else 0
    parts = (
        f"of {span(request)} a request waits {span(queue)} for its batch, which runs for"
        f" {span(model)}; the model is busy {busy:.0%} of the time"
    )
    if queue > request * MOST and busy < BUSY:
        return Found(
            "delay",
            f"{parts}: a batch waits for more requests than come",
            f"set -batch-delay to 0, which mode apply does, or to less than a run ({span(model)})",
            mend="-batch-delay 0s",
        )
    if queue + model <= request * MOST:
        return None
    # A run that is kept waiting for a processor takes as long as one of a slow model.
    if queue > model:
        return of_no_processor(seen, slow, request, "a request") or Found(
            "saturated",
            f"{parts}: more comes than it can do{besides(seen)}",
            "larger batches (-batch-rows), more -workers if processors are free, a second instance;"
            " and a shorter -queue, so that who cannot be served in time is told so at once",
        )
    return of_no_processor(seen, slow, model, "a run of the model") or Found(
        "model",
        f"{parts}: the model itself is slow{besides(seen)}",
        "a smaller or quantised model, -threads, smaller batches, a GPU",
    )


def of_processor(seen: Seen, part: str, slow: float, took: float | None) -> Found:
    """Why requests that could run, or do, take so long."""
    # A quota before what it does with its share, and that before who has the rest.
    return (
        of_quota(seen) or collector(seen) or of_no_processor(seen, slow, took) or code(seen, part)
    )


def of_no_processor(
    seen: Seen, slow: float, took: float | None, what: str = "an answer"
) -> Found | None:
    """Whether what took so long would be in time if it were not kept waiting for a processor."""
    if stopped := of_quota(seen):
        return stopped
    counted = seen.counted
    alone = None if took is None else took * (1 - counted.waited)
    if counted.waited < (CERTAIN if alone is None else STARVED) or (alone or 0) >= slow:
        return None
    whole = os.cpu_count() or 1
    full = counted.ran > ALL * seen.may_use * seen.lasted
    if full and seen.may_use >= whole:
        return None  # nobody else has them
    says = (
        f"it had no processor for {counted.waited:.1%} of the time that it could run (schedstat of"
        " its threads)"
    )
    if alone is not None:
        says += f"; without that, {what} of {span(took or 0)} would take about {span(alone)}"
    do = []
    if full:
        says += f": it may use {seen.may_use} of {whole} processors, and uses them up"
    else:
        who = neighbours(seen) or "whom is not seen from here (another container: see the machine)"
        says += f": others have it, {who}"
        do.append("end them, or move them away; give this one a larger CPUWeight=")
        if seen.nice > 0:
            do.append(f"a lower nice than its {seen.nice} (Nice=)")
    if seen.may_use < whole:
        do.append(
            f"more than {seen.may_use} of the {whole} processors (taskset -cp PID, AllowedCPUs=,"
            " CPUAffinity=, a cpuset)"
        )
    return Found("starved", says, ", ".join(do))


def besides(seen: Seen) -> str:
    """What makes it worse, where that alone is not the reason."""
    waited = seen.counted.waited
    said = f"; besides, it had no processor for {waited:.0%} of the time that it could run"
    return said if waited > STARVED else ""


def neighbours(seen: Seen) -> str:
    """Which other processes had most of the processors."""
    ran = sorted(seen.counted.others.items(), key=lambda item: -item[1])[:3]
    return ", ".join(
        f"{name} {time / seen.lasted:.1f} processors"
        for name, time in ran
        if time > NAMED * seen.lasted
    )


def of_quota(seen: Seen) -> Found | None:
    place, quota = seen.counted.quota
    if quota.throttled <= THROTTLED * seen.lasted or quota.stopped <= THROTTLED * quota.periods:
        return None
    worth = f" of {quota.processors:.2g} processors" if quota.processors else ""
    return Found(
        "quota",
        f"its quota{worth} was used up in {quota.stopped} of {quota.periods} periods, and it was"
        f" not let run for the rest of each (nr_throttled in {place}/cpu.stat)",
        "raise CPUQuota= of the unit, or the container's limit (cpu.max, cpu.cfs_quota_us); before"
        " Go 1.25 also set GOMAXPROCS to it",
    )


def collector(seen: Seen) -> Found | None:
    whole = sum(count for count, _ in seen.profile)
    collects = sum(
        count for count, frames in seen.profile if any(COLLECTOR.match(name) for name, _ in frames)
    )
    if collects <= COLLECTS * whole:
        return None
    given = " ".join(f"{key}={value}" for key, value in seen.given.items())
    return Found(
        "collector",
        f"{share(collects, whole)} of its processor time goes to garbage collection,"
        f" {seen.counted.collections} times in {span(seen.lasted)}; it was started with"
        f" {given or 'no setting of the runtime'}",
        "take a GOGC below 100 away; raise GOMEMLIMIT if the heap is near it; or allocate less:"
        " the profile allocs says where",
    )


def code(seen: Seen, part: str) -> Found:
    """Which function of the service's own the requests compute in."""
    mine: Counter[str] = Counter()
    for count, frames in seen.profile:
        if any(name in SERVES for name, _ in frames) and (place := own(frames)):
            mine[f"{place[0]} ({place[1].rpartition(':')[0]})"] += count
    if not mine:
        mine.update(one.place for one in seen.under_way if waits(one) == "processor")
    where, most = mine.most_common(1)[0]
    return Found(
        "code",
        f"{part} of their time requests compute, {share(most, sum(mine.values()))} of that in"
        f" {where}{besides(seen)}",
        "do it once and not for each request, or less of it; go tool pprof -list shows the lines of"
        " profile?seconds=10",
    )


# --- what is shown ---


def shown(seen: Seen) -> list[str]:
    lines = []
    if seen.took:
        lines.append(
            f"{len(seen.took)} requests: half within {span(statistics.median(seen.took))},"
            f" {SHARE} % within {span(within(seen.took, SHARE))}, the last {span(seen.took[-1])}"
        )
    reasons = Counter(map(waits, seen.under_way))
    total = sum(reasons.values())
    said = ", ".join(f"{word} {share(count, total)}" for word, count in reasons.most_common(4))
    lines.append(f"{total} under way in {seen.looks} looks: {said or 'none'}")
    lines.append(
        f"processor: ran {span(seen.counted.ran)} on {seen.may_use} of {os.cpu_count()}, waited for"
        f" one {seen.counted.waited:.0%}, throttled {span(seen.counted.quota[1].throttled)},"
        f" {seen.counted.collections} collections"
    )
    busy = neighbours(seen) or "nobody"
    if seen.counted.pressure is not None:
        waited = min(seen.counted.pressure, seen.lasted)
        busy += f"; somebody waited for a processor {share(waited, seen.lasted)} of the time"
    lines.append(f"beside it: {busy}")
    return lines


def look(pid: int, options: argparse.Namespace) -> Found:
    seen = watch(pid, options)
    found = judge(seen, options.slow / 1000, options.share)
    found.seen = shown(seen)
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


def find(options: argparse.Namespace) -> int:
    found = look(process(options.service), options)
    print(found)
    if options.cured and found.kind not in ("healthy", "starved"):
        raise UnreadableError(f"it is not cured: {found.says}")
    if options.expect and found.kind != options.expect:
        raise UnreadableError(f"this should have been told as {options.expect}, not {found.kind}")
    return 0


def of_service(options: argparse.Namespace) -> int:
    print(process(options.service))
    return 0


@dataclass
class Span:
    trace: str
    key: str
    parent: str
    name: str
    began: int
    ended: int


def read_spans(message: bytes) -> list[Span]:
    """The spans of one OTLP request."""

    def under(data: bytes, *path: int) -> Iterator[bytes]:
        for number, _, content in fields(data):
            if number == path[0]:
                yield from under(content, *path[1:]) if len(path) > 1 else (content,)

    found = []
    for data in under(message, 1, 2, 2):
        said = {number: (value, content) for number, value, content in fields(data)}
        trace, key, parent = (said.get(number, (0, b""))[1].hex() for number in (1, 2, 4))
        name = said[5][1].decode(errors="replace")
        found.append(Span(trace, key, parent, name, said[7][0], said[8][0]))
    return found


def drawn(spans: Sequence[Span]) -> list[str]:
    """Each trace, what is inside another below it."""
    known = {one.key for one in spans}
    lines = []

    def below(inside: Sequence[Span], depth: int) -> None:
        for one in sorted(inside, key=lambda one: one.began):
            lines.append(f"{'  ' * depth}{one.name}  {span((one.ended - one.began) / 1e9)}")
            below([other for other in spans if other.parent == one.key], depth + 1)

    for trace in dict.fromkeys(one.trace for one in spans):
        lines.append(f"trace {trace}")
        below([one for one in spans if one.trace == trace and one.parent not in known], 1)
    return lines


def receive(options: argparse.Namespace) -> int:
    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = zlib.decompress(body, wbits=31)
            self.send_response(http.HTTPStatus.OK)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()
            print("\n".join(drawn(read_spans(body))), flush=True)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", options.port), Receiver) as server:
        server.serve_forever()
    return 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="latency.py", description=__doc__)
    commands = parser.add_subparsers(required=True)
    finding = commands.add_parser("find")
    finding.set_defaults(run=find)
    finding.add_argument("--service", required=True)
    finding.add_argument("--pprof", required=True)
    finding.add_argument("--url", default="", help="what is asked meanwhile; empty: nothing")
    finding.add_argument("--body", default="", help="file with what is sent to url (POST)")
    finding.add_argument("--metrics", default="", help="inferd's metrics, if it is that")
    finding.add_argument("--clients", type=int, default=4)
    finding.add_argument("--seconds", type=float, default=5)
    finding.add_argument("--slow", type=float, default=100, help="milliseconds")
    finding.add_argument("--share", type=float, default=SHARE, help="percent within slow")
    finding.add_argument("--cured", action="store_true", help="fail if it is slow by itself")
    finding.add_argument("--expect", default="", help="fail unless it is of this kind")
    naming = commands.add_parser("process")
    naming.set_defaults(run=of_service)
    naming.add_argument("service")
    receiving = commands.add_parser("spans")
    receiving.set_defaults(run=receive)
    receiving.add_argument("port", type=int)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (UnreadableError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
