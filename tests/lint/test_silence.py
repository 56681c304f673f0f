"""Commands whose failure nobody hears: what the lint finds, and what it leaves alone."""

from __future__ import annotations

import pytest
from kb.proof.lint.silence import silent_ends


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        # A search that finds nothing has failed.
        ("x=$(grep a file)", [1]),
        ('x="$(id | grep a | cut -c 1)"', [1]),
        ("true\n\nx=$(id |\n    grep a)\n", [3]),
        ("awk '\n{print}\n' file\nid | grep a | sort", [4]),
        ("if true; then x=$(pgrep a); fi", [1]),
        ("for i in 1; do\n    x=$(grep -c a file)\ndone", [2]),
        ("f() { x=$(grep a file); }", [1]),
        ("id | grep -v '|' | while read -r x; do echo; done", [1]),
        # What a command said is lost.
        ('x=$(go build 2>&1)\necho "$x"', [1]),
        ('x=$(\n  go build\n)\nprintf %s "${x}"', [1]),
        # Somebody hears it.
        ("x=$(grep a file) || kb-refuse no", []),
        ("x=$(grep a file || true)", []),
        ("x=$({ grep a file || true; } | sort)", []),
        ("{ id | grep a || true; } | sort", []),
        ("if x=$(grep a file); then echo; fi", []),
        ("while x=$(grep a file); do echo; done", []),
        ("! x=$(grep a file)", []),
        ("id | grep -q a\nid | grep --quiet a", []),
        ("id | grep a", []),
        ('echo "$(grep a file | sort)"', []),
        ("local x=$(grep a file)", []),
        ('x=$(go build) || exit\necho "$x"', []),
        ('x=$(go build)\ny=1\necho "$x"', []),
        ('x=$(go build)\necho "$y"', []),
        # It is text.
        ("# x=$(grep a file)", []),
        ("echo 'x=$(grep a file)'", []),
        ("cat <<'END'\nx=$(grep a file)\nEND\ntrue", []),
        ("cat <<END\nit's\nEND\ntrue", []),
        ("echo 'open", []),
    ],
)
def test_what_is_found(script: str, lines: list[int]) -> None:
    assert [line for line, _ in silent_ends(script)] == lines
