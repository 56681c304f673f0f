#!/usr/bin/env python3
"""epoch: epoch boundaries of a training job in etcd, and a look at the etcd

usage: epoch look [--check etcd|members|settings]
       epoch hold JOB [--ttl SECONDS] [--wait SECONDS] -- COMMAND...
       epoch commit JOB EPOCH CHECKPOINT [--within SECONDS]
       epoch show JOB

look tells of each member what a job depends on, and what is wrong with it, in a sentence each;
with --check it says only why that could not be relied on. Exit status 1: something is wrong.
hold runs COMMAND while it holds the job, under a lease that it keeps alive, with the fencing token
in EPOCH_TOKEN. A second one waits. If the lease is lost, COMMAND is ended.
commit writes the number of an epoch and the digest of its checkpoint in one transaction, and only
if the job is still held with EPOCH_TOKEN, and nobody has written since it was read. It may be
repeated. Exit status 3: refused, end; 1: not known, since etcd did not answer in time.
show prints what is committed: what a job resumes from.

It needs Python's own library alone, and takes ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT,
ETCDCTL_KEY and ETCDCTL_USER as etcdctl does.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import contextlib
import email.utils
import hashlib
import http.client
import itertools
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

TIMEOUT = 10.0  # seconds that a member may take for an answer
HURRIED = 2.0  # the same where another could be asked
PATIENCE = 60.0  # seconds for which etcd is asked again, as while a leader is elected
OLDEST = (3, 4)  # which has the same requests as JSON below /v3
FULL, LOOSE, SLOW, APART = (
    0.8,
    0.5,
    0.01,
    3,
)  # of the quota; of the file; seconds of a sync; of time
ROOM = 64 << 20  # bytes that are worth the stop of a member, which is what defragmenting is
WRONG, REFUSED, INTERRUPTED = 1, 3, 130
Answer = TypeVar("Answer")


class EpochError(Exception):
    """What is wrong, where, and what to do: one sentence."""


class RefusedError(EpochError):
    """etcd has answered, and the answer is no."""


class AwayError(EpochError):
    """Nobody has answered: what was asked for is done, or not."""


def patiently(ask: Callable[[], Answer], deadline: float) -> Answer:
    """Ask again while nobody answers. What is asked here may be asked twice."""
    while True:
        try:
            return ask()
        except AwayError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    return base64.b64decode(text).decode(errors="replace")


class Etcd:
    """The members that are asked, one after the other until one answers."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        said = environment.get("ETCDCTL_ENDPOINTS", "") or "http://127.0.0.1:2379"
        self.endpoints = [
            (one if "://" in one else f"http://{one}").rstrip("/") for one in said.split(",")
        ]
        self.user = environment.get("ETCDCTL_USER", "")
        self.authority = environment.get("ETCDCTL_CACERT") or None
        self.token = ""
        try:
            self.context = ssl.create_default_context(cafile=self.authority)
            if environment.get("ETCDCTL_CERT"):
                key = environment.get("ETCDCTL_KEY") or None
                self.context.load_cert_chain(environment["ETCDCTL_CERT"], key)
        except OSError as error:
            raise EpochError(
                f"ETCDCTL_CACERT, ETCDCTL_CERT or ETCDCTL_KEY cannot be used ({error}):"
                " name files in PEM that are there"
            ) from None

    def get(self, url: str) -> tuple[bytes, float]:
        """What is at an address, and by how many seconds its clock is ahead of ours."""
        before = time.time()
        content, headers = self._ask(urllib.request.Request(url))  # noqa: S310 - etcd's
        told = email.utils.parsedate_to_datetime(headers["Date"]).timestamp()
        after = time.time()
        # It tells whole seconds, at some moment between the two.
        ahead = told - after if told > after else min(0.0, told + 1 - before)
        return content, ahead

    def call(
        self, path: str, body: Mapping[str, Any], at: str = "", within: float = TIMEOUT
    ) -> dict[str, Any]:
        """What a member answers to a request: the one at that address, or the first that does.

        That one is asked first the next time.
        """
        if self.user and not self.token and path != "auth/authenticate":
            name, _, password = self.user.partition(":")
            said = self.call("auth/authenticate", {"name": name, "password": password})
            self.token = said["token"]
        away = None
        several = not at and len(self.endpoints) > 1
        # One that stands still is not waited for in the first round: others may answer at once.
        rounds = (min(within, HURRIED), within) if several else (within,)
        for limit, endpoint in itertools.product(rounds, [at] if at else list(self.endpoints)):
            request = urllib.request.Request(  # noqa: S310 - etcd's
                f"{endpoint}/v3/{path}", json.dumps(body).encode()
            )
            if self.token:
                request.add_header("Authorization", self.token)
            try:
                content, _ = self._ask(request, limit)
            except AwayError as error:
                away = error
                continue
            if several:
                self.endpoints.remove(endpoint)
                self.endpoints.insert(0, endpoint)
            answer: dict[str, Any] = json.loads(content)
            return answer
        assert away is not None
        raise away

    def _ask(
        self, request: urllib.request.Request, within: float = TIMEOUT
    ) -> tuple[bytes, Mapping[str, str]]:
        where = f"{request.type}://{request.host}"
        opener = urllib.request.build_opener(  # no proxy: it may know nothing of the cluster
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.context)
        )
        try:
            with opener.open(request, timeout=within) as answer:
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            self._refused(where, error.code, error.read().decode(errors="replace"))
        except urllib.error.URLError as error:
            self._away(where, error.reason)
        except (OSError, http.client.HTTPException) as error:
            self._away(where, error)

    def _refused(self, where: str, status: int, text: str) -> NoReturn:
        try:
            said = json.loads(text)
            why = said.get("message") or said.get("error") or text
        except (ValueError, AttributeError):
            raise EpochError(
                f"{where} is no etcd of 3.4 or later ({status}): see what runs there"
            ) from None
        name = self.user.partition(":")[0]
        if "user name is empty" in why or "invalid auth token" in why:
            raise EpochError(f"{where} asks for a user: set ETCDCTL_USER=NAME:PASSWORD")
        if "authentication failed" in why:
            raise EpochError(f"{where} does not know {name} with that password: see ETCDCTL_USER")
        if "permission denied" in why:
            raise EpochError(
                f"the user {name} may not do that at {where} (permission denied):"
                " have it granted with etcdctl role grant-permission, or take another ETCDCTL_USER"
            )
        if "database space exceeded" in why:
            raise RefusedError(
                f"etcd at {where} is full (mvcc: database space exceeded):"
                " make room with the runbook training/coordinate, then try again"
            )
        if re.search("no leader|timed out|too many requests|unavailable|leader changed", why):
            raise AwayError(
                f"{where} has no majority of the members with it ({why}):"
                " start those that are away, with their data"
            )
        raise EpochError(f"{where} refuses it ({why}): see the log of that member")

    def _away(self, where: str, error: object) -> NoReturn:
        text = str(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            known = f"the CA in {self.authority}" if self.authority else "a CA that this host knows"
            raise EpochError(
                f"{where} has a certificate that is not of {known} ({error.verify_message}):"
                " name the one that has issued it in ETCDCTL_CACERT"
            )
        if re.search("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNEXPECTED_EOF", text):
            plain = where.replace("https:", "http:", 1)
            raise EpochError(f"{where} does not answer as TLS: if it speaks none, say {plain}")
        if "CERTIFICATE_REQUIRED" in text or "BAD_CERTIFICATE" in text:
            raise EpochError(
                f"{where} asks for a client's certificate: name one that its CA has issued"
                " in ETCDCTL_CERT and ETCDCTL_KEY"
            )
        if isinstance(error, socket.gaierror):
            raise AwayError(f"the name in {where} is not known here: correct ETCDCTL_ENDPOINTS")
        if isinstance(error, TimeoutError) or "timed out" in text:
            raise AwayError(
                f"{where} does not answer in time: see whether a majority of the"
                " members runs, its process stands still, or its disk hangs"
            )
        if isinstance(error, ConnectionResetError) and where.startswith("http:"):
            tls = where.replace("http:", "https:", 1)
            raise EpochError(
                f"{where} ends the connection, as one does that speaks TLS: say {tls}, and name"
                " its CA in ETCDCTL_CACERT"
            )
        raise AwayError(
            f"nobody answers at {where} ({text}): start that member, or correct ETCDCTL_ENDPOINTS"
        )


# What a job does.


@dataclass
class Job:
    """What etcd has of a job at one revision. A revision of 0: there is no such key."""

    epoch: int = -1
    checkpoint: str = ""
    holder: str = ""
    written: int = 0  # the revision at which the epoch was written
    saved: int = 0  # the same of its checkpoint
    token: int = 0  # the revision at which the job was taken
    lease: str = ""  # under which it is held


class Jobs:
    """The job of that name, in an etcd."""

    def __init__(self, etcd: Etcd, name: str) -> None:
        if not re.fullmatch(r"[\w.-]+", name):
            raise EpochError(f"'{name}' is no name for a job: use letters, digits, ., _ and -")
        self.etcd, self.name = etcd, name
        self.prefix = f"/jobs/{name}/"
        self.all = {"key": coded(self.prefix), "range_end": coded(f"/jobs/{name}0")}  # 0 is after /

    def key(self, what: str) -> str:
        return coded(self.prefix + what)

    def read(self) -> Job:
        """All keys with one request, so that they are of one revision."""
        return self.of(self.etcd.call("kv/range", self.all))

    def of(self, answer: Mapping[str, Any]) -> Job:
        job = Job()
        for pair in answer.get("kvs", []):
            what = decoded(pair["key"]).removeprefix(self.prefix)
            value = decoded(pair.get("value", ""))
            if what == "epoch":
                job.epoch, job.written = int(value), int(pair["mod_revision"])
            elif what == "checkpoint":
                job.checkpoint, job.saved = value, int(pair["mod_revision"])
            elif what == "holder":
                job.holder, job.token = value, int(pair["create_revision"])
                job.lease = pair.get("lease", "")
        return job

    def take(self, lease: str) -> tuple[int, Job]:
        """The token, if nobody holds the job; else 0, and who does."""
        me = f"{socket.gethostname()}:{os.getpid()}"
        put = {"key": self.key("holder"), "value": coded(me), "lease": lease}
        free = {"key": self.key("holder"), "target": "CREATE", "create_revision": 0}
        transaction = {
            "compare": [free],
            "success": [{"request_put": put}],
            "failure": [{"request_range": self.all}],
        }
        answer = self.etcd.call("kv/txn", transaction)
        if answer.get("succeeded"):
            return int(answer["header"]["revision"]), Job()
        found = self.of(answer["responses"][0]["response_range"])
        return (found.token, Job()) if found.lease == lease else (0, found)  # or taken by us before

    def commit(self, token: int, epoch: int, checkpoint: str, deadline: float) -> str:
        """Write both keys at one revision; what to tell."""
        seen = patiently(self.read, deadline)
        held = {"key": self.key("holder"), "target": "CREATE", "create_revision": token}
        same = {"key": self.key("epoch"), "target": "MOD", "mod_revision": seen.written}
        puts = {"epoch": str(epoch), "checkpoint": checkpoint}
        transaction = {
            "compare": [held, same],
            "success": [
                {"request_put": {"key": self.key(what), "value": coded(value)}}
                for what, value in puts.items()
            ],
            "failure": [{"request_range": self.all}],
        }
        if (seen.epoch, seen.checkpoint, seen.token) == (epoch, checkpoint, token):
            return f"unchanged: {self.name} is at epoch {epoch}"
        if seen.token == token and seen.epoch >= epoch:
            raise RefusedError(self.superseded(seen, epoch))

        def write() -> Any:
            return self.etcd.call("kv/txn", transaction)

        answer = patiently(write, deadline)
        if answer.get("succeeded"):
            revision = answer["header"]["revision"]
            return f"committed: {self.name} is at epoch {epoch}, revision {revision}"
        found = self.of(answer["responses"][0]["response_range"])
        if (found.epoch, found.checkpoint, found.token) == (epoch, checkpoint, token):
            # Sent again after its answer was lost: the first one was taken.
            return f"committed: {self.name} is at epoch {epoch}, revision {found.written}"
        if found.token != token:
            who = f"{found.holder} with token {found.token}" if found.token else "nobody"
            raise RefusedError(
                f"{self.name} is no longer held with token {token}, but by {who}:"
                " nothing was written; end this process"
            )
        raise RefusedError(self.superseded(found, epoch))

    def superseded(self, found: Job, epoch: int) -> str:
        return (
            f"{self.name} is at epoch {found.epoch} already ({found.checkpoint}), and {epoch} is"
            " not after it: nothing was written; read it with epoch show, and go on from there"
        )


class Lease:
    """A lease that is kept alive until it is ended, or lost."""

    def __init__(self, etcd: Etcd, seconds: int) -> None:
        self.etcd, self.seconds = etcd, seconds
        self.until = time.monotonic() + seconds  # counted from before the question: never too long
        self.id: str = etcd.call("lease/grant", {"TTL": seconds})["ID"]
        self.ended = threading.Event()
        self.lost = threading.Event()
        self.thread = threading.Thread(target=self._keep, daemon=True)
        self.thread.start()

    def _keep(self) -> None:
        while not self.ended.wait(self.seconds / 4):
            begun = time.monotonic()
            try:
                answer = self.etcd.call("lease/keepalive", {"ID": self.id}, within=self.seconds / 4)
                left = int(answer["result"].get("TTL", 0))
            except AwayError:
                left = -1  # not known
            except EpochError:
                left = 0
            if left > 0:
                self.until = begun + left
            if left == 0 or time.monotonic() > self.until:
                self.lost.set()
                return

    def end(self) -> None:
        """Give it back, so that nobody has to wait."""
        self.ended.set()
        self.thread.join()
        with contextlib.suppress(EpochError):  # it may be over, and else it ends by itself
            self.etcd.call("lease/revoke", {"ID": self.id})


def hold(job: Jobs, seconds: int, wait: float, command: Sequence[str]) -> int:
    """Run a command while the job is held; its exit status."""
    deadline = time.monotonic() + wait
    lease = patiently(lambda: Lease(job.etcd, seconds), deadline)
    token, other = patiently(lambda: job.take(lease.id), deadline)
    while not token:
        if time.monotonic() > deadline:
            lease.end()
            raise RefusedError(
                f"{job.name} is held by {other.holder} still, after {wait:g} s: see whether that"
                " process runs; if not, its lease ends by itself"
            )
        time.sleep(0.3)
        token, other = patiently(lambda: job.take(lease.id), deadline)
    environment = {**os.environ, "EPOCH_TOKEN": str(token)}
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        lease.end()
        raise EpochError(f"{command[0]} cannot be run ({error.strerror}): correct it") from None
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from the keyboard, the command has it, too
    while process.poll() is None and not lease.lost.is_set():
        time.sleep(0.1)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        raise RefusedError(f"the lease of {job.name} was lost: the command was ended; start again")
    lease.end()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


# What a look tells.


@dataclass
class Member:
    """A member, as it is now. ``away`` is why nothing is known of it."""

    name: str
    url: str
    away: str = ""
    version: str = "?"
    leader: str = ""
    id: str = ""
    size: int = 0
    used: int = 0
    quota: int = 0
    revision: int = 0
    behind: int = 0  # entries of the log that it has not applied
    sync: float = 0.0  # seconds within which 99 of 100 syncs of its log are done
    ahead: float = 0.0
    settings: dict[str, str] = field(default_factory=dict)  # of its process, if it is here

    @property
    def compaction(self) -> str:
        """How it forgets what is old; "" if it does not."""
        retention = self.settings.get("auto-compaction-retention", "0")
        mode = self.settings.get("auto-compaction-mode", "periodic")
        return "" if retention == "0" else f"{mode} {retention}"


def metric(text: str, name: str) -> float:
    """A number that a member tells; 0 if it has none."""
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def most(text: str, name: str) -> float:
    """The bound of a histogram's bucket that 99 of 100 are in; 0 if fewer than 100 were counted."""
    rows = re.findall(rf'^{name}_bucket{{le="([^"]+)"}} (\S+)$', text, re.MULTILINE)
    total = float(rows[-1][1]) if rows else 0.0
    return next((float(le) for le, n in rows if total >= 100 and float(n) >= 0.99 * total), 0.0)


def local(name: str) -> dict[str, str]:
    """The settings that a member's process on this host was started with."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text() != "etcd\n":
                continue
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            pairs = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        said = {}
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key.startswith("ETCD_"):
                said[key.removeprefix("ETCD_").lower().replace("_", "-")] = value
        flags = re.findall(r"(?:^|\0)--?([a-z][a-z-]*)[=\0]([^\0]*)", "\0".join(words))
        if {**said, **dict(flags)}.get("name", "default") == name:
            return {**said, **dict(flags), "flags": " ".join(key for key, _ in flags)}
    return {}


def member(etcd: Etcd, name: str, url: str) -> Member:
    """What one member tells of itself."""
    seen = Member(name, url)
    try:
        content, seen.ahead = etcd.get(f"{url}/metrics")
        text = content.decode()
        status = etcd.call("maintenance/status", {}, url)
    except AwayError as error:
        seen.away = str(error)
        return seen
    seen.version, seen.id = status["version"], status["header"]["member_id"]
    seen.leader = "" if status.get("leader", "0") == "0" else status["leader"]
    seen.size, seen.used = int(status.get("dbSize", 0)), int(status.get("dbSizeInUse", 0))
    seen.revision = int(status["header"].get("revision", 0))
    seen.behind = int(status.get("raftIndex", 0)) - int(status.get("raftAppliedIndex", 0))
    seen.quota = int(metric(text, "etcd_server_quota_backend_bytes"))
    seen.sync = most(text, "etcd_disk_wal_fsync_duration_seconds")
    seen.settings = local(name)
    return seen


def must_be_etcd(etcd: Etcd) -> None:
    """Raise :class:`EpochError` if none of the addresses is an etcd that lets us in."""
    away = []
    for endpoint in etcd.endpoints:
        try:
            content, _ = etcd.get(f"{endpoint}/version")
        except AwayError as error:
            away.append(str(error))
            continue
        try:
            version = json.loads(content)["etcdserver"]
            number = tuple(map(int, version.split(".")[:2]))
        except (ValueError, TypeError, KeyError):
            raise EpochError(f"{endpoint} is no etcd: correct ETCDCTL_ENDPOINTS") from None
        if number < OLDEST:
            raise EpochError(
                f"{endpoint} is etcd {version}, and this needs {'.'.join(map(str, OLDEST))} or"
                " later: upgrade it, one minor release at a time"
            )
        # Asks no majority, and the rights that a job needs.
        etcd.call("kv/range", {"key": coded("/jobs/"), "serializable": True}, endpoint)
        return
    raise EpochError(away[0])


def members(etcd: Etcd) -> list[Member]:
    """All members that the first one to answer knows of."""
    listed = etcd.call("cluster/member/list", {})["members"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(
            pool.map(
                lambda one: member(etcd, one.get("name", "?"), (one.get("clientURLs") or ["?"])[0]),
                listed,
            )
        )


def wrong(etcd: Etcd, all_: Sequence[Member]) -> list[str]:
    """What is wrong, the worst first: a sentence each."""
    here = [one for one in all_ if not one.away]
    found = [f"{one.name} is away: {one.away}" for one in all_ if one.away]
    majority = 2 * len(here) > len(all_)
    if not majority:
        found.insert(
            0,
            f"{len(here)} of {len(all_)} members answer, which is no majority: nothing can be"
            " committed until more are started, with their data",
        )
    elif not any(one.leader for one in here):
        found.insert(0, "no member leads: see whether they reach each other at their peer URLs")
    alarms: list[dict[str, str]] = []
    if majority:  # it is asked, too
        said = patiently(
            lambda: etcd.call("maintenance/alarm", {"action": "GET"}), time.monotonic() + PATIENCE
        )
        alarms = said.get("alarms", [])
    for alarm in alarms:
        of = next((one.name for one in here if one.id == alarm["memberID"]), alarm["memberID"])
        found.append(
            f"{of} has raised the alarm {alarm['alarm']}: "
            + (
                "all members refuse writes (mvcc: database space exceeded) until room is made"
                if alarm["alarm"] == "NOSPACE"
                else "its data are damaged: remove it, and add it anew with an empty directory"
            )
        )
    for one in here:
        if one.quota and one.size > FULL * one.quota:
            found.append(
                f"{one.name} has {mb(one.size)} of {mb(one.quota)} in its file, and at the quota"
                " every write is refused: compact and defragment it, or raise the quota"
            )
        if one.size > ROOM and one.used < LOOSE * one.size:
            found.append(
                f"{one.name} uses {mb(one.used)} of a file of {mb(one.size)}: defragment it"
            )
        if one.behind > 1000:
            found.append(f"{one.name} is {one.behind} entries behind: see its disk and processor")
        if abs(one.ahead) > APART:
            found.append(
                f"the clock of {one.name} is {abs(one.ahead):.0f} s"
                f" {'ahead of' if one.ahead > 0 else 'behind'} this host's: see timedatectl on both"
            )
    if names := [one.name for one in here if one.settings and not one.compaction]:
        found.append(
            f"no auto-compaction ({', '.join(names)}): each value that a key has had is kept, until"
            " etcd is full"
        )
    if slow := [f"{one.name} {1000 * one.sync:g}" for one in here if one.sync > SLOW]:
        found.append(
            f"one in a hundred syncs of the log takes long ({', '.join(slow)} ms at most, and etcd"
            " asks for less than 10): give it a disk of its own, or fewer writes"
        )
    for what in ("version", "quota"):
        if len(values := {getattr(one, what) for one in here}) > 1:
            found.append(
                f"the members differ in {what} ({', '.join(sorted(map(str, values)))}):"
                " give all of them the same"
            )
    return found


def mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def table(all_: Sequence[Member]) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("member", "", "version", "file", "in use", "quota", "sync", "clock", "compaction")
    ]
    for one in all_:
        if one.away:
            rows.append((one.name, "AWAY", *[""] * 7))
            continue
        rows.append(
            (
                one.name,
                "leads" if one.leader and one.leader == one.id else "",
                one.version,
                mb(one.size),
                mb(one.used),
                mb(one.quota),
                f"<{1000 * one.sync:g} ms" if one.sync else "?",
                f"{one.ahead:+.0f} s",
                (one.compaction or "none") if one.settings else "(on its host)",
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def must_hold(etcd: Etcd, what: str) -> None:
    """Raise :class:`EpochError` if that cannot be relied on."""
    must_be_etcd(etcd)
    if what == "etcd":
        return
    all_ = members(etcd)
    away = [one for one in all_ if one.away]
    if what == "members" and away:
        raise EpochError(
            f"{', '.join(one.name for one in away)} of {len(all_)} members do not answer, such as:"
            f" {away[0].away}; then run this again"
        )
    if what == "settings":
        # By its number: what it advertises may be another address than the one that is asked.
        said = [etcd.call("maintenance/status", {}, endpoint) for endpoint in etcd.endpoints]
        asked = {one["header"]["member_id"] for one in said}
        for one in all_:
            if one.id not in asked:
                continue
            if not one.settings:
                raise EpochError(
                    f"no process of the member {one.name} runs on this host, or it is not for this"
                    f" user to see: run this as root on the host that {one.url} is on"
                )
            if one.settings.get("config-file"):
                raise EpochError(
                    f"{one.name} reads its settings from {one.settings['config-file']} alone:"
                    " put auto-compaction-retention and quota-backend-bytes there, and restart it"
                )
            given = {"auto-compaction-mode", "auto-compaction-retention", "quota-backend-bytes"}
            if over := given & set(one.settings.get("flags", "").split()):
                raise EpochError(
                    f"{one.name} is started with --{sorted(over)[0]}, and etcd does not start if a"
                    " file of settings has the same: take it out of its unit, or of DAEMON_ARGS"
                )


def look(etcd: Etcd) -> int:
    must_be_etcd(etcd)
    all_ = members(etcd)
    print("\n".join(table(all_)))
    found = wrong(etcd, all_)
    print("\n".join(found or ["nothing is wrong that can be seen from here"]))
    return WRONG if found else 0


def show(job: Jobs) -> None:
    seen = patiently(job.read, time.monotonic() + PATIENCE)
    if not seen.written:
        raise EpochError(f"nothing is committed for {job.name}: begin anew, or correct the name")
    digest, _, path = seen.checkpoint.partition("  ")
    print(f"epoch: {seen.epoch}\ncheckpoint: {path}\nsha256: {digest}\nrevision: {seen.written}")
    print(f"holder: {seen.holder or 'nobody'}")
    if seen.saved != seen.written:
        raise EpochError(
            f"the epoch of {job.name} is of revision {seen.written} and its checkpoint of"
            f" {seen.saved}: they were not written by epoch commit; take neither for whole"
        )


def commit(job: Jobs, epoch: int, checkpoint: Path, within: float) -> None:
    token = os.environ.get("EPOCH_TOKEN", "")
    if not token.isdecimal():
        raise EpochError("EPOCH_TOKEN is not set: run the job under epoch hold, which sets it")
    try:
        with checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EpochError(
            f"{checkpoint} cannot be read ({error.strerror}): save the checkpoint first"
        ) from None
    said = f"{digest}  {checkpoint.absolute()}"
    print(job.commit(int(token), epoch, said, time.monotonic() + within))


def main(arguments: list[str]) -> int:
    """Do what the arguments say; the exit status."""
    parser = argparse.ArgumentParser(
        prog="epoch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    looking = commands.add_parser("look")
    looking.add_argument("--check", choices=("etcd", "members", "settings"))
    holding = commands.add_parser("hold")
    holding.add_argument("job")
    holding.add_argument("--ttl", type=int, default=10)
    holding.add_argument("--wait", type=float, default=PATIENCE)
    holding.add_argument("run", nargs="+", metavar="COMMAND")
    committing = commands.add_parser("commit")
    committing.add_argument("job")
    committing.add_argument("epoch", type=int)
    committing.add_argument("checkpoint", type=Path)
    committing.add_argument("--within", type=float, default=PATIENCE)
    commands.add_parser("show").add_argument("job")
    given = parser.parse_args(arguments)
    try:
        etcd = Etcd(os.environ)
        if given.command == "look" and given.check:
            must_hold(etcd, given.check)
        elif given.command == "look":
            return look(etcd)
        elif given.command == "hold":
            return hold(Jobs(etcd, given.job), given.ttl, given.wait, given.run)
        elif given.command == "commit":
            commit(Jobs(etcd, given.job), given.epoch, given.checkpoint, given.within)
        else:
            show(Jobs(etcd, given.job))
    except KeyboardInterrupt:
        print("epoch: interrupted: nothing more is done; a lease ends by itself", file=sys.stderr)
        return INTERRUPTED
    except EpochError as error:
        print(f"epoch: {error}", file=sys.stderr)
        return REFUSED if isinstance(error, RefusedError) else WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
