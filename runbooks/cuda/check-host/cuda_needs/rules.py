"""What NVIDIA says of runtimes, drivers, PTX and code for cards: two tables and four rules.

The tables are of NVIDIA's documents (the release history in the PTX ISA's manual; the release notes
of each toolkit). The gate is executed: notebooks/cuda/runtime-driver-matrix runs it against real
runtimes and real driver libraries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Version = tuple[int, ...]

# The PTX that a release of CUDA writes, and the newest that its driver compiles.
PTX_OF: dict[Version, Version] = {
    **{(11, minor): (7, minor) for minor in range(9)},
    **{(12, minor): (8, minor) for minor in range(6)},
    (12, 6): (8, 5),
    (12, 7): (8, 6),
    (12, 8): (8, 7),
    (12, 9): (8, 8),
    **{(13, minor): (9, minor) for minor in range(6)},
}
# The CUDA of a driver's branch, for a library that cannot be asked.
CUDA_OF_BRANCH: dict[int, Version] = {
    450: (11, 0),
    455: (11, 1),
    460: (11, 2),
    465: (11, 3),
    470: (11, 4),
    495: (11, 5),
    510: (11, 6),
    515: (11, 7),
    520: (11, 8),
    525: (12, 0),
    530: (12, 1),
    535: (12, 2),
    545: (12, 3),
    550: (12, 4),
    555: (12, 5),
    560: (12, 6),
    565: (12, 7),
    570: (12, 8),
    575: (12, 9),
    580: (13, 0),
    590: (13, 1),
}


@dataclass(frozen=True, order=True)
class Code:
    """Code for cards inside a fat binary: machine code (``elf``) or source for the driver."""

    kind: str
    arch: str  # sm_90, sm_90a, sm_100f
    isa: Version = ()  # of PTX


def version(text: str) -> Version:
    """The numbers of a version: 535.261.03 is (535, 261, 3)."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


def dotted(numbers: Version) -> str:
    return ".".join(map(str, numbers))


def driver_for(runtime: Version) -> str:
    """The drivers that take a runtime, as a person would look for one."""
    branch = [branch for branch, cuda in CUDA_OF_BRANCH.items() if cuda[:1] == runtime[:1]]
    return f"{branch[0]} or later" if branch else f"one of CUDA {runtime[0]}"


def gate(runtime: Version, driver: Version) -> str:
    """Whether a driver of one CUDA version takes a runtime of another: yes, minor or no.

    ``minor`` is minor-version compatibility: the runtime starts, without what is newer than the
    driver. A runtime of which only the major version is known has ``(12,)``.
    """
    if runtime[:2] <= driver[:2]:
        return "yes"
    return "minor" if runtime[0] == driver[0] else "no"


def newest_ptx(driver: Version) -> Version:
    """The newest PTX that a driver of this CUDA version compiles; () if that is not known."""
    return PTX_OF.get(driver[:2], ())


def runs(code: Code, card: int, newest: Version) -> bool:
    """Whether a card (90 is sm_90) runs this code, with a driver that compiles PTX up to a version.

    Machine code runs on its own major and later minors; with an ``a`` on that card alone, with an
    ``f`` on its family. PTX is compiled for any later card, unless it is for one alone.
    """
    number, only = int(re.sub(r"\D", "", code.arch)), code.arch[-1:]
    if only == "a":
        fits = number == card
    elif only == "f" or code.kind == "elf":
        fits = number <= card and number // 10 == card // 10
    else:
        fits = number <= card
    return fits and (code.kind != "ptx" or not newest or code.isa <= newest)
