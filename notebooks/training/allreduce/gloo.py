"""Sums of several processes by Gloo, PyTorch's own library for them: gloo.py PLACE RANKS EXCHANGED

PLACE has an array for each rank. EXCHANGED is what the ranks of a training step hand each other:
tensors, as DistributedDataParallel does, or objects.
"""

import ctypes
import hashlib
import os
import pickle
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]
import torch.distributed as dist  # type: ignore[import-not-found, unused-ignore]

ROUNDS = 20


def read(path: Path) -> torch.Tensor:
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.float32)


def content(numbers: torch.Tensor) -> bytes:
    return ctypes.string_at(numbers.data_ptr(), numbers.nbytes)


def orders(place: Path, summed: torch.Tensor) -> None:
    """In which order the ranks' numbers were added: which way round a ring, from which rank."""
    ranks = dist.get_world_size()
    given = [read(place / f"rank-{rank}").chunk(ranks) for rank in range(ranks)]
    for part, got in enumerate(summed.chunk(ranks)):
        found = []
        for first in range(ranks):
            for way, step in (("up", 1), ("down", -1)):
                total = given[first][part].clone()
                for further in range(1, ranks):
                    total += given[(first + step * further) % ranks][part]
                if torch.equal(total.view(torch.int32), got.view(torch.int32)):
                    found.append(f"from rank {first} {way}")
        print(f"gloo default, part {part}: {' or '.join(found) or 'no ring'}", flush=True)


def sums(place: Path, number: int) -> None:
    """The same arrays, again and again, each rank late at random."""
    given = read(place / f"rank-{number}")
    results, best = set(), float("inf")
    for _ in range(ROUNDS):
        summed = given.clone()
        time.sleep(int.from_bytes(os.urandom(1)) / 255 / 1000)
        began = time.perf_counter()
        dist.all_reduce(summed)
        best = min(best, time.perf_counter() - began)
        results.add(hashlib.sha256(content(summed)).digest())
    if number == 0:
        (place / "gloo-default").write_bytes(content(summed))
        orders(place, summed)
        speed = given.nbytes / best / 1e6
        print(f"gloo default: {len(results)} different result(s), {speed:.0f} MB/s", flush=True)


class Counted:
    """What goes through Python's pickle, which all that PyTorch sends as objects does."""

    def __init__(self) -> None:
        self.calls = 0
        for name in ("dump", "dumps", "load", "loads"):
            setattr(pickle, name, self.counting(getattr(pickle, name)))
        counted = self

        class Pickler(pickle.Pickler):
            def __init__(self, *arguments: Any, **named: Any) -> None:
                counted.calls += 1
                super().__init__(*arguments, **named)

        pickle.Pickler = Pickler  # type: ignore[misc]
        dist.distributed_c10d._pickler = Pickler

    def counting(self, function: Any) -> Any:
        def counting(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            return function(*arguments, **named)

        return counting


def without_compiler() -> None:
    """DistributedDataParallel asks the compiler for a setting, which would bring SymPy.

    Nothing is compiled here: it is told what that setting is unless somebody changes it.
    """
    compiler = types.ModuleType("torch._dynamo")
    compiler.config = types.SimpleNamespace(  # type: ignore[attr-defined]
        _get_optimize_ddp_mode=lambda: "ddp_optimizer"
    )
    compiler.disable = lambda function, recursive=True: function  # type: ignore[attr-defined]
    sys.modules[compiler.__name__] = torch._dynamo = compiler


def step(number: int, ranks: int, exchanged: str) -> None:
    """A step of training: what is handed to the others, and whether anything is serialised."""
    torch.manual_seed(1)
    network = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(8)))
    size = sum(each.nbytes for each in network.parameters())
    buckets = []

    def look(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        buffer = bucket.buffer()
        buckets.append((buffer.dtype, buffer.nbytes, buffer.dim()))
        return (
            dist.all_reduce(buffer, async_op=True).get_future().then(lambda done: done.value()[0])
        )

    counted = Counted()
    everybody: list[Any] = [None] * ranks
    dist.all_gather_object(everybody, {"rank": number})
    control = counted.calls
    without_compiler()
    model = torch.nn.parallel.DistributedDataParallel(network, bucket_cap_mb=0.5)
    model.register_comm_hook(None, look)
    counted.calls = 0
    torch.manual_seed(number)
    model(torch.randn(8, 256)).square().sum().backward()
    if exchanged == "objects":
        dist.all_gather_object(everybody, [each.grad for each in network.parameters()])
    if number == 0:
        kinds = {(str(kind), dimensions) for kind, _, dimensions in buckets}
        print(
            f"{exchanged}: {len(buckets)} buckets of {kinds}, {sum(n for _, n, _ in buckets)} bytes"
            f" of {size}; {counted.calls} times serialised, and an object {control} times",
            flush=True,
        )


def rank(place: Path, number: int, ranks: int, exchanged: str) -> None:
    dist.init_process_group("gloo", f"file://{place}/store", world_size=ranks, rank=number)
    sums(place, number)
    step(number, ranks, exchanged)
    dist.barrier()
    # Not destroy_process_group(): it waits, with Python's lock, for threads that may want it to let
    # go of the last sum's tensors.


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    place, ranks, exchanged = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    children = []
    for number in range(ranks):
        if not (child := os.fork()):
            rank(place, number, ranks, exchanged)
            os._exit(0)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        raise SystemExit("a process of them has failed: see its error above")
