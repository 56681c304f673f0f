"""What the words of clients, services and proxies mean, where the scene does not make them."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import ModuleType

import pytest

# As curl, gRPC's Go client, Python's server and others have them. Which kind is told.
SAID = {
    "curl: (6) Could not resolve host: orders": "name",
    "curl: (7) Failed to connect to 127.0.0.1 port 1 after 0 ms: Couldn't connect": "refused",
    "curl: (18) transfer closed with 12 bytes remaining to read": "short",
    "curl: (28) Connection timed out after 5001 milliseconds": "full",
    "curl: (28) Operation timed out after 1001 milliseconds with 0 bytes received": "deadline",
    "curl: (52) Empty reply from server": "eof",
    "curl: (56) Recv failure: Connection reset by peer": "reset",
    "curl: (60) SSL certificate problem: self-signed certificate": "certificate",
    'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while'
    ' dialing: dial tcp 127.0.0.1:1: connect: connection refused"': "grpc-unavailable",
    "rpc error: code = DeadlineExceeded desc = context deadline exceeded": "grpc-deadline",
    "BrokenPipeError: [Errno 32] Broken pipe": "pipe",
    'Get "http://127.0.0.1:8193": readLoopPeekFailLocked: %!w(<nil>)': "http2",
    "HTTP/1.1 415 Unsupported Media Type\n\n": "service-400",
    'HTTP/1.1 422 Unprocessable Entity\n\n{"detail":[]}': "service-400",
    "HTTP/1.1 429 Too Many Requests\n\n": "service-429",
    'HTTP/1.1 500 Internal Server Error\n\n{"error":"out of memory"}': "service-500",
    "HTTP/1.1 502 Bad Gateway\n\n<center>nginx</center>": "front-error",
    'HTTP/1.1 504 Gateway Timeout\n\n{"error":"context deadline exceeded"}': "service-504",
    "HTTP/1.1 504 Gateway Time-out\n\n<center>nginx/1.26.3</center>": "front-error",
}


@pytest.fixture
def errors(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("notebooks/serving/diagnose-errors/errors.py")


@pytest.mark.parametrize("text", SAID)
def test_words_have_their_kind(errors: ModuleType, text: str) -> None:
    found = errors.told(f"something before\n{text}\nsomething after")
    assert found is not None
    words, line = found
    assert words.kind == SAID[text]
    assert words.cause
    assert words.do
    assert line in text


def test_what_is_well_is_not_told(errors: ModuleType) -> None:
    assert (
        errors.told('127.0.0.1 "GET /v2 HTTP/1.1" 200 12\nserver: stopped after EOFs: none') is None
    )


def test_words_that_are_not_known_are_said_so(
    errors: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("all is well"))
    assert errors.main(["told"]) == 1
    assert "no words that are known here" in capsys.readouterr().err
    assert errors.main(["ask", "127.0.0.1:8080"]) == 1
    assert "is no address: give one such as" in capsys.readouterr().err
