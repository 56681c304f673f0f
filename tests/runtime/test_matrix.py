"""What was seen on several releases is shown side by side."""

from __future__ import annotations

from typing import Any

import pytest
from golden import Told
from kb import matrix
from kb.runtime.matrix import MIME
from kb.site.outputs import matrix_table


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is displayed."""
    displayed: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: displayed.append(data))
    return displayed


def test_rows_are_properties_and_columns_are_releases(shown: list[Any]) -> None:
    matrix("Go", {"1.21": {"call": "epoll_pwait"}, "1.22": {"call": "epoll_pwait", "new": 3}})
    assert shown[0][MIME] == {
        "over": "Go",
        "columns": ["1.21", "1.22"],
        "rows": {"call": ["epoll_pwait", "epoll_pwait"], "new": ["-", "3"]},
    }
    assert shown[0]["text/plain"].splitlines() == [
        "Go    1.21         1.22",
        "call  epoll_pwait  epoll_pwait",
        "new   -            3",
    ]


@pytest.mark.parametrize("seen", [{}, {"1.21": "epoll_pwait"}])
def test_what_is_no_table_is_refused(seen: Any, shown: list[Any], told: Told) -> None:
    with told.raises(TypeError):
        matrix("Go", seen)
    assert not shown


def test_the_page_marks_where_a_row_changes() -> None:
    seen = {"over": "Go", "columns": ["1", "2", "3"], "rows": {"a<b": ["x", "x", "<y>"]}}
    table = matrix_table(seen)
    assert '<th scope="row">a&lt;b</th><td>x</td><td>x</td><td><mark>&lt;y&gt;</mark></td>' in table


@pytest.mark.parametrize(
    "seen", [None, [], {"columns": ["1"]}, {"columns": ["1"], "rows": {"a": []}}]
)
def test_the_page_shows_no_table_that_is_damaged(seen: Any) -> None:
    assert matrix_table(seen) == ""
