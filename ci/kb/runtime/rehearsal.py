"""Rehearses a step: runs it on a copy of the host whose writes are thrown away.

The copy is a mount namespace. Every file system of the host is the lower layer of an overlay whose
upper one is memory; /proc and /sys can only be read; there is no device but /dev/null and its like,
no network, no process of the host, and a step has none of the rights with which root could get
around that. So nothing has to be said twice: what a step would do is what it does there.

What a step asks of the running system (systemd, a service's address, the kernel's settings) goes
through stand-ins for a few commands, see :data:`COMMANDS`. A question is answered by the host, as
long as nothing has been done that the answer could depend on. What would change the system is
noted, and not done. Where a question has no answer before an apply, the rehearsal of that step
ends, and says so.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kb.runtime import shell
from kb.runtime.layers import Layers

SETUP = Path(__file__).with_name("rehearsal.sh")
STAND_IN = Path(__file__).with_name("stand_in.py")
STARTED_WITHIN = 20.0  # seconds
ENDED_WITHIN = 5.0
LIMIT = 60.0  # seconds that one step is rehearsed for
SHOWN = 70  # characters of a command in a sentence
ASKED = 30  # seconds that a question to the host may take
SHARE = 4  # the writes may take a quarter of the memory that is free
LARGEST_ANSWER = 8_000_000  # bytes that a service's address may answer with
# What a step keeps of root's rights: over files, and over its own processes.
RIGHTS = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setfcap,sys_chroot"
UNITS = ("/etc/systemd", "/run/systemd", "/usr/lib/systemd", "/usr/local/lib/systemd")


class UnavailableError(Exception):
    """Nothing can be rehearsed here. Says why, as the end of a sentence."""


class UnknownError(Exception):
    """A question that has no answer before an apply."""


class AfterActsError(UnknownError):
    """A question whose answer depends on what would have been done to the running system."""


@dataclass
class Seen:
    """What a rehearsed step asked the running system to do, and how it ended.

    ``acts`` are commands that would run; ``settings`` are the kernel's, from what to what.
    ``unknown`` is why it was not rehearsed to its end, or ""; then ``failed`` says that what later
    steps find may lack something, and not only what services do. ``unseen`` are processes of the
    host that it was told of, and did not look at with ``ps``; the copy has none of them. ``said``
    is what it printed.
    """

    acts: list[str] = field(default_factory=list)
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)
    unknown: str = ""
    failed: bool = False
    unseen: set[str] = field(default_factory=set)
    said: str = ""


class Rehearsal:
    """A copy of the host, for as long as it is open. Steps see there what earlier ones did."""

    def __init__(self) -> None:
        """Raises :class:`UnavailableError`."""
        if os.geteuid() != 0:
            raise UnavailableError("only root can make a copy of a host")
        missing = [tool for tool in ("unshare", "nsenter", "setpriv") if not shutil.which(tool)]
        if missing:
            raise UnavailableError(f"there is no {', '.join(missing)} here (package util-linux)")
        self.home = Path(tempfile.mkdtemp(prefix="kb-rehearsal-"))
        self._process: subprocess.Popen[str] | None = None
        self._broker: _Broker | None = None
        try:
            self.pid = self._start()
            self._broker = _Broker(self.home, self.pid)
            self.layers = Layers(Path(f"/proc/{self.pid}/root{self.home}/layers"))
        except BaseException:
            self.close()
            raise

    def _start(self) -> int:
        namespaces = ("--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child")
        room = _free_memory() // SHARE
        setup = ("bash", SETUP, self.home, str(room), STAND_IN, sys.executable, *COMMANDS)
        self._process = subprocess.Popen(
            ["unshare", *namespaces, *map(str, setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=shell.die_with_parent,  # noqa: PLW1509 - one call, which takes no lock
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], STARTED_WITHIN)
        said = self._process.stdout.readline() if ready else ""
        if not said:
            self._process.kill()
            _, error = self._process.communicate()
            lines = [line for line in error.splitlines() if line.strip()]
            raise UnavailableError(
                lines[-1].strip() if lines else f"it was not made within {STARTED_WITHIN:g} s"
            )
        return int(said)

    def run(self, script: str, env: Mapping[str, str]) -> Seen:
        """Run a step there. What it changed is in :attr:`layers`."""
        assert self._broker is not None
        broker = self._broker
        seen = broker.begin(self.layers)
        rights = "-all," + ",".join(f"+{right}" for right in RIGHTS.split(","))
        inside = ("--mount", "--pid", "--net", "--ipc", "--uts")
        limit = threading.Timer(LIMIT, broker.end, [f"it took longer than {LIMIT:g} s"])
        limit.start()
        try:
            done = shell.run(
                script,
                env={**env, "KB_REHEARSAL": str(self.home / "asked")},
                scratch=self.home,
                within=(
                    *("nsenter", "--target", str(self.pid), *inside),
                    *("setpriv", f"--bounding-set={rights}", "--inh-caps=-all"),
                    *("env", f"--chdir={Path.cwd()}"),
                ),
            )
        finally:
            limit.cancel()
            broker.kill()  # a daemon that it started goes with it
        seen.said = done.output
        if done.reboot:
            seen.acts.append(f"a reboot of this host: {done.reboot}")
        elif done.status != 0 and not seen.unknown:
            seen.unknown, seen.failed = f"it ended there: {done.why()}", True
        return seen

    def close(self) -> None:
        """Throw it all away."""
        if self._broker:
            self._broker.close()
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.communicate(timeout=ENDED_WITHIN)  # its input ends, and so does it
            self._process.kill()
            self._process.communicate()
        shutil.rmtree(self.home, ignore_errors=True)


class _Broker:
    """Outside, answers what the stand-ins ask."""

    def __init__(self, home: Path, pid: int) -> None:
        self.home, self.pid = home, pid
        self.seen = Seen()
        self.layers: Layers | None = None
        self.settings: dict[str, str] = {}  # of the kernel, as the steps would have made them
        self.units: list[Any] = []  # the units of systemd that were written when the step began
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(home / "asked"))
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def begin(self, layers: Layers) -> Seen:
        """A step begins, on the running system as it is."""
        self.seen, self.layers = Seen(), layers
        self.units = self._units()
        return self.seen

    def end(self, why: str, failed: bool = True) -> None:
        """The step is not rehearsed any further."""
        if not self.seen.unknown:
            self.seen.unknown, self.seen.failed = why, failed
        self.kill()

    def kill(self) -> None:
        """End all that runs in the copy, but for what holds it."""
        ours = _namespace(self.pid)
        for path in Path("/proc").glob("[0-9]*"):
            if ours and int(path.name) != self.pid and _namespace(int(path.name)) == ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(path.name), signal.SIGKILL)

    def close(self) -> None:
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                asked, _ = self.listener.accept()
            except OSError:  # it was closed
                return
            with asked, contextlib.suppress(OSError, ValueError):
                call = json.loads(asked.makefile("rb").readline())
                answer = self._answer(call["command"], call["arguments"])
                asked.sendall(json.dumps(answer).encode() if answer else b"")

    def _answer(self, command: str, arguments: list[str]) -> dict[str, Any] | None:
        if _is_only_of_files(command, arguments):
            return {"run": str(self.home / "layers/commands" / command)}
        try:
            done, file = COMMANDS.get(command, _act)(self, command, arguments)
        except UnknownError as unknown:
            self.end(str(unknown), failed=not isinstance(unknown, AfterActsError))
            return None
        except (OSError, subprocess.SubprocessError) as error:
            self.end(f"`{command}` could not be asked: {error}")
            return None
        return {
            "status": done.returncode,
            "out": base64.b64encode(done.stdout).decode(),
            "error": done.stderr.decode(errors="replace"),
            "file": file,
        }

    # What the answers are made of.

    def ask(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        """Ask the host."""
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASKED, check=False
        )

    def act(self, command: str, arguments: Sequence[str], now: str = "") -> _Answer:
        """Note what would be done."""
        self.seen.acts.append(shlex.join([command, *arguments]) + (f"  ({now})" if now else ""))
        return _said("")

    def refuse_after_acts(self, question: str) -> None:
        """Raise :class:`AfterActsError` if the answer hangs on what would have been done."""
        done = [act for act in self.seen.acts if not HARMLESS.match(act)]
        if done:
            raise AfterActsError(
                f"{question} depends on what `{done[-1].partition('  (')[0]}` does"
            )

    def units_differ(self) -> bool:
        """Whether this step has written units of systemd."""
        return self._units() != self.units

    def reloaded(self) -> bool:
        """Whether systemd would have read them."""
        return any("daemon-reload" in act.split() for act in self.seen.acts)

    def _units(self) -> list[Any]:
        assert self.layers is not None
        return [row for place in UNITS for row in self.layers.listing(place).items()]


_Answer = tuple["subprocess.CompletedProcess[bytes]", str]
# Acts after which the running services answer as before.
HARMLESS = re.compile(r"systemctl (--\S+ )*(daemon-reload|reset-failed|is-)\b")


def _said(text: str, status: int = 0) -> _Answer:
    return subprocess.CompletedProcess([], status, text.encode(), b""), ""


def _question(command: str, arguments: Sequence[str]) -> str:
    text = shlex.join([command, *arguments])
    if len(text) > SHOWN and len(arguments) > 1:
        text = f"{command} ... {arguments[-1]}"
    return f"what `{text}` says"


def _act(broker: _Broker, command: str, arguments: list[str]) -> _Answer:
    return broker.act(command, arguments)


# Verbs of systemctl that only look; those in the second line look at what runs.
_LOOKS = {"cat", "is-enabled", "list-unit-files", "list-dependencies", "get-default", "--version"}
_LOOKS_AT_RUNNING = {"show", "status", "is-active", "is-failed", "is-system-running", "list-units"}
_LOOKS_AT_RUNNING |= {"list-jobs", "list-sockets", "list-timers"}
_OPTIONS = re.compile(
    r"--(property|value|quiet|no-pager|plain|no-legend|full|all|type|state|timestamp|lines|output"
    r"|no-block|no-ask-password)(=|$)|-[pqlatno]"
)
_WITH_VALUE = {"--property", "-p", "--type", "-t", "--state", "--lines", "-n", "--output", "-o"}
# What is known of a unit while its files change, since systemd has not begun anything.
_OF_RUNNING = re.compile(
    r"(MainPID|ControlPID|ControlGroup|Job|\w*State|Result|\w*Timestamp(Monotonic)?|Tasks\w*"
    r"|Memory\w*|CPUUsageNSec|InvocationID|NRestarts|StatusText|Exec\w*Status|Exec\w*Code)"
)
_NUMBER = re.compile(r"\b\d+\b")


def _systemctl(broker: _Broker, command: str, arguments: list[str]) -> _Answer:
    verb, units, properties, known = _parsed(arguments)
    if not known or verb not in _LOOKS | _LOOKS_AT_RUNNING:
        return broker.act(command, arguments, _now(broker, verb, units))
    question = _question(command, arguments)
    if verb in _LOOKS_AT_RUNNING:
        broker.refuse_after_acts(question)
    if properties == ["NeedDaemonReload"] and broker.units_differ():
        key = "" if "--value" in arguments else "NeedDaemonReload="
        return _said(
            "\n\n".join([key + ("no" if broker.reloaded() else "yes")] * len(units)) + "\n"
        )
    of_running = verb != "show" and verb in _LOOKS_AT_RUNNING
    of_running |= bool(properties) and all(map(_OF_RUNNING.fullmatch, properties))
    if not of_running and broker.units_differ():
        raise UnknownError(f"{question} depends on units that this step writes")
    done = broker.ask(command, *arguments)
    if {"MainPID", "ControlPID"} & set(properties):
        broker.seen.unseen |= set(_NUMBER.findall(done.stdout.decode())) - {"0"}
    return done, ""


def _parsed(arguments: list[str]) -> tuple[str, list[str], list[str], bool]:
    """The verb, the units, the properties asked for, and whether each option is a known one."""
    words: list[str] = []
    properties: list[str] = []
    known = True
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            words.append(argument)
            continue
        name, _, value = argument.partition("=")
        if argument == "--version":
            words.append(argument)
        elif not _OPTIONS.match(argument):
            known = False
        elif name in _WITH_VALUE and not value:
            value = next(rest, "")
        if name in ("--property", "-p"):
            properties += value.split(",")
    return (words or ["list-units"])[0], words[1:], properties, known


def _now(broker: _Broker, verb: str, units: list[str]) -> str:
    """What the units are now that something would be done with."""
    if verb in ("reset-failed", "daemon-reload") or not units:
        return ""
    if any(unit in act.split() for unit in units for act in broker.seen.acts):
        return ""
    said = broker.ask("systemctl", "is-active", *units).stdout.decode().split()
    if len(said) != len(units):
        return ""
    if len(units) == 1:
        return f"{said[0]} now"
    return ", ".join(f"{unit} is {state} now" for unit, state in zip(units, said, strict=True))


def _sysctl(broker: _Broker, command: str, arguments: list[str]) -> _Answer:
    options = {argument for argument in arguments if argument.startswith("-")}
    words = [argument for argument in arguments if not argument.startswith("-")]
    quiet = options & {"-q", "--quiet"}
    silent = {"-n", "--values", "-q", "--quiet", "-w", "--write", "-e", "--ignore", "-N", "--names"}
    if not options <= silent or not words:
        return broker.act(command, arguments)
    out = ""
    for word in words:
        name, to, value = word.partition("=")
        name = name.strip().replace("/", ".")
        if name in broker.settings:
            before = broker.settings[name]
        else:
            done = broker.ask("sysctl", "-n", name)
            if done.returncode != 0:
                return done, ""
            before = done.stdout.decode().strip()
        if to:
            broker.settings[name] = value.strip()
            first, _ = broker.seen.settings.get(name, (before, ""))
            broker.seen.settings[name] = first, value.strip()
            out += "" if quiet else f"{name} = {value.strip()}\n"
        else:
            out += f"{before}\n" if options & {"-n", "--values"} else f"{name} = {before}\n"
    return _said(out)


_CURL = re.compile(r"-[fsSLIG]+|--(fail|silent|show-error|location|head|get|compressed)")
_CURL_WITH_VALUE = re.compile(
    r"-[moHw]|--(max-time|output|header|write-out|connect-timeout|retry|retry-delay|speed-limit"
    r"|speed-time|data-urlencode)"
)


def _curl(broker: _Broker, command: str, arguments: list[str]) -> _Answer:
    """Looks at an address of this host; whatever else curl can do has no answer here."""
    question = _question(command, arguments)
    file, url, passed = "", "", []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-o", "--output"):
            file = next(rest, "")
        elif argument in ("-L", "--location"):
            pass
        elif _CURL_WITH_VALUE.fullmatch(argument):
            passed += [argument, next(rest, "")]
        elif _CURL.fullmatch(argument):
            passed.append(argument.replace("L", "") if argument[1] != "-" else argument)
        elif argument.startswith("-") or url:
            raise UnknownError(f"{question} is not known: a rehearsal only looks at one address")
        else:
            url = argument
    posts = "--data-urlencode" in passed and not {"-G", "--get"} & set(passed)
    if posts or not _is_here(url):
        raise UnknownError(f"{question} is not known: a rehearsal has no network")
    broker.refuse_after_acts(question)
    size = str(LARGEST_ANSWER)
    done = broker.ask("curl", "-q", "--noproxy", "*", "--max-filesize", size, *passed, url)
    return done, file if file != "-" else ""


def _is_only_of_files(command: str, arguments: Sequence[str]) -> bool:
    """Whether a command asks nothing of the running system this time: it may run in the copy."""
    addresses = [word for word in arguments if "://" in word]
    return command == "curl" and bool(addresses) and all(a.startswith("file://") for a in addresses)


def _is_here(url: str) -> bool:
    with contextlib.suppress(ValueError):
        host = urllib.parse.urlsplit(url if "://" in url else f"http://{url}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    return False


def _ps(broker: _Broker, command: str, arguments: list[str]) -> _Answer:
    broker.refuse_after_acts(_question(command, arguments))
    broker.seen.unseen -= {number for word in arguments for number in _NUMBER.findall(word)}
    return broker.ask(command, *arguments), ""


def _prlimit(broker: _Broker, command: str, arguments: list[str]) -> _Answer:
    sets = [word for word in arguments if re.match(r"--(?!output|pid)[a-z]+=", word)]
    return (_act if sets else _ps)(broker, command, arguments)


def _snap(broker: _Broker, command: str, arguments: list[str]) -> _Answer:
    if arguments[:1] in (["list"], ["info"], ["version"], ["services"], ["connections"]):
        broker.refuse_after_acts(_question(command, arguments))
        return broker.ask(command, *arguments), ""
    return broker.act(command, arguments)


def _namespace(pid: int) -> str:
    """The namespace of processes that a process is in; "" if it has ended."""
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    return ""


def _free_memory() -> int:
    """Bytes that the kernel could give without writing anything out."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    return int(text.partition("MemAvailable:")[2].split()[0]) * 1024


COMMANDS: dict[str, Callable[[_Broker, str, list[str]], _Answer]] = {
    "systemctl": _systemctl,
    "sysctl": _sysctl,
    "curl": _curl,
    "ps": _ps,
    "prlimit": _prlimit,
    "snap": _snap,
    **dict.fromkeys(
        ("apparmor_parser", "modprobe", "systemd-run", "udevadm", "ufw", "nft", "iptables"), _act
    ),
}
"""The commands that have a stand-in. What else needs the running system fails in a rehearsal."""
