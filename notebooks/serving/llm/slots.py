"""Asks llama.cpp's server for several things at once: slots.py FILE continuous|waiting split|shared

What it did is counted, not timed: runs of the model, who waited for whom, who was refused.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import xllamacpp

SLOTS, CONTEXT = 4, 4096
TOKENS = 24
LONG, SHORT = 900, 4  # tokens of the two that meet
WORDS = 1200  # of a prompt that is too long for a fourth of the context
PATIENCE = 120  # seconds


class Asked:
    """A server, and what is asked of it."""

    def __init__(self, file: str, *, continuous: bool, shared: bool) -> None:
        told = xllamacpp.CommonParams()
        told.model.path = file
        told.n_ctx, told.n_parallel = CONTEXT, SLOTS
        told.warmup = told.fit_params = False
        told.cache_ram_mib = 0
        told.cpuparams.n_threads = told.cpuparams_batch.n_threads = 1
        told.verbosity = 0
        told.endpoint_metrics = True
        told.cont_batching, told.kv_unified = continuous, shared
        told.port = 0
        self.server = xllamacpp.Server(told)
        self.address = self.server.listening_address

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.address}{path}", timeout=PATIENCE) as answer:  # noqa: S310
            text: str = answer.read().decode()
            return text

    def runs(self) -> int:
        """How often the model ran."""
        lines = self.get("/metrics").splitlines()
        (line,) = (line for line in lines if line.startswith("llamacpp:n_decode_total "))
        return int(float(line.split()[1]))

    def complete(self, prompt: str, tokens: int) -> dict[str, Any]:
        """The answer, or the error."""
        body = {"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "cache_prompt": False}
        headers = {"Content-Type": "application/json"}
        url = f"{self.address}/completion"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
                answered: dict[str, Any] = json.load(answer)
                return answered
        except urllib.error.HTTPError as error:
            refused: dict[str, Any] = json.load(error)
            return refused

    def at_work(self) -> bool:
        """Whether a slot has begun its answer."""
        slots = json.loads(self.get("/slots"))
        return any(s["is_processing"] and s["next_token"][0]["n_decoded"] > 0 for s in slots)


def main() -> None:
    """Three questions to one server."""
    batches, context = sys.argv[2:]
    asked = Asked(sys.argv[1], continuous=batches == "continuous", shared=context == "shared")
    before = asked.runs()
    for _ in range(SLOTS):
        asked.complete("abc", TOKENS)
    print(f"{SLOTS} requests of {TOKENS} tokens one after another: {asked.runs() - before} runs")

    before = asked.runs()
    together = [threading.Thread(target=asked.complete, args=("abc", TOKENS)) for _ in range(SLOTS)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    print(f"the same at once: {asked.runs() - before} runs")

    long = threading.Thread(target=asked.complete, args=("abc", LONG))
    long.start()
    deadline = time.monotonic() + PATIENCE
    while not asked.at_work() and long.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    asked.complete("abc", SHORT)
    then = "goes on" if asked.at_work() else "is over"
    long.join()
    print(f"when a short request, come during a long one, has its answer, the long one {then}")

    answer = asked.complete("a b " * (WORDS // 2), SHORT)
    told = answer.get("error", {}).get("message") or "answered"
    print(f"a prompt of {WORDS} words among {SLOTS} slots and a context of {CONTEXT}: {told}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
    os._exit(0)  # llama.cpp's threads are not worth a farewell
