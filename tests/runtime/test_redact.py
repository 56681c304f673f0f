"""Secrets are masked wherever they lie."""

from __future__ import annotations

import base64
import html
import json
import shlex
import subprocess
import urllib.parse
from typing import Any

import pytest
from golden import Told
from kb.runtime import redact
from kb.runtime.parameters import ParameterError
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


def injected(**values: Any) -> Any:
    nb = runbook(parameters='api_token: str = ""  # x')
    nb.metadata["papermill"] = from_dict({})
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])
    return parameterize_notebook(nb, values, kernel_name="python3", language="python")


def test_what_the_notebook_does_not_declare_is_hidden_too() -> None:
    nb = injected(api_tokn="hunter2", mode="plan")
    assert redact.hide_parameters(nb) == {"KB_PARAMETER_api_tokn": "hunter2"}
    assert "hunter2" not in str(nb)
    assert nb.metadata.papermill.parameters == {"api_tokn": "***", "mode": "plan"}


def test_a_mask_is_not_taken_for_the_secret(told: Told) -> None:
    nb = injected(**{"api_token": "***"})  # as in a record that is run again
    with told.raises(ParameterError):
        redact.hide_parameters(nb)


ODD = ['it\'s "a" $x `y` \\ <z>&', "pässwörd", "line one\nline\ttwo", "a+/b=%c d", "\N{KEY}\x1bend"]
BASH = """
LC_ALL=$1
printf '%q\n' "$s"
echo "${s@Q} ${s@A}"
declare -p s
set -x
true "$s" 2>&1
{ true "x$s"; } 2>&1
"""
WAYS: dict[str, Any] = {
    "as it is": str,
    "repr": repr,
    "repr of repr": lambda s: repr(repr(s)),
    "ascii": ascii,
    "bytes": lambda s: repr(s.encode()),
    "json": json.dumps,
    "json of json": lambda s: json.dumps(json.dumps({"a": s})),
    "json with letters": lambda s: json.dumps(s, ensure_ascii=False),
    "shlex": shlex.quote,
    "URL": lambda s: urllib.parse.quote(s, safe=""),
    "path": urllib.parse.quote,
    "form": urllib.parse.quote_plus,
    "lower-case URL": lambda s: urllib.parse.quote(s, safe="").lower(),
    "html": html.escape,
    "html numbers": lambda s: s.encode("ascii", "xmlcharrefreplace").decode(),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 of a line": lambda s: base64.b64encode(f"{s}\n".encode()).decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "hexadecimal": lambda s: s.encode().hex(),
    "csv": lambda s: s.replace('"', '""'),
    "sql": lambda s: s.replace("'", "''"),
}


def shown(text: str, secret: str) -> str:
    return redact.clean(text, redact.secrets({"a_token": secret}))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", [*ODD, "plain-secret_1"])
def test_a_secret_is_masked_however_it_is_written(way: str, secret: str) -> None:
    written = WAYS[way](secret)
    masked = shown(f"<{written}>", secret)
    for line in written.splitlines():
        assert len(line) < 4 or line not in masked
    left = masked.replace(redact.MASK, "")
    assert len(left) <= len("<\"\"''\\\\{: }=b''a\n>") + 8, left


def bash_writes(secret: str, locale: str) -> str:
    """The letters and digits of what bash says, masked."""
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", locale],
        env={"s": secret, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=True,
    )
    masked = shown(done.stdout + done.stderr, secret)
    return "".join(filter(str.isalnum, masked))


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("secret", ODD)
def test_a_secret_is_masked_however_bash_writes_it(locale: str, secret: str) -> None:
    assert bash_writes(secret, locale) == bash_writes("plain", locale)


@pytest.mark.parametrize("before", ["", "u", "user:", "user2:"])
def test_a_secret_inside_of_base64_is_masked(before: str) -> None:
    secret = "correct-horse-battery-staple" * 4
    coded = base64.encodebytes(f"{before}{secret}".encode()).decode()
    assert (
        len(shown(coded, secret).replace(redact.MASK, "").replace("\n", "")) <= 8 + len(before) * 2
    )


def test_a_picture_is_not_taken_for_a_secret() -> None:
    picture = base64.b64encode(bytes(range(256)) * 300).decode()
    assert shown(picture, "abc") == shown(picture, "\x00\x01\x02\x03") == picture


def test_a_password_in_an_address_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:pa%24ss@proxy:3128")
    found = redact.secrets({"mirror": "https://me:other1@mirror/simple"})
    assert {"pa%24ss", "pa$ss", "other1"} <= set(found)
    assert redact.clean("http://me:pa%24ss@proxy:3128", found) == "http://me:***@proxy:3128"


def test_names_of_fields_are_masked_and_those_of_the_protocol_are_not() -> None:
    sent: list[Any] = []

    class Session:
        def send(self, stream: Any, kind: str, content: Any, *rest: Any) -> None:
            sent.append(content)

    session = Session()
    redact.guard_session(session, lambda: ["hunter2", "data"])
    session.send(None, "display_data", {"data": {"application/json": {"hunter2": 1}}})
    assert sent == [{"data": {"application/json": {"***": 1}}}]


def test_the_metadata_of_an_output_is_masked() -> None:
    cell = {"outputs": [{"data": {"text/plain": "x"}, "metadata": {"hunter2": ["hunter2"]}}]}
    redact.clean_outputs(cell, ["hunter2"])
    assert cell["outputs"][0]["metadata"] == {"***": ["***"]}
