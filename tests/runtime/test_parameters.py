"""What a parameters cell may say, and what may be passed for it."""

from __future__ import annotations

from typing import Any

import pytest
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


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x: str = ", "line 1 of the parameters cell is not Python"),
        ('a: str = ""  # x\n\nx = 1', "line 3 of the parameters cell must read `name: type ="),
        ("x: int  # no default", "line 1 of the parameters cell must read `name: type ="),
        ("import os", "line 1 of the parameters cell must read `name: type ="),
        ("x: list = []  # y", "the type of `x` must be one of str, int, float, bool"),
        ("x: str = f()  # y", "the default of `x` must be a plain value"),
        ("x: str = {[]: 1}  # y", "the default of `x` must be a plain value"),
        ("x: str = 1.30  # y", "the default of `x` is not of type str"),
        ("x: int = True  # y", "the default of `x` is not of type int"),
        ('x: str = "a"', "line 1 of the parameters cell: `x` has no help text: add `# what it is`"),
        ('x: str = "a"  #', "`x` has no help text"),
        (
            'x: str = "a"  # y\nx: str = "b"  # y',
            "line 2 of the parameters cell: `x` is there twice",
        ),
    ],
)
def test_a_declaration_that_is_wrong_is_named(source: str, says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        declared(source)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize(
    ("passed", "says"),
    [
        (
            {"go_versoin": "1"},
            "unknown parameter `go_versoin`; did you mean `go_version`?"
            " Known parameters: mode, go_version, count, ratio, fast, api_token.",
        ),
        (
            {"zzz": "1"},
            "unknown parameter `zzz`."
            " Known parameters: mode, go_version, count, ratio, fast, api_token.",
        ),
        (
            {"go_version": 1.3},
            "parameter `go_version` must be of type str, not float (1.3): papermill's -p turns"
            " what looks like a number or a truth value into one; pass it as it is with"
            " -r go_version VALUE",
        ),
        ({"fast": 1}, "parameter `fast` must be of type bool, not int (1): pass True or False"),
        (
            {"fast": "False"},
            "parameter `fast` must be of type bool, not str ('False'): pass True or False with"
            " -p fast VALUE",
        ),
        (
            {"fast": "yes"},
            "parameter `fast` must be of type bool, not str ('yes'): pass True or False",
        ),
        ({"count": True}, "parameter `count` must be of type int, not bool (True)"),
        ({"count": 1.5}, "parameter `count` must be of type int, not float (1.5)"),
        ({"count": None}, "parameter `count` must be of type int, not NoneType (None)"),
        ({"ratio": "much"}, "parameter `ratio` must be of type float, not str ('much')"),
        ({"mode": "aply"}, "mode `aply` is none of plan, apply, rollback; did you mean `apply`?"),
        ({"mode": "now"}, "mode `now` is none of plan, apply, rollback"),
        ({"mode": True}, "parameter `mode` must be of type str, not bool (True)"),
    ],
)
def test_what_does_not_fit_is_one_sentence(passed: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        check(KNOWN, passed)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_secret_of_the_wrong_type_is_not_shown() -> None:
    with pytest.raises(ParameterError) as caught:
        check(KNOWN, {"api_token": 123456})
    assert "123456" not in str(caught.value)
    assert "`api_token` must be of type str, not int (***)" in str(caught.value)


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


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "a = 1; b = print(1)",
        "a = b = 1",
        "a = __import__('os').environ",
        "a = b'bytes'",
        "a = f'{print()}'",
        "%time print(1)",
        "__builtins__ = 1",
        "a = " + "[" * 5000,
    ],
)
def test_a_cell_of_passed_parameters_does_nothing_else(line: str) -> None:
    with pytest.raises(ParameterError):
        parameters.passed(f"# Parameters\n{line}")


@pytest.mark.parametrize(
    "name",
    [
        *("x=1", "x\ny", "x;y", "x y", "1x", "_x", "__builtins__", "import", "None", ""),
        *("\N{FULLWIDTH LATIN SMALL LETTER M}ode", "é", 1, None, b"x", ("x",)),
    ],
)
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(ParameterError, match=r"is no name for a parameter") as caught:
        parameters.check_passed({"good": 1, name: 2})
    assert "\n" not in str(caught.value)


def test_a_name_that_holds_a_secret_is_not_shown() -> None:
    with pytest.raises(ParameterError) as caught:
        parameters.check_passed({"api_token=hunter2": "x"})
    assert str(caught.value).startswith("`api_token...` is no name for a parameter")


@pytest.mark.parametrize(
    "value", [b"x", {1}, (1,), {1: 2}, [("a", 1)], [[b"x"]], {"a": {"b": b"x"}}, ...]
)
def test_what_is_no_plain_value_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError, match=r"parameter `x` must be text, a number or a truth"):
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
