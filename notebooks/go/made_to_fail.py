"""Makes each fault of a notebook's faults.toml, looks, cures it, and shows what was seen.

Beside faults.toml there is scene.sh, with words of its commands, which made_to_fail.sh has more of,
and with two functions: `begin` makes the place that a fault is made in, `leave` takes it away.
"""

import os
import re
import tempfile
import tomllib
from pathlib import Path

from kb import bash

PARTS = ("make", "try", "look", "cure", "again")


class Scene:
    """The faults of one notebook, and the directory that they are made in."""

    def __init__(self, name: str, programs: str) -> None:
        self.here = Path(os.environ.get("KB_HERE", "."), name).resolve()
        self.faults: dict[str, dict[str, str]] = tomllib.loads(
            (self.here / "faults.toml").read_text("utf-8")
        )
        # Removed when the kernel ends. Other users can enter it.
        self.place = tempfile.TemporaryDirectory(prefix=f"{name}-")
        Path(self.place.name).chmod(0o755)
        os.environ["PROGRAMS"] = programs or os.environ.get("KB_FIXTURES", "/nowhere")
        program = Path(os.environ["PROGRAMS"], name, name)
        if not program.exists():
            raise RuntimeError(
                f"there is no {program}: run ci/fixtures/{name} build/fixtures/{name} in a"
                " checkout, and pass programs=build/fixtures"
            )
        Path(self.place.name, "app").symlink_to(program.resolve())

    def command(self, name: str, part: str) -> str:
        """What is run; after the cure, that is what failed, unless the fault says otherwise."""
        return self.faults[name].get(part, self.faults[name]["try"] if part == "again" else "")

    def run(self, name: str) -> dict[str, str]:
        """What each part of a fault printed."""
        words = (self.here.parent / "made_to_fail.sh", self.here / "scene.sh")
        script = [f"cd {self.place.name}", *(f". {file}" for file in words)]
        script += ["trap leave EXIT", "begin"]
        for part in PARTS:
            script.append(f"echo '== {part}'")
            if command := self.command(name, part):
                # A failure of what is to fail is none of the notebook.
                fails = part not in ("make", "cure")
                script.append(f"( {command} ) 2>&1 || true" if fails else f"{{ {command}; }} 2>&1")
        printed = re.split(r"(?m)^== (\w+)\n", f"{bash(chr(10).join(script))}\n")[1:]
        return {part: said.strip() for part, said in zip(printed[::2], printed[1::2], strict=True)}

    def show(self, *names: str) -> None:
        """Prints it all; raises if the words are others, the cause is not seen, or it stays."""
        for name in names:
            fault, said = self.faults[name], self.run(name)
            print(f"== {name}: {fault['what']}")
            for part in PARTS:
                if command := self.command(name, part):
                    print(f"{'#' if part in ('make', 'cure') else '$'} {command}")
                if said[part]:
                    print(said[part])
            print()
            looked = re.sub(r"[ \t]+", " ", said["look"])
            assert fault["says"] in said["try"], f"{name}: {said['try']}"
            assert fault["shows"] in looked, f"{name}: {looked}"
            assert fault.get("then", "200 OK") in said["again"], f"{name}: {said['again']}"
