"""What a roll-out brought back from one host: its record is filed, and what became of it noted.

Judged here alone, from what each of Ansible's tasks saw (ci/ansible/roles/runbook).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kb.proof import evidence, records, rollouts
from kb.proof.evidence import EvidenceError
from kb.proof.rollouts import HostState, Rollout
from kb.runtime import reading
from kb.runtime.record import RUN

INCOMING = rollouts.PLACE / "incoming"
FACTS = {
    "os": "system",
    "kernel": "kernel",
    "libc": "C library",
    "python": "Python",
    "cpu": "processor",
    "cpus": "processors",
    "gpu": "GPU",
    "driver": "driver",
}
AFTER_LOSS = {
    "plan": "plan it again",
    "apply": "apply it again, or roll it back",
    "rollback": "roll it back again",
}

Task = Mapping[str, Any]  # what Ansible registers of one


class NoRecordError(Exception):
    """A host whose record is not here: why, and the ``result``, one of rollouts.RESULTS."""

    def __init__(self, why: str, result: str = "failed") -> None:
        super().__init__(why)
        self.result = result


def take(root: Path, path: Path, host: str, seen: Mapping[str, Task]) -> HostState:
    """File a host's record, and note in the roll-out at ``path`` what became of it.

    Raises :class:`rollouts.RolloutError`.
    """
    rollout = rollouts.read(path)
    batch = rollout.hosts[host].batch
    try:
        _see_whether_it_ran(seen, rollout.mode)
        place, content = _filed(root, rollout, host, seen)
    except NoRecordError as error:
        state = HostState(error.result, batch, str(error))
    else:
        state = _told(content, seen["ran"], rollout.mode, batch, str(place.relative_to(root)))
    with rollouts.changing(path) as states:
        states[host] = state
    return state


def _see_whether_it_ran(seen: Mapping[str, Task], mode: str) -> None:
    """Raise :class:`NoRecordError` for the first task that did not get through."""
    look, made, brought, ran = seen["look"], seen["made"], seen["brought"], seen["ran"]
    if look.get("unreachable"):
        raise NoRecordError(why_unreachable(look), "unreachable")
    if look.get("rc") != 0:
        raise NoRecordError(_last(look.get("stdout"), look.get("stderr"), look["msg"]))
    if made.get("failed"):
        task = next((one for one in made.get("results", []) if one.get("failed")), made)
        why = _last(task.get("stderr"), task.get("msg"))
        raise NoRecordError(f"the file for it was not made: {why}")
    if brought.get("unreachable"):
        raise NoRecordError("it went away before the runbook was there: nothing ran", "lost")
    if brought.get("failed"):
        why = _last(brought.get("msg"))
        raise NoRecordError(f"the runbook could not be brought there: {why}")
    if ran.get("unreachable"):
        said = f"it went away in the middle of the {mode}: when it is back, {AFTER_LOSS[mode]}"
        raise NoRecordError(said, "lost")


def _filed(
    root: Path, rollout: Rollout, host: str, seen: Mapping[str, Task]
) -> tuple[Path, Mapping[str, Any]]:
    """The record where it belongs, and its content. Raises :class:`NoRecordError`."""
    ran, fetched = seen["ran"], seen["fetched"]
    file = root / INCOMING / f"{host}.ipynb"
    if fetched.get("unreachable"):
        raise NoRecordError(f"it went away after the {rollout.mode}, with its record", "lost")
    if fetched.get("failed") or not file.is_file():
        why = f"its record did not come back: {_last(fetched.get('msg'))}"
        # What is refused at once leaves none, and its reason is worth more.
        raise NoRecordError(_ended(ran) if ran.get("rc") else why)
    try:
        content = evidence.opened(file)
        run = content["metadata"][RUN]
        if (run.get("notebook"), run.get("stage")) != (f"{rollout.runbook}.ipynb", rollout.mode):
            raise EvidenceError(f"{file}: it is of another runbook or mode")
        place = evidence.add(root, file, host, records.BUILT)
    except EvidenceError as error:
        why = str(error).partition(": ")[2]
        kept = file.relative_to(root)
        raise NoRecordError(f"its record is not taken: {why} ({kept})") from None
    file.unlink()
    return place, records.read(place, root).content


def _told(content: Mapping[str, Any], ran: Task, mode: str, batch: int, record: str) -> HostState:
    """What a record tells of its host."""
    run = content["metadata"][RUN]
    facts = {
        label: str(run["host"][fact])
        for fact, label in FACTS.items()
        if run["host"].get(fact) is not None
    }
    error = run["error"]
    if run["result"] != "passed" and error:
        where = f" (cell `{error['cell']}`)" if error["cell"] else ""
        said = f"{error['message']}{where}{_printed_last(content, error)}"
        return HostState("failed", batch, said, record, facts)
    if ran.get("rc"):
        return HostState("failed", batch, _ended(ran), record, facts)
    said = next(reading.closing(content, mode, "")).removeprefix("plan: ")
    return HostState("passed", batch, said, record, facts)


def _printed_last(content: Mapping[str, Any], error: Mapping[str, str]) -> str:
    """The last words of the cell that failed, where the error itself does not have them."""
    for cell in content["cells"]:
        if cell["id"] == error["cell"]:
            streams = [one for one in cell["outputs"] if one["output_type"] == "stream"]
            lines = reading.text_of({"outputs": streams}).splitlines()
            if lines and lines[-1] not in error["message"]:
                return f"; it printed: {lines[-1]}"
    return ""


def why_unreachable(task: Task) -> str:
    """One sentence about a host that ssh did not come to."""
    said = str(task.get("msg", ""))
    last = _last(said).rpartition("Failed to connect to the host via ssh: ")[2].rstrip(".")
    if "Permission denied (" in said:
        return (
            f"it lets nobody in ({last}): name the key in the inventory with"
            " ansible_ssh_private_key_file, or load it with ssh-add"
        )
    if "Host key verification failed" in said:
        return (
            "its host key is not the known one, or not known: compare it, and put it into"
            " ~/.ssh/known_hosts (ssh-keyscan)"
        )
    return last.removeprefix("ssh: ")


def _ended(ran: Task) -> str:
    """Why the command ended as it did."""
    return _last(ran.get("stderr"), ran.get("msg")).removeprefix("Error: ")


def _last(*texts: Any) -> str:
    """The last line that says something, of the first text that has one."""
    for text in texts:
        lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
        if lines:
            return lines[-1].removeprefix("refused: ")
    return "it says nothing"
