"""Tells what an error between a client and a service means: who says it, why, and what to do.

  errors.py told [FILE]        by the words of a log, of a client, or of curl --include
  errors.py ask URL            asks, and tells what comes back
  errors.py ask URL --behind http://127.0.0.1:8080
                               the same of what stands behind a proxy, and which of the two it is

It needs Python 3.11 and nothing else, and changes nothing. The most telling words come first: what
only repeats a number comes last.
"""

from __future__ import annotations

import argparse
import http.client
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SHOWN = 160  # characters of a line


class WrongError(Exception):
    """What is asked for cannot be read, or was told otherwise. One sentence."""


@dataclass(frozen=True)
class Words:
    """What somebody says: a word for it, the pattern, the cause, and what to do."""

    kind: str
    pattern: str
    cause: str
    do: str


WORDS = (
    # --- what nginx logs, with the answer that its client gets ---
    Words(
        "front-413",
        r"client intended to send too large body: \d+ bytes",
        "413 by nginx: the body is larger than client_max_body_size, which is 1m unless it is set",
        "set client_max_body_size to what the service takes, in the server's or location's block",
    ),
    Words(
        "front-504",
        r"upstream timed out \(110: Connection timed out\) while reading response header",
        "504 by nginx: the service had not begun to answer within proxy_read_timeout, 60s unless"
        " it is set",
        "see with diagnose-latency what is slow; let the service's own time-out be the shorter one,"
        " so that it says why",
    ),
    Words(
        "front-502-refused",
        r"connect\(\) failed \(111: Connection refused\) while connecting to upstream",
        "502 by nginx: nobody listens where proxy_pass leads",
        "is the service up, and on that address? see diagnose-startup",
    ),
    Words(
        "front-502-none",
        r"no live upstreams while connecting to upstream",
        "502 by nginx: each server of the upstream has failed max_fails times, and is left out for"
        " fail_timeout",
        "the lines before say how they failed; mend that",
    ),
    Words(
        "front-502-closed",
        r"upstream prematurely closed connection while reading response header",
        "502 by nginx: the service closed the connection in the place of an answer; a panic in a Go"
        " handler does that, a restart, or an idle connection at its end",
        "look for 'http: panic serving' in the service's log; keepalive_timeout of the upstream"
        " below the service's IdleTimeout",
    ),
    Words(
        "front-502-reset",
        r"recv\(\) failed \(104: Connection reset by peer\) while reading response header",
        "502 by nginx: the service, or what is between, broke the connection off",
        "did it end or crash? journalctl --unit; it also does so if it closes with a body unread",
    ),
    Words(
        "front-503-limit",
        r"limiting requests, excess: [\d.]+|limiting connections by zone",
        "503 by nginx: limit_req or limit_conn refused it; the service was not asked",
        "raise rate or burst if the service has room; limit_req_status 429 says it more honestly",
    ),
    Words(
        "front-500-cycle",
        r"rewrite or internal redirection cycle",
        "500 by nginx: its configuration leads back to itself (try_files, error_page, rewrite)",
        "nginx -T shows the whole of it; the last of try_files must be a code, such as =404",
    ),
    # --- what gRPC says ---
    Words(
        "grpc-invalid",
        r"code = InvalidArgument|grpc-status: 3\b",
        "INVALID_ARGUMENT, like 400: the request is wrong, and stays so",
        "read its message; compare with the model's metadata; do not send it again",
    ),
    Words(
        "grpc-deadline",
        r"code = DeadlineExceeded|grpc-status: 4\b",
        "DEADLINE_EXCEEDED, like 504: the time that the client gave was over",
        "see with diagnose-latency what is slow, or give more",
    ),
    Words(
        "grpc-not-found",
        r"code = NotFound|grpc-status: 5\b",
        "NOT_FOUND, like 404: there is no model of that name or version",
        "ask for the server's models; names have capitals",
    ),
    Words(
        "grpc-exhausted",
        r"code = ResourceExhausted|grpc-status: 8\b",
        "RESOURCE_EXHAUSTED, like 429 or 413: the queue is full, or the message is larger than may"
        " be received (4 MiB in Go, unless MaxRecvMsgSize is set)",
        "its message says which; come again later, or raise the limit on the side that has it",
    ),
    Words(
        "grpc-unimplemented",
        r"code = Unimplemented|grpc-status: 12\b",
        "UNIMPLEMENTED, like 405: there is no such service or method there",
        "compare package, service and method with the server's .proto; is the port another's?",
    ),
    Words(
        "grpc-unavailable",
        r"code = Unavailable|grpc-status: 14\b",
        "UNAVAILABLE, like 503: no connection, or a server that ends",
        "what stands behind 'desc =' is the cause; it may be sent again",
    ),
    # --- numbers: by who says them ---
    Words(
        "front-400-header",
        r"Request Header Or Cookie Too Large|Request-URI Too Large",
        "400 or 414 by nginx: a header, or all of them, are larger than"
        " large_client_header_buffers (4 of 8k)",
        "find the large cookie or token; raise it only if it has to be so large",
    ),
    Words(
        "408",
        r"HTTP/[\d.]+ 408\b|\" 408 ",
        "the client did not send its request in time",
        "its network is slow, or it stopped; client_body_timeout, ReadTimeout",
    ),
    Words(
        "499",
        r"\" 499 |\"code\":499\b",
        "499: the client left before the answer; nobody received this number",
        "the client's time-out is shorter than the answer takes: see diagnose-latency",
    ),
    Words(
        "service-413",
        r"the body is larger than \d+ bytes",
        "413 by the service: the body is larger than it takes (inferd: -max-body)",
        "send less at a time, as binary data; or raise the limit",
    ),
    Words(
        "service-405",
        r"HTTP/[\d.]+ 405\b",
        "405: the path is there, and not for that method",
        "infer is POST, metadata and health are GET; a redirect turns POST into GET",
    ),
    Words(
        "service-404",
        r"there is no such model|nothing is served at",
        "404 by the service: no such path, model or version",
        "GET /v2 and the model's name, letter by letter; a proxy may have cut or doubled the path",
    ),
    Words(
        "service-429",
        r"HTTP/[\d.]+ 429\b|the queue is full",
        "429: the queue is full, and it says so at once",
        "come again after Retry-After, with some chance in it; if it lasts, more room or instances",
    ),
    Words(
        "service-503",
        r"HTTP/[\d.]+ 503\b(?![\s\S]*nginx)",
        "503 by the service: it is not ready, or it ends",
        "wait for /v2/health/ready; a balancer should ask that, and not /live",
    ),
    Words(
        "service-504",
        r"HTTP/[\d.]+ 504\b(?![\s\S]*nginx)",
        "504 by the service: its time-out, or the one that the request carries, was over",
        "see with diagnose-latency what is slow; or give more (inferd: -timeout)",
    ),
    Words(
        "front-error",
        r"HTTP/[\d.]+ (?:502|503|504)\b[\s\S]*nginx",
        "nginx says it, about the service behind it or by its own limits",
        "its error.log has the reason in one line: give me that",
    ),
    # --- what Go's client, and curl, say ---
    Words(
        "certificate",
        r"x509: certificate signed by unknown authority|SSL certificate problem",
        "the client does not know who signed the server's certificate",
        "give it that CA (RootCAs, SSL_CERT_FILE, curl --cacert); do not turn the check off",
    ),
    Words(
        "plain",
        r"server gave HTTP response to HTTPS client|wrong version number",
        "https:// was asked of a port that speaks plain HTTP",
        "http://, or the port that has TLS",
    ),
    Words(
        "http2",
        # The last is Go's client where the server's first frame comes before its request.
        r"malformed HTTP response \"\\x00\\x00|Received HTTP/0\.9 when not allowed"
        r"|readLoopPeekFailLocked: %!w\(<nil>\)",
        "HTTP/1.1 was asked of a port that speaks something else: HTTP/2 without TLS, as gRPC does",
        "the port for REST, or a client for gRPC",
    ),
    Words(
        "full",
        r"dial tcp \S+: (?:i/o timeout|connect: connection timed out)|Connection timed out after",
        "no connection came about in time: a firewall drops it, or the service accepts none (its"
        " queue is full)",
        "ss --listening --tcp: Recv-Q at Send-Q is a service that does not accept; else the way",
    ),
    Words(
        "deadline",
        r"context deadline exceeded|Client\.Timeout exceeded|Operation timed out after",
        "the client's own time was over before the answer came; the server may still work on it",
        "see with diagnose-latency what is slow; give more, or ask for less; the server sees a 499",
    ),
    Words(
        "canceled",
        r"context canceled",
        "the client itself gave up: the context it was given has ended",
        "who ended it? most often the request further out, whose own client has left",
    ),
    Words(
        "refused",
        r"connect: connection refused|Failed to connect to \S+ port \d+",
        "nobody listens on that address and port",
        "ss --listening --tcp --numeric --processes; 127.0.0.1 is not 0.0.0.0; see"
        " diagnose-startup",
    ),
    Words(
        "name",
        r"no such host|Could not resolve host",
        "the name cannot be looked up",
        "getent hosts NAME; is the search domain, or the name server, another one here?",
    ),
    Words(
        "reset",
        r"connection reset by peer|Recv failure: Connection reset",
        "the other side broke the connection off: it crashed, was ended, or closed with bytes of"
        " the request unread",
        "its log and journalctl --dmesg; a server that refuses a large body early does so, too",
    ),
    Words(
        "pipe",
        r"write: broken pipe|EPIPE|Broken pipe",
        "it wrote to a connection that the other side had closed already",
        "at a server it is a client that left; at a client, a server that answered early: read the"
        " answer",
    ),
    Words(
        "short",
        r"unexpected EOF|transfer closed with \d+ bytes remaining",
        "the answer ended before it was whole",
        "did the server end, or run into WriteTimeout, or a proxy into its own? see both logs",
    ),
    Words(
        "eof",
        r"\bEOF\b|Empty reply from server|RemoteDisconnected",
        "the server closed the connection in the place of an answer: a panic in a handler, a"
        " restart, or an idle connection at its end",
        "look for 'http: panic serving' in its log; a client's IdleConnTimeout is to be below the"
        " server's IdleTimeout",
    ),
    # --- the numbers that many say ---
    Words(
        "service-400",
        r"HTTP/[\d.]+ 4(?:00|15|22)\b",
        "the request is wrong, and stays so: form, name, type or shape; FastAPI says 422 for it,"
        " and others 415 for a Content-Type",
        "the body of the answer says what; compare with GET /v2/models/NAME",
    ),
    Words(
        "service-500",
        r"HTTP/[\d.]+ 5\d\d\b",
        "the service, or what is before it, failed on a request that may be right",
        "its log has the same request id, or the same second",
    ),
)


def told(text: str) -> tuple[Words, str] | None:
    """The most telling words of a text, and the line that has them."""
    for words in WORDS:
        if found := re.search(words.pattern, text):
            begin = text.rfind("\n", 0, found.start()) + 1
            line = text[begin:].partition("\n")[0].strip()
            at = max(found.start() - begin - SHOWN // 2, 0)
            return words, line[at : at + SHOWN]
    return None


# --- asking ---


def answered(url: str, body: bytes, method: str, seconds: float) -> str:
    """What comes back, in the words that curl --include would have; or why nothing does."""
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise WrongError(f"'{url}' is no address: give one such as http://127.0.0.1:8080/v2")
    secure = address.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(address.hostname, address.port, timeout=seconds)
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    try:
        connection.request(method, target, body or None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        heads = "".join(f"{name}: {value}\n" for name, value in answer.getheaders())
        text = answer.read().decode(errors="replace")
        return f"HTTP/1.1 {answer.status} {answer.reason}\n{heads}\n{text}"
    except (OSError, http.client.HTTPException) as error:
        return "\n".join(as_others_say(error, address.hostname))
    finally:
        connection.close()


def as_others_say(error: Exception, host: str) -> Iterator[str]:
    """Python's words for it, and those that the other programs have."""
    yield f"{type(error).__name__}: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        yield "SSL certificate problem"
    elif isinstance(error, socket.gaierror):
        yield f"Could not resolve host: {host}"
    elif isinstance(error, TimeoutError):
        yield "Operation timed out after the time that was given"
    elif isinstance(error, http.client.IncompleteRead):
        yield "unexpected EOF"
    elif isinstance(error, ConnectionRefusedError):
        yield "connect: connection refused"
    elif isinstance(error, ConnectionResetError) and not isinstance(
        error, http.client.RemoteDisconnected
    ):
        yield "connection reset by peer"


def ask(options: argparse.Namespace) -> int:
    body = options.body.read_bytes() if options.body else b""
    method = options.method or ("POST" if body else "GET")
    began = time.monotonic()
    text = answered(options.url, body, method, options.seconds)
    if healthy(text):
        took = (time.monotonic() - began) * 1000
        print(f"FOUND  healthy: {text.splitlines()[0]}, after {took:.0f} ms\nDO     nothing")
        return expected(options, "healthy")
    kind = shown(text)
    if options.behind:
        path = urlsplit(options.url)
        behind = options.behind.rstrip("/") + path.path + (f"?{path.query}" if path.query else "")
        direct = answered(behind, body, method, options.seconds)
        if healthy(direct):
            print(f"WHO    the proxy: {behind} answers {direct.splitlines()[0]}")
        else:
            print("WHO    the service, too. It says:")
            shown(direct)
    return expected(options, kind)


def healthy(text: str) -> bool:
    return re.match(r"HTTP/\S+ [123]\d\d\b", text) is not None


def shown(text: str) -> str:
    """Print what a text means, and return its kind."""
    found = told(text)
    if found is None:
        raise WrongError(
            "no words that are known here; the log of the service and of its proxy may have more"
        )
    words, line = found
    print(f"SAYS   {line}\nFOUND  {words.cause}\nDO     {words.do}")
    return words.kind


def expected(options: argparse.Namespace, kind: str) -> int:
    if options.expect and kind != options.expect:
        raise WrongError(f"this should have been told as {options.expect}, not {kind}")
    return 0


def read(options: argparse.Namespace) -> int:
    text = (
        options.file.read_text(encoding="utf-8", errors="replace")
        if options.file
        else sys.stdin.read()
    )
    return expected(options, shown(text))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="errors.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    reading = commands.add_parser("told")
    reading.set_defaults(run=read)
    reading.add_argument("file", type=Path, nargs="?", help="nothing: what comes in")
    asking = commands.add_parser("ask")
    asking.set_defaults(run=ask)
    asking.add_argument("url")
    asking.add_argument("--body", type=Path, help="file with what is posted")
    asking.add_argument("--method", default="", help="POST with a body, else GET")
    asking.add_argument("--behind", default="", help="where the service itself is")
    asking.add_argument("--seconds", type=float, default=10, help="for so long it is waited")
    for command in (reading, asking):
        command.add_argument("--expect", default="", help="fail unless it is of this kind")
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (WrongError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
