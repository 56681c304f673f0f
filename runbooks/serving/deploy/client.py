"""A client of the Open Inference Protocol, version 2, over REST, in Python without packages.

usage: client.py check URL MODEL QUESTION EXPECT
       client.py load URL MODEL QUESTION EXPECT    until it is told to end (SIGTERM); counts

QUESTION is a file with a request's JSON; "": a row of zeros is sent. EXPECT is the place of the
largest number in the answer's first output; -1: any. URL is http://ADDRESS:PORT.
"""

from __future__ import annotations

import collections
import http.client
import json
import signal
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

TIMEOUT = 120
KEPT, ANEW = 1, 1  # clients that keep their connection, and that make one for each request
PAUSE = 0.05  # seconds between two requests of a client


class WrongError(Exception):
    """An answer that is not what was asked for. Says why."""


class Client:
    """One connection to a model; ``anew`` gives each request one of its own."""

    def __init__(self, url: str, model: str, question: str, expect: int, *, anew: bool) -> None:
        self.address = urllib.parse.urlsplit(url).netloc
        self.path = f"/v2/models/{model}"
        self.expect, self.anew = expect, anew
        self.connection = self._connection()
        self.question = Path(question).read_text() if question else self._zeros()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=TIMEOUT)

    def get(self, path: str) -> Any:
        """What is said at a path; None if it is nothing but a status of 200."""
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        if self.anew:
            self.connection.close()
            self.connection = self._connection()
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        if answer.status != http.HTTPStatus.OK:
            raise WrongError(f"status {answer.status} {text.strip()}".strip())
        return json.loads(text) if text else None

    def _zeros(self) -> str:
        inputs = []
        for port in self.get(self.path)["inputs"]:
            shape = [max(size, 1) for size in port["shape"]]
            count = 1
            for size in shape:
                count *= size
            data = [False if port["datatype"] == "BOOL" else 0] * count
            inputs.append({**port, "shape": shape, "data": data})
        return json.dumps({"inputs": inputs})

    def infer(self) -> tuple[int, float]:
        """Where the answer's largest number is, and that number."""
        answer = self._ask("POST", f"{self.path}/infer", self.question)
        numbers = answer["outputs"][0]["data"]
        largest = max(numbers)
        place = numbers.index(largest)
        if self.expect not in (-1, place):
            raise WrongError(f"the largest number is number {place}, and should be {self.expect}")
        return place, largest


def check(*what: Any) -> None:
    """Ask everything that the protocol has once."""
    client = Client(*what, anew=False)
    print("server:", json.dumps(client.get("/v2")))
    for path in ("/v2/health/live", "/v2/health/ready", f"{client.path}/ready"):
        client.get(path)
        print(f"{path}: 200")
    print("model:", json.dumps(client.get(client.path)))
    place, largest = client.infer()
    print(f"answer: number {place} is the largest, {largest:.4f}")


class Load:
    """Clients that ask again and again, and what came of it."""

    def __init__(self, what: tuple[Any, ...]) -> None:
        self.what = what
        self.over = threading.Event()
        self.answered: collections.Counter[str] = collections.Counter()
        self.failed: collections.Counter[str] = collections.Counter()
        self.longest = 0.0

    def run(self) -> int:
        signal.signal(signal.SIGTERM, lambda *_: self.over.set())
        kinds = [False] * KEPT + [True] * ANEW
        clients = [threading.Thread(target=self._ask, args=(anew,)) for anew in kinds]
        for client in clients:
            client.start()
        while not self.over.wait(0.1) and len(self.answered) + len(self.failed) < 2:
            pass
        print("begun", flush=True)
        self.over.wait()
        for client in clients:
            client.join()
        answered, failed = self.answered.total(), self.failed.total()
        ways = ", ".join(f"{count} {way}" for way, count in sorted(self.answered.items()))
        print(f"answered: {answered} ({ways}); the longest wait was {self.longest:.1f} s")
        print(f"failed: {failed}")
        for why, count in self.failed.most_common(5):
            print(f"  {count}: {why}")
        return 1 if failed or not answered else 0

    def _ask(self, anew: bool) -> None:
        client = Client(*self.what, anew=anew)
        way = "on a connection each" if anew else "on a kept connection"
        while not self.over.wait(PAUSE):
            began = time.monotonic()
            try:
                client.infer()
                self.answered[way] += 1
            except (OSError, http.client.HTTPException, WrongError) as error:
                self.failed[f"{way}: {type(error).__name__} {error}"] += 1
                client.connection.close()
            self.longest = max(self.longest, time.monotonic() - began)


def main() -> int:
    """Whatever is wrong is one line."""
    job, url, model, question, expect = sys.argv[1:]
    what = (url, model, question, int(expect))
    if job == "load":
        return Load(what).run()
    try:
        check(*what)
    except (OSError, http.client.HTTPException, WrongError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
