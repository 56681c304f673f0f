"""epoch, the program of the runbook training/coordinate, against an etcd that is made up.

What a real one does stands in the runbook, which runs it. Here is what cannot be had from it at
will: a release that is too old, a clock that is apart, and an answer that is lost.
"""

from __future__ import annotations

import email.utils
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from project import wait_for

PROGRAM = Path(__file__).parents[2] / "runbooks/training/coordinate/epoch.py"
spec = importlib.util.spec_from_file_location("epoch", PROGRAM)
assert spec
assert spec.loader
epoch = sys.modules["epoch"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(epoch)

SYNCS = 'etcd_disk_wal_fsync_duration_seconds_bucket{{le="{}"}} {}\n'


class Answers(BaseHTTPRequestHandler):
    """One member: a path's answer, a status and text, or what happens before it answers."""

    told: ClassVar[dict[str, Any]] = {}
    ahead: ClassVar[float] = 0.0  # seconds of its clock

    def date_time_string(self, timestamp: float | None = None) -> str:
        return email.utils.formatdate(time.time() + self.ahead, usegmt=True)

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(size)) if size else {}
        status, text = 200, self.told.get(self.path, (404, "404 page not found"))
        if callable(text):
            text = text(body)
        if isinstance(text, tuple):
            status, text = text
        content = (text if isinstance(text, str) else json.dumps(text)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # noqa: N815 - the library's names


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    listed = {"members": [{"name": "m1", "ID": "1", "clientURLs": [url]}]}
    monkeypatch.setattr(Answers, "ahead", 0.0)
    monkeypatch.setattr(
        Answers,
        "told",
        {
            "/version": {"etcdserver": "3.5.16"},
            "/metrics": "etcd_server_quota_backend_bytes 2e+09\n",
            "/v3/kv/range": {"header": {"revision": "1"}},
            "/v3/cluster/member/list": listed,
            "/v3/maintenance/alarm": {},
            "/v3/maintenance/status": {
                "header": {"member_id": "1", "revision": "1"},
                "version": "3.5.16",
                "leader": "1",
            },
        },
    )
    yield epoch.Etcd({"ETCDCTL_ENDPOINTS": url, "ETCDCTL_USER": ""})
    server.shutdown()
    server.server_close()


def refused(why: str, status: int = 400) -> tuple[int, str]:
    return status, json.dumps({"error": why, "code": 3, "message": why})


@pytest.mark.parametrize(
    ("path", "answer", "says"),
    [
        ("/version", {"etcdserver": "3.3.27"}, r"is etcd 3\.3\.27, and this needs 3\.4 or later"),
        ("/version", {"name": "x"}, "is no etcd: correct ETCDCTL_ENDPOINTS"),
        ("/version", (404, "404 page not found"), r"is no etcd of 3\.4 or later \(404\)"),
        ("/v3/kv/range", refused("etcdserver: user name is empty"), "set ETCDCTL_USER=NAME"),
        ("/v3/kv/range", refused("etcdserver: permission denied", 403), "may not do that"),
        (
            "/v3/kv/range",
            refused("etcdserver: mvcc: database space exceeded", 429),
            r"is full \(mvcc: database space exceeded\)",
        ),
        (
            "/v3/kv/range",
            refused("etcdserver: request timed out", 504),
            r"has no majority of the members with it \(etcdserver: request timed out\)",
        ),
    ],
)
def test_what_cannot_be_relied_on_is_said_in_a_sentence(
    etcd: Any, path: str, answer: Any, says: str
) -> None:
    epoch.must_be_etcd(etcd)
    Answers.told[path] = answer
    with pytest.raises(epoch.EpochError, match=says) as caught:
        epoch.must_be_etcd(etcd)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "no process of the member m1 runs on this host"),
        ({"config-file": "/etc/etcd.yml"}, "reads its settings from /etc/etcd.yml alone"),
        ({"name": "m1", "flags": "name quota-backend-bytes"}, "with --quota-backend-bytes"),
    ],
)
def test_what_a_member_is_started_with_is_asked_whatever_it_advertises(
    etcd: Any, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], says: str
) -> None:
    here = etcd.endpoints[0].replace("127.0.0.1", "localhost")
    Answers.told["/v3/cluster/member/list"] = {"members": [{"name": "m1", "clientURLs": [here]}]}
    monkeypatch.setattr(epoch, "local", lambda _: settings)
    with pytest.raises(epoch.EpochError, match=says):
        epoch.must_hold(etcd, "settings")


@pytest.mark.parametrize(
    ("ahead", "says"), [(60.0, "60 s ahead of"), (-60.0, "60 s behind"), (0.0, "")]
)
def test_a_clock_that_is_apart_is_said(etcd: Any, ahead: float, says: str) -> None:
    Answers.ahead = ahead
    (one,) = epoch.members(etcd)
    found = [line for line in epoch.wrong(etcd, [one]) if "clock" in line]
    assert bool(found) == bool(says)
    # A busy machine adds to what lies between question and answer, and takes nothing away.
    assert not says or abs(one.ahead - ahead) < 30
    assert says.partition(" s ")[2] in "".join(found)


@pytest.mark.parametrize(("fast", "slow", "says"), [(990, 0, ""), (900, 90, "m1 64"), (0, 9, "")])
def test_a_slow_disk_is_said_once_enough_was_counted(
    etcd: Any, fast: int, slow: int, says: str
) -> None:
    rows = {"0.008": fast, "0.064": fast + slow, "+Inf": fast + slow}
    Answers.told["/metrics"] = "".join(SYNCS.format(le, n) for le, n in rows.items())
    found = [line for line in epoch.wrong(etcd, epoch.members(etcd)) if "syncs" in line]
    assert [says in line for line in found] == ([True] if says else [])


@pytest.mark.parametrize("mine", [True, False])
def test_what_was_sent_again_after_its_answer_was_lost_is_taken_once(etcd: Any, mine: bool) -> None:
    """The first answer is lost; meanwhile the epoch is there, by us or by somebody else."""
    job = epoch.Jobs(etcd, "a")
    keys = {"holder": ("me", 7, 7), "epoch": ("4", 5, 5), "checkpoint": ("old", 5, 5)}
    sent = []

    def read(_: Any = None) -> Any:
        return {
            "header": {"revision": "9"},
            "kvs": [
                {
                    "key": job.key(name),
                    "value": epoch.coded(value),
                    "create_revision": str(created),
                    "mod_revision": str(written),
                }
                for name, (value, created, written) in keys.items()
            ],
        }

    def write(body: Any) -> Any:
        sent.append(body)
        if len(sent) == 1:
            keys["epoch"] = ("5", 5, 8)
            keys["checkpoint"] = ("new" if mine else "of another", 5, 8)
            return refused("etcdserver: request timed out", 504)
        return {"header": {"revision": "9"}, "responses": [{"response_range": read()}]}

    Answers.told |= {"/v3/kv/range": read, "/v3/kv/txn": write}
    deadline = time.monotonic() + 60
    if mine:
        assert job.commit(7, 5, "new", deadline) == "committed: a is at epoch 5, revision 8"
    else:
        with pytest.raises(epoch.RefusedError, match=r"is at epoch 5 already \(of another\)"):
            job.commit(7, 5, "new", deadline)
    assert sent[0] == sent[1]
    assert [one["target"] for one in sent[0]["compare"]] == ["CREATE", "MOD"]


def test_a_member_that_stands_still_is_passed_over(
    etcd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch, "HURRIED", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as still:  # it takes connections, and says nothing
        both = [f"http://127.0.0.1:{still.getsockname()[1]}", etcd.endpoints[0]]
        several = epoch.Etcd({"ETCDCTL_ENDPOINTS": ",".join(both)})
        assert several.call("kv/range", {})["header"]["revision"] == "1"
        assert several.endpoints == both[::-1]  # which is asked first the next time


def test_a_job_whose_lease_is_lost_is_ended(etcd: Any) -> None:
    Answers.told |= {
        "/v3/lease/grant": {"ID": "1", "TTL": "1"},
        "/v3/kv/txn": {"header": {"revision": "7"}, "succeeded": True},
        "/v3/lease/keepalive": {"result": {"ID": "1"}},  # no TTL: it is over
        "/v3/lease/revoke": {},
    }
    with pytest.raises(epoch.RefusedError, match="the lease of a was lost: the command was ended"):
        epoch.hold(epoch.Jobs(etcd, "a"), 1, 5, ["sleep", "600"])


@pytest.mark.parametrize("runs", [True, False], ids=["while it runs", "while it waits"])
def test_an_interrupt_from_the_keyboard(etcd: Any, tmp_path: Path, runs: bool) -> None:
    """The command ends as it does without epoch; who waits is told in a sentence."""
    other = {"response_range": {"kvs": [{"key": "", "value": "bXk=", "mod_revision": "3"}]}}
    Answers.told |= {
        "/v3/lease/grant": {"ID": "1", "TTL": "60"},
        "/v3/kv/txn": {"header": {"revision": "7"}, "succeeded": runs, "responses": [other] * 4},
        "/v3/lease/keepalive": {"result": {"ID": "1", "TTL": "60"}},
        "/v3/lease/revoke": {},
    }
    asked = tmp_path / "asked"
    Answers.told["/v3/kv/txn"] = lambda body, said=Answers.told["/v3/kv/txn"]: asked.touch() or said
    saves = "trap 'sleep 0.5; echo saved; exit 4' INT; touch $0; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        [
            sys.executable,
            PROGRAM,
            "hold",
            "--ttl=60",
            "a",
            "--",
            "sh",
            "-c",
            saves,
            tmp_path / "began",
        ],
        env={**os.environ, "ETCDCTL_ENDPOINTS": etcd.endpoints[0], "ETCDCTL_USER": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Pytest may be run where the keyboard's signal is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    wait_for((tmp_path / ("began" if runs else "asked")).exists)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    if runs:
        assert (process.returncode, out, err) == (4, "saved\n", "")
    else:
        assert (process.returncode, out) == (130, "")
        assert err == "epoch: interrupted: nothing more is done; a lease ends by itself\n"
