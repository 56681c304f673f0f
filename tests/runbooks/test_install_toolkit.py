"""What runbooks/cuda/install-toolkit.ipynb makes of a compiler's words, and CI's wheels for it.

Its whole life with real toolkits, wrong hashes and compilers included, `pytest runbooks` proves.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "runbooks/cuda/install-toolkit"
PIN = re.compile(r"^\S+==\S+(?: \\\n +--hash=\S+)+", re.MULTILINE)
# As they were seen: several lines, of which one counts, and what is to be done.
WORDS = {
    "In file included from /usr/include/cuda_runtime.h:82,\n"
    "/usr/include/crt/host_config.h:143:2: error: #error -- unsupported GNU version! gcc versions"
    " later than 13 are not supported! The nvcc flag '-allow-unsupported-compiler' can be used\n"
    "  143 | #error -- unsupported GNU version!\n": (
        "unsupported GNU version! gcc versions later than 13 are not supported!",
        "install a g++",
    ),
    "ERROR: No supported gcc/g++ host compiler found.\n"
    "       Use 'nvcc -ccbin <compiler>' to specify a host compiler.\n"
    "nvcc fatal   : Failed to preprocess host compiler properties.\n": (
        "ERROR: No supported gcc/g++ host compiler found.",
        "install a g++",
    ),
    "/usr/bin/ld: cannot find -lcudart: No such file or directory\n"
    "collect2: error: ld returned 1 exit status\n": (
        "/usr/bin/ld: cannot find -lcudart: No such file or directory",
        "it has no libcudart.so",
    ),
    "Killed\n": ("Killed", "see that it compiles"),
}


@pytest.mark.parametrize("said", WORDS, ids=lambda said: said.split("\n")[0][:30])
def test_the_line_that_counts_and_its_cure(said: str, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(said)
    done = subprocess.run(
        ["bash", "-Eeuo", "pipefail", "-c", '. "$0"; why said; cure said', str(PLACE / "lib.sh")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    line, cure = done.stdout.splitlines()
    assert line == WORDS[said][0]
    assert cure.startswith(WORDS[said][1])


def test_ci_has_the_wheels_that_the_runbook_pins() -> None:
    fetched = PIN.findall((ROOT / "ci/fixtures/cuda-toolkits.txt").read_text())
    for file in PLACE.glob("*.txt"):
        pins = PIN.findall(file.read_text())
        assert pins
        assert [pin for pin in pins if pin not in fetched] == []
