#!/usr/bin/env python3
"""jobstate: what a training job is doing, and why it makes no progress

usage: jobstate look PID|UNIT [LOG]       one line on what it does; exit status 0: it makes progress
       jobstate metrics PID|UNIT LOG      the same for Prometheus: write it into a file for
                                          node_exporter's textfile collector, every minute
       jobstate run COMMAND...            runs a job, and says why it has ended

LOG has a line of JSON for each step, with its number in "step" and, if you like, the time in
"time". PID is the job's process; UNIT a service that systemd runs. It needs Python's own library
alone. As root, or as the job's user; what it waits for is told to root alone on most hosts.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
WINDOW = 1.0  # seconds over which threads are watched
SAMPLES = 10
LATE = 5.0  # so many usual steps without one, and at least so many seconds, are no progress
TAIL = 100_000  # bytes of the log that are read
TICKS = os.sysconf("SC_CLK_TCK")
# Numbers of system calls on x86-64 and arm64.
READS = {"x86_64": {0, 17, 19, 45, 47, 299}, "aarch64": {63, 65, 67, 207, 212, 243}}
WRITES = {"x86_64": {1, 18, 20, 44, 46}, "aarch64": {64, 66, 68, 206, 211}}


class JobError(Exception):
    """What is wrong, where, and what to do: one sentence."""


@dataclass
class Log:
    """What the job has said of its steps."""

    step: int = -1
    age: float = 0.0  # seconds since the last one
    usual: float = 0.0  # seconds between two, as a rule; 0: not known

    @property
    def late(self) -> bool:
        return self.age > max(LATE, LATE * self.usual)


@dataclass
class Memory:
    """What the job's cgroup has, in bytes."""

    used: int = 0
    limit: int = 0  # 0: none
    kills: int = 0  # processes that the kernel has killed there, since there is too little
    pressure: float = 0.0  # percent of the last ten seconds in which all stood still for want of it


@dataclass
class Threads:
    """What they did while they were watched."""

    cores: float = 0.0
    states: Counter[str] = field(default_factory=Counter)  # of all samples
    waits: Counter[str] = field(default_factory=Counter)  # what threads wait for


def text(path: Path) -> str:
    """A file of the kernel's; "" if it is not there, or not for us."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def tail(file: BinaryIO) -> bytes:
    """The end of what was written: a file that is mapped has zeros after it."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - TAIL)
        file.seek(begin)
        if written := len(file.read(end - begin).rstrip(b"\0")):
            end = begin + written
            break
        end = begin
    file.seek(max(0, end - TAIL))
    return file.read(end - file.tell())


def read_log(path: Path) -> Log:
    """The last steps in a log. What is no whole record is left out."""
    try:
        with path.open("rb") as file:
            lines = tail(file).decode(errors="replace").split("\n")
        changed = path.stat().st_mtime
    except OSError as error:
        raise JobError(f"{path} cannot be read ({error.strerror}): name the job's log") from None
    seen = []
    for line in lines:
        try:
            record = json.loads(line)
            seen.append((int(record["step"]), float(record.get("time", 0))))
        except (ValueError, TypeError, KeyError):
            continue
    if not seen:
        raise JobError(f"{path} has no line of JSON with a step: have the job write one for each")
    times = [at for _, at in seen if at]
    between = [later - earlier for earlier, later in pairwise(times)]
    last = times[-1] if times else changed
    usual = statistics.median(between) if between else 0.0
    return Log(seen[-1][0], max(0.0, time.time() - last), usual)


def group_of(pid: int) -> Path:
    """The cgroup that a process is in."""
    found = re.search(r"^0::/?(.*)$", text(PROC / str(pid) / "cgroup"), re.MULTILINE)
    return CGROUP / (found[1] if found else "")


def memory_of(group: Path) -> Memory:
    """The tightest limit counts: that of the cgroup, or of one above it."""
    found = Memory()
    share = -1.0
    for one in [group, *(above for above in group.parents if above.is_relative_to(CGROUP))]:
        used, limit = text(one / "memory.current").strip(), text(one / "memory.max").strip()
        if not used:
            continue
        if limit.isdecimal() and int(used) / max(1, int(limit)) > share:
            share = int(used) / max(1, int(limit))
            found.used, found.limit = int(used), int(limit)
        elif not found.limit:
            found.used = found.used or int(used)
    kills = re.search(r"^oom_kill (\d+)$", text(group / "memory.events"), re.MULTILINE)
    full = re.search(r"^full avg10=(\S+)", text(group / "memory.pressure"), re.MULTILINE)
    found.kills = int(kills[1]) if kills else 0
    found.pressure = float(full[1]) if full else 0.0
    return found


def peer(pid: int, inode: str) -> str:
    """Whom a socket is connected with."""
    for name in ("tcp", "tcp6"):
        for line in text(PROC / str(pid) / "net" / name).splitlines()[1:]:
            words = line.split()
            if words[9] == inode:
                address, port = words[2].split(":")
                if name == "tcp":
                    octets = bytes.fromhex(address)[::-1]
                    return f"{'.'.join(map(str, octets))}:{int(port, 16)}"
                return f"[{address}]:{int(port, 16)}"
    return "a process of this host, or one that is not known"


def other_end(pid: int, pipe: str) -> str:
    """The other processes that have a pipe."""
    found = []
    for process in PROC.glob("[0-9]*"):
        if int(process.name) in (pid, os.getpid()):
            continue
        try:
            if any(str(one.readlink()) == pipe for one in (process / "fd").iterdir()):
                found.append(f"{process.name} ({text(process / 'comm').strip()})")
        except OSError:
            continue
    return f"process {'; '.join(found)}" if found else "nobody: the other end is closed or its own"


def waits_for(pid: int, tid: str) -> str:
    """What a thread that sleeps waits for, as far as the kernel tells."""
    call = text(PROC / str(pid) / "task" / tid / "syscall").split()
    machine = os.uname().machine
    if len(call) > 2 and call[0].isdecimal():
        number = int(call[0])
        way = "from" if number in READS.get(machine, ()) else "to"
        if number in READS.get(machine, ()) or number in WRITES.get(machine, ()):
            try:
                target = str((PROC / str(pid) / "fd" / str(int(call[1], 16))).readlink())
            except OSError:
                target = "a file that is closed"
            kind, _, inode = target.partition(":")
            if kind == "socket":
                return f"data {way} the network: {peer(pid, inode.strip('[]'))}"
            if kind == "pipe":
                return f"data {way} a pipe: {other_end(pid, target)}"
            return f"data {way} {target}"
    where = text(PROC / str(pid) / "task" / tid / "wchan").strip()
    for pattern, what in (
        ("futex", "a lock or a thread of its own"),
        ("pipe", "a pipe"),
        ("skb|sk_wait|wait_woken|inet", "the network"),
        ("poll|select", "events of several files or connections"),
        ("nanosleep|timer", "time to pass (it sleeps)"),
        ("do_wait|wait4|kernel_wait", "a process that it has started"),
        ("nfs|rpc", "a network file system"),
        ("io_schedule|folio|blk|jbd2|xfs|ext4|btrfs", "a disk"),
    ):
        if re.search(pattern, where):
            return what
    return where if where not in ("", "0") else "what only root is told"


def threads_of(pid: int) -> Threads:
    """Watch a process's threads for a while. Of one that ends meanwhile, what was seen."""
    found = Threads()

    def spent() -> int:
        total = 0
        for stat in (PROC / str(pid) / "task").glob("*/stat"):
            words = text(stat).rpartition(")")[2].split()
            if words:
                found.states[words[0]] += 1
                total += int(words[11]) + int(words[12])
        return total

    begun, before = time.monotonic(), spent()
    after = before
    for _ in range(SAMPLES):
        time.sleep(WINDOW / SAMPLES)
        after = spent()
    found.cores = (after - before) / TICKS / (time.monotonic() - begun)
    for task in (PROC / str(pid) / "task").glob("*"):
        words = text(task / "stat").rpartition(")")[2].split()
        if words and words[0] in "SD":
            found.waits[waits_for(pid, task.name)] += 1
    return found


def told(waits: Counter[str]) -> str:
    """The most telling first: what is outside of the process, and not its own locks."""
    own = ("a lock or a thread", "time to pass", "events of", "what only root")
    order = sorted(waits, key=lambda what: (what.startswith(own), -waits[what], what))
    return "; ".join(f"{what} (threads: {waits[what]})" for what in order[:3])


def mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def state(pid: int, log: Log | None) -> tuple[str, str]:
    """A word for what a process does, and a sentence."""
    stat = text(PROC / str(pid) / "stat").rpartition(")")[2].split()
    if not stat or stat[0] in "ZX":
        return "ended", f"process {pid} has ended: see its last words, or run it with jobstate run"
    steps = f"step {log.step} was {log.age:.0f} s ago" if log else "it has no log"
    if log and log.usual:
        steps += f", and one takes {log.usual:.2g} s as a rule"
    if stat[0] in "Tt":
        tracer = re.search(r"^TracerPid:\s+([1-9]\d*)", text(PROC / f"{pid}/status"), re.MULTILINE)
        by = (
            f"by process {tracer[1]}, which traces it"
            if tracer
            else f"go on with: kill -CONT {pid}"
        )
        return "stopped", f"{steps}; it is stopped, {by}"
    if log and not log.late:
        return "progressing", steps
    word, sentence = late(pid)
    return word, f"{steps}; {sentence}"


def late(pid: int) -> tuple[str, str]:
    """The same for one that makes no step, though it could."""
    memory, threads = memory_of(group_of(pid)), threads_of(pid)
    if memory.limit and memory.used > 0.9 * memory.limit and memory.pressure > 10:
        return (
            "short of memory",
            f"it has {mb(memory.used)} of {mb(memory.limit)}, and stood still for want of more"
            f" {memory.pressure:.0f} % of the time: give it more, or a smaller batch",
        )
    if threads.states["D"] >= SAMPLES:
        return "waits for a disk", f"it waits for {told(threads.waits)}: see iostat and dmesg"
    if threads.states["R"] >= SAMPLES:  # whatever share of a busy host it got
        return (
            "busy",
            f"it computes on {threads.cores:.1f} cores, a long step or a loop without end:"
            f" py-spy dump --pid {pid}; for a Go program kill -QUIT {pid}, which ends it",
        )
    return "waits", f"it waits for {told(threads.waits)}"


@dataclass
class Unit:
    """A service, as systemd tells of it."""

    pid: int
    group: Path
    ended: str = ""


def unit(name: str) -> Unit:
    names = "MainPID,ControlGroup,Result,ExecMainStatus,LoadState,MemoryMax"
    done = subprocess.run(
        ["systemctl", "show", f"--property={names}", name],
        capture_output=True,
        text=True,
        check=False,
    )
    said = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    if said.get("LoadState") != "loaded":
        raise JobError(f"there is no unit {name}: give a process's number, or a unit's name")
    found = Unit(int(said["MainPID"]), CGROUP / said["ControlGroup"].lstrip("/"))
    if found.pid:
        return found
    found.ended = {
        "success": f"{name} has ended with status {said['ExecMainStatus']}",
        "oom-kill": f"{name} was killed by the kernel, out of memory"
        f" (MemoryMax={said['MemoryMax']}): give it more, or a smaller batch",
    }.get(
        said["Result"],
        f"{name} has ended: {said['Result']} (status {said['ExecMainStatus']}): see journalctl"
        f" --unit {name}",
    )
    return found


def find(who: str) -> Unit:
    if who.isdecimal():
        return Unit(int(who), group_of(int(who)))
    return unit(who)


def look(who: str, log: Log | None) -> tuple[str, str]:
    found = find(who)
    return ("ended", found.ended) if found.ended else state(found.pid, log)


def metrics(who: str, log: Log) -> str:
    """The same for Prometheus."""
    found = find(who)
    memory = memory_of(found.group)
    word, _ = ("ended", "") if found.ended else state(found.pid, log)
    rows = (
        ("training_step", "gauge", "The last step in the log.", log.step),
        (
            "training_last_step_timestamp_seconds",
            "gauge",
            "When that was.",
            time.time() - log.age,
        ),
        ("training_step_seconds", "gauge", "What a step takes as a rule.", log.usual),
        ("training_memory_bytes", "gauge", "In use, in the job's cgroup.", memory.used),
        ("training_memory_limit_bytes", "gauge", "Its limit; 0: none.", memory.limit),
        ("training_oom_kills_total", "counter", "Processes killed there.", memory.kills),
        ("training_observed_timestamp_seconds", "gauge", "When this was told.", time.time()),
    )
    samples = "".join(
        f"# HELP {name} {what}\n# TYPE {name} {kind}\n{name} {value:.15g}\n"
        for name, kind, what, value in rows
    )
    name = "training_state"
    return (
        f'{samples}# HELP {name} What it does.\n# TYPE {name} gauge\n{name}{{state="{word}"}} 1\n'
    )


def passing_on(command: Sequence[str]) -> int:
    """Run a command until it ends, whatever is sent to this process; how it ended."""
    process: subprocess.Popen[bytes] | None = None
    asked = False

    def end(*_: object) -> None:
        nonlocal asked
        asked = True
        if process:
            process.terminate()

    # Before it is started: a handler is not handed down to it, as ignoring a signal would be.
    handlers = {signal.SIGTERM: end, signal.SIGINT: lambda *_: None}
    earlier = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        process = subprocess.Popen(command)
        if asked:
            process.terminate()
        return process.wait()
    except OSError as error:
        raise JobError(f"{command[0]} cannot be run ({error.strerror}): correct it") from None
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def run(command: Sequence[str]) -> int:
    """Run a job; its exit status. Why it has ended goes to standard error.

    Who ends this means the job: SIGTERM is passed on, and a Ctrl-C the terminal gives to both.
    """
    group = group_of(os.getpid())
    before = memory_of(group)
    status = passing_on(command)
    after = memory_of(group)
    if status >= 0:
        why = f"ended with status {status}" + (": see its last words above" if status else "")
    elif after.kills > before.kills:
        limit = f"its limit is {mb(after.limit)}" if after.limit else "it has no limit of its own"
        why = f"killed by the kernel, out of memory ({limit}): give it more, or a smaller batch"
    else:
        why = (
            f"killed by signal {-status}, and not for want of memory in its cgroup:"
            " see who sends it (an operator, a scheduler, the end of a session), and dmesg"
        )
    print(f"jobstate: {why}", file=sys.stderr)
    return status if status >= 0 else 128 - status


def main(words: list[str]) -> int:
    """Do what the arguments say; the exit status."""
    try:
        match words:
            case ["look", who, *rest] if len(rest) < 2:
                word, sentence = look(who, read_log(Path(rest[0])) if rest else None)
                print(f"{word}: {sentence}")
                return 0 if word == "progressing" else 1
            case ["metrics", who, log]:
                print(metrics(who, read_log(Path(log))), end="")
                return 0
            case ["run", *command] if command:
                return run(command)
    except JobError as error:
        print(f"jobstate: {error}", file=sys.stderr)
        return 2
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
