"""What PyTorch keeps, draws and sends: switches.py MODE SEED LAYOUT HALVES LAYERS

MODE is what a network is said to be doing, serving or training; SEED is one, for all processes, or
own; LAYOUT is shards or replicas; HALVES is how a sum is sent in 16 bits, type or converted;
LAYERS is what a network is made of that is quantised, Conv2d or Linear.
"""

import io
import os
import sys
import time
import types
import warnings
from pathlib import Path

import torch  # type: ignore[import-not-found, unused-ignore]
import torch.distributed as dist  # type: ignore[import-not-found, unused-ignore]

# checkpoint() imports this one function of the compiler's, which would bring SymPy, to look at its
# arguments while the compiler traces. Nothing is compiled here, so that it is never true.
without_compiler = types.ModuleType("torch._functorch._aot_autograd.functional_utils")
without_compiler.is_fun = lambda tensor: False  # type: ignore[attr-defined]
sys.modules[without_compiler.__name__] = without_compiler
# after what it imports
from torch.utils.checkpoint import (  # type: ignore[import-not-found, unused-ignore]  # noqa: E402
    checkpoint,
)


class Layer(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.wide, self.narrow = torch.nn.Linear(64, 256), torch.nn.Linear(256, 64)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        out: torch.Tensor = self.narrow(torch.relu(self.wide(numbers)))
        return out


def memory(wrap: str, mode: str) -> None:
    """What eight layers keep for a backward pass, and how often one of them runs."""
    layers = [Layer() for _ in range(8)]
    weights = {number.data_ptr() for layer in layers for number in layer.parameters()}
    kept: dict[int, int] = {}  # bytes by address, without the weights

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def plain(layer: Layer, numbers: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = layer(numbers)
        return out

    def wrapped(layer: Layer, numbers: torch.Tensor) -> torch.Tensor:
        # the function within its decorator, which is the compiler's, too
        out: torch.Tensor = checkpoint.__wrapped__(layer, numbers, use_reentrant=False)
        return out

    call = wrapped if wrap == "checkpoint" else plain
    numbers = torch.randn(512, 64)
    with torch.inference_mode(mode == "serving"):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            for layer in layers:
                numbers = call(layer, numbers)
        forward = sum(kept.values())
        if mode == "training":
            numbers.sum().backward()
    runs = sum(layer.runs for layer in layers)
    got = sum(number.grad is not None for layer in layers for number in layer.parameters())
    print(f"{mode}, {wrap}: {forward} bytes kept, {runs} runs, {got} gradients", flush=True)


def summed(halves: str) -> int:
    """How many of a thousand sums over the processes are right, sent in 16 bits in that way."""
    numbers = torch.randn(1000)
    exact = numbers.clone()
    dist.all_reduce(exact)
    if halves == "type":  # the same buffer and count, called numbers of 16 bits
        dist.all_reduce(numbers.view(torch.float16)[:1000])
    else:
        short = numbers.half()
        dist.all_reduce(short)
        numbers = short.float()
    return int(torch.isclose(numbers, exact, rtol=1e-2, atol=1e-2).sum())


def rank(number: int, processes: int, store: Path, seed: str, layout: str, halves: str) -> None:
    """One of several processes that answer the same request."""
    dist.init_process_group("gloo", f"file://{store}", world_size=processes, rank=number)
    torch.manual_seed(7)  # the model and the request are the same everywhere
    request, wide, narrow = torch.randn(4, 64), torch.randn(64, 256), torch.randn(256, 64)
    whole = torch.relu(request @ wide) @ narrow
    sent = 0
    if layout == "shards":  # columns of the first layer, rows of the second: a part of each sum
        part = slice(number * 256 // processes, (number + 1) * 256 // processes)
        answer = torch.relu(request @ wide[:, part]) @ narrow[part]
        sent += answer.nbytes
        dist.all_reduce(answer)
        torch.testing.assert_close(answer, whole, rtol=1e-3, atol=1e-2)
    for again in range(2):  # two runs of one job
        torch.manual_seed(42 if seed == "one" else 42 + number)
        kept = torch.nn.functional.dropout(torch.ones(24), 0.5) > 0
        mask = "".join(str(int(each)) for each in kept)
        dist.barrier()
        print(f"rank {number}, run {again}: {seed} seed, dropout {mask}", flush=True)
    print(f"rank {number}: {layout}, {sent} bytes given to all_reduce", flush=True)
    for way in sorted({"converted", halves}):
        torch.manual_seed(70 + number)
        print(f"rank {number}: {way}, {summed(way)} of 1000 sums are right", flush=True)
    # They leave together, by _exit: destroy_process_group() waits, with Python's lock, for threads
    # that may want it to let go of the last sum's tensors, and hung now and then.
    store.with_name(f"done-{number}").touch()
    end = time.monotonic() + 120
    while not all(store.with_name(f"done-{each}").exists() for each in range(processes)):
        if time.monotonic() > end:
            raise SystemExit("the other process has not come to its end: see its error above")
        time.sleep(0.01)


def stored(network: torch.nn.Module) -> int:
    """The size of a network's weights, as they are saved."""
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    return file.tell()


def quantised(layers: str) -> None:
    """What dynamic quantising makes of a network of such layers, as posts call it."""
    made = {
        "Linear": lambda: (torch.nn.Linear(512, 512), torch.nn.Linear(512, 512)),
        "Conv2d": lambda: (torch.nn.Conv2d(3, 64, 3), torch.nn.Conv2d(64, 256, 3)),
    }
    first, second = made[layers]()
    network = torch.nn.Sequential(first, torch.nn.ReLU(), second)
    small = torch.quantization.quantize_dynamic(network, {torch.nn.Linear}, dtype=torch.qint8)
    print(f"quantised, {layers}: {stored(network)} bytes, then {stored(small)}", flush=True)


if __name__ == "__main__":
    said, seed, layout, halves, layers = sys.argv[1:]
    warnings.simplefilter("ignore")
    torch.manual_seed(1)
    cuda = sorted(name for name in dir(torch.cuda) if "memory" in name and name[0] != "_")
    print("torch", torch.__version__)
    print("cuda:", *cuda, flush=True)
    store = Path(os.environ["WORK"], "store")
    children = []
    for number in range(2):
        if not (child := os.fork()):
            rank(number, 2, store, seed, layout, halves)
            os._exit(0)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        raise SystemExit("a process of the two has failed: see its error above")
    for mode in sorted({"serving", "training", said}):
        for wrap in ("plain", "checkpoint"):
            memory(wrap, mode)
    for kind in sorted({"Linear", layers}):
        quantised(kind)
