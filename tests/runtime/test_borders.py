"""What is used of other libraries beyond their promises: where it is gone, a test says its name."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from golden import Told
from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.zmqshell import ZMQDisplayPublisher
from IPython.core.displaypub import DisplayPublisher
from jupyter_client.session import Session
from kb.runtime import agent, border
from nbclient import NotebookClient
from nbformat import from_dict
from papermill.engines import papermill_engines
from papermill.parameterize import parameterize_notebook
from project import Project, code, notebook, runbook


@pytest.mark.parametrize(
    "name",
    [
        "async_setup_kernel",  # replaced, so that the run ends its kernel and hears Ctrl-C
        "async_start_new_kernel",
        "async_start_new_kernel_client",
        "async_execute_cell",  # replaced, so that a run keeps its own account of the cells
        "process_message",  # extended, so that what a cell prints is heard while it runs
    ],
)
def test_nbclient_has(name: str) -> None:
    assert callable(getattr(NotebookClient, name, None))


@pytest.mark.parametrize("name", agent.LOADED)
def test_what_every_kernel_loads_is_there(name: str) -> None:
    importlib.import_module(name)


def test_a_kernel_needs_no_debugger() -> None:
    loaded = [name for name in agent.LOADED if name != "kb.runtime.magics"]
    source = f"import sys\nsys.modules['debugpy'] = None\nimport {', '.join(loaded)}"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_module_that_moved_only_costs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadyError(Exception): ...

    def ready(path: Any) -> None:
        raise ReadyError

    monkeypatch.setitem(sys.modules, "debugpy", None)
    monkeypatch.setattr(agent, "LOADED", ("ipykernel.nowhere", "json"))
    monkeypatch.setattr(agent, "on_path", ready)
    monkeypatch.setattr(sys, "argv", ["agent", "/nowhere"])
    with pytest.raises(ReadyError):
        agent.main()


@pytest.mark.parametrize("sender", [ZMQDisplayPublisher, ZMQShellDisplayHook])
def test_ipykernels_senders_have_a_session(sender: type) -> None:
    assert hasattr(sender, "session")


def shell(**changed: Any) -> Any:
    """An IPython with a kernel that sends all through one session; but for what is ``changed``."""
    session = changed.get("session") or Session()
    sender = SimpleNamespace(session=session)
    return SimpleNamespace(
        kernel=SimpleNamespace(session=session),
        display_pub=changed.get("display_pub", sender),
        displayhook=changed.get("displayhook", sender),
    )


class Renamed(Session):
    """A session whose ``send`` takes something else."""

    def send(self, message: Any, stream: Any) -> Any:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    "changed",
    [
        {"display_pub": DisplayPublisher()},
        {"displayhook": SimpleNamespace(session=Session())},
        {"session": Renamed()},
    ],
    ids=["no-session", "another-session", "other-send"],
)
def test_an_output_that_would_not_be_masked_stops_the_run(
    changed: Any, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    def streams(ipython: Any) -> Any:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, SimpleNamespace(session=ipython.kernel.session))
        return ipython

    with monkeypatch.context():
        border.check_senders(streams(shell()))
        monkeypatch.setattr(border, "version", lambda _: "1.2.3")
        with told.raises(border.BorderError):
            border.check_senders(streams(shell(**changed)))


def test_it_stops_before_the_first_cell_of_ours(project: Project) -> None:
    """In a real kernel: the setup cell fails, and with one sentence."""
    nb = notebook(code("x", "print('ran')"), parameters='x: str = ""  # nothing')
    nb.cells[1].source = (
        "from jupyter_client.session import Session\n"
        "get_ipython().display_pub.session = Session()\n"
        f"{nb.cells[1].source}"
    )
    project.add("notebooks/area/name.ipynb", nb)
    done = project.papermill("notebooks/area/name.ipynb")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ipykernel ")
    assert "sends outputs in a way that is unknown here" in last
    assert "(cell `setup`)" in last
    assert "Traceback" not in done.stderr


VALUES = {
    "mode": "apply",
    "n": float("nan"),
    "none": None,
    "many": [1, {"a": "b"}],
    "api_token": "x\ny",
}


def injected(passed: Any) -> Any:
    nb = runbook()
    nb.metadata["papermill"] = from_dict({})  # as papermill's own reader leaves it
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])
    return parameterize_notebook(nb, passed, kernel_name="python3", language="python")


@pytest.mark.parametrize("passed", [VALUES, {}], ids=str)
def test_papermill_injects_parameters_as_they_are_read(passed: Any) -> None:
    border.check_injected(injected(passed))


@pytest.mark.parametrize("what", ["tag", "comment"])
def test_parameters_that_nobody_would_check_stop_the_run(
    what: str, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    nb = injected(VALUES)
    [cell] = [cell for cell in nb.cells if "injected-parameters" in cell.metadata["tags"]]
    if what == "tag":
        cell.metadata["tags"] = ["parameters-of-papermill"]
    if what == "comment":
        cell.source = cell.source.replace("# Parameters", "# Passed")
    monkeypatch.setattr(border, "version", lambda _: "1.2.3")
    with told.raises(border.BorderError):
        border.check_injected(nb)


def test_papermill_without_an_engines_name_takes_ours() -> None:
    found = papermill_engines.get_engine(None)
    assert (found.__module__, found.__name__) == ("kb.runtime.papermill", "Engine")
