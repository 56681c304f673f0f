"""Runs a runbook on the hosts of an Ansible inventory, and brings each one's record back.

    make fleet INVENTORY=hosts.ini NAME=runbooks/AREA/NAME MODE=plan ARGS="-r go_version 1.26.6"

Ansible does it, by what stands in ci/ansible: the way to the hosts, the batches, the end at the
first bad one. Here is what comes before (is it all as it can be?) and what comes after (what became
of each host?).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from kb.proof import catalog, records, rollouts, taken
from kb.proof import inventory as inventories
from kb.proof.hosts import HostError
from kb.proof.inventory import InventoryError
from kb.proof.rollouts import HostState, Rollout, RolloutError
from kb.proof.tables import TableError
from kb.runtime import parameters, redact
from kb.runtime.record import write_atomically

PLAYBOOK = Path("ci/ansible/runbook.yml")
FAILED = "failed"  # in the place of a host: those that the newest apply or rollback failed on
ROOM = 200 << 10  # KiB that a host needs for the file and what it unpacks
# An apply tries one host, then a quarter of all, then the rest; what changes nothing, or takes
# back, goes to all at once and stops for none.
SERIAL = {"plan": "100%", "apply": "1,25%,100%", "rollback": "100%"}
MOST_FAILED = {"plan": 100, "apply": 0, "rollback": 100}
_BATCH = re.compile(r"[1-9]\d*%?")
_INTERRUPTED = 130


class FleetError(Exception):
    """A roll-out that cannot begin. One sentence."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as everything here does."""

    def error(self, message: str) -> NoReturn:
        raise FleetError(f"{message}: see docs/fleet.md for what can be said")


# --- Before: is it all as it can be?


def prepare(root: Path, options: argparse.Namespace) -> tuple[Rollout, dict[str, Any]]:
    """What is asked for, as a roll-out that has not begun, and what the playbook is told.

    Raises :class:`FleetError`, and the errors of what it reads.
    """
    if not options.inventory:
        raise FleetError("there is no inventory: say make fleet INVENTORY=hosts.ini")
    runbook = _runbook(root, options.runbook)
    if options.mode not in rollouts.MODES:
        raise FleetError(f"MODE={options.mode} is none of {', '.join(rollouts.MODES)}")
    passed = _passed(runbook, [*options.parameters, ["mode", options.mode]])
    inventory = Path(options.inventory)
    groups = inventories.read(root, inventory)
    which = f"runbooks/{runbook.area}/{runbook.name}"
    chosen = _chosen(root, which, groups, options.hosts or "all", inventory)
    started = rollouts.name_now()
    path = rollouts.place(root, which, options.mode, started)
    shown = {
        name: redact.MASK if parameters.is_secret(name) else value
        for name, value in passed.items()
        if name != "mode"
    }
    rollout = Rollout(
        runbook=which,
        mode=options.mode,
        inventory=str(inventory),
        started=started,
        parameters=shown,
        hosts=dict.fromkeys(chosen, HostState()),
    )
    told = {
        "hosts": chosen,
        "serial": _batches(options.serial or SERIAL[options.mode]),
        "max_fail": MOST_FAILED[options.mode] if options.max_fail is None else options.max_fail,
        "runbook": which,
        "name": runbook.name,
        "folder": f"{runbook.area}-{runbook.name}",
        "record": f"{started}.{options.mode}.ipynb",
        "passed": passed,
        "machine": platform.machine(),
        "room": ROOM,
        "python": sys.executable,
        "root": str(root),
        "path": str(path),
    }
    return rollout, told


def _runbook(root: Path, name: str) -> catalog.Notebook:
    path = Path(name.removesuffix(".ipynb") + ".ipynb")
    known = [str(found) for found in catalog.paths(root) if found.parts[0] == "runbooks"]
    if str(path) not in known:
        raise FleetError(
            f"NAME={name} is no runbook: there are {', '.join(k[:-6] for k in known) or 'none'}"
        )
    return catalog.read(root, path)


def _passed(runbook: catalog.Notebook, given: list[list[str]]) -> dict[str, Any]:
    """Parameters, each of the type that the runbook declares."""
    types = {parameter.name: parameter.type for parameter in runbook.parameters}
    passed: dict[str, Any] = {}
    for name, text in given:
        value: Any = text
        with contextlib.suppress(ValueError):  # the check below says what is wrong
            if types.get(name) in ("int", "float"):
                value = parameters.TYPES[types[name]](text)
            elif types.get(name) == "bool" and text in ("True", "False"):
                value = text == "True"
        passed[name] = value
    parameters.check(runbook.parameters, passed)
    return passed


def _batches(serial: str) -> list[int | str]:
    """How many hosts in each batch, as Ansible's `serial` has it."""
    words = serial.split(",")
    if not all(map(_BATCH.fullmatch, words)):
        raise FleetError(
            f"--serial {serial}: write how many hosts each batch has, such as 1,25%,100%"
        )
    return [word if word.endswith("%") else int(word) for word in words]


def _chosen(
    root: Path, runbook: str, groups: Mapping[str, list[str]], asked: str, inventory: Path
) -> list[str]:
    """The hosts that are meant, in the inventory's order."""
    meant: set[str] = set()
    for word in asked.split(","):
        if word == FAILED and FAILED not in groups:
            meant |= _failed(root, runbook) & {*groups["all"]}
        elif word in groups:
            meant |= {*groups[word]}
        elif word in groups["all"]:
            meant.add(word)
        else:
            raise FleetError(
                f"--hosts {word}: there is no such host and no such group in {inventory}"
            )
    if not meant:
        raise FleetError(f"--hosts {asked}: {runbook} has not failed on a host of {inventory}")
    return [name for name in groups["all"] if name in meant]


def _failed(root: Path, runbook: str) -> set[str]:
    """The hosts whose newest roll-out but for plans did not pass."""
    history = [r for r in rollouts.load(root)[0].get(runbook, []) if r.mode != "plan"]
    return {name for name, last in rollouts.stands(history).items() if name in last.bad}


def run(root: Path, rollout: Rollout, told: Mapping[str, Any]) -> Rollout:
    """Have Ansible do it; returns what became of it. Raises OSError, RolloutError."""
    path = Path(told["path"])
    rollouts.write(path, rollout)
    variables = path.with_suffix(".vars")
    write_atomically(variables, json.dumps({"rollout": told}), private=True)
    command = [
        str(inventories.ANSIBLE / "ansible-playbook"),
        *("--inventory", rollout.inventory, "--extra-vars", f"@{variables}", str(PLAYBOOK)),
    ]
    try:
        # Its words go to the terminal; what counts is what has been noted, whatever its status.
        ansible = subprocess.Popen(command, cwd=root, env=inventories.environment(root))
        try:
            ansible.wait()
        except KeyboardInterrupt:
            ansible.wait()  # it has heard it, too, and ends; a host at work stays noted as begun
    finally:
        variables.unlink()
    return rollouts.end(path)


# --- Meanwhile: what the playbook calls.


def begin(path: Path, names: list[str]) -> None:
    """The turn of a batch has come. Raises :class:`RolloutError`."""
    with rollouts.changing(path) as states:
        batch = max(state.batch for state in states.values()) + 1
        states.update(dict.fromkeys(names, HostState("begun", batch)))


# --- After: what became of each host.


def summary(rollout: Rollout) -> Iterator[str]:
    """The lines for a terminal, a host each."""
    count = len(rollout.hosts)
    yield (
        f"{rollout.runbook}, mode {rollout.mode}, {count} host{'s' if count != 1 else ''} of"
        f" {rollout.inventory}: {rollout.outcome}"
    )
    wide = max(map(len, ("host", *rollout.hosts)))
    yield f"batch  {'host':{wide}}  result"
    for name, state in rollout.hosts.items():
        told = rollouts.RESULTS[state.result] + (f": {state.said}" if state.said else "")
        yield f"{state.batch or '-':>5}  {name:{wide}}  {told}"
    if any(state.record for state in rollout.hosts.values()):
        yield f"records are in {records.BUILT}/HOST; make site RUN=0 shows them"


def main() -> int:
    root = Path.cwd()
    try:
        if sys.argv[1:2] == ["begin"] and len(sys.argv) == 3:
            begin(Path(sys.argv[2]), json.load(sys.stdin))
            return 0
        if sys.argv[1:2] == ["take"] and len(sys.argv) == 4:
            state = taken.take(root, Path(sys.argv[2]), sys.argv[3], json.load(sys.stdin))
            print(f"{rollouts.RESULTS[state.result]}: {state.said}")
            return int(state.result != "passed")
        rollout, told = prepare(root, _options())
        done = run(root, rollout, told)
    except (
        FleetError,
        InventoryError,
        RolloutError,
        parameters.ParameterError,
        TableError,
        HostError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: it was interrupted: make site RUN=0 shows how far it came", file=sys.stderr)
        return _INTERRUPTED
    print("\n".join(summary(done)))
    return int(done.outcome != "passed")


def _percent(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 100):
        raise argparse.ArgumentTypeError(f"{text} is not a percentage: say 0 to 100")
    return int(text)


def _options() -> argparse.Namespace:
    parser = _Parser(prog="make fleet", description=__doc__)
    parser.add_argument("inventory")
    parser.add_argument("runbook")
    parser.add_argument("mode")
    parser.add_argument(
        *("-r", "-p"),
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter of the runbook",
    )
    parser.add_argument("--hosts", help="hosts and groups, with commas; failed: where it failed")
    parser.add_argument("--serial", help="hosts in each batch, such as 1,25%%,100%%")
    parser.add_argument("--max-fail", type=_percent, help="percent of a batch that may fail")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
