"""Whatever kind of file, whenever it is killed: a rollback brings back every byte and attribute.

A few rounds, and as many as the environment variable KB_ROUNDS says.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rounds import TRIES, kills


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make all kinds of files")
def test_every_kind_of_file_survives_every_kill(tmp_path: Path) -> None:
    rounds = TRIES or 4
    assert kills(tmp_path, rounds)["exact"] == rounds
