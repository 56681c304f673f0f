"""Run a command and say which of its processes had the most memory maps: peak.py COMMAND...

Looks at every process of the command's own session, a hundred times a second.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

EVERY = 0.01  # seconds
SESSION = 3  # field of /proc/PID/stat, counted from the one after the name


def maps(process: Path, session: int) -> tuple[int, str]:
    """How many maps a process has, and its name; none if it is not of the session, or is gone."""
    try:
        name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(")")
        if int(rest.split()[SESSION]) != session:
            return 0, ""
        return len((process / "maps").read_bytes().splitlines()), name
    except (OSError, ValueError, IndexError):
        return 0, ""


command = subprocess.Popen(sys.argv[1:], start_new_session=True)
peak = (0, "")
while command.poll() is None:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            peak = max(peak, maps(Path(entry.path), command.pid))
    time.sleep(EVERY)
print(f"{peak[0]} maps at most, in {peak[1]}")
sys.exit(command.returncode)
