"""Exact comparators: each looks at what was observed and says what it saw.

There are no similarity scores here: "active" and "inactive" are not 88 % the same, they differ.
A comparator takes the observed thing itself or a callable that observes it; with ``within``
(seconds) a callable is asked again until the check holds or the deadline has passed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from kb.runtime.shell import Completed

RETRY_EVERY = 0.2  # seconds
SHOWN = 300  # characters of an observation that a message quotes


@dataclass(frozen=True)
class Check:
    """The outcome of looking: whether it holds, and one line about what was seen."""

    holds: bool
    says: str

    def __and__(self, other: Check) -> Check:
        if not isinstance(other, Check):
            return NotImplemented
        return Check(self.holds and other.holds, f"{self.says}; and {other.says}")

    def __or__(self, other: Check) -> Check:
        if not isinstance(other, Check):
            return NotImplemented
        return Check(self.holds or other.holds, f"{self.says}; or {other.says}")

    def __invert__(self) -> Check:
        return Check(not self.holds, f"not ({self.says})")

    def __bool__(self) -> bool:
        # `a and b` would drop one side's message, and `if check:` is how constants creep in.
        raise TypeError("a Check is not a bool: combine checks with &, | and ~, or read .holds")


def check(condition: bool, says: str) -> Check:
    """Turn a condition computed from observations into a Check; ``says`` is what was looked at."""
    if not isinstance(condition, bool):
        raise TypeError(f"check() needs True or False, not {type(condition).__name__}: {says}")
    return Check(condition, f"{says}: {'yes' if condition else 'no'}")


def same(got: Any, expected: Any, within: float = 0) -> Check:
    """The observation equals ``expected`` (text is compared without surrounding white space)."""
    return _look(
        got,
        within,
        lambda seen: seen == (expected.strip() if isinstance(expected, str) else expected),
        f"is {_quote(expected)}",
    )


def contains(got: Any, part: str, within: float = 0) -> Check:
    """The observed text contains ``part``."""
    return _look(got, within, lambda seen: part in str(seen), f"contains {_quote(part)}")


def lacks(got: Any, part: str, within: float = 0) -> Check:
    """The observed text does not contain ``part``."""
    return _look(got, within, lambda seen: part not in str(seen), f"lacks {_quote(part)}")


def matches(got: Any, pattern: str, within: float = 0) -> Check:
    """The regular expression ``pattern`` is found in the text (``^`` and ``$`` match at lines)."""
    found = re.compile(pattern, re.MULTILINE)
    return _look(
        got, within, lambda seen: found.search(str(seen)) is not None, f"matches {_quote(pattern)}"
    )


def fails_with(got: Completed | Callable[[], Completed], part: str, within: float = 0) -> Check:
    """The command ended with a status other than 0, and its output contains ``part``."""

    def failed(seen: Completed) -> bool:
        if not isinstance(seen, Completed):
            raise TypeError("fails_with() needs the result of bash(..., check=False)")
        return seen.status != 0 and part in seen.output

    return _look(got, within, failed, f"fails with {_quote(part)}", raw=True)


def in_range(got: str | Callable[[], str], versions: str, within: float = 0) -> Check:
    """The observed version lies in the range: ``in_range("1.22.5", ">=1.22,<1.23")``."""
    try:
        wanted = SpecifierSet(versions, prereleases=True)
    except InvalidSpecifier:
        raise ValueError(
            f"in_range() cannot read the range {versions!r}: write it like '>=1.22,<1.23'"
        ) from None

    def inside(seen: Any) -> bool:
        try:
            return Version(str(seen)) in wanted
        except InvalidVersion:
            return False

    return _look(got, within, inside, f"is in {versions}")


def _look(
    got: Any, within: float, holds: Callable[[Any], bool], expectation: str, raw: bool = False
) -> Check:
    deadline = time.monotonic() + within
    while True:
        seen = got() if callable(got) else got
        value = seen if raw or not isinstance(seen, Completed) else seen.output
        if isinstance(value, str):
            value = value.strip()
        held = holds(value)
        if held or not callable(got) or time.monotonic() >= deadline:
            text = f"(status {seen.status}) {seen.output}" if isinstance(seen, Completed) else value
            return Check(held, f"{_quote(text)} {expectation}: {'yes' if held else 'no'}")
        time.sleep(RETRY_EVERY)


def _quote(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else repr(value)
    if len(text) > SHOWN:
        text = f"{text[: SHOWN * 2 // 3]} … {text[-SHOWN // 3 :]}"
    return "`" + text.replace("\n", "⏎") + "`"
