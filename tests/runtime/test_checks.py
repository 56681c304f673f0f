"""Comparators are exact, wait to a deadline, and say what they saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from golden import Told
from kb import bash, check, contains, fails_with, in_range, lacks, matches, same
from kb.runtime import checks
from kb.runtime.checks import Check


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that passes by sleeping only, so that a deadline costs no time."""
    now = [0.0]
    fake = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda pause: now.append(now.pop() + pause)
    )
    monkeypatch.setattr(checks, "time", fake)
    return now


@pytest.mark.parametrize(
    ("made", "holds"),
    [
        (lambda: same("active\n", "active"), True),
        (lambda: same("inactive", "active"), False),
        (lambda: same("a", " a "), True),
        (lambda: same(3, 3), True),
        (lambda: same(3, "3"), False),
        (lambda: same(["a"], ["a"]), True),
        (lambda: contains("active (running)", "running"), True),
        (lambda: contains("inactive (dead)", "running"), False),
        (lambda: lacks("inactive (dead)", "running"), True),
        (lambda: lacks("active (running)", "running"), False),
        (lambda: matches("one\ntwo 2\n", r"^two \d$"), True),
        (lambda: matches("one\ntwo two\n", r"^two \d$"), False),
        (lambda: in_range("1.22.5", ">=1.22,<1.23"), True),
        (lambda: in_range("1.23", ">=1.22,<1.23"), False),
        (lambda: in_range("1.10", ">=1.9"), True),
        (lambda: in_range("1.23rc1", ">=1.22"), True),
        (lambda: in_range("no version at all", ">=1"), False),
    ],
)
def test_a_comparator_holds_exactly_when_it_should(made: Callable[[], Check], holds: bool) -> None:
    assert made().holds is holds


def test_it_says_what_it_saw_and_what_it_wanted() -> None:
    assert same("inactive", "active").says == "`inactive` is `active`: no"
    assert contains("a\nb", "b").says == "`a⏎b` contains `b`: yes"


def test_a_long_observation_is_quoted_by_its_ends() -> None:
    says = contains("a" * 5000 + "z", "z").says
    assert len(says) < 400
    assert says.startswith("`aaaa")
    assert "… aaa" in says
    assert "az` contains" in says


def test_a_command_is_compared_by_its_output() -> None:
    result = bash("echo out; echo err >&2; exit 3", check=False)
    assert same(result, "out\nerr").holds
    assert contains(result, "err").says.startswith("`(status 3) out⏎err`")


@pytest.mark.parametrize(
    ("script", "part", "holds"),
    [
        ("echo no such file; exit 2", "no such file", True),
        ("echo no such file; exit 2", "denied", False),
        ("echo no such file", "no such file", False),  # it printed the words and succeeded
    ],
)
def test_fails_with_wants_a_failure_and_its_message(script: str, part: str, holds: bool) -> None:
    assert fails_with(bash(script, check=False), part).holds is holds


def test_fails_with_refuses_text(told: Told) -> None:
    with told.raises(TypeError):
        fails_with("no such file", "no such file")  # type: ignore[arg-type]


def test_a_range_that_is_none_is_refused(told: Told) -> None:
    with told.raises(ValueError):
        in_range("1", "new")


def test_a_callable_is_asked_again_until_it_holds(clock: list[float]) -> None:
    answers = iter(["activating", "activating", "active", "never asked"])
    assert same(lambda: next(answers), "active", within=10).holds
    assert next(answers) == "never asked"


def test_at_the_deadline_the_last_observation_counts(clock: list[float]) -> None:
    def count() -> Iterator[int]:
        yield from range(1000)

    answers = count()
    looked = same(lambda: next(answers), -1, within=2)
    assert not looked.holds
    assert clock[0] == pytest.approx(2, abs=checks.RETRY_EVERY)
    assert looked.says == f"`{next(answers) - 1}` is `-1`: no"


def test_without_a_deadline_a_callable_is_asked_once() -> None:
    asked: list[int] = []
    assert not same(lambda: asked.append(1), "x").holds
    assert asked == [1]


def test_fails_with_waits_for_a_failure(clock: list[float]) -> None:
    results = iter(bash(f"echo gone; exit {status}", check=False) for status in (0, 1))
    assert fails_with(lambda: next(results), "gone", within=5).holds


YES, NO = Check(True, "it is"), Check(False, "it is not")


@pytest.mark.parametrize(
    ("combined", "holds", "says"),
    [
        (YES & YES, True, "it is; and it is"),
        (YES & NO, False, "it is; and it is not"),
        (NO | YES, True, "it is not; or it is"),
        (NO | NO, False, "it is not; or it is not"),
        (~YES, False, "not (it is)"),
        (~NO, True, "not (it is not)"),
    ],
)
def test_checks_combine(combined: Check, holds: bool, says: str) -> None:
    assert (combined.holds, combined.says) == (holds, says)


def test_a_check_is_no_bool(told: Told) -> None:
    with told.raises(TypeError):
        bool(YES)
    with pytest.raises(TypeError):
        _ = YES and NO


@pytest.mark.parametrize("other", [True, "text", None])
def test_a_check_combines_with_checks_only(other: Any, told: Told) -> None:
    for combine in (lambda: YES & other, lambda: YES | other, lambda: NO | other):
        with told.raises(TypeError):
            combine()


def test_check_takes_a_computed_condition() -> None:
    assert check(len([1]) > 0, "it has one") == Check(True, "it has one: yes")
    assert not check(len([]) > 0, "it has one").holds


@pytest.mark.parametrize("condition", ["yes", 1, None, YES])
def test_check_refuses_what_is_no_condition(condition: Any, told: Told) -> None:
    with told.raises(TypeError):
        check(condition, "something")
