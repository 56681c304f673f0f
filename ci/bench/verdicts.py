"""Which verdicts moved from one run to another: python ci/bench/verdicts.py RUNS RUNS...

Each RUNS is a copy of build/runs that was kept after a run. A verdict that hangs on time, on load
or on what an earlier run left comes out differently in one of them; so repeat the runs on a busy
machine:

    stress-ng --cpu 2 --vm 1 & pytest notebooks --on debian-13 --rerun -k "run and not flip"
    cp -r build/runs /tmp/first
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from kb.proof import claims


def verdicts(runs: Path) -> dict[tuple[str, str], str]:
    """By host and claim, what the records of the stage `run` settled."""
    found = {}
    for path in sorted(runs.glob("*/notebooks/*/*.run.ipynb")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for settled in claims.settled_in(content):
            host = path.relative_to(runs).parts[0]
            found[host, settled.claim] = f"{settled.verdict} (it saw {'; '.join(settled.saw)})"
    return found


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print("name at least two directories of runs to compare", file=sys.stderr)
        return 2
    seen: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name in arguments:
        if not any(Path(name).glob("*/notebooks/*/*.run.ipynb")):
            print(f"{name} holds no runs: name copies of build/runs", file=sys.stderr)
            return 2
        for where, what in verdicts(Path(name)).items():
            seen[where][name] = what
    moved = {
        where: by_run
        for where, by_run in sorted(seen.items())
        if len({what.split()[0] for what in by_run.values()}) > 1
    }
    repeated = sum(len(by_run) > 1 for by_run in seen.values())
    print(f"{repeated} verdicts were reached more than once, {len(moved)} moved")
    for (host, claim), by_run in moved.items():
        print(f"{claim} on {host}:")
        for name, what in by_run.items():
            print(f"  {name}: {what}")
    return 1 if moved else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
