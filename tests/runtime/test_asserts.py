"""What a cell's `assert` says when it does not hold."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
from kb.runtime.asserts import LONGEST, Told
from test_engine import execute


def said(source: str, **names: Any) -> str:
    """The message of the one assertion in `source`."""
    tree = Told().visit(ast.parse(source))
    with pytest.raises(AssertionError) as raised:
        exec(compile(tree, "cell", "exec"), dict(names))  # noqa: S102
    return str(raised.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("assert a == b", "a == b; a = 1; b = 'x'"),
        ('assert row["put"] == "OK"', "row['put'] == 'OK'; row['put'] = 'no leader'"),
        ("assert it.took < a < 9", "it.took < a < 9; it.took = 3; a = 1"),
        ('assert row["put"].strip() == 1', "row['put'].strip() == 1; row['put'] = 'no leader'"),
        ("assert isinstance(a, str)", "isinstance(a, str); a = 1"),
        ("assert all(r == a for r in b)", "all((r == a for r in b)); a = 1"),
        ("assert a > 1 and row['gone']", "a > 1 and row['gone']; a = 1"),
        ("assert row.pop('put') == a", "row.pop('put') == a; row = {'put': 'no leader'}; a = 1"),
        ("def f(n):\n    assert n == a\nf(2)", "n == a; n = 2; a = 1"),
        ("assert False, 'mine'", "mine"),
    ],
)  # fmt: skip
def test_its_words_and_what_was_seen(source: str, message: str) -> None:
    row = {"put": "no leader"}
    found = said(source, a=1, b="x", row=row, it=SimpleNamespace(took=3))
    if "pop" in source:
        message = message.replace("{'put': 'no leader'}", "{}")  # it is as it was left
    assert found == message


def test_nothing_is_done_twice() -> None:
    done: list[int] = []
    said("assert take(1)[0] == (n := 2)", take=lambda n: done.append(n) or [n])
    assert done == [1]


def test_a_long_value_is_cut() -> None:
    assert said("assert not x", x="y" * 1000) == f"not x; x = '{'y' * (LONGEST - 1)}…"


def test_an_assertion_that_holds_evaluates_no_more() -> None:
    tree = Told().visit(ast.parse("assert x"))
    exec(compile(tree, "cell", "exec"), {"x": 1, "__import__": None})  # noqa: S102


def test_a_run_says_it() -> None:
    _, outcome, _ = execute("%load_ext kb", 'x = {"put": "no leader"}\nassert x["put"] == "OK"')
    assert outcome.error is not None
    assert outcome.error["message"] == "AssertionError: x['put'] == 'OK'; x['put'] = 'no leader'"
