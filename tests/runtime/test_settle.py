"""A verdict comes from the one check that holds."""

from __future__ import annotations

from typing import Any

import pytest
from golden import Told
from kb import settle
from kb.runtime.checks import Check

YES, NO = Check(True, "seen"), Check(False, "not seen")
MIME = "application/vnd.noble-runbooks.settled+json"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is displayed."""
    displayed: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: displayed.append(data))
    return displayed


@pytest.mark.parametrize("verdict", ["confirmed", "refuted", "partly", "outdated"])
def test_the_check_that_holds_decides(verdict: str, shown: list[Any]) -> None:
    checks = dict.fromkeys(("confirmed", "refuted", "partly", "outdated"), NO)
    assert settle("a1-x", **{**checks, verdict: YES}) == verdict
    assert shown[0][MIME]["verdict"] == verdict


@pytest.mark.parametrize(
    "checks",
    [
        {"confirmed": NO},
        {"confirmed": NO, "refuted": NO},
        {"confirmed": YES, "refuted": YES},
        {"partly": YES, "outdated": YES, "refuted": NO},
    ],
)
def test_none_or_several_leave_it_unsettled(checks: Any, shown: list[Any]) -> None:
    assert settle("a1-x", **checks) == "unsettled"
    assert shown[0][MIME]["evidence"] is None
    assert shown[0]["text/plain"].startswith("a1-x: unsettled\n")


def test_it_shows_what_it_saw(shown: list[Any]) -> None:
    settle("a1-x", confirmed=YES, refuted=NO, evidence="inspected")
    assert shown == [
        {
            MIME: {
                "claim": "a1-x",
                "verdict": "confirmed",
                "evidence": "inspected",
                "saw": ["confirmed if seen", "refuted if not seen"],
            },
            "text/plain": "a1-x: confirmed\n  confirmed if seen\n  refuted if not seen",
        }
    ]


@pytest.mark.parametrize("constant", [True, False, 1, "yes", lambda: YES])
def test_a_constant_is_no_check(constant: Any, shown: list[Any], told: Told) -> None:
    with told.raises(TypeError):
        settle("a1-x", confirmed=constant)
    assert not shown


def test_without_a_check_there_is_nothing_to_settle(told: Told) -> None:
    with told.raises(TypeError):
        settle("a1-x")


def test_evidence_is_one_of_two(shown: list[Any], told: Told) -> None:
    with told.raises(TypeError):
        settle("a1-x", confirmed=YES, evidence="documented")
    assert not shown
