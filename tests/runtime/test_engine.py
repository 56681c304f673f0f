"""The engine says honestly what happened to each cell."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest
from golden import Told
from jupyter_client.manager import AsyncKernelManager
from kb.runtime import engine
from project import code, notebook

SLEEP = "import time\ntime.sleep(60)"


def execute(*sources: str, **kb: Any) -> tuple[Any, engine.Outcome, list[list[str]]]:
    """The executed notebook, the outcome, and the cells' statuses at each record."""
    cells = [code(f"cell-{number}", source) for number, source in enumerate(sources, 1)]
    nb = notebook(*cells, parameters='x: str = ""  # nothing', **kb)
    saved: list[list[str]] = []
    outcome = engine.run(
        nb,
        manager=AsyncKernelManager(kernel_name="python3", transport="ipc"),
        save=lambda outcome: saved.append([cell["status"] for cell in outcome.cells]),
    )
    return nb, outcome, saved


def test_a_cell_that_fails(tmp_path: Any) -> None:
    nb, outcome, saved = execute("print('one')", "1 / 0", "print('three')")
    assert outcome.error == {"cell": "cell-2", "message": "ZeroDivisionError: division by zero"}
    done = ["passed", "passed"]
    left = "not run"
    assert saved == [
        ["passed", left, left, left, left],
        [*done, left, left, left],
        [*done, "passed", left, left],
        [*done, "passed", "failed", left],
    ]
    assert nb.cells[-1].outputs == []
    record = outcome.metadata()
    assert (record["result"], record["cells"][3]["status"]) == ("failed", "failed")
    assert record["cells"][4] == {"id": "cell-3", "status": "not run", "duration": 0.0}
    assert 0 < record["duration"] < 60
    assert record["started"].endswith("Z")


@pytest.mark.parametrize("limit", [{"cell_timeout": 0.5}, {"timeout": 8}], ids=["cell", "run"])
def test_a_cell_that_takes_too_long(limit: dict[str, Any], told: Told) -> None:
    before = time.monotonic()
    _, outcome, _ = execute(SLEEP, "print('never')", **limit)
    assert outcome.error is not None
    assert outcome.error["cell"] == "cell-1"
    told(outcome.error["message"])
    assert [cell["status"] for cell in outcome.cells][2:] == ["failed", "not run"]
    assert time.monotonic() - before < 50


@pytest.mark.parametrize(
    "death",
    ["import os\nos._exit(0)", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"],
    ids=["by itself", "by a signal"],
)
def test_a_kernel_that_dies(death: str, told: Told) -> None:
    _, outcome, saved = execute(death, "print('never')")
    assert outcome.error is not None
    assert outcome.error["cell"] == "cell-1"
    told(outcome.error["message"])
    assert [cell["status"] for cell in outcome.cells][2:] == ["failed", "not run"]
    assert saved[-1][2:] == ["failed", "not run"]


def test_output_is_capped() -> None:
    nb, outcome, _ = execute(
        "for i in range(10):\n    print('x' * 1_000_000, flush=True)\nprint('end')"
    )
    assert outcome.error is None
    text = nb.cells[-1].outputs[0]["text"]
    assert len(text) < engine.OUTPUT_LIMIT + 100
    assert text.count("characters left out ...]") == 1
    assert text.endswith("end\n")


def test_a_kernel_that_cannot_start(told: Told) -> None:
    manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
    spec = manager.kernel_spec
    assert spec is not None
    spec.argv = ["/bin/false"]
    before = time.monotonic()
    outcome = engine.run(notebook(code("a", "1")), manager=manager)
    assert outcome.error is not None
    told(outcome.error["message"])
    assert {cell["status"] for cell in outcome.cells} == {"not run"}
    assert time.monotonic() - before < 30


def test_a_kernel_that_is_never_ready(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    client = engine.ReplyReadyClient()
    monkeypatch.setattr(client, "kernel_info", lambda: "nobody answers it")
    with told.raises(RuntimeError):
        asyncio.run(client.wait_for_ready(-1))


def test_a_kernel_that_is_not_ready_within_the_time_of_the_run() -> None:
    manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
    spec = manager.kernel_spec
    assert spec is not None
    spec.argv = ["sleep", "60"]
    outcome = engine.run(notebook(timeout=0.5), manager=manager)
    assert outcome.error is not None
    assert outcome.error["message"] == "the whole run took longer than 0.5 s and was stopped"


def test_a_run_that_wants_a_reboot_says_so() -> None:
    _, outcome, _ = execute("%%observe Look\nkb-reboot 'it loads at boot'", "print('never')")
    assert outcome.error is not None
    assert outcome.error["wants"] == "reboot"
    assert "needs a reboot: it loads at boot" in outcome.error["message"]
    assert [cell["status"] for cell in outcome.cells][2:] == ["failed", "not run"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_an_interrupted_run_says_so_and_ends_its_kernel(number: signal.Signals, told: Told) -> None:
    manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
    saved: list[Any] = []
    interrupt = f"import os\nos.kill(os.getppid(), {number:d})\n{SLEEP}"
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.run(
            notebook(code("a", interrupt), code("b", "1"), parameters='x: str = ""  # nothing'),
            manager=manager,
            save=lambda outcome: saved.append(outcome.error),
        )
    assert saved[-1]["cell"] == "a"
    told(saved[-1]["message"])
    assert not manager.has_kernel
    assert time.monotonic() - before < 30
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
