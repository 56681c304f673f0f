"""Makes the services of faults.toml, starts all at once, cures them, and keeps what was seen."""

import json
import re
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kb import bash

PLACE = "/opt/exit-statuses"
FAULTS: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("faults.toml").read_text(encoding="utf-8")
)
# Those with limits of seconds are started apart: where a machine is emulated, a start takes some.
TIMED = [name for name, fault in FAULTS.items() if fault.get("timed")]
OTHERS = [name for name in FAULTS if name not in TIMED]
SHOWN = (
    "Id,ActiveState,SubState,Job,NRestarts,ActiveEnterTimestampMonotonic,WatchdogTimestampMonotonic"
)

said: dict[str, list[str]] = {}  # the journal's lines of each
looked: dict[str, str] = {}  # what `look` printed
cured: dict[str, str] = {}  # what `cure` printed
became: dict[str, str] = {}  # its state afterwards


def unit(name: str) -> str:
    return f"exit-{name}.service"


def name_of(unit: str) -> str:
    return unit.removeprefix("exit-").removesuffix(".service")


def each(names: Iterable[str], key: str) -> dict[str, str]:
    """Runs that command of each, all in one shell, and gives what each printed."""
    parts = [
        f"echo '== {name}'\n(cd {PLACE}; {FAULTS[name][key]}) 2>&1 || true\n"
        for name in names
        if key in FAULTS[name]
    ]
    printed = re.split(r"(?m)^== (\S+)\n", f"{bash(''.join(parts))}\n")[1:]
    return {name: text.strip() for name, text in zip(printed[::2], printed[1::2], strict=True)}


def start(names: Iterable[str]) -> None:
    bash(f"systemctl start --no-block {' '.join(map(unit, names))}")


def states(names: Iterable[str]) -> dict[str, dict[str, str]]:
    shown = str(bash(f"systemctl show --property={SHOWN} {' '.join(map(unit, names))}"))
    blocks = (block.splitlines() for block in shown.strip().split("\n\n"))
    each = [dict(line.split("=", 1) for line in block) for block in blocks]
    return {name_of(one["Id"]): one for one in each}


def until(
    names: Iterable[str], holds: Callable[[dict[str, str]], bool], failed: str = "end"
) -> None:
    """Waits until it holds of each. If one has failed: `end`, `wait`, or start it `again`."""
    left, end = list(names), time.monotonic() + 180
    while True:
        seen = states(left)
        left = [name for name, state in seen.items() if not holds(state)]
        if not left:
            return
        lost = [name for name in left if settled("failed")(seen[name])]
        if (lost and failed == "end") or time.monotonic() > end:
            name = (lost or left)[0]
            raise RuntimeError(f"{name}: {seen[name]}, and in its journal: {journal()[name][-9:]}")
        if lost and failed == "again":
            start(lost)
        time.sleep(0.5)


def settled(state: str) -> Callable[[dict[str, str]], bool]:
    return lambda seen: seen["ActiveState"] == state and int(seen.get("Job") or 0) == 0


def beaten(state: dict[str, str]) -> bool:
    """The last word that it lives came later than its first limit of 10 s would have allowed."""
    word, begun = (int(state[f"{at}TimestampMonotonic"]) for at in ("Watchdog", "ActiveEnter"))
    return settled("active")(state) and word - begun > 10_000_000


def restarted(state: dict[str, str]) -> bool:
    return settled("active")(state) and state["NRestarts"] == "1"


def journal() -> dict[str, list[str]]:
    """What it has of each since `make`.

    Not with `--unit=`: what a process said that was gone before the journal looked at it has
    UNIT= alone.
    """
    cursor = Path(PLACE, "cursor").read_text().strip()
    read = (
        f"journalctl --sync; journalctl --quiet --boot --after-cursor='{cursor}'"
        " --output=json --output-fields=MESSAGE,UNIT,_SYSTEMD_UNIT"
    )
    lines: dict[str, list[str]] = {name: [] for name in FAULTS}
    for line in str(bash(read)).splitlines():
        entry = json.loads(line)
        name = name_of(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT", ""))
        if name in lines:  # what others say of a unit, such as systemd-coredump, is left out
            lines[name].append(str(entry["MESSAGE"]))
    return lines


def make(program: Path) -> None:
    bash(
        f"""mkdir --parents {PLACE}
        cd {PLACE}
        install "{program}" .
        journalctl --quiet --lines=0 --show-cursor | sed --quiet 's/^-- cursor: //p' >cursor"""
    )
    each(FAULTS, "make")
    for name, fault in FAULTS.items():
        text = fault["unit"] if fault["unit"].startswith("[") else f"[Service]\n{fault['unit']}"
        kind = "" if "Type=" in text else "Type=exec\n"  # a start waits until the program runs
        Path("/run/systemd/system", unit(name)).write_text(f"{text}\n{kind}")
    bash("systemctl daemon-reload")


def fail() -> None:
    start(TIMED)
    until(["deaf"], settled("active"))
    start(OTHERS)
    until(["somebody"], settled("active"))
    each(FAULTS, "act")
    until(FAULTS, settled("failed"), "wait")
    said.update(journal())
    looked.update(each(FAULTS, "look"))


def cure() -> None:
    for name, fault in FAULTS.items():
        if "drop_in" in fault:
            directory = Path("/run/systemd/system", f"{unit(name)}.d")
            directory.mkdir(exist_ok=True)
            (directory / "cure.conf").write_text(f"[Service]\n{fault['drop_in']}\n")
    bash("systemctl daemon-reload")
    cured.update(each(FAULTS, "cure"))
    start(OTHERS)
    until(OTHERS, settled("active"))
    start(TIMED)
    until(TIMED, settled("active"), "again")  # a busy machine may take longer than their limits
    each(FAULTS, "act")
    until(["deaf"], settled("inactive"))
    until(["somebody"], restarted)
    until(["stuck", "stuck-core", "no-beat"], beaten, "again")
    became.update(
        (name, f"{state['ActiveState']} ({state['SubState']})")
        for name, state in states(FAULTS).items()
    )


def shortened(name: str) -> list[str]:
    """The journal's lines of systemd and those looked for, each once; the number of others."""
    kept, others = [], 0
    for line in said[name]:
        if any(words in line for words in FAULTS[name]["says"]) or (
            line.startswith(unit(name)) and " Consumed " not in line
        ):
            kept += [line] if line not in kept else []
        elif not re.match("(Start|Stop|Failed to start )", line):
            others += 1
    return [*kept, *([f"({others} more of the program)"] if others else [])]


def show(*names: str) -> None:
    """Prints it all; raises if a word is not in the journal, or a service was not cured."""
    for name in names:
        fault = FAULTS[name]
        print(f"== {name}: {fault['what']}")
        for line in fault["unit"].splitlines():
            print(f"    {line}")
        for line in shortened(name):
            print(line)
        if "look" in fault:
            print(f"$ {fault['look'].strip()}")
            print(looked[name])
        for line in fault.get("drop_in", "").splitlines():
            print(f"+   {line}")
        if "cure" in fault:
            print(f"# {fault['cure']}")
            print(cured[name], end="\n" if cured[name] else "")
        print(f"then: {became[name]}\n")
        for words in fault["says"]:
            assert any(words in line for line in said[name]), f"{name}: no '{words}' in the journal"
        assert fault.get("shows", "") in looked.get(name, ""), f"{name}: {looked[name]}"
        assert became[name] == fault.get("after", "active (running)"), f"{name}: {became[name]}"
