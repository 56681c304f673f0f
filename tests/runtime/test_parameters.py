"""What a parameters cell may say, and what may be passed for it."""

from __future__ import annotations

from typing import Any

import pytest
from golden import Told
from kb.runtime import parameters
from kb.runtime.parameters import Parameter, ParameterError, check, declared

CELL = """\
mode: str = "plan"  # plan, apply or rollback
go_version: str = "1.26.6"  # version to install, as go.dev names it
count: int = 3  # how many
ratio: float = 0.5  # how much
fast: bool = False  # whether
api_token: str = ""  # of the service
"""
KNOWN = declared(CELL)


def test_a_declaration_has_name_type_default_and_help() -> None:
    assert [p.name for p in KNOWN] == [
        "mode", "go_version", "count", "ratio", "fast", "api_token"
    ]  # fmt: skip
    assert KNOWN[2] == Parameter("count", "int", 3, "how many", 3)


def test_help_may_hold_a_hash_and_a_default_too() -> None:
    assert declared('color: str = "#fff"  # such as #000')[0].help == "such as #000"


def test_a_default_may_take_several_lines() -> None:
    found = declared('text: str = (\n    "a"\n    "b"\n)  # two parts\nn: int = 1  # more')
    assert [(p.default, p.help) for p in found] == [("ab", "two parts"), (1, "more")]


DECLARED = {
    "not Python": "x: str = ",
    "no type": 'a: str = ""  # x\n\nx = 1',
    "no default": "x: int  # no default",
    "a statement": "import os",
    "an unknown type": "x: list = []  # y",
    "a call": "x: str = f()  # y",
    "not a value": "x: str = {[]: 1}  # y",
    "a number for text": "x: str = 1.30  # y",
    "a truth value for a number": "x: int = True  # y",
    "no help": 'x: str = "a"',
    "an empty help": 'x: str = "a"  #',
    "a name twice": 'x: str = "a"  # y\nx: str = "b"  # y',
}


@pytest.mark.parametrize("what", DECLARED)
def test_a_declaration(what: str, told: Told) -> None:
    with pytest.raises(ParameterError) as caught:
        declared(DECLARED[what])
    told(caught.value)


@pytest.mark.parametrize(
    "passed",
    [
        {},
        {"go_version": "1.30", "count": 0, "ratio": 1, "fast": True, "mode": "apply"},
        {"ratio": float("nan")},
        {"api_token": "x"},
    ],
)
def test_what_fits_is_taken(passed: dict[str, Any]) -> None:
    check(KNOWN, passed)


PASSED: dict[str, dict[str, Any]] = {
    "a mistyped name": {"go_versoin": "1"},
    "an unknown name": {"zzz": "1"},
    "a number for text": {"go_version": 1.3},
    "a number for a truth value": {"fast": 1},
    "False as text": {"fast": "False"},
    "yes for a truth value": {"fast": "yes"},
    "a truth value for a number": {"count": True},
    "a fraction for a number": {"count": 1.5},
    "nothing for a number": {"count": None},
    "text for a number": {"ratio": "much"},
    "a mistyped mode": {"mode": "aply"},
    "an unknown mode": {"mode": "now"},
    "a mode that is a truth value": {"mode": True},
    "a secret of another type": {"api_token": 123456},
}


@pytest.mark.parametrize("what", PASSED)
def test_what_does_not_fit(what: str, told: Told) -> None:
    with pytest.raises(ParameterError) as caught:
        check(KNOWN, PASSED[what])
    assert "123456" not in str(caught.value)
    told(caught.value)


def test_what_is_written_is_read_back() -> None:
    values = {
        "a": 'x\'"\\\n\\"\ud800\N{KEY}',
        "b": [1, 2],
        "c": float("inf"),
        "d": True,
        "e": "held back",
    }
    source = parameters.written(values, {"e": ""})
    assert "held back" not in source
    assert parameters.passed(source) == values | {"e": ""}
    assert parameters.passed("# Parameters\nx = float('nan')")["x"] != 0


LINES = [
    *("import os", "a = 1; b = print(1)", "a = b = 1", "a = __import__('os').environ"),
    *("a = f'{print()}'", "%time print(1)", "a = " + "[" * 5000),
]


def test_a_cell_of_passed_parameters_does_nothing_else(told: Told) -> None:
    for line in LINES:
        with told.raises(ParameterError):
            parameters.passed(f"# Parameters\n{line}")


NAMES = [
    *("x=1", "x\ny", "x;y", "x y", "1x", "_x", "__builtins__", "import", "None", "", "é", 1, None),
    *("\N{FULLWIDTH LATIN SMALL LETTER M}ode", b"x", ("x",), "api_token=hunter2"),
]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_a_name(name: Any) -> None:
    with pytest.raises(ParameterError, match="is not a name for a parameter"):
        parameters.check_passed({"good": 1, name: 2})


def test_what_is_not_a_name_may_hold_a_secret(told: Told) -> None:
    with told.raises(ParameterError):
        parameters.check_passed({"api_token=hunter2": "x"})


VALUES = [b"x", {1}, (1,), {1: 2}, [("a", 1)], [[b"x"]], {"a": {"b": b"x"}}, ...]


def test_a_value_that_is_not_plain(told: Told) -> None:
    for value in VALUES:
        with told.raises(ParameterError):
            parameters.check_passed({"x": value})


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("api_token", True),
        ("DB_PASSWORD", True),
        ("client_secret", True),
        ("ssh_key", True),
        ("TOKEN", True),
        ("PASSWORD", True),
        ("PGPASSWORD", True),
        ("MYSQL_PWD", True),
        ("GITHUB_PAT", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("api_keys", True),
        ("PWD", False),
        ("PATH", False),
        ("api_token_file", False),
        ("go_version", False),
        ("token_count", False),
        ("keyring", False),
    ],
)
def test_secrets_are_known_by_their_names(name: str, secret: bool) -> None:
    assert parameters.is_secret(name) is secret
