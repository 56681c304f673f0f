"""Secrets are masked wherever they lie."""

from __future__ import annotations

from typing import Any

import pytest
from kb.runtime import redact
from nbformat import from_dict
from papermill.parameterize import parameterize_notebook
from project import runbook

KEY = "-----BEGIN KEY-----\nMIIEabc\n  dGhlIHJlc3Q=\n-----END KEY-----"


def test_secrets_come_from_parameters_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOO_PASSWORD", "of the environment")
    monkeypatch.setenv("FOO_PASSWORD_FILE", "/no/secret")
    found = redact.secrets({"api_token": "of a parameter", "prefix": "/opt", "empty_key": ""})
    assert {"of the environment", "of a parameter"} <= set(found)
    assert not {"/opt", "/no/secret", ""} & set(found)


def test_a_longer_secret_is_masked_before_its_part() -> None:
    found = redact.secrets({"a_key": "abc", "b_key": "abcdef"})
    assert redact.clean("abcdef abc", found) == "*** ***"


def test_each_line_of_a_key_is_masked() -> None:
    found = redact.secrets({"ssh_key": KEY})
    assert redact.clean("dGhlIHJlc3Q= and MIIEabc", found) == "*** and ***"
    assert redact.clean(f"x{KEY}y", found) == "x***y"


def test_a_very_short_value_is_left() -> None:
    assert redact.clean("a lot of a", redact.secrets({"a_key": "a"})) == "a lot of a"


def test_it_reaches_into_structures() -> None:
    message = {"a": ["hidden", ("hidden", 1)], "b": {"c": "x hidden"}, "n": None}
    masked = {"a": ["***", ("***", 1)], "b": {"c": "x ***"}, "n": None}
    assert redact.clean(message, ["hidden"]) == masked


def test_a_secret_that_is_a_word_of_the_protocol_breaks_nothing() -> None:
    sent: list[Any] = []

    class Session:
        def send(self, stream: Any, kind: str, content: Any, *rest: Any) -> None:
            sent.append(content)

    session = Session()
    redact.guard_session(session, lambda: ["idle", "stdout"])
    session.send(None, "status", {"execution_state": "idle"})
    session.send(None, "stream", {"name": "stdout", "text": "it is idle"})
    assert sent == [{"execution_state": "idle"}, {"name": "stdout", "text": "it is ***"}]


def test_the_notebook_keeps_no_secret_and_the_kernel_gets_it() -> None:
    nb = runbook(parameters='api_token: str = ""  # x')
    nb.metadata["papermill"] = from_dict({})  # as papermill's own reader leaves it
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])
    values = {"api_token": KEY, "mode": "apply"}
    nb = parameterize_notebook(nb, values, kernel_name="python3", language="python")
    assert redact.hide_parameters(nb) == {"KB_PARAMETER_api_token": KEY}
    assert "MIIE" not in str(nb)
    injected = next(c for c in nb.cells if c.source.startswith("# Parameters"))
    compile(injected.source, "injected", "exec")
    assert 'mode = "apply"' in injected.source
