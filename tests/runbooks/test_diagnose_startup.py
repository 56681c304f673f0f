"""What words mean, and what the modes of files allow, where CI's host cannot show it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def startup(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("runbooks/serving/diagnose-startup/startup.py")


@pytest.mark.parametrize(
    ("words", "kind", "cause"),
    [
        ("./a: /lib/libc.so.6: version `GLIBC_2.38' not found (required by ./a)", "glibc", "2.38"),
        ("dial tcp: lookup db on 10.0.0.2:53: server misbehaving", "name", "the name db"),
        ("dial tcp: lookup db: Temporary failure in name resolution", "name", "the name db"),
        ("dial tcp 10.0.0.9:5432: i/o timeout", "no-answer", "10.0.0.9:5432"),
        ("dial tcp [::1]:5432: connect: connection refused", "dependency", "[::1]:5432"),
    ],
)
def test_words_have_their_cause(startup: ModuleType, words: str, kind: str, cause: str) -> None:
    fault = startup.told(f"starting\n{words}\n", startup.Who(0, 0, ()))
    assert fault.kind == kind
    assert cause in fault.cause


def test_only_the_class_of_a_user_counts(startup: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "orders"
    file.touch()
    file.chmod(0o075)  # nothing for the owner, all but writing for others of its group
    seen = file.stat()
    owner = startup.Who(seen.st_uid or 1, 99, (seen.st_gid,))
    group = startup.Who(4242, 99, (seen.st_gid,))
    other = startup.Who(4242, 99, (99,))
    assert group.may(file, 1)
    assert group.may(file, 4)
    assert other.may(file, 1)
    assert not other.may(file, 2)
    if seen.st_uid:
        assert not owner.may(file, 1)
    root = startup.Who(0, 0, ())
    assert root.may(file, 4)
    file.chmod(0o600)
    assert not root.may(file, 1)


def test_the_first_that_is_missing_is_named(startup: ModuleType, tmp_path: Path) -> None:
    assert startup.first_missing(tmp_path / "etc/orders/conf") == tmp_path / "etc"
